//! `holdfast demo` when it is cut short: it leaves no process, no file and no panic behind.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;
use tests::cluster::Cluster;
use tests::process;

/// A demo that only talks, until it is cut short.
const LONG: [&str; 4] = ["--duration", "60s", "--kill-every", "0"];

/// A demo whose temporary files lie in a directory of their own. It leads a process group, as in a
/// terminal, so that a signal reaches all who did not leave it.
struct Demo {
    child: Child,
    said: BufReader<std::process::ChildStderr>,
    dir: TempDir,
}

impl Demo {
    fn start() -> Self {
        Self::start_with(&LONG)
    }

    fn start_with(options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut command = Command::new(process::binary());
        command
            .arg("demo")
            .args(options)
            .env("TMPDIR", dir.path())
            .env_remove("HOLDFAST_CONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        Self { child, said, dir }
    }

    /// Waits until it has said this.
    fn until(&mut self, part: &str) {
        let mut line = String::new();
        while !line.contains(part) {
            line.clear();
            assert!(self.said.read_line(&mut line).unwrap() > 0, "never said");
        }
    }

    fn interrupt(&self) {
        let group = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        killpg(group, Signal::SIGINT).unwrap();
    }

    /// Its exit code, its result and the rest of what it said. Nothing of it may be left.
    fn end(mut self) -> (Option<i32>, String, String) {
        let (mut result, mut said) = (String::new(), String::new());
        self.said.read_to_string(&mut said).unwrap();
        let mut stdout = self.child.stdout.take().unwrap();
        stdout.read_to_string(&mut result).unwrap();
        let status = self.child.wait().unwrap();
        assert!(!said.contains("panicked"), "{said}");
        let left: Vec<_> = std::fs::read_dir(self.dir.path()).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
        let dir = self.dir.path().to_string_lossy().into_owned();
        assert!(
            !nodes().iter().any(|node| node.contains(&dir)),
            "a node runs"
        );
        (status.code(), result, said)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The command lines of all processes.
fn nodes() -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .collect()
}

#[test]
fn an_interrupted_demo_ends_with_its_tally_and_the_code_of_the_signal() {
    let mut demo = Demo::start();
    demo.until("everyone is online");
    demo.until("nodes +++");
    demo.interrupt();
    let (code, result, said) = demo.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(result.contains("Nothing lost"), "{result}");
    assert!(said.lines().count() < 10, "{said}");
}

#[test]
fn a_demo_that_is_interrupted_at_its_start_leaves_nothing_behind() {
    let mut demo = Demo::start();
    demo.until("nodes start");
    demo.interrupt();
    let (code, result, _) = demo.end();
    assert_eq!((code, result.as_str()), (Some(130), ""));
}

#[tokio::test]
async fn a_demo_that_is_killed_leaves_no_node_and_no_file() {
    let mut demo = Demo::start();
    demo.until("everyone is online");
    demo.child.kill().unwrap();
    demo.child.wait().unwrap();
    let dir = demo.dir.path().to_string_lossy().into_owned();
    tests::until("its nodes end", async || {
        !nodes().iter().any(|node| node.contains(&dir))
    })
    .await;
    let left: Vec<_> = std::fs::read_dir(demo.dir.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_demo_of_one_node_says_so() {
    let mut demo = Demo::start_with(&["--nodes", "1"]);
    demo.until("one node starts, with ");
    demo.interrupt();
    assert_eq!(demo.end().0, Some(130));
}

#[test]
fn a_demo_that_scales_grows_to_five_nodes_and_shrinks_and_nobody_notices() {
    let options = [
        "--nodes",
        "5",
        "--scale",
        "--duration",
        "20s",
        "--kill-every",
        "3s",
    ];
    let demo = Demo::start_with(&[&options[..], &["--json"]].concat());
    let (code, result, said) = demo.end();
    assert_eq!(code, Some(0), "{result}\n{said}");
    let tally: serde_json::Value = serde_json::from_str(&result).unwrap();
    for none in [
        "lost",
        "duplicated",
        "reordered",
        "bounced",
        "failed_resumes",
        "presence_flaps",
    ] {
        assert_eq!(tally[none], 0, "{none}: {tally}\n{said}");
    }
    assert_eq!((&tally["joined"], &tally["left"]), (&2.into(), &2.into()));
    assert!(tally["kills"].as_u64() >= Some(3), "{tally}");
    // How many had to depends on where they were.
    assert!(tally["resumes"].as_u64() >= Some(1), "{tally}");
}

#[test]
fn a_demo_that_nobody_listens_to_any_more_ends() {
    let mut demo = Demo::start();
    demo.until("everyone is online");
    // As `| head` does it, with both outputs in the pipe.
    let (reader, _writer) = std::io::pipe().unwrap();
    drop(demo.child.stdout.take());
    let nobody = BufReader::new(std::process::ChildStderr::from(std::os::fd::OwnedFd::from(
        reader,
    )));
    drop(std::mem::replace(&mut demo.said, nobody));
    let status = demo.child.wait().unwrap();
    assert_eq!(status.code(), Some(141));
    assert_eq!(std::fs::read_dir(demo.dir.path()).unwrap().count(), 0);
}

#[test]
fn what_the_demo_does_not_read_is_refused() {
    let output = process::run(["demo", "--config", "x.toml"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--config"));
}

#[tokio::test]
async fn the_clients_chat_with_a_cluster_that_runs_elsewhere() {
    let mut cluster = Cluster::start(3, &[], "").await;
    let accounts: String = (1..=4)
        .map(|number| format!("user-{number}@localhost,secret\n"))
        .collect();
    let config = cluster.config(0).to_string_lossy().into_owned();
    let import = ["user", "import", "-", "--config", &config];
    let output = process::run(import, &accounts);
    assert!(output.status.success(), "{output:?}");
    let file = cluster.path().join("accounts.csv");
    std::fs::write(&file, accounts).unwrap();
    let address = cluster.address(0).to_string();
    let (ca, file) = (cluster.certificate(), file.to_string_lossy().into_owned());
    let ca = ca.to_string_lossy().into_owned();
    let chat = move || {
        let options = ["demo", "--against", &address, "--ca", &ca, "--accounts"];
        let more = [&file, "--duration", "3s", "--json"];
        process::run([options.as_slice(), more.as_slice()].concat(), "")
    };
    let chat = tokio::task::spawn_blocking(chat);
    cluster.kill(1);
    let output = chat.await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let tally: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(tally["sent"].as_u64().unwrap() > 50, "{tally}");
    assert_eq!(tally["delivered"], tally["sent"], "{tally}");
    assert_eq!(tally["bounced"], 0, "{tally}");
}
