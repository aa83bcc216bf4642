//! Points at which a test may end the process, as `kill -9` would.
//!
//! A test writes the name of a point into a file and starts nodes with `HF_FAIL_POINT` set to that file's path. The
//! first process that reaches the point removes the file and kills itself. So a test can end a node exactly between two
//! steps, which it could not do by timing. Release builds have no such points: `debug_assertions` are off there.

/// Ends the process if a test wants it to end here.
pub fn point(name: &str) {
    if cfg!(debug_assertions) {
        end_if_armed(name);
    }
}

fn end_if_armed(name: &str) {
    let Some(file) = std::env::var_os("HF_FAIL_POINT") else {
        return;
    };
    let here = std::fs::read_to_string(&file).is_ok_and(|armed| armed.trim() == name);
    if here && std::fs::remove_file(&file).is_ok() {
        std::process::abort();
    }
}
