//! A leader and a real Redis that does what it should not.

use std::net::TcpListener;
use std::process::{Child, Command as Process, Stdio};

use proto::Jid;
use redis::{Connection, FromRedisValue};
use tempfile::TempDir;

use super::*;
use crate::id::{Owner, SmId};
use crate::lead::fake::{Node, World};
use crate::lead::mirror::script::Keys;
use crate::lead::tests::{accounts, owner};
use crate::session::{Bind, Enable, EndReason, Outcome};
use crate::{ConnId, ShardId};

/// What must come comes within this time, even on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server of our own. It is killed when this is dropped.
struct Redis {
    child: Child,
    port: u16,
    dir: TempDir,
}

impl Redis {
    fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let dir = tempfile::tempdir().expect("a directory");
        let child = Self::spawn(port, &dir);
        Self { child, port, dir }
    }

    fn spawn(port: u16, dir: &TempDir) -> Child {
        let child = Process::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(dir.path())
            .stdout(Stdio::null())
            .spawn();
        child.expect("redis-server is installed: see tests/run")
    }

    fn kill(&mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    fn restart(&mut self) {
        self.child = Self::spawn(self.port, &self.dir);
    }

    fn connection(&self) -> Option<Connection> {
        let client = redis::Client::open(self.url()).expect("valid");
        client.get_connection().ok()
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Carries out a command, as soon as there is a server.
    #[track_caller]
    fn run<T: FromRedisValue>(&self, command: &str, arguments: &[&str]) -> T {
        let deadline = std::time::Instant::now() + PATIENCE;
        let mut connection = loop {
            match self.connection() {
                Some(connection) => break connection,
                None => assert!(std::time::Instant::now() < deadline, "no Redis"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let answer = redis::cmd(command).arg(arguments).query(&mut connection);
        answer.expect("Redis does it")
    }

    /// The members of a sorted set, oldest first; nothing if that is something else.
    fn members(&self, key: &str) -> Vec<String> {
        let mut connection = match self.connection() {
            Some(connection) => connection,
            None => return Vec::new(),
        };
        let answer = redis::cmd("ZRANGE")
            .arg(key)
            .arg(0)
            .arg(-1)
            .query(&mut connection);
        answer.unwrap_or_default()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// One shard led by one node, and the Redis it uses.
struct Stage {
    redis: Redis,
    world: Arc<World>,
    node: Arc<Node>,
    account: BareJid,
    conns: u64,
}

impl Stage {
    async fn new() -> Self {
        let redis = Redis::start();
        let _: String = redis.run("PING", &[]);
        let world = World::new(1);
        world.mirror.lock().expect("whole").address = redis.url().parse().ok();
        let node = world.node(1);
        world.appoint(0, Some(1));
        let account = accounts(1).remove(0);
        Self {
            redis,
            world,
            node,
            account,
            conns: 0,
        }
    }

    fn keys(&self) -> [String; 3] {
        Keys::of(&self.account).0
    }

    async fn propose(&self, command: Command) -> Outcome {
        let outcome = self.node.proposers[0].propose(command).await;
        outcome.expect("there is a leader")
    }

    /// A session is opened and loses its connection.
    async fn sleep(&mut self, resource: &str) {
        self.conns += 1;
        let session = self.account.with_resource(resource).expect("valid");
        let owner = Owner {
            conn: ConnId(self.conns),
            ..owner(1)
        };
        let bind = Bind {
            session: session.clone(),
            owner,
        };
        let Outcome::Bound { epoch } = self.propose(Command::Bind(bind)).await else {
            panic!("not bound");
        };
        let enable = Enable {
            session: session.clone(),
            epoch,
            after: 0,
            smid: Some(SmId(session.as_str().into())),
            max: 300,
            seed: 0,
        };
        self.propose(Command::Enable(enable)).await;
        self.propose(Command::Lost { session, epoch }).await;
        // So that no two are as old as each other.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }

    fn quota(&self) -> Quota {
        self.world.state(ShardId(0)).quota(&self.account)
    }

    fn asleep(&self) -> Vec<String> {
        let quota = self.quota();
        quota
            .hibernated
            .iter()
            .map(|(_, r)| r.to_string())
            .collect()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.quota());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Redis comes to say what the shard says, and the shard has these.
    async fn agrees(&self, asleep: &[&str], old: usize) {
        assert_eq!(self.asleep(), asleep);
        let [hibernated, remembered, _] = self.keys();
        let agrees = |stage: &Self| {
            stage.redis.members(&hibernated) == asleep
                && stage.redis.members(&remembered).len() == old
        };
        self.until("Redis does not agree", agrees).await;
        assert_eq!(self.asleep(), asleep);
    }

    async fn end(&self, resource: &str) {
        let session: Jid = self.account.with_resource(resource).expect("valid");
        let end = Command::End {
            session,
            epoch: None,
            reason: EndReason::Closed,
        };
        self.propose(end).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn i_12_redis_hears_of_sleep_and_end_and_counts_as_the_shard_does() {
    let mut stage = Stage::new().await;
    for resource in ["a", "b", "c"] {
        stage.sleep(resource).await;
    }
    stage.agrees(&["a", "b", "c"], 0).await;
    stage.end("a").await;
    stage.agrees(&["b", "c"], 1).await;
    let ttl: i64 = stage.redis.run("TTL", &[&stage.keys()[0]]);
    assert!((1..=60).contains(&ttl), "keys vanish by themselves: {ttl}");
    let counts = stage.world.mirror.lock().expect("whole").counters.counts();
    assert_eq!(counts.by_redis + counts.by_shard, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn f_28_a_redis_that_was_emptied_or_killed_is_filled_again() {
    let mut stage = Stage::new().await;
    let limits = Some(Limits {
        hibernated: Some(2),
        old: None,
    });
    let account = stage.account.clone();
    stage.propose(Command::SetLimits { account, limits }).await;
    for resource in ["a", "b", "c"] {
        stage.sleep(resource).await;
    }
    stage.agrees(&["b", "c"], 1).await;
    let _: String = stage.redis.run("FLUSHALL", &[]);
    stage.agrees(&["b", "c"], 1).await;
    stage.redis.kill();
    stage.sleep("d").await;
    assert_eq!(stage.asleep(), ["c", "d"]);
    stage.redis.restart();
    stage.agrees(&["c", "d"], 2).await;
    let [_, _, limits] = stage.keys();
    let told = |stage: &Stage| {
        let set: Option<String> = stage.redis.run("HGET", &[&limits, "hibernated"]);
        set.as_deref() == Some("2")
    };
    stage.until("limits are not told again", told).await;
    let counts = stage.world.mirror.lock().expect("whole").counters.counts();
    assert!(counts.by_shard > 0 && counts.errors > 0, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn f_28_a_read_only_redis_holds_nothing_up() {
    let mut stage = Stage::new().await;
    stage.sleep("a").await;
    stage.agrees(&["a"], 0).await;
    let _: String = stage.redis.run("REPLICAOF", &["127.0.0.1", "1"]);
    let quick = tokio::time::timeout(PATIENCE / 4, stage.sleep("b"));
    quick.await.expect("nothing waits for Redis");
    assert_eq!(stage.asleep(), ["a", "b"]);
    let _: String = stage.redis.run("REPLICAOF", &["NO", "ONE"]);
    stage.agrees(&["a", "b"], 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t_71_a_redis_that_lies_ends_nothing_and_is_put_right() {
    let mut stage = Stage::new().await;
    stage.sleep("a").await;
    let [hibernated, old, limits] = stage.keys();
    for n in 0..30 {
        let _: i64 = stage
            .redis
            .run("ZADD", &[&hibernated, "9e15", &format!("lie{n}")]);
    }
    let _: i64 = stage
        .redis
        .run("HSET", &[&limits, "hibernated", "18446744073709551616"]);
    let _: i64 = stage.redis.run("HSET", &[&limits, "version", "many"]);
    stage.sleep("b").await;
    stage.agrees(&["a", "b"], 0).await;
    for key in [&hibernated, &old, &limits] {
        let _: String = stage.redis.run("SET", &[key, "another tenant's"]);
    }
    stage.sleep("c").await;
    stage.end("a").await;
    stage.agrees(&["b", "c"], 1).await;
    assert_eq!(stage.quota().set.limits, Limits::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_that_are_set_in_redis_reach_the_shard_and_those_set_later_win() {
    let mut stage = Stage::new().await;
    for resource in ["a", "b", "c"] {
        stage.sleep(resource).await;
    }
    let [_, _, key] = stage.keys();
    let _: i64 = stage.redis.run("HSET", &[&key, "hibernated", "2"]);
    stage
        .until("limits are not taken", |s| s.quota().max_hibernated == 2)
        .await;
    stage.agrees(&["b", "c"], 1).await;
    stage.redis.kill();
    let account = stage.account.clone();
    let limits = None;
    stage.propose(Command::SetLimits { account, limits }).await;
    stage.redis.restart();
    // What Redis may have kept from before is older than what was set meanwhile.
    let _: i64 = stage
        .redis
        .run("HSET", &[&key, "hibernated", "1", "version", "1"]);
    let told = |stage: &Stage| {
        let set: Option<String> = stage.redis.run("HGET", &[&key, "hibernated"]);
        set.is_none()
    };
    stage.until("Redis keeps what is older", told).await;
    stage.agrees(&["b", "c"], 1).await;
}
