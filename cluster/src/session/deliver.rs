//! Delivery to local accounts: the decision tables of RFC 6121 §8 (IM tables B and D).

use std::sync::Arc;

use proto::stanza::error::Condition;
use proto::stanza::{IqType, Kind, MessageType, Packet};
use proto::{BareJid, Jid};

use super::carbon::{self, Direction};
use super::command::*;
use super::state::{ShardState, Shared, Waiting};

impl ShardState {
    /// Something arrives for an account of this shard.
    pub(super) fn deliver(&mut self, relay: Relay, out: &mut Vec<Output>) {
        match relay {
            Relay::Message(message) => self.deliver_message(message, out),
            Relay::Iq { packet, permitted } => self.deliver_iq(packet, permitted, out),
            Relay::Presence { packet, to } => self.deliver_presence(&packet, to, out),
            Relay::Probe { from, to } => self.answer_probe(&from, to, out),
            Relay::Subscription(packet) => {
                self.add_effect(Effect::Subscription(packet));
            }
            Relay::Push { account, packet } => {
                for jid in self.sessions_where(&account, |s| s.interested) {
                    let mut copy = packet.clone();
                    copy.header.to = Some(jid.clone());
                    self.enqueue_plain(&jid, copy, out);
                }
            }
            Relay::Notice {
                account,
                packet,
                available,
            } => {
                let wanted = |s: &super::Session| {
                    if available {
                        s.presence.is_some()
                    } else {
                        s.interested
                    }
                };
                for jid in self.sessions_where(&account, wanted) {
                    self.enqueue_plain(&jid, packet.clone(), out);
                }
            }
            Relay::EndAll { account, reason } => {
                for jid in self.sessions_where(&account, |_| true) {
                    self.end(&jid, reason, out);
                }
            }
        }
    }

    fn sessions_where(
        &self,
        account: &BareJid,
        wanted: impl Fn(&super::Session) -> bool,
    ) -> Vec<Jid> {
        let Some(user) = self.users.get(account) else {
            return Vec::new();
        };
        let chosen = user.sessions.iter().filter(|(_, s)| wanted(s));
        chosen
            .map(|(r, _)| account.with_prepared_resource(r))
            .collect()
    }

    /// Sessions that get a carbon, without those in `except`.
    pub(super) fn carbon_sessions(&self, account: &BareJid, except: &[Jid]) -> Vec<Jid> {
        let mut sessions = self.sessions_where(account, |s| s.carbons);
        sessions.retain(|jid| !except.contains(jid));
        sessions
    }

    fn deliver_message(&mut self, message: Message, out: &mut Vec<Output>) {
        let (Kind::Message(kind), Some(to)) =
            (message.packet.header.kind, message.packet.header.to.clone())
        else {
            return;
        };
        let account = to.bare();
        let exact = to.resource().is_some() && self.session(&to).is_some();
        let targets = match kind {
            _ if exact => vec![to.clone()],
            MessageType::Groupchat => {
                self.bounce(&message.packet, Condition::ServiceUnavailable, out);
                return;
            }
            MessageType::Error => return,
            MessageType::Normal | MessageType::Headline => {
                self.sessions_where(&account, super::Session::is_non_negative)
            }
            MessageType::Chat => self.chat_targets(&account),
        };
        if targets.is_empty() {
            if kind != MessageType::Headline && message.traits.offline {
                self.store_offline(&account, &message, out);
            }
            return;
        }
        self.hand_out(&account, message, targets, out);
    }

    /// Every resource of the highest live priority, and every one with carbons (IM-6). A hibernated one
    /// alone sets the priority only where no live one is (IM-1).
    fn chat_targets(&self, account: &BareJid) -> Vec<Jid> {
        let Some(user) = self.users.get(account) else {
            return Vec::new();
        };
        let ready = || user.sessions.values().filter(|s| s.is_non_negative());
        let live = ready()
            .filter(|s| s.owner.is_some())
            .map(super::Session::priority)
            .max();
        let Some(highest) = live.or_else(|| ready().map(super::Session::priority).max()) else {
            return Vec::new();
        };
        self.sessions_where(account, |s| {
            s.is_non_negative() && (s.priority() >= highest || s.carbons)
        })
    }

    fn hand_out(
        &mut self,
        account: &BareJid,
        message: Message,
        targets: Vec<Jid>,
        out: &mut Vec<Output>,
    ) {
        let traits = message.traits;
        let order = self.take_order();
        self.archive_received(account, &message, order, false);
        let shared = targets.len() > 1 && traits.offline;
        if shared {
            let held = Shared {
                holders: targets.len() as u32,
                acknowledged: false,
            };
            self.users
                .entry(account.clone())
                .or_default()
                .shared
                .insert(message.mid, held);
        }
        let item = Arc::new(Item {
            packet: message.packet,
            stamp: self.now,
            mid: Some(message.mid),
            archived: traits.archive_received,
            offline: false,
            keep: traits.offline,
            shared,
            order,
        });
        for target in &targets {
            self.enqueue(target, item.clone(), out);
        }
        if traits.carbon {
            let archived = traits.archive_received.then_some(message.mid);
            let mut except = targets;
            except.extend(item.packet.header.from.clone());
            for other in self.carbon_sessions(account, &except) {
                let copy =
                    carbon::wrap(&item.packet, archived, Direction::Received, account, &other);
                self.enqueue_plain(&other, copy, out);
            }
        }
    }

    /// Nobody is there: the message waits, and the marker stands before it at the latest (IM-60).
    fn store_offline(&mut self, account: &BareJid, message: &Message, out: &mut Vec<Output>) {
        let limit = self.settings.max_undelivered as usize;
        let count = self.users.get(account).map_or(0, |u| u.undelivered.len());
        if limit != 0 && count >= limit {
            self.bounce(&message.packet, Condition::ServiceUnavailable, out);
            return;
        }
        let order = self.take_order();
        self.archive_received(account, message, order, true);
        let hidden = !message.traits.archive_received;
        let waiting = Waiting {
            mid: message.mid,
            hidden,
        };
        self.users
            .entry(account.clone())
            .or_default()
            .undelivered
            .insert(order, waiting);
    }

    fn archive_received(&mut self, account: &BareJid, message: &Message, order: u64, must: bool) {
        if !message.traits.archive_received && !must {
            return;
        }
        let with = message.packet.header.from.clone();
        let row = ArchiveRow {
            owner: account.clone(),
            mid: message.mid,
            order,
            with: with.unwrap_or_else(|| account.into()),
            stamp: self.now,
            hidden: !message.traits.archive_received,
            packet: message.packet.clone(),
        };
        self.add_effect(Effect::Archive(row));
    }

    fn deliver_iq(&mut self, packet: Packet, permitted: bool, out: &mut Vec<Output>) {
        let (Kind::Iq(kind), Some(to)) = (packet.header.kind, packet.header.to.clone()) else {
            return;
        };
        let request = matches!(kind, IqType::Get | IqType::Set);
        let open = self.session(&to).is_some_and(|session| {
            let from = packet.header.from.as_ref();
            let known = from.is_some_and(|f| {
                f.bare() == to.bare()
                    || session.directed.contains(f)
                    || session.directed.contains(&Jid::from(f.bare()))
            });
            !request || permitted || known
        });
        if open {
            self.enqueue_plain(&to, packet, out);
        } else if request {
            self.bounce(&packet, Condition::ServiceUnavailable, out);
        }
    }
}
