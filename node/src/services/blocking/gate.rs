//! What blocklists have to say where the shards do not decide: about requests of presence, whose half is written to
//! the roster before the shard hears of it, about logins, and about what the server answers by itself.

use cluster::session::{Action, Completed, Effect, Relay};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use proto::payload::blocking::refusal;
use proto::stanza::error::StanzaError;
use proto::stanza::{Kind, PresenceType};
use proto::{BareJid, Jid};

use crate::hooks::{
    Barrier, Blocking, EffectHook, Presence, Sender, Turn, Work, at_once, failure, followed_by,
    later,
};
use crate::storage::{Storage, StorageError};

/// Looks into the lists of both.
pub struct Lists;

impl Blocking for Lists {
    fn between<'a>(
        &'a self,
        storage: &'a Storage,
        sender: &'a Jid,
        to: &'a Jid,
    ) -> BoxFuture<'a, Result<Option<Barrier>, StorageError>> {
        storage.barrier(sender, to).boxed()
    }

    fn blockers<'a>(
        &'a self,
        storage: &'a Storage,
        accounts: &'a [BareJid],
        peer: &'a Jid,
    ) -> BoxFuture<'a, Result<Vec<BareJid>, StorageError>> {
        storage.blockers(accounts, peer).boxed()
    }
}

/// A request to a blocked contact changes no roster: whoever wants to see it is told, the rest is dropped (IM-70).
pub fn requests<'a>(
    sender: Sender<'a>,
    presence: &'a mut Presence,
) -> Turn<'a, Result<(), StanzaError>> {
    let header = &presence.stanza.header;
    let is_request = matches!(
        header.kind,
        Kind::Presence(
            PresenceType::Subscribe
                | PresenceType::Subscribed
                | PresenceType::Unsubscribe
                | PresenceType::Unsubscribed
        )
    );
    let (kind, Some(to), true) = (header.kind, header.to.clone(), is_request) else {
        return at_once(Ok(()));
    };
    later(async move {
        let edge = sender.edge;
        let between = edge.storage.barrier(sender.session, &to).await;
        let between = between.map_err(|error| failure(&error))?;
        match (between, kind) {
            (Some(Barrier::Own), Kind::Presence(PresenceType::Subscribe)) => Err(refusal()),
            (Some(Barrier::Own), _) => {
                presence.dropped = true;
                Ok(())
            }
            _ => Ok(()),
        }
    })
}

/// A session that becomes available has the shard look whether it knows the account's list, for that may have come
/// from elsewhere: another cluster had the database, or it was brought back from a copy.
pub fn logins<'a>(
    sender: Sender<'a>,
    presence: &'a mut Presence,
) -> Turn<'a, Result<(), StanzaError>> {
    if !presence.initial {
        return at_once(Ok(()));
    }
    later(async move {
        let revision = sender.edge.storage.blocklist_revision(sender.account).await;
        let revision = revision.map_err(|error| failure(&error))?;
        presence.follow.push(Action::BlocklistAt(revision));
        Ok(())
    })
}

/// Reads lists for shards.
pub struct Readings;

impl EffectHook for Readings {
    fn takes(&self, effect: &Effect) -> bool {
        matches!(effect, Effect::Blocklist(_))
    }

    fn perform<'a>(
        &'a self,
        work: Work<'a>,
        done: &'a mut Vec<Completed>,
    ) -> BoxFuture<'a, Result<(), StorageError>> {
        async move {
            for pending in work.effects {
                let Effect::Blocklist(account) = &*pending.effect else {
                    continue;
                };
                let list = work.edge.storage.blocklist(account).await?;
                let relay = Relay::Blocklist {
                    account: account.clone(),
                    revision: list.revision,
                    jids: list.jids,
                };
                done.push(followed_by(pending, vec![relay]));
            }
            Ok(())
        }
        .boxed()
    }
}
