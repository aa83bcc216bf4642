//! What a service says about the nodes that accounts have (XEP-0060 §5), for those who discover them and for services
//! that show the same in another way.

use futures_util::future::BoxFuture;
use proto::Element;
use proto::payload::disco::Identity;
use proto::payload::form::Form;
use proto::stanza::error::StanzaError;

/// Answers of [`Nodes`].
pub type Told<'a, T> = BoxFuture<'a, Result<T, StanzaError>>;

/// What a node is.
pub struct NodeInfo {
    /// Of which kind.
    pub identity: Identity,
    /// More about it.
    pub form: Form,
}

/// What is to become of the items of a node of one's own.
pub struct Replacement {
    /// Items with these ids are published, in order.
    pub put: Vec<(String, Element)>,
    /// Those with these ids are not there any more.
    pub removed: Vec<String>,
    /// How the node is made if it is not there.
    pub options: Form,
}
