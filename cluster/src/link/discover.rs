//! Finds nodes behind a name that has an address for each of them, such as that of a headless Service.
//!
//! An address says nothing of who is there. So each one is dialled, and the greeting tells the seat and where its node
//! is reached from then on. This goes on for as long as the node runs, since addresses come and go.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::lookup_host;
use tokio::time::{self, Instant};

use super::lost::Lost;
use super::peer::HANDSHAKE;
use super::{Process, Shared};
use crate::clock;

/// The pause between looks, as long as there are addresses at which nobody was met.
const OFTEN: Duration = Duration::from_secs(1);
/// The pause when all are connected.
const SELDOM: Duration = Duration::from_secs(10);
/// The most addresses that are dialled.
const ADDRESSES: usize = 64;

/// What was found behind the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whether a node was met at each address that the name has.
    pub all_met: bool,
    /// Since when it has exactly these addresses.
    pub since: Instant,
}

/// Looks for nodes at `name`, which is a host and a port, for as long as the node runs.
pub(super) async fn run(shared: Arc<Shared>, name: String) {
    let mut said = String::new();
    let mut known = HashMap::new();
    let mut since = clock::timer();
    loop {
        let found = match lookup_host(&name).await {
            Ok(addresses) => {
                let addresses: HashSet<SocketAddr> = addresses.take(ADDRESSES).collect();
                if known.keys().copied().collect::<HashSet<_>>() != addresses {
                    since = clock::timer();
                }
                meet_all(&shared, &name, &addresses, &mut known).await;
                Ok(Found {
                    all_met: !known.is_empty() && known.values().all(Option::is_some),
                    since,
                })
            }
            Err(error) => Err(error),
        };
        if let Some(problem) = found.as_ref().err().map(io::Error::to_string)
            && problem != said
        {
            tracing::warn!(name, "cannot find nodes: {problem}");
            said = problem;
        }
        let found = found.ok();
        shared.found.send_replace(found);
        let whole = found.is_some_and(|found| found.all_met);
        time::sleep(if whole { SELDOM } else { OFTEN }).await;
    }
}

/// Dials the addresses at which nobody was met yet, or whose node is not connected any more.
async fn meet_all(
    shared: &Arc<Shared>,
    name: &str,
    addresses: &HashSet<SocketAddr>,
    known: &mut HashMap<SocketAddr, Option<Process>>,
) {
    let peers = shared.peers();
    let up: HashSet<Process> = peers.iter().filter_map(|peer| peer.process()).collect();
    let me = shared.identity.node();
    let is_met =
        |process: &Option<Process>| process.is_some_and(|p| p.node == me || up.contains(&p));
    known.retain(|address, process| addresses.contains(address) && is_met(process));
    let strange = addresses
        .iter()
        .filter(|address| !known.contains_key(address));
    let met = join_all(strange.map(|address| async move {
        let met = time::timeout(HANDSHAKE, meet(shared, name, *address));
        (*address, met.await.unwrap_or(Err(Lost::Silent)))
    }));
    for (address, met) in met.await {
        if let Err(lost) = &met {
            tracing::debug!(%address, "nobody was met: {lost}");
        }
        known.insert(address, met.ok());
    }
}

/// Finds out who is at an address.
async fn meet(shared: &Arc<Shared>, name: &str, address: SocketAddr) -> Result<Process, Lost> {
    let established = shared.greet(address, name).await?;
    let process = established.hello.process();
    if process.node == shared.identity.node() {
        return Ok(process);
    }
    let established = shared.check(established, process.seat).await?;
    shared.introduce(process.seat, &established.hello.body.address);
    Ok(process)
}
