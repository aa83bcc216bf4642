//! How long people who chat wait while somebody else fills queues, lets them expire, or reads what is large.
//!
//! ```sh
//! cargo run --release -p holdfast-tests --bin bench-neighbours -- [NODES [PAIRS [SECONDS [ROUNDS]]]]
//! ```
//!
//! PAIRS chat, each at another node than its partner, 3 messages a second. How long a message takes from one
//! client to the other is measured for SECONDS of peace, and then during each of: large cards that are read
//! 64 at a time, rosters as large as they may be that are read again and again, nine queues that are filled with
//! messages of 60 KB, and their end, when all of it is bounced. A line of JSON for each, and for the calm between.
//! A bounce lasts about a second; the queues are filled and bounced ROUNDS times, and the last line is about all
//! bounces together, so that its p99 stands on more than two messages.

use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use node::demo::client::{Connection, Credentials, trusting};
use node::demo::make_accounts;
use node::demo::nodes::{DOMAIN, Nodes};
use node::demo::session::{Session, Taken};
use proto::{Element, ns};
use rustls::ClientConfig;
use tests::process::binary;
use tokio::task::JoinSet;
use tokio::time::sleep;

type Failure = Box<dyn Error + Send + Sync>;

/// All clients come from one address at once.
const CONFIG: &str = "[limits]\nconnections_per_address = 0\n\
                      [sm]\non_timeout = \"bounce\"\nhibernation_time = \"30s\"\n";
/// A chatter says so many things in a second.
const RATE: f64 = 3.0;
/// Sessions whose queues are filled.
const VICTIMS: usize = 9;
/// Messages for each of them, and the bytes of a body.
const MESSAGES: usize = 110;
const BODY: usize = 60_000;
/// How long a queue is kept.
const KEPT: Duration = Duration::from_secs(30);
/// How long what a phase leaves behind may take.
const PAUSE: Duration = Duration::from_secs(5);
/// A card, and how many gets of it are sent in one go.
const CARD: usize = (128 << 10) - 100;
const GETS: usize = 64;

/// What the chatters have seen since somebody looked last, in microseconds.
#[derive(Default)]
struct Seen {
    waits: Mutex<Vec<u64>>,
    sent: AtomicU64,
    taken: AtomicU64,
    over: AtomicBool,
}

impl Seen {
    fn waits(&self) -> MutexGuard<'_, Vec<u64>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<u64> {
        std::mem::take(&mut *self.waits())
    }

    /// Prints what was seen, forgets it, and returns it.
    fn tell(&self, phase: &str, took: Duration) -> Vec<u64> {
        let waits = self.take();
        self.report(phase, took, waits.clone());
        waits
    }

    fn report(&self, phase: &str, took: Duration, mut waits: Vec<u64>) {
        waits.sort_unstable();
        let at = |part: f64| {
            let place = (waits.len() as f64 * part) as usize;
            waits
                .get(place.min(waits.len().saturating_sub(1)))
                .map_or(0.0, |us| *us as f64 / 1e3)
        };
        println!(
            "{{\"phase\":\"{phase}\",\"seconds\":{:.1},\"messages\":{},\"p50_ms\":{:.1},\"p99_ms\":{:.1},\"max_ms\":{:.1},\"on_the_way\":{}}}",
            took.as_secs_f64(),
            waits.len(),
            at(0.5),
            at(0.99),
            at(1.0),
            self.sent.load(Relaxed) - self.taken.load(Relaxed),
        );
    }
}

struct Place {
    nodes: Nodes,
    accounts: Vec<Credentials>,
    tls: Arc<ClientConfig>,
}

impl Place {
    async fn client(&self, node: usize, account: usize) -> Result<Client, Failure> {
        let address = self.nodes.backends()[node % self.nodes.len()].clients;
        let mut connection = Connection::open_tls(address, DOMAIN, &self.tls).await?;
        connection.login(&self.accounts[account]).await?;
        let session = Session::start(&mut connection, None).await?;
        Ok(Client {
            connection,
            session,
        })
    }
}

struct Client {
    connection: Connection,
    session: Session,
}

impl Client {
    async fn send(&mut self, stanza: &Element) -> Result<(), Failure> {
        Ok(self.session.send(&mut self.connection, stanza).await?)
    }

    /// The next stanza, or nothing if it was something else.
    async fn take(&mut self) -> Result<Option<Element>, Failure> {
        let element = self.connection.next().await?;
        match self.session.take(&mut self.connection, element).await? {
            Taken::Stanza(stanza) => Ok(Some(stanza)),
            _ => Ok(None),
        }
    }

    async fn settle(&mut self) -> Result<(), Failure> {
        self.session.request(&mut self.connection).await?;
        while self.session.unacknowledged() > 0 {
            self.take().await?;
        }
        Ok(())
    }

    /// Sends so many of the same request in one go, and waits for all answers.
    async fn pipeline(&mut self, request: &Element, count: usize) -> Result<(), Failure> {
        for _ in 0..count {
            self.send(request).await?;
        }
        self.session.request(&mut self.connection).await?;
        let mut answers = 0;
        while answers < count {
            let stanza = self.take().await?;
            answers += usize::from(stanza.is_some_and(|s| s.is("iq", ns::CLIENT)));
        }
        self.settle().await
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let mut number = |default| numbers.next().unwrap_or(Ok(default));
    let (count, pairs, seconds, rounds) = (number(3)?, number(25)?, number(15)?, number(5)?);
    let dir = tempfile::tempdir()?;
    let mut nodes = Nodes::prepare(dir.path(), &binary(), count, CONFIG)?;
    let accounts = make_accounts(&nodes, 2 * pairs + 2 * VICTIMS + 2 * count).await?;
    for index in 0..count {
        nodes.start(index)?;
    }
    for index in 0..count {
        nodes.ready(index, Duration::from_secs(60)).await?;
    }
    let tls = trusting([nodes.certificate()])?;
    let place = Arc::new(Place {
        nodes,
        accounts,
        tls,
    });
    let seen = Arc::new(Seen::default());
    let mut chats = JoinSet::new();
    for n in 0..2 * pairs {
        let client = place.client(n, n).await?;
        let to = place.accounts[n ^ 1].username.clone();
        chats.spawn(chat(client, to, seen.clone(), n));
    }
    sleep(Duration::from_secs(2)).await;
    seen.take();
    calm(&seen, "peace", Duration::from_secs(seconds as u64)).await;
    readers(&place, &seen, 2 * pairs + 2 * VICTIMS).await?;
    bounces(&place, &seen, 2 * pairs, rounds).await?;
    seen.over.store(true, Relaxed);
    while let Some(ended) = chats.join_next().await {
        ended??;
    }
    seen.tell("afterwards", Duration::ZERO);
    Ok(())
}

/// Reads what is large, at all nodes.
async fn readers(place: &Arc<Place>, seen: &Seen, first: usize) -> Result<(), Failure> {
    let count = place.nodes.len();
    let reading = each(place, count, move |place, n| cards(place, n, first + n));
    phase(seen, "cards", reading).await?;
    calm(seen, "after cards", PAUSE).await;
    let first = first + count;
    let reading = each(place, count, move |place, n| rosters(place, n, first + n));
    phase(seen, "rosters", reading).await?;
    calm(seen, "after rosters", PAUSE).await;
    Ok(())
}

/// Fills queues and has them bounced, so many times, and tells of all bounces together.
async fn bounces(
    place: &Arc<Place>,
    seen: &Seen,
    first: usize,
    rounds: usize,
) -> Result<(), Failure> {
    let (mut all, mut took) = (Vec::new(), Duration::ZERO);
    for _ in 0..rounds {
        let (waits, lasted) = full_queues(place, seen, first).await?;
        all.extend(waits);
        took += lasted;
        calm(seen, "after a bounce", PAUSE).await;
    }
    seen.report("all bounces", took, all);
    Ok(())
}

/// Fills queues, waits until they are bounced, and returns how long the chatters waited during that.
async fn full_queues(
    place: &Arc<Place>,
    seen: &Seen,
    first: usize,
) -> Result<(Vec<u64>, Duration), Failure> {
    let start = Instant::now();
    let filling = each(place, VICTIMS, move |place, n| {
        fill(place, n, first + 2 * n)
    });
    let senders = phase(seen, "queues fill", filling).await?;
    let rest = KEPT.saturating_sub(start.elapsed() + Duration::from_secs(1));
    calm(seen, "queues are full", rest).await;
    let bounced = async {
        let mut waiting = JoinSet::new();
        for sender in senders {
            waiting.spawn(bounced(sender));
        }
        while let Some(done) = waiting.join_next().await {
            done??;
        }
        Ok::<_, Failure>(())
    };
    let start = Instant::now();
    bounced.await?;
    let lasted = start.elapsed();
    Ok((seen.tell("queues are bounced", lasted), lasted))
}

/// Measures while it lasts.
async fn phase<T>(
    seen: &Seen,
    name: &str,
    what: impl Future<Output = Result<Vec<T>, Failure>>,
) -> Result<Vec<T>, Failure> {
    let start = Instant::now();
    let made = what.await?;
    seen.tell(name, start.elapsed());
    Ok(made)
}

/// Measures while nothing else happens.
async fn calm(seen: &Seen, name: &str, pause: Duration) {
    sleep(pause).await;
    seen.tell(name, pause);
}

/// The same by so many at once.
async fn each<T: Send + 'static, F>(
    place: &Arc<Place>,
    count: usize,
    make: impl Fn(Arc<Place>, usize) -> F,
) -> Result<Vec<T>, Failure>
where
    F: Future<Output = Result<T, Failure>> + Send + 'static,
{
    let mut all = JoinSet::new();
    for n in 0..count {
        all.spawn(make(place.clone(), n));
    }
    let mut made = Vec::new();
    while let Some(done) = all.join_next().await {
        made.push(done??);
    }
    Ok(made)
}

/// Says the time at a fixed rate, and takes how long ago the other's time was.
async fn chat(mut client: Client, to: String, seen: Arc<Seen>, n: usize) -> Result<(), Failure> {
    let epoch = *EPOCH;
    let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / RATE));
    sleep(Duration::from_secs_f64(n as f64 * 0.017 % (1.0 / RATE))).await;
    let mut said = 0;
    while !seen.over.load(Relaxed) {
        tokio::select! {
            _ = tick.tick() => {
                let message = Element::new("message", ns::CLIENT)
                    .with_attr("type", "chat")
                    .with_attr("to", format!("{to}@{DOMAIN}"))
                    .with_child(
                        Element::new("body", ns::CLIENT)
                            .with_text(&epoch.elapsed().as_micros().to_string()),
                    );
                client.send(&message).await?;
                seen.sent.fetch_add(1, Relaxed);
                said += 1;
                if said % 3 == 0 {
                    client.session.request(&mut client.connection).await?;
                }
            }
            stanza = client.connection.next() => {
                let Taken::Stanza(stanza) = client.session.take(&mut client.connection, stanza?).await? else {
                    continue;
                };
                if let Some(body) = stanza.child("body", ns::CLIENT) {
                    let then: u64 = body.text().parse()?;
                    let wait = epoch.elapsed().as_micros() as u64 - then;
                    seen.waits().push(wait);
                    seen.taken.fetch_add(1, Relaxed);
                }
            }
        }
    }
    Ok(())
}

/// Times that are said are since then.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

async fn cards(place: Arc<Place>, node: usize, account: usize) -> Result<(), Failure> {
    let mut client = place.client(node, account).await?;
    let note = Element::new("NOTE", ns::VCARD).with_text(&"x".repeat(CARD));
    let card = Element::new("vCard", ns::VCARD).with_child(note);
    client.pipeline(&iq("set").with_child(card), 1).await?;
    let get = iq("get").with_child(Element::new("vCard", ns::VCARD));
    for _ in 0..5 {
        client.pipeline(&get, GETS).await?;
    }
    Ok(())
}

async fn rosters(place: Arc<Place>, node: usize, account: usize) -> Result<(), Failure> {
    let mut client = place.client(node, account).await?;
    for n in 0..14 {
        let mut item =
            Element::new("item", ns::ROSTER).with_attr("jid", format!("friend{n}@{DOMAIN}"));
        for group in 0..16 {
            item = item.with_child(
                Element::new("group", ns::ROSTER).with_text(&format!("{group:0>1000}")),
            );
        }
        let query = Element::new("query", ns::ROSTER).with_child(item);
        client.pipeline(&iq("set").with_child(query), 1).await?;
    }
    let get = iq("get").with_child(Element::new("query", ns::ROSTER));
    for _ in 0..10 {
        client.pipeline(&get, 8).await?;
    }
    Ok(())
}

fn iq(kind: &str) -> Element {
    Element::new("iq", ns::CLIENT)
        .with_attr("type", kind)
        .with_attr("id", "iq")
}

/// Fills the queue of a session that has gone; returns the one who did.
async fn fill(place: Arc<Place>, n: usize, account: usize) -> Result<Client, Failure> {
    let mut victim = place.client(n, account).await?;
    victim.settle().await?;
    let to = victim.session.jid().to_string();
    drop(victim);
    let mut sender = place.client(n, account + 1).await?;
    let message = Element::new("message", ns::CLIENT)
        .with_attr("type", "chat")
        .with_attr("to", to)
        .with_child(Element::new("body", ns::CLIENT).with_text(&"x".repeat(BODY)));
    for n in 0..MESSAGES {
        sender.send(&message).await?;
        if n % 5 == 4 {
            sender.settle().await?;
        }
    }
    Ok(sender)
}

/// Waits until all of it has come back.
async fn bounced(mut sender: Client) -> Result<(), Failure> {
    let mut back = 0;
    while back < MESSAGES {
        let stanza = sender.take().await?;
        back += usize::from(stanza.is_some_and(|s| s.is("message", ns::CLIENT)));
    }
    Ok(())
}
