//! The rules of the house that no other tool checks: sizes, names, module docs, and which way
//! dependencies point.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use tests::repository::{documents, root, sources};

/// Lines of a source file, tests included: what is longer holds more than one subject.
const LIMIT: usize = 500;
/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 8] = [
    "common", "helper", "helpers", "manager", "misc", "util", "utils", "stuff",
];
/// What would make bytes depend on the world: sockets, clocks, chance.
const WORLDLY: [&str; 8] = [
    "actix",
    "actix-rt",
    "rand",
    "socket2",
    "sqlx",
    "tokio",
    "tokio-rustls",
    "tracing",
];

#[track_caller]
fn check_all(rule: &str, keeps: impl Fn(&Path, &str) -> bool) {
    let offenders: Vec<_> = sources()
        .into_iter()
        .filter(|(path, text)| !keeps(path, text))
        .collect();
    let offenders: Vec<_> = offenders
        .iter()
        .map(|(path, text)| (path, text.lines().count()))
        .collect();
    assert!(offenders.is_empty(), "{rule}: {offenders:#?}");
}

#[test]
fn a_file_has_one_subject() {
    check_all("too long", |_, text| text.lines().count() <= LIMIT);
}

#[test]
fn a_file_says_what_it_is() {
    check_all("no module documentation", |_, text| text.starts_with("//!"));
}

#[test]
fn a_file_is_named_after_what_it_is() {
    check_all("the name says nothing", |path, _| {
        let name = path
            .file_stem()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        !EMPTY_NAMES.contains(&name)
    });
}

/// The dependencies of a crate, those for tests left out.
fn dependencies(part: &str) -> Vec<String> {
    let manifest = fs::read_to_string(root().join(part).join("Cargo.toml")).unwrap();
    let table = manifest
        .split("[dependencies]")
        .nth(1)
        .and_then(|rest| rest.split("\n[").next());
    let names = table
        .unwrap()
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next());
    names
        .map(str::to_owned)
        .filter(|name| !name.is_empty())
        .collect()
}

#[track_caller]
fn check_independent(part: &str, of: &[&str]) {
    let dependencies = dependencies(part);
    assert!(!dependencies.is_empty());
    let wrong: Vec<_> = dependencies
        .iter()
        .filter(|name| of.contains(&name.as_str()))
        .collect();
    assert!(wrong.is_empty(), "{part} depends on {wrong:?}");
}

#[test]
fn dependencies_point_one_way() {
    check_independent("proto", &["cluster", "node", "tests"]);
    check_independent("proto", &WORLDLY);
    check_independent("cluster", &["node", "tests", "actix", "sqlx"]);
    check_independent("node", &["tests"]);
}

/// What decides what becomes of sessions may know ids, formats and which shard has what, and nothing that could make
/// two replicas differ. Its simulation is a test that drives the edge as well.
#[test]
fn the_session_core_knows_only_what_it_is_made_of() {
    let allowed = ["codec", "format", "id", "session", "shard::map"];
    let core = root().join("cluster/src/session");
    let inside = sources()
        .into_iter()
        .filter(|(path, _)| path.starts_with(&core))
        .filter(|(path, _)| !path.starts_with(core.join("simulation")));
    let mut wrong = Vec::new();
    for (path, text) in inside {
        let code = text.lines().map(str::trim_start);
        let code = code.filter(|line| !line.starts_with("//"));
        let paths = code.flat_map(|line| line.split("crate::").skip(1));
        let known =
            |rest: &&str| rest.starts_with('$') || allowed.iter().any(|a| rest.starts_with(a));
        wrong.extend(
            paths
                .filter(|rest| !known(rest))
                .map(|rest| (path.clone(), rest.to_owned())),
        );
    }
    assert!(wrong.is_empty(), "the session core reaches out: {wrong:#?}");
}

#[test]
fn what_is_shipped_holds_nothing_that_only_debuggers_read() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let profile = manifest.split("[profile.release]\n").nth(1);
    let first = profile.and_then(|rest| rest.lines().next());
    assert_eq!(first, Some("strip = \"debuginfo\""));
}

/// What looks like a path from the root: it begins with one of the top directories.
fn paths_in(text: &str) -> impl Iterator<Item = PathBuf> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let words = text.split(move |c| !is_part(c));
    let words = words.map(|word| word.trim_end_matches(['.', '-']));
    let paths = words.filter(|word| {
        let top = ["proto/", "cluster/", "node/", "tests/", "k8s/", ".github/"];
        top.iter().any(|top| word.starts_with(top))
    });
    paths.map(|path| root().join(path))
}

/// What a document links to, beside it.
fn links_in(document: &Path, text: &str) -> impl Iterator<Item = PathBuf> {
    let beside = document.parent().unwrap();
    let links = text.split("](").skip(1).filter_map(|rest| {
        let link = rest.split(')').next()?;
        (!link.contains(':') && !link.starts_with('#')).then_some(link)
    });
    links.map(|link| beside.join(link.split('#').next().unwrap_or(link)))
}

#[test]
fn every_file_that_a_document_names_is_there() {
    for (document, text) in documents() {
        let named: Vec<PathBuf> = paths_in(&text).chain(links_in(&document, &text)).collect();
        if document.ends_with("cluster/docs/architecture.md") {
            assert!(named.len() > 80, "the drawings are elsewhere: {named:#?}");
        }
        let missing: Vec<&PathBuf> = named.iter().filter(|path| !path.exists()).collect();
        assert!(missing.is_empty(), "{document:?} names {missing:#?}");
    }
}

#[test]
fn every_test_that_a_document_names_is_there() {
    let table = fs::read_to_string(root().join("node/docs/stream-management.md")).unwrap();
    let sources = sources();
    let is_there = |name: &str| {
        let (file, test) = name.rsplit_once("::").unwrap_or(("", name));
        let test = format!("fn {test}(");
        let mut named = sources
            .iter()
            .filter(|(path, _)| path.to_string_lossy().contains(file));
        named.any(|(_, text)| text.contains(&test))
    };
    let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1);
    let named = rows.flat_map(|row| {
        let tests = row.trim_end_matches(" |").rsplit(" | ").next();
        tests
            .into_iter()
            .flat_map(|tests| tests.split('`').skip(1).step_by(2))
    });
    let named: Vec<&str> = named.collect();
    assert!(named.len() > 20, "{named:?}");
    let missing: Vec<&str> = named.into_iter().filter(|name| !is_there(name)).collect();
    assert_eq!(missing, [""; 0]);
}
