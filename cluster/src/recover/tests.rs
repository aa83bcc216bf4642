//! What a stopped node is found to have, and what is made of it, interrupted wherever it may be.

use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::{EntryPayload, Membership};

use super::*;
use crate::config::{LinkAuth, Peer};
use crate::identity::ClusterId;
use crate::raft::Fatal;
use crate::raft::groups::group_of;
use crate::raft::log::Log;
use crate::raft::machine::Machine;
use crate::raft::machine::tests::Deaf;
use crate::raft::snapshot::SnapshotFile;
use crate::raft::types::{Entry, LogId, Proposal, SnapshotMeta, StoredMembership, Vote};
use crate::session::{Batch, Command, Settings};

/// The others of seats 2 and 3.
const OTHERS: [u64; 2] = [22, 33];
/// The clock of the first entry.
const BEGIN: u64 = 1_000_000;

fn id(term: u64, index: u64) -> LogId {
    openraft::testing::log_id::<crate::raft::types::TC>(term, OTHERS[0], index)
}

fn members(nodes: &[u64]) -> Membership<u64, Seat> {
    let seats = nodes.iter().zip(1..);
    let seats = seats.map(|(node, seat)| {
        let address = format!("node{seat}:1");
        (*node, Seat { seat, address })
    });
    let seats: BTreeMap<u64, Seat> = seats.collect();
    Membership::new(vec![nodes.iter().copied().collect()], seats).expect("valid")
}

fn entry(term: u64, index: u64) -> Entry {
    let batch = Batch {
        now: BEGIN + 1000 * index,
        commands: vec![Command::Tick],
    };
    Entry {
        log_id: id(term, index),
        payload: EntryPayload::Normal(Proposal::new(&batch)),
    }
}

fn options() -> Options {
    Options {
        segment_bytes: 1 << 20,
        fsync: false,
        ..Options::default()
    }
}

fn config(dir: &Path) -> Config {
    let peer = |seat| Peer {
        seat,
        address: format!("node{seat}:1"),
    };
    Config {
        peers: (1..=3).map(peer).collect(),
        auth: LinkAuth::Secrets(vec![vec![7; 32]]),
        advertise: String::from("node1:1"),
        ..Config::single(dir.to_owned(), Settings::default())
    }
}

/// The data directory of node 1 of three: of shard 0 it has the entries 0 to 9, of which 7 were known to be committed;
/// of shard 1 a snapshot up to entry 4 of term 6, and a log that ends with entries 3 to 8 of a leader that lost; of
/// shard 2 nothing.
fn survivor() -> tempfile::TempDir {
    survivor_among(&OTHERS)
}

fn survivor_among(others: &[u64]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("dir");
    drop(claim::claim_dir(dir.path()).expect("claims"));
    let identity = Identity::open(dir.path(), 1, true).expect("opens");
    identity.join(ClusterId(5)).expect("joins");
    identity.set_voted().expect("writes");
    let nodes = [&[identity.node().0], others].concat();
    let log = Log::open(&dir.path().join("log"), options()).expect("opens");
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.expect("starts").block_on(async {
        let mut group = log.group(group_of(ShardId(0)));
        let founding = Entry {
            log_id: id(1, 0),
            payload: EntryPayload::Membership(members(&nodes)),
        };
        let entries = std::iter::once(founding).chain((1..10).map(|index| entry(3, index)));
        group.blocking_append(entries).await.expect("appends");
        group.save_committed(Some(id(3, 6))).await.expect("saves");
        let vote = Vote::new_committed(3, OTHERS[0]);
        group.save_vote(&vote).await.expect("saves");
        let mut group = log.group(group_of(ShardId(1)));
        group.purge(id(2, 2)).await.expect("purges");
        let lost = (3..9).map(|index| entry(5, index));
        group.blocking_append(lost).await.expect("appends");
        let vote = Vote::new_committed(6, OTHERS[1]);
        group.save_vote(&vote).await.expect("saves");
    });
    let mut state = ShardState::new(ShardId(1), 3);
    let batch = Batch {
        now: BEGIN,
        commands: vec![Command::Tick],
    };
    state.apply(batch);
    let meta = SnapshotMeta {
        last_log_id: Some(id(6, 4)),
        last_membership: StoredMembership::new(Some(id(1, 0)), members(&nodes)),
    };
    let snapshots = dir.path().join("snapshots");
    let file = SnapshotFile::new(&snapshots, (ShardId(1), 3), Some(identity));
    file.expect("file").save(&meta, &state).expect("saves");
    dir
}

/// All files below a directory, with what is in them.
fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).expect("lists") {
        let path = entry.expect("is there").path();
        match path.is_dir() {
            true => all.extend(content(&path)),
            false => drop(all.insert(path.clone(), fs::read(&path).expect("reads"))),
        }
    }
    all
}

fn open(dir: &Path) -> Recovery {
    Recovery::open(&config(dir)).expect("opens")
}

fn carry_out(recovery: Recovery) -> Done {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let done = runtime.expect("starts").block_on(recovery.carry_out());
    done.expect("recovers")
}

#[test]
fn what_is_there_is_told_and_nothing_is_changed() {
    let dir = survivor();
    let before = content(dir.path());
    let recovery = open(dir.path());
    let found = recovery.found().expect("begins").clone();
    assert_eq!(recovery.phrase(), found.node.to_string());
    assert_eq!((&*found.cluster, found.seat), ("0000000000000005", 1));
    let ShardFound::Replica(first) = &found.shards[&ShardId(0)] else {
        panic!("{found:?}");
    };
    assert_eq!((first.role, first.term), (Role::Voter, 3));
    assert_eq!(first.last, Place { term: 3, index: 9 });
    assert_eq!((first.committed, first.unconfirmed), (Some(6), 3));
    assert_eq!(first.unconfirmed_since, Some(BEGIN + 7000));
    assert_eq!((first.at, first.snapshot), (BEGIN + 9000, None));
    let seats: Vec<_> = first.voters.iter().map(|voter| voter.seat).collect();
    assert_eq!(seats, [1, 2, 3]);
    // A snapshot of a later leader counts, and the entries behind it do not.
    let ShardFound::Replica(second) = &found.shards[&ShardId(1)] else {
        panic!("{found:?}");
    };
    assert_eq!(second.last, Place { term: 6, index: 4 });
    assert_eq!((second.unconfirmed, second.at), (0, BEGIN));
    assert_eq!(found.shards[&ShardId(2)], ShardFound::Missing);
    drop(recovery);
    assert!(content(dir.path()) == before, "something has changed");
}

#[test]
fn the_node_votes_alone_in_a_cluster_of_its_own_and_knows_all_that_it_knew() {
    let dir = survivor();
    let before = Identity::peek(dir.path(), 1, false).expect("reads");
    let before = before.expect("is there");
    let done = carry_out(open(dir.path()));
    let identity = Identity::peek(dir.path(), 1, false).expect("reads");
    let identity = identity.expect("is there");
    assert_ne!(identity.cluster(), before.cluster());
    assert_ne!(identity.node(), before.node());
    assert_eq!(done.node, identity.node());
    for node in OTHERS.map(NodeId).iter().chain([&before.node()]) {
        assert!(identity.is_retired(*node), "{node}");
    }
    assert!(done.kept.join("log").is_dir() && done.kept.join("identity").is_file());

    let log = Log::open(&dir.path().join("log"), options()).expect("opens");
    let expect = [(4, 10, BEGIN + 9000), (7, 5, BEGIN), (1, 0, 0)];
    for (shard, (term, index, now)) in (0..3).map(ShardId).zip(expect) {
        let machine = Machine::open(
            (shard, 3),
            &dir.path().join("snapshots"),
            Some(identity.clone()),
            std::sync::Arc::new(Deaf),
            Fatal::abort(),
        );
        let machine = machine.expect("opens");
        let mut group = log.group(group_of(shard));
        machine.covers(group.purged()).expect("covers");
        let replica = machine.replica();
        let replica = replica.lock().expect("lock");
        let applied = replica.applied.expect("has entries");
        assert_eq!((applied.leader_id.term, applied.index), (term, index));
        assert_eq!(group.last(), Some(applied));
        assert_eq!(replica.state.now(), now);
        let alone = BTreeSet::from([identity.node().0]);
        assert_eq!(replica.membership.membership().get_joint_config(), &[alone]);
        drop(replica);
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let vote = openraft::RaftLogReader::read_vote(&mut group);
        let vote = runtime.expect("starts").block_on(vote).expect("reads");
        assert_eq!(vote, Some(Vote::new(term, identity.node().0)));
    }
    drop(log);
    let again = Recovery::open(&config(dir.path()));
    assert!(matches!(again, Err(RecoverError::Whole)), "{again:?}");
}

#[test]
fn a_recovery_that_is_interrupted_is_begun_anew_or_finished_and_no_node_starts_in_between() {
    let whole = survivor();
    carry_out(open(whole.path()));
    let mut steps = 0;
    loop {
        let dir = survivor();
        let phrase = open(dir.path()).phrase().to_owned();
        // What a first attempt left behind, which was killed while it wrote.
        fs::create_dir(dir.path().join(NEW)).expect("makes");
        fs::write(dir.path().join(NEW).join("identity"), "half").expect("writes");
        refuse_unfinished(dir.path()).expect("may start");
        let Step::Begin(begin) = open(dir.path()).step else {
            panic!("nothing was confirmed");
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let seat = Seat::default();
        let prepared = prepare(dir.path(), &phrase, seat, *begin);
        runtime.expect("starts").block_on(prepared).expect("writes");
        let kept = dir.path().join(format!("{BEFORE}{phrase}"));
        disk::private_dir(&kept).expect("makes");
        let ended = (0..steps).any(|_| !step_once(dir.path(), &phrase).expect("moves"));
        assert!(matches!(
            refuse_unfinished(dir.path()),
            Err(IdentityError::HalfRecovered { .. })
        ));
        let checked = crate::verify::verify(dir.path(), 1, 3);
        assert!(checked.is_err(), "{checked:?} after {steps} steps");
        let again = open(dir.path());
        assert_eq!((again.found(), again.phrase()), (None, &*phrase));
        let done = carry_out(again);
        refuse_unfinished(dir.path()).expect("may start");
        assert!(crate::verify::verify(dir.path(), 1, 3).expect("can be read"));
        let old = Identity::peek(&done.kept, 1, false).expect("reads");
        assert_eq!(old.expect("is there").node().to_string(), phrase);
        if ended {
            break;
        }
        steps += 1;
    }
    assert_eq!(steps, 7, "two moves for each part, and none");
}

#[track_caller]
fn check_refused(dir: &Path, change: impl FnOnce(&mut Config), expect: &str) {
    let mut config = config(dir);
    change(&mut config);
    let before = content(dir);
    let refused = Recovery::open(&config).expect_err("is refused").to_string();
    assert!(refused.contains(expect), "{refused}");
    assert!(content(dir) == before, "something has changed");
}

#[test]
fn what_cannot_be_recovered_is_refused_and_left_alone() {
    let dir = survivor();
    check_refused(dir.path(), |config| config.peers.clear(), "no [cluster]");
    check_refused(dir.path(), |config| config.seat = 2, "belongs to seat 1");
    check_refused(dir.path(), |config| config.shards = 1, "2 shards here");
    check_refused(dir.path(), |config| config.shards = 4, "another shard");
    let claim = claim::claim_dir(dir.path()).expect("is free");
    check_refused(dir.path(), |_| (), "is in use by process");
    drop(claim);
    let log = File::open(dir.path().join("log").join(LOCK)).expect("opens");
    log.try_lock().expect("is free");
    check_refused(dir.path(), |_| (), "in use by another process");
    drop(log);
    let alone = survivor_among(&[]);
    // Of shard 2 it has nothing, so that there is something to lose.
    assert!(Recovery::open(&config(alone.path())).is_ok());
    let identity = Identity::open(dir.path(), 1, false).expect("opens");
    identity.retire(identity.node()).expect("writes");
    check_refused(dir.path(), |_| (), "was given up");
    let fresh = tempfile::tempdir().expect("dir");
    check_refused(fresh.path(), |_| (), "no data of a cluster");
    drop(claim::claim_dir(fresh.path()).expect("claims"));
    check_refused(fresh.path(), |_| (), "no data of a cluster");
}
