//! What an operator sees: the log, the lists, and a start in difficult surroundings.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::TcpListener;

use nix::sys::signal::Signal;
use serde_json::Value;
use tests::client::PASSWORD;
use tests::cluster::Cluster;
use tests::postgres::Postgres;
use tests::process::{self, Process};
use tests::until;
use tests::wire::Wire;

fn log(cluster: &Cluster, node: usize) -> String {
    std::fs::read_to_string(cluster.log(node)).unwrap_or_default()
}

/// Waits until one line of a node's log has all of these parts.
async fn told(cluster: &Cluster, node: usize, parts: &[&str]) {
    until(&format!("{parts:?} in the log"), async || {
        let log = log(cluster, node);
        log.lines()
            .any(|line| parts.iter().all(|part| line.contains(part)))
    })
    .await;
}

/// What a command answers as JSON, asked of a node.
fn answer(cluster: &Cluster, node: usize, command: &[&str]) -> Value {
    let config = cluster.config(node).to_string_lossy().into_owned();
    let arguments = [command, &["--json", "--config", &config]].concat();
    let output = process::run(arguments, "");
    let errors = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{errors}"))
}

#[tokio::test]
async fn logins_failures_and_ends_are_one_line_each_with_address_and_reason() {
    let cluster = Cluster::start(1, &["alice"], "").await;
    let mut wire = Wire::direct(cluster.address(0), cluster.tls())
        .await
        .unwrap();
    wire.open().await.unwrap();
    assert_eq!(
        wire.authenticate("alice", "wrong").await.unwrap().local(),
        "failure"
    );
    let failed = [
        "INFO",
        "login failed",
        "account=alice@localhost",
        "address=127.0.0.1",
    ];
    told(
        &cluster,
        0,
        &[&failed[..], &["SCRAM-SHA-256", "not-authorized"]].concat(),
    )
    .await;

    let mut alice = cluster.client(0, "alice").await;
    told(
        &cluster,
        0,
        &[
            "logged in",
            "alice@localhost",
            "address=127.0.0.1",
            "mechanism=",
        ],
    )
    .await;
    told(
        &cluster,
        0,
        &["bound", "session=alice@localhost/desk", "connection="],
    )
    .await;
    alice.wire.cut();
    told(
        &cluster,
        0,
        &["disconnected", "alice@localhost/desk", "connection lost"],
    )
    .await;
    alice.resume(cluster.address(0)).await;
    told(&cluster, 0, &["resumed", "session=alice@localhost/desk"]).await;
    alice.close().await.unwrap();
    told(&cluster, 0, &["disconnected", "closed by the client"]).await;
    assert!(!log(&cluster, 0).contains(PASSWORD));
}

/// Whether the filter for fail2ban that operators are given finds an address in one of these lines: fail2ban searches
/// with Python's expressions.
fn filtered(lines: &str) -> String {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../node/docs/operations.md");
    let page = std::fs::read_to_string(page).unwrap();
    let filter = page
        .lines()
        .find_map(|line| line.strip_prefix("failregex = "));
    let python = std::env::var("HOLDFAST_TEST_PYTHON");
    let script = "import re, sys\n\
                  found = re.search(sys.argv[1].replace('<HOST>', r'(?P<host>\\S+)'), sys.argv[2])\n\
                  print(found.group('host') if found else 'nothing')";
    let output = std::process::Command::new(python.unwrap_or_else(|_| "python3".to_owned()))
        .args(["-c", script, filter.unwrap(), lines])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[tokio::test]
async fn the_filter_for_fail2ban_finds_who_failed_and_nobody_else() {
    let cluster = Cluster::start(1, &["alice"], "").await;
    cluster.client(0, "alice").await.close().await.unwrap();
    told(&cluster, 0, &["disconnected", "closed by the client"]).await;
    assert_eq!(filtered(&log(&cluster, 0)), "nothing");
    let mut wire = Wire::direct(cluster.address(0), cluster.tls())
        .await
        .unwrap();
    wire.open().await.unwrap();
    wire.authenticate("alice", "wrong").await.unwrap();
    told(&cluster, 0, &["login failed"]).await;
    assert_eq!(filtered(&log(&cluster, 0)), "127.0.0.1");
}

#[tokio::test]
async fn a_login_that_is_not_tried_is_one_line_with_the_reason() {
    let limits = "[limits]\nlogins_per_minute = 1\n";
    let cluster = Cluster::start(1, &["alice"], limits).await;
    let mut wire = Wire::direct(cluster.address(0), cluster.tls())
        .await
        .unwrap();
    wire.open().await.unwrap();
    for _ in 0..3 {
        wire.authenticate("alice", "wrong").await.unwrap();
    }
    told(&cluster, 0, &["alice@localhost", "too many failures"]).await;
    assert_eq!(log(&cluster, 0).matches("login failed").count(), 3);
}

#[tokio::test]
async fn the_start_is_told_with_version_files_and_certificate() {
    let cluster = Cluster::start(1, &[], "").await;
    let (config, data) = (cluster.config(0), cluster.data_dir(0));
    let (config, data) = (config.to_string_lossy(), data.to_string_lossy());
    told(
        &cluster,
        0,
        &["starting", env!("CARGO_PKG_VERSION"), &*config, &*data],
    )
    .await;
    told(
        &cluster,
        0,
        &["certificate", "certificate.pem", "valid_until="],
    )
    .await;
}

#[tokio::test]
async fn sessions_are_listed_with_seat_address_and_since_when_by_every_node() {
    let cluster = Cluster::start(3, &["alice"], "").await;
    let _alice = cluster.client(2, "alice").await;
    for node in 0..3 {
        let all = answer(&cluster, node, &["session", "list"]);
        let session = &all.as_array().unwrap()[0];
        assert_eq!(session["node"], "3", "{session}");
        assert_eq!(session["address"], "127.0.0.1");
        assert!(
            session["since"].as_str().unwrap().ends_with('Z'),
            "{session}"
        );
    }
}

#[tokio::test]
async fn a_message_is_traced_by_a_senders_id_that_looks_like_one_of_ours() {
    let cluster = Cluster::start(1, &["alice", "bob"], "").await;
    let mut alice = cluster.client(0, "alice").await;
    let id = "0123456789abcdef0123456789abcdef";
    let message =
        format!("<message to='bob@localhost' type='chat' id='{id}'><body>x</body></message>");
    alice.send(&message).await;
    alice.settle().await.unwrap();
    let steps = answer(&cluster, 0, &["trace", id]);
    assert!(!steps.as_array().unwrap().is_empty(), "{steps}");
}

#[tokio::test]
async fn a_node_waits_for_a_port_that_is_about_to_be_free() {
    let mut cluster = Cluster::prepare(1, "").unwrap();
    let taken = TcpListener::bind(cluster.address(0)).unwrap();
    cluster.run(0);
    told(
        &cluster,
        0,
        &["WARN", "waits", &cluster.address(0).to_string()],
    )
    .await;
    drop(taken);
    cluster.ready(0).await;
}

#[tokio::test]
async fn a_node_that_waits_for_its_port_is_stopped_at_once() {
    let mut cluster = Cluster::prepare(1, "").unwrap();
    let _taken = TcpListener::bind(cluster.address(0)).unwrap();
    cluster.run(0);
    told(&cluster, 0, &["WARN", "waits"]).await;
    cluster.signal(0, Signal::SIGTERM);
    // It would have given up by itself, but not as one that was told to stop.
    assert!(cluster.process(0).end().await.success());
}

#[tokio::test]
async fn ready_is_said_when_clients_are_welcome_and_not_before() {
    let mut cluster = Cluster::prepare(3, "").unwrap();
    cluster.run(0);
    told(&cluster, 0, &["listening"]).await;
    told(&cluster, 0, &["not ready yet", "reason="]).await;
    assert!(!log(&cluster, 0).contains("ready c2s="));
    cluster.run(1);
    cluster.run(2);
    cluster.ready(0).await;
    told(&cluster, 0, &["ready c2s="]).await;
}

#[tokio::test]
async fn a_log_for_programs_holds_nothing_else() {
    let mut cluster = Cluster::prepare(1, "[log]\nformat = \"json\"\n").unwrap();
    cluster.run(0);
    cluster.ready(0).await;
    told(&cluster, 0, &["\"ready\""]).await;
    cluster.signal(0, Signal::SIGTERM);
    assert!(cluster.process(0).end().await.success());
    for line in log(&cluster, 0).lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
}

#[tokio::test]
async fn a_node_starts_without_its_database_and_goes_on_when_it_comes() {
    let postgres = Postgres::start();
    let mut cluster = Cluster::prepare(1, "").unwrap();
    cluster.store_in(&postgres.url());
    cluster.accounts(&["alice"]);
    postgres.stop();
    cluster.run(0);
    cluster.ready(0).await;
    told(&cluster, 0, &["ERROR", "starts without its database"]).await;
    let before = log(&cluster, 0).matches("login failed").count();
    let mut wire = Wire::direct(cluster.address(0), cluster.tls())
        .await
        .unwrap();
    wire.open().await.unwrap();
    let refused = wire.authenticate("alice", PASSWORD).await.unwrap();
    let temporary = refused.child("temporary-auth-failure", proto::ns::SASL);
    assert!(temporary.is_some(), "{refused:?}");
    let unread = ["alice@localhost", "the account cannot be looked up"];
    told(&cluster, 0, &unread).await;
    assert_eq!(log(&cluster, 0).matches("login failed").count(), before + 1);
    postgres.run();
    told(&cluster, 0, &["INFO", "the database answers"]).await;
    cluster.client(0, "alice").await.close().await.unwrap();
}

#[tokio::test]
async fn f_29_a_database_that_goes_and_comes_is_told_with_the_cause() {
    let postgres = Postgres::start();
    let mut cluster = Cluster::prepare(1, "").unwrap();
    cluster.store_in(&postgres.url());
    cluster.accounts(&["alice", "bob"]);
    cluster.run(0);
    cluster.ready(0).await;
    let up = async |number: &str| {
        let line = format!("holdfast_database_up {number}\n");
        until(&line, async || {
            let (_, text) = cluster.get(0, "/metrics").await.unwrap();
            text.contains(&line)
        })
        .await;
    };
    up("1").await;
    cluster.client(0, "alice").await.close().await.unwrap();
    postgres.stop();
    up("0").await;
    told(&cluster, 0, &["ERROR", "the database has gone", "refused"]).await;
    assert_eq!(cluster.get(0, "/readyz").await.unwrap().0, 200);
    // Whom the node knows logs in; whom it does not is told to wait, and so is the operator.
    let wire = async || Wire::direct(cluster.address(0), cluster.tls()).await;
    let mut known = wire().await.unwrap();
    known.login("alice", PASSWORD).await.unwrap();
    let mut wire = wire().await.unwrap();
    wire.open().await.unwrap();
    wire.authenticate("bob", PASSWORD).await.unwrap();
    told(&cluster, 0, &["login failed", "bob@localhost", "refused"]).await;
    postgres.run();
    told(&cluster, 0, &["INFO", "the database is back"]).await;
    up("1").await;
    assert_eq!(log(&cluster, 0).matches("ERROR").count(), 1);
}

#[tokio::test]
async fn a_header_that_a_balancer_leaves_out_is_told_and_counted() {
    let cluster = Cluster::prepare(1, "").unwrap();
    cluster.add_to(
        "[c2s]",
        "proxy_protocol = true\ntrusted_proxies = [\"127.0.0.1/32\"]",
    );
    let cluster = cluster.started(&[]).await;
    for _ in 0..40 {
        let refused = Wire::direct(cluster.address(0), cluster.tls()).await;
        assert!(refused.is_err());
    }
    // A balancer that only looks whether somebody listens says nothing.
    drop(std::net::TcpStream::connect(cluster.address(0)).unwrap());
    told(
        &cluster,
        0,
        &["WARN", "no PROXY header", "address=127.0.0.1"],
    )
    .await;
    let (_, metrics) = cluster.get(0, "/metrics").await.unwrap();
    assert!(
        metrics.contains("holdfast_refused_connections_total{reason=\"proxy_header\"} 40\n"),
        "{metrics}"
    );
    assert_eq!(log(&cluster, 0).matches("no PROXY header").count(), 20);
}

#[tokio::test]
async fn t_74_ends_before_a_login_are_a_line_each_and_a_flood_is_few() {
    let cluster = Cluster::start(1, &["alice"], "").await;
    let mut wire = Wire::plain(cluster.starttls(0)).await.unwrap();
    wire.send("<nonsense/>").await.unwrap();
    let end = wire.end().await;
    told(
        &cluster,
        0,
        &[
            "INFO",
            "disconnected before",
            "address=127.0.0.1",
            end.condition(),
        ],
    )
    .await;
    for _ in 0..15 {
        let wire = Wire::direct(cluster.address(0), cluster.tls()).await;
        let mut wire = wire.unwrap();
        wire.open().await.unwrap();
        for _ in 0..3 {
            wire.authenticate("alice", "wrong").await.unwrap();
        }
    }
    assert_eq!(log(&cluster, 0).matches("login failed").count(), 20);
}

/// Starts another node with the configuration of one of these, in a directory and on ports of its own.
fn impostor(cluster: &Cluster, node: usize, name: &str, secret: &str) -> Process {
    let text = std::fs::read_to_string(cluster.config(node)).unwrap();
    let own = |line: &str| {
        let key = line.split(" = ").next().unwrap_or_default();
        match key {
            "listen" | "listen_tls" if line.contains('[') => format!("{key} = [\"127.0.0.1:0\"]"),
            "listen" => format!("{key} = \"127.0.0.1:0\""),
            "data_dir" => format!("{key} = \"{name}\""),
            "secret_file" => format!("{key} = \"{secret}\""),
            _ => line.to_owned(),
        }
    };
    let text: Vec<_> = text.lines().map(own).collect();
    let config = cluster.path().join(format!("{name}.toml"));
    std::fs::write(&config, text.join("\n")).unwrap();
    Process::serve(&config, &cluster.path().join(format!("{name}.log")), &[]).unwrap()
}

#[tokio::test]
async fn who_has_a_taken_seat_or_another_secret_is_told_so_and_so_are_the_others() {
    let cluster = Cluster::start(3, &[], "").await;
    let other = cluster.path().join("other.secret");
    std::fs::write(&other, "another secret, which is long enough to be one").unwrap();
    let _twin = impostor(&cluster, 0, "twin", "cluster.secret");
    let _stranger = impostor(&cluster, 0, "stranger", "other.secret");
    let heard = async |name: &str, parts: &[&str]| {
        until(&format!("{parts:?} from {name}"), async || {
            let log = cluster.path().join(format!("{name}.log"));
            let log = std::fs::read_to_string(log).unwrap_or_default();
            log.lines()
                .any(|line| parts.iter().all(|part| line.contains(part)))
        })
        .await;
    };
    let seat = [
        "WARN",
        "cannot reach peer",
        "another process has this node's seat",
    ];
    heard("twin", &seat).await;
    let secret = [
        "WARN",
        "cannot reach peer",
        "have both nodes a line of cluster.secret_file in common",
    ];
    heard("stranger", &secret).await;
    let refusals = [
        "another process fills its seat",
        "shows a secret that is not in this node's cluster.secret_file",
    ];
    for node in [1, 2] {
        for refusal in refusals {
            told(
                &cluster,
                node,
                &["WARN", "peer at 127.0.0.1 refused", refusal],
            )
            .await;
            assert_eq!(log(&cluster, node).matches(refusal).count(), 1);
        }
    }
}

#[test]
fn a_variable_that_names_no_key_stops_the_start() {
    let output = std::process::Command::new(process::binary())
        .args(["check"])
        .env_clear()
        .env("HOLDFAST_LOG_LEVEL", "debug")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("HOLDFAST_LOG__LEVEL"),
        "{said}"
    );
}
