//! Stops a node so that its clients only have to resume their sessions elsewhere.
//!
//! The node says that it is not ready, takes no new connections and hands its leaderships over. Then it closes
//! connections without `</stream:stream>`, so that clients resume on other nodes; a few at a time, so that they do not
//! all come at once.

use std::time::Duration;

use cluster::ConnId;
use tokio::time::sleep;

use crate::app::App;
use crate::clock;

/// Over which time the closing of connections is spread.
const SPREAD: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(50);
/// How long giving up the sessions may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Does all of this, after which the process may end.
pub async fn drain(app: &App) {
    tracing::info!(connections = app.directory.len(), "draining");
    app.cluster.drain().await;
    let all = app.directory.connections();
    paced(&all, |conn| {
        app.directory.dismiss(conn);
    })
    .await;
    let deadline = clock::timer() + PATIENCE;
    while !settled(app) && clock::timer() < deadline {
        sleep(STEP).await;
    }
    app.cluster.shutdown().await;
    tracing::info!("drained");
}

fn settled(app: &App) -> bool {
    app.directory.is_empty() && app.departures.is_empty()
}

/// Closes connections a few at a time, so that their clients do not all come elsewhere at once.
pub async fn paced(connections: &[ConnId], close: impl Fn(ConnId)) {
    for some in connections.chunks(pace(connections.len())) {
        some.iter().copied().for_each(&close);
        sleep(STEP).await;
    }
}

/// How many connections are closed per step.
fn pace(connections: usize) -> usize {
    let steps = SPREAD.as_millis() / STEP.as_millis();
    connections
        .div_ceil(usize::try_from(steps).unwrap_or(1))
        .max(8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_connections_take_as_long_as_a_few_hundred() {
        assert_eq!(pace(0), 8);
        assert_eq!(pace(100), 8);
        assert_eq!(pace(100_000), 1000);
    }
}
