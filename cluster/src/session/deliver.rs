//! Delivery to local accounts: the decision tables of RFC 6121 §8 (IM-B, IM-D).

use std::sync::Arc;

use proto::stanza::error::Condition;
use proto::stanza::{IqType, Kind, MessageType, Packet};
use proto::{BareJid, Jid};

use super::account::Waiting;
use super::dispose::has_body;
use super::effect::{ArchiveRow, Effect};
use super::output::{Copied, Direction, Item};
use super::relay::{Message, Relay};
use super::session::Session;
use super::state::ShardState;
use super::step::Step;
use crate::id::{ArchiveId, Order};

impl ShardState {
    /// Something arrives for an account of this shard.
    pub(super) fn deliver(&mut self, relay: Relay, step: &mut Step) {
        if self.turns_away(&relay, step) {
            return;
        }
        match relay {
            Relay::Message(message) => self.deliver_message(message, step),
            Relay::Iq { packet, permitted } => self.deliver_iq(packet, permitted, step),
            Relay::Presence { .. } | Relay::Probe { .. } | Relay::Event { .. } => {
                self.fan_out(relay, step);
            }
            Relay::Broadcast { id, .. } => {
                if self.broadcasts_mut().note(id) {
                    self.fan_out(relay, step);
                }
            }
            Relay::End { session, reason } => {
                self.end_by(&session, None, reason, step);
            }
            Relay::LastEvents {
                session,
                events,
                rest,
            } => self.take_last(&session, events, rest, step),
            Relay::Revealed { account, peer } => self.reveal(&account, &peer),
            Relay::Subscription(packet) => {
                self.add_effect(Effect::Subscription(packet));
            }
            Relay::RosterPush { account, packet } => {
                self.push_roster(&account, &packet, step);
            }
            Relay::Announcement {
                account,
                packet,
                available,
            } => {
                let wanted = match available {
                    true => Session::is_available,
                    false => Session::is_interested,
                };
                for jid in self.account(&account).sessions_where(&account, wanted) {
                    self.enqueue_plain(&jid, packet.clone(), step);
                }
            }
            Relay::Hidden { account, mids } => self.hidden(&account, &mids),
            Relay::NoPush { account, resource } => self.no_push(&account, &resource),
            Relay::Unkept {
                account,
                mid,
                packet,
            } => self.unkept(&account, mid, packet, step),
            Relay::Blocklist {
                account,
                revision,
                jids,
            } => self.take_blocklist(&account, revision, jids),
            Relay::EndAll { account, reason } => {
                for jid in self.account(&account).sessions_where(&account, |_| true) {
                    self.end(&jid, reason, step);
                }
            }
        }
    }

    fn push_roster(&mut self, account: &BareJid, packet: &Packet, step: &mut Step) {
        let known = self.account(account);
        for jid in known.sessions_where(account, Session::is_interested) {
            let mut copy = packet.clone();
            copy.header.to = Some(jid.clone());
            self.enqueue_plain(&jid, copy, step);
        }
    }

    fn deliver_message(&mut self, mut message: Message, step: &mut Step) {
        let (Kind::Message(kind), Some(to)) =
            (message.packet.header.kind, message.packet.header.to.clone())
        else {
            return;
        };
        let account = to.bare();
        message.traits.archive_received &= self.may_archive(&account);
        let exact = to.resource().is_some() && self.session(&to).is_some();
        let targets = match kind {
            _ if exact => vec![to.clone()],
            MessageType::Groupchat => {
                self.bounce(&message.packet, Condition::ServiceUnavailable, step);
                return;
            }
            MessageType::Error => return,
            MessageType::Normal | MessageType::Headline => self
                .account(&account)
                .sessions_where(&account, Session::is_non_negative),
            MessageType::Chat => self.account(&account).chat_targets(&account),
        };
        if targets.is_empty() {
            match kind {
                MessageType::Headline => {}
                _ if message.traits.offline => self.store_offline(&account, &message, step),
                // It may not wait: whoever said something hears that nobody was there for it (IM-60).
                _ if has_body(&message.packet) => {
                    self.bounce(&message.packet, Condition::ServiceUnavailable, step);
                }
                _ => {}
            }
            return;
        }
        self.hand_out(&account, message, targets, step);
    }

    fn hand_out(
        &mut self,
        account: &BareJid,
        message: Message,
        targets: Vec<Jid>,
        step: &mut Step,
    ) {
        let traits = message.traits;
        let order = self.take_order();
        self.archive_received(account, &message, order, false);
        let mut copies = Vec::new();
        if traits.carbon {
            let mut except = targets.clone();
            except.extend(message.packet.header.from.clone());
            copies = self.account(account).carbon_sessions(account, &except);
        }
        let holders = targets.len() + copies.len();
        // Whoever acknowledges it, or a copy of it, has it for all of them.
        let mut item = Item {
            packet: message.packet.clone(),
            stamp: self.now(),
            mid: Some(message.mid),
            archived: traits.archive_received,
            offline: false,
            keep: traits.offline,
            shared: false,
            order,
            copy: None,
        };
        item.shared = holders > 1 && (item.keep || item.is_missed());
        if item.shared {
            self.share(account, message.mid, holders);
        }
        let copy = Item {
            copy: Some(Copied::Carbon(Direction::Received)),
            ..item.clone()
        };
        let (item, copy) = (Arc::new(item), Arc::new(copy));
        for target in &targets {
            self.enqueue(target, item.clone(), step);
            self.notice_queued(target, Some(message.mid), traits.important, step);
        }
        for other in &copies {
            self.enqueue(other, copy.clone(), step);
            self.notice_queued(other, None, false, step);
        }
        let got = [targets, copies].concat();
        self.push_for(account, &message, Some(&got));
    }

    /// So many sessions hold a message.
    pub(super) fn share(&mut self, account: &BareJid, mid: ArchiveId, holders: usize) {
        let known = self.account_or_new(account.clone());
        known.shared.hold(mid, holders);
    }

    /// Nobody is there: the message waits, and the marker stands before it at the latest (IM-60).
    fn store_offline(&mut self, account: &BareJid, message: &Message, step: &mut Step) {
        let limit = self.settings().max_undelivered as usize;
        let count = self.account(account).waits();
        if limit != 0 && count >= limit {
            self.bounce(&message.packet, Condition::ServiceUnavailable, step);
            return;
        }
        self.push_for(account, message, None);
        let order = self.take_order();
        self.archive_received(account, message, order, true);
        let hidden = !message.traits.archive_received;
        let waiting = Waiting {
            mid: message.mid,
            hidden,
            size: u32::try_from(message.packet.size()).unwrap_or(u32::MAX),
        };
        self.account_or_new(account.clone()).wait(order, waiting);
    }

    /// Whether the account's archive keeps anything of what is worth it; what, the database knows.
    pub(super) fn may_archive(&self, account: &BareJid) -> bool {
        self.settings().archive_by_default || self.archive_is_stated(account)
    }

    /// The account has said what its archive is to keep.
    pub(crate) fn archive_is_stated(&self, account: &BareJid) -> bool {
        self.account(account).archive_stated
    }

    fn archive_received(&mut self, account: &BareJid, message: &Message, order: Order, must: bool) {
        if !message.traits.archive_received && !must {
            return;
        }
        let with = message.packet.header.from.clone();
        let row = ArchiveRow {
            owner: account.clone(),
            mid: message.mid,
            order,
            with: with.unwrap_or_else(|| account.into()),
            stamp: self.now(),
            hidden: !message.traits.archive_received,
            packet: message.packet.clone(),
        };
        self.add_effect(Effect::Archive(row));
    }

    fn deliver_iq(&mut self, packet: Packet, permitted: bool, step: &mut Step) {
        let (Kind::Iq(kind), Some(to)) = (packet.header.kind, packet.header.to.clone()) else {
            return;
        };
        let request = matches!(kind, IqType::Get | IqType::Set);
        let open = self.session(&to).is_some_and(|session| {
            let from = packet.header.from.as_ref();
            let known = from.is_some_and(|f| {
                f.bare() == to.bare()
                    || session.directed().contains(f)
                    || session.directed().contains(&Jid::from(f.bare()))
            });
            !request || permitted || known
        });
        if !open {
            if request {
                self.bounce(&packet, Condition::ServiceUnavailable, step);
            }
            return;
        }
        let may_be_asked = |s: &Session| s.rare.may_be_asked(&packet.header);
        if request && (self.is_over(&to) || !self.session(&to).is_none_or(may_be_asked)) {
            self.bounce(&packet, Condition::ResourceConstraint, step);
            return;
        }
        let session = self.session_mut(&to).filter(|_| !request);
        if session.is_some_and(|session| session.rare.note_answered(&packet.header)) {
            return self.answer(&to, packet, step);
        }
        let header = request.then(|| packet.header.clone());
        self.enqueue_plain(&to, packet, step);
        if let (Some(header), Some(session)) = (header, self.session_mut(&to)) {
            session.rare.note_question(&header);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, message, packet, stanzas};
    use super::*;
    use crate::session::*;

    use MessageType::{Chat, Error, Groupchat, Headline, Normal};

    const ALICE: &str = "alice@example.org/a";

    /// The account bob has sessions with these resources and priorities; a message to `to` reaches
    /// exactly `expect`, is stored if it says `store`, or comes back if it says `bounce`.
    #[track_caller]
    fn check(bob: &[(&str, Option<i8>)], kind: MessageType, to: &str, expect: &[&str]) {
        let mut stage = Stage::new();
        stage.bind(ALICE, None);
        for (resource, priority) in bob {
            stage.bind(&format!("bob@example.org/{resource}"), *priority);
        }
        let outputs = stage.act(
            ALICE,
            Action::Send(Relay::Message(message(kind, ALICE, to, 7))),
        );
        let mut reached: Vec<String> = stanzas(&outputs)
            .into_iter()
            .map(|(session, kind)| match kind {
                Kind::Message(Error) if session == ALICE => String::from("bounce"),
                _ => session.replace("bob@example.org/", ""),
            })
            .collect();
        if stage.undelivered("bob@example.org") > 0 {
            reached.push(String::from("store"));
        }
        assert_eq!(reached, expect, "{kind:?} to {to}");
    }

    #[test]
    fn im_b_to_the_bare_jid() {
        let to = "bob@example.org";
        let two = [
            ("high", Some(5)),
            ("low", Some(1)),
            ("negative", Some(-1)),
            ("silent", None),
        ];
        // Only the highest priority (IM-6).
        check(&two, Chat, to, &["high"]);
        check(&two, Normal, to, &["high", "low"]);
        check(&two, Headline, to, &["high", "low"]);
        check(&two, Groupchat, to, &["bounce"]);
        check(&two, Error, to, &[]);
    }

    #[test]
    fn im_b_nobody_takes_part() {
        for sessions in [&[][..], &[("negative", Some(-1))], &[("silent", None)]] {
            check(sessions, Chat, "bob@example.org", &["store"]);
            check(sessions, Normal, "bob@example.org/gone", &["store"]);
            check(sessions, Headline, "bob@example.org", &[]);
            check(sessions, Groupchat, "bob@example.org/gone", &["bounce"]);
            check(sessions, Error, "bob@example.org/gone", &[]);
        }
    }

    #[test]
    fn im_b_a_full_jid_that_matches_gets_everything() {
        for kind in [Chat, Normal, Headline, Groupchat, Error] {
            check(
                &[("silent", None), ("high", Some(5))],
                kind,
                "bob@example.org/silent",
                &["silent"],
            );
        }
    }

    #[test]
    fn im_b_a_full_jid_without_match_is_as_the_bare_one() {
        let two = [("high", Some(5)), ("low", Some(1))];
        check(&two, Chat, "bob@example.org/gone", &["high"]);
        check(&two, Normal, "bob@example.org/gone", &["high", "low"]);
        check(&two, Error, "bob@example.org/gone", &[]);
    }

    #[test]
    fn im_76_carbons_reach_those_without_the_original_once() {
        let mut stage = Stage::new();
        stage.bind(ALICE, None);
        stage.bind("alice@example.org/b", None);
        stage.bind("bob@example.org/high", Some(5));
        stage.bind("bob@example.org/silent", None);
        for session in ["alice@example.org/b", "bob@example.org/silent"] {
            stage.act(session, Action::Carbons(true));
        }
        let sent = message(Chat, ALICE, "bob@example.org", 7);
        let outputs = stage.act(ALICE, Action::Send(Relay::Message(sent)));
        let reached: Vec<String> = stanzas(&outputs)
            .into_iter()
            .map(|(session, _)| session)
            .collect();
        assert_eq!(
            reached,
            [
                "alice@example.org/b",
                "bob@example.org/high",
                "bob@example.org/silent"
            ]
        );
        let Some(Event::Stanza { item, .. }) = outputs.last().map(|o| o.event.clone()) else {
            panic!("no carbon");
        };
        let to = jid_of("bob@example.org/silent");
        let carbon = item.stanza(&to).unpack().expect("our own writing");
        let received = carbon
            .child("received", proto::ns::CARBONS)
            .expect("wrapper");
        let forwarded = received
            .child("forwarded", proto::ns::FORWARD)
            .expect("forwarded");
        let inner = forwarded
            .child("message", proto::ns::CLIENT)
            .expect("inner message");
        assert_eq!(inner.attr("from"), Some(ALICE));
        assert!(inner.child("stanza-id", proto::ns::SID).is_some());
        assert_eq!(
            inner
                .child("body", proto::ns::CLIENT)
                .map(proto::Element::text),
            Some("hi".into())
        );
    }

    #[test]
    fn im_1_a_hibernated_session_does_not_hide_a_live_one() {
        let mut stage = Stage::new();
        stage.bind(ALICE, None);
        stage.resumable("bob@example.org/asleep", Some(9));
        stage.bind("bob@example.org/awake", Some(0));
        stage.lose("bob@example.org/asleep");
        let sent = message(Chat, ALICE, "bob@example.org", 7);
        let outputs = stage.act(ALICE, Action::Send(Relay::Message(sent)));
        assert_eq!(
            stanzas(&outputs),
            [("bob@example.org/awake".into(), Kind::Message(Chat))]
        );
        assert_eq!(
            stage.state.sessions(&jid_bare("bob@example.org"))[0].queue,
            3
        );
    }

    fn jid_of(text: &str) -> Jid {
        Jid::new(text).expect("valid")
    }

    fn jid_bare(text: &str) -> BareJid {
        BareJid::new(text).expect("valid")
    }

    #[test]
    fn im_60_what_may_not_wait_for_an_absent_user_comes_back_unless_it_says_nothing() {
        let mut stage = Stage::new();
        stage.bind(ALICE, None);
        for (payload, back) in [("<body>hi</body>", 1), ("<composing xmlns='x'/>", 0)] {
            for to in ["bob@example.org", "bob@example.org/gone"] {
                let mut sent = message(Chat, ALICE, to, 7);
                sent.traits = Traits::default();
                sent.packet.payload = payload.into();
                let outputs = stage.send([sent]);
                assert_eq!(stanzas(&outputs).len(), back, "{payload} to {to}");
            }
        }
        assert_eq!(stage.undelivered("bob@example.org"), 0);
    }

    #[test]
    fn im_62_a_full_store_answers_the_sender() {
        let mut stage = Stage::new();
        stage.settings.max_undelivered = 1;
        stage.bind(ALICE, None);
        for (mid, bounced) in [(1, 0), (2, 1)] {
            let sent = message(Chat, ALICE, "bob@example.org", mid);
            let outputs = stage.act(ALICE, Action::Send(Relay::Message(sent)));
            assert_eq!(stanzas(&outputs).len(), bounced);
        }
    }

    #[test]
    fn im_d_a_request_reaches_only_who_shares_presence() {
        let request = |to| packet(Kind::Iq(IqType::Get), ALICE, Some(to));
        let mut stage = Stage::new();
        stage.bind(ALICE, None);
        stage.bind("bob@example.org/b", Some(0));
        for (to, permitted, expect) in [
            (
                "bob@example.org/b",
                true,
                ("bob@example.org/b", IqType::Get),
            ),
            ("bob@example.org/b", false, (ALICE, IqType::Error)),
            ("bob@example.org/gone", true, (ALICE, IqType::Error)),
        ] {
            let relay = Relay::Iq {
                packet: request(to),
                permitted,
            };
            let outputs = stage.act(ALICE, Action::Send(relay));
            assert_eq!(stanzas(&outputs), [(expect.0.into(), Kind::Iq(expect.1))]);
        }
    }
}
