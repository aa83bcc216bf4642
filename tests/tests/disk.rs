//! Disks that fill up, that fail once, and whose files others could read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use proto::ns;
use tests::client::{Client, numbered};
use tests::cluster::Cluster;
use tests::small::Small;
use tests::{shim, until};

/// Says large things to bob one after the other, each acknowledged before the next, until it is told to stop.
async fn chat(
    mut client: Client,
    address: SocketAddr,
    (said, stop): (Arc<AtomicUsize>, Arc<AtomicBool>),
) -> Client {
    let padding = "x".repeat(20_000);
    while !stop.load(Ordering::SeqCst) {
        let number = said.load(Ordering::SeqCst);
        client
            .say("bob@localhost", &format!("load {number} {padding}"))
            .await;
        while client.settle().await.is_err() {
            loop {
                let answer = client.try_resume(address).await;
                match answer {
                    Ok(answer) if answer.is("resumed", ns::SM) => break,
                    Ok(answer) => panic!("I-10: {answer:?}"),
                    Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
                }
            }
        }
        said.store(number + 1, Ordering::SeqCst);
    }
    client
}

async fn unready(cluster: &Cluster, node: usize) -> Option<String> {
    match cluster.get(node, "/readyz").await {
        Ok((503, why)) => Some(why),
        _ => None,
    }
}

async fn await_short_of_disk(cluster: &Cluster, node: usize) {
    let deadline = tokio::time::Instant::now() + tests::PATIENCE;
    loop {
        let why = unready(cluster, node).await;
        if why.as_ref().is_some_and(|why| why.contains("disk")) {
            return;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "unready, but: {why:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn f_19_t_75_a_disk_that_fills_up_stops_acknowledgements_and_loses_nothing() {
    let mut cluster = Cluster::prepare(1, "").unwrap();
    let Some(small) = Small::mount(&cluster.data_dir(0), "48m") else {
        return;
    };
    cluster.store_in("sqlite:0/holdfast.db");
    cluster = cluster.started(&["alice", "bob"]).await;
    let alice = cluster.client(0, "alice").await;
    let (said, stop) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let chatting = tokio::spawn(chat(
        alice,
        cluster.address(0),
        (said.clone(), stop.clone()),
    ));
    // The chat alone fills the disk, and then somebody takes even the reserve.
    await_short_of_disk(&cluster, 0).await;
    let (mut before, mut during) = (0, usize::MAX);
    for _ in 0..10 {
        small.fill_up();
        before = said.load(Ordering::SeqCst);
        assert!(before > 50, "{before} messages filled the disk");
        tokio::time::sleep(Duration::from_secs(2)).await;
        during = said.load(Ordering::SeqCst) - before;
        if during <= 1 {
            break;
        }
        // A snapshot made room in the log, which the node may use until that is taken as well.
    }
    assert!(
        during <= 1,
        "{during} messages were acknowledged on a full disk"
    );
    assert!(cluster.process(0).ended().is_none(), "the node lives");
    small.make_room();
    // More room than before: otherwise the chat goes on only until the reserve is touched again.
    let grown = Command::new("mount")
        .args(["-o", "remount,size=256m"])
        .arg(small.path())
        .status();
    assert!(grown.unwrap().success());
    cluster.ready(0).await;
    until("the chat goes on", async || {
        said.load(Ordering::SeqCst) > before + 20
    })
    .await;
    stop.store(true, Ordering::SeqCst);
    drop(chatting.await.unwrap());
    let said = said.load(Ordering::SeqCst);
    cluster.kill(0);
    cluster.run(0);
    cluster.ready(0).await;
    let mut bob = cluster.client(0, "bob").await;
    for number in 0..said {
        let message = bob.message().await.unwrap();
        assert!(
            message.starts_with(&format!("load {number} ")),
            "message {number} is lost"
        );
    }
    bob.check_nothing_more().await;
    drop((cluster, small));
}

#[tokio::test]
async fn f_19_a_node_with_a_full_disk_leaves_the_lead_to_others_and_takes_it_back() {
    let mut cluster = Cluster::prepare(3, "").unwrap();
    let Some(small) = Small::mount(&cluster.data_dir(0), "64m") else {
        return;
    };
    cluster = cluster.started(&["alice", "bob"]).await;
    let mut alice = cluster.client(1, "alice").await;
    let mut bob = cluster.client(2, "bob").await;
    let bob_jid = bob.jid.to_string();
    small.fill_up();
    await_short_of_disk(&cluster, 0).await;
    for number in 0..200 {
        alice.say(&bob_jid, &format!("full {number}")).await;
        if number % 20 == 0 {
            alice.settle().await.unwrap();
        }
    }
    bob.expect(numbered("full", 0..200)).await;
    small.make_room();
    cluster.ready(0).await;
    // What node 0 has meanwhile must count: one of the others is gone now.
    cluster.kill(1);
    alice.resume(cluster.address(0)).await;
    alice.say(&bob_jid, "end").await;
    bob.expect(["end".to_owned()]).await;
    bob.check_nothing_more().await;
    drop((cluster, small));
}

#[tokio::test]
async fn f_20_i_19_a_sync_that_fails_ends_the_node_and_loses_nothing_that_a_quorum_counted() {
    let mut cluster = Cluster::prepare(3, "").unwrap();
    let Some(shim) = shim::compile(cluster.path(), "sync_fails.c") else {
        return;
    };
    let fails = cluster.path().join("sync-fails");
    let environment = [("LD_PRELOAD", shim), ("HF_SYNC_FAILS", fails.clone())];
    cluster.environment(0, &environment);
    cluster = cluster.started(&["alice", "bob"]).await;
    let mut alice = cluster.client(1, "alice").await;
    let mut bob = cluster.client(2, "bob").await;
    let bob_jid = bob.jid.to_string();
    for number in 0..100 {
        alice.say(&bob_jid, &format!("sync {number}")).await;
        if number == 50 {
            fs::write(&fails, "").unwrap();
        }
        if number % 10 == 0 {
            alice.settle().await.unwrap();
        }
    }
    assert!(
        !cluster.process(0).end().await.success(),
        "no acknowledgement after a failed sync"
    );
    // As far as the disk is concerned this is not written, whatever the cache shows.
    let lost = cluster.path().join("sync-fails.lost");
    assert!(lost.exists());
    bob.expect(numbered("sync", 0..100)).await;
    alice.settle().await.unwrap();
    cluster.run(0);
    cluster.ready(0).await;
    assert!(!lost.exists(), "what was read at the start is on the disk");
    // Now node 0 is half of what is left: what it has counts.
    cluster.kill(1);
    alice.resume(cluster.address(0)).await;
    for body in numbered("later", 0..10) {
        alice.say(&bob_jid, &body).await;
    }
    bob.expect(numbered("later", 0..10)).await;
    alice.settle().await.unwrap();
    bob.check_nothing_more().await;
}

/// Everything below a directory that anybody but its owner may use.
fn open_to_others(dir: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = Vec::new();
    let mut visit = vec![dir.to_owned()];
    while let Some(path) = visit.pop() {
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            found.push((path.clone(), mode));
        }
        if path.is_dir() {
            visit.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
    found
}

fn open_up(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            open_up(&path);
        } else {
            fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        }
    }
    fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn t_80_files_are_the_servers_alone_whatever_the_umask_and_their_age() {
    // Inherited by the node; this process makes nothing secret.
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    let (_, most) = getrlimit(Resource::RLIMIT_CORE).unwrap();
    setrlimit(Resource::RLIMIT_CORE, most, most).unwrap();
    let mut cluster = Cluster::prepare(1, "").unwrap();
    let data = cluster.data_dir(0);
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
    cluster.store_in("sqlite:0/holdfast.db");
    cluster = cluster.started(&["alice", "bob"]).await;
    let mut alice = cluster.client(0, "alice").await;
    alice.say("bob@localhost", "hello").await;
    alice.settle().await.unwrap();
    assert_eq!(open_to_others(&data), []);
    cluster.kill(0);
    open_up(&data);
    cluster.run(0);
    cluster.ready(0).await;
    alice.resume(cluster.address(0)).await;
    assert_eq!(open_to_others(&data), []);
    let limits = fs::read_to_string(format!("/proc/{}/limits", cluster.process(0).id())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}

fn copy_all(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, place) = entry
            .map(|entry| (entry.path(), to.join(entry.file_name())))
            .unwrap();
        match entry.is_dir() {
            true => copy_all(&entry, &place),
            false => drop(fs::copy(&entry, &place).unwrap()),
        }
    }
}

#[tokio::test]
async fn f_25_one_old_copy_of_a_data_directory_is_brought_up_to_date() {
    let mut cluster = Cluster::start(3, &["alice", "bob"], "").await;
    let (data, copy) = (
        cluster.data_dir(2),
        cluster.data_dir(2).with_extension("copy"),
    );
    cluster.kill(2);
    copy_all(&data, &copy);
    cluster.run(2);
    cluster.ready(2).await;
    let mut alice = cluster.client(0, "alice").await;
    let mut bob = cluster.client(1, "bob").await;
    let all = numbered("kept", 0..50);
    for body in &all {
        alice.say("bob@localhost", body).await;
    }
    alice.settle().await.unwrap();
    bob.expect(all).await;
    cluster.kill(2);
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&copy, &data).unwrap();
    fs::set_permissions(&data, Permissions::from_mode(0o700)).unwrap();
    cluster.run(2);
    cluster.ready(2).await;
    // It counts again: with it and one other there is a majority.
    cluster.kill(0);
    bob.say("alice@localhost", "still here").await;
    bob.settle().await.unwrap();
}
