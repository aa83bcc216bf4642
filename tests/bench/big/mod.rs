//! `bench big`: what an account costs that has much of something, beside one that has a tenth of it. Nothing may grow faster
//! than what there is more of. Of messages the other one has a thousandth, and nothing may grow.

mod archive;
mod contacts;
mod stored;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use proto::{Element, ns};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Failure;
use crate::client::Client;
use crate::place::{Place, Where};
use crate::usage::hundredths;

/// How often something is done of which the median is told.
const ROUNDS: usize = 50;
/// How long something may take to reach everybody.
const PATIENCE: Duration = Duration::from_secs(120);

/// Large accounts.
#[derive(Args)]
pub struct Big {
    /// What there is much of
    pub case: Case,
    /// How much; 8000 contacts, 1000 nodes, 1000 blocked addresses, 200 resources, 1000000 archived messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(10..=10_000_000))]
    pub size: Option<u32>,
    /// How many of the contacts are online
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub online: u32,
    #[command(flatten)]
    pub place: Where,
}

/// What there is much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// Contacts in a roster, all of them accounts here
    Contacts,
    /// Nodes for publish-subscribe
    Pubsub,
    /// Blocked addresses
    Blocked,
    /// Sessions of one account
    Resources,
    /// Messages in an archive
    Archive,
}

impl Case {
    /// As many as are bearable by default. Of contacts: as many as fit into one answer of 400 KiB.
    const fn size(self) -> usize {
        match self {
            Self::Contacts => 8_000,
            Self::Pubsub | Self::Blocked => 1_000,
            Self::Resources => 200,
            Self::Archive => 1_000_000,
        }
    }

    /// The other account has the whole divided by this, and what that is called.
    const fn part(self) -> (usize, &'static str) {
        match self {
            Self::Archive => (1000, "thousandth"),
            Self::Contacts | Self::Pubsub | Self::Blocked | Self::Resources => (10, "tenth"),
        }
    }
}

/// What was measured at one size, by name, in milliseconds or microseconds as the name says.
type Measured = BTreeMap<&'static str, f64>;

impl Big {
    /// Measures a tenth and the whole, and tells both with their ratio.
    pub async fn run(self) -> Result<Value, Failure> {
        let whole = self.size.map_or(self.case.size(), |size| size as usize);
        let (divisor, part) = self.case.part();
        let (sizes, online) = ([whole / divisor, whole], self.online as usize);
        let (small, large) = match self.case {
            Case::Contacts => contacts::measure(&self.place, sizes, online).await?,
            Case::Pubsub => stored::pubsub(&self.place, sizes).await?,
            Case::Blocked => stored::blocked(&self.place, sizes).await?,
            Case::Resources => contacts::resources(&self.place, sizes).await?,
            Case::Archive => archive::measure(&self.place, sizes).await?,
        };
        let mut line = self.place.line("big");
        let case = format!("{:?}", self.case).to_lowercase();
        line.insert("case".into(), json!(case));
        line.insert("sizes".into(), json!(sizes));
        if self.case == Case::Contacts {
            line.insert("online".into(), json!(online));
        }
        for (name, value) in &large {
            let before = small.get(name).copied().unwrap_or_default();
            let mut each = Map::new();
            each.insert(part.into(), json!(hundredths(before)));
            each.insert("whole".into(), json!(hundredths(*value)));
            each.insert("ratio".into(), json!(hundredths(value / before)));
            line.insert((*name).into(), each.into());
        }
        Ok(line.into())
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The median of some times, in milliseconds.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().map_or(0.0, millis)
}

/// How long a message takes from the one to the other, as a median.
async fn messages(from: &mut Client, to: &mut Client) -> Result<f64, Failure> {
    let address = to.session.jid().to_string();
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let message = Element::new("message", ns::CLIENT)
            .with_attr("type", "chat")
            .with_attr("to", &address)
            .with_child(Element::new("body", ns::CLIENT).with_text("how long?"));
        let start = Instant::now();
        from.send(&message).await?;
        to.message().await?;
        times.push(start.elapsed());
        from.session.request(&mut from.connection).await?;
    }
    Ok(median(times))
}

/// Clients that tell what presence comes to them: from whom, and what it says.
struct Audience {
    watching: JoinSet<Result<(), Failure>>,
    sender: UnboundedSender<(String, String)>,
    heard: UnboundedReceiver<(String, String)>,
}

impl Audience {
    fn new() -> Self {
        let (sender, heard) = unbounded_channel();
        Self {
            watching: JoinSet::new(),
            sender,
            heard,
        }
    }

    fn add(&mut self, client: Client) {
        self.watching.spawn(watch(client, self.sender.clone()));
    }

    /// Waits until so many have heard this from that account or session.
    async fn hears(&mut self, count: usize, from: &str, word: &str) -> Result<(), Failure> {
        let come = async {
            let mut left = count;
            while left > 0 {
                tokio::select! {
                    heard = self.heard.recv() => {
                        let (who, what) = heard.ok_or("nobody listens")?;
                        left -= usize::from(who.starts_with(from) && what == word);
                    }
                    Some(ended) = self.watching.join_next() => ended??,
                }
            }
            Ok(())
        };
        let late = |_| format!("{word:?} of {from} does not reach everybody");
        timeout(PATIENCE, come).await.map_err(late)?
    }
}

/// Tells of presence until the connection ends.
async fn watch(
    mut client: Client,
    sender: UnboundedSender<(String, String)>,
) -> Result<(), Failure> {
    loop {
        let stanza = client.next().await?;
        if stanza.is("presence", ns::CLIENT) {
            let status = stanza.child("status", ns::CLIENT).map(Element::text);
            let kind = stanza.attr("type").unwrap_or_default().to_owned();
            let from = stanza.attr("from").unwrap_or_default().to_owned();
            if sender.send((from, status.unwrap_or(kind))).is_err() {
                return Ok(());
            }
        }
    }
}

/// A presence with a status.
fn status(text: &str) -> Element {
    let status = Element::new("status", ns::CLIENT).with_text(text);
    Element::new("presence", ns::CLIENT).with_child(status)
}

/// Changes of status, each told to all of the audience: the median of how long that takes, and the processor time of
/// each telling.
async fn changes(
    place: &Arc<Place>,
    person: &mut Client,
    audience: &mut Audience,
    count: usize,
) -> Result<(f64, f64), Failure> {
    let (own, mut times) = (person.session.jid().to_string(), Vec::new());
    let before = place.usage().await?;
    for number in 0..ROUNDS {
        let word = format!("status {number}");
        let start = Instant::now();
        person.send(&status(&word)).await?;
        audience.hears(count, &own, &word).await?;
        times.push(start.elapsed());
        person.session.request(&mut person.connection).await?;
        // Its own comes back to it.
        person.presence(None, &person.account()).await?;
    }
    let spent = place.usage().await?.since(&before);
    Ok((median(times), spent.micros_per(ROUNDS as u64)))
}
