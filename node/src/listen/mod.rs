//! Listens for clients: limits on connections, TLS, and the way to a session.

pub mod c2s;
pub mod certificate;
pub mod descriptors;
pub mod gate;
pub mod proxy;
pub mod refusal;
pub mod tls;
