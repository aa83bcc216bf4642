//! Commands that change accounts and end sessions.

use cluster::session::{Action, EndReason, Relay};
use proto::stanza::error::{Condition, ErrorType, StanzaError};
use proto::{BareJid, ns};

use super::fields;
use crate::auth::change::{self, AccountError};
use crate::hooks::command::{Done, Outcome, bad_payload};
use crate::hooks::{Call, failure};
use crate::storage::Ends;

/// Makes an account.
pub async fn add(call: Call) -> Result<Outcome, StanzaError> {
    if call.stage == 0 {
        let form = fields::form("Add a user", "Fill in the address and the password.")
            .asking(fields::one_account())
            .asking(fields::password("password", "The password"))
            .asking(fields::password("password-verify", "The password again"));
        return Ok(Outcome::ask(form));
    }
    let form = call.submitted(ns::ADMIN)?;
    let jid = fields::read_account(&call, form)?;
    let password = fields::read_password(form)?;
    let storage = &call.edge.storage;
    match change::add(storage, &jid, password, call.begun).await {
        Ok(()) => {}
        // The account that this very command has made is told by its time.
        Err(error @ AccountError::Exists(_)) => {
            let found = storage.find_account(&jid).await;
            let found = found.map_err(|error| failure(&error))?;
            if found.is_none_or(|found| found.created != call.begun) {
                return Err(refusal(&error));
            }
        }
        Err(error) => return Err(refusal(&error)),
    }
    tracing::info!(account = %call.account, about = %jid, "an account was made");
    Ok(Outcome::done())
}

/// Gives an account another password.
pub async fn change_password(call: Call) -> Result<Outcome, StanzaError> {
    if call.stage == 0 {
        let words = "Sessions of the account end, and its tokens are void.";
        let form = fields::form("Change a user's password", words)
            .asking(fields::one_account())
            .asking(fields::password("password", "The new password"));
        return Ok(Outcome::ask(form));
    }
    let form = call.submitted(ns::ADMIN)?;
    let jid = fields::read_account(&call, form)?;
    let password = fields::read_password(form)?;
    let changed = change::set_password(&call.edge.storage, &jid, password, Ends::ALL).await;
    changed.map_err(|error| refusal(&error))?;
    tracing::info!(account = %call.account, about = %jid, "an account has a new password");
    Ok(Outcome::done())
}

/// Removes accounts.
pub async fn delete(call: Call) -> Result<Outcome, StanzaError> {
    if call.stage == 0 {
        let words = "Their rosters, archives and everything else go with them, for ever.";
        let form = fields::form("Delete users", words).asking(fields::accounts());
        return Ok(Outcome::ask(form));
    }
    let jids = others(&call)?;
    let mut missing = Vec::new();
    for jid in &jids {
        match change::remove(&call.edge.storage, jid, (call.edge.now)(), Ends::ALL).await {
            Ok(()) => {
                tracing::info!(account = %call.account, about = %jid, "an account was removed")
            }
            Err(AccountError::Missing(jid)) => missing.push(jid.to_string()),
            Err(error) => return Err(refusal(&error)),
        }
    }
    all_but(&missing, jids.len())
}

/// Locks or unlocks accounts.
pub async fn set_disabled(call: Call, disabled: bool) -> Result<Outcome, StanzaError> {
    if call.stage == 0 {
        let (title, words) = match disabled {
            true => (
                "Disable users",
                "They cannot log in, and keep what they have.",
            ),
            false => ("Enable users again", "They can log in again."),
        };
        let form = fields::form(title, words).asking(fields::accounts());
        return Ok(Outcome::ask(form));
    }
    let jids = others(&call)?;
    let mut missing = Vec::new();
    for jid in &jids {
        match change::set_disabled(&call.edge.storage, jid, disabled).await {
            Ok(()) => {
                call.edge.accounts.forget(jid);
                tracing::info!(account = %call.account, about = %jid, disabled, "an account was locked or unlocked");
            }
            Err(AccountError::Missing(jid)) => missing.push(jid.to_string()),
            Err(error) => return Err(refusal(&error)),
        }
    }
    all_but(&missing, jids.len())
}

/// Ends sessions: one that is named, or all of an account.
pub async fn end_session(call: Call) -> Result<Outcome, StanzaError> {
    if call.stage == 0 {
        let words = "Of an account without a resource all sessions end. What was on its way is kept or returned.";
        let form = fields::form("End sessions of users", words).asking(fields::accounts());
        return Ok(Outcome::ask(form));
    }
    let jids = fields::read_sessions(&call, call.submitted(ns::ADMIN)?)?;
    let (mut ends, mut missing) = (Vec::new(), Vec::new());
    for jid in &jids {
        let account = jid.bare();
        let sessions = call.edge.presences.sessions(&account).await;
        let reason = EndReason::Admin;
        let found = sessions
            .iter()
            .any(|session| jid.is_bare() || session == jid);
        match (found, jid.is_bare()) {
            (false, _) => missing.push(jid.to_string()),
            (true, true) => ends.push(Relay::EndAll { account, reason }),
            (true, false) => ends.push(Relay::End {
                session: jid.clone(),
                reason,
            }),
        }
    }
    if ends.is_empty() {
        let text = format!("no session of {}", missing.join(", "));
        return Err(StanzaError::new(Condition::ItemNotFound).with_text(text));
    }
    tracing::info!(account = %call.account, about = ?jids, "sessions are ended");
    Ok(Outcome::Done(Done {
        note: note(&missing),
        behind: ends.into_iter().map(Action::Send).collect(),
        ..Done::default()
    }))
}

/// The accounts that were filled in. Nobody locks themselves out.
fn others(call: &Call) -> Result<Vec<BareJid>, StanzaError> {
    let jids = fields::read_accounts(call, call.submitted(ns::ADMIN)?)?;
    match jids.contains(&call.account) {
        true => Err(StanzaError::new(Condition::NotAllowed)
            .with_text("that is the account which asks for it")),
        false => Ok(jids),
    }
}

fn all_but(missing: &[String], all: usize) -> Result<Outcome, StanzaError> {
    match missing.len() == all {
        true => Err(fields::not_there(missing)),
        false => Ok(Outcome::Done(Done {
            note: note(missing),
            ..Done::default()
        })),
    }
}

fn note(missing: &[String]) -> Option<String> {
    (!missing.is_empty()).then(|| format!("There was nothing of {}.", missing.join(", ")))
}

fn refusal(error: &AccountError) -> StanzaError {
    let with = |condition| StanzaError::new(condition).with_text(error.to_string());
    match error {
        AccountError::Exists(_) => with(Condition::Conflict),
        AccountError::Missing(_) => with(Condition::ItemNotFound),
        AccountError::Password(rejected) => bad_payload(rejected.to_string()),
        AccountError::Interrupted => {
            with(Condition::InternalServerError).with_type(ErrorType::Wait)
        }
        AccountError::Storage(error) => failure(error),
    }
}
