//! Ends the sessions of accounts whose credentials have changed, or that are locked or gone (SM-42).
//!
//! Such changes leave notes in the database, for which every node looks. The node that leads the account's shard ends
//! the sessions, on whichever node they are. A note stays until a leader has acted on it, so a change that is made
//! while no node runs takes effect later.
//!
//! Contacts of an account that is gone are told before its sessions end, and what came for it meanwhile is removed
//! afterwards.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::session::{Action, Command, EndReason, Outcome, Relay, query};
use cluster::{Epoch, ProposeError, Unavailable};
use proto::sasl::Credentials;
use proto::{BareJid, Jid};
use tokio::time::timeout;

use crate::app::App;
use crate::clock;
use crate::storage::{Revocation, StorageError};

/// How often to look for notes. There is hardly ever one, so this costs next to nothing.
const LOOK: Duration = Duration::from_secs(1);
/// For how long a note is left after it was acted upon, so that every node has seen it: all of them remember which
/// accounts there are.
const SEEN: Duration = Duration::from_secs(3);
/// How long it may take to tell contacts before the sessions end. The others are told later.
const TELLING: Duration = Duration::from_secs(2);
/// How many notes are read at a time.
const SOME: u32 = 1_000;

/// Runs for as long as the node does.
pub async fn run(app: Arc<App>) {
    let mut known: HashMap<Revocation, Stage> = HashMap::new();
    loop {
        cluster::beat(LOOK).await;
        let notes = match app.edge.storage.revocations(SOME).await {
            Ok(notes) => notes,
            Err(error) => {
                tracing::debug!(%error, "changed accounts cannot be looked for");
                continue;
            }
        };
        let notes = HashSet::<Revocation>::from_iter(notes);
        known.retain(|note, _| notes.contains(note));
        for note in notes {
            app.edge.accounts.forget(&note.account);
            let now = clock::instant();
            match known.get(&note) {
                Some(Stage::Acted(at)) if now - *at < SEEN => {}
                Some(Stage::Acted(_)) => {
                    if let Err(error) = finish(&app, &note).await {
                        tracing::warn!(%error, "sessions of a changed account may be ended twice");
                    }
                }
                Some(Stage::Seen(at)) if now - *at < note.grace => {}
                None if !note.grace.is_zero() => {
                    known.insert(note, Stage::Seen(now));
                }
                // Without a majority, or a leader, the note is found again.
                Some(Stage::Seen(_)) | None if app.cluster.leads(&note.account) => {
                    match end_all(&app, &note).await {
                        Ok(()) => {
                            known.insert(note, Stage::Acted(clock::instant()));
                        }
                        Err(error) => tracing::debug!(%error, "sessions are ended later"),
                    }
                }
                Some(Stage::Seen(_)) | None => {}
            }
        }
    }
}

/// How far a note has come here.
enum Stage {
    /// It is there since then.
    Seen(Instant),
    /// It was acted upon then.
    Acted(Instant),
}

/// Ends a session if the credentials that its client was checked against are no longer those of its account.
///
/// A stream may authenticate before a change, and open its session after all sessions of the account were ended. So it
/// is checked again once it has a session.
pub async fn confirm(app: Arc<App>, session: Jid, epoch: Epoch, checked: Credentials) {
    let account = session.bare();
    let current = loop {
        match app.edge.accounts.are_current(&account, &checked).await {
            Ok(current) => break current,
            // While the database is away nobody can change credentials either.
            Err(error) if error.is_temporary() => tokio::time::sleep(LOOK).await,
            Err(error) => {
                tracing::warn!(%account, %error, "it is not known whether its credentials are still valid");
                break true;
            }
        }
    };
    if current {
        return;
    }
    tracing::info!(%session, "its credentials are no longer valid");
    let command = || Command::End {
        session: session.clone(),
        epoch: Some(epoch),
        reason: EndReason::Credentials,
    };
    while app.cluster.propose(&account, command()).await.is_err() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Why the sessions of a changed account could not be ended.
#[derive(Debug, thiserror::Error)]
enum NotEnded {
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Read(#[from] Unavailable),
    #[error(transparent)]
    Propose(#[from] ProposeError),
    #[error(transparent)]
    Unsaid(#[from] Unsaid),
    #[error("there are contacts who have not heard of it")]
    Late,
}

/// Why something was not said in the name of an account.
#[derive(Debug, thiserror::Error)]
pub enum Unsaid {
    /// The shard has not taken it.
    #[error(transparent)]
    Propose(#[from] ProposeError),
    /// Some node is older than what would be said.
    #[error("some node of the cluster is too old for it")]
    NotYet,
}

/// Says something in the name of an account, once there is room for what follows from it.
pub async fn say(app: &App, account: &BareJid, relays: Vec<Relay>) -> Result<(), Unsaid> {
    if relays.is_empty() {
        return Ok(());
    }
    let actions = relays.iter().cloned().map(Action::Send).collect();
    let (_permit, _) = app.cluster.admit(account, &[actions]).await;
    let said = app.cluster.propose(account, Command::Send { relays });
    match said.await? {
        Outcome::NotYet { .. } => Err(Unsaid::NotYet),
        _ => Ok(()),
    }
}

/// Tells the contacts of an account that is gone, if there are any that have not heard of it.
async fn tell_contacts(app: &App, account: &BareJid) -> Result<(), NotEnded> {
    let (edge, contacts) = (&app.edge, &app.edge.contacts);
    while let Some(farewell) = contacts.untold(edge, account).await? {
        say(app, account, farewell.relays).await?;
        contacts.told(edge, account, &farewell.contacts).await?;
    }
    Ok(())
}

/// Ends all sessions of an account, live or not, but for one that is spared.
async fn end_all(app: &App, note: &Revocation) -> Result<(), NotEnded> {
    let account = &note.account;
    let told = timeout(TELLING, tell_contacts(app, account)).await;
    // Whoever may not be there any more is sent away in any case, and contacts see at least that.
    end_sessions(app, note).await?;
    told.unwrap_or(Err(NotEnded::Late))
}

async fn end_sessions(app: &App, note: &Revocation) -> Result<(), NotEnded> {
    let account = &note.account;
    let local = account.local().unwrap_or_default();
    let stored = app.edge.storage.account_keys(local, account.domain());
    let reason = match stored.await? {
        Some(_) => EndReason::Credentials,
        None => EndReason::Removed,
    };
    let sessions = query::Sessions {
        account: account.clone(),
    };
    let sessions = app.cluster.query_latest(account, sessions).await?;
    let is_spared =
        |jid: &Jid| reason == EndReason::Credentials && note.spared.as_ref() == Some(jid);
    for session in sessions.into_iter().filter(|s| !is_spared(&s.jid)) {
        tracing::info!(session = %session.jid, ?reason, "the account has changed");
        let command = Command::End {
            session: session.jid,
            epoch: None,
            reason,
        };
        app.cluster.propose(account, command).await?;
    }
    match reason {
        EndReason::Removed => forget(app, account).await,
        _ => Ok(()),
    }
}

/// Nothing is left of the account in its shard.
async fn forget(app: &App, account: &BareJid) -> Result<(), NotEnded> {
    let command = Command::Forget {
        account: account.clone(),
    };
    // An older node takes no such command, and keeps some numbers.
    app.cluster.propose(account, command).await?;
    // The shard's copy of a blocklist goes with the list itself.
    let revision = query::BlocklistRevision {
        account: account.clone(),
    };
    if app.cluster.query_latest(account, revision).await? != 0 {
        let command = Command::ReadBlocklist {
            account: account.clone(),
        };
        app.cluster.propose(account, command).await?;
    }
    Ok(())
}

/// The sessions are over. What they have left of an account that is gone goes as well, and then the note.
async fn finish(app: &App, note: &Revocation) -> Result<(), NotEnded> {
    let storage = &app.edge.storage;
    if storage.wipe_removed(&note.account).await? {
        tell_contacts(app, &note.account).await?;
    }
    storage.revoked(note).await?;
    Ok(())
}
