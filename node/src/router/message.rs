//! Messages (IM-B). Whether and to which sessions a message is delivered is the shard's decision; here it
//! gets its archive id and its traits, and loses what only a server may say.

use cluster::session::{Action, Message, Relay};
use proto::stanza::MessageType;
use proto::stanza::Stanza;
use proto::stanza::error::{Condition, StanzaError};

use super::{SessionContext, Target, classify, fail, target};

pub(super) async fn resolve(
    ctx: &SessionContext,
    kind: MessageType,
    mut stanza: Stanza,
) -> Result<Vec<Action>, StanzaError> {
    classify::strip(&mut stanza, |domain| ctx.edge.serves(domain));
    let account = match target(ctx, stanza.header.to.as_ref()) {
        Target::Remote if kind == MessageType::Error => return Ok(Vec::new()),
        Target::Remote => return fail(Condition::RemoteServerNotFound),
        Target::Host(_) if kind == MessageType::Error => return Ok(Vec::new()),
        Target::Host(_) => return fail(Condition::ServiceUnavailable),
        Target::Own => {
            // Only an absent address is filled in: one that was written stays (IM-4).
            stanza
                .header
                .to
                .get_or_insert_with(|| ctx.account.clone().into());
            ctx.account.clone()
        }
        Target::Account(account) => account,
        Target::Session(session) => session.bare(),
    };
    if account != ctx.account && !ctx.edge.exists(&account).await? {
        return match kind {
            MessageType::Error | MessageType::Headline => Ok(Vec::new()),
            MessageType::Normal | MessageType::Chat | MessageType::Groupchat => {
                fail(Condition::ServiceUnavailable)
            }
        };
    }
    let traits = classify::traits(&stanza);
    let message = Message {
        packet: stanza.pack(),
        mid: ctx.edge.mid(),
        traits,
    };
    Ok(vec![Action::Send(Relay::Message(message))])
}
