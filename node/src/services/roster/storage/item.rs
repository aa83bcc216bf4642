//! One contact of a roster, as values.

use std::fmt;
use std::str::FromStr;

use proto::BareJid;
use serde::{Deserialize, Serialize};

use crate::clock;

/// A contact as an account knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterItem {
    /// The contact.
    pub jid: BareJid,
    /// Clients see it. A contact who only has a request pending is not listed (IM-17).
    pub listed: bool,
    /// What the user calls it.
    pub name: Option<String>,
    /// Who sees whom.
    pub subscription: Subscription,
    /// The user has asked to see the contact.
    pub ask: bool,
    /// The user has granted a request of the contact in advance.
    pub approved: bool,
    /// The user's groups.
    pub groups: Vec<String>,
    /// The contact's pending request: the whole stanza, written (IM-32).
    pub request: Option<String>,
}

impl RosterItem {
    /// A contact that nothing is known of.
    pub fn new(jid: BareJid) -> Self {
        Self {
            jid,
            listed: false,
            name: None,
            subscription: Subscription::None,
            ask: false,
            approved: false,
            groups: Vec::new(),
            request: None,
        }
    }

    /// The part that clients are shown. Two items that agree in it need no push.
    pub(super) fn shown(item: Option<&Self>) -> Option<Self> {
        item.filter(|item| item.listed).map(|item| Self {
            request: None,
            ..item.clone()
        })
    }
}

/// Who sees whose presence, from the user's side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subscription {
    /// Neither.
    #[default]
    None,
    /// The user sees the contact.
    To,
    /// The contact sees the user.
    From,
    /// Each sees the other.
    Both,
}

impl Subscription {
    /// From its two halves.
    pub fn new(to: bool, from: bool) -> Self {
        match (to, from) {
            (false, false) => Self::None,
            (true, false) => Self::To,
            (false, true) => Self::From,
            (true, true) => Self::Both,
        }
    }

    /// The user sees the contact.
    pub fn to(self) -> bool {
        matches!(self, Self::To | Self::Both)
    }

    /// The contact sees the user.
    pub fn from(self) -> bool {
        matches!(self, Self::From | Self::Both)
    }

    /// Its name in the protocol.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::To => "to",
            Self::From => "from",
            Self::Both => "both",
        }
    }

    /// The one of that name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::None, Self::To, Self::From, Self::Both]
            .into_iter()
            .find(|known| known.name() == name)
    }
}

/// What becomes of a contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It stays as it is.
    Keep,
    /// It is made or replaced.
    Put(RosterItem),
    /// It is removed.
    Remove,
}

impl Change {
    /// The item of `contact` after the change.
    pub(super) fn applied(
        self,
        before: Option<&RosterItem>,
        contact: &BareJid,
    ) -> Option<RosterItem> {
        match self {
            Self::Keep => before.cloned(),
            Self::Put(item) => Some(RosterItem {
                jid: contact.clone(),
                ..item
            }),
            Self::Remove => None,
        }
    }
}

/// What a change came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Updated {
    /// The contact as the decision saw it.
    pub before: Option<RosterItem>,
    /// The contact as it is now.
    pub after: Option<RosterItem>,
    /// The roster's version with this change.
    pub version: RosterVersion,
    /// Clients are to be told.
    pub pushed: bool,
    /// The change had been made already.
    pub repeated: bool,
}

/// A roster's version: `epoch-counter`, opaque to clients (IM-26).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterVersion {
    /// Tells this roster from one made anew.
    pub epoch: String,
    /// Rises with each push.
    pub counter: u64,
}

impl RosterVersion {
    /// Of a roster that never had a contact.
    pub(super) fn empty() -> Self {
        Self {
            epoch: "0".to_owned(),
            counter: 0,
        }
    }

    pub(super) fn next(self) -> Self {
        Self {
            counter: self.counter + 1,
            ..self
        }
    }

    pub(super) fn at(self, counter: u64) -> Self {
        Self { counter, ..self }
    }
}

impl fmt::Display for RosterVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.counter)
    }
}

/// Tells this roster from one that was restored from a backup or made anew, or has forgotten something.
pub(super) fn new_epoch() -> String {
    clock::name(64)
}

/// The text is no version of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a roster version")]
pub struct NotAVersion;

impl FromStr for RosterVersion {
    type Err = NotAVersion;

    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let (epoch, counter) = text.split_once('-').ok_or(NotAVersion)?;
        let counter = counter.parse().map_err(|_| NotAVersion)?;
        Ok(Self {
            epoch: epoch.to_owned(),
            counter,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_survives_its_text() {
        let version = RosterVersion {
            epoch: "00ff".to_owned(),
            counter: 7,
        };
        assert_eq!(version.to_string().parse(), Ok(version));
        assert_eq!("".parse::<RosterVersion>(), Err(NotAVersion));
    }

    #[test]
    fn a_subscription_survives_its_name() {
        for (to, from) in [(false, false), (true, false), (false, true), (true, true)] {
            let subscription = Subscription::new(to, from);
            assert_eq!((subscription.to(), subscription.from()), (to, from));
            assert_eq!(Subscription::parse(subscription.name()), Some(subscription));
        }
    }
}
