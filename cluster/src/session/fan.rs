//! Presence and events for many accounts of this shard, a slice of them with each entry.
//!
//! One broadcast may be for thousands, and each of them has a stanza queued: all at once would make every session of
//! the shard wait. What an entry has no room for is left to the next ones, which the leader makes without delay; it
//! keeps its order, and what comes later stands behind it.

use std::collections::{BTreeSet, VecDeque};

use proto::BareJid;
use serde::{Deserialize, Serialize};

use super::cow::CopyOnWrite;
use super::relay::Relay;
use super::step::SLICE;

/// Bytes that may be left to later entries. An entry that finds more does more than its slice, so that whoever
/// says so much is slowed down by it.
const MOST: usize = 4 << 20;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Fan {
    /// [`Relay::Presence`], [`Relay::Probe`], [`Relay::Event`] and [`Relay::Broadcast`].
    left: VecDeque<CopyOnWrite<Relay>>,
    /// Of them.
    bytes: usize,
    /// Accounts and sessions that the entry may reach yet; none between entries.
    #[serde(skip)]
    room: usize,
    /// What is being shown may lead to more, which is for later.
    #[serde(skip)]
    busy: bool,
}

impl Fan {
    /// An entry begins.
    pub(super) fn begin(&mut self) {
        self.room = SLICE;
    }

    /// An entry ends.
    pub(super) fn end(&mut self) {
        self.room = 0;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &CopyOnWrite<Relay>> {
        self.left.iter()
    }

    pub(super) fn push(&mut self, relay: CopyOnWrite<Relay>) {
        self.bytes += relay.size();
        self.left.push_back(relay);
    }

    /// Somebody is at it: what comes meanwhile is for later.
    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    pub(super) fn set_busy(&mut self, busy: bool) {
        self.busy = busy;
    }

    /// The next one, if there is room for any of it.
    pub(super) fn pop(&mut self) -> Option<CopyOnWrite<Relay>> {
        if self.room == 0 && self.bytes > MOST {
            self.begin();
        }
        let relay = self.left.pop_front_if(|_| self.room > 0)?;
        self.bytes -= relay.size();
        Some(relay)
    }

    pub(super) fn put_back(&mut self, relay: Relay) {
        self.bytes += relay.size();
        self.left.push_front(CopyOnWrite::new(relay));
    }

    /// Accounts and sessions that the entry may reach yet.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// It has reached so many.
    pub(super) fn spend(&mut self, reached: usize) {
        self.room = self.room.saturating_sub(reached);
    }

    /// Takes out those that there is no room for. All of one account stay together, because each of its sessions is
    /// told once.
    pub(super) fn slice<T: Clone>(
        &mut self,
        all: &mut Vec<T>,
        account: impl Fn(&T) -> BareJid,
    ) -> Vec<T> {
        let mut rest = all.split_off(all.len().min(self.room));
        if !rest.is_empty() {
            let accounts: BTreeSet<BareJid> = all.iter().map(&account).collect();
            all.extend(rest.extract_if(.., |one| accounts.contains(&account(one))));
        }
        self.spend(all.len());
        rest
    }

    #[cfg(test)]
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use proto::Jid;
    use proto::stanza::{Kind, PresenceType};

    use super::super::stage::{Stage, packet, stanzas};
    use super::*;
    use crate::session::*;

    const ALICE: &str = "alice@example.org/a";

    /// Twenty contacts, of whom each is there once.
    fn contacts(stage: &mut Stage) -> Vec<BareJid> {
        let contact = |n| {
            let name = format!("contact{n:02}@example.org");
            stage.bind(&format!("{name}/x"), Some(0));
            BareJid::new(&name).expect("valid")
        };
        (0..20).map(contact).collect()
    }

    /// Applies one entry, without those that follow from it by themselves.
    fn once(stage: &mut Stage, command: Command) -> Vec<Output> {
        let batch = Batch {
            now: stage.now,
            commands: vec![command],
        };
        stage.state.apply(batch).outputs
    }

    fn says(stage: &Stage, kind: PresenceType, subscribers: &[BareJid]) -> Command {
        let session = Jid::new(ALICE).expect("valid");
        let known = stage.state.session(&session).expect("bound");
        let update = PresenceUpdate {
            packet: packet(Kind::Presence(kind), ALICE, None),
            priority: 0,
            subscribers: subscribers.to_vec(),
            probes: subscribers.to_vec(),
            requests: Vec::new(),
        };
        Command::Inbound(Inbound {
            epoch: known.epoch(),
            first: known.next_in(),
            session,
            stanzas: vec![vec![Action::Presence(update)]],
        })
    }

    #[test]
    fn a_broadcast_is_shown_to_a_slice_of_its_addressees_with_each_entry() {
        let mut stage = Stage::new();
        let subscribers = contacts(&mut stage);
        stage.bind(ALICE, None);
        let said = [PresenceType::Available, PresenceType::Unavailable];
        let mut shown = Vec::new();
        for kind in said {
            let command = says(&stage, kind, &subscribers);
            shown.extend(stanzas(&once(&mut stage, command)));
        }
        assert!(shown.len() < 8, "{shown:?}");
        let records = stage.state.records().map(Ok::<_, Disorder>);
        assert_eq!(ShardState::restore(records), Ok(stage.state.clone()));
        while stage.state.next_deadline() == Some(0) {
            let outputs = stanzas(&once(&mut stage, Command::Tick));
            assert!(outputs.len() <= 2 * SLICE, "{outputs:?}");
            shown.extend(outputs);
        }
        for contact in subscribers {
            let name = format!("{contact}/x");
            let heard = shown.iter().filter(|(to, _)| *to == name);
            let heard: Vec<Kind> = heard.map(|(_, kind)| *kind).collect();
            assert_eq!(heard, said.map(Kind::Presence), "{name}");
        }
        let answers = shown.iter().filter(|(to, _)| to == ALICE).count();
        assert_eq!(answers, 22, "of each contact, and her own");
    }

    #[test]
    fn what_is_left_to_later_entries_has_a_bound() {
        let mut stage = Stage::new();
        let subscribers = contacts(&mut stage);
        stage.bind(ALICE, None);
        for _ in 0..100 {
            let mut command = says(&stage, PresenceType::Available, &subscribers);
            if let Command::Inbound(inbound) = &mut command
                && let Action::Presence(update) = &mut inbound.stanzas[0][0]
            {
                update.packet.payload = vec![b'x'; 200_000].into();
            }
            once(&mut stage, command);
            assert!(
                stage.state.fan().bytes <= MOST,
                "{}",
                stage.state.fan().bytes
            );
        }
    }
}
