//! Who tells what.

use cluster::format::{Version, Versions};
use cluster::mirror::LimitCounts;
use cluster::session::Totals;
use cluster::status::{MemberState, NodeStatus, ReplicaStatus, ShardStatus, Status};
use cluster::{NodeId, ShardId};

use super::*;

fn node(seat: u64, state: MemberState) -> NodeStatus {
    NodeStatus {
        seat,
        node: Some(NodeId(seat * 10)),
        address: String::new(),
        up: true,
        me: seat == 1,
        state: Some(state),
        formats: Some(Versions::SPOKEN),
        zone: None,
    }
}

fn shard(shard: u16, mine: bool) -> ShardStatus {
    let replicas = [(20, Some(7)), (30, None)];
    let replicas = replicas.map(|(node, lag)| ReplicaStatus {
        node: NodeId(node),
        lag,
    });
    ShardStatus {
        shard: ShardId(shard),
        leader: Some(NodeId(if mine { 10 } else { 20 })),
        term: 1,
        last_log: 100,
        committed: 90,
        applied: 88,
        voters: Vec::new(),
        learners: Vec::new(),
        target: Vec::new(),
        mine,
        replicas: replicas.into_iter().filter(|_| mine).collect(),
        last_commit: None,
        snapshot_bytes: 0,
        sessions: 0,
        hibernated: 0,
        pending: 0,
        stalled: None,
    }
}

/// Of a node that leads one of two shards, or the other.
fn sample(leads: u16) -> Sample {
    let states = [MemberState::Active, MemberState::Away, MemberState::Active];
    Sample {
        is_ready: true,
        status: Status {
            format: Version::CURRENT,
            nodes: (1..)
                .zip(states)
                .map(|(seat, state)| node(seat, state))
                .collect(),
            shards: (0..2)
                .map(|number| shard(number, number == leads))
                .collect(),
        },
        totals: Totals {
            hibernated: 3,
            outbox: 5,
            ..Totals::default()
        },
        disk: Disk {
            log: 1 << 20,
            snapshots: 1 << 10,
            is_short: false,
        },
        limits: LimitCounts {
            by_shard: 4,
            ..LimitCounts::default()
        },
        has_redis: false,
        dissents: 2,
        requests: vec![("urn:xmpp:mam:2", 7)],
        certificate_end: Some(1_900_000_000_000),
    }
}

#[track_caller]
fn check(text: &str, lines: &[&str], absent: &[&str]) {
    for line in lines {
        assert!(
            text.lines().any(|found| found == *line),
            "no {line}:\n{text}"
        );
    }
    for name in absent {
        assert!(!text.contains(name), "{name}:\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    assert_eq!(text.matches("# EOF").count(), 1);
}

#[test]
fn what_was_counted_and_what_is_measured_are_in_the_text() {
    let metrics = Metrics::default();
    metrics.resumes.inc(ResumeResult::Resumed);
    metrics.refused.inc(Refused::ProxyHeader);
    metrics.connections.set(3);
    let text = metrics.text(&sample(0));
    let lines = [
        "holdfast_resumes_total{result=\"resumed\"} 1",
        "holdfast_resumes_total{result=\"not_found\"} 0",
        "holdfast_refused_connections_total{reason=\"proxy_header\"} 1",
        "holdfast_c2s_connections 3",
        "holdfast_ready 1",
        "holdfast_hibernated_sessions 3",
        "holdfast_outbox_items 5",
        "holdfast_log_bytes 1048576",
        "holdfast_snapshot_bytes 1024",
        "holdfast_replica_dissents_total 2",
        "holdfast_requests_total{namespace=\"urn:xmpp:mam:2\"} 7",
        "holdfast_limit_decisions_total{source=\"shard\"} 4",
        "holdfast_certificate_expiry_timestamp_seconds 1900000000",
        "holdfast_failovers_total 0",
        "holdfast_replica_moves_total{step=\"vote\"} 0",
        "process_start_time_seconds 0.0",
    ];
    check(&text, &lines, &[]);
    let build = format!(
        "holdfast_build_info{{version=\"{}\"",
        env!("CARGO_PKG_VERSION")
    );
    assert!(text.contains(&build), "{text}");
}

#[test]
fn what_all_nodes_know_is_told_by_one_of_them() {
    let metrics = Metrics::default();
    let lines = [
        "holdfast_shards_led 1",
        "holdfast_apply_lag_entries{shard=\"0\"} 2",
        "holdfast_apply_lag_entries{shard=\"1\"} 2",
        "holdfast_members{state=\"active\"} 2",
        "holdfast_members{state=\"away\"} 1",
        "holdfast_members{state=\"removed\"} 0",
        "holdfast_replica_lag_entries{shard=\"0\",node=\"2\"} 7",
        "holdfast_replica_lag_entries{shard=\"0\",node=\"3\"} 100",
    ];
    let absent = ["holdfast_replica_lag_entries{shard=\"1\""];
    check(&metrics.text(&sample(0)), &lines, &absent);
    let lines = ["holdfast_replica_lag_entries{shard=\"1\",node=\"2\"} 7"];
    let absent = [
        "holdfast_replica_lag_entries{shard=\"0\"",
        "holdfast_members",
    ];
    check(&metrics.text(&sample(1)), &lines, &absent);
}

#[test]
fn what_is_not_there_is_not_shown_as_down() {
    let metrics = Metrics::default();
    let mut sample = sample(0);
    check(&metrics.text(&sample), &[], &["redis_up", "redis_errors"]);
    sample.has_redis = true;
    let lines = ["holdfast_redis_errors_total 0"];
    check(&metrics.text(&sample), &lines, &["redis_up"]);
    sample.limits.up = Some(false);
    check(&metrics.text(&sample), &["holdfast_redis_up 0"], &[]);
    // It leads nothing any more, and does not hear when Redis is back.
    for shard in &mut sample.status.shards {
        shard.mine = false;
    }
    check(&metrics.text(&sample), &[], &["redis_up"]);
}
