//! Accounts that people make for themselves (XEP-0077), perhaps with an invitation (XEP-0445).
//!
//! What is made here is what `holdfast user add` makes. Each request for an account counts, whatever comes of it, also
//! without an invitation where one is needed: that a name is taken has to be told, and is not to be asked for one name
//! after another (T-24, T-31). To show an invitation is no such request: it tells nothing of names, and tokens are too
//! long to be guessed.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::BareJid;
use proto::jid::prepare_local;
use proto::payload::register::Password;
use proto::stanza::error::{Condition, ErrorType, StanzaError};

use super::revoke;
use super::store::derive_keys;
use crate::app::App;
use crate::clock;
use crate::config::Registration;
use crate::metrics::RegistrationResult;
use crate::storage::{Invitation, Registered, StorageError};

/// How often it is looked for invitations that have ended, or were used and whose contact was not made.
const LOOK: Duration = Duration::from_secs(60);
/// How many of them are looked at in one go.
const SOME: u32 = 100;

/// Why there is no account.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Only those who were invited may make one.
    #[error("no invitation")]
    NotInvited,
    /// The name cannot be one.
    #[error("not a name")]
    Name,
    /// The invitation is for another name.
    #[error("the invitation is for another name")]
    OtherName,
    /// The password cannot be one.
    #[error("not a password")]
    Password,
    /// Too many come from there.
    #[error("too many from this address")]
    TooMany,
    /// The name is somebody's, or kept for somebody.
    #[error("the name is taken")]
    Taken,
    /// The invitation was used or taken back meanwhile.
    #[error("the invitation is used up")]
    Spent,
    /// The database does not do its part.
    #[error("{0}")]
    Storage(#[from] StorageError),
}

impl Refusal {
    /// How it is counted.
    pub fn result(&self) -> RegistrationResult {
        match self {
            Self::NotInvited | Self::Name | Self::OtherName | Self::Password | Self::Spent => {
                RegistrationResult::Refused
            }
            Self::TooMany => RegistrationResult::Throttled,
            Self::Taken => RegistrationResult::Conflict,
            Self::Storage(_) => RegistrationResult::Unavailable,
        }
    }
}

impl From<&Refusal> for StanzaError {
    fn from(refusal: &Refusal) -> Self {
        let not_acceptable =
            |text: &'static str| Self::new(Condition::NotAcceptable).with_text(text);
        match refusal {
            Refusal::NotInvited => {
                Self::new(Condition::NotAllowed).with_text("An invitation is needed.")
            }
            Refusal::Name => not_acceptable("This cannot be a name."),
            Refusal::OtherName => not_acceptable("The invitation is for another name."),
            Refusal::Password => not_acceptable("This cannot be a password."),
            Refusal::TooMany => not_acceptable("Too many accounts are made from there, try later.")
                .with_type(ErrorType::Wait),
            Refusal::Taken => Self::new(Condition::Conflict),
            Refusal::Spent => {
                Self::new(Condition::NotAllowed).with_text("The invitation is used up.")
            }
            Refusal::Storage(_) => {
                Self::new(Condition::InternalServerError).with_type(ErrorType::Wait)
            }
        }
    }
}

/// Who wants an account.
pub struct Applicant<'a> {
    /// The domain of the stream.
    pub domain: &'a str,
    /// The name as it was written.
    pub username: &'a str,
    /// The password.
    pub password: Password,
    /// Where the applicant is.
    pub address: IpAddr,
    /// The invitation that was shown on the stream.
    pub shown: Option<&'a Invitation>,
}

/// Makes the account.
pub async fn register(app: &App, applicant: Applicant<'_>) -> Result<BareJid, Refusal> {
    let Applicant {
        domain,
        username,
        password,
        address,
        shown,
    } = applicant;
    if !app.failures.registrations.take(address, clock::instant()) {
        return Err(Refusal::TooMany);
    }
    if shown.is_none() && app.config.auth.registration != Registration::Open {
        return Err(Refusal::NotInvited);
    }
    let local = prepare_local(username).map_err(|_| Refusal::Name)?;
    let account = BareJid::from_parts(Some(&local), domain).map_err(|_| Refusal::Name)?;
    let reserved = shown.and_then(|shown| shown.reserved.as_ref());
    if reserved.is_some_and(|reserved| *reserved != account) {
        return Err(Refusal::OtherName);
    }
    // Bounded, because each of them costs a core for milliseconds (T-26).
    let permit = app.hashing.acquire().await;
    let derived = tokio::task::spawn_blocking(move || derive_keys(password.reveal()).ok());
    let keys = derived.await.ok().flatten().ok_or(Refusal::Password)?;
    drop(permit);
    let storage = &app.edge.storage;
    match storage
        .register(&account, &keys, clock::now(), shown)
        .await?
    {
        Registered::Made => {}
        Registered::Taken => return Err(Refusal::Taken),
        Registered::Spent => return Err(Refusal::Spent),
    }
    if let Some(shown) = shown
        && let Err(error) = settle(app, shown, &account).await
    {
        tracing::warn!(%account, %error, "who invited it becomes a contact later");
    }
    Ok(account)
}

/// Why an account and who invited it are no contacts yet.
#[derive(Debug, thiserror::Error)]
enum Unsettled {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Said(#[from] revoke::Unsaid),
}

/// An invitation has led to this account: who has invited it becomes a contact, and the invitation is forgotten.
async fn settle(app: &App, used: &Invitation, account: &BareJid) -> Result<(), Unsettled> {
    let edge = &app.edge;
    if let Some(contact) = &used.contact
        && edge.storage.account_exists(contact).await?
        && edge.storage.account_exists(account).await?
    {
        match edge.contacts.befriend(edge, contact, account).await {
            Ok(pushes) => revoke::say(app, contact, pushes).await?,
            // There is no room in a roster, and who has one would rather have the account than nothing.
            Err(error) if error.blames_values() => {
                tracing::info!(%account, %contact, %error, "they do not become contacts");
            }
            Err(error) => return Err(error.into()),
        }
    }
    edge.storage.remove_invitation(&used.id).await?;
    Ok(())
}

/// Forgets invitations that have ended, and makes contacts where a node has died before it did. Runs for as long as the
/// node does.
pub async fn run(app: Arc<App>) {
    loop {
        tokio::time::sleep(LOOK).await;
        if let Err(error) = look(&app).await {
            tracing::debug!(%error, "invitations are looked at later");
        }
    }
}

async fn look(app: &App) -> Result<(), Unsettled> {
    let storage = &app.edge.storage;
    for (used, account) in storage.used_invitations(SOME).await? {
        // Of the nodes that find it one acts.
        if app.cluster.leads(&account) {
            settle(app, &used, &account).await?;
        }
    }
    storage.forget_expired_invitations(clock::now()).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn re_1_each_refusal_has_its_condition() {
        for (refusal, condition, kind) in [
            (
                Refusal::NotInvited,
                Condition::NotAllowed,
                ErrorType::Cancel,
            ),
            (Refusal::Name, Condition::NotAcceptable, ErrorType::Modify),
            (
                Refusal::OtherName,
                Condition::NotAcceptable,
                ErrorType::Modify,
            ),
            (
                Refusal::Password,
                Condition::NotAcceptable,
                ErrorType::Modify,
            ),
            (Refusal::TooMany, Condition::NotAcceptable, ErrorType::Wait),
            (Refusal::Taken, Condition::Conflict, ErrorType::Cancel),
            (Refusal::Spent, Condition::NotAllowed, ErrorType::Cancel),
            (
                Refusal::Storage(StorageError::NotYet),
                Condition::InternalServerError,
                ErrorType::Wait,
            ),
        ] {
            let error = StanzaError::from(&refusal);
            assert_eq!(
                (error.condition, error.kind),
                (condition, kind),
                "{refusal}"
            );
        }
    }
}
