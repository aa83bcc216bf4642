//! Scripts for slixmpp, a client that others wrote (`tests/slixmpp`).

use std::path::Path;
use std::process::Command;

use crate::cluster::Cluster;

/// Runs a script against the first node; what it has printed. The script must say at last that it is done.
pub async fn run(cluster: &Cluster, script: &str, arguments: &[&str]) -> String {
    let python = std::env::var("HOLDFAST_TEST_PYTHON");
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("slixmpp")
        .join(script);
    let address = cluster.address(0);
    let mut command = Command::new(python.unwrap_or_else(|_| "python3".to_owned()));
    command
        .arg(script)
        .arg(address.ip().to_string())
        .arg(address.port().to_string())
        .arg(cluster.certificate())
        .args(arguments)
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.expect("ends").expect("python runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(text.ends_with("done\n"), "{text}\n{errors}");
    text
}
