//! What it costs to have Redis count the sessions of a node that has died: all of them fall asleep at once.
//!
//! ```sh
//! cargo run --release -p holdfast-tests --bin bench-limit -- [SESSIONS [ACCOUNTS]]
//! ```
//!
//! A Redis of its own, one leader's connection, the batches that a leader makes. One line of JSON.

use std::error::Error;
use std::time::Instant;

use cluster::mirror::script::{Decision, What};
use cluster::mirror::store::Store;
use cluster::mirror::task::BATCH;
use cluster::session::{Override, Settings};
use proto::BareJid;
use tests::redis::Redis;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<usize>());
    let mut number = |default| numbers.next().unwrap_or(Ok(default));
    let (sessions, accounts) = (number(10_000)?, number(5_000)?.max(1));
    let decision = |n: usize| {
        Ok(Decision {
            account: BareJid::new(&format!("user{}@example.org", n % accounts))?,
            what: What::Hibernate {
                resource: format!("resource{n}").into(),
                since: 1_700_000_000_000 + n as u64,
            },
        })
    };
    let decisions: Result<Vec<_>, Failure> = (0..sessions).map(decision).collect();
    let decisions = decisions?;
    let redis = Redis::start()?;
    let mut store = Store::connect(&redis.url().parse()?).await?;
    let settings = Settings::default();
    let (start, mut slowest) = (Instant::now(), 0.0_f64);
    for batch in decisions.chunks(BATCH) {
        let sent = Instant::now();
        let scripts = store.scripts();
        let call = |decision| scripts.decide(decision, &settings, Override::default());
        let calls = batch.iter().map(call).collect();
        for answer in store.ask(calls).await? {
            answer?;
        }
        slowest = slowest.max(sent.elapsed().as_secs_f64());
    }
    println!(
        "{{\"sessions\":{sessions},\"accounts\":{accounts},\"seconds\":{:.3},\"slowest_round_trip\":{slowest:.4}}}",
        start.elapsed().as_secs_f64(),
    );
    Ok(())
}
