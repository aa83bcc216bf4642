//! What a message, a session and a resume cost: real nodes, real clients, TLS and stream management.
//!
//! ```sh
//! cargo run --release -p holdfast-tests --bin bench -- [NODES [PAIRS [WINDOW [SECONDS [IDLE]]]]]
//! ```
//!
//! PAIRS of clients each keep WINDOW messages of 300 bytes on their way to each other, in both directions,
//! for SECONDS; then IDLE more sessions are opened. Processor time is that of all nodes together (user and
//! system), without the clients'. Memory is the resident set of the first node. One line of JSON.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use node::demo::client::{Connection, Credentials, trusting};
use node::demo::make_accounts;
use node::demo::nodes::{DOMAIN, Nodes};
use node::demo::session::{Session, Taken};
use proto::{Element, ns};
use rustls::ClientConfig;
use tests::process::{binary, resident};
use tokio::task::JoinSet;
use tokio::time::timeout;

type Failure = Box<dyn Error + Send + Sync>;

/// Clock ticks a second, as the kernel counts processor time on every Linux there is.
const TICKS: f64 = 100.0;
/// What the machine can do is measured, and all clients come from one address at once.
const LIMITS: &str =
    "[limits]\nconnections_per_address = 0\nstanzas_per_second = 0\nbytes_per_second = 0\n";
/// Before the measurement begins.
const WARM_UP: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Counters {
    delivered: AtomicU64,
    refused: AtomicU64,
    stop: AtomicBool,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let mut number = |default| numbers.next().unwrap_or(Ok(default));
    let (count, pairs, window) = (number(3)?, number(20)?, number(20)?);
    let (seconds, idle) = (number(10)?, number(500)?);

    let dir = tempfile::tempdir()?;
    let mut nodes = Nodes::prepare(dir.path(), &binary(), count, LIMITS)?;
    let accounts = make_accounts(&nodes, pairs * 2).await?;
    for index in 0..count {
        nodes.start(index)?;
    }
    for index in 0..count {
        nodes.ready(index, Duration::from_secs(60)).await?;
    }
    let tls = trusting([nodes.certificate()])?;
    let counters = Arc::new(Counters::default());
    let mut clients = JoinSet::new();
    for (me, account) in accounts.iter().enumerate() {
        let address = nodes.backends()[me % count].clients;
        let (connection, session) = open(address, account, &tls).await?;
        let partner = format!("{}@{DOMAIN}", accounts[me ^ 1].username);
        clients.spawn(talk(
            connection,
            session,
            partner,
            window as u64,
            counters.clone(),
        ));
    }
    tokio::time::sleep(WARM_UP).await;
    let (cpu, messages, start) = (
        cpu(&nodes)?,
        counters.delivered.load(Relaxed),
        Instant::now(),
    );
    tokio::time::sleep(Duration::from_secs(seconds as u64)).await;
    let took = start.elapsed().as_secs_f64();
    let messages = counters.delivered.load(Relaxed) - messages;
    let cpu = self::cpu(&nodes)? - cpu;
    counters.stop.store(true, Relaxed);
    clients.shutdown().await;

    let first = nodes.pid(0).unwrap_or_default();
    let before = resident(first);
    let mut open_sessions = Vec::new();
    for number in 0..idle {
        let address = nodes.backends()[0].clients;
        open_sessions.push(open(address, &accounts[number % accounts.len()], &tls).await?);
    }
    let per_session = match idle {
        0 => 0,
        _ => resident(first).saturating_sub(before) / idle as u64,
    };
    println!(
        "{{\"nodes\":{count},\"pairs\":{pairs},\"window\":{window},\"messages\":{messages},\"refused\":{},\
         \"messages_per_second\":{:.0},\"cpu_us_per_message\":{:.1},\"bytes_per_idle_session\":{per_session}}}",
        counters.refused.load(Relaxed),
        messages as f64 / took,
        cpu * 1e6 / messages.max(1) as f64,
    );
    Ok(())
}

async fn open(
    address: std::net::SocketAddr,
    account: &Credentials,
    tls: &Arc<ClientConfig>,
) -> Result<(Connection, Session), Failure> {
    let mut connection = Connection::open_tls(address, DOMAIN, tls).await?;
    connection.login(account).await?;
    let session = Session::start(&mut connection, None).await?;
    Ok((connection, session))
}

/// Keeps `window` messages on their way to the partner: each that arrives lets one more go.
async fn talk(
    mut connection: Connection,
    mut session: Session,
    partner: String,
    window: u64,
    counters: Arc<Counters>,
) -> Result<(), Failure> {
    let body = "x".repeat(180);
    let message = Element::new("message", ns::CLIENT)
        .with_attr("type", "chat")
        .with_attr("to", &partner)
        .with_attr("id", "bench")
        .with_child(Element::new("body", ns::CLIENT).with_text(&body));
    for _ in 0..window {
        session.send(&mut connection, &message).await?;
    }
    let mut asked = 0;
    while !counters.stop.load(Relaxed) {
        let Ok(element) = timeout(Duration::from_secs(5), connection.next()).await else {
            continue;
        };
        let taken = session.take(&mut connection, element?).await?;
        if let Taken::Stanza(stanza) = taken
            && stanza.is("message", ns::CLIENT)
        {
            let counter = match stanza.attr("type") {
                Some("error") => &counters.refused,
                _ => &counters.delivered,
            };
            counter.fetch_add(1, Relaxed);
            session.send(&mut connection, &message).await?;
            asked += 1;
            if asked % 20 == 0 {
                session.request(&mut connection).await?;
            }
        }
    }
    Ok(())
}

/// Processor time of all nodes, in seconds.
fn cpu(nodes: &Nodes) -> Result<f64, Failure> {
    let mut ticks = 0.0;
    for pid in (0..nodes.len()).filter_map(|index| nodes.pid(index)) {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let after = stat.rsplit(')').next().unwrap_or_default();
        let times = after.split_whitespace().skip(11).take(2);
        ticks += times
            .filter_map(|text| text.parse::<f64>().ok())
            .sum::<f64>();
    }
    Ok(ticks / TICKS)
}
