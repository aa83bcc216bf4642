//! Replication: the parts that openraft needs, and what keeps them going.
//!
//! `types` names openraft's parameters. `groups` starts one Raft group per shard; `network` connects it with the other
//! members, `failover` chooses its leader, and `membership` its voters, by what `roll`, `seen`, `placement` and `step`
//! decide, and `retirement` who is none any more; `tell` spreads all that to nodes without a replica. `log` keeps the entries of all groups in one
//! write-ahead log per node, `machine` applies them to a shard's pure state, and `snapshot` keeps that state on disk,
//! so that entries may be forgotten; `keep` sees to it that this happens in time. `dissent` ends a process whose
//! replica differs from the others, `verify` reads everything without starting anything, and `salvage` makes a group
//! anew of what one member has of it.
//!
//! # Invariants
//!
//! 1. What was promised to a peer or a client is on disk: votes and entries wait for the sync.
//! 2. A failed write or sync is never retried, and a committed entry never skipped: the process ends
//!    ([`Fatal`]), and the other replicas carry on.

use std::fmt;
use std::io::{self, Write as _};
use std::sync::Arc;

pub mod dissent;
pub(crate) mod failover;
pub(crate) mod groups;
mod keep;
pub(crate) mod known;
pub(crate) mod log;
pub mod machine;
pub(crate) mod membership;
pub(crate) mod network;
pub(crate) mod placement;
mod proposed;
pub(crate) mod replica;
pub(crate) mod retirement;
pub(crate) mod roll;
pub(crate) mod salvage;
mod seen;
#[cfg(test)]
mod simulation;
pub mod snapshot;
mod step;
pub(crate) mod tell;
pub mod types;
pub mod verify;
pub mod zones;

/// What to do when the node cannot go on: by default the process ends at once.
///
/// Nothing may run after a failed sync, not even destructors: a promise that is already on its way
/// could otherwise leave the node without what it promises.
#[derive(Clone)]
pub struct Fatal(Arc<dyn Fn(&str) + Send + Sync>);

impl Fatal {
    /// Calls `act` with the reason instead of ending the process; for tests.
    pub fn new(act: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(act))
    }

    /// Says why and ends the process.
    pub fn abort() -> Self {
        Self::new(|why| {
            tracing::error!("{why}; the node stops");
            // The log may go to a pipe that nobody reads any more.
            drop(writeln!(io::stderr(), "holdfast: {why}; the node stops"));
            std::process::abort();
        })
    }

    /// Acts because the node cannot go on for this reason.
    pub fn call(&self, why: impl fmt::Display) {
        (self.0)(&why.to_string());
    }
}

impl Default for Fatal {
    fn default() -> Self {
        Self::abort()
    }
}

impl fmt::Debug for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fatal")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::future::Future;
    use std::path::Path;
    use std::time::{Duration, Instant};

    use openraft::errors::{ReplicationClosed, Unreachable};
    use openraft::network::RPCOption;
    use openraft::{Config, OptionalSend, RaftNetworkFactory, RaftNetworkV2, SnapshotPolicy};

    use super::log::{Log, Options};
    use super::machine::{Machine, tests::Deaf};
    use super::types::*;
    use super::*;
    use crate::ShardId;
    use crate::session::{Batch, Command, ShardState};

    /// A network with nobody else in it.
    struct Alone;

    fn nobody() -> Unreachable<TC> {
        Unreachable::new(&std::io::Error::other("there is nobody else"))
    }

    impl RaftNetworkFactory<TC> for Alone {
        type Network = Self;

        async fn new_client(&mut self, _: RaftId, _: &Seat) -> Self {
            Self
        }
    }

    impl RaftNetworkV2<TC> for Alone {
        type SnapshotData = snapshot::SnapshotData;

        async fn append_entries(
            &mut self,
            _: AppendRequest,
            _: RPCOption,
        ) -> Result<AppendResponse, RpcError> {
            Err(nobody().into())
        }

        async fn vote(&mut self, _: VoteRequest, _: RPCOption) -> Result<VoteResponse, RpcError> {
            Err(nobody().into())
        }

        async fn full_snapshot(
            &mut self,
            _: Vote,
            _: Snapshot,
            _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
            _: RPCOption,
        ) -> Result<SnapshotResponse, StreamingError> {
            Err(StreamingError::Unreachable(nobody()))
        }
    }

    async fn start(dir: &Path) -> (Raft, Machine, log::GroupLog) {
        let config = Config {
            heartbeat_interval: 20,
            election_timeout_min: 50,
            election_timeout_max: 100,
            enable_leader_restore: Some(false),
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: 3,
            purge_batch_size: 1,
            ..Config::default()
        };
        let options = Options {
            segment_bytes: 2048,
            ..Options::default()
        };
        let log = Log::open(&dir.join("log"), options)
            .expect("opens")
            .group(1);
        let machine = Machine::open((ShardId(0), 1), dir, None, Arc::new(Deaf), Fatal::abort())
            .expect("opens");
        machine.covers(log.purged()).expect("covers");
        let config = Arc::new(config.validate().expect("valid"));
        let raft = Raft::new(1, config, Alone, log.clone(), machine.clone())
            .await
            .expect("starts");
        (raft, machine, log)
    }

    fn state(machine: &Machine) -> ShardState {
        machine.replica().lock().expect("lock").state.clone()
    }

    async fn write(raft: &Raft, now: u64) {
        let batch = Batch {
            now,
            commands: vec![Command::Tick],
        };
        let written = raft
            .client_write(Proposal::new(&batch))
            .await
            .expect("writes");
        assert_eq!(written.data.len(), 1);
    }

    async fn found(dir: &Path) -> (Raft, Machine, log::GroupLog) {
        let started = start(dir).await;
        let raft = &started.0;
        raft.initialize(BTreeMap::from([(1, Seat::default())]))
            .await
            .expect("initialises");
        raft.wait(Some(Duration::from_secs(10)))
            .current_leader(1, "leads")
            .await
            .expect("leads");
        started
    }

    #[tokio::test]
    async fn no_entry_is_forgotten_for_a_snapshot_that_cannot_be_read_and_the_group_goes_on() {
        let dir = tempfile::tempdir().expect("dir");
        let (raft, machine, log) = found(dir.path()).await;
        for now in 1..=20 {
            write(&raft, now * 1000).await;
        }
        machine.file().spoil();
        raft.trigger().snapshot().await.expect("asks");
        let begun = Instant::now();
        while !machine.snapshot_rests() {
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "it was taken for good"
            );
            write(&raft, 21_000).await;
        }
        assert_eq!(log.purged(), None);
        // The next one is good, and only then entries go.
        while log.purged().is_none() {
            raft.trigger().snapshot().await.expect("asks");
            write(&raft, 22_000).await;
        }
        let kept = machine.file().load().expect("loads").expect("is there");
        assert!(log.purged() <= kept.meta.last_log_id);
        raft.shutdown().await.expect("stops");
        drop((raft, machine, log));
    }

    #[tokio::test]
    async fn a_group_comes_back_from_its_snapshot_and_its_log() {
        let dir = tempfile::tempdir().expect("dir");
        let (raft, machine, log) = found(dir.path()).await;
        for now in 1..=20 {
            write(&raft, now * 1000).await;
        }
        let policy = snapshot::SnapshotPolicy {
            bytes: 1,
            age: Duration::MAX,
            stretch: 1.0,
        };
        assert!(machine.snapshot_if_due(&raft, &policy).await.expect("asks"));
        while log.purged().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        write(&raft, 21_000).await;
        let before = state(&machine);
        raft.shutdown().await.expect("stops");
        drop((raft, machine, log));

        let (raft, machine, _log) = start(dir.path()).await;
        raft.wait(Some(Duration::from_secs(10)))
            .current_leader(1, "leads")
            .await
            .expect("leads");
        raft.wait_for_recovery(Some(Duration::from_secs(10)))
            .await
            .expect("recovers");
        assert_eq!(state(&machine), before);
        write(&raft, 22_000).await;
    }
}
