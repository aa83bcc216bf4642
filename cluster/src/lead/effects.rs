//! Has the host carry out pending effects, in the order of their numbers within each lane.
//!
//! The host has one chunk of a lane at a time. What it could not do is passed to it again after a pause, and whatever
//! comes later in the lane waits, so that nothing overtakes. An effect is done when
//! [`Command::Done`](crate::session::Command::Done) is committed; if the leader dies before that, the next leader
//! carries the effect out again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::outcome::commands;
use crate::cluster::Host;
use crate::metrics::Hop;
use crate::propose::{MAX_COMMANDS, Proposer, ShardGroup};
use crate::session::{Command, Completed, Lane, Pending, ShardState};
use crate::{EffectId, ShardId, clock, fail};

const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);
/// How many reports of completion one lane may have under way.
const REPORTS: usize = 64;
/// The most rows in a chunk. The more there are, the fewer pages a database writes for each: a transaction changes a few
/// of them for every account, however many of its rows it has.
const MAX_ROWS: usize = 4096;
/// The most bytes of effects in a chunk, roughly. A chunk has at least one effect.
const CHUNK_BYTES: u64 = 4 << 20;
/// How long what nobody waits for is left to gather before it is carried out. The shard holds it meanwhile.
const GATHER: Duration = Duration::from_millis(100);

/// Runs one lane for as long as this node leads.
pub async fn run<G: ShardGroup>(
    group: Arc<G>,
    proposer: Proposer,
    (host, runtime): (Arc<dyn Host>, Handle),
    lane: Lane,
) {
    let shard = group.shard();
    let mut applied = group.applied();
    let mut progress = Progress::default();
    let mut reports = JoinSet::new();
    let mut pause = SHORTEST;
    let mut gathers = true;
    loop {
        while reports.try_join_next().is_some() {}
        while reports.len() >= REPORTS {
            reports.join_next().await;
        }
        applied.borrow_and_update();
        let (chunk, first) = group.read(|state| progress.next(state, lane));
        if chunk.is_empty() {
            if applied.changed().await.is_err() {
                return;
            }
            continue;
        }
        if is_lazy(lane) && gathers {
            tokio::time::sleep(GATHER).await;
            gathers = false;
            continue;
        }
        fail::point("effects-begun");
        // What came meanwhile goes on at once if it fills a chunk.
        gathers = !is_half_full(&chunk, lane);
        let asked = first.into_iter().chain(chunk.iter().cloned()).collect();
        // The host runs in a task of its own, so that this one goes on if it panics.
        let begun = clock::timer();
        let performing = runtime.spawn(host.perform(shard, asked));
        let performing = AbortOnDrop(performing);
        let done = performing.join().await.unwrap_or_else(|error| {
            tracing::error!(%shard, ?lane, %error, "carrying out effects failed");
            Vec::new()
        });
        group.note(
            Hop::Effects,
            clock::timer().saturating_duration_since(begun),
        );
        fail::point("effects-done");
        let (done, all) = progress.record(&chunk, done);
        let stuck = done.is_empty();
        for command in commands(&chunk, done) {
            reports.spawn(report(proposer.clone(), shard, lane, command));
        }
        // A host that has done a part will do the rest, so there is no need for longer pauses.
        if !stuck {
            pause = SHORTEST;
        }
        if !all {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST);
        }
    }
}

async fn report(proposer: Proposer, shard: ShardId, lane: Lane, command: Command) {
    let carried = match is_lazy(lane) {
        true => proposer.insist_lazily(command).await,
        false => proposer.insist(command).await,
    };
    if let Err(over) = carried {
        // `outcome` makes no command that is too large. If it did, the effect would stay pending, and the next leader
        // would carry it out again.
        tracing::error!(%shard, %over, "what follows from an effect cannot be carried");
    }
}

/// Aborts what the host is doing when this node no longer leads.
struct AbortOnDrop(tokio::task::JoinHandle<Vec<Completed>>);

impl AbortOnDrop {
    async fn join(mut self) -> Result<Vec<Completed>, tokio::task::JoinError> {
        (&mut self.0).await
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Remembers which effects of a lane are done, so that they are not passed to the host again. Pure.
#[derive(Debug, Default)]
struct Progress {
    /// All effects of the lane up to this one are done.
    upto: EffectId,
    /// Effects behind `upto` that are done as well.
    ahead: BTreeSet<EffectId>,
    /// The effects behind `upto` that were found last, in order.
    seen: Vec<EffectId>,
}

impl Progress {
    /// The next chunk, and the rows that must be written before it.
    fn next(&mut self, state: &ShardState, lane: Lane) -> (Vec<Pending>, Vec<Pending>) {
        let max = most(lane);
        let found = state.pending_in(lane, self.upto, max + self.ahead.len(), CHUNK_BYTES);
        let chunk = self.choose(found, max, |pending| state.may_begin(&pending.effect));
        let first = state.rows_before(&chunk);
        (chunk, first)
    }

    fn choose(
        &mut self,
        mut found: Vec<Pending>,
        max: usize,
        may_begin: impl Fn(&Pending) -> bool,
    ) -> Vec<Pending> {
        self.seen = found.iter().map(|pending| pending.id).collect();
        found.retain(|pending| !self.ahead.contains(&pending.id) && may_begin(pending));
        found.truncate(max);
        found
    }

    /// Records what the host has done of a chunk. Returns that, and whether it is the whole chunk.
    fn record(&mut self, chunk: &[Pending], done: Vec<Completed>) -> (Vec<Completed>, bool) {
        let asked: BTreeSet<EffectId> = chunk.iter().map(|effect| effect.id).collect();
        let done: Vec<Completed> = done
            .into_iter()
            .filter(|done| asked.contains(&done.id))
            .collect();
        self.ahead.extend(done.iter().map(|done| done.id));
        let all = asked.is_subset(&self.ahead);
        let missing = self.seen.iter().find(|id| !self.ahead.contains(id));
        self.upto = match (missing, self.seen.last()) {
            (Some(missing), _) => EffectId(missing.0 - 1),
            (None, Some(last)) => *last,
            (None, None) => self.upto,
        };
        self.ahead = self.ahead.split_off(&EffectId(self.upto.0 + 1));
        (done, all)
    }
}

/// The most effects in a chunk.
fn most(lane: Lane) -> usize {
    match lane {
        Lane::Rows => MAX_ROWS,
        Lane::Reads | Lane::Forgets | Lane::Rosters | Lane::Pushes | Lane::Events => MAX_COMMANDS,
    }
}

/// Whether so much comes that there is nothing to wait for.
fn is_half_full(chunk: &[Pending], lane: Lane) -> bool {
    let bytes: u64 = chunk.iter().map(|pending| pending.effect.size()).sum();
    chunk.len() >= most(lane) / 2 || bytes >= CHUNK_BYTES / 2
}

/// Whether effects, and the reports that they are done, may wait for company. Rows may. Otherwise a client or a contact
/// is waiting for what follows from the effect.
fn is_lazy(lane: Lane) -> bool {
    match lane {
        Lane::Rows | Lane::Forgets => true,
        Lane::Reads | Lane::Rosters | Lane::Pushes | Lane::Events => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::completed;
    use super::*;
    use proto::BareJid;

    use crate::session::Effect;

    fn effect(id: u64) -> Pending {
        let account = BareJid::new("a@b").expect("valid");
        Pending {
            id: EffectId(id),
            effect: Arc::new(Effect::Forget {
                account,
                mids: Vec::new(),
            }),
        }
    }

    /// Records `done` of the effects 1 to 4; returns those handed out next when 5 has come.
    #[track_caller]
    fn check(done: &[u64], next: &[u64]) {
        let mut progress = Progress::default();
        let choose = |progress: &mut Progress, last| {
            let found = (progress.upto.0 + 1..=last).map(effect).collect();
            progress.choose(found, 9, |_| true)
        };
        let chunk = choose(&mut progress, 4);
        let (recorded, all) = progress.record(&chunk, completed(done));
        assert_eq!((recorded.len(), all), (done.len().min(4), done.len() >= 4));
        let chunk = choose(&mut progress, 5);
        assert_eq!(
            chunk.iter().map(|effect| effect.id.0).collect::<Vec<_>>(),
            next
        );
    }

    #[test]
    fn what_is_done_is_not_handed_out_again_and_the_rest_is() {
        check(&[1, 2, 3, 4], &[5]);
        check(&[], &[1, 2, 3, 4, 5]);
        check(&[1, 3], &[2, 4, 5]);
        check(&[2, 4], &[1, 3, 5]);
    }

    #[test]
    fn what_may_not_begin_yet_is_neither_handed_out_nor_forgotten() {
        let mut progress = Progress::default();
        let all = || (1..=3).map(effect).collect();
        let chunk = progress.choose(all(), 9, |pending| pending.id.0 != 1);
        let (recorded, all_done) = progress.record(&chunk, completed(&[2, 3]));
        assert_eq!((recorded.len(), all_done), (2, true));
        let chunk = progress.choose(all(), 9, |_| true);
        assert_eq!(chunk.len(), 1, "{chunk:?}");
        assert_eq!(chunk[0].id, EffectId(1));
    }

    #[test]
    fn a_host_that_claims_what_it_was_not_asked_for_is_not_believed() {
        let mut progress = Progress::default();
        progress.choose(vec![effect(1)], 9, |_| true);
        let (recorded, all) = progress.record(&[effect(1)], completed(&[7]));
        assert_eq!((recorded, all), (Vec::new(), false));
    }
}
