//! The last command of a connection: its session is lost, or over.
//!
//! It is proposed until the cluster takes it, apart from the actor, which is gone by then. A session whose
//! owner vanished without a word would look attached until its node stops.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cluster::session::Command;
use proto::BareJid;

use crate::app::App;

/// How often it is tried; each try waits for a leader as long as any proposal does.
const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);

/// Proposes until it is committed. Returns at once.
pub fn insist(app: &Arc<App>, account: BareJid, command: Command) {
    let app = app.clone();
    app.departures.fetch_add(1, Ordering::Relaxed);
    actix_rt::spawn(async move {
        for _ in 0..TRIES {
            match app.cluster.propose(&account, command.clone()).await {
                Ok(_) => break,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        app.departures.fetch_sub(1, Ordering::Relaxed);
    });
}
