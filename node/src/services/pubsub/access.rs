//! Who may read which node of an account (PE-13).

use std::collections::{HashMap, HashSet};

use proto::BareJid;
use proto::stanza::error::StanzaError;

use super::config::{Access, Config};
use super::error;
use super::storage::{Affiliation, Parties};
use crate::hooks::Edge;
use crate::storage::StorageError;

/// Somebody who wants to read nodes of an account, and what is known of the two.
pub struct Reader<'a> {
    edge: &'a Edge,
    viewer: &'a BareJid,
    account: &'a BareJid,
    sees: bool,
    affiliations: Vec<(String, Affiliation)>,
}

impl<'a> Reader<'a> {
    /// Finds out what is known.
    pub async fn new(
        edge: &'a Edge,
        viewer: &'a BareJid,
        account: &'a BareJid,
    ) -> Result<Self, StorageError> {
        let (mut sees, mut affiliations) = (true, Vec::new());
        if viewer != account {
            sees = edge.visibility.sees(&edge.storage, viewer, account).await?;
            affiliations = edge.storage.affiliations(account, viewer).await?;
        }
        Ok(Self {
            edge,
            viewer,
            account,
            sees,
            affiliations,
        })
    }

    /// Why this node must not be read, if so.
    pub async fn refusal(
        &self,
        node: &str,
        config: &Config,
    ) -> Result<Option<StanzaError>, StorageError> {
        if self.viewer == self.account {
            return Ok(None);
        }
        let known = self.affiliations.iter().find(|(name, _)| name == node);
        let affiliation = known.map(|(_, affiliation)| *affiliation);
        Ok(match (affiliation, config.access) {
            (Some(Affiliation::Outcast), _) => Some(error::forbidden()),
            (Some(Affiliation::Member), _) | (None, Access::Open) => None,
            (None, Access::Presence) => (!self.sees).then(error::presence_required),
            (None, Access::Roster) => {
                let (storage, account) = (&self.edge.storage, self.account);
                let visibility = &self.edge.visibility;
                let found = visibility.grouped(storage, account, &config.groups, Some(self.viewer));
                found.await?.is_empty().then(error::not_in_group)
            }
            (None, Access::Whitelist) => Some(error::closed_node()),
        })
    }

    /// Whether this node may be read.
    pub async fn may(&self, node: &str, config: &Config) -> Result<bool, StorageError> {
        Ok(self.refusal(node, config).await?.is_none())
    }
}

/// Everybody who may read one node of an account, but for the account itself.
pub struct Readers {
    access: Access,
    affiliations: HashMap<BareJid, Affiliation>,
    grouped: HashSet<BareJid>,
    viewers: HashSet<BareJid>,
}

impl Readers {
    /// Finds out who that is.
    pub async fn new(
        edge: &Edge,
        account: &BareJid,
        config: &Config,
        parties: &Parties,
    ) -> Result<Self, StorageError> {
        let (visibility, storage) = (&edge.visibility, &edge.storage);
        let viewers = visibility.viewers(storage, account).await?;
        let grouped = match config.access {
            Access::Roster => {
                let groups = &config.groups;
                visibility.grouped(storage, account, groups, None).await?
            }
            _ => Vec::new(),
        };
        Ok(Self {
            access: config.access,
            affiliations: parties.affiliations.iter().cloned().collect(),
            grouped: grouped.into_iter().collect(),
            viewers: viewers.into_iter().collect(),
        })
    }

    /// Whether somebody is one of them.
    pub fn contain(&self, jid: &BareJid) -> bool {
        match (self.affiliations.get(jid), self.access) {
            (Some(Affiliation::Outcast), _) => false,
            (Some(Affiliation::Member), _) | (None, Access::Open) => true,
            (None, Access::Presence) => self.viewers.contains(jid),
            (None, Access::Roster) => self.grouped.contains(jid),
            (None, Access::Whitelist) => false,
        }
    }

    /// Those of them who see the account's presence, in order.
    pub fn contacts(&self) -> Vec<&BareJid> {
        let mut contacts: Vec<&BareJid> = self.viewers.iter().collect();
        contacts.retain(|contact| self.contain(contact));
        contacts.sort_unstable();
        contacts
    }
}
