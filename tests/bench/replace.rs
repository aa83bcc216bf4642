//! How long it takes until each shard has three voters again after a member is gone for good.
//!
//! ```sh
//! cargo run --release -p holdfast-tests --bin bench-replace -- [SESSIONS [PAIRS]]
//! ```
//!
//! Four nodes hold SESSIONS that hibernate, each with a message, while PAIRS chat over the nodes that stay. One node
//! that votes is killed with SIGKILL and never comes back; the others wait for it for `replace_after`. One line of JSON:
//! seconds from the kill until no shard counts on it and each has three voters, and the chatters' messages.

use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use node::admin::request::Method;
use node::demo::client::{Connection, Credentials, trusting};
use node::demo::make_accounts;
use node::demo::nodes::{DOMAIN, Nodes};
use node::demo::session::{Session, Taken};
use proto::{Element, ns};
use rustls::ClientConfig;
use serde_json::Value;
use tests::process::binary;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

type Failure = Box<dyn Error + Send + Sync>;

/// All clients come from one address at once, and the sessions outlive the measurement.
const CONFIG: &str = "[limits]\nconnections_per_address = 0\nstanzas_per_second = 0\n\
                      [sm]\nhibernation_time = \"1h\"\n";
/// How long a node may be away.
const REPLACE_AFTER: Duration = Duration::from_secs(5);
const NODES: usize = 4;
/// The one that is lost.
const LOST: usize = 2;
const SESSIONS_PER_ACCOUNT: usize = 10;
/// How many clients log in at a time.
const AT_A_TIME: usize = 8;
/// The measurement has failed after so long.
const PATIENCE: Duration = Duration::from_secs(600);

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let mut number = |default| numbers.next().unwrap_or(Ok(default));
    let (sessions, pairs) = (number(10_000)?, number(10)?);

    let dir = tempfile::tempdir()?;
    let mut nodes = Nodes::prepare(dir.path(), &binary(), NODES, CONFIG)?;
    for index in 0..NODES {
        let file = nodes.config(index);
        let text = std::fs::read_to_string(&file)?;
        let key = format!(
            "[cluster]\nreplace_after = \"{}s\"\n",
            REPLACE_AFTER.as_secs()
        );
        std::fs::write(&file, text.replace("[cluster]\n", &key))?;
    }
    let sleepers = sessions.div_ceil(SESSIONS_PER_ACCOUNT);
    let accounts = make_accounts(&nodes, sleepers + pairs * 2).await?;
    nodes.start_all()?;
    for index in 0..NODES {
        nodes.ready(index, Duration::from_secs(60)).await?;
    }
    let tls = trusting([nodes.certificate()])?;
    let (sleeping, chatting) = accounts.split_at(sleepers);
    fall_asleep(&nodes, &tls, sleeping, sessions).await?;
    let delivered = Arc::new(AtomicU64::new(0));
    let mut chat = JoinSet::new();
    for (me, account) in chatting.iter().enumerate() {
        let stay = [0, 1, 3][me % 3];
        let address = nodes.backends()[stay].clients;
        let mut connection = Connection::open_tls(address, DOMAIN, &tls).await?;
        connection.login(account).await?;
        let session = Session::start(&mut connection, None).await?;
        let partner = format!("{}@{DOMAIN}", chatting[me ^ 1].username);
        chat.spawn(talk(connection, session, partner, delivered.clone()));
    }
    sleep(Duration::from_secs(2)).await;

    let (before, killed) = (delivered.load(Relaxed), Instant::now());
    nodes.kill(LOST).await?;
    timeout(PATIENCE, replaced(&nodes, &mut chat)).await??;
    let took = killed.elapsed().as_secs_f64();
    println!(
        "{{\"sessions\":{sessions},\"pairs\":{pairs},\"replace_after\":{},\"seconds\":{took:.1},\"messages\":{}}}",
        REPLACE_AFTER.as_secs(),
        delivered.load(Relaxed) - before,
    );
    Ok(())
}

/// Opens sessions on all nodes and cuts their connections, behind which each gets a message.
async fn fall_asleep(
    nodes: &Nodes,
    tls: &Arc<ClientConfig>,
    accounts: &[Credentials],
    sessions: usize,
) -> Result<(), Failure> {
    let mut opening = JoinSet::new();
    for number in 0..sessions {
        let account = accounts[number / SESSIONS_PER_ACCOUNT].clone();
        let address = nodes.backends()[number % NODES].clients;
        let tls = tls.clone();
        opening.spawn(async move {
            let mut connection = Connection::open_tls(address, DOMAIN, &tls).await?;
            connection.login(&account).await?;
            let mut session = Session::start(&mut connection, None).await?;
            let to = session.jid().to_string();
            session.send(&mut connection, &message(&to)).await?;
            connection.next().await?;
            Ok::<_, Failure>(())
        });
        while opening.len() >= AT_A_TIME {
            opening.join_next().await.transpose()?.transpose()?;
        }
    }
    while let Some(opened) = opening.join_next().await {
        opened??;
    }
    Ok(())
}

fn message(to: &str) -> Element {
    Element::new("message", ns::CLIENT)
        .with_attr("to", to)
        .with_attr("type", "chat")
        .with_child(Element::new("body", ns::CLIENT).with_text(&"x".repeat(300)))
}

/// Keeps a message on its way to the partner, and counts those that come.
async fn talk(
    mut connection: Connection,
    mut session: Session,
    partner: String,
    delivered: Arc<AtomicU64>,
) -> Result<(), Failure> {
    session.send(&mut connection, &message(&partner)).await?;
    loop {
        let element = connection.next().await?;
        let taken = session.take(&mut connection, element).await?;
        let Taken::Stanza(stanza) = taken else {
            continue;
        };
        if !stanza.is("message", ns::CLIENT) {
            continue;
        }
        if stanza.attr("type") == Some("error") {
            return Err("a message came back".into());
        }
        if delivered.fetch_add(1, Relaxed).is_multiple_of(20) {
            session.request(&mut connection).await?;
        }
        sleep(Duration::from_millis(20)).await;
        session.send(&mut connection, &message(&partner)).await?;
    }
}

/// Waits until each shard has three voters and none is the one that was lost. A chatter that stops is a failure.
async fn replaced(nodes: &Nodes, chat: &mut JoinSet<Result<(), Failure>>) -> Result<(), Failure> {
    let lost = (LOST + 1).to_string();
    loop {
        if let Some(stopped) = chat.try_join_next() {
            stopped??;
        }
        let answer = nodes.ask(0, Method::Get, "/api/v1/cluster").await?;
        let status: Value = serde_json::from_slice(&answer.body)?;
        let shards = status["shards"].as_array().ok_or("there is no status")?;
        let voters = |shard: &Value| -> BTreeSet<String> {
            let voters = shard["voters"].as_array().into_iter().flatten();
            voters
                .map(|voter| voter.as_str().unwrap_or_default().to_owned())
                .collect()
        };
        let done = shards
            .iter()
            .map(voters)
            .all(|voters| voters.len() == 3 && !voters.contains(&lost));
        if done && !shards.is_empty() {
            return Ok(());
        }
        sleep(Duration::from_millis(100)).await;
    }
}
