//! What follows from the stanzas of one job, in order, within what a command can carry.

use std::collections::VecDeque;

use cluster::connection::inbox::Work;
use cluster::session::{Action, Relay};
use cluster::{ArchiveId, bound, codec};
use proto::Jid;
use proto::stanza::error::{Condition as Refusal, StanzaError};
use proto::stanza::{Header, Kind, PresenceType};

use crate::hooks::refuse;
use crate::router::{self, SessionContext};
use crate::trace::Trail;

/// What one stanza amounts to may take so many bytes: a command that holds nothing else has room for them.
const STANZA_BYTES: usize = bound::COMMAND - (8 << 10);

/// Leaves a trail of the messages among what stanzas amount to.
pub(super) fn accepted(trail: &Trail, stanzas: &[Vec<Action>]) -> Vec<ArchiveId> {
    let messages = stanzas.iter().flatten().filter_map(|action| match action {
        Action::Send(Relay::Message(message)) => Some(message),
        _ => None,
    });
    let accept = messages.inspect(|message| {
        trail.accepted(message.mid, message.packet.header.id.as_deref());
    });
    accept.map(|message| message.mid).collect()
}

/// What was asked of the account is answered by the account (ST-68).
fn address(header: &mut Header, context: &SessionContext) {
    header
        .from
        .get_or_insert_with(|| Jid::from(context.account.clone()));
    header.to.get_or_insert_with(|| context.session.clone());
}

/// Resolves stanzas in order, each of which sees what those before it changed, until what they amount to fills a
/// command. The others are left for the next one: however much a few bytes ask for, no more is made than can be
/// carried, and the client is read as fast as its answers are.
pub(super) async fn resolve(
    context: &mut SessionContext,
    stanzas: &mut VecDeque<Work>,
) -> Vec<Vec<Action>> {
    let mut resolved = Vec::with_capacity(stanzas.len());
    let mut bytes = 0;
    while bytes < bound::BATCH
        && let Some(work) = stanzas.pop_front()
    {
        let actions = match work {
            Work::Stanza(stanza) => {
                let header = stanza.header.clone();
                bounded(context, header, router::resolve(context, stanza).await)
            }
            Work::Answer(Some(reply)) => vec![Action::Reply(reply)],
            _ => Vec::new(),
        };
        bytes += codec::size(&actions);
        resolved.push(settled(context, actions));
    }
    resolved
}

/// What follows from a stanza, or a refusal if that is more than one command can carry.
fn bounded(context: &SessionContext, mut header: Header, actions: Vec<Action>) -> Vec<Action> {
    let bytes = codec::size(&actions);
    if bytes <= STANZA_BYTES {
        return actions;
    }
    tracing::info!(session = %context.session, bytes, "a stanza asks for more than can be carried");
    header.from = Some(context.session.clone());
    refuse(&header, &StanzaError::new(Refusal::ResourceConstraint))
}

/// The actions with their addresses; their session knows what they change.
fn settled(context: &mut SessionContext, mut actions: Vec<Action>) -> Vec<Action> {
    for action in &mut actions {
        match action {
            Action::Reply(packet) => address(&mut packet.header, context),
            Action::Presence(update) => {
                let kind = update.packet.header.kind;
                context.available = kind == Kind::Presence(PresenceType::Available);
            }
            _ => {}
        }
    }
    actions
}

#[cfg(test)]
mod tests {
    use cluster::session::PresenceUpdate;
    use proto::stanza::{IqType, MessageType, Packet, Stanza};
    use proto::{Element, ns};

    use super::*;
    use crate::router::testing::{edge, session};

    fn answer(bytes: usize) -> Packet {
        Packet {
            header: Header::new(Kind::Iq(IqType::Result)),
            payload: vec![b'x'; bytes].into(),
        }
    }

    #[tokio::test]
    async fn a_command_takes_no_more_answers_once_it_is_full() {
        let mut context = session(&edge().await, "alice@example.org/desk");
        let half = Work::Answer(Some(answer(bound::BATCH / 2)));
        let rest = (0..62).map(|_| Work::Answer(Some(answer(bound::BATCH / 2))));
        let mut stanzas: VecDeque<Work> = [half].into_iter().chain(rest).collect();
        let mut counts = Vec::new();
        while !stanzas.is_empty() {
            let resolved = resolve(&mut context, &mut stanzas).await;
            assert!(codec::size(&resolved) <= bound::COMMAND);
            counts.push(resolved.len());
        }
        assert_eq!((counts[0], counts.iter().sum::<usize>()), (2, 63));
    }

    #[tokio::test]
    async fn small_stanzas_are_resolved_together() {
        let mut context = session(&edge().await, "alice@example.org/desk");
        let chat = || {
            let body = Element::new("body", ns::CLIENT).with_text("hi");
            let chat = Stanza::new(Kind::Message(MessageType::Chat)).with_child(body);
            Work::Stanza(chat.with_to("bob@example.org".parse().unwrap()))
        };
        let mut stanzas: VecDeque<Work> = (0..64).map(|_| chat()).collect();
        assert_eq!(resolve(&mut context, &mut stanzas).await.len(), 64);
        assert!(stanzas.is_empty());
    }

    #[tokio::test]
    async fn what_no_command_can_carry_is_refused_and_not_a_byte_less() {
        let context = session(&edge().await, "alice@example.org/desk");
        let header = Header {
            id: Some("1".into()),
            ..Header::new(Kind::Presence(PresenceType::Available))
        };
        let update = |bytes: usize| {
            Action::Presence(PresenceUpdate {
                packet: answer(bytes),
                priority: 0,
                subscribers: Vec::new(),
                probes: Vec::new(),
                requests: Vec::new(),
            })
        };
        let overhead = codec::size(&vec![update(1 << 18)]) - (1 << 18);
        let at = |bytes: usize| bounded(&context, header.clone(), vec![update(bytes - overhead)]);
        for fits in [STANZA_BYTES - 1, STANZA_BYTES] {
            let actions = at(fits);
            assert_eq!(codec::size(&actions), fits);
            assert!(matches!(actions[..], [Action::Presence(_)]));
        }
        let [Action::Reply(refusal)] = &at(STANZA_BYTES + 1)[..] else {
            panic!("not refused");
        };
        let text = String::from_utf8_lossy(&refusal.payload).into_owned();
        assert!(text.contains("resource-constraint"), "{text}");
        assert_eq!(refusal.header.to.as_ref(), Some(&context.session));
    }
}
