//! Edges in the simulation: what a node does for one connection.

use std::collections::VecDeque;

use bytes::Bytes;
use proto::stanza::{Header, IqType, Kind, MessageType, Packet, PresenceType};
use proto::{BareJid, Jid};

use super::client::{Down, SEED, Up};
use super::presence::{Shown, is_subscriber};
use super::shards::mid;
use crate::id::{Owner, SmId};
use crate::session::{
    Acknowledge, Action, Bind, Command, Copied, Direction, Enable, Event, Inbound, Item, Message,
    Outcome, Output, PresenceUpdate, Relay, Resume, Traits,
};

/// Hibernation time in the simulation, in seconds.
pub(super) const MAX: u32 = 60;

/// One connection.
pub(super) struct Conn {
    pub(super) owner: Owner,
    pub(super) client: usize,
    pub(super) account: BareJid,
    /// The client is still at the other end.
    pub(super) linked: bool,
    /// The edge still acts for it.
    pub(super) alive: bool,
    pub(super) up: VecDeque<Up>,
    pub(super) down: VecDeque<Down>,
    pub(super) session: Option<Jid>,
    pub(super) epoch: crate::id::Epoch,
    in_flight: bool,
    next_in: u64,
    /// (number, h): the inbound count before that number.
    inbound_base: Option<(u64, u32)>,
    /// (number, h): the outbound count before that number.
    outbound_base: Option<(u64, u32)>,
    expected: u64,
}

impl Conn {
    pub(super) fn new(owner: Owner, client: usize, account: BareJid, up: Vec<Up>) -> Self {
        Self {
            owner,
            client,
            account,
            linked: true,
            alive: true,
            up: up.into(),
            down: VecDeque::new(),
            session: None,
            epoch: Default::default(),
            in_flight: false,
            next_in: 1,
            inbound_base: None,
            outbound_base: None,
            expected: 1,
        }
    }

    /// The next thing to propose. One proposal is in flight, but for acknowledgements.
    pub(super) fn work(&mut self, accounts: &[BareJid], early_ack: bool) -> Option<Command> {
        if !self.alive || self.in_flight {
            return None;
        }
        let command = match self.up.front()? {
            Up::Bind(jid) => {
                self.session = Some(jid.clone());
                let bind = Bind {
                    session: jid.clone(),
                    owner: self.owner,
                };
                self.up.pop_front();
                Command::Bind(bind)
            }
            Up::Resume { smid, h } => {
                let resume = Resume {
                    account: self.account.clone(),
                    smid: smid.clone(),
                    h: *h,
                    owner: self.owner,
                };
                self.up.pop_front();
                Command::Resume(resume)
            }
            Up::Enable => {
                self.up.pop_front();
                Command::Enable(Enable {
                    session: self.session.clone()?,
                    epoch: self.epoch,
                    after: self.next_in - 1,
                    smid: Some(SmId(
                        format!("{}-{}", self.owner.boot.0, self.owner.conn.0).into(),
                    )),
                    max: MAX,
                    seed: SEED,
                })
            }
            Up::Ack(h) => {
                let (number, base) = self.outbound_base?;
                let upto = number + u64::from(h.wrapping_sub(base));
                self.up.pop_front();
                return Some(Command::Acknowledge(Acknowledge {
                    session: self.session.clone()?,
                    epoch: self.epoch,
                    upto,
                }));
            }
            Up::Available(_)
            | Up::Direct(..)
            | Up::Carbons
            | Up::Send { .. }
            | Up::Ask { .. }
            | Up::Answer { .. } => Command::Inbound(self.inbound(accounts, early_ack)?),
        };
        self.in_flight = true;
        Some(command)
    }

    fn inbound(&mut self, accounts: &[BareJid], early_ack: bool) -> Option<Inbound> {
        let session = self.session.clone()?;
        let mut stanzas = Vec::new();
        while stanzas.len() < 4 {
            let action = match self.up.front() {
                Some(Up::Available(number)) => Action::Presence(PresenceUpdate {
                    packet: here(&session, *number),
                    priority: 0,
                    subscribers: contacts(accounts, |other| is_subscriber(other, &self.account)),
                    probes: contacts(accounts, |other| is_subscriber(&self.account, other)),
                    requests: Vec::new(),
                }),
                Some(Up::Direct(to, number)) => {
                    let mut packet = here(&session, *number);
                    packet.header.to = Some(to.clone());
                    Action::Directed(packet)
                }
                Some(Up::Carbons) => Action::Carbons(true),
                Some(Up::Send { uid, to }) => {
                    Action::Send(Relay::Message(message(*uid, &session, to)))
                }
                Some(Up::Ask { uid, to }) => Action::Send(iq(IqType::Get, *uid, &session, to)),
                Some(Up::Answer { uid, to }) => {
                    Action::Send(iq(IqType::Result, *uid, &session, to))
                }
                _ => break,
            };
            self.up.pop_front();
            stanzas.push(vec![action]);
        }
        let inbound = Inbound {
            session,
            epoch: self.epoch,
            first: self.next_in,
            stanzas,
        };
        if early_ack {
            self.acknowledge(inbound.first + inbound.stanzas.len() as u64);
        }
        Some(inbound)
    }

    fn acknowledge(&mut self, next: u64) {
        if let Some((number, h)) = self.inbound_base {
            self.down
                .push_back(Down::Ack(h.wrapping_add((next - number) as u32)));
        }
    }

    /// The answer to the proposal in flight.
    pub(super) fn outcome(&mut self, outcome: Outcome) -> Result<(), String> {
        self.in_flight = false;
        match outcome {
            Outcome::Bound { epoch } => self.epoch = epoch,
            Outcome::Resumed { session, epoch } => {
                self.session = Some(session);
                self.epoch = epoch;
            }
            Outcome::NotResumed { h } => self.down.push_back(Down::Failed { h }),
            Outcome::Handled { next } => {
                self.next_in = next;
                self.acknowledge(next);
            }
            Outcome::Done => {}
            Outcome::Stale => self.alive = false,
            // A connection that another has overtaken. That the session goes on is looked at elsewhere.
            Outcome::CountTooHigh { .. } if !self.linked => self.alive = false,
            Outcome::CountTooHigh { h, sent } => {
                return Err(format!(
                    "an honest client's {h} is refused, {sent} were sent (I-1)"
                ));
            }
            other => return Err(format!("unexpected answer {other:?}")),
        }
        Ok(())
    }

    /// What the replica on this node says, in order.
    pub(super) fn output(&mut self, output: Output) -> Result<(), String> {
        if !self.alive {
            return Ok(());
        }
        match output.event {
            Event::Bound => {
                self.epoch = output.epoch;
                // Without stream management a client acknowledges all that it has read.
                self.outbound_base = Some((1, 0));
                self.down.push_back(Down::Bound);
            }
            Event::Enabled {
                smid, next, seed, ..
            } => {
                self.inbound_base = Some((self.next_in, seed));
                self.outbound_base = Some((next, seed));
                let smid = smid.ok_or("enabled without an identifier")?;
                self.down.push_back(Down::Enabled { smid });
            }
            Event::Resumed(resumed) => {
                self.session = Some(output.session);
                self.epoch = output.epoch;
                self.next_in = resumed.next_in;
                self.inbound_base = Some((resumed.next_in, resumed.h));
                self.outbound_base = Some((resumed.next_out, resumed.acked));
                self.expected = resumed.next_out;
                self.down.push_back(Down::Resumed { h: resumed.h });
            }
            Event::Stanza { seq, item } => {
                if seq > self.expected {
                    return Err(format!(
                        "{}: {seq} came where {} was due",
                        output.session, self.expected
                    ));
                }
                if seq == self.expected {
                    self.expected += 1;
                    self.down.push_back(read(&item));
                }
            }
            Event::Detached(_) => self.alive = false,
        }
        Ok(())
    }
}

fn packet(kind: Kind, from: &Jid, to: Option<&Jid>, payload: Bytes) -> Packet {
    Packet {
        header: Header {
            kind,
            from: Some(from.clone()),
            to: to.cloned(),
            id: None,
            lang: None,
        },
        payload,
    }
}

fn here(from: &Jid, session: u32) -> Packet {
    let payload = Shown::Here(session).write().into();
    packet(Kind::Presence(PresenceType::Available), from, None, payload)
}

fn contacts(accounts: &[BareJid], is_one: impl Fn(&BareJid) -> bool) -> Vec<BareJid> {
    accounts.iter().filter(|a| is_one(a)).cloned().collect()
}

fn iq(kind: IqType, uid: u64, from: &Jid, to: &Jid) -> Relay {
    let mut packet = packet(Kind::Iq(kind), from, None, Bytes::new());
    packet.header.to = Some(to.clone());
    packet.header.id = Some(uid.to_string().into());
    Relay::Iq {
        packet,
        permitted: true,
    }
}

fn message(uid: u64, from: &Jid, to: &Jid) -> Message {
    let payload = Bytes::from(uid.to_string());
    Message {
        packet: packet(Kind::Message(MessageType::Chat), from, Some(to), payload),
        mid: mid(uid),
        traits: Traits {
            archive_sent: true,
            // Some are kept out of the archive, and hidden while they wait.
            archive_received: !uid.is_multiple_of(3),
            offline: true,
            carbon: true,
            important: true,
        },
    }
}

fn read(item: &Item) -> Down {
    let packet = &item.packet;
    let number = |text: &str| text.parse().ok();
    let text = std::str::from_utf8(&packet.payload).ok();
    let uid = text.and_then(number);
    let id = packet.header.id.as_deref().and_then(number);
    match (packet.header.kind, uid, id, &packet.header.from) {
        (Kind::Message(MessageType::Chat), Some(uid), ..) => match item.copy {
            None => {
                let late = item.offline;
                Down::Message { uid, late }
            }
            Some(Copied::Carbon(Direction::Received)) => Down::Copy { uid },
            Some(_) => Down::Other,
        },
        (Kind::Iq(IqType::Get), _, Some(uid), Some(from)) => Down::Question {
            uid,
            from: from.clone(),
        },
        (Kind::Iq(_), _, Some(uid), _) => Down::Answer { uid },
        (Kind::Presence(_), _, _, Some(from)) => {
            text.and_then(Shown::read)
                .map_or(Down::Other, |shown| Down::Presence {
                    from: from.clone(),
                    shown,
                })
        }
        _ => Down::Other,
    }
}
