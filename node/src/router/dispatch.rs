//! Requests that the server answers by itself: from the stanza to the handler and back to the reply.

use cluster::session::Action;
use proto::limit::WRITTEN_BYTES;
use proto::stanza::error::{Condition, StanzaError};
use proto::stanza::{Header, IqType, Kind, Stanza};
use proto::{BareJid, Element};

use super::context::SessionContext;
use crate::hooks::{Reply, Request, Scope, Verb, refuse};

/// Answers an iq to the server, to the sender's own account or to that of somebody else.
///
/// `target` is the bare JID or the domain; that it exists has been checked. Results and errors are
/// answers to our own requests, such as roster pushes, and end here (IM-23).
pub(super) async fn dispatch(
    ctx: &SessionContext,
    scope: Scope,
    target: BareJid,
    stanza: Stanza,
) -> Vec<Action> {
    let Stanza { header, payload } = stanza;
    let verb = match header.kind {
        Kind::Iq(IqType::Get) => Verb::Get,
        Kind::Iq(IqType::Set) => Verb::Set,
        _ => return Vec::new(),
    };
    match answer(ctx, scope, target, verb, &header, payload).await {
        Ok(reply) => finish(&header, reply).unwrap_or_else(|error| refuse(&header, &error)),
        Err(error) => refuse(&header, &error),
    }
}

async fn answer(
    ctx: &SessionContext,
    scope: Scope,
    target: BareJid,
    verb: Verb,
    header: &Header,
    mut payload: Vec<Element>,
) -> Result<Reply, StanzaError> {
    let (Some(element), true) = (payload.pop(), payload.is_empty()) else {
        return Err(StanzaError::new(Condition::BadRequest));
    };
    let Some(entry) = ctx.services.handler(verb, scope, &element) else {
        return Err(StanzaError::new(Condition::ServiceUnavailable));
    };
    (entry.0)(Request {
        edge: ctx.edge.clone(),
        features: ctx.services.features().clone(),
        commands: ctx.services.commands().clone(),
        session: ctx.session.clone(),
        account: ctx.account.clone(),
        target,
        scope,
        id: header.id.clone().unwrap_or_default(),
        payload: element,
    })
    .await
}

/// The reply, between what comes before it and what comes behind; or, if it is larger than a stanza may be, a
/// refusal and nothing else.
fn finish(request: &Header, reply: Reply) -> Result<Vec<Action>, StanzaError> {
    let mut result = Stanza::result(request);
    result.payload.extend(reply.payload);
    let result = result.pack();
    if result.size() > WRITTEN_BYTES {
        return Err(StanzaError::new(Condition::ResourceConstraint));
    }
    let mut actions = reply.before;
    actions.push(Action::Reply(result));
    actions.extend(reply.behind);
    Ok(actions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_no_larger_than_a_stanza() {
        let request = Header {
            id: Some("1".into()),
            ..Header::new(Kind::Iq(IqType::Get))
        };
        let answered = |text: usize| {
            let payload = Element::new("x", "y").with_text(&"z".repeat(text));
            finish(&request, Reply::new(payload).after(Action::Interested))
        };
        let overhead = match &answered(0).unwrap()[..] {
            // An empty element is written in short.
            [Action::Interested, Action::Reply(packet)] => packet.size() + "</x>".len() - 1,
            other => panic!("{other:?}"),
        };
        for fits in [WRITTEN_BYTES - 1, WRITTEN_BYTES] {
            assert!(answered(fits - overhead).is_ok());
        }
        let refused = answered(WRITTEN_BYTES + 1 - overhead).unwrap_err();
        assert_eq!(refused, StanzaError::new(Condition::ResourceConstraint));
    }
}
