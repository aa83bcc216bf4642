//! The last command of a connection: its session is lost, or over.
//!
//! It is proposed until the cluster takes it, apart from the actor, which is gone by then. A session whose
//! owner vanished without a word would look attached until its node stops.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cluster::session::{Acknowledge, Command, Outcome};
use cluster::{ConnId, ProposeError};
use proto::BareJid;

use crate::app::App;

/// How often it is tried; each try waits for a leader as long as any proposal does.
const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);

/// Connections whose last command is not committed yet.
#[derive(Debug, Default)]
pub struct Departures {
    // A lock: every arbiter's connections end here, and each looks at it for a moment.
    under_way: Mutex<HashSet<ConnId>>,
}

impl Departures {
    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.under_way().is_empty()
    }

    /// This connection's last command is on its way.
    pub fn contains(&self, conn: ConnId) -> bool {
        self.under_way().contains(&conn)
    }

    /// The set is whole whatever a holder of the lock did.
    fn under_way(&self) -> MutexGuard<'_, HashSet<ConnId>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a connection leaves behind.
pub struct Farewell {
    /// The connection.
    pub conn: ConnId,
    /// Whose session it was.
    pub account: BareJid,
    /// What the client said it has. The word on it travels lazily and may not have arrived.
    pub acknowledge: Option<Acknowledge>,
    /// The last command.
    pub last: Command,
}

/// Proposes the last command, and before it what the client has.
pub async fn depart(app: &App, farewell: &Farewell) -> Result<Outcome, ProposeError> {
    let account = &farewell.account;
    if let Some(acknowledge) = farewell.acknowledge.clone() {
        // One after the other: of two proposals under way at a time neither has to be the first.
        let acknowledge = Command::Acknowledge(acknowledge);
        app.cluster.propose(account, acknowledge).await?;
    }
    app.cluster.propose(account, farewell.last.clone()).await
}

/// Proposes until it is committed. Returns at once.
pub fn insist(app: &Arc<App>, farewell: Farewell) {
    let app = app.clone();
    app.departures.under_way().insert(farewell.conn);
    actix_rt::spawn(async move {
        for _ in 0..TRIES {
            match depart(&app, &farewell).await {
                Ok(_) => break,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        app.departures.under_way().remove(&farewell.conn);
    });
}
