//! `bench chat` and `bench resume`: messages between clients that are online, and clients that come back meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Failure;
use crate::place::{Place, Where};
use crate::talk::{Client, Command, Seen, Talk};
use crate::usage::{Spent, memory, tenths};

/// Before the measurement begins.
const WARM_UP: Duration = Duration::from_secs(2);

/// What a server puts off it has done so long after the last message.
const REST: Duration = Duration::from_secs(3);

/// How clients chat.
#[derive(Args)]
pub struct Chat {
    /// How many clients, in pairs
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = even)]
    pub sessions: usize,
    /// Closed loop: how many messages each client keeps on their way
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=400))]
    pub window: u64,
    /// Open loop instead: how many messages all clients together send in a second
    #[arg(long, value_name = "N", conflicts_with = "window", value_parser = rate)]
    pub rate: Option<f64>,
    /// For how long
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    /// Whom messages are addressed to: the account, or its one client
    #[arg(long, value_enum, default_value_t = To::Bare)]
    pub to: To,
    #[command(flatten)]
    pub place: Where,
}

/// Clients that come back while others chat.
#[derive(Args)]
pub struct Resume {
    /// How many clients, in pairs
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = even)]
    pub sessions: usize,
    /// How many of them lose their connection and resume in a second, each at the next node
    #[arg(long, default_value_t = 25.0, value_name = "N", value_parser = rate)]
    pub returns: f64,
    /// How many messages all clients together send in a second
    #[arg(long, default_value_t = 200.0, value_name = "N", value_parser = rate)]
    pub rate: f64,
    /// For how long
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    #[command(flatten)]
    pub place: Where,
}

/// An address.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum To {
    /// Without a resource.
    Bare,
    /// With it.
    Full,
}

/// What is done, in one span of time.
pub struct Span {
    /// How long the measurement lasts.
    pub length: Duration,
    /// What the servers took.
    pub spent: Spent,
    /// How many messages came.
    pub messages: u64,
    /// The memory of the servers at its end, in KiB.
    pub memory: u64,
}

fn even(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number % 2 == 0 && (2..=100_000).contains(&number) => Ok(number),
        _ => Err("expected an even number from 2 to 100000: clients chat in pairs".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.01..=1e6).contains(&rate) => Ok(rate),
        _ => Err("expected a number from 0.01 to 1000000".to_owned()),
    }
}

impl Chat {
    /// Chats, and tells what that took.
    pub async fn run(self) -> Result<Value, Failure> {
        let place = Place::prepare(&self.place, self.sessions, "").await?;
        let place = Arc::new(place);
        let mut line = self.place.line("chat");
        line.insert("sessions".into(), json!(self.sessions));
        let to = if self.to == To::Full { "full" } else { "bare" };
        line.insert("to".into(), json!(to));
        let window = self.rate.map_or(self.window, |_| 0);
        let open = place.clients(0..self.sessions).await?;
        let start = place.usage().await?;
        let talk = Talk::new(window);
        let (mut clients, mut commands) = (JoinSet::new(), Vec::new());
        let partners = partners(&open, self.to);
        for ((connection, session), partner) in open.into_iter().zip(partners) {
            let client = Client::new(&talk, (connection, Some(session)), partner, None);
            commands.push(client.start(&mut clients));
        }
        match self.rate {
            Some(rate) => {
                line.insert("rate".into(), json!(rate));
                talk.pace(rate, commands, Command::Say);
            }
            None => {
                line.insert("window".into(), json!(window));
            }
        }
        let span = measure(&place, &talk, &mut clients, self.seconds).await?;
        span.tell(&mut line);
        talk.finish(clients, &mut line).await?;
        sleep(REST).await;
        let all = talk.delivered.load(Relaxed);
        let whole = place.usage().await?.since(&start).micros_per(all);
        line.insert("cpu_us_per_message_to_the_end".into(), json!(tenths(whole)));
        Ok(line.into())
    }
}

impl Resume {
    /// Chats while clients come back, and tells how long that takes.
    pub async fn run(self) -> Result<Value, Failure> {
        let place = Place::prepare(&self.place, self.sessions, "").await?;
        let place = Arc::new(place);
        let mut line = self.place.line("resume");
        line.insert("sessions".into(), json!(self.sessions));
        line.insert("rate".into(), json!(self.rate));
        line.insert("returns_per_second".into(), json!(self.returns));
        let open = place.clients(0..self.sessions).await?;
        let talk = Talk::new(0);
        let (mut clients, mut commands) = (JoinSet::new(), Vec::new());
        let partners = partners(&open, To::Bare);
        for (me, ((connection, session), partner)) in open.into_iter().zip(partners).enumerate() {
            let home = Some((place.clone(), me, me));
            let client = Client::new(&talk, (connection, Some(session)), partner, home);
            commands.push(client.start(&mut clients));
        }
        talk.pace(self.rate, commands.clone(), Command::Say);
        talk.pace(self.returns, commands, |_| Command::Return);
        let span = measure(&place, &talk, &mut clients, self.seconds).await?;
        span.tell(&mut line);
        talk.finish(clients, &mut line).await?;
        Ok(line.into())
    }
}

/// The address of each client's partner.
fn partners(
    open: &[(node::demo::client::Connection, node::demo::session::Session)],
    to: To,
) -> Vec<String> {
    let address = |me: usize| {
        let jid = open[me ^ 1].1.jid();
        match to {
            To::Full => jid.to_string(),
            To::Bare => jid.bare().to_string(),
        }
    };
    (0..open.len()).map(address).collect()
}

/// Lets the clients talk, and reads what the servers take meanwhile. A client that ends is a failure.
async fn measure(
    place: &Place,
    talk: &Talk,
    clients: &mut JoinSet<Result<Seen, Failure>>,
    seconds: u64,
) -> Result<Span, Failure> {
    let span = async {
        sleep(WARM_UP).await;
        let (before, came) = (place.usage().await?, talk.delivered.load(Relaxed));
        talk.begin();
        sleep(Duration::from_secs(seconds)).await;
        talk.end();
        let (after, now) = (place.usage().await?, talk.delivered.load(Relaxed));
        let spent = after.since(&before);
        Ok::<_, Failure>(Span {
            length: spent.took,
            spent,
            messages: now - came,
            memory: memory(place.pids())?,
        })
    };
    watched(span, clients).await
}

/// Does something, unless a client ends before.
pub async fn watched<T>(
    work: impl Future<Output = Result<T, Failure>>,
    clients: &mut JoinSet<Result<Seen, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        done = work => done,
        Some(ended) = clients.join_next() => {
            ended??;
            Err("a client has ended early".into())
        }
    }
}

impl Span {
    /// Adds it to a line.
    pub fn tell(&self, line: &mut Map<String, Value>) {
        line.insert("messages".into(), json!(self.messages));
        let rate = self.messages as f64 / self.length.as_secs_f64();
        line.insert("messages_per_second".into(), json!(rate.round()));
        self.spent.tell(line, "message", self.messages);
        line.insert(
            "memory_mib".into(),
            json!(tenths(self.memory as f64 / 1024.0)),
        );
    }
}
