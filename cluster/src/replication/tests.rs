//! Whole nodes over real sockets and disks. Each is a runtime of its own: to drop it is to kill it.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::PoisonError;
use std::time::Instant;

use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use super::*;
use crate::NodeId;
use crate::config::{LinkAuth, Peer};
use crate::id::{ConnId, Owner};
use crate::raft::log::Pressure;
use crate::raft::machine::tests::Deaf;
use crate::raft::replica::ShardReplica;
use crate::raft::types::Proposal;
use crate::session::{Batch, Bind, Command, Settings, ShardState};

const PATIENCE: Duration = Duration::from_secs(20);
/// Small, for the sake of the disk that all these nodes share.
const SEGMENT: u64 = 1 << 20;
/// Elections by openraft's timers alone take at least the lease and one timeout.
const BY_TIMERS: Duration = Duration::from_secs(3);

struct Node {
    replication: Replication,
    runtime: Option<Runtime>,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
        // All tasks are gone. What they shared would keep the log's directory locked for this process.
        if let Some(links) = &self.replication.links {
            links.shutdown();
        }
    }
}

impl Node {
    fn start(config: &Config) -> Self {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("starts");
        let begun = Instant::now();
        loop {
            let observer = |_: &Identity| Arc::new(Deaf) as Arc<dyn Observer>;
            let links = runtime.handle().clone();
            match runtime.block_on(Replication::start(config, None, &links, observer)) {
                Ok(replication) => {
                    return Self {
                        replication,
                        runtime: Some(runtime),
                    };
                }
                // The last run of this node is still letting go of its files and its port.
                Err(StartError::Log(LogError::Locked { .. }) | StartError::Links(_))
                    if begun.elapsed() < PATIENCE =>
                {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn id(&self) -> NodeId {
        self.replication.identity.node()
    }

    fn groups(&self) -> &[Arc<ShardReplica>] {
        self.replication.groups.all()
    }

    fn led(&self) -> usize {
        self.groups()
            .iter()
            .filter(|group| group.leadership().mine)
            .count()
    }

    /// The number of the new entry, if this node could commit one.
    fn write(&self, shard: usize, commands: Vec<Command>) -> Option<u64> {
        let batch = Batch { now: 1, commands };
        let runtime = self.runtime.as_ref().expect("runs");
        let written = runtime.block_on(
            self.groups()[shard]
                .raft
                .client_write(Proposal::new(&batch)),
        );
        written.ok().map(|written| written.log_id.index)
    }

    fn state(&self, shard: usize) -> ShardState {
        let replica = self.groups()[shard].machine.replica();
        let replica = replica.lock().unwrap_or_else(PoisonError::into_inner);
        replica.state.clone()
    }

    fn applied(&self, shard: usize) -> u64 {
        let replica = self.groups()[shard].machine.replica();
        let replica = replica.lock().unwrap_or_else(PoisonError::into_inner);
        replica.applied.map_or(0, |log_id| log_id.index)
    }
}

struct Trio {
    configs: Vec<Config>,
    dirs: Vec<TempDir>,
    nodes: Vec<Option<Node>>,
}

fn free_addresses() -> Vec<SocketAddr> {
    let listeners: Vec<_> = (0..3)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("binds"))
        .collect();
    listeners
        .iter()
        .map(|listener| listener.local_addr().expect("has one"))
        .collect()
}

impl Trio {
    fn start() -> Self {
        let addresses = free_addresses();
        let dirs: Vec<_> = (0..3)
            .map(|_| tempfile::tempdir().expect("makes"))
            .collect();
        let peers: Vec<_> = (1..)
            .zip(&addresses)
            .map(|(seat, address)| Peer {
                seat,
                address: address.to_string(),
            })
            .collect();
        let config = |n: usize| Config {
            seat: n as u64 + 1,
            listen: addresses[n],
            advertise: addresses[n].to_string(),
            peers: peers.clone(),
            auth: LinkAuth::Secrets(vec![vec![7; 32]]),
            log_segment_bytes: SEGMENT,
            ..Config::single(dirs[n].path().to_owned(), Settings::default())
        };
        let configs: Vec<_> = (0..3).map(config).collect();
        let nodes = configs
            .iter()
            .map(|config| Some(Node::start(config)))
            .collect();
        let trio = Self {
            configs,
            dirs,
            nodes,
        };
        trio.until("every shard has a leader", |trio| {
            trio.leaders().iter().all(Option::is_some)
        });
        trio
    }

    fn alive(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().flatten()
    }

    fn node(&self, n: usize) -> &Node {
        self.nodes[n].as_ref().expect("is alive")
    }

    /// Which node leads each shard, if all that live agree on one that lives.
    fn leaders(&self) -> Vec<Option<NodeId>> {
        let leader = |shard: usize| {
            let mine = self
                .alive()
                .find(|node| node.groups()[shard].leadership().mine)?
                .id();
            self.alive()
                .all(|node| node.groups()[shard].leadership().leader == Some(mine))
                .then_some(mine)
        };
        (0..3).map(leader).collect()
    }

    #[track_caller]
    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) -> Duration {
        let begun = Instant::now();
        while !holds(self) {
            if begun.elapsed() > PATIENCE {
                let metrics: Vec<_> = self
                    .alive()
                    .flat_map(Node::groups)
                    .map(|group| group.metrics())
                    .collect();
                panic!("waited too long: {what}: {metrics:#?}");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        begun.elapsed()
    }

    /// Whoever lacks entries needs a snapshot from now on.
    fn forget_entries(&self) {
        for node in self.alive() {
            let runtime = node.runtime.as_ref().expect("runs");
            for group in node.groups() {
                runtime
                    .block_on(group.raft.trigger().snapshot())
                    .expect("runs");
                self.until("a snapshot", |_| group.metrics().snapshot.is_some());
                let covered = group.metrics().snapshot.map_or(0, |log_id| log_id.index);
                runtime
                    .block_on(group.raft.trigger().purge_log(covered))
                    .expect("runs");
                self.until("a purge", |_| {
                    group.metrics().purged.map(|log_id| log_id.index) == Some(covered)
                });
            }
        }
    }

    /// Commits an entry in each shard, and waits until all that live have applied it.
    #[track_caller]
    fn write(&self) {
        (0..3).for_each(|shard| self.commit(shard, Vec::new()));
    }

    #[track_caller]
    fn commit(&self, shard: usize, commands: Vec<Command>) {
        // A leader that has not heard from a quorum yet refuses, as does one that was just replaced.
        let written = Cell::new(None);
        self.until("committed", |trio| {
            let leader = trio
                .alive()
                .find(|node| node.groups()[shard].leadership().mine);
            written.set(leader.and_then(|node| node.write(shard, commands.clone())));
            written.get().is_some()
        });
        self.until("applied", |trio| {
            trio.alive()
                .all(|node| Some(node.applied(shard)) >= written.get())
        });
    }

    /// Has leaders write down who is retired, as a leader's tasks do.
    fn follow_orders(&self) {
        for node in self.alive() {
            let orders = node.replication.roll.orders().borrow().clone();
            let led = |shard: usize| node.groups()[shard].leadership().mine;
            for (shard, due) in orders.into_iter().enumerate() {
                if due.is_empty() || !led(shard) {
                    continue;
                }
                let retire = due.into_iter().map(|node| Command::Retire { node });
                node.write(shard, retire.collect());
            }
        }
    }

    /// The node's disk is empty from now on, and entries alone do not bring back what was on it.
    fn wipe(&mut self, n: usize) {
        self.nodes[n] = None;
        self.forget_entries();
        self.dirs[n] = tempfile::tempdir().expect("makes");
        self.configs[n].data_dir = self.dirs[n].path().to_owned();
        self.nodes[n] = Some(Node::start(&self.configs[n]));
    }
}

#[test]
fn three_empty_nodes_found_one_cluster_with_its_leaders_spread() {
    let trio = Trio::start();
    let cluster = trio.node(0).replication.identity.cluster();
    assert!(cluster.is_some());
    assert!(
        trio.alive()
            .all(|node| node.replication.identity.cluster() == cluster)
    );
    let expect: Vec<_> = trio.alive().map(|node| Some(node.id())).collect();
    assert_eq!(trio.leaders(), expect);
    trio.write();
}

#[test]
fn a_killed_leader_is_replaced_long_before_the_timers() {
    let mut trio = Trio::start();
    trio.write();
    trio.nodes[1] = None;
    let took = trio.until("a new leader", |trio| {
        trio.leaders().iter().all(Option::is_some)
    });
    assert!(took < BY_TIMERS, "took {took:?}");
    println!("new leader {took:?} after the node was gone");
    trio.write();
}

#[test]
fn t_69_a_wiped_disk_joins_under_a_new_id_and_votes_in_place_of_the_old_one() {
    let mut trio = Trio::start();
    trio.write();
    let (old, cluster) = (
        trio.node(0).id(),
        trio.node(0).replication.identity.cluster(),
    );
    // The lowest seat, which would found a second cluster if it did not ask.
    trio.wipe(0);
    let new = trio.node(0).id();
    assert_ne!(new, old);
    trio.until("the new disk votes and the old one does not", |trio| {
        let replaced = |group: &Arc<ShardReplica>| {
            let metrics = group.metrics();
            let membership = metrics.committed_membership_config.membership().clone();
            let nodes: Vec<u64> = membership.nodes().map(|(node, _)| *node).collect();
            membership.get_joint_config().len() == 1
                && nodes.contains(&new.0)
                && !nodes.contains(&old.0)
        };
        trio.alive().flat_map(Node::groups).all(replaced)
    });
    assert_eq!(trio.node(0).replication.identity.cluster(), cluster);
    trio.until("the old id is refused from now on", |trio| {
        trio.follow_orders();
        trio.alive()
            .skip(1)
            .all(|node| node.replication.identity.is_retired(old))
    });
    trio.write();
    // Without the last node there is a quorum only with the new one's vote.
    trio.nodes[2] = None;
    trio.until("a new leader", |trio| {
        trio.leaders().iter().all(Option::is_some)
    });
    trio.write();
}

#[test]
fn a_joining_replica_gets_a_state_of_many_pieces() {
    let mut trio = Trio::start();
    for batch in 0..8 {
        let bind = |n: u64| {
            let session = format!("{n:0>200}@example.org/r");
            Command::Bind(Bind {
                session: session.parse().expect("valid"),
                owner: Owner {
                    node: trio.node(1).id(),
                    boot: trio.node(1).replication.identity.boot(),
                    conn: ConnId(n),
                },
            })
        };
        trio.commit(0, (batch * 500..(batch + 1) * 500).map(bind).collect());
    }
    trio.wipe(0);
    let file = trio.node(1).groups()[0].machine.file().path();
    let length = file.metadata().expect("is there").len();
    assert!(length > 3 * (256 << 10), "{length} bytes");
    trio.until("the same state is on the new disk", |trio| {
        trio.node(0).state(0) == trio.node(1).state(0)
    });
    trio.write();
    assert_eq!(trio.node(0).state(0), trio.node(1).state(0));
    let dir = trio.configs[0].data_dir.join("snapshots");
    let files = std::fs::read_dir(dir).expect("lists");
    let names = files.map(|file| file.expect("is one").path());
    for name in names {
        let extension = name.extension().and_then(|end| end.to_str());
        assert_eq!(extension, Some("snapshot"), "{} is left", name.display());
    }
}

#[test]
fn a_node_that_has_settled_gets_back_what_it_should_lead() {
    let mut trio = Trio::start();
    let expect = trio.leaders();
    trio.nodes[0] = None;
    trio.until("a new leader", |trio| {
        trio.leaders().iter().all(Option::is_some)
    });
    trio.nodes[0] = Some(Node::start(&trio.configs[0]));
    for node in trio.alive() {
        let _inside = node.runtime.as_ref().expect("runs").enter();
        let links = node.replication.links.as_ref().expect("is not alone");
        Failover::start(&node.replication.groups, links, Duration::from_millis(100));
    }
    trio.until("the leaders are as at first", |trio| {
        trio.leaders() == expect
    });
    trio.write();
}

#[test]
fn a_cluster_that_was_stopped_goes_on_where_it_was() {
    let mut trio = Trio::start();
    trio.write();
    let cluster = trio.node(0).replication.identity.cluster();
    let applied: Vec<u64> = (0..3).map(|shard| trio.node(0).applied(shard)).collect();
    trio.nodes.iter_mut().for_each(|node| *node = None);
    trio.nodes = trio
        .configs
        .iter()
        .map(|config| Some(Node::start(config)))
        .collect();
    trio.until("every shard has a leader", |trio| {
        trio.leaders().iter().all(Option::is_some)
    });
    trio.write();
    assert_eq!(trio.node(0).replication.identity.cluster(), cluster);
    assert!((0..3).all(|shard| trio.node(0).applied(shard) > applied[shard]));
}

#[test]
fn a_drained_node_leads_nothing_and_is_given_nothing() {
    let trio = Trio::start();
    let node = trio.node(0);
    assert_eq!(node.led(), 1);
    node.runtime
        .as_ref()
        .expect("runs")
        .block_on(node.replication.drain());
    assert_eq!(node.led(), 0);
    trio.until("others lead", |trio| {
        trio.leaders().iter().all(Option::is_some)
    });
    assert_eq!(node.led(), 0);
    trio.write();
}

#[test]
fn a_node_by_itself_leads_at_once_and_again_after_a_restart() {
    let dir = tempfile::tempdir().expect("makes");
    let config = Config {
        log_segment_bytes: SEGMENT,
        ..Config::single(dir.path().to_owned(), Settings::default())
    };
    let mut applied = 0;
    for _ in 0..2 {
        let node = Node::start(&config);
        let begun = Instant::now();
        while node.led() < 3 {
            assert!(begun.elapsed() < Duration::from_secs(2), "waits for timers");
            std::thread::sleep(Duration::from_millis(2));
        }
        let index = node.write(0, Vec::new()).expect("is committed");
        assert!(index > applied);
        applied = index;
    }
}

#[test]
fn a_quiet_group_lets_go_of_the_log_however_few_its_entries() {
    let dir = tempfile::tempdir().expect("makes");
    let config = Config {
        log_segment_bytes: 64 << 10,
        fsync: false,
        ..Config::single(dir.path().to_owned(), Settings::default())
    };
    let node = Node::start(&config);
    let begun = Instant::now();
    while node.led() < 3 {
        assert!(begun.elapsed() < PATIENCE, "every shard has a leader");
    }
    let session = format!("user@example.org/{}", "x".repeat(1000));
    let lost = Command::Lost {
        session: proto::Jid::new(&session).expect("valid"),
        epoch: crate::id::Epoch(1),
    };
    let batch = Batch {
        now: 1,
        commands: vec![lost; 60],
    };
    let runtime = node.runtime.as_ref().expect("runs");
    let is_large = || *node.replication.log.pressure().borrow() != Pressure::Low;
    while !is_large() {
        let written = node.groups()[0].raft.client_write(Proposal::new(&batch));
        runtime.block_on(written).expect("writes");
    }
    let begun = Instant::now();
    while is_large() {
        let pins = node.replication.log.pinned_by();
        assert!(begun.elapsed() < PATIENCE, "groups {pins:?} pin the log");
        std::thread::sleep(Duration::from_millis(50));
    }
}
