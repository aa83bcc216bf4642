//! Shards in the simulation: one log each, three replicas that apply it late, one of them the leader.

mod broken;

use std::collections::{BTreeMap, BTreeSet};

use proto::Jid;

use super::mutant::Mutant;
use crate::codec;
use crate::format::Version;
use crate::id::{ArchiveId, NodeId, ShardId, SmId};
use crate::session::state::ShardState;
use crate::session::{
    Applied, Batch, Command, Disorder, EndReason, Event, Notice, OnTimeout, Outcome, Output,
    Record, SessionEvent, Settings, invariant,
};

/// Narrow, so that every bound is met: one of an account's two sessions makes room for the other, and a
/// queue holds little in full.
const SETTINGS: Settings = Settings {
    max_hibernated_sessions: 1,
    max_old_sessions: 1_000,
    sessions_per_account: 20,
    on_timeout: OnTimeout::Archive,
    old_session_ttl: 24 * 3600 * 1000,
    max_undelivered: 1_000,
    push_hibernation_time: 0,
    max_queue_stanzas: 5,
    max_queue_bytes: 8 << 20,
    max_queue_ids: 50_000,
    max_backlog_bytes: 0,
    max_account_queue_bytes: 0,
    max_directed: 500,
    max_directed_bytes: 64 << 10,
    compared_after: 8,
    archive_by_default: true,
};

pub(super) const SHARDS: u16 = 2;
/// The first nodes have a replica of each shard.
pub(super) const REPLICAS: usize = 3;

/// After every so many entries the replicas' states are compared.
const COMPARED: usize = 8;

/// One shard with its replicas.
pub(super) struct Shard {
    id: ShardId,
    log: Vec<Vec<u8>>,
    replicas: Vec<Replica>,
    pub(super) leader: usize,
    /// What the state was after some entries.
    states: BTreeMap<usize, Vec<u8>>,
    /// Entries that some replica has applied.
    seen: usize,
    mutant: Mutant,
    /// Hashes that replicas have yet to tell each other.
    claims: Vec<Command>,
    epochs: BTreeMap<Jid, crate::id::Epoch>,
    /// Sessions that were ended to make room for others.
    pub(super) limited: BTreeSet<SmId>,
}

struct Replica {
    state: ShardState,
    applied: usize,
    snapshot: (usize, Vec<Record>),
}

impl Shard {
    pub(super) fn new(id: ShardId, archive_by_default: bool, mutant: Mutant) -> Self {
        let mut state = ShardState::new(id, SHARDS);
        let mut settings = Settings {
            archive_by_default,
            ..SETTINGS
        };
        if mutant == Mutant::LimitsLifted {
            settings.max_hibernated_sessions = u32::MAX;
        }
        state.replace_settings(settings);
        let replica = || Replica {
            state: state.clone(),
            applied: 0,
            snapshot: (0, state.records().collect()),
        };
        Self {
            id,
            log: Vec::new(),
            replicas: (0..REPLICAS).map(|_| replica()).collect(),
            leader: 0,
            states: BTreeMap::new(),
            seen: 0,
            mutant,
            claims: Vec::new(),
            epochs: BTreeMap::new(),
            limited: BTreeSet::new(),
        }
    }

    /// The leader's state; a leader has applied everything.
    pub(super) fn state(&self) -> &ShardState {
        &self.replicas[self.leader].state
    }

    /// The state as the replica on this node knows it.
    pub(super) fn replica(&self, node: usize) -> &ShardState {
        &self.replicas[node].state
    }

    /// How many entries the replica on this node has applied.
    pub(super) fn applied(&self, node: usize) -> usize {
        self.replicas[node].applied
    }

    /// Commits an entry; only the leader applies it at once.
    pub(super) fn commit(&mut self, now: u64, commands: Vec<Command>) -> Result<Committed, String> {
        let mutated = commands.into_iter();
        let mut commands: Vec<Command> = mutated
            .map(|c| broken::mutate(self.mutant, self.state(), c))
            .collect();
        commands.append(&mut self.claims);
        self.log
            .push(Batch { now, commands }.write(Version::CURRENT));
        let mut committed = Committed::default();
        committed.outputs = self.catch_up(self.leader, usize::MAX, &mut committed.outcomes)?;
        if let Some(what) = invariant::broken(self.state()) {
            return Err(format!("shard {}: {what}", self.id));
        }
        let most = SETTINGS.max_hibernated_sessions as usize;
        for (account, user) in self.state().users().iter() {
            let sleeping = user.sessions.values().filter(|s| s.owner().is_none());
            if sleeping.count() > most {
                return Err(format!("{account} has more than {most} hibernated (I-12)"));
            }
        }
        Ok(committed)
    }

    /// A replica applies up to `entries` more. The outcomes of the last one are left in `outcomes`.
    pub(super) fn catch_up(
        &mut self,
        replica: usize,
        entries: usize,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<Vec<Output>, String> {
        let mut outputs = Vec::new();
        for _ in 0..entries {
            let r = &mut self.replicas[replica];
            let Some(entry) = self.log.get(r.applied) else {
                break;
            };
            let (version, batch) = Batch::read(entry).expect("own entry");
            outputs.extend(broken::before(self.mutant, &mut r.state, &batch));
            let before = (self.mutant == Mutant::EndDropsQueue).then(|| r.state.clone());
            let mut applied = r.state.apply_as(version, batch);
            r.applied += 1;
            if let Some(before) = before {
                broken::drop_ended(&before, &mut r.state);
            }
            if self.mutant == Mutant::OneApartFromOthers && replica == 0 {
                broken::remember_longer(&mut r.state);
            }
            self.claims.extend(claim(replica, &r.state));
            judge(self.id, &r.state, &applied)?;
            if self.mutant == Mutant::ReplayReversed {
                broken::reverse_replay(&mut applied.outputs);
            }
            if r.applied > self.seen {
                self.seen = r.applied;
                let made_room = |n: &&Notice| n.what == SessionEvent::Ended(EndReason::Limit);
                let limited = applied.notices.iter().filter(made_room);
                self.limited.extend(limited.filter_map(|n| n.smid.clone()));
                grown(&mut self.epochs, &applied.outputs)?;
            }
            let compared = self.mutant != Mutant::OneApartFromOthers;
            if compared && r.applied.is_multiple_of(COMPARED) {
                let whole = encode(&r.state);
                let known = self
                    .states
                    .entry(r.applied)
                    .or_insert_with(|| whole.clone());
                if *known != whole {
                    let (id, at) = (self.id, r.applied);
                    return Err(format!("replicas of shard {id} differ at {at} (I-16)"));
                }
            }
            *outcomes = applied.outcomes;
            outputs.extend(applied.outputs);
        }
        Ok(outputs)
    }

    pub(super) fn take_snapshot(&mut self, replica: usize) {
        let r = &mut self.replicas[replica];
        let mut state = r.state.clone();
        match self.mutant {
            Mutant::SnapshotWithoutQueue => {
                broken::each_user(&mut state, |_, user| {
                    for session in user.sessions.values_mut() {
                        session.queue.lose_numbered();
                    }
                });
            }
            Mutant::SnapshotWithoutOld => {
                broken::each_user(&mut state, |_, user| user.old.all_mut().clear());
            }
            _ => {}
        }
        r.snapshot = (r.applied, state.records().collect());
    }

    /// The replica's process died: it starts over from its snapshot. Another one leads meanwhile.
    pub(super) fn crash(&mut self, replica: usize) -> Result<Vec<Output>, String> {
        let r = &mut self.replicas[replica];
        let (applied, records) = &r.snapshot;
        let records = records.iter().cloned().map(Ok::<_, Disorder>);
        r.state = ShardState::restore(records).expect("own snapshot");
        r.applied = *applied;
        if self.leader == replica {
            return self.lead((replica + 1) % self.replicas.len());
        }
        Ok(Vec::new())
    }

    /// Another replica leads: it applies what is committed first.
    pub(super) fn lead(&mut self, replica: usize) -> Result<Vec<Output>, String> {
        self.leader = replica;
        self.catch_up(replica, usize::MAX, &mut Vec::new())
    }
}

/// What the leader answers, and what its replica puts out.
#[derive(Default)]
pub(super) struct Committed {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) outputs: Vec<Output>,
}

fn node(replica: usize) -> NodeId {
    NodeId(replica as u64)
}

/// The hash that a replica has just come to.
fn claim(replica: usize, state: &ShardState) -> Option<Command> {
    let node = node(replica);
    let (at, hash) = state.checkpoint()?;
    let told = Command::Compare { node, at, hash };
    Some(told).filter(|_| state.is_at_checkpoint())
}

/// A replica that most others contradict stops.
fn judge(shard: ShardId, state: &ShardState, applied: &Applied) -> Result<(), String> {
    let voters = (0..3).map(node).collect();
    for dissent in &applied.dissents {
        if let Some(most) = state.outvoted(dissent.at, &voters) {
            let (at, own) = (dissent.at, dissent.own);
            return Err(format!(
                "a replica of shard {shard} has {own:x} and most have {most:x} at {at} (I-16)"
            ));
        }
    }
    Ok(())
}

/// I-8: no owner acts under an epoch older than one already granted.
fn grown(epochs: &mut BTreeMap<Jid, crate::id::Epoch>, outputs: &[Output]) -> Result<(), String> {
    for output in outputs {
        if !matches!(output.event, Event::Detached(_)) {
            let known = epochs.entry(output.session.clone()).or_default();
            if output.epoch < *known {
                return Err(format!("epochs of {} go back (I-8)", output.session));
            }
            *known = output.epoch;
        }
    }
    Ok(())
}

/// The id of the message with this number in the simulation.
pub(super) fn mid(uid: u64) -> ArchiveId {
    ArchiveId::new(1, u128::from(uid))
}

fn encode<T: serde::Serialize>(value: &T) -> Vec<u8> {
    codec::encode(value)
}
