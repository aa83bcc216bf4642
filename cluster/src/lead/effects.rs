//! Has pending effects carried out, in the order of their numbers.
//!
//! One chunk is with the host at a time. What it could not do is asked for again, with pauses, and what
//! comes later waits: so that nothing overtakes, a database that is away holds up everything anyway. That
//! an effect is done becomes true with [`Command::Done`]; a leader that dies before leaves it to the next.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::backlog::completed_size;
use super::{Group, MAX_BYTES, MAX_COMMANDS, Queue};
use crate::EffectId;
use crate::cluster::Host;
use crate::fail;
use crate::session::{Command, Completed, Effect, Pending};

const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);
/// Reports of completion under way at a time.
const REPORTS: usize = 64;

/// Runs for as long as this node leads.
pub async fn run<G: Group>(group: Arc<G>, queue: Queue, host: Arc<dyn Host>) {
    let shard = group.shard();
    let mut applied = group.applied();
    let mut progress = Progress::default();
    let mut reports = JoinSet::new();
    let mut pause = SHORTEST;
    loop {
        while reports.try_join_next().is_some() {}
        while reports.len() >= REPORTS {
            reports.join_next().await;
        }
        applied.borrow_and_update();
        let chunk = group.read(|state| progress.next(|after, max| state.pending(after, max)));
        if chunk.is_empty() {
            if applied.changed().await.is_err() {
                return;
            }
            continue;
        }
        fail::point("effects-begun");
        // In a task of its own: if it panics, this one goes on.
        let performing = tokio::spawn(host.perform(shard, chunk.clone()));
        let performing = AbortOnDrop(performing);
        let done = performing.join().await.unwrap_or_else(|error| {
            tracing::error!(%shard, %error, "carrying out effects failed");
            Vec::new()
        });
        fail::point("effects-done");
        let (done, all) = progress.record(&chunk, done);
        for (completed, lazy) in commands(&chunk, done) {
            let queue = queue.clone();
            reports.spawn(async move { queue.insist(Command::Done(completed), lazy).await });
        }
        if all {
            pause = SHORTEST;
        } else {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST);
        }
    }
}

/// Ends what the host does when this node no longer leads.
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

/// Which effects need not be handed out any more. Pure.
#[derive(Debug, Default)]
struct Progress {
    /// All up to here are done.
    upto: EffectId,
    /// So are these behind it.
    ahead: BTreeSet<EffectId>,
}

impl Progress {
    /// The next chunk, out of what `pending` finds.
    fn next(&self, pending: impl FnOnce(EffectId, usize) -> Vec<Pending>) -> Vec<Pending> {
        let mut found = pending(self.upto, MAX_COMMANDS + self.ahead.len());
        found.retain(|effect| !self.ahead.contains(&effect.id));
        found.truncate(MAX_COMMANDS);
        found
    }

    /// Notes what became of a chunk; returns what is done, and whether that is all of it.
    fn record(&mut self, chunk: &[Pending], done: Vec<Completed>) -> (Vec<Completed>, bool) {
        let asked: BTreeSet<EffectId> = chunk.iter().map(|effect| effect.id).collect();
        let done: Vec<Completed> = done
            .into_iter()
            .filter(|done| asked.contains(&done.id))
            .collect();
        self.ahead.extend(done.iter().map(|done| done.id));
        let missing = chunk
            .iter()
            .map(|effect| effect.id)
            .find(|id| !self.ahead.contains(id));
        self.upto = match (missing, chunk.last()) {
            (Some(missing), _) => EffectId(missing.0 - 1),
            (None, Some(last)) => last.id,
            (None, None) => self.upto,
        };
        self.ahead = self.ahead.split_off(&EffectId(self.upto.0 + 1));
        (done, missing.is_none())
    }
}

/// Completions as commands that fit into an entry, and whether they may wait: rows that are written can,
/// what a client or a contact is to get cannot.
fn commands(chunk: &[Pending], done: Vec<Completed>) -> Vec<(Vec<Completed>, bool)> {
    let lazy = |id: EffectId| {
        let effect = chunk
            .iter()
            .find(|effect| effect.id == id)
            .map(|effect| &*effect.effect);
        matches!(effect, Some(Effect::Archive(_) | Effect::Forget { .. }))
    };
    let (later, now): (Vec<_>, Vec<_>) = done.into_iter().partition(|done| lazy(done.id));
    let now = split(now).into_iter().map(|completed| (completed, false));
    now.chain(split(later).into_iter().map(|completed| (completed, true)))
        .collect()
}

fn split(done: Vec<Completed>) -> Vec<Vec<Completed>> {
    let mut parts: Vec<Vec<Completed>> = Vec::new();
    let mut size = 0;
    for completed in done {
        size += completed_size(&completed);
        match parts.last_mut() {
            Some(part) if size <= MAX_BYTES => part.push(completed),
            _ => {
                size = completed_size(&completed);
                parts.push(vec![completed]);
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::BareJid;

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

    fn completed(ids: &[u64]) -> Vec<Completed> {
        let done = |id: &u64| Completed {
            id: EffectId(*id),
            relays: Vec::new(),
            messages: Vec::new(),
        };
        ids.iter().map(done).collect()
    }

    /// Records `done` of the effects 1 to 4; returns those handed out next when 5 has come.
    #[track_caller]
    fn check(done: &[u64], next: &[u64]) {
        let mut progress = Progress::default();
        let chunk = progress.next(|_, _| (1..=4).map(effect).collect());
        let (recorded, all) = progress.record(&chunk, completed(done));
        assert_eq!((recorded.len(), all), (done.len().min(4), done.len() >= 4));
        let chunk = progress.next(|after, _| (after.0 + 1..=5).map(effect).collect());
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
    fn a_host_that_claims_what_it_was_not_asked_for_is_not_believed() {
        let mut progress = Progress::default();
        let (recorded, all) = progress.record(&[effect(1)], completed(&[7]));
        assert_eq!((recorded, all), (Vec::new(), false));
    }

    #[test]
    fn completions_are_cut_to_the_size_of_an_entry() {
        let mut done = completed(&[1, 2, 3]);
        done[1].messages = vec![];
        assert_eq!(split(done.clone()).len(), 1);
        assert_eq!(split(Vec::new()).len(), 0);
    }
}
