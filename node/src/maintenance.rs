//! Takes a node out of service that goes on running (`holdfast cluster drain`), and back into it (`undrain`): before
//! its machine is looked after, or to find out whether the others carry the load.
//!
//! The node says that it is not ready. After the time that balancers need to learn that (`drain.grace`), its listeners
//! close, and its connections do too, without ending their sessions, a few at a time. Meanwhile it hands over what it
//! leads, again and again, since a node that has just come up does not know that this one should not lead. It goes on
//! replicating, and so it is up to date when it is needed again. A restart ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::app::App;
use crate::config::Drain;
use crate::drain::paced;

/// How often the others are told that this node should not lead, and clients are sent away that came late.
const AGAIN: Duration = Duration::from_secs(1);

/// Whether a node is in service.
#[derive(Debug)]
pub struct Maintenance {
    /// The seat of the node.
    seat: u64,
    wanted: watch::Sender<bool>,
    closed: AtomicBool,
}

/// A node is not drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DrainError {
    /// Nobody answers for this seat.
    #[error("node {0} is not connected, or its build is too old for this")]
    NotThere(u64),
    /// There would be nobody left.
    #[error(
        "no other node is connected and in service that could serve clients instead of node {0}"
    )]
    Alone(u64),
}

impl Maintenance {
    /// The node in this seat begins in service.
    pub fn new(seat: u64) -> Self {
        Self {
            seat,
            wanted: watch::Sender::new(false),
            closed: AtomicBool::new(false),
        }
    }

    /// Drains the node, or puts it back into service. False if it is another one that is meant.
    pub fn ask(&self, seat: u64, drain: bool) -> bool {
        let meant = seat == self.seat;
        if meant {
            self.wanted.send_replace(drain);
        }
        meant
    }

    /// Whether the node is out of service, or is about to be.
    pub fn is_on(&self) -> bool {
        *self.wanted.borrow()
    }

    /// Whether no clients are to be accepted.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

/// Does what operators ask for, for as long as the node runs.
pub async fn run(app: Arc<App>) {
    let maintenance = app.maintenance.clone();
    let mut wanted = maintenance.wanted.subscribe();
    // It does not end, since the sender is part of what is held here.
    while wanted.wait_for(|drain| *drain).await.is_ok() {
        tracing::info!("taken out of service by an operator");
        tokio::join!(
            lead_nothing(&app, wanted.clone()),
            serve_nobody(&app, wanted.clone())
        );
        maintenance.closed.store(false, Ordering::Relaxed);
        if !app.draining.load(Ordering::Relaxed) {
            app.cluster.step_forward().await;
            tracing::info!("back in service");
        }
    }
}

/// Hands over what this node leads, again and again. It ends between two times, so that nothing is said to others after
/// it has ended.
async fn lead_nothing(app: &App, mut wanted: watch::Receiver<bool>) {
    while *wanted.borrow_and_update() {
        app.cluster.step_back().await;
        // Either ends the pause: a change of mind, or its time.
        let _ = timeout(AGAIN, wanted.changed()).await;
    }
}

/// Closes the listeners and then all connections.
async fn serve_nobody(app: &App, mut wanted: watch::Receiver<bool>) {
    let closing = async {
        let Drain { grace, spread } = app.live.get().drain.clone();
        sleep(grace).await;
        app.maintenance.closed.store(true, Ordering::Relaxed);
        loop {
            paced(&app.directory.connections(), spread, |conn| {
                app.directory.dismiss(conn);
            })
            .await;
            sleep(AGAIN).await;
        }
    };
    tokio::select! {
        () = closing => {}
        _ = wanted.wait_for(|drain| !*drain) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_node_that_is_meant_is_drained() {
        let maintenance = Maintenance::new(2);
        assert!(!maintenance.ask(1, true) && !maintenance.is_on());
        assert!(maintenance.ask(2, true) && maintenance.is_on());
        assert!(!maintenance.ask(3, false) && maintenance.is_on());
        assert!(maintenance.ask(2, false) && !maintenance.is_on());
    }
}
