//! Requests that were queued for a session, and those that its client made: each gets exactly one answer (IM-16,
//! SM-63).
//!
//! The client answers, or the session ends and the server does it in its stead. A client that never
//! answers costs bounded memory: who asks when too many requests are open is refused, and those that were taken
//! are not touched.
//!
//! Of the client's own requests it is known which are open: their answers reach it however full its queue is, or it
//! is told that there is no room for them, or its session ends. What answers nothing has no such claim.

use proto::Jid;
use proto::stanza::{Header, IqType, Kind, Packet};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

/// Requests to one session that are open.
pub(super) const OPEN: usize = 256;
/// Of them, those of one account: it leaves room for others.
pub(super) const EACH: usize = 64;

/// Requests of one client to others that are open. A further one is refused.
pub(super) const ASKED: usize = 1024;

/// A request on its way to a client, or with it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Question {
    pub(super) from: Jid,
    pub(super) id: Box<str>,
    pub(super) kind: Ask,
    /// The server has answered: builds before format 2 did so while the session went on.
    pub(super) answered: bool,
}

/// What an IQ of a client is to the shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Request,
    /// The answer to a question that is open.
    Awaited,
    /// The answer to no question that is known.
    Unasked,
    /// The answer to a question that the server has answered already.
    Settled,
}

impl Standing {
    /// Of an IQ of a client whose session is over: nothing is known of its questions.
    pub(super) fn without_session(header: &Header) -> Self {
        match (header.kind, &header.to) {
            (Kind::Iq(IqType::Result | IqType::Error), Some(_)) => Self::Unasked,
            _ => Self::Request,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Ask {
    Get,
    Set,
}

impl Question {
    /// The request in this header, if it is one.
    pub(super) fn new(header: &Header) -> Option<Self> {
        let kind = match header.kind {
            Kind::Iq(IqType::Get) => Ask::Get,
            Kind::Iq(IqType::Set) => Ask::Set,
            _ => return None,
        };
        Some(Self {
            from: header.from.clone()?,
            id: header.id.as_deref().unwrap_or_default().into(),
            kind,
            answered: false,
        })
    }

    /// The request, without its payload, as it was addressed to `to`.
    pub(super) fn packet(&self, to: &Jid) -> Packet {
        let kind = match self.kind {
            Ask::Get => IqType::Get,
            Ask::Set => IqType::Set,
        };
        Packet {
            header: Header {
                kind: Kind::Iq(kind),
                from: Some(self.from.clone()),
                to: Some(to.clone()),
                id: Some((*self.id).into()),
                lang: None,
            },
            payload: bytes::Bytes::new(),
        }
    }
}

/// What is kept of a request to this address.
pub(super) fn hash(to: &Jid, id: Option<&str>) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(to.as_str().as_bytes());
    // No address has this byte.
    hasher.update(&[0]);
    hasher.update(id.unwrap_or_default().as_bytes());
    hasher.digest()
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, jid, packet, stanzas};
    use super::*;
    use crate::session::*;

    const ALICE: &str = "alice@example.org/a";
    const BOB: &str = "bob@example.org/b";

    fn iq(kind: IqType, from: &str, to: &str, id: usize) -> Action {
        let mut packet = packet(Kind::Iq(kind), from, Some(to));
        packet.header.id = Some(id.to_string().into());
        Action::Send(Relay::Iq {
            packet,
            permitted: true,
        })
    }

    /// Ends bob's session; ids of the errors that alice gets.
    fn end(stage: &mut Stage) -> Vec<String> {
        let end = Command::End {
            session: jid(BOB),
            epoch: None,
            reason: EndReason::Admin,
        };
        errors(&stage.apply(end).1)
    }

    fn errors(outputs: &[Output]) -> Vec<String> {
        let errors = outputs.iter().filter_map(|o| match &o.event {
            Event::Stanza { item, .. } if item.packet.header.kind == Kind::Iq(IqType::Error) => {
                assert_eq!(
                    (o.session.as_str(), item.packet.header.from.clone()),
                    (ALICE, Some(jid(BOB)))
                );
                item.packet.header.id.as_deref().map(str::to_owned)
            }
            _ => None,
        });
        errors.collect()
    }

    /// Alice asks while bob's session is awake or asleep, and he has acknowledged the question or not; then
    /// the session ends.
    #[test]
    fn im_16_a_question_that_a_session_takes_with_it_is_answered_once() {
        for (asleep, acknowledged) in [(false, false), (false, true), (true, false)] {
            let mut stage = Stage::new();
            stage.bind(ALICE, None);
            stage.resumable(BOB, None);
            if asleep {
                stage.lose(BOB);
            }
            stage.act(ALICE, iq(IqType::Get, ALICE, BOB, 7));
            if acknowledged {
                stage.acknowledge(BOB, 2);
            }
            if !asleep {
                stage.lose(BOB);
            }
            assert_eq!(
                end(&mut stage),
                ["7"],
                "asleep {asleep}, acknowledged {acknowledged}"
            );
        }
    }

    #[test]
    fn im_16_an_answered_question_is_not_answered_again() {
        for kind in [IqType::Result, IqType::Error] {
            let mut stage = Stage::new();
            stage.bind(ALICE, None);
            stage.resumable(BOB, None);
            stage.act(ALICE, iq(IqType::Set, ALICE, BOB, 7));
            let outputs = stage.act(BOB, iq(kind, BOB, ALICE, 7));
            assert_eq!(stanzas(&outputs), [(ALICE.into(), Kind::Iq(kind))]);
            assert!(end(&mut stage).is_empty());
        }
    }

    #[test]
    fn im_16_one_account_has_so_many_questions_open_and_the_others_are_answered_once() {
        let mut stage = Stage::new();
        stage.bind(ALICE, None);
        stage.resumable(BOB, None);
        let mut refused = Vec::new();
        for id in 0..EACH + 2 {
            refused.extend(errors(&stage.act(ALICE, iq(IqType::Get, ALICE, BOB, id))));
        }
        assert_eq!(refused, [EACH.to_string(), (EACH + 1).to_string()]);
        // Each answer makes room for a question.
        assert_eq!(stage.act(BOB, iq(IqType::Result, BOB, ALICE, 0)).len(), 1);
        let outputs = stage.act(ALICE, iq(IqType::Get, ALICE, BOB, EACH + 2));
        assert!(errors(&outputs).is_empty());
        let rest = end(&mut stage);
        assert_eq!((rest.len(), &*rest[0]), (EACH, "1"));
    }

    #[test]
    fn im_16_a_session_has_so_many_questions_open() {
        let mut stage = Stage::new();
        stage.resumable(BOB, None);
        let mut taken = 0;
        for account in 0..=OPEN / EACH {
            let asker = format!("asker{account}@example.org/a");
            stage.bind(&asker, None);
            for id in 0..EACH {
                let outputs = stage.act(&asker, iq(IqType::Get, &asker, BOB, id));
                let heard = stanzas(&outputs);
                match taken < OPEN {
                    true => assert_eq!(heard, [(BOB.into(), Kind::Iq(IqType::Get))]),
                    false => assert_eq!(heard, [(asker.clone(), Kind::Iq(IqType::Error))]),
                }
                taken += 1;
            }
        }
    }
}
