//! Addresses, prepared once at the edge (RFC 7622).
//!
//! Inside the server two addresses are the same if and only if their bytes are the same (ST-98): nothing
//! here or elsewhere compares unprepared text.

mod error;
mod prepare;

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use self::error::JidError;
use self::error::check_length;
pub use prepare::{ascii_name, prepare_local, prepare_password, prepare_resource};

/// An address with or without a resource.
///
/// The text says where its parts are, so equality, order and hash are those of the text.
#[derive(Clone)]
pub struct Jid {
    text: Arc<str>,
    /// Where the domain begins.
    domain: u16,
    /// Where the domain ends.
    end: u16,
}

impl Jid {
    /// Prepares an address.
    pub fn new(text: &str) -> Result<Self, JidError> {
        let (local, domain, resource) = split(text)?;
        let local = local.map(prepare_local).transpose()?;
        let domain = prepare::prepare_domain(domain)?;
        let resource = resource.map(prepare_resource).transpose()?;
        Ok(Self::join(local.as_deref(), &domain, resource.as_deref()))
    }

    /// Puts prepared parts together. Each has at most 1023 bytes, so the offsets fit.
    fn join(local: Option<&str>, domain: &str, resource: Option<&str>) -> Self {
        let parts = [local, Some(domain), resource];
        let length: usize = parts.iter().flatten().map(|part| part.len() + 1).sum();
        let mut text = String::with_capacity(length);
        if let Some(local) = local {
            text.push_str(local);
            text.push('@');
        }
        let start = text.len() as u16;
        text.push_str(domain);
        let end = text.len() as u16;
        if let Some(resource) = resource {
            text.push('/');
            text.push_str(resource);
        }
        Self {
            text: text.into(),
            domain: start,
            end,
        }
    }

    /// Splits an address that was prepared when it was stored.
    fn stored(text: String) -> Result<Self, JidError> {
        let (local, domain, _) = split(&text)?;
        let start = local.map_or(0, |local| local.len() + 1);
        let end = start + domain.len();
        Ok(Self {
            text: text.into(),
            domain: start as u16,
            end: end as u16,
        })
    }

    /// The part before the `@`.
    pub fn local(&self) -> Option<&str> {
        let at = usize::from(self.domain).checked_sub(1)?;
        Some(&self.text[..at])
    }

    /// The domain.
    pub fn domain(&self) -> &str {
        &self.text[usize::from(self.domain)..usize::from(self.end)]
    }

    /// The part behind the first `/`.
    pub fn resource(&self) -> Option<&str> {
        self.text.get(usize::from(self.end) + 1..)
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it has no resource.
    pub fn is_bare(&self) -> bool {
        self.text.len() == usize::from(self.end)
    }

    /// The address without its resource.
    pub fn bare(&self) -> BareJid {
        if self.is_bare() {
            return BareJid(self.clone());
        }
        BareJid(Self {
            text: self.text[..usize::from(self.end)].into(),
            domain: self.domain,
            end: self.end,
        })
    }

    /// The text of the address without its resource.
    pub fn bare_str(&self) -> &str {
        &self.text[..usize::from(self.end)]
    }

    /// Itself and whatever includes it: the address without its resource, and the domain. Each once.
    pub fn and_wider(&self) -> impl Iterator<Item = &str> {
        let bare = Some(self.bare_str()).filter(|_| !self.is_bare());
        let domain = Some(self.domain()).filter(|_| self.domain > 0);
        [Some(self.as_str()), bare, domain].into_iter().flatten()
    }

    /// Whether it is `bare`, with or without a resource.
    pub fn belongs_to(&self, bare: &BareJid) -> bool {
        self.bare_str() == bare.as_str()
    }
}

/// Splits at the first `/`, then at the first `@`, before any preparation (ST-92, ST-93).
fn split(text: &str) -> Result<(Option<&str>, &str, Option<&str>), JidError> {
    let (bare, resource) = match text.split_once('/') {
        Some((bare, resource)) => (bare, Some(resource)),
        None => (text, None),
    };
    let (local, domain) = match bare.split_once('@') {
        Some((local, domain)) => (Some(local), domain),
        None => (None, bare),
    };
    for part in [local, Some(domain), resource].into_iter().flatten() {
        check_length(part)?;
    }
    Ok((local, domain, resource))
}

/// An address without a resource.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BareJid(Jid);

impl BareJid {
    /// Prepares an address; refuses one with a resource.
    pub fn new(text: &str) -> Result<Self, JidError> {
        Self::try_from(Jid::new(text)?)
    }

    /// Joins a prepared localpart with a prepared domain; each is checked again, cheaply if it is plain.
    pub fn from_parts(local: Option<&str>, domain: &str) -> Result<Self, JidError> {
        let local = local.map(prepare_local).transpose()?;
        let domain = prepare::prepare_domain(domain)?;
        Ok(Self(Jid::join(local.as_deref(), &domain, None)))
    }

    /// The part before the `@`.
    pub fn local(&self) -> Option<&str> {
        self.0.local()
    }

    /// The domain.
    pub fn domain(&self) -> &str {
        self.0.domain()
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Itself, where any address may stand.
    pub fn as_jid(&self) -> &Jid {
        &self.0
    }

    /// The full address with a resource, which is prepared.
    pub fn with_resource(&self, resource: &str) -> Result<Jid, JidError> {
        let resource = prepare_resource(resource)?;
        Ok(Jid::join(self.local(), self.domain(), Some(&resource)))
    }

    /// The full address with a resource that [`prepare_resource`] returned or the server made.
    pub fn with_prepared_resource(&self, resource: &str) -> Jid {
        debug_assert!(check_length(resource).is_ok(), "prepared parts are bounded");
        Jid::join(self.local(), self.domain(), Some(resource))
    }
}

impl TryFrom<Jid> for BareJid {
    type Error = JidError;

    fn try_from(jid: Jid) -> Result<Self, JidError> {
        match jid.is_bare() {
            true => Ok(Self(jid)),
            false => Err(JidError::NotBare),
        }
    }
}

impl From<BareJid> for Jid {
    fn from(bare: BareJid) -> Self {
        bare.0
    }
}

impl From<&BareJid> for Jid {
    fn from(bare: &BareJid) -> Self {
        bare.0.clone()
    }
}

impl PartialEq for Jid {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Jid {}

impl PartialOrd for Jid {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Jid {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl Hash for Jid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

/// What both kinds of address have in common with their text.
macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self.as_str(), f)
            }
        }

        impl FromStr for $type {
            type Err = JidError;

            fn from_str(text: &str) -> Result<Self, JidError> {
                Self::new(text)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    )*};
}

as_text!(Jid, BareJid);

impl<'de> Deserialize<'de> for Jid {
    /// Only splits: what is read here is what this server wrote to its log.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::stored(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for BareJid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(Jid::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
