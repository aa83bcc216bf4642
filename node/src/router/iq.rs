//! Iq stanzas (IM-D): those to a session go there, all others are answered by the server itself.

use cluster::session::{Action, Relay};
use proto::stanza::error::{Condition, StanzaError};
use proto::stanza::{IqType, Kind, Stanza};
use proto::{BareJid, Jid};

use super::{SessionContext, Target, contact, fail, target};
use crate::hooks::{Scope, iq::dispatch};

pub(super) async fn resolve(
    ctx: &SessionContext,
    stanza: Stanza,
) -> Result<Vec<Action>, StanzaError> {
    let request = matches!(stanza.header.kind, Kind::Iq(IqType::Get | IqType::Set));
    match target(ctx, stanza.header.to.as_ref()) {
        Target::Remote if request => fail(Condition::RemoteServerNotFound),
        Target::Session(session) => relay(ctx, request, session, stanza).await,
        // The answer to a roster push, or to nothing.
        _ if !request => Ok(Vec::new()),
        Target::Own => Ok(dispatch(ctx, Scope::Account, ctx.account.clone(), stanza).await),
        Target::Host(domain) => Ok(dispatch(ctx, Scope::Host, domain, stanza).await),
        Target::Account(account) => of_contact(ctx, account, stanza).await,
        Target::Remote => Ok(Vec::new()),
    }
}

/// A stranger cannot tell an account that does not exist from one that does not answer (ST-81).
async fn of_contact(
    ctx: &SessionContext,
    account: BareJid,
    stanza: Stanza,
) -> Result<Vec<Action>, StanzaError> {
    if !ctx.edge.exists(&account).await? {
        return fail(Condition::ServiceUnavailable);
    }
    Ok(dispatch(ctx, Scope::Contact, account, stanza).await)
}

/// A request reaches a session whose account lets the sender see its presence (IM-D); the shard adds
/// those to whom that session has sent directed presence (IM-15).
async fn relay(
    ctx: &SessionContext,
    request: bool,
    session: Jid,
    stanza: Stanza,
) -> Result<Vec<Action>, StanzaError> {
    let account = session.bare();
    let permitted = !request
        || account == ctx.account
        || contact::sees(&ctx.edge, &ctx.account, &account).await?;
    Ok(vec![Action::Send(Relay::Iq {
        packet: stanza.pack(),
        permitted,
    })])
}
