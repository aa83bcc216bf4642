//! Commands of an administrator with a client that others wrote: slixmpp, with its plugins for XEP-0050 and XEP-0133.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use tests::client::PASSWORD;
use tests::cluster::Cluster;

#[tokio::test]
async fn slixmpp_administers_the_server() {
    let cluster = Cluster::prepare(1, "").unwrap();
    cluster.add_to("[admin]", "jids = [\"alice@localhost\"]");
    let cluster = cluster.started(&["alice", "bob"]).await;
    let python = std::env::var("HOLDFAST_TEST_PYTHON");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("slixmpp/administration.py");
    let address = cluster.address(0);
    let mut command = Command::new(python.unwrap_or_else(|_| "python3".to_owned()));
    command
        .arg(script)
        .arg(address.ip().to_string())
        .arg(address.port().to_string())
        .arg(cluster.certificate())
        .args(["alice@localhost", PASSWORD, "bob@localhost", PASSWORD])
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(text.ends_with("done\n"), "{text}\n{errors}");
}
