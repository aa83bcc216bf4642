//! Nodes as they leave the server and come back (XEP-0227 §4.10).
//!
//! Items whose node was not configured before are not read: nobody knows who may see them.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use proto::payload::delay;
use proto::payload::form::{Form, FormType};
use proto::{BareJid, Element, Jid, ns};

use super::config::Config;
use super::settings::Quotas;
use super::storage::{Affiliation, Item, Publishing};
use crate::clock;
use crate::hooks::portable::{Export, ExportError, Import, ImportError, OWN, Portable, Reading};
use crate::storage::Storage;

/// Items that are read at a time.
const PAGE: u32 = 20;

/// Nodes of accounts.
pub struct Shelves {
    /// What they may take.
    pub quotas: Quotas,
}

impl Shelves {
    async fn write(
        storage: &Storage,
        account: &BareJid,
        out: &mut Export<'_>,
    ) -> Result<(), ExportError> {
        let nodes = storage.nodes(account).await?;
        if nodes.is_empty() {
            return Ok(());
        }
        out.open(&Element::new("pubsub", ns::PUBSUB_OWNER))?;
        for (node, config) in &nodes {
            let form = config.form(FormType::Form).to_element();
            out.element(&about("configure", node).with_child(form))?;
            let parties = storage.parties(account, node).await?;
            let mut affiliations = about("affiliations", node);
            for (jid, affiliation) in &parties.affiliations {
                affiliations.push(party("affiliation", jid.as_str(), affiliation.name()));
            }
            let mut subscriptions = about("subscriptions", node);
            for jid in &parties.subscriptions {
                subscriptions.push(party("subscription", jid.as_str(), "subscribed"));
            }
            for element in [affiliations, subscriptions] {
                if element.elements().next().is_some() {
                    out.element(&element)?;
                }
            }
        }
        out.close()?;
        out.open(&Element::new("pubsub", ns::PUBSUB))?;
        for (node, _) in &nodes {
            out.open(&Element::new("items", ns::PUBSUB).with_attr("node", node.as_str()))?;
            let mut behind = 0;
            loop {
                let page = storage.items_behind(account, node, behind, PAGE).await?;
                let Some((last, _)) = page.last() else { break };
                behind = *last;
                for (_, item) in page {
                    out.element(&written(item))?;
                }
            }
            out.close()?;
        }
        Ok(out.close()?)
    }

    async fn configure(&self, import: &Import<'_>, element: &Element) -> Result<(), ImportError> {
        let node = node(element)?;
        let form = element.child("x", ns::DATA_FORM).and_then(Form::parse);
        let form = form.unwrap_or_else(|| Form::new(FormType::Submit, ""));
        let config = Config::default().with_known(&form, self.quotas.pubsub_items);
        let unfit = |_| ImportError::Skipped(format!("nodes here are not configured like {node}"));
        let config = config.map_err(unfit)?;
        let (storage, account) = (import.storage, import.account);
        storage
            .create_node(&self.quotas, (account, node), &config, "")
            .await?;
        Ok(())
    }

    async fn parties(&self, import: &Import<'_>, element: &Element) -> Result<(), ImportError> {
        let node = node(element)?;
        let (storage, account, quotas) = (import.storage, import.account, &self.quotas);
        for child in element.elements() {
            let jid = child.attr("jid").and_then(|jid| Jid::new(jid).ok());
            let wrong = || ImportError::Skipped(format!("an address at {node}"));
            let jid = jid.ok_or_else(wrong)?;
            match child.local() {
                "affiliation" => {
                    // Those that have other names, such as owners, are not there beside the account.
                    let named = child.attr("affiliation").and_then(Affiliation::named);
                    if named.is_some() {
                        let change = [(jid.bare(), named)];
                        storage.affiliate(quotas, (account, node), &change).await?;
                    }
                }
                "subscription" if child.attr("subscription") == Some("subscribed") => {
                    storage.subscribe(quotas, (account, node), &jid).await?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn publish(&self, import: &Import<'_>, element: &Element) -> Result<(), ImportError> {
        let node = import.path.last().map_or(Err(nameless()), node)?;
        let (storage, account) = (import.storage, import.account);
        let wrong = || ImportError::Skipped(format!("an item of {node}"));
        let id = element
            .attr("id")
            .filter(|id| !id.is_empty())
            .ok_or_else(wrong)?;
        let xml = element.elements().next().map(|payload| payload.to_xml(""));
        let xml = xml.unwrap_or_default();
        let fits = xml.len() as u64 <= self.quotas.pubsub_item_bytes;
        if !fits || storage.node(account, node).await?.is_none() {
            return Err(wrong());
        }
        let stamp = element.attr_ns("stamp", OWN).and_then(delay::parse_stamp);
        let publishing = Publishing {
            node,
            id,
            stamp: stamp.unwrap_or_else(clock::now),
            xml: &xml,
            options: None,
            kind: "",
        };
        let published = storage.publish(&self.quotas, account, &publishing).await?;
        published.map(drop).map_err(|_| wrong())
    }
}

fn about(name: &'static str, node: &str) -> Element {
    Element::new(name, ns::PUBSUB_OWNER).with_attr("node", node)
}

fn party(name: &'static str, jid: &str, what: &str) -> Element {
    Element::new(name, ns::PUBSUB_OWNER)
        .with_attr("jid", jid)
        .with_attr(name, what)
}

fn written(item: Item) -> Element {
    let mut element = Element::new("item", ns::PUBSUB).with_attr("id", item.id);
    element.set_attr_ns("stamp", OWN, delay::stamp(item.stamp));
    if let Some(payload) = item.payload {
        element.push(payload);
    }
    element
}

fn nameless() -> ImportError {
    ImportError::Skipped("a node has no name".to_owned())
}

fn node(element: &Element) -> Result<&str, ImportError> {
    let node = element.attr("node").filter(|node| !node.is_empty());
    node.ok_or_else(nameless)
}

impl Portable for Shelves {
    fn tables(&self) -> &'static [&'static str] {
        &[
            "pubsub_node",
            "pubsub_item",
            "pubsub_affiliation",
            "pubsub_subscription",
        ]
    }

    fn export<'a>(
        &'a self,
        storage: &'a Storage,
        account: &'a BareJid,
        out: &'a mut Export<'_>,
    ) -> BoxFuture<'a, Result<(), ExportError>> {
        Self::write(storage, account, out).boxed()
    }

    fn reads(&self, path: &[Element], element: &Element) -> Reading {
        let is_owner = |element: &Element| element.is("pubsub", ns::PUBSUB_OWNER);
        let is_node = |element: &Element| element.is("pubsub", ns::PUBSUB);
        match path {
            [] if is_owner(element) || is_node(element) => Reading::Open,
            [one] if is_node(one) && element.is("items", ns::PUBSUB) => Reading::Open,
            [one] if is_owner(one) && element.ns() == ns::PUBSUB_OWNER => Reading::Take,
            [one, items] if is_node(one) && items.is("items", ns::PUBSUB) => Reading::Take,
            _ => Reading::Foreign,
        }
    }

    fn import<'a>(&'a self, import: Import<'a>) -> BoxFuture<'a, Result<(), ImportError>> {
        async move {
            for element in import.elements {
                match element.local() {
                    "configure" => self.configure(&import, element).await?,
                    "item" => self.publish(&import, element).await?,
                    _ => self.parties(&import, element).await?,
                }
            }
            Ok(())
        }
        .boxed()
    }
}
