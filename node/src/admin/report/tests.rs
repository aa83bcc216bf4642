//! What one node and the leaders know, put together.

use cluster::ShardId;
use cluster::format::{Version, Versions};
use cluster::status::{Cause, MemberState, ReplicaStatus, Stalled};

use super::*;

fn node_status(seat: u64, node: NodeId, up: bool) -> NodeStatus {
    NodeStatus {
        seat,
        node: Some(node),
        address: format!("h:{seat}"),
        up,
        me: seat == 1,
        state: Some(if up {
            MemberState::Active
        } else {
            MemberState::Away
        }),
        formats: Some(Versions::SPOKEN),
        zone: None,
    }
}

fn shard_status(number: u16, leader: u64, voters: &[u64]) -> ShardStatus {
    ShardStatus {
        shard: ShardId(number),
        leader: Some(NodeId(leader)),
        term: 3,
        last_log: 12,
        committed: 11,
        applied: 9,
        voters: voters.iter().copied().map(NodeId).collect(),
        learners: Vec::new(),
        target: Vec::new(),
        mine: leader == 1,
        replicas: Vec::new(),
        last_commit: Some(40),
        snapshot_bytes: 0,
        sessions: 4,
        hibernated: 1,
        pending: 0,
        stalled: None,
    }
}

/// Of nodes 1, 2 and so on, of which these are up.
fn status(nodes: u64, up: &[u64], shards: Vec<ShardStatus>) -> Status {
    let nodes = (1..=nodes).map(|seat| node_status(seat, NodeId(seat), up.contains(&seat)));
    Status {
        format: Version::CURRENT,
        nodes: nodes.collect(),
        shards,
    }
}

#[test]
fn nodes_are_named_by_their_seats_and_their_ids_in_full() {
    let id = NodeId(u64::MAX - 1);
    let stalled = Some(Stalled {
        shard: ShardId(1),
        seconds: 5,
        cause: Cause::Unanswered(2),
    });
    let shard = ShardStatus {
        stalled,
        ..shard_status(1, id.0, &[id.0, 7])
    };
    let status = Status {
        format: Version::CURRENT,
        nodes: vec![node_status(2, id, true)],
        shards: vec![shard],
    };
    let report = ClusterReport::new(status, &[]);
    let (node, shard) = (&report.nodes[0], &report.shards[0]);
    assert_eq!(node.node.as_deref(), Some("fffffffffffffffe"));
    assert_eq!((node.leads, shard.leader, shard.lag), (1, Some(2), 2));
    let stalled = "shard 1 has committed nothing for 5 s: the node in seat 2, which leads it, does not answer";
    assert_eq!(shard.stalled.as_deref(), Some(stalled));
    assert_eq!(shard.voters, ["0000000000000007", "2"]);
    assert!(!report.majority, "one of two is none");
}

#[test]
fn a_leader_that_is_reached_tells_how_far_the_others_are() {
    let own = shard_status(0, 2, &[1, 2, 3]);
    let replicas = [(1, Some(0)), (3, Some(7)), (4, None)];
    let replicas = replicas.map(|(node, lag)| ReplicaStatus {
        node: NodeId(node),
        lag,
    });
    let led = ShardStatus {
        mine: true,
        last_log: 1000,
        learners: vec![NodeId(4)],
        target: [1, 2, 4].map(NodeId).to_vec(),
        replicas: replicas.to_vec(),
        ..own.clone()
    };
    let report = ClusterReport::new(
        status(4, &[1, 2, 3, 4], vec![own.clone()]),
        std::slice::from_ref(&led),
    );
    let shard = &report.shards[0];
    assert_eq!((shard.last_log, shard.applied), (12, 9), "its own");
    let behind: Vec<_> = shard.behind.iter().map(|(n, lag)| (&**n, *lag)).collect();
    assert_eq!(behind, [("1", Some(0)), ("3", Some(7)), ("4", None)]);
    let expect = MoveReport {
        shard: 0,
        joins: vec![String::from("4")],
        leaves: vec![String::from("3")],
        lacks: None,
        entries: 1000,
    };
    assert_eq!(report.moves, [expect]);
    assert_eq!((report.majority, report.can_lose), (true, 1));
    assert_eq!(report.warnings, [""; 0]);
    // One that led before does not know better.
    let before = ShardStatus { term: 2, ..led };
    let report = ClusterReport::new(status(4, &[1, 2, 3, 4], vec![own]), &[before]);
    assert!(report.shards[0].behind.is_empty());
}

#[test]
fn who_is_missing_and_what_stands_still_is_said_first() {
    let shards = || vec![shard_status(0, 2, &[1, 2, 3]), shard_status(1, 1, &[1])];
    let report = ClusterReport::new(status(3, &[1, 2], shards()), &[]);
    assert_eq!((report.majority, report.can_lose), (true, 0));
    assert_eq!(
        report.warnings,
        ["node 3 cannot be reached (away) and votes in shard 0"]
    );
    let report = ClusterReport::new(status(3, &[1], shards()), &[]);
    assert_eq!((report.majority, report.can_lose), (false, 0));
    assert!(
        report.warnings[0].starts_with("no majority for shard 0: "),
        "{:?}",
        report.warnings
    );
    assert_eq!(report.warnings.len(), 3);
    assert_eq!(report.shards[0].leader, None, "nobody knows who leads");
    assert_eq!(report.shards[1].leader, Some(1));
    let report = ClusterReport::new(status(3, &[1, 3], shards()), &[]);
    assert_eq!(report.warnings[0], "no leader for shard 0");
    assert!(!report.majority);
}

#[test]
fn nodes_of_two_builds_are_told_apart() {
    let mut status = status(2, &[1, 2], vec![shard_status(0, 1, &[1])]);
    let newest = Version(Version::CURRENT.0 + 1);
    status.nodes[1].formats = Some(Versions {
        oldest: Version::CURRENT,
        newest,
    });
    let report = ClusterReport::new(status, &[]);
    assert!(report.warnings[0].contains("an upgrade is not complete"));
    let shown = format!("{} to {newest}", Version::CURRENT);
    assert_eq!(report.nodes[1].formats, Some(shown));
}
