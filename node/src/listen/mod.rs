//! Sockets: who may connect, over which TLS, and the way to a session.

pub mod c2s;
pub mod gate;
pub mod proxy;
pub mod tls;
