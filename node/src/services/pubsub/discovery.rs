//! Nodes, as they are discovered (PE-17), and as other services show them.

use cluster::session::Action;
use futures_util::FutureExt as _;
use proto::payload::disco::{Identity, Item};
use proto::payload::form::Form;
use proto::stanza::error::StanzaError;
use proto::{BareJid, Element};

use super::access::Reader;
use super::change;
use super::settings::Quotas;
use super::storage::{self, Node, Wanted};
use crate::hooks::{Edge, NodeInfo, Nodes, Replacement, Told, failure};

/// Pages of a node that are read together.
const MOST_PAGES: usize = 16;

/// Looks into the database.
pub struct Shelves {
    /// What nodes may take.
    pub quotas: Quotas,
}

/// A node that the viewer may read.
async fn readable(
    edge: &Edge,
    viewer: &BareJid,
    account: &BareJid,
    node: &str,
) -> Result<Option<Node>, StanzaError> {
    let found = edge.storage.node(account, node).await;
    let Some(found) = found.map_err(|error| failure(&error))? else {
        return Ok(None);
    };
    let reader = Reader::new(edge, viewer, account).await;
    let reader = reader.map_err(|error| failure(&error))?;
    let may = reader.may(node, &found.config).await;
    Ok(may.map_err(|error| failure(&error))?.then_some(found))
}

async fn list(edge: &Edge, viewer: &BareJid, account: &BareJid) -> Result<Vec<Item>, StanzaError> {
    let nodes = edge.storage.nodes(account).await;
    let nodes = nodes.map_err(|error| failure(&error))?;
    let reader = Reader::new(edge, viewer, account).await;
    let reader = reader.map_err(|error| failure(&error))?;
    let mut items = Vec::new();
    for (node, config) in nodes {
        let may = reader.may(&node, &config).await;
        if may.map_err(|error| failure(&error))? {
            items.push(Item {
                jid: account.to_string(),
                node: Some(node),
                name: Some(config.title).filter(|title| !title.is_empty()),
            });
        }
    }
    Ok(items)
}

async fn items(
    edge: &Edge,
    account: &BareJid,
    node: &str,
) -> Result<Vec<storage::Item>, StanzaError> {
    let mut all: Vec<storage::Item> = Vec::new();
    for _ in 0..MOST_PAGES {
        let behind = Wanted {
            after: all.last().map(|item| item.id.clone()),
            ..Wanted::default()
        };
        let page = edge.storage.items(account, node, &behind).await;
        let page = page.map_err(|error| failure(&error))?;
        if page.is_empty() {
            break;
        }
        all.extend(page);
    }
    Ok(all)
}

async fn replace(
    edge: &Edge,
    quotas: Quotas,
    (account, node): (&BareJid, &str),
    replacement: Replacement,
) -> Result<Vec<Action>, StanzaError> {
    let Replacement {
        put,
        removed,
        options,
    } = replacement;
    let mut actions = Vec::new();
    if !removed.is_empty() {
        actions = change::retract(edge, account, node, &removed, false).await?;
    }
    for (id, payload) in put {
        let item = storage::Item {
            id,
            stamp: (edge.now)(),
            payload: Some(payload),
        };
        // The node is made as is wished, and is as it is if it is there.
        let found = edge.storage.node(account, node).await;
        let is_there = found.map_err(|error| failure(&error))?.is_some();
        let options: Option<&Form> = (!is_there).then_some(&options);
        actions.extend(change::put(edge, quotas, account, (node, options), &item).await?);
    }
    Ok(actions)
}

impl Nodes for Shelves {
    fn list<'a>(
        &'a self,
        edge: &'a Edge,
        viewer: &'a BareJid,
        account: &'a BareJid,
    ) -> Told<'a, Vec<Item>> {
        list(edge, viewer, account).boxed()
    }

    fn info<'a>(
        &'a self,
        edge: &'a Edge,
        viewer: &'a BareJid,
        account: &'a BareJid,
        node: &'a str,
    ) -> Told<'a, Option<NodeInfo>> {
        async move {
            let found = readable(edge, viewer, account, node).await?;
            Ok(found.map(|found| NodeInfo {
                identity: Identity::new("pubsub", "leaf", &found.config.title),
                form: found.config.meta(found.items),
            }))
        }
        .boxed()
    }

    fn contents<'a>(
        &'a self,
        edge: &'a Edge,
        viewer: &'a BareJid,
        account: &'a BareJid,
        node: &'a str,
    ) -> Told<'a, Option<Vec<Item>>> {
        async move {
            if readable(edge, viewer, account, node).await?.is_none() {
                return Ok(None);
            }
            let items = items(edge, account, node).await?.into_iter();
            let items = items.map(|item| Item {
                jid: account.to_string(),
                node: None,
                name: Some(item.id),
            });
            Ok(Some(items.collect()))
        }
        .boxed()
    }

    fn item<'a>(
        &'a self,
        edge: &'a Edge,
        viewer: &'a BareJid,
        account: &'a BareJid,
        node: &'a str,
        id: Option<&'a str>,
    ) -> Told<'a, Option<(String, Element)>> {
        async move {
            // One's own presence comes by here, and asks once.
            if viewer != account && readable(edge, viewer, account, node).await?.is_none() {
                return Ok(None);
            }
            let wanted = Wanted {
                ids: id.map(str::to_owned).into_iter().collect(),
                most: Some(1),
                after: None,
            };
            let found = edge.storage.items(account, node, &wanted).await;
            let found = found.map_err(|error| failure(&error))?.pop();
            Ok(found.and_then(|item| Some((item.id, item.payload?))))
        }
        .boxed()
    }

    fn items<'a>(
        &'a self,
        edge: &'a Edge,
        account: &'a BareJid,
        node: &'a str,
    ) -> Told<'a, Vec<(String, Element)>> {
        async move {
            let items = items(edge, account, node).await?.into_iter().rev();
            Ok(items
                .filter_map(|item| Some((item.id, item.payload?)))
                .collect())
        }
        .boxed()
    }

    fn replace<'a>(
        &'a self,
        edge: &'a Edge,
        account: &'a BareJid,
        node: &'a str,
        replacement: Replacement,
    ) -> Told<'a, Vec<Action>> {
        replace(edge, self.quotas, (account, node), replacement).boxed()
    }
}
