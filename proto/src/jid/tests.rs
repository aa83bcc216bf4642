//! The table ST-T11 and what equality means.

use super::*;

#[track_caller]
fn check(text: &str, expect: Result<(Option<&str>, &str, Option<&str>), JidError>) {
    let jid = Jid::new(text);
    let parts = jid
        .as_ref()
        .map(|jid| (jid.local(), jid.domain(), jid.resource()));
    assert_eq!(parts.map_err(|e| *e), expect, "{text:?}");
    if let Ok(jid) = &jid {
        assert_eq!(Jid::new(jid.as_str()).as_ref(), Ok(jid), "idempotence");
    }
}

#[test]
fn st_92_the_first_slash_ends_the_bare_address() {
    check("a@b/c@d/e", Ok((Some("a"), "b", Some("c@d/e"))));
    check("b/c@d", Ok((None, "b", Some("c@d"))));
    check("a@b@c", Err(JidError::Domain));
    check("a@b", Ok((Some("a"), "b", None)));
}

#[test]
fn st_92_fullwidth_separators_separate_nothing() {
    check("a＠b", Err(JidError::Domain));
    check("x＠y@b", Err(JidError::Local));
    check("x／y@b", Err(JidError::Local));
    check("a@b/x／y", Ok((Some("a"), "b", Some("x／y"))));
}

#[test]
fn st_93_parts_are_neither_empty_nor_too_long() {
    for bad in ["", "@b", "a@", "a@b/", "/r", "a@/r", "."] {
        check(bad, Err(JidError::Empty));
    }
    let long = "a".repeat(1023);
    check(
        &format!("{long}@b/{long}"),
        Ok((Some(&long), "b", Some(&long))),
    );
    check(&format!("{long}a@b"), Err(JidError::TooLong));
    check(&format!("a@b/{long}a"), Err(JidError::TooLong));
    check(&format!("{long}a"), Err(JidError::TooLong));
}

#[test]
fn st_94_domains_are_names_or_address_literals() {
    check("EXAMPLE.org.", Ok((None, "example.org", None)));
    check("127.0.0.1", Ok((None, "127.0.0.1", None)));
    check("[::1]", Ok((None, "[::1]", None)));
    check("[0:0::0:1]", Ok((None, "[::1]", None)));
    check("xn--bcher-kva.example", Ok((None, "bücher.example", None)));
    check("BÜCHER.example", Ok((None, "bücher.example", None)));
    check("my_host.example", Ok((None, "my_host.example", None)));
    check("b。c", Ok((None, "b.c", None)));
    let label = "a".repeat(63);
    check(&label, Ok((None, &label, None)));
    for bad in [
        "b..c",
        "-b",
        "b-",
        "[::1",
        "[b]",
        "[fe80::1%1]",
        "b c",
        "b<c",
        "♥.b",
        "xn--a",
        "b:1",
    ] {
        check(bad, Err(JidError::Domain));
    }
    check(&"a".repeat(64), Err(JidError::Domain));
    check("b..", Err(JidError::Domain));
}

#[test]
fn st_95_localparts_are_mapped_and_exclude_separators() {
    check("JULIET@b", Ok((Some("juliet"), "b", None)));
    check("Σ@b", Ok((Some("σ"), "b", None)));
    check("ＡＢ@b", Ok((Some("ab"), "b", None)));
    check("fußball@b", Ok((Some("fußball"), "b", None)));
    check(r"a\20b@b", Ok((Some(r"a\20b"), "b", None)));
    for bad in [
        "a b@b", "a\"@b", "a&@b", "a'@b", "a:@b", "a<@b", "a>@b", "♚@b", "a\0@b",
    ] {
        check(bad, Err(JidError::Local));
    }
}

#[test]
fn st_96_resources_keep_case_and_inner_spaces() {
    check("b/Foo Bar ♥", Ok((None, "b", Some("Foo Bar ♥"))));
    check("b/a\u{A0}b", Ok((None, "b", Some("a b"))));
    check("b/e\u{301}", Ok((None, "b", Some("é"))));
    for bad in ["b/a\0", "b/\n", "b/\u{7F}"] {
        check(bad, Err(JidError::Resource));
    }
}

#[test]
fn st_98_equality_and_order_are_those_of_the_text() {
    let a = Jid::new("A@B/c").unwrap();
    assert_eq!(a, Jid::new("a@b/c").unwrap());
    assert!(a > Jid::from(a.bare()));
    assert_eq!(a.bare().with_resource("c"), Ok(a.clone()));
    assert!(a.belongs_to(&a.bare()));
    let map = std::collections::BTreeMap::from([(a, 1)]);
    assert_eq!(map.get("a@b/c"), Some(&1));
}

#[test]
fn st_93_a_bare_address_refuses_a_resource() {
    assert_eq!(BareJid::new("a@b/c"), Err(JidError::NotBare));
    assert_eq!(BareJid::new("a@b").map(|j| j.to_string()), Ok("a@b".into()));
}

#[test]
fn st_42_passwords_keep_all_but_unusual_spaces() {
    assert_eq!(prepare_password("a\u{A0}B"), Ok("a B".into()));
    assert_eq!(prepare_password(""), Err(JidError::Password));
    assert_eq!(prepare_password("a\0b"), Err(JidError::Password));
}

#[test]
fn im_68_an_address_is_included_in_its_bare_address_and_its_domain_and_in_nothing_else() {
    for (text, wider) in [
        ("a@b.c/d", &["a@b.c/d", "a@b.c", "b.c"][..]),
        ("a@b.c", &["a@b.c", "b.c"]),
        ("b.c/d", &["b.c/d", "b.c"]),
        ("b.c", &["b.c"]),
    ] {
        let jid = Jid::new(text).expect("valid");
        assert!(jid.and_wider().eq(wider.iter().copied()), "{text}");
    }
}
