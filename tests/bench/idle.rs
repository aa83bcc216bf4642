//! `bench idle` and `bench login`: what sessions cost that do nothing, and what it costs to open one.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use node::demo::client::Connection;
use node::demo::session::Session;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Failure;
use crate::place::{Place, Where};
use crate::usage::{hundredths, memory, tenths};

/// Sessions that are opened before anything is measured: the first ones pay for what all others share.
const FIRST: usize = 50;

/// Sessions that do nothing.
#[derive(Args)]
pub struct Idle {
    /// How many sessions
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub sessions: u32,
    /// How long to wait before the memory is read and the processor time begins to count
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub settle: u64,
    /// For how long the processor time is counted
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    #[command(flatten)]
    pub place: Where,
}

/// Logins.
#[derive(Args)]
pub struct Login {
    /// How many, each of its own account
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub logins: u32,
    #[command(flatten)]
    pub place: Where,
}

impl Idle {
    /// Opens sessions, and tells what they cost.
    pub async fn run(self) -> Result<Value, Failure> {
        let sessions = self.sessions as usize;
        let place = Arc::new(Place::prepare(&self.place, FIRST + sessions, "").await?);
        let mut sitting = JoinSet::new();
        for (connection, session) in place.clients(0..FIRST).await? {
            sitting.spawn(sit(connection, session));
        }
        sleep(Duration::from_secs(self.settle)).await;
        let before = memory(place.pids())?;
        for (connection, session) in place.clients(FIRST..FIRST + sessions).await? {
            sitting.spawn(sit(connection, session));
        }
        sleep(Duration::from_secs(self.settle)).await;
        let after = memory(place.pids())?;
        let start = place.usage().await?;
        tokio::select! {
            () = sleep(Duration::from_secs(self.seconds)) => {}
            Some(ended) = sitting.join_next() => {
                ended??;
                return Err("a session has ended early".into());
            }
        }
        let spent = place.usage().await?.since(&start);
        let mut line = self.place.line("idle");
        line.insert("sessions".into(), json!(sessions));
        let each = after.saturating_sub(before) as f64 / sessions as f64;
        line.insert("kib_per_session".into(), json!(tenths(each)));
        line.insert("memory_mib".into(), json!(tenths(after as f64 / 1024.0)));
        let percent = (spent.percent() * 1000.0).round() / 1000.0;
        line.insert("cpu_percent_of_a_core".into(), json!(percent));
        let spans = self.seconds;
        spent.tell(&mut line, "second", spans);
        Ok(line.into())
    }
}

impl Login {
    /// Logs in, and tells what that cost.
    pub async fn run(self) -> Result<Value, Failure> {
        let logins = self.logins as usize;
        let place = Arc::new(Place::prepare(&self.place, FIRST + logins, "").await?);
        let first = place.clients(0..FIRST).await?;
        let before = memory(place.pids())?;
        let start = place.usage().await?;
        let open = place.clients(FIRST..FIRST + logins).await?;
        let spent = place.usage().await?.since(&start);
        let after = memory(place.pids())?;
        let mut line = self.place.line("login");
        line.insert("logins".into(), json!(open.len()));
        let millis = spent.micros_per(self.logins.into()) / 1e3;
        line.insert("cpu_ms_per_login".into(), json!(hundredths(millis)));
        spent.tell(&mut line, "login", self.logins.into());
        let each = after.saturating_sub(before) as f64 / logins as f64;
        line.insert("kib_per_new_session".into(), json!(tenths(each)));
        drop(first);
        Ok(line.into())
    }
}

/// Stays online, and answers what the server asks.
async fn sit(mut connection: Connection, mut session: Session) -> Result<(), Failure> {
    loop {
        let element = connection.next().await?;
        session.take(&mut connection, element).await?;
    }
}
