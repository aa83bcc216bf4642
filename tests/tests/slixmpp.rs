//! A client that others wrote, with its own stream management and its own plugins: slixmpp, behind a
//! balancer without affinity, while node after node is killed.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;

use node::demo::balancer::{Backend, Balancer};
use tests::PATIENCE;
use tests::client::PASSWORD;
use tests::cluster::Cluster;

/// Messages of each client between two kills.
const BURST: usize = 60;

/// Lines of a script that are shown when it fails.
const TAIL: usize = 30;

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

/// A script while it runs.
struct Script {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
    /// What Python has to say, in the end.
    errors: Option<JoinHandle<String>>,
    said: Vec<String>,
    /// The numbers that alice and bob have got.
    got: [Vec<usize>; 2],
    resumed: usize,
}

impl Script {
    fn start(name: &str, users: &[&str], address: SocketAddr, certificate: &Path) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("slixmpp")
            .join(name);
        let mut command = Command::new(python());
        command
            .arg(script)
            .arg(address.ip().to_string())
            .arg(address.port().to_string())
            .arg(certificate);
        for user in users {
            command.args([&format!("{user}@localhost"), PASSWORD]);
        }
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .spawn()
            .unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let errors = std::thread::spawn(move || {
            let mut text = Vec::new();
            drop(stderr.read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        });
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
            errors: Some(errors),
            said: Vec::new(),
            got: [Vec::new(), Vec::new()],
            resumed: 0,
        }
    }

    fn command(&mut self, line: &str) {
        if writeln!(self.input, "{line}").is_err() {
            self.fail(&format!("it does not hear {line:?}"));
        }
    }

    /// A command that is answered when it is done.
    fn perform(&mut self, line: &str) {
        self.command(line);
        let done = format!("done {}", line.split(' ').next().unwrap());
        self.until(|_, line| line == done);
    }

    /// Ends the test with what went wrong in Python.
    fn fail(&mut self, what: &str) -> ! {
        drop(self.child.kill());
        drop(self.child.wait());
        let errors = self.errors.take().and_then(|errors| errors.join().ok());
        let last = self.said.iter().rev().take(TAIL).rev();
        let said: String = last.map(|line| format!("{line}\n")).collect();
        panic!("{what}\n{said}{}", errors.unwrap_or_default());
    }

    /// Reads what it says until `enough`.
    fn until(&mut self, mut enough: impl FnMut(&Self, &str) -> bool) {
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                self.fail("slixmpp says nothing more");
            };
            self.said.push(line.clone());
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["got", name, number] => {
                    self.got[usize::from(name == "bob")].push(number.parse().unwrap());
                }
                ["resumed", _] => self.resumed += 1,
                ["failed", ..] => self.fail(&line),
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

async fn balance(cluster: &Cluster) -> Balancer {
    let backends = (0..cluster.count()).map(|n| Backend {
        clients: cluster.address(n),
        admin: cluster.admin(n),
    });
    Balancer::start(backends.collect()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn slixmpp_loses_and_repeats_nothing_while_nodes_are_killed() {
    let mut cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let balancer = balance(&cluster).await;
    let users = ["alice", "bob"];
    let certificate = cluster.certificate();
    let mut script = Script::start("talk.py", &users, balancer.address(), &certificate);
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

#[tokio::test(flavor = "multi_thread")]
async fn slixmpp_reads_its_archive_and_is_woken_whichever_node_is_killed() {
    let users = ["alice", "bob", "service"];
    let mut cluster = Cluster::start(3, &users, "").await;
    let balancer = balance(&cluster).await;
    let certificate = cluster.certificate();
    let mut script = Script::start("plugins.py", &users, balancer.address(), &certificate);
    script.until(|_, line| line == "ready");
    script.perform("fill 25");
    script.perform("archive");
    script.perform("prefs");
    for victim in 0..3 {
        cluster.kill(victim);
        script.perform("push");
        script.perform("fill 5");
        script.perform("archive");
        cluster.run(victim);
        cluster.ready(victim).await;
    }
    script.perform("end");
}
