//! Bounds how many file descriptors clients may take (T-16).
//!
//! The system gives a new socket the lowest free number. So this number tells how many descriptors are in use, whatever
//! for, and the limit may even change while the process runs.

use std::os::fd::AsRawFd;

use nix::sys::resource::{Resource, getrlimit};

/// How many descriptors are reserved for the log, other nodes, the database and operators.
const RESERVE: u64 = 128;

/// Whether this client socket has taken a descriptor of the reserve.
pub fn is_short(socket: &impl AsRawFd) -> bool {
    // If the limit cannot be read, only the system enforces it.
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    u64::try_from(socket.as_raw_fd()).is_ok_and(|taken| taken >= for_clients(limit))
}

/// How many descriptors clients may take. If there are few, they get half of them.
fn for_clients(limit: u64) -> u64 {
    limit - RESERVE.min(limit / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t_16_clients_leave_a_reserve() {
        assert_eq!(for_clients(1024), 896);
        assert_eq!(for_clients(200), 100);
        assert_eq!(for_clients(0), 0);
    }

    #[test]
    fn t_16_a_socket_with_a_low_number_takes_nothing_of_it() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!is_short(&socket));
    }
}
