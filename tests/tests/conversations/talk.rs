//! Where conversations are held: the nodes, who talks, and the moment at which a node dies.

use std::cell::Cell;
use std::collections::HashMap;

use cluster::shard_of;
use nix::sys::signal::Signal;
use proto::{BareJid, Element, ns};
use tests::client::Client;
use tests::cluster::Cluster;
use tests::until;
use tests::web::WEB;
use tests::wire::DOMAIN;
use tokio::sync::Barrier;

/// As many shards as a cluster of three has by default.
const SHARDS: u16 = 3;
/// The shard of those whom conversations are about, and the one of those they talk to.
const OWN: u16 = 0;
const OTHERS: u16 = 1;
/// All of them come from one address, and none is slowed down.
const LIMITS: &str = "[limits]\nconnections_per_address = 0\nstanzas_per_second = 0\nregistrations_per_hour = 1000\n";
/// What conversations are about that is off by itself.
const SWITCHED_ON: &str = "bosh_url = \"https://web.example/http-bind\"\n[auth]\nregistration = \"open\"\n\
    [contact]\nabuse = [\"mailto:abuse@localhost\"]\noutage = [\"https://status.localhost/x.json\"]\n\
    [[external.service]]\ntype = \"turn\"\nhost = \"turn.localhost\"\nsecret_file = \"turn.secret\"\n";
/// The group whose account administers the service.
pub const ADMINISTRATION: &str = "administration";

/// How conversations are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    OneNode,
    ThreeNodes,
    LeaderKilled,
}

/// The nodes, and the moment that all conversations share.
pub struct Stage {
    pub cluster: Cluster,
    way: Way,
    /// The node that leads the shard of the accounts, and has their clients.
    home: usize,
    people: HashMap<String, [&'static str; 2]>,
    middle: Barrier,
    killed: Cell<bool>,
}

/// The first of the names that begin like this whose account is in that shard. It lives as long as the test.
fn name(begin: &str, shard: u16) -> &'static str {
    let mut names = (0..).map(|n| format!("{begin}{n}"));
    let is_there = |name: &String| {
        let account = BareJid::new(&format!("{name}@{DOMAIN}")).unwrap();
        shard_of(&account, SHARDS).0 == shard
    };
    names.find(is_there).unwrap().leak()
}

impl Stage {
    /// Starts nodes with accounts for these conversations.
    pub async fn set(way: Way, groups: &[&str]) -> Self {
        let count = if way == Way::OneNode { 1 } else { 3 };
        let extra = format!("{WEB}{SWITCHED_ON}{LIMITS}");
        let mut cluster = Cluster::prepare(count, &extra).unwrap();
        let administrator = name(ADMINISTRATION, OWN);
        cluster.add_to("[admin]", &format!("jids = [\"{administrator}@{DOMAIN}\"]"));
        std::fs::write(cluster.path().join("turn.secret"), "north\n").unwrap();
        let people = groups.iter().map(|group| {
            let names = [name(group, OWN), name(&format!("{group}-friend"), OTHERS)];
            ((*group).to_owned(), names)
        });
        let people: HashMap<_, _> = people.collect();
        let users: Vec<&str> = people.values().flatten().copied().collect();
        cluster.import(&users);
        cluster = cluster.started(&[]).await;
        let home = match way {
            Way::OneNode => 0,
            _ => spread(&cluster).await,
        };
        Self {
            cluster,
            way,
            home,
            people,
            middle: Barrier::new(groups.len()),
            killed: Cell::new(false),
        }
    }

    /// The view that one conversation has of this.
    pub fn talk(&self, group: &str) -> Talk<'_> {
        let [account, friend] = self.people[group];
        Talk {
            stage: self,
            account,
            friend,
        }
    }

    /// A node has been killed, if one was to be.
    pub fn check_killed(&self) {
        assert_eq!(self.killed.get(), self.way == Way::LeaderKilled);
    }

    fn kill(&self) {
        self.cluster.signal(self.home, Signal::SIGKILL);
        self.killed.set(true);
    }

    /// The next node, or the one that there is.
    fn behind(&self, steps: usize) -> usize {
        (self.home + steps) % self.cluster.count()
    }
}

/// Waits until each node leads a shard, as it is meant to be: then leaders stay where they are. The leader of the accounts'
/// shard.
async fn spread(cluster: &Cluster) -> usize {
    let leaders = || {
        let leaders = (0..SHARDS).map(|shard| cluster.leader(shard, 0));
        leaders.collect::<Option<Vec<usize>>>()
    };
    until("each node leads a shard", async || {
        let mut leaders = leaders().unwrap_or_default();
        leaders.sort_unstable();
        leaders == [0, 1, 2]
    })
    .await;
    leaders().unwrap()[usize::from(OWN)]
}

/// One conversation's view of the stage, with the names of its two people.
#[derive(Clone, Copy)]
pub struct Talk<'a> {
    stage: &'a Stage,
    /// Whom it is about.
    pub account: &'static str,
    /// Whom that one talks to.
    pub friend: &'static str,
}

impl<'a> Talk<'a> {
    /// The nodes.
    pub fn cluster(&self) -> &'a Cluster {
        &self.stage.cluster
    }

    /// The node that may die.
    pub fn home(&self) -> usize {
        self.stage.home
    }

    /// A node that stays, which has the friends and the account's other clients.
    pub fn away(&self) -> usize {
        self.stage.behind(1)
    }

    /// Another node that stays, where sessions go on.
    pub fn elsewhere(&self) -> usize {
        self.stage.behind(2)
    }

    /// The bare address of the account.
    pub fn own(&self) -> String {
        format!("{}@{DOMAIN}", self.account)
    }

    /// The friend's.
    pub fn other(&self) -> String {
        format!("{}@{DOMAIN}", self.friend)
    }

    /// A name that begins like this and would have its account in the shard of the account's.
    pub fn free(&self, begin: &str) -> &'static str {
        name(begin, OWN)
    }

    /// A session of the account at the node that may die.
    pub async fn client(&self, resource: &str) -> Client {
        let cluster = self.cluster();
        let client = cluster.client_with(self.home(), self.account, resource);
        client.await
    }

    /// Another session of the account, at a node that stays.
    pub async fn second(&self, resource: &str) -> Client {
        let cluster = self.cluster();
        let client = cluster.client_with(self.away(), self.account, resource);
        client.await
    }

    /// The friend's session, at a node that stays.
    pub async fn friend(&self) -> Client {
        self.cluster().client(self.away(), self.friend).await
    }

    /// Waits until all conversations are in their middle, and the leader is still where it was. What is said between this
    /// and [`Self::checkpoint`] is under way when the node dies.
    pub async fn middle(&self) {
        if self.stage.way != Way::LeaderKilled {
            return;
        }
        if self.stage.middle.wait().await.is_leader() {
            let (cluster, home) = (self.cluster(), self.home());
            until("the leader is where it was", async || {
                cluster.leader(OWN, self.away()) == Some(home)
            })
            .await;
        }
        self.stage.middle.wait().await;
    }

    /// Here the leader of the account's shard is killed if it is to be, and these sessions go on elsewhere. Whether that
    /// was so.
    pub async fn checkpoint(&self, clients: &mut [&mut Client]) -> bool {
        if self.stage.way != Way::LeaderKilled {
            return false;
        }
        if self.stage.middle.wait().await.is_leader() {
            self.stage.kill();
        }
        self.stage.middle.wait().await;
        for client in clients {
            let address = self.cluster().address(self.elsewhere());
            client.resume(address).await;
        }
        true
    }
}

/// A fresh id.
pub fn id() -> String {
    format!("{:016x}", rand::random::<u64>())
}

/// An iq; without an address if that is empty.
pub fn iq(kind: &str, to: &str, id: &str, payload: &str) -> String {
    let to = match to.is_empty() {
        true => String::new(),
        false => format!(" to='{to}'"),
    };
    format!("<iq type='{kind}' id='{id}'{to}>{payload}</iq>")
}

/// Asks, and waits for the answer.
pub async fn ask(client: &mut Client, kind: &str, to: &str, payload: &str) -> Element {
    let id = id();
    let request = iq(kind, to, &id, payload);
    client.request(&request, &id).await.unwrap()
}

/// Asks for something that must be granted.
pub async fn granted(client: &mut Client, kind: &str, to: &str, payload: &str) -> Element {
    let answer = ask(client, kind, to, payload).await;
    assert_eq!(answer.attr("type"), Some("result"), "{answer:?}");
    answer
}

/// The answer to a request that was sent before, and what comes before it. Requests of the server are answered.
pub async fn answered(client: &mut Client, id: &str) -> (Element, Vec<Element>) {
    let mut before = Vec::new();
    loop {
        let stanza = client.stanza().await.unwrap();
        let is_answer = matches!(stanza.attr("type"), Some("result" | "error"));
        if stanza.local() == "iq" && is_answer && stanza.attr("id") == Some(id) {
            return (stanza, before);
        }
        if let (Some("get" | "set"), Some(id), true) = (
            stanza.attr("type"),
            stanza.attr("id"),
            stanza.local() == "iq",
        ) {
            let answer = iq("result", stanza.attr("from").unwrap_or_default(), id, "");
            client.send(&answer).await;
        }
        before.push(stanza);
    }
}

/// All that has come until the server answers.
pub async fn so_far(client: &mut Client) -> Vec<Element> {
    let id = id();
    let ping = format!("<ping xmlns='{}'/>", ns::PING);
    client.send(&iq("get", DOMAIN, &id, &ping)).await;
    answered(client, &id).await.1
}

/// How many of these have a child like this.
pub fn with_child<'a>(stanzas: &'a [Element], name: &str, ns: &str) -> Vec<&'a Element> {
    let children = stanzas.iter().filter_map(|stanza| stanza.child(name, ns));
    children.collect()
}
