//! What services say of an account to a client that binds a resource along with its login (XEP-0386).

use futures_util::future::BoxFuture;
use proto::{BareJid, Element};

use super::edge::Edge;

/// Says something of an account as it is at this moment; the client's session is bound already, so that whatever comes
/// later reaches it.
pub trait AboutHook: Send + Sync + 'static {
    /// An element for `<bound/>`, if there is something to say.
    fn tell<'a>(&'a self, edge: &'a Edge, account: &'a BareJid) -> BoxFuture<'a, Option<Element>>;
}
