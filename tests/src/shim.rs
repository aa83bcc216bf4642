//! Shims for what the C library does with a node's files, written in C beside this file.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The shim of this name, compiled into `dir`, for `LD_PRELOAD`; none if there is no compiler.
pub fn compile(dir: &Path, name: &str) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(name);
    let made = dir.join(name).with_extension("so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&made, &source])
        .arg("-ldl");
    let compiled = cc.status().is_ok_and(|status| status.success());
    if !compiled {
        println!("skipped: there is no C compiler");
    }
    compiled.then_some(made)
}
