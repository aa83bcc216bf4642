//! How many file descriptors clients may take (T-16).
//!
//! The system gives out the lowest number that is free. So the number of a new socket says how many are in
//! use, whoever uses them, and the limit may change while the process runs.

use std::os::fd::AsRawFd;

use nix::sys::resource::{Resource, getrlimit};

/// Descriptors that clients leave alone: for the log, other nodes, the database and operators.
const RESERVE: u64 = 128;

/// A client that has this socket has taken of the reserve.
pub fn is_short(socket: &impl AsRawFd) -> bool {
    // A limit that cannot be read is not enforced here; the system still is at its own.
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(soft, _)| soft);
    u64::try_from(socket.as_raw_fd()).is_ok_and(|taken| taken >= for_clients(limit))
}

/// Where there are few in all, clients get half of them.
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
