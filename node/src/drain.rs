//! Stops a node so that its clients only have to resume their sessions elsewhere.
//!
//! The node says that it is not ready, and goes on accepting clients until balancers have had time to learn that. Then
//! it takes no new connections, hands its leaderships over, and closes connections without `</stream:stream>`, so that
//! clients resume on other nodes; a few at a time, so that they do not all come at once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use cluster::ConnId;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::app::App;
use crate::clock;
use crate::config::Drain;

/// Between two lots of connections that are closed.
const STEP: Duration = Duration::from_millis(50);
/// How long giving up the sessions may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Does all of this, after which the process may end. `close` is told when no client may be accepted any more.
pub async fn drain(app: &App, close: &watch::Sender<bool>, was_ready: bool) {
    let was_ready = was_ready || app.ready().is_ok();
    app.draining.store(true, Ordering::Relaxed);
    let Drain { grace, spread } = app.live.get().drain.clone();
    // No balancer sends clients to a node that was never ready, and a node that is alone has nobody to take its own.
    if was_ready && app.config.cluster.is_some() && !grace.is_zero() {
        let seconds = grace.as_secs_f64();
        tracing::info!(seconds, "not ready, and still accepting clients");
        sleep(grace).await;
    }
    // If there is no receiver, there is no accept loop to stop.
    let _ = close.send(true);
    tracing::info!(connections = app.directory.len(), "draining");
    app.cluster.drain().await;
    let all = app.directory.connections();
    paced(&all, spread, |conn| {
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
pub async fn paced(connections: &[ConnId], spread: Duration, close: impl Fn(ConnId)) {
    for some in connections.chunks(pace(connections.len(), spread)) {
        some.iter().copied().for_each(&close);
        sleep(STEP).await;
    }
}

/// How many connections are closed per step.
fn pace(connections: usize, spread: Duration) -> usize {
    let steps = spread.as_millis() / STEP.as_millis();
    connections
        .div_ceil(usize::try_from(steps).unwrap_or(usize::MAX).max(1))
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_connections_are_spread_as_well_as_many() {
        let spread = Duration::from_secs(5);
        assert_eq!(pace(0, spread), 1);
        assert_eq!(pace(100, spread), 1);
        assert_eq!(pace(101, spread), 2);
        assert_eq!(pace(100_000, spread), 1000);
        assert_eq!(pace(100_000, Duration::ZERO), 100_000);
    }
}
