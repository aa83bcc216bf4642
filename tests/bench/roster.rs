//! `bench roster`: people change their status, and their contacts get it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use clap::Args;
use proto::{Element, ns};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Failure;
use crate::client::Client;
use crate::place::{Place, Where};
use crate::usage::{memory, tenths};

/// Changes of one status that are on their way at a time.
const WINDOW: usize = 4;
/// Before the measurement begins.
const WARM_UP: Duration = Duration::from_secs(2);

/// Changes of status.
#[derive(Args)]
pub struct Roster {
    /// How many people change their status
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub people: u16,
    /// How many contacts each of them has who are online
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub contacts: u16,
    /// For how long
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub seconds: u64,
    #[command(flatten)]
    pub place: Where,
}

impl Roster {
    /// Has people change their status, and tells what that took.
    pub async fn run(self) -> Result<Value, Failure> {
        let (people, contacts) = (usize::from(self.people), usize::from(self.contacts));
        let all = people * (1 + contacts);
        let place = Arc::new(Place::prepare(&self.place, all, "").await?);
        let mut open = place.clients(0..all).await?.into_iter().map(Client::new);
        let counts: Arc<[AtomicU64; 2]> = Arc::default();
        let mut clients = JoinSet::new();
        for _ in 0..people {
            let mut person = open.next().ok_or("too few clients")?;
            let (sender, arrived) = unbounded_channel();
            for number in 0..contacts {
                let mut contact = open.next().ok_or("too few clients")?;
                befriend(&mut person, &mut contact).await?;
                // One for all of them: they get it at about the same time.
                let sender = (number + 1 == contacts).then(|| sender.clone());
                clients.spawn(watch(contact, person.account(), sender, counts.clone()));
            }
            clients.spawn(change(person, arrived, counts.clone()));
        }
        let read = || counts.each_ref().map(|count| count.load(Relaxed));
        let measured = async {
            sleep(WARM_UP).await;
            let (before, then) = (place.usage().await?, read());
            sleep(Duration::from_secs(self.seconds)).await;
            let (after, now) = (place.usage().await?, read());
            Ok::<_, Failure>((after.since(&before), now[0] - then[0], now[1] - then[1]))
        };
        let (spent, changes, deliveries) = tokio::select! {
            measured = measured => measured?,
            Some(ended) = clients.join_next() => {
                ended??;
                return Err("a client has ended early".into());
            }
        };
        let mut line = self.place.line("roster");
        line.insert("people".into(), json!(people));
        line.insert("contacts".into(), json!(contacts));
        line.insert("changes".into(), json!(changes));
        line.insert("deliveries".into(), json!(deliveries));
        spent.tell(&mut line, "change", changes);
        let each = tenths(spent.micros_per(deliveries));
        line.insert("cpu_us_per_delivery".into(), json!(each));
        let memory = memory(place.pids())? as f64 / 1024.0;
        line.insert("memory_mib".into(), json!(tenths(memory)));
        Ok(line.into())
    }
}

/// The contact sees the person's presence from now on.
async fn befriend(person: &mut Client, contact: &mut Client) -> Result<(), Failure> {
    let presence = |kind: &str, to: String| {
        Element::new("presence", ns::CLIENT)
            .with_attr("type", kind)
            .with_attr("to", to)
    };
    contact
        .send(&presence("subscribe", person.account()))
        .await?;
    person
        .presence(Some("subscribe"), &contact.account())
        .await?;
    person
        .send(&presence("subscribed", contact.account()))
        .await?;
    contact.presence(None, &person.account()).await
}

/// Changes its status each time that the last but a few has come.
async fn change(
    mut person: Client,
    mut arrived: UnboundedReceiver<()>,
    counts: Arc<[AtomicU64; 2]>,
) -> Result<(), Failure> {
    let mut number = 0;
    loop {
        if number >= WINDOW {
            tokio::select! {
                _ = arrived.recv() => {}
                // Its own presence comes back to it, and acknowledgements.
                taken = person.next() => {
                    taken?;
                    continue;
                }
            }
        }
        number += 1;
        let status = Element::new("status", ns::CLIENT).with_text(&format!("status {number}"));
        let presence = Element::new("presence", ns::CLIENT).with_child(status);
        person.send(&presence).await?;
        counts[0].fetch_add(1, Relaxed);
        if number % 20 == 0 {
            person.session.request(&mut person.connection).await?;
        }
    }
}

/// Counts what comes from the person.
async fn watch(
    mut contact: Client,
    person: String,
    sender: Option<UnboundedSender<()>>,
    counts: Arc<[AtomicU64; 2]>,
) -> Result<(), Failure> {
    loop {
        contact.presence_soon(&person).await?;
        counts[1].fetch_add(1, Relaxed);
        if let Some(sender) = &sender {
            // The person ends first if the measurement is over.
            let _ = sender.send(());
        }
    }
}
