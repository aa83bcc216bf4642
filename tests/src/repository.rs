//! The repository as text: its sources, and its documents for people.

use std::fs;
use std::path::{Path, PathBuf};

/// Where the repository is.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources_below(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() && !path.ends_with("target") {
            sources_below(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn read(path: PathBuf) -> (PathBuf, String) {
    let text = fs::read_to_string(&path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    (path, text)
}

/// Every source file with its text.
pub fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for part in ["proto", "cluster", "node", "tests"] {
        sources_below(&root().join(part), &mut found);
    }
    assert!(found.len() > 100, "the sources are elsewhere: {found:?}");
    found.into_iter().map(read).collect()
}

/// The documents for people, with their texts.
pub fn documents() -> Vec<(PathBuf, String)> {
    let single = ["README.md", "k8s/README.md", ".github/CONTRIBUTING.md"];
    let mut found: Vec<PathBuf> = single.iter().map(|path| root().join(path)).collect();
    for part in ["proto", "cluster", "node"] {
        let docs = root().join(part).join("docs");
        let entries = fs::read_dir(&docs);
        let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", docs.display()));
        let paths = entries.map(|entry| entry.expect("an entry").path());
        found.extend(paths.filter(|path| path.extension().is_some_and(|ext| ext == "md")));
    }
    found.into_iter().map(read).collect()
}
