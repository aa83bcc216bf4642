//! What the roster makes of presence: whom a broadcast goes to, and what a request changes.

use proto::stanza::Kind;
use proto::stanza::error::StanzaError;

use super::settings::Quotas;
use super::subscription::Request;
use super::{contact, subscribe};
use crate::hooks::{Hook, Presence, Sender, Turn, failure, later};
use crate::storage::StorageError;

/// Carries out requests, and adds the audience of broadcasts.
pub struct Audience {
    /// What a roster may take.
    pub quotas: Quotas,
}

impl Hook<Presence> for Audience {
    fn turn<'a>(
        &'a self,
        sender: Sender<'a>,
        presence: &'a mut Presence,
    ) -> Turn<'a, Result<(), StanzaError>> {
        later(async move {
            let Kind::Presence(kind) = presence.stanza.header.kind else {
                return Ok(());
            };
            match (Request::of(kind), presence.stanza.header.to.clone()) {
                (Some(request), Some(to)) => {
                    let follow =
                        subscribe::resolve(sender, self.quotas, request, &to, &mut presence.stanza);
                    presence.follow.extend(follow.await?);
                    Ok(())
                }
                (Some(_), None) => Ok(()),
                (None, _) => audience(sender, presence)
                    .await
                    .map_err(|error| failure(&error)),
            }
        })
    }
}

async fn audience(sender: Sender<'_>, presence: &mut Presence) -> Result<(), StorageError> {
    let (edge, account) = (sender.edge, sender.account);
    match presence.initial {
        false => presence.subscribers = contact::subscribers(edge, account).await?,
        true => {
            (presence.subscribers, presence.probes, presence.requests) =
                contact::audience(edge, account).await?;
        }
    }
    Ok(())
}
