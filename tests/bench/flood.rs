//! What a flood leaves behind: memory of the nodes during and after it, and how long others wait meanwhile.
//!
//! ```sh
//! cargo run --release -p holdfast-tests --bin bench-flood -- [NODES [MEGABYTES [BYTES [SENDERS [REST]]]]]
//! ```
//!
//! SENDERS say MEGABYTES in messages of BYTES as fast as they are read, each to somebody of its own who is
//! there; one more client asks for the last page of its archive again and again. Memory is the resident set
//! of the largest node, also REST seconds after the flood. One line of JSON.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use node::demo::client::{Connection, Credentials, trusting};
use node::demo::make_accounts;
use node::demo::nodes::{DOMAIN, Nodes};
use node::demo::session::{Session, Taken};
use proto::{Element, ns};
use tests::process::{binary, resident};
use tokio::task::JoinSet;
use tokio::time::sleep;

type Failure = Box<dyn Error + Send + Sync>;

/// All clients come from one address at once, and say what they can.
const LIMITS: &str =
    "[limits]\nconnections_per_address = 0\nstanzas_per_second = 0\nbytes_per_second = 0\n";
/// Messages that a sender leaves unacknowledged.
const WINDOW: usize = 64;

#[derive(Default)]
struct Counters {
    delivered: AtomicU64,
    refused: AtomicU64,
    slowest_query: AtomicU64,
    over: AtomicBool,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let mut number = |default| numbers.next().unwrap_or(Ok(default));
    let (count, megabytes, bytes) = (number(1)?, number(480)?, number(10_000)?);
    let (senders, rest) = (number(8)?.max(1), number(20)?);
    let each = megabytes * 1_000_000 / bytes.max(1) / senders;

    let dir = tempfile::tempdir()?;
    let mut nodes = Nodes::prepare(dir.path(), &binary(), count, LIMITS)?;
    let accounts = make_accounts(&nodes, senders * 2 + 1).await?;
    for index in 0..count {
        nodes.start(index)?;
    }
    for index in 0..count {
        nodes.ready(index, Duration::from_secs(60)).await?;
    }
    let tls = trusting([nodes.certificate()])?;
    let mut people = Vec::new();
    for (me, account) in accounts.iter().enumerate() {
        let address = nodes.backends()[me % count].clients;
        let mut connection = Connection::open_tls(address, DOMAIN, &tls).await?;
        connection.login(account).await?;
        let session = Session::start(&mut connection, None).await?;
        people.push((connection, session));
    }
    let before = largest(&nodes);
    let counters = Arc::new(Counters::default());
    let (start, mut peak) = (Instant::now(), before);
    let (mut sending, mut others) = (JoinSet::new(), JoinSet::new());
    let all = people.into_iter().zip(&accounts).enumerate();
    for (me, ((connection, session), _)) in all {
        let counters = counters.clone();
        if me == 2 * senders {
            others.spawn(ask(connection, session, counters));
        } else if me % 2 == 0 {
            let message = message(&accounts[me + 1], bytes);
            sending.spawn(say(connection, session, message, each, counters));
        } else {
            others.spawn(listen(connection, session, counters));
        }
    }
    let total = (each * senders) as u64;
    while counters.delivered.load(Relaxed) + counters.refused.load(Relaxed) < total {
        peak = peak.max(largest(&nodes));
        while let Some(ended) = others.try_join_next() {
            ended??;
        }
        sleep(Duration::from_millis(100)).await;
    }
    let took = start.elapsed().as_secs_f64();
    let end = largest(&nodes);
    counters.over.store(true, Relaxed);
    sleep(Duration::from_secs(rest as u64)).await;
    println!(
        "{{\"nodes\":{count},\"messages\":{total},\"bytes\":{bytes},\"seconds\":{took:.1},\"refused\":{},\
         \"slowest_query_ms\":{},\"mb_before\":{before},\"mb_peak\":{peak},\"mb_at_the_end\":{end},\"mb_after_{rest}_s\":{}}}",
        counters.refused.load(Relaxed),
        counters.slowest_query.load(Relaxed),
        largest(&nodes),
    );
    Ok(())
}

/// The resident set of the largest node, in megabytes.
fn largest(nodes: &Nodes) -> u64 {
    let pids = (0..nodes.len()).filter_map(|index| nodes.pid(index));
    pids.map(resident).max().unwrap_or_default() / 1_000_000
}

fn message(to: &Credentials, bytes: usize) -> Element {
    Element::new("message", ns::CLIENT)
        .with_attr("type", "chat")
        .with_attr("to", format!("{}@{DOMAIN}", to.username))
        .with_attr("id", "flood")
        .with_child(Element::new("body", ns::CLIENT).with_text(&"x".repeat(bytes)))
}

/// Says something so often, and stays.
async fn say(
    mut connection: Connection,
    mut session: Session,
    message: Element,
    count: usize,
    counters: Arc<Counters>,
) -> Result<(), Failure> {
    for n in 0..count {
        session.send(&mut connection, &message).await?;
        if n % (WINDOW / 4) == 0 || n + 1 == count {
            session.request(&mut connection).await?;
        }
        while session.unacknowledged() >= WINDOW {
            take(&mut connection, &mut session, &counters).await?;
        }
    }
    listen(connection, session, counters).await
}

async fn listen(
    mut connection: Connection,
    mut session: Session,
    counters: Arc<Counters>,
) -> Result<(), Failure> {
    loop {
        take(&mut connection, &mut session, &counters).await?;
    }
}

async fn take(
    connection: &mut Connection,
    session: &mut Session,
    counters: &Counters,
) -> Result<Option<Element>, Failure> {
    let element = connection.next().await?;
    let Taken::Stanza(stanza) = session.take(connection, element).await? else {
        return Ok(None);
    };
    if stanza.is("message", ns::CLIENT) {
        let counter = match stanza.attr("type") {
            Some("error") => &counters.refused,
            _ => &counters.delivered,
        };
        counter.fetch_add(1, Relaxed);
    }
    Ok(Some(stanza))
}

/// Asks for the last page of its own archive until the flood is over.
async fn ask(
    mut connection: Connection,
    mut session: Session,
    counters: Arc<Counters>,
) -> Result<(), Failure> {
    let last = Element::new("set", ns::RSM)
        .with_child(Element::new("max", ns::RSM).with_text("10"))
        .with_child(Element::new("before", ns::RSM));
    let query = Element::new("iq", ns::CLIENT)
        .with_attr("type", "set")
        .with_attr("id", "query")
        .with_child(Element::new("query", ns::MAM).with_child(last));
    while !counters.over.load(Relaxed) {
        let start = Instant::now();
        session.send(&mut connection, &query).await?;
        session.request(&mut connection).await?;
        loop {
            let stanza = take(&mut connection, &mut session, &counters).await?;
            if stanza.is_some_and(|stanza| stanza.attr("id") == Some("query")) {
                break;
            }
        }
        let took = start.elapsed().as_millis() as u64;
        counters.slowest_query.fetch_max(took, Relaxed);
        sleep(Duration::from_millis(100)).await;
    }
    listen(connection, session, counters).await
}
