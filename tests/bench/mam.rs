//! `bench mam`: what it costs to read an archive, page by page, right after a burst and from a fresh server.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use node::demo::client::Connection;
use node::demo::session::{Session, Taken};
use proto::{Element, ns};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::Failure;
use crate::place::{Place, Where};
use crate::usage::{hundredths, memory, tenths};

/// Messages that a writer leaves unacknowledged.
const WINDOW: usize = 64;
/// The text of a message.
const BODY: usize = 180;
/// How long a page, an acknowledgement or the writing of a burst may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// So long after a burst nothing of it is under way.
const REST: Duration = Duration::from_secs(3);

/// Pages of archives.
#[derive(Args)]
pub struct Mam {
    /// How many archives are filled and read
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub archives: u16,
    /// How many messages are written into each
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub messages: u32,
    /// How many messages are on a page
    #[arg(long, default_value_t = 50, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub page: u32,
    #[command(flatten)]
    pub place: Where,
}

struct Client {
    connection: Connection,
    session: Session,
}

impl Client {
    async fn stanza(&mut self) -> Result<Option<Element>, Failure> {
        let element = timeout(PATIENCE, self.connection.next()).await;
        let element = element.map_err(|_| "the server is silent")??;
        let taken = self.session.take(&mut self.connection, element).await?;
        match taken {
            Taken::Stanza(stanza) if stanza.attr("type") == Some("error") => {
                Err(format!("the server refuses: {}", stanza.to_xml(ns::CLIENT)).into())
            }
            Taken::Stanza(stanza) => Ok(Some(stanza)),
            _ => Ok(None),
        }
    }

    async fn settle(&mut self, left: usize) -> Result<(), Failure> {
        while self.session.unacknowledged() > left {
            self.stanza().await?;
        }
        Ok(())
    }
}

impl Mam {
    /// Fills and reads archives, and tells what that took.
    pub async fn run(mut self) -> Result<Value, Failure> {
        self.place.archive = true;
        let archives = usize::from(self.archives);
        let mut place = Arc::new(Place::prepare(&self.place, 2 * archives, "").await?);
        let mut line = self.place.line("mam");
        line.insert("archives".into(), json!(archives));
        line.insert("messages_in_each".into(), json!(self.messages));
        line.insert("page".into(), json!(self.page));
        let start = Instant::now();
        let readers = self.burst(&place).await?;
        line.insert(
            "burst_s".into(),
            json!(hundredths(start.elapsed().as_secs_f64())),
        );
        let wanted = u64::from(self.messages) * archives as u64;
        let start = Instant::now();
        let readers = self
            .read(&place, readers, "burst", wanted, &mut line)
            .await?;
        line.insert(
            "burst_read_s".into(),
            json!(hundredths(start.elapsed().as_secs_f64())),
        );
        drop(readers);
        sleep(REST).await;
        let ours = Arc::get_mut(&mut place).ok_or("somebody is still there")?;
        if ours.restart().await? {
            let mut readers = Vec::new();
            for (connection, session) in place.clients(0..archives).await? {
                readers.push(Client {
                    connection,
                    session,
                });
            }
            self.read(&place, readers, "fresh", wanted, &mut line)
                .await?;
        }
        let memory = memory(place.pids())? as f64 / 1024.0;
        line.insert("memory_mib".into(), json!(tenths(memory)));
        Ok(line.into())
    }

    /// Has one write into the archive of each, and returns those. All messages have come when it returns.
    async fn burst(&self, place: &Arc<Place>) -> Result<Vec<Client>, Failure> {
        let archives = usize::from(self.archives);
        let mut open = place.clients(0..2 * archives).await?.into_iter();
        let readers: Vec<_> = open.by_ref().take(archives).collect();
        let (mut writing, mut reading) = (JoinSet::new(), JoinSet::new());
        for (reader, writer) in readers.into_iter().zip(open) {
            let to = reader.1.jid().bare().to_string();
            let [reader, writer] = [reader, writer].map(|(connection, session)| Client {
                connection,
                session,
            });
            writing.spawn(write(writer, to, self.messages));
            reading.spawn(listen(reader, self.messages));
        }
        while let Some(written) = writing.join_next().await {
            written??;
        }
        let mut readers = Vec::new();
        while let Some(read) = reading.join_next().await {
            readers.push(read??);
        }
        Ok(readers)
    }

    /// Reads all archives at once, each from its begin to its end.
    async fn read(
        &self,
        place: &Place,
        readers: Vec<Client>,
        when: &str,
        wanted: u64,
        line: &mut Map<String, Value>,
    ) -> Result<Vec<Client>, Failure> {
        let before = place.usage().await?;
        let mut reading = JoinSet::new();
        for reader in readers {
            reading.spawn(all(reader, self.page));
        }
        let (mut readers, mut messages) = (Vec::new(), 0);
        while let Some(read) = reading.join_next().await {
            let (reader, count) = read??;
            readers.push(reader);
            messages += count;
        }
        let spent = place.usage().await?.since(&before);
        line.insert(format!("{when}_messages"), json!(messages));
        line.insert(
            format!("{when}_missing"),
            json!(wanted.saturating_sub(messages)),
        );
        spent.tell(line, &format!("{when}_message"), messages);
        Ok(readers)
    }
}

/// Sends so many messages as fast as they are acknowledged, and waits until all are.
async fn write(mut writer: Client, to: String, count: u32) -> Result<(), Failure> {
    let body = "x".repeat(BODY);
    for number in 0..count {
        let message = Element::new("message", ns::CLIENT)
            .with_attr("type", "chat")
            .with_attr("to", &to)
            .with_attr("id", format!("burst-{number}"))
            .with_child(Element::new("body", ns::CLIENT).with_text(&body));
        writer
            .session
            .send(&mut writer.connection, &message)
            .await?;
        if (number as usize).is_multiple_of(WINDOW / 4) || number + 1 == count {
            writer.session.request(&mut writer.connection).await?;
        }
        writer.settle(WINDOW).await?;
    }
    writer.session.request(&mut writer.connection).await?;
    writer.settle(0).await
}

/// Takes so many messages.
async fn listen(mut reader: Client, count: u32) -> Result<Client, Failure> {
    let mut came = 0;
    while came < count {
        let stanza = reader.stanza().await?;
        came += u32::from(stanza.is_some_and(|stanza| stanza.is("message", ns::CLIENT)));
    }
    Ok(reader)
}

/// Reads all pages; how many messages were on them.
async fn all(mut reader: Client, page: u32) -> Result<(Client, u64), Failure> {
    let (mut last, mut messages) = (String::new(), 0);
    for number in 0.. {
        let mut set = Element::new("set", ns::RSM)
            .with_child(Element::new("max", ns::RSM).with_text(&page.to_string()));
        if !last.is_empty() {
            set.push(Element::new("after", ns::RSM).with_text(&last));
        }
        let id = format!("page-{number}");
        let query = Element::new("iq", ns::CLIENT)
            .with_attr("type", "set")
            .with_attr("id", &id)
            .with_child(Element::new("query", ns::MAM).with_child(set));
        reader.session.send(&mut reader.connection, &query).await?;
        reader.session.request(&mut reader.connection).await?;
        let fin = loop {
            let Some(stanza) = reader.stanza().await? else {
                continue;
            };
            messages += u64::from(stanza.child("result", ns::MAM).is_some());
            if stanza.is("iq", ns::CLIENT) && stanza.attr("id") == Some(&id) {
                break stanza;
            }
        };
        let fin = fin.child("fin", ns::MAM).ok_or("a page has no end")?;
        let set = fin.child("set", ns::RSM);
        let at = set.and_then(|set| set.child("last", ns::RSM));
        last = at.map(Element::text).unwrap_or_default();
        if fin.attr("complete") == Some("true") || last.is_empty() {
            break;
        }
    }
    Ok((reader, messages))
}
