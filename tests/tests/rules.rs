//! The rules that code and tests cite by their codes: each is defined, once, and most have a test.
//!
//! A code is a family and a number, such as SM-28, in comments and texts, or `sm_28_…` at the beginning of a test's name.
//! Of a range such as SM-62…65 every number counts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tests::repository::{documents, root, sources};

/// Each family of codes, and the document that defines it.
const FAMILIES: [(&str, &str); 20] = [
    ("ST", "proto/docs/streams.md"),
    ("SA", "proto/docs/authentication.md"),
    ("BI", "proto/docs/authentication.md"),
    ("FA", "proto/docs/authentication.md"),
    ("SM", "proto/docs/stream-management.md"),
    ("WS", "proto/docs/web.md"),
    ("BO", "proto/docs/web.md"),
    ("WD", "proto/docs/web.md"),
    ("RE", "proto/docs/registration.md"),
    ("IM", "proto/docs/im.md"),
    ("DI", "proto/docs/im.md"),
    ("PE", "proto/docs/nodes.md"),
    ("BM", "proto/docs/nodes.md"),
    ("VC", "proto/docs/nodes.md"),
    ("AD", "proto/docs/administration.md"),
    ("I", "cluster/docs/invariants.md"),
    ("M", "cluster/docs/members.md"),
    ("F", "cluster/docs/faults.md"),
    ("T", "node/docs/threats.md"),
    ("P", "README.md"),
];

/// What looks like a code, and belongs to others.
const FOREIGN: [&str; 11] = [
    "BSD", "BSL", "CVE", "CWE", "FNV", "ISO", "SHA", "SSH", "UTF", "UTS", "XEP",
];

/// Rules that no test cites. Who writes a test for one takes it off the list; a new rule comes with a test.
const UNTESTED: [&str; 33] = [
    "DI-5", "I-7", "IM-21", "IM-27", "IM-36", "IM-4", "IM-42", "IM-45", "IM-56", "IM-83", "IM-C",
    "P6", "SM-11", "SM-13", "SM-49", "ST-14", "ST-17", "ST-29", "ST-35", "ST-38", "ST-4", "ST-51",
    "ST-53", "ST-54", "ST-55", "ST-58", "ST-68", "ST-74", "T-11", "T-18", "T-50", "T-64", "T-76",
];

/// A family, and a number or the letter of a table.
type Code = (String, String);

fn shown((family, number): &Code) -> String {
    let hyphen = if family == "P" { "" } else { "-" };
    format!("{family}{hyphen}{number}")
}

/// Splits off the front as long as it is made of such characters.
fn take(text: &str, is_part: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !is_part(c)).unwrap_or(text.len()))
}

/// The code, or the range of codes, at the beginning of a text, and what follows it.
fn code_at(text: &str) -> Option<(Vec<Code>, &str)> {
    let (family, rest) = take(text, |c| c.is_ascii_uppercase());
    let (number, rest) = match rest.strip_prefix('-') {
        Some(rest) => {
            let (digits, behind) = take(rest, |c| c.is_ascii_digit());
            match digits {
                "" if family == "IM" => rest.split_at_checked(1)?,
                digits => (digits, behind),
            }
        }
        // A promise is called P1.
        None if family == "P" => take(rest, |c| c.is_ascii_digit()),
        None => return None,
    };
    let goes_on = rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-');
    let is_letter = number.starts_with(|c: char| c.is_ascii_uppercase());
    let is_number = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit());
    if goes_on || family.is_empty() || family.len() > 3 || !(is_letter || is_number) {
        return None;
    }
    let to = rest.strip_prefix('…');
    let to = to.or_else(|| {
        rest.strip_prefix(" to ")?
            .strip_prefix(family)?
            .strip_prefix('-')
    });
    let last = to
        .map(|to| take(to, |c| c.is_ascii_digit()).0)
        .and_then(|to| to.parse().ok());
    let codes = match (number.parse::<u32>(), last) {
        (Ok(first), Some(last)) => (first..=last).map(|number| number.to_string()).collect(),
        _ => vec![number.to_owned()],
    };
    Some((
        codes
            .into_iter()
            .map(|number| (family.to_owned(), number))
            .collect(),
        rest,
    ))
}

/// Every code in a text.
fn codes_in(text: &str) -> BTreeSet<Code> {
    let mut codes = BTreeSet::new();
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        let begins = !(before.is_ascii_alphanumeric() || "_-".contains(before));
        if begins && let Some((found, _)) = code_at(&text[at..]) {
            codes.extend(found);
        }
        before = c;
    }
    codes
}

/// The codes at the beginning of a test's name.
fn codes_of_name(mut name: &str) -> BTreeSet<Code> {
    let mut codes = BTreeSet::new();
    loop {
        name = name.strip_prefix("and_").unwrap_or(name);
        let (letters, rest) = take(name, |c| c.is_ascii_lowercase());
        let rest = match (letters, rest.strip_prefix('_')) {
            // A promise is called p1.
            ("p", None) => rest,
            (_, Some(rest)) if letters.len() <= 2 => rest,
            _ => return codes,
        };
        let Some((number, rest)) = rest.split_once('_') else {
            return codes;
        };
        let is_number = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit());
        let is_table = letters == "im" && number.len() == 1;
        if !(is_number || is_table) {
            return codes;
        }
        codes.insert((letters.to_uppercase(), number.to_uppercase()));
        name = rest;
    }
}

/// The names of the functions in a source.
fn names_in(text: &str) -> impl Iterator<Item = &str> {
    let behind = text.split("fn ").skip(1);
    behind.map(|rest| take(rest, |c| c.is_ascii_alphanumeric() || c == '_').0)
}

fn cited_in(text: &str) -> BTreeSet<Code> {
    let mut codes = codes_in(text);
    codes.extend(names_in(text).flat_map(codes_of_name));
    codes
}

/// What of a source is a test.
fn tests_of<'a>(path: &Path, text: &'a str) -> &'a str {
    let path = path.strip_prefix(root()).unwrap_or(path);
    let is_test = |part: &std::ffi::OsStr| {
        ["tests", "tests.rs", "simulation"]
            .iter()
            .any(|name| part == *name)
    };
    match text.find("mod tests {") {
        _ if path.iter().any(is_test) => text,
        Some(at) => &text[at..],
        None => "",
    }
}

/// The code that a line defines: `- **SM-28** …`, and for the promises `1. **P1, …`.
fn defined_by(line: &str) -> Option<Code> {
    let (mark, rest) = line.split_once("**")?;
    let (codes, rest) = code_at(rest)?;
    let defines = match mark {
        "- " => rest.starts_with("** "),
        _ => rest.starts_with(", ") && mark.ends_with(". "),
    };
    codes.into_iter().next().filter(|_| defines)
}

/// What each document defines, with the line.
fn definitions() -> Vec<(Code, String, String)> {
    let mut found = Vec::new();
    for (path, text) in documents() {
        let path = path
            .strip_prefix(root())
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        for line in text.lines() {
            let code = defined_by(line);
            found.extend(code.map(|code| (code, path.clone(), line.to_owned())));
        }
    }
    assert!(found.len() > 250, "the rules are elsewhere: {found:#?}");
    found
}

/// Every source but this one, which speaks of codes.
fn citing() -> Vec<(std::path::PathBuf, String)> {
    let mut sources = sources();
    sources.retain(|(path, _)| !path.ends_with("tests/tests/rules.rs"));
    sources
}

#[test]
fn every_code_that_is_cited_is_defined_once_in_the_document_of_its_family() {
    let mut places: BTreeMap<Code, Vec<String>> = BTreeMap::new();
    for (code, path, _) in definitions() {
        places.entry(code).or_default().push(path);
    }
    let mut wrong = Vec::new();
    for (code, places) in &places {
        let home = FAMILIES.iter().find(|(family, _)| *family == code.0);
        if home.is_none_or(|(_, home)| *places != [*home]) {
            wrong.push(format!("{} is defined in {places:?}", shown(code)));
        }
    }
    for (path, text) in citing().into_iter().chain(documents()) {
        for code in cited_in(&text) {
            if !places.contains_key(&code) && !FOREIGN.contains(&&*code.0) {
                wrong.push(format!(
                    "{} is cited in {path:?} and defined nowhere",
                    shown(&code)
                ));
            }
        }
    }
    assert_eq!(wrong, [""; 0], "{wrong:#?}");
}

#[test]
fn every_rule_names_its_source() {
    let rules = definitions().into_iter().filter(|(code, ..)| code.0 != "P");
    let without: Vec<_> = rules
        .filter(|(_, _, line)| !(line.ends_with(')') && line.contains(". (")))
        .map(|(code, ..)| shown(&code))
        .collect();
    assert_eq!(without, [""; 0]);
}

#[test]
fn every_rule_has_a_test_but_for_those_that_are_listed() {
    let sources = citing();
    let tests = sources.iter().map(|(path, text)| tests_of(path, text));
    let tested: BTreeSet<Code> = tests.flat_map(cited_in).collect();
    let rules = definitions().into_iter().map(|(code, ..)| code);
    let untested: BTreeSet<String> = rules
        .filter(|code| !tested.contains(code))
        .map(|code| shown(&code))
        .collect();
    println!("no test cites {untested:?}");
    let listed: BTreeSet<String> = UNTESTED.iter().map(ToString::to_string).collect();
    let new: Vec<_> = untested.difference(&listed).collect();
    assert!(new.is_empty(), "no test cites {new:?}");
    let done: Vec<_> = listed.difference(&untested).collect();
    assert!(
        done.is_empty(),
        "take off the list, tests cite them: {done:?}"
    );
}

#[test]
fn codes_are_found_however_they_are_written() {
    let shown = |codes: BTreeSet<Code>| codes.iter().map(shown).collect::<Vec<_>>().join(" ");
    for (text, expect) in [
        ("as above (SM-28, ST-1).", "SM-28 ST-1"),
        ("SM-62…65", "SM-62 SM-63 SM-64 SM-65"),
        ("IM-39 to IM-41", "IM-39 IM-40 IM-41"),
        ("the table IM-B; IM-Bx", "IM-B"),
        (
            "P1 and (P3), UTF-8, X-SM-1, SM-, 1SM-2, SM-2a, T-1-2",
            "P1 P3 UTF-8",
        ),
    ] {
        assert_eq!(shown(codes_in(text)), expect, "{text}");
    }
    for (name, expect) in [
        ("sm_28_a_count", "SM-28"),
        ("im_28_and_im_31_who", "IM-28 IM-31"),
        ("p2_kill", "P2"),
        ("im_d_a_stranger", "IM-D"),
        ("a_2_what", "A-2"),
        ("is_a_4_wide", ""),
        ("xep_0030_disco", ""),
    ] {
        assert_eq!(shown(codes_of_name(name)), expect, "{name}");
    }
}
