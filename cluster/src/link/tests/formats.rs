//! Nodes of different ages: neighbours work together, others are told why not.

use std::sync::{LazyLock, Mutex};

use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::format::{Version, Versions};

/// What all nodes of this process log, from the first use on.
static LOG: LazyLock<Log> = LazyLock::new(|| {
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(Log(&LINES));
    tracing::subscriber::set_global_default(subscriber.finish()).expect("is the only one");
    Log(&LINES)
});
static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());

#[derive(Clone, Copy)]
struct Log(&'static Mutex<Vec<u8>>);

impl Log {
    /// Whether a line of this level has the text.
    fn has(self, level: &str, text: &str) -> bool {
        let lines = String::from_utf8_lossy(&self.0.lock().expect("lock")).into_owned();
        let found = |line: &str| line.contains(level) && line.contains(text);
        lines.lines().any(found)
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("lock").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        *self
    }
}

/// Seats from 1 on that speak these versions, connected or trying to be.
fn nodes(speak: &[(u8, u8)]) -> Vec<Node> {
    let listeners = &listeners()[..speak.len()];
    let seats = (1..).zip(speak).zip(listeners);
    let node = |((seat, speak), listener): ((u64, &(u8, u8)), _)| {
        let formats = Versions {
            oldest: Version(speak.0),
            newest: Version(speak.1),
        };
        let config = Config {
            formats,
            ..config(listeners, seat)
        };
        start(&config, listener)
    };
    seats.map(node).collect()
}

#[tokio::test]
async fn neighbouring_versions_speak_the_older_one() {
    let nodes = nodes(&[(2, 2), (2, 3)]);
    until("connected", || {
        nodes.iter().all(|node| node.links.up().len() == 1)
    })
    .await;
    for (asker, asked) in [(0, 1), (1, 0)] {
        let to = nodes[asked].identity.node();
        let links = &nodes[asker].links;
        let answer = links.call(to, Kind::Propose, 1, "hello", PATIENCE).await;
        assert_eq!(answer, Ok(Bytes::from("hello")));
        assert_eq!(links.common_format(), Version(2));
    }
}

#[tokio::test]
async fn a_member_that_was_not_met_may_read_the_oldest_only() {
    let nodes = nodes(&[(2, 3), (2, 3), (2, 3)]);
    let common = |node: &Node| node.links.common_format();
    until("all are met", || {
        nodes.iter().all(|node| node.links.up().len() == 2)
    })
    .await;
    assert!(nodes.iter().all(|node| common(node) == Version(3)));
    let alone = &self::nodes(&[(2, 3), (2, 3)])[..1];
    assert_eq!(common(&alone[0]), Version(2));
}

#[tokio::test]
async fn a_version_too_far_ahead_is_refused_and_both_sides_say_so() {
    let log = *LOG;
    let nodes = nodes(&[(40, 41), (50, 51)]);
    until("both have said so", || {
        log.has(
            "WARN",
            "the peer speaks formats 50 to 51, this node 40 to 41",
        ) && log.has(
            "WARN",
            "the peer speaks formats 40 to 41, this node 50 to 51",
        )
    })
    .await;
    assert!(nodes.iter().all(|node| node.links.up().is_empty()));
}
