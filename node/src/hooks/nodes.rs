//! What a service says about the nodes that accounts have (XEP-0060 §5), for those who discover them and for services
//! that show the same in another way.

use cluster::session::Action;
use futures_util::future::BoxFuture;
use proto::payload::disco::{Identity, Item};
use proto::payload::form::Form;
use proto::stanza::error::StanzaError;
use proto::{BareJid, Element};

use super::edge::Edge;

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

/// Knows the nodes of accounts. Where no service does, there are none.
pub trait Nodes: Send + Sync + 'static {
    /// The nodes of the account that the viewer may read.
    fn list<'a>(
        &'a self,
        edge: &'a Edge,
        viewer: &'a BareJid,
        account: &'a BareJid,
    ) -> Told<'a, Vec<Item>>;

    /// What one of them is, if it is one that the viewer may read.
    fn info<'a>(
        &'a self,
        edge: &'a Edge,
        viewer: &'a BareJid,
        account: &'a BareJid,
        node: &'a str,
    ) -> Told<'a, Option<NodeInfo>>;

    /// What is in it, if it is one that the viewer may read.
    fn contents<'a>(
        &'a self,
        edge: &'a Edge,
        viewer: &'a BareJid,
        account: &'a BareJid,
        node: &'a str,
    ) -> Told<'a, Option<Vec<Item>>>;

    /// One item of a node, the newest or the one with this id, if the viewer may read it.
    fn item<'a>(
        &'a self,
        edge: &'a Edge,
        viewer: &'a BareJid,
        account: &'a BareJid,
        node: &'a str,
        id: Option<&'a str>,
    ) -> Told<'a, Option<(String, Element)>>;

    /// The items of a node of one's own, with their ids, the oldest first.
    fn items<'a>(
        &'a self,
        edge: &'a Edge,
        account: &'a BareJid,
        node: &'a str,
    ) -> Told<'a, Vec<(String, Element)>>;

    /// Changes the items of a node of one's own; returns what follows.
    fn replace<'a>(
        &'a self,
        edge: &'a Edge,
        account: &'a BareJid,
        node: &'a str,
        replacement: Replacement,
    ) -> Told<'a, Vec<Action>>;
}

/// There are no nodes.
pub(super) struct NoNodes;

fn at_once<'a, T: Send + 'a>(answer: T) -> Told<'a, T> {
    Box::pin(std::future::ready(Ok(answer)))
}

impl Nodes for NoNodes {
    fn list<'a>(&'a self, _: &'a Edge, _: &'a BareJid, _: &'a BareJid) -> Told<'a, Vec<Item>> {
        at_once(Vec::new())
    }

    fn info<'a>(
        &'a self,
        _: &'a Edge,
        _: &'a BareJid,
        _: &'a BareJid,
        _: &'a str,
    ) -> Told<'a, Option<NodeInfo>> {
        at_once(None)
    }

    fn contents<'a>(
        &'a self,
        _: &'a Edge,
        _: &'a BareJid,
        _: &'a BareJid,
        _: &'a str,
    ) -> Told<'a, Option<Vec<Item>>> {
        at_once(None)
    }

    fn item<'a>(
        &'a self,
        _: &'a Edge,
        _: &'a BareJid,
        _: &'a BareJid,
        _: &'a str,
        _: Option<&'a str>,
    ) -> Told<'a, Option<(String, Element)>> {
        at_once(None)
    }

    fn items<'a>(
        &'a self,
        _: &'a Edge,
        _: &'a BareJid,
        _: &'a str,
    ) -> Told<'a, Vec<(String, Element)>> {
        at_once(Vec::new())
    }

    fn replace<'a>(
        &'a self,
        _: &'a Edge,
        _: &'a BareJid,
        _: &'a str,
        _: Replacement,
    ) -> Told<'a, Vec<Action>> {
        at_once(Vec::new())
    }
}
