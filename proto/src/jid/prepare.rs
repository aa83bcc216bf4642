//! Preparation of the parts of an address, and of passwords.
//!
//! Each function is idempotent: what it returns it accepts unchanged. The Unicode rules alone do not
//! promise that, so every slow path checks it.

use std::net::Ipv6Addr;

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};
use precis_core::profile::PrecisFastInvocation;
use precis_core::{IdentifierClass, StringClass};
use precis_profiles::{OpaqueString, UsernameCaseMapped};

use super::error::{JidError, check_length};

/// How often a text may change before it is refused (RFC 8264 §7 names the same bound).
const ROUNDS: usize = 4;

/// Prepares a localpart: UsernameCaseMapped, and none of the characters that separate addresses (ST-95).
pub fn prepare_local(text: &str) -> Result<String, JidError> {
    check_length(text)?;
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        let stable = settle(text, |t| UsernameCaseMapped::enforce(t.to_owned()).ok());
        return checked_local(stable.ok_or(JidError::Local)?);
    }
    checked_local(text.to_ascii_lowercase())
}

fn checked_local(local: String) -> Result<String, JidError> {
    check_length(&local)?;
    match local.contains(['"', '&', '\'', '/', ':', '<', '>', '@']) {
        true => Err(JidError::Local),
        false => Ok(local),
    }
}

/// Prepares a resource: OpaqueString (ST-96).
pub fn prepare_resource(text: &str) -> Result<String, JidError> {
    check_length(text)?;
    let resource = opaque(text).ok_or(JidError::Resource)?;
    check_length(&resource)?;
    Ok(resource)
}

/// Prepares a password: OpaqueString, when it is set as well as when it is checked (ST-42).
pub fn prepare_password(text: &str) -> Result<String, JidError> {
    opaque(text).ok_or(JidError::Password)
}

fn opaque(text: &str) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    if text.bytes().all(|b| matches!(b, b' '..=b'~')) {
        return Some(text.to_owned());
    }
    settle(text, |t| OpaqueString::enforce(t.to_owned()).ok())
}

/// Repeats a preparation until it changes nothing any more.
fn settle<T: Into<String>>(text: &str, prepare: impl Fn(&str) -> Option<T>) -> Option<String> {
    let mut text = text.to_owned();
    for _ in 0..ROUNDS {
        let next: String = prepare(&text)?.into();
        if next == text {
            return Some(text);
        }
        text = next;
    }
    None
}

/// Prepares a domain: an address literal or a name in U-labels, without a trailing dot (ST-94).
pub(super) fn prepare_domain(text: &str) -> Result<String, JidError> {
    let text = text.strip_suffix('.').unwrap_or(text);
    check_length(text)?;
    if let Some(literal) = text.strip_prefix('[') {
        let literal = literal.strip_suffix(']').ok_or(JidError::Domain)?;
        let address: Ipv6Addr = literal.parse().map_err(|_| JidError::Domain)?;
        return Ok(format!("[{address}]"));
    }
    if is_plain_name(text) {
        return Ok(text.to_owned());
    }
    let name = settle(text, unicode_name).ok_or(JidError::Domain)?;
    check_length(&name)?;
    Ok(name)
}

/// Whether it is a name that preparation would not change: lower-case ASCII without A-labels.
fn is_plain_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
            label.bytes().all(plain)
                && matches!(label.len(), 1..=63)
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.get(2..4) != Some("--")
        })
}

/// One round: UTS-46 without transitional rules, then only what IDNA2008 allows in labels.
fn unicode_name(name: &str) -> Option<String> {
    let (unicode, valid) = Uts46::new().to_unicode(
        name.as_bytes(),
        AsciiDenyList::EMPTY,
        Hyphens::CheckFirstLast,
    );
    valid.ok()?;
    let class = IdentifierClass::default();
    for label in unicode.split('.') {
        // The class of identifiers is the letters and digits of IDNA2008, and more of ASCII.
        let ascii = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_') || !c.is_ascii();
        if label.is_empty() || !label.chars().all(ascii) || class.allows(label).is_err() {
            return None;
        }
    }
    // Names that DNS and certificates could not carry are no names.
    ascii_name(&unicode)?;
    Some(unicode.into_owned())
}

/// A domain as DNS and certificates write it, with A-labels (RFC 5890); nothing if they could not.
pub fn ascii_name(name: &str) -> Option<String> {
    let ascii = Uts46::new().to_ascii(
        name.as_bytes(),
        AsciiDenyList::EMPTY,
        Hyphens::CheckFirstLast,
        DnsLength::Verify,
    );
    ascii.ok().map(|name| name.into_owned())
}
