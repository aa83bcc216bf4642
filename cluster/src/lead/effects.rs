//! Has pending effects carried out: each lane by itself, in the order of the effects' numbers.
//!
//! One chunk of a lane is with the host at a time. What it could not do is asked for again, with pauses, and
//! what comes later in the lane waits, so that nothing overtakes. That an effect is done becomes true with
//! [`Command::Done`]; a leader that dies before leaves it to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use proto::{BareJid, Jid};
use serde::Serialize;
use tokio::task::JoinSet;

use super::{Group, MAX_COMMANDS, Queue};
use crate::cluster::Host;
use crate::session::{Command, Completed, Effect, Fetched, Lane, Pending, Relay, ShardState};
use crate::{EffectId, Mid, bound, codec, fail};

const SHORTEST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);
/// Reports of completion under way at a time, of one lane.
const REPORTS: usize = 64;
/// Rows that are written at a time: a transaction costs about the same whatever it writes.
const MAX_ROWS: usize = 1024;
/// Bytes of the effects of a chunk, about, if it is more than one.
const CHUNK_BYTES: u64 = 2 << 20;

/// Runs one lane for as long as this node leads.
pub async fn run<G: Group>(group: Arc<G>, queue: Queue, host: Arc<dyn Host>, lane: Lane) {
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
        let (chunk, first) = group.read(|state| progress.next(state, lane));
        if chunk.is_empty() {
            if applied.changed().await.is_err() {
                return;
            }
            continue;
        }
        fail::point("effects-begun");
        let asked = first.into_iter().chain(chunk.iter().cloned()).collect();
        // In a task of its own: if it panics, this one goes on.
        let performing = tokio::spawn(host.perform(shard, asked));
        let performing = AbortOnDrop(performing);
        let done = performing.join().await.unwrap_or_else(|error| {
            tracing::error!(%shard, ?lane, %error, "carrying out effects failed");
            Vec::new()
        });
        fail::point("effects-done");
        let (done, all) = progress.record(&chunk, done);
        let stuck = done.is_empty();
        for command in commands(&chunk, done) {
            let queue = queue.clone();
            reports.spawn(async move {
                if let Err(over) = queue.insist(command, is_lazy(lane)).await {
                    // It stays pending, and is done again by whoever leads next.
                    tracing::error!(%shard, %over, "what follows from an effect cannot be carried");
                }
            });
        }
        // A host that does a part of it will do the rest.
        if !stuck {
            pause = SHORTEST;
        }
        if !all {
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

/// Which effects of a lane need not be handed out any more. Pure.
#[derive(Debug, Default)]
struct Progress {
    /// All of the lane up to here are done.
    upto: EffectId,
    /// So are these behind it.
    ahead: BTreeSet<EffectId>,
    /// Those behind `upto` that were looked at last, in order.
    seen: Vec<EffectId>,
}

impl Progress {
    /// The next chunk, and the rows that must be written before it.
    fn next(&mut self, state: &ShardState, lane: Lane) -> (Vec<Pending>, Vec<Pending>) {
        let max = match lane {
            Lane::Rows => MAX_ROWS,
            Lane::Reads | Lane::Forgets | Lane::Rosters | Lane::Pushes => MAX_COMMANDS,
        };
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

    /// Notes what became of a chunk; returns what is done, and whether that is all of it.
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

/// Whether word of what is done may wait: of rows that are written it can, of what a client or a contact is
/// to get it cannot.
fn is_lazy(lane: Lane) -> bool {
    match lane {
        Lane::Rows | Lane::Forgets => true,
        Lane::Reads | Lane::Rosters | Lane::Pushes => false,
    }
}

/// Completions as commands that fit into an entry.
fn commands(chunk: &[Pending], done: Vec<Completed>) -> Vec<Command> {
    let effects: BTreeMap<EffectId, &Effect> = chunk.iter().map(|p| (p.id, &*p.effect)).collect();
    let (mut commands, mut whole) = (Vec::new(), Vec::new());
    for completed in done {
        match slice(effects.get(&completed.id).copied(), completed) {
            (part, Some(rest)) => commands.push(Command::DoneInPart { part, rest }),
            (completed, None) => whole.push(completed),
        }
    }
    commands.extend(split(whole).into_iter().map(Command::Done));
    commands
}

/// What goes into one entry of what follows from an effect, and the effect that is left to be done.
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
            behind(mids, &mut completed.messages).map(|mids| {
                let account = account.clone();
                Effect::Return { account, mids }
            })
        }
        Some(
            Effect::Unavailable { packet, directed }
            | Effect::UnavailableBehind {
                packet, directed, ..
            },
        ) => last(&mut completed.relays).map(|after| {
            let behind = directed.iter().filter(|to| to.bare() > after);
            Effect::UnavailableBehind {
                packet: packet.clone(),
                directed: behind.cloned().collect(),
                after,
            }
        }),
        _ => None,
    };
    (completed, rest)
}

/// Takes out the messages that do not fit; returns which they are, if there are any.
fn behind(mids: &[Mid], messages: &mut Vec<Fetched>) -> Option<Vec<Mid>> {
    let fits = room(messages.iter());
    let first = messages.drain(fits..).next()?;
    let place = mids.iter().position(|mid| *mid == first.mid)?;
    Some(mids[place..].to_vec())
}

/// Takes out those addressees who do not fit; returns the last one who is left, if that is not all.
fn last(relays: &mut [Relay]) -> Option<BareJid> {
    let [Relay::Presence { to, .. }] = relays else {
        return None;
    };
    let fits = room(to.iter());
    let more = to.drain(fits..).next().is_some();
    to.last().map(Jid::bare).filter(|_| more)
}

/// How many of these make a full entry: at least one.
fn room<T: Serialize>(all: impl Iterator<Item = T>) -> usize {
    let mut bytes = 0;
    let fits = all.take_while(|one| {
        bytes += codec::size(one);
        bytes <= bound::BATCH
    });
    fits.count().max(1)
}

/// Completions as they fit into entries.
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

#[cfg(test)]
mod tests {
    use proto::stanza::{Header, Kind, MessageType, Packet};

    use super::*;

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

    fn fetched(n: u128, bytes: usize) -> Fetched {
        let kind = Kind::Message(MessageType::Chat);
        Fetched {
            mid: Mid(n),
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
        let account = BareJid::new("a@b").expect("valid");
        let messages = (1..).zip(sizes).map(|(n, bytes)| fetched(n, *bytes));
        let mut messages: Vec<Fetched> = messages.collect();
        let mids = messages.iter().map(|message| message.mid).collect();
        let mut effect = Effect::Return { account, mids };
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
        // Those to whom it was directed go with the part in which their account is.
        let directed = vec![jid(0), jid(999)];
        let mut effect = Effect::Unavailable {
            packet: packet.clone(),
            directed,
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
            let Effect::UnavailableBehind {
                after, directed, ..
            } = &rest
            else {
                panic!("{rest:?}");
            };
            assert_eq!(*directed, [jid(999)]);
            assert_eq!(Some(after), told.last().map(Jid::bare).as_ref());
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
}
