//! Which files may know each other: none in a circle, neither in the protocol, nor in the core of the sessions, nor
//! around the node's door. There `router` resolves, `services` serve, and both know only the door between them, `hooks`.
//!
//! The graph is drawn from the text: an arrow for each path of a file that leads into another one. Tests and the files
//! that serve them are left out. Methods that files give to a type of another one are not seen.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Folders of a crate in which no files know each other in a circle.
struct Folders {
    source: &'static str,
    /// All of the crate's files if there are none.
    folders: &'static [&'static str],
    /// So many files there are at least: with fewer, the sources are elsewhere.
    files: usize,
}

/// The wire.
const PROTO: Folders = Folders {
    source: "../proto/src",
    folders: &[],
    files: 50,
};

/// The core of the sessions.
const SESSION: Folders = Folders {
    source: "../cluster/src",
    folders: &["session"],
    files: 50,
};

/// Both sides of the door of the node, and the door.
const NODE: Folders = Folders {
    source: "../node/src",
    folders: &["router", "hooks", "services"],
    files: 20,
};

/// Files, and folders of files, that only tests use.
const FOR_TESTS: [&str; 6] = [
    "testing",
    "tests",
    "fixture",
    "stage",
    "simulation",
    "fuzzing",
];

/// Arrows that are against the rules and still there. An arrow leaves this list for good.
const EXCEPTIONS: &[(&str, &str)] = &[];

type Module = Vec<String>;
type Arrow = (String, String);

/// The files of the folders by their modules, with their texts.
struct Files {
    names: BTreeMap<Module, String>,
    texts: BTreeMap<Module, String>,
}

impl Files {
    fn read(of: &Folders) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(of.source);
        let mut files = Self {
            names: BTreeMap::new(),
            texts: BTreeMap::new(),
        };
        if of.folders.is_empty() {
            files.add_below(&source, &source);
        }
        for folder in of.folders {
            files.add_below(&source, &source.join(folder));
        }
        assert!(files.names.len() >= of.files, "the sources are elsewhere");
        files
    }

    fn add_below(&mut self, source: &Path, dir: &Path) {
        for entry in fs::read_dir(dir).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                self.add_below(source, &path);
                continue;
            }
            let name = path.strip_prefix(source).unwrap().to_str().unwrap();
            let Some(stem) = name.strip_suffix(".rs") else {
                continue;
            };
            let module = stem.strip_suffix("/mod").unwrap_or(stem).split('/');
            let mut module: Module = module.map(str::to_owned).collect();
            if stem == "lib" {
                module.clear();
            }
            let is_for_tests = |name: &String| FOR_TESTS.contains(&name.as_str());
            if !module.iter().any(is_for_tests) {
                self.names.insert(module.clone(), name.to_owned());
                self.texts
                    .insert(module, fs::read_to_string(&path).unwrap());
            }
        }
    }

    /// All arrows between two of the files.
    fn arrows(&self) -> BTreeSet<Arrow> {
        let mut arrows = BTreeSet::new();
        for (module, text) in &self.texts {
            let words = words(text);
            let mut at = 0;
            while at < words.len() {
                let Some(start) = self.start(module, &words, at) else {
                    at += 1;
                    continue;
                };
                at += 1;
                let mut paths = Vec::new();
                follow(&words, &mut at, start, &mut paths);
                let found = paths.iter().filter_map(|path| self.file_of(path));
                let found = found.filter(|found| **found != *self.names[module]);
                arrows.extend(found.map(|found| (self.names[module].clone(), found.clone())));
            }
        }
        arrows
    }

    /// Where the path begins whose first word stands here, if one does that leads into our own code.
    fn start(&self, module: &Module, words: &[String], at: usize) -> Option<Module> {
        let before = |n| at.checked_sub(n).map_or("", |at| words[at].as_str());
        let goes_on = matches!(before(1), "::" | "$");
        // How far something is seen says nothing of what its file knows.
        let is_visibility = before(1) == "in" && before(2) == "(";
        if goes_on || is_visibility || words.get(at + 1).is_none_or(|next| next != "::") {
            return None;
        }
        let mut start = module.clone();
        match words[at].as_str() {
            "crate" => start.clear(),
            "self" => {}
            "super" => drop(start.pop()),
            child => {
                start.push(child.to_owned());
                self.names.get(&start)?;
            }
        }
        Some(start)
    }

    /// The file in which a path ends.
    fn file_of(&self, path: &Module) -> Option<&String> {
        let lengths = (0..=path.len()).rev();
        lengths
            .map(|length| self.names.get(&path[..length]))
            .find_map(|found| found)
    }
}

/// The names and the marks of paths in a text, without comments and without the tests at its end.
fn words(text: &str) -> Vec<String> {
    let tests = ["mod tests {", "pub(super) mod tests {"];
    let tests = tests.map(|tests| format!("#[cfg(test)]\n{tests}"));
    let end = tests.iter().filter_map(|tests| text.find(tests)).min();
    let code = &text[..end.unwrap_or(text.len())];
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let mut words = Vec::new();
    for line in lines {
        let mut rest = line;
        while let Some(first) = rest.chars().next() {
            let is_name = |c: char| c.is_alphanumeric() || c == '_';
            let length = match first {
                ':' if rest.starts_with("::") => 2,
                first if is_name(first) => rest.find(|c| !is_name(c)).unwrap_or(rest.len()),
                first => first.len_utf8(),
            };
            if !first.is_whitespace() {
                words.push(rest[..length].to_owned());
            }
            rest = &rest[length..];
        }
    }
    words
}

/// Reads on from behind the first word of a path, into each branch of its braces.
fn follow(words: &[String], at: &mut usize, mut path: Module, paths: &mut Vec<Module>) {
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    while word(*at) == "::" {
        *at += 1;
        match word(*at) {
            "{" => {
                while !matches!(word(*at), "}" | "") {
                    *at += 1;
                    let mut branch = path.clone();
                    match word(*at) {
                        "}" | "," | "self" => {}
                        "super" => drop(branch.pop()),
                        name => branch.push(name.to_owned()),
                    }
                    if !matches!(word(*at), "}" | ",") {
                        *at += 1;
                        follow(words, at, branch, paths);
                    }
                    // What is left of a branch, such as another name for it.
                    while !matches!(word(*at), "," | "}" | "") {
                        *at += 1;
                    }
                }
                *at += 1;
                return;
            }
            "super" => drop(path.pop()),
            name => path.push(name.to_owned()),
        }
        *at += 1;
    }
    paths.push(path);
}

fn folder(file: &str) -> &str {
    file.split('/').next().unwrap()
}

/// The door knows neither side, and neither side knows the other.
fn is_against_layers((from, to): &Arrow) -> bool {
    let (from, to) = (folder(from), folder(to));
    from != to && to != "hooks"
}

/// There is a way from one file to another.
fn leads(arrows: &BTreeSet<Arrow>, from: &str, to: &str) -> bool {
    let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
    while let Some(file) = open.pop() {
        if file == to {
            return true;
        }
        if seen.insert(file) {
            let next = arrows.iter().filter(|(from, _)| from == file);
            open.extend(next.map(|(_, to)| to.as_str()));
        }
    }
    false
}

/// The arrows that are part of a circle.
fn circles(arrows: &BTreeSet<Arrow>) -> Vec<&Arrow> {
    let arrows_back = |arrow: &&Arrow| leads(arrows, &arrow.1, &arrow.0);
    arrows.iter().filter(arrows_back).collect()
}

#[test]
fn no_files_of_the_protocol_know_each_other_in_a_circle() {
    let arrows = Files::read(&PROTO).arrows();
    assert_eq!(circles(&arrows), Vec::<&Arrow>::new());
}

#[test]
fn no_files_of_the_core_of_the_sessions_know_each_other_in_a_circle() {
    let arrows = Files::read(&SESSION).arrows();
    assert_eq!(circles(&arrows), Vec::<&Arrow>::new());
}

#[test]
fn routers_and_services_meet_at_the_door_only_and_no_files_know_each_other_in_a_circle() {
    let all = Files::read(&NODE).arrows();
    let exceptions = EXCEPTIONS.iter();
    let exceptions: BTreeSet<Arrow> = exceptions
        .map(|(from, to)| (String::from(*from), String::from(*to)))
        .collect();
    let gone: Vec<_> = exceptions.difference(&all).collect();
    assert!(gone.is_empty(), "no exceptions any more: {gone:#?}");
    let allowed: BTreeSet<Arrow> = all.difference(&exceptions).cloned().collect();
    let wrong: Vec<_> = allowed
        .iter()
        .filter(|arrow| is_against_layers(arrow) || leads(&allowed, &arrow.1, &arrow.0))
        .collect();
    assert!(
        wrong.is_empty(),
        "against the layers or in a circle: {wrong:#?}"
    );
    let needless: Vec<_> = exceptions
        .iter()
        .filter(|arrow| !is_against_layers(arrow) && !leads(&allowed, &arrow.1, &arrow.0))
        .collect();
    assert!(
        needless.is_empty(),
        "need no exception any more: {needless:#?}"
    );
}

#[test]
fn arrows_are_found_however_they_are_written() {
    let module = |path: &str| path.split('/').map(str::to_owned).collect::<Module>();
    let found = |text: &str| {
        let texts = [
            ("a", text),
            ("a/b", ""),
            ("c", ""),
            ("c/d", "pub use super::super::a::X;"),
            (
                "e",
                "// use crate::a;\n\nstruct E;\n#[cfg(test)]\nmod tests {\nuse crate::c;\n}",
            ),
        ];
        let files = Files {
            names: texts
                .iter()
                .map(|(path, _)| (module(path), String::from(*path)))
                .collect(),
            texts: texts
                .iter()
                .map(|(path, text)| (module(path), String::from(*text)))
                .collect(),
        };
        let arrows = files.arrows();
        assert!(arrows.iter().any(|(from, to)| from == "c/d" && to == "a"));
        assert!(arrows.iter().all(|(from, _)| from != "e"), "{arrows:?}");
        let from_a = arrows.into_iter().filter(|(from, _)| from == "a");
        from_a.map(|(_, to)| to).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(found("use crate::c::d::X;"), "c/d");
    assert_eq!(
        found("use crate::{c::{self as z, d::{X, Y}}, e::E};"),
        "c c/d e"
    );
    assert_eq!(found("fn f() { crate::e::g(b::h()) }"), "a/b e");
    assert_eq!(
        found("use self::b::X; use super::c; $crate::e::E;"),
        "a/b c"
    );
    assert_eq!(found("use std::c::d; use other::crate_like::e;"), "");
    assert_eq!(found("use super::c::*;"), "c");
    assert_eq!(found("pub(in crate::c) fn f() {}"), "");
}
