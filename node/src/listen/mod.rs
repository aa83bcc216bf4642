//! Listens for clients: limits on connections, TLS, and the way to a session.

pub mod bosh;
pub mod c2s;
pub mod certificate;
pub mod descriptors;
pub mod gate;
mod invite;
pub mod proxy;
pub mod refusal;
pub mod tls;
pub mod web;
pub mod websocket;

/// How a connection of a client begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// In the clear: TLS is negotiated.
    StartTls,
    /// With TLS.
    Tls,
    /// With TLS and requests of HTTP: one by which a WebSocket is opened, or those of BOSH.
    Web,
}
