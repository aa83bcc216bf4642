//! A client that others wrote, with its own stream management: slixmpp, behind a balancer without
//! affinity, while node after node is killed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

use node::demo::balancer::{Backend, Balancer};
use tests::PATIENCE;
use tests::client::PASSWORD;
use tests::cluster::Cluster;

/// Messages of each client between two kills.
const BURST: usize = 60;

/// The Python that has slixmpp.
fn python() -> String {
    let named = std::env::var("HOLDFAST_TEST_PYTHON");
    let python = named.unwrap_or_else(|_| "python3".to_owned());
    let works = Command::new(&python)
        .args(["-c", "import slixmpp"])
        .status();
    let works = works.is_ok_and(|status| status.success());
    assert!(
        works,
        "{python} has no slixmpp: run tests/run, or name one that has in HOLDFAST_TEST_PYTHON"
    );
    python
}

/// The script while it runs.
struct Script {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    /// The numbers that alice and bob have got.
    got: [Vec<usize>; 2],
    resumed: usize,
}

impl Script {
    fn start(address: SocketAddr, certificate: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("slixmpp/talk.py");
        let mut command = Command::new(python());
        command
            .arg(script)
            .arg(address.ip().to_string())
            .arg(address.port().to_string())
            .arg(certificate);
        for user in ["alice", "bob"] {
            command.args([&format!("{user}@localhost"), PASSWORD]);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            input,
            lines,
            got: [Vec::new(), Vec::new()],
            resumed: 0,
        }
    }

    fn command(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// Reads what it says until `enough`.
    fn until(&mut self, mut enough: impl FnMut(&Self, &str) -> bool) {
        loop {
            let line = self
                .lines
                .recv_timeout(PATIENCE)
                .expect("slixmpp says nothing more");
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["got", name, number] => {
                    self.got[usize::from(name == "bob")].push(number.parse().unwrap());
                }
                ["resumed", _] => self.resumed += 1,
                ["failed", ..] => panic!("{line}"),
                _ => {}
            }
            if enough(self, &line) {
                return;
            }
        }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slixmpp_loses_and_repeats_nothing_while_nodes_are_killed() {
    let mut cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let backends = (0..3).map(|n| Backend {
        clients: cluster.address(n),
        admin: cluster.admin(n),
    });
    let balancer = Balancer::start(backends.collect()).await.unwrap();
    let mut script = Script::start(balancer.address(), &cluster.certificate());
    script.until(|_, line| line == "ready");
    for victim in 0..3 {
        script.command(&format!("send {BURST}"));
        let before = victim * BURST;
        // In the midst of it, in both directions.
        script.until(|s, _| s.got.iter().all(|got| got.len() >= before + BURST / 4));
        cluster.kill(victim);
        script.until(|s, _| s.got.iter().all(|got| got.len() >= before + BURST));
        cluster.run(victim);
        cluster.ready(victim).await;
    }
    script.command("end");
    script.until(|_, line| line == "done");
    let all: Vec<usize> = (0..3 * BURST).collect();
    assert_eq!(
        script.got,
        [all.clone(), all],
        "lost, doubled or out of order"
    );
    assert!(
        script.resumed >= 2,
        "{} resumptions: each client loses its node at least once",
        script.resumed
    );
}
