//! Invitations: made and shown (XEP-0401, XEP-0379, XEP-0445). Their tokens are random and stored as a hash only, so that
//! the database gives nobody an account.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proto::BareJid;
use proto::sasl::Digest;

use crate::clock;
use crate::storage::{Added, Invitation, Purpose, Storage, StorageError};

/// Random bytes of a token.
const TOKEN: usize = 18;
/// The longest that an invitation may be used.
pub const LONGEST: Duration = Duration::from_secs(365 * 86_400);
/// How many there may be of one account at a time, whatever its own bound says.
pub const MOST_OF_ONE: u64 = 100;

/// Who is to be invited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Where the account will be.
    pub domain: String,
    /// The only account that may be made; nobody else gets its name meanwhile.
    pub reserved: Option<BareJid>,
    /// Who invites, and becomes a contact of the new account.
    pub contact: Option<BareJid>,
    /// What it is for. Without a contact, that is an account.
    pub purpose: Purpose,
    /// Which account makes it, if no operator does.
    pub inviter: Option<Inviter>,
    /// For how long.
    pub lifetime: Duration,
}

/// An account that invites.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inviter {
    /// Which it is.
    pub account: BareJid,
    /// How many of its invitations there may be at a time.
    pub most: u64,
    /// Names the wish. When it comes again, what was made for it the first time is worth nothing any more.
    pub number: u64,
}

/// An invitation that was made. Only now its token is known.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// Its name for those who list it and take it back.
    pub id: String,
    /// What a client opens.
    pub uri: String,
    /// What a browser opens, if there is a page for it.
    pub link: Option<String>,
    /// When it ends, in milliseconds since 1970.
    pub expires: u64,
}

impl std::fmt::Debug for Issued {
    /// Whoever has the token has the account (T-73).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Issued");
        debug.field("id", &self.id).finish_non_exhaustive()
    }
}

/// Why there is no invitation.
#[derive(Debug, thiserror::Error)]
pub enum InviteError {
    /// The name cannot be given.
    #[error("{0} is an account, or kept for somebody who was invited")]
    NameTaken(BareJid),
    /// Who invites must be there.
    #[error("there is no account {0}")]
    NoContact(BareJid),
    /// The name is of another domain.
    #[error("the account will be at {domain}, and {name} is elsewhere")]
    OtherDomain {
        /// Where the account will be.
        domain: String,
        /// What was asked for.
        name: BareJid,
    },
    /// It would end at once, or in a far future.
    #[error("an invitation lasts between a second and a year")]
    Lifetime,
    /// There is a bound.
    #[error("there are too many invitations: take some back, or wait until they end")]
    TooMany,
    /// The database.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Makes an invitation. `page` is where one is explained to people, if that is anywhere; `now` is in milliseconds since
/// 1970.
pub async fn invite(
    storage: &Storage,
    page: Option<&str>,
    wish: Wish,
    now: u64,
) -> Result<Issued, InviteError> {
    let lifetime = wish.lifetime;
    if lifetime < Duration::from_secs(1) || lifetime > LONGEST {
        return Err(InviteError::Lifetime);
    }
    if let Some(name) = wish.reserved.as_ref().filter(|n| n.domain() != wish.domain) {
        let (domain, name) = (wish.domain, name.clone());
        return Err(InviteError::OtherDomain { domain, name });
    }
    if let Some(contact) = &wish.contact
        && !storage.account_exists(contact).await?
    {
        return Err(InviteError::NoContact(contact.clone()));
    }
    let token = URL_SAFE_NO_PAD.encode(clock::bytes::<TOKEN>());
    let lifetime = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
    let (id, most) = match &wish.inviter {
        Some(inviter) => (format!("{:016x}", inviter.number), inviter.most),
        None => (clock::name(64), MOST_OF_ONE),
    };
    let invitation = Invitation {
        id,
        domain: wish.domain,
        reserved: wish.reserved,
        contact: wish.contact,
        inviter: wish.inviter.map(|inviter| inviter.account),
        purpose: wish.purpose,
        created: now,
        expires: now.saturating_add(lifetime),
    };
    let digest = digest(&token);
    let added = storage.add_invitation(&invitation, &digest, most).await?;
    match (added, invitation.reserved.clone()) {
        (Added::Yes, _) => Ok(issued(invitation, page, &token)),
        (Added::NameTaken, Some(name)) => Err(InviteError::NameTaken(name)),
        (Added::NameTaken | Added::TooMany, _) => Err(InviteError::TooMany),
    }
}

/// The invitation of a token, if it may still be used at this domain (RE-4).
pub async fn shown(
    storage: &Storage,
    token: &str,
    domain: &str,
    now: u64,
) -> Result<Option<Invitation>, StorageError> {
    storage.invitation(&digest(token), domain, now).await
}

/// Somebody who has an account shows the token of an invitation to `inviter`, to become a contact. Whether it is one, and
/// good; it is used up then (RE-6).
pub async fn redeemed(
    storage: &Storage,
    token: &str,
    inviter: &BareJid,
    by: &BareJid,
    now: u64,
) -> Result<bool, StorageError> {
    let digest = digest(token);
    storage.redeem_invitation(&digest, inviter, by, now).await
}

/// What is stored of a token. It is random and long, so one round is enough.
fn digest(token: &str) -> Vec<u8> {
    Digest::Sha256.hash(token.as_bytes())
}

fn issued(invitation: Invitation, page: Option<&str>, token: &str) -> Issued {
    let Invitation {
        id,
        domain,
        reserved,
        contact,
        purpose,
        expires,
        ..
    } = invitation;
    let account = || reserved.map_or(domain, |name| name.to_string());
    // A client that has an account asks the one, and one that has none makes an account first (XEP-0401 §3.1, §3.4).
    let (address, action, may_register) = match (purpose, contact) {
        (Purpose::Account, _) | (_, None) => (account(), "register", ""),
        (Purpose::Contact, Some(contact)) => (contact.to_string(), "roster", ""),
        (Purpose::Either, Some(contact)) => (contact.to_string(), "roster", ";ibr=y"),
    };
    let address = escaped(&address);
    // Behind the # nothing is sent to a server, so that no log has the token.
    let link = page.map(|page| match action {
        "register" => format!("{page}#{address}/{token}"),
        action => format!("{page}#{address}/{token}?{action}{may_register}"),
    });
    Issued {
        id,
        uri: format!("xmpp:{address}?{action};preauth={token}{may_register}"),
        link,
        expires,
    }
}

/// The text as RFC 5122 and RFC 3986 have it in an address: all but a few characters of ASCII are bytes in hexadecimal
/// digits.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~@:[]".contains(&byte);
    let mut escaped = String::new();
    for byte in text.bytes() {
        match plain(byte) {
            true => escaped.push(char::from(byte)),
            false => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{AccountKeys, testing};

    const DAY: Duration = Duration::from_secs(86_400);
    const PAGE: Option<&str> = Some("https://a.example/invite");

    fn wish() -> Wish {
        Wish {
            domain: "example.org".to_owned(),
            reserved: None,
            contact: None,
            purpose: Purpose::Account,
            inviter: None,
            lifetime: DAY,
        }
    }

    #[tokio::test]
    async fn re_4_a_token_leads_to_its_invitation_and_is_nowhere_in_the_database() {
        let storage = testing::in_memory().await;
        let issued = invite(&storage, PAGE, wish(), 5).await.unwrap();
        let token = issued.uri.rsplit('=').next().unwrap();
        let expect = format!("xmpp:example.org?register;preauth={token}");
        assert_eq!(issued.uri, expect);
        let link = format!("https://a.example/invite#example.org/{token}");
        assert_eq!(issued.link, Some(link));
        assert_eq!(token.len(), 24);
        let found = shown(&storage, token, "example.org", 6).await.unwrap();
        assert_eq!(found.unwrap().id, issued.id);
        for (token, domain) in [("x", "example.org"), (token, "example.net")] {
            let found = shown(&storage, token, domain, 6).await.unwrap();
            assert_eq!(found, None, "{token} {domain}");
        }
        let sql = "SELECT id || domain || hex(digest) FROM invitation";
        let rows = storage.database.rows(sql, Vec::new()).await.unwrap();
        assert!(!rows[0].text(0).unwrap().contains(token));
        assert!(!format!("{issued:?}").contains(token));
    }

    #[tokio::test]
    async fn re_4_a_name_is_kept_for_whoever_is_invited_by_it() {
        let storage = testing::in_memory().await;
        let named = |name: &str| Wish {
            reserved: Some(BareJid::new(name).unwrap()),
            ..wish()
        };
        let issued = invite(&storage, None, named("jörg@example.org"), 5).await;
        let uri = issued.unwrap().uri;
        assert!(
            uri.starts_with("xmpp:j%C3%B6rg@example.org?register;"),
            "{uri}"
        );
        let again = invite(&storage, None, named("jörg@example.org"), 5).await;
        assert!(matches!(again, Err(InviteError::NameTaken(_))), "{again:?}");
        let elsewhere = invite(&storage, None, named("eve@example.net"), 5).await;
        assert!(matches!(elsewhere, Err(InviteError::OtherDomain { .. })));
    }

    #[tokio::test]
    async fn who_invites_is_there_and_for_how_long_is_bounded() {
        let storage = testing::in_memory().await;
        let alice = BareJid::new("alice@example.org").unwrap();
        let by_alice = || Wish {
            contact: Some(alice.clone()),
            ..wish()
        };
        let nobody = invite(&storage, None, by_alice(), 5).await;
        assert!(matches!(nobody, Err(InviteError::NoContact(_))));
        let keys = AccountKeys::default();
        storage.create_account(&alice, &keys, 5).await.unwrap();
        assert!(invite(&storage, None, by_alice(), 5).await.is_ok());
        for lifetime in [Duration::ZERO, 366 * DAY] {
            let wish = Wish { lifetime, ..wish() };
            let refused = invite(&storage, None, wish, 5).await;
            assert!(matches!(refused, Err(InviteError::Lifetime)));
        }
    }
}
