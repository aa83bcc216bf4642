//! Holds what a client says until there is room for what follows from it, and reads no more meanwhile.

use std::collections::BTreeSet;

use cluster::session::{Action, Message, Relay};
use cluster::{Permit, ShardId};
use proto::BareJid;
use proto::stanza::error::{Condition, StanzaError, reply};

use crate::app::App;

/// Waits until what follows from the stanzas may be proposed. Messages that must not wait any longer, as the
/// database is away, are answered with an error instead: they are not handled yet.
pub async fn admit(app: &App, account: &BareJid, stanzas: &mut [Vec<Action>]) -> Permit {
    let (permit, refused) = app.cluster.admit(account, stanzas).await;
    if !refused.is_empty() {
        for action in stanzas.iter_mut().flatten() {
            refuse(app, action, &refused);
        }
    }
    permit
}

/// A message that adds to what waits, and the shard that it goes to.
fn kept<'a>(app: &App, action: &'a Action) -> Option<(&'a Message, ShardId)> {
    let Action::Send(Relay::Message(message)) = action else {
        return None;
    };
    let to = message.packet.header.to.as_ref()?;
    message
        .is_refusable()
        .then(|| (message, app.cluster.shard_of(&to.bare())))
}

fn refuse(app: &App, action: &mut Action, refused: &BTreeSet<ShardId>) {
    let error = kept(app, action).filter(|(_, to)| refused.contains(to));
    let error = error.and_then(|(message, _)| {
        let error = StanzaError::new(Condition::ResourceConstraint);
        reply(&message.packet.header, &error)
    });
    if let Some(error) = error {
        *action = Action::Reply(error);
        app.metrics.refused_messages.inc();
    }
}
