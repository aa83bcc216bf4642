//! The rows T-1 to T-8 as tables. Every input is also read byte by byte and cut everywhere.

use super::*;
use crate::fuzzing::tokens;
use crate::limit::Limits;
use crate::ns;

const HEADER: &str =
    "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>";

/// Reads a stream at once and in pieces of every small size; all must agree.
#[track_caller]
fn read(input: &[u8], limits: Limits) -> (Vec<Token>, Option<ReadError>) {
    let whole = tokens(input, input.len(), limits);
    let most = if input.len() > 4096 { 1 } else { 9 };
    for size in 1..=most {
        assert!(tokens(input, size, limits) == whole, "in pieces of {size}");
    }
    whole
}

/// What ends a stream that has this behind its header.
#[track_caller]
fn fault(content: &str) -> Option<ReadError> {
    let input = format!("{HEADER}{content}");
    read(input.as_bytes(), Limits::after_auth()).1
}

#[track_caller]
fn all_fail(contents: &[&str], expect: ReadError) {
    for content in contents {
        assert_eq!(fault(content), Some(expect), "{content}");
        // Cut anywhere it may be refused early, but never becomes a stanza.
        for cut in (0..content.len()).filter(|cut| content.is_char_boundary(*cut)) {
            let error = fault(&content[..cut]);
            assert!(
                error.is_none() || error == Some(expect),
                "{content} cut at {cut}"
            );
        }
    }
}

/// The first element behind the header.
#[track_caller]
fn first(content: &str) -> Element {
    let input = format!("{HEADER}{content}");
    let (tokens, error) = read(input.as_bytes(), Limits::after_auth());
    assert_eq!(error, None, "{content}");
    match tokens.into_iter().nth(1) {
        Some(Token::Element(element)) => element,
        other => panic!("{content}: {other:?}"),
    }
}

#[test]
fn t_1_comments_instructions_dtd_and_entities_are_forbidden() {
    all_fail(
        &[
            "<!-- c -->",
            "<m><!-- c --></m>",
            "<!DOCTYPE a [<!ENTITY b 'c'>]>",
            "<?php ?>",
            "<m><?xml-stylesheet ?></m>",
            "<?XML version='1.0'?>",
            "<m>&foo;</m>",
            "<m a='&foo;'/>",
        ],
        ReadError::RestrictedXml,
    );
    let bomb = b"<?xml version='1.0'?><!DOCTYPE";
    let expect = Some(ReadError::RestrictedXml);
    assert_eq!(read(bomb, Limits::before_auth()).1, expect);
}

#[test]
fn t_1_a_forbidden_construct_is_refused_at_its_first_byte() {
    for start in ["<!-", "<!D", "<?p", "<m>text<!-"] {
        assert_eq!(fault(start), Some(ReadError::RestrictedXml), "{start}");
    }
}

#[test]
fn t_2_tags_that_a_lenient_reader_lets_pass_are_refused() {
    all_fail(
        &[
            "<p:m/>",
            "<m p:a=''/>",
            "<m xmlns:p=''/>",
            "<a:b:c/>",
            "<m a:b:c=''/>",
            "<1m/>",
            "< m/>",
            "<m\u{D7}/>",
            "<m -a=''/>",
            "<m<n/>",
            "<m a='<'/>",
            "<m a=''b=''/>",
            "<m a='' a=''/>",
            "<m xmlns:a='u' xmlns:b='u' a:x='' b:x=''/>",
            "<m xmlns='a' xmlns='b'/>",
            "<m a/>",
            "<m a=b/>",
            "<m a='1' / >",
            "<m/ >",
            "<m></n>",
            "<m></ m>",
            "<m></m a=''>",
            "<m></m/>",
            "<m></>",
            "<>",
            "<m 'a'='b'/>",
            "<m xmlns:xml='u'/>",
            "<m xmlns:xmlns='u'/>",
            "<m xmlns:p='http://www.w3.org/XML/1998/namespace'/>",
            "<m xmlns='http://www.w3.org/2000/xmlns/'/>",
            "<xmlns:m/>",
            "</m>",
            "<![CDAT[",
        ],
        ReadError::NotWellFormed,
    );
}

#[test]
fn t_2_characters_and_references_that_xml_forbids_are_refused() {
    all_fail(
        &[
            "<m>]]></m>",
            "<m>\0</m>",
            "<m>\u{1}</m>",
            "<m a='\u{1F}'/>",
            "<m \u{8}/>",
            "<m>\u{FFFE}</m>",
            "<m a='\u{FFFF}'/>",
            "<m><![CDATA[\u{FFFE}]]></m>",
            "<m>&#0;</m>",
            "<m>&#xFFFE;</m>",
            "<m>&#xD800;</m>",
            "<m>&#x110000;</m>",
            "<m>&#;</m>",
            "<m>&#x;</m>",
            "<m>&#+65;</m>",
            "<m>&#a;</m>",
            "<m>&</m>",
            "<m>&amp</m>",
            "<m>&;</m>",
            "<m a='&#1;'/>",
        ],
        ReadError::NotWellFormed,
    );
}

#[test]
fn t_2_text_between_first_level_elements_is_bad_format() {
    for text in ["x", "<m/>x", "&lt;", "\u{FEFF}", "<![CDATA[x]]>"] {
        assert_eq!(fault(text), Some(ReadError::BadFormat), "{text}");
    }
}

#[test]
fn t_2_nothing_stands_outside_of_the_root() {
    for outside in [
        format!("x{HEADER}"),
        format!("\u{FEFF}{HEADER}"),
        format!("<![CDATA[]]>{HEADER}"),
        format!("</a>{HEADER}"),
        format!("{HEADER}</stream:stream>x"),
        format!("{HEADER}</stream:stream>{HEADER}"),
        format!("{HEADER}</stream>"),
    ] {
        let (_, error) = read(outside.as_bytes(), Limits::after_auth());
        assert_eq!(error, Some(ReadError::NotWellFormed), "{outside}");
    }
}

#[test]
fn st_1_a_stream_is_a_header_elements_and_an_end() {
    let input = format!("<?xml version='1.0'?>{HEADER}<m/> <n></n ></stream:stream >\n");
    let (tokens, error) = read(input.as_bytes(), Limits::after_auth());
    assert_eq!(error, None);
    let header = Element::new("stream", ns::STREAM);
    let element = |name| Token::Element(Element::new(name, ns::CLIENT));
    let expect = [
        Token::Open(header),
        element("m"),
        element("n"),
        Token::Close,
    ];
    assert_eq!(tokens, expect);
}

#[test]
fn st_85_one_declaration_of_utf_8_may_stand_at_the_very_start() {
    let check = |start: &str| read(format!("{start}{HEADER}").as_bytes(), Limits::after_auth()).1;
    for good in [
        "<?xml version='1.0'?>",
        "<?xml version=\"1.0\" encoding='utf-8' standalone='no' ?>\n",
        "<?xml\tversion = '1.0' encoding='UTF-8'?>",
        "\n ",
    ] {
        assert_eq!(check(good), None, "{good}");
    }
    for bad in [
        " <?xml version='1.0'?>",
        "<?xml version='1.0'?><?xml version='1.0'?>",
        "<?xml ?>",
        "<?xml version='1.1'?>",
        "<?xml version='1.0'encoding='utf-8'?>",
        "<?xml encoding='utf-8' version='1.0'?>",
        "<?xml version='1.0' standalone='maybe'?>",
        "<?xml version='1.0' a='b'?>",
    ] {
        assert_eq!(check(bad), Some(ReadError::NotWellFormed), "{bad}");
    }
    let latin = "<?xml version='1.0' encoding='ISO-8859-1'?>";
    assert_eq!(check(latin), Some(ReadError::UnsupportedEncoding));
    let second = fault("<?xml version='1.0'?>");
    assert_eq!(second, Some(ReadError::NotWellFormed));
}

#[test]
fn st_11_a_reset_forgets_the_old_stream_and_keeps_the_bytes_behind_it() {
    let mut reader = Reader::new(Limits::after_auth());
    let old = HEADER.replace("jabber:client", "urn:old");
    reader.feed(format!("{old}<m/><?xml version='1.0'?><a>").as_bytes());
    assert!(matches!(reader.next(), Ok(Some(Token::Open(_)))));
    assert_eq!(reader.content_ns(), "urn:old");
    assert!(matches!(reader.next(), Ok(Some(Token::Element(_)))));
    reader.reset();
    assert!(reader.has_rest());
    let header = Token::Open(Element::new("a", ""));
    assert_eq!(reader.next(), Ok(Some(header)));
    reader.feed(b"<stream:m/>");
    assert_eq!(reader.next(), Err(ReadError::NotWellFormed));
    assert_eq!(reader.next(), Err(ReadError::NotWellFormed));
}

#[test]
fn t_19_bytes_behind_an_element_can_be_taken() {
    let mut reader = Reader::new(Limits::before_auth());
    reader.feed(format!("{HEADER}<starttls/><inject").as_bytes());
    assert!(matches!(reader.next(), Ok(Some(Token::Open(_)))));
    assert!(matches!(reader.next(), Ok(Some(Token::Element(_)))));
    assert_eq!(reader.take_rest(), b"<inject");
    assert!(!reader.has_rest());
}

#[test]
fn st_21_white_space_is_a_sign_of_life() {
    let mut reader = Reader::new(Limits::after_auth());
    reader.feed(format!("{HEADER} ").as_bytes());
    assert!(matches!(reader.next(), Ok(Some(Token::Open(_)))));
    assert_eq!(reader.next(), Ok(Some(Token::Whitespace)));
    assert_eq!(reader.next(), Ok(None));
}

#[test]
fn t_3_text_and_values_mean_what_xml_says() {
    let m =
        first("<m a='1\r\n2\t&#10;&quot;'>a\r\nb\rc&#13;&lt;&#x41;<![CDATA[<&]]]]>\u{FEFF}</m>");
    assert_eq!(m.attr("a"), Some("1 2 \n\""));
    assert_eq!(m.text(), "a\nb\nc\r<A<&]]\u{FEFF}");
    assert_eq!(
        Element::parse_in(ns::CLIENT, m.to_xml(ns::CLIENT)),
        Ok(vec![m])
    );
}

#[test]
fn t_4_names_are_resolved_and_prefixes_decide_nothing() {
    let m = first("<p:m xmlns:p='jabber:client' p:a='1' a='2' xml:lang='en'><n xmlns=''/></p:m>");
    assert!(m.is("m", ns::CLIENT));
    assert_eq!(
        (m.attr("a"), m.attr_ns("a", ns::CLIENT)),
        (Some("2"), Some("1"))
    );
    assert_eq!(m.attr_ns("lang", ns::XML), Some("en"));
    assert!(m.child("n", "").is_some());
    // A declaration ends with its element.
    all_fail(&["<p:m xmlns:p='u'/><p:m/>"], ReadError::NotWellFormed);
}

#[test]
fn t_5_broken_utf_8_is_refused_wherever_it_is_cut() {
    let bad: [&[u8]; 5] = [
        b"\xC0\xAF",
        b"\xED\xA0\x80",
        b"\xF5\x80\x80\x80",
        b"\xC3",
        b"\x80",
    ];
    for bytes in bad {
        for (before, after) in [
            ("<m>", "</m>"),
            ("<m a='", "'/>"),
            ("<m><![CDATA[", "]]></m>"),
        ] {
            let input = [
                HEADER.as_bytes(),
                before.as_bytes(),
                bytes,
                after.as_bytes(),
            ]
            .concat();
            let (_, error) = read(&input, Limits::after_auth());
            assert_eq!(error, Some(ReadError::NotWellFormed), "{bytes:?}");
        }
    }
    assert_eq!(first("<m>é€😀</m>").text(), "é€😀");
}

#[test]
fn t_6_an_element_may_have_as_many_bytes_as_the_limit_and_no_more() {
    let limits = Limits::after_auth().with_stanza_bytes(40);
    let shapes: [(&str, &str); 3] = [
        ("<m a='", "'/>"),
        ("<m>", "</m>"),
        ("<m><![CDATA[", "]]></m>"),
    ];
    for (before, after) in shapes {
        for (length, expect) in [
            (39, None),
            (40, None),
            (41, Some(ReadError::TooBig(Measured::Stanza))),
        ] {
            let fill = "x".repeat(length - before.len() - after.len());
            let input = format!("{HEADER}{before}{fill}{after} <n/>");
            assert_eq!(
                read(input.as_bytes(), limits).1,
                expect,
                "{before} {length}"
            );
        }
        let unclosed = format!("{HEADER}{before}{}", "x".repeat(40));
        let expect = Some(ReadError::TooBig(Measured::Stanza));
        assert_eq!(read(unclosed.as_bytes(), limits).1, expect);
    }
}

#[test]
fn t_6_the_header_has_a_limit_of_its_own() {
    let header = |length: usize| format!("<a b='{}'>", "x".repeat(length - 8));
    let limit = Limits::before_auth().header_bytes;
    for (input, fits) in [
        (header(limit), true),
        (header(limit + 1), false),
        (format!(" {}", header(limit)), false),
        (" ".repeat(limit), false),
    ] {
        let (_, error) = read(input.as_bytes(), Limits::before_auth());
        let expect = (!fits).then_some(ReadError::TooBig(Measured::Header));
        assert_eq!(error, expect, "{}", input.len());
    }
}

#[test]
fn t_7_every_dimension_of_a_shape_is_limited() {
    let many =
        |count: usize, part: &dyn Fn(usize) -> String| -> String { (0..count).map(part).collect() };
    let attributes = |n| format!("<m{}/>", many(n, &|i| format!(" a{i}=''")));
    let declarations = |n| format!("<m{}/>", many(n, &|i| format!(" xmlns:a{i}='u'")));
    let nested = |n| "<m>".repeat(n) + &"</m>".repeat(n);
    let siblings = |n: usize| format!("<m>{}</m>", "<n/>".repeat(n - 1));
    let name = |n| format!("<{}/>", "m".repeat(n));
    let attribute_name = |n| format!("<m {}=''/>", "a".repeat(n));
    // The header declares two; each level here declares fourteen.
    let level = format!("<m{}>", many(14, &|i| format!(" xmlns:a{i}='u'")));
    let in_scope = |n: usize| {
        let inner = format!(
            "<m{}/>",
            many(n - 2 - 8 * 14, &|i| format!(" xmlns:b{i}='u'"))
        );
        level.repeat(8) + &inner + &"</m>".repeat(8)
    };
    let limits = Limits::after_auth();
    let check = |make: &dyn Fn(usize) -> String, limit: usize, shape: Shape| {
        assert_eq!(fault(&make(limit)), None, "{shape:?}");
        let expect = Some(ReadError::PolicyViolation(shape));
        assert_eq!(fault(&make(limit + 1)), expect, "{shape:?}");
    };
    check(&attributes, limits.attributes, Shape::Attributes);
    check(&declarations, limits.declarations, Shape::Declarations);
    check(&in_scope, limits.declarations_in_scope, Shape::Declarations);
    check(&nested, limits.depth, Shape::Depth);
    check(&siblings, limits.elements, Shape::Elements);
    check(&name, limits.name_bytes, Shape::Name);
    check(&attribute_name, limits.name_bytes, Shape::Name);
}

#[test]
fn t_9_a_long_namespace_cannot_be_spelled_out_without_end() {
    let uri = "u".repeat(2000);
    let content = format!("<m xmlns:p='{uri}'>{}</m>", "<p:n/>".repeat(200));
    let expect = Some(ReadError::TooBig(Measured::Stanza));
    assert_eq!(fault(&content), expect);
    let attributes = format!("<m xmlns:p='{uri}'>{}</m>", "<n p:a=''/>".repeat(200));
    assert_eq!(fault(&attributes), expect);
}

#[test]
fn t_8_work_grows_with_the_bytes_and_not_with_their_square() {
    // Quadratic work on this would take minutes, byte by byte in particular.
    let limits = Limits::after_auth();
    let fill = limits.stanza_bytes - 64;
    let shapes = [
        format!("<m>{}</m>", "x".repeat(fill)),
        format!("<m a='{}'/>", "x".repeat(fill)),
        format!("<m><![CDATA[{}]]></m>", "]]".repeat(fill / 2)),
        format!("<m>{}</m>", "&amp;".repeat(fill / 5)),
        format!("<m>{}</m>", "x<n/>".repeat(4000)),
        format!("<m>{}</m>", "\r".repeat(fill)),
        format!("<m {}/>", " ".repeat(fill)),
    ];
    for shape in shapes {
        let element = first(&shape);
        assert!(element.to_xml("").len() >= 4);
    }
}
