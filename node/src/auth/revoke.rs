//! Ends the sessions of accounts whose credentials have changed, or that are locked or gone (SM-42).
//!
//! Every node looks for the notes that such changes leave in the database; the one that leads an account's
//! shard ends its sessions, on whichever node they are. A note that nobody could act upon waits: a change
//! that is made while no node runs counts when they do.

use std::sync::Arc;
use std::time::Duration;

use cluster::ProposeError;
use cluster::session::{Command, EndReason};
use proto::sasl::Credentials;
use proto::{BareJid, Jid};

use crate::app::App;

/// How often is looked. There is hardly ever a note, so that it costs next to nothing.
const LOOK: Duration = Duration::from_secs(1);
/// Notes at a time.
const SOME: u32 = 100;

/// Runs for as long as the node does.
pub async fn run(app: Arc<App>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let notes = match app.edge.storage.revocations(SOME).await {
            Ok(notes) => notes,
            Err(error) => {
                tracing::debug!(%error, "changed accounts cannot be looked for");
                continue;
            }
        };
        for note in notes {
            if !app.cluster.leads(&note.account) {
                continue;
            }
            if end_all(&app, &note.account).await.is_err() {
                // No majority, or no leader any more: the note is found again.
                continue;
            }
            if let Err(error) = app.edge.storage.revoked(&note).await {
                tracing::warn!(%error, "sessions of a changed account may be ended twice");
            }
        }
    }
}

/// Ends a session if the credentials that its client was checked against are no longer those of its account.
///
/// A stream may be authenticated before a change and open its session when those of its account have been
/// ended already: it is checked again when it has one.
pub async fn confirm(app: Arc<App>, session: Jid, epoch: u64, checked: Credentials) {
    let account = session.bare();
    let current = loop {
        match app.edge.accounts.are_current(&account, &checked).await {
            Ok(current) => break current,
            // Nobody can change them meanwhile either.
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

/// Ends all sessions of an account, live or not.
async fn end_all(app: &App, account: &BareJid) -> Result<(), ProposeError> {
    let sessions = app
        .cluster
        .read_latest(account, |shard| shard.sessions(account))
        .await?;
    for session in sessions {
        tracing::info!(session = %session.jid, "its credentials are no longer valid");
        let command = Command::End {
            session: session.jid,
            epoch: None,
            reason: EndReason::Credentials,
        };
        app.cluster.propose(account, command).await?;
    }
    Ok(())
}
