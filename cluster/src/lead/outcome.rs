//! Turns carried out effects into commands that are no larger than a command may be, however much follows from an
//! effect.
//!
//! If too much follows from an effect for one command, it goes in parts, and the rest of the effect stays pending. What
//! cannot be split is shortened at once, since to carry the effect out again would not make it smaller.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::limit::WRITTEN_BYTES;
use proto::stanza::error::{Condition, StanzaError, reply};
use proto::stanza::{Kind, Packet};
use proto::{BareJid, Jid};
use serde::Serialize;

use crate::session::{Command, Completed, Effect, Fetched, Message, Pending, Relay, Traits};
use crate::{ArchiveId, EffectId, bound, codec};

/// The most bytes of a completion. It leaves room in the command for what surrounds it, such as the effect for the
/// rest.
const MOST: usize = bound::COMMAND - (16 << 10);
const _: () = assert!(WRITTEN_BYTES + (8 << 10) <= MOST);

/// Turns completions into commands that fit into an entry.
pub(super) fn commands(chunk: &[Pending], done: Vec<Completed>) -> Vec<Command> {
    let effects: BTreeMap<EffectId, &Effect> = chunk.iter().map(|p| (p.id, &*p.effect)).collect();
    let (mut commands, mut whole) = (Vec::new(), Vec::new());
    for completed in done {
        let (mut part, rest) = slice(effects.get(&completed.id).copied(), completed);
        shorten(&mut part);
        match rest {
            Some(rest) => commands.push(Command::DoneInPart { part, rest }),
            None => whole.push(part),
        }
    }
    commands.extend(split(whole).into_iter().map(Command::Done));
    commands
}

/// Splits a completion into the part that fits into one entry and the effect that does the rest, if there is a rest.
fn slice(effect: Option<&Effect>, mut completed: Completed) -> (Completed, Option<Effect>) {
    if codec::size(&completed) <= bound::BATCH {
        return (completed, None);
    }
    let rest = match effect {
        Some(Effect::Fetch { session, mids }) => {
            behind(mids, &mut completed.messages).map(|mids| {
                let session = session.clone();
                Effect::Fetch { session, mids }
            })
        }
        Some(Effect::Return { account, mids }) => {
            // The sender of a returned message is told of it, and does not get its content.
            for message in &mut completed.messages {
                message.packet.payload = Bytes::new();
            }
            behind(mids, &mut completed.messages).map(|mids| {
                let account = account.clone();
                Effect::Return { account, mids }
            })
        }
        // Directed presence is known to the shard itself, so the rest needs no list of it.
        Some(Effect::Unavailable { packet, among, .. }) => {
            last(&mut completed.relays).map(|after| Effect::Unavailable {
                packet: packet.clone(),
                directed: Vec::new(),
                after: Some(after),
                among: among.clone(),
            })
        }
        _ => None,
    };
    (completed, rest)
}

/// Removes the messages that do not fit, and returns their ids if there are any.
fn behind(mids: &[ArchiveId], messages: &mut Vec<Fetched>) -> Option<Vec<ArchiveId>> {
    let fits = room(messages.iter());
    let first = messages.drain(fits..).next()?;
    let place = mids.iter().position(|mid| *mid == first.mid)?;
    Some(mids[place..].to_vec())
}

/// Removes the addressees that do not fit. If any were removed, returns the last one that is left.
fn last(relays: &mut [Relay]) -> Option<BareJid> {
    let [Relay::Presence { to, .. }] = relays else {
        return None;
    };
    let fits = room(to.iter());
    let more = to.drain(fits..).next().is_some();
    to.last().map(Jid::bare).filter(|_| more)
}

/// How many of these fill an entry; at least one.
fn room<T: Serialize>(all: impl Iterator<Item = T>) -> usize {
    let mut bytes = 0;
    let fits = all.take_while(|one| {
        bytes += codec::size(one);
        bytes <= bound::BATCH
    });
    fits.count().max(1)
}

/// Groups completions so that each group fits into an entry.
fn split(done: Vec<Completed>) -> Vec<Vec<Completed>> {
    let mut parts: Vec<Vec<Completed>> = Vec::new();
    let mut bytes = 0;
    for completed in done {
        let size = codec::size(&completed);
        bytes += size;
        match parts.last_mut() {
            Some(part) if bytes <= bound::BATCH => part.push(completed),
            _ => {
                bytes = size;
                parts.push(vec![completed]);
            }
        }
    }
    parts
}

/// Shortens a completion until it can be carried: a message or a request is returned to its sender with an error,
/// notices and presence lose their content, and copies of something else are dropped.
fn shorten(completed: &mut Completed) {
    while codec::size(completed) > MOST {
        let messages = completed.messages.iter().map(codec::size).enumerate();
        let message = messages.max_by_key(|(_, size)| *size);
        let relays = completed.relays.iter().map(codec::size).enumerate();
        let relay = relays.max_by_key(|(_, size)| *size);
        let (of_message, of_relay) = (message.map_or(0, |m| m.1), relay.map_or(0, |r| r.1));
        tracing::error!(
            effect = completed.id.0,
            of_message,
            of_relay,
            "what follows from an effect is too large"
        );
        match (message, relay) {
            (Some((place, _)), _) if of_message >= of_relay => {
                let message = completed.messages.remove(place);
                completed.relays.extend(returned(&message.packet));
            }
            (_, Some((place, _))) => {
                let relay = completed.relays.remove(place);
                if let Some(less) = shortened(relay) {
                    completed.relays.insert(place, less);
                }
            }
            // An empty completion is never too large.
            (_, None) => return,
        }
    }
}

/// Shortens a relay, or drops it. The result is always smaller.
fn shortened(mut relay: Relay) -> Option<Relay> {
    match &mut relay {
        Relay::Message(Message { packet, .. }) | Relay::Iq { packet, .. } => returned(packet),
        Relay::Presence { packet, .. }
        | Relay::Announcement { packet, .. }
        | Relay::Subscription(packet)
        | Relay::Unkept { packet, .. } => {
            let shorter = !packet.payload.is_empty();
            packet.payload = Bytes::new();
            shorter.then_some(relay)
        }
        Relay::LastEvents { events, .. } => {
            let shorter = !events.is_empty();
            events.clear();
            shorter.then_some(relay)
        }
        // Clients ask for the whole roster when they log in.
        Relay::RosterPush { .. } => None,
        Relay::Probe { .. }
        | Relay::Hidden { .. }
        | Relay::NoPush { .. }
        | Relay::Blocklist { .. }
        | Relay::Event { .. }
        | Relay::Revealed { .. }
        | Relay::Broadcast { .. }
        | Relay::End { .. }
        | Relay::EndAll { .. } => None,
    }
}

/// Makes the error that tells a stanza's sender that there was no room for it.
fn returned(packet: &Packet) -> Option<Relay> {
    let error = reply(
        &packet.header,
        &StanzaError::new(Condition::ResourceConstraint),
    )?;
    match error.header.kind {
        Kind::Iq(_) => Some(Relay::Iq {
            packet: error,
            permitted: true,
        }),
        Kind::Message(_) => Some(Relay::Message(Message {
            packet: error,
            mid: ArchiveId(0),
            traits: Traits::default(),
        })),
        Kind::Presence(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proto::stanza::{Header, IqType, MessageType, PresenceType};

    use super::super::fake::completed;
    use super::*;
    use crate::session::Among;

    fn fetched(n: u128, bytes: usize) -> Fetched {
        let kind = Kind::Message(MessageType::Chat);
        Fetched {
            mid: ArchiveId(n),
            stamp: 1,
            archived: true,
            packet: Packet {
                header: Header::new(kind),
                payload: vec![b'x'; bytes].into(),
            },
        }
    }

    /// The sizes of the commands that complete an effect which found messages of these sizes.
    fn fetch(sizes: &[usize]) -> Vec<usize> {
        let session: Jid = "a@b/c".parse().expect("valid");
        let messages = (1..).zip(sizes).map(|(n, bytes)| fetched(n, *bytes));
        let mut messages: Vec<Fetched> = messages.collect();
        let mids = messages.iter().map(|message| message.mid).collect();
        let mut effect = Effect::Fetch { session, mids };
        let mut counts = Vec::new();
        loop {
            let pending = Pending {
                id: EffectId(1),
                effect: Arc::new(effect),
            };
            let mut done = completed(&[1]);
            done[0].messages = messages.clone();
            let command = commands(&[pending], done).pop().expect("one");
            assert!(codec::size(&command) <= bound::COMMAND);
            match command {
                Command::DoneInPart { part, rest } => {
                    counts.push(part.messages.len());
                    messages.drain(..part.messages.len());
                    effect = rest;
                }
                Command::Done(done) => {
                    counts.push(done[0].messages.len());
                    return counts;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_an_effect_brings_is_cut_to_the_size_of_an_entry() {
        let most = proto::limit::WRITTEN_BYTES;
        assert_eq!(fetch(&[10, 10, 10]), [3]);
        assert_eq!(fetch(&[]), [0]);
        assert_eq!(fetch(&[most; 3]), [1, 1, 1]);
        assert_eq!(
            fetch(&[bound::BATCH / 2; 5]),
            [1, 1, 1, 1, 1],
            "not quite two"
        );
        assert_eq!(fetch(&[bound::BATCH / 3; 5]), [2, 2, 1]);
        assert_eq!(fetch(&[10, most, 10]), [1, 1, 1]);
    }

    #[test]
    fn all_subscribers_are_told_a_part_after_the_other() {
        let jid = |n: usize| format!("{n:0>1000}@b").parse::<Jid>().expect("valid");
        let all: Vec<Jid> = (0..1000).map(jid).collect();
        let packet = fetched(1, 10).packet;
        let mut effect = Effect::Unavailable {
            packet: packet.clone(),
            directed: Vec::new(),
            after: None,
            among: Among::All,
        };
        let mut told = Vec::new();
        loop {
            let relays = vec![Relay::Presence {
                packet: packet.clone(),
                to: all[told.len()..].to_vec(),
            }];
            let done = Completed {
                relays,
                ..completed(&[1]).remove(0)
            };
            let (part, rest) = slice(Some(&effect), done);
            assert!(codec::size(&part) <= bound::BATCH + 200);
            let [Relay::Presence { to, .. }] = &part.relays[..] else {
                panic!("{part:?}");
            };
            told.extend(to.clone());
            let Some(rest) = rest else { break };
            let Effect::Unavailable { after, .. } = &rest else {
                panic!("{rest:?}");
            };
            assert_eq!(*after, told.last().map(Jid::bare));
            effect = rest;
        }
        assert_eq!(told, all);
    }

    #[test]
    fn completions_are_cut_to_the_size_of_an_entry() {
        let with = |id: u64, bytes: usize| Completed {
            messages: vec![fetched(1, bytes)],
            ..completed(&[id]).remove(0)
        };
        let done = vec![
            with(1, bound::BATCH / 3),
            with(2, bound::BATCH / 3),
            with(3, 10),
            with(4, bound::BATCH / 2),
        ];
        let parts = split(done);
        let counts: Vec<usize> = parts.iter().map(Vec::len).collect();
        assert_eq!(counts, [3, 1]);
        assert_eq!(split(Vec::new()).len(), 0);
    }

    fn packet(kind: Kind, bytes: usize) -> Packet {
        let mut header = Header::new(kind);
        header.from = Some("alice@example.org/a".parse().expect("valid"));
        header.to = Some("bob@example.org/b".parse().expect("valid"));
        Packet {
            header,
            payload: vec![b'x'; bytes].into(),
        }
    }

    /// The only command that an effect becomes from which this follows.
    fn outcome(effect: Effect, relays: Vec<Relay>, messages: Vec<Fetched>) -> Completed {
        let pending = Pending {
            id: EffectId(1),
            effect: Arc::new(effect),
        };
        let done = Completed {
            id: EffectId(1),
            relays,
            messages,
        };
        let mut commands = commands(&[pending], vec![done]);
        let command = commands.pop().expect("one");
        assert!(codec::size(&command) <= bound::COMMAND);
        match command {
            Command::Done(mut done) if commands.is_empty() => done.pop().expect("one"),
            other => panic!("{other:?}"),
        }
    }

    /// What becomes of these, each as `kind: bytes`.
    fn left(relays: Vec<Relay>) -> Vec<String> {
        let packet = packet(Kind::Presence(PresenceType::Subscribe), 0);
        let done = outcome(Effect::Subscription(packet), relays, Vec::new());
        let name = |relay: &Relay| match relay {
            Relay::Iq { packet, .. }
            | Relay::Message(Message { packet, .. })
            | Relay::Announcement { packet, .. }
            | Relay::RosterPush { packet, .. } => {
                format!("{:?} {}", packet.header.kind, packet.payload.len() > 1000)
            }
            other => format!("{other:?}"),
        };
        done.relays.iter().map(name).collect()
    }

    #[test]
    fn what_cannot_be_carried_has_another_outcome_at_once() {
        let most = bound::COMMAND;
        let account = || BareJid::new("bob@example.org").expect("valid");
        let chat = |bytes| {
            Relay::Message(Message {
                packet: packet(Kind::Message(MessageType::Chat), bytes),
                mid: ArchiveId(1),
                traits: Traits::default(),
            })
        };
        let push = |bytes| Relay::RosterPush {
            account: account(),
            packet: packet(Kind::Iq(IqType::Set), bytes),
        };
        let notice = |bytes| Relay::Announcement {
            account: account(),
            packet: packet(Kind::Presence(PresenceType::Subscribe), bytes),
            available: true,
        };
        let ask = |bytes| Relay::Iq {
            packet: packet(Kind::Iq(IqType::Set), bytes),
            permitted: true,
        };
        assert_eq!(left(vec![chat(most)]), ["Message(Error) false"]);
        assert_eq!(left(vec![ask(most)]), ["Iq(Error) false"]);
        let both = left(vec![notice(most * 2 / 3), push(most / 3)]);
        assert_eq!(both, ["Presence(Subscribe) false", "Iq(Set) true"]);
        assert_eq!(left(vec![push(most), ask(10)]), ["Iq(Set) false"]);
        let many = left((0..16).map(|_| ask(most / 8)).collect());
        let refused = many.iter().filter(|kind| *kind == "Iq(Error) false");
        assert_eq!((many.len(), refused.count() > 8), (16, true), "{many:?}");
    }

    #[test]
    fn a_message_that_cannot_be_carried_comes_back_and_those_beside_it_arrive() {
        let kind = Kind::Message(MessageType::Chat);
        let message = |n, bytes| Fetched {
            packet: packet(kind, bytes),
            ..fetched(n, 0)
        };
        let effect = |mids| Effect::Fetch {
            session: "bob@example.org/b".parse().expect("valid"),
            mids,
        };
        let done = outcome(
            effect(vec![ArchiveId(1)]),
            Vec::new(),
            vec![message(1, bound::COMMAND)],
        );
        assert_eq!((done.messages.len(), done.relays.len()), (0, 1));
        // Of one that is to be returned nobody needs to see what it says.
        let account = BareJid::new("bob@example.org").expect("valid");
        let effect = Effect::Return {
            account,
            mids: vec![ArchiveId(1)],
        };
        let done = outcome(effect, Vec::new(), vec![message(1, bound::COMMAND)]);
        assert_eq!((done.messages.len(), done.relays.len()), (1, 0));
    }
}
