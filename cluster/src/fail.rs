//! Points at which a test may end the process, as `kill -9` would.
//!
//! Only in builds with debug assertions, and only if `HF_FAIL_POINT` names a file: the first process that
//! reaches the point which that file names takes the file away and is gone. What a test must hit between
//! two steps it could not hit by timing.

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
