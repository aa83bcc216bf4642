//! Keeps the secrets of this process from other users, in its files and in its memory.

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::stat::{Mode, umask};

/// Files of this process are its user's alone, whatever the umask that it was started with, and it leaves no
/// core: passwords, keys and messages are in its memory (T-33, T-80). What the system does not grant, it does
/// without.
pub fn keep() {
    umask(Mode::from_bits_truncate(0o077));
    // This cannot fail: only raising a limit may be refused.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    // A core that is piped to a program is not limited, and a debugger needs no core.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_dumpable(false);
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use nix::sys::resource::getrlimit;

    #[test]
    fn t_80_a_process_leaves_no_core() {
        keep();
        assert_eq!(getrlimit(Resource::RLIMIT_CORE), Ok((0, 0)));
        assert_eq!(nix::sys::prctl::get_dumpable(), Ok(false));
    }
}
