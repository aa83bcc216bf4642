//! Accepts connections from the nodes in lower seats.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{self, Instant};

use super::Shared;
use super::connection::Established;
use super::hello::HelloError;
use super::lost::Lost;
use super::peer::HANDSHAKE;
use crate::clock;

/// How many connections may be unauthenticated at a time. More are closed at once.
const STRANGERS: usize = 64;

/// The same line is not logged again within this time, because a refused peer calls again and again.
const QUIET: Duration = Duration::from_secs(60);
/// How many lines may be logged in that time, whoever calls (T-74).
const LINES: usize = 32;

/// What was logged lately about refused peers.
#[derive(Debug, Default)]
struct Said(HashMap<String, Instant>);

impl Said {
    /// Whether this line may be logged now.
    fn is_due(&mut self, text: &str, now: Instant) -> bool {
        self.0
            .retain(|_, said| now.saturating_duration_since(*said) < QUIET);
        let due = self.0.len() < LINES && !self.0.contains_key(text);
        if due {
            self.0.insert(text.to_owned(), now);
        }
        due
    }
}

/// Accepts for as long as the node runs.
pub(super) async fn run(shared: Arc<Shared>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(STRANGERS));
    let said = Arc::<Mutex<Said>>::default();
    loop {
        let (tcp, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Most likely there are no file descriptors left; they come back when others are closed.
                tracing::warn!("cannot accept a peer: {error}");
                time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(place) = room.clone().try_acquire_owned() else {
            continue;
        };
        let (shared, said) = (shared.clone(), said.clone());
        tokio::spawn(async move {
            let met = time::timeout(HANDSHAKE, meet(&shared, tcp))
                .await
                .unwrap_or(Err(Lost::Silent));
            drop(place);
            if let Err(lost) = met {
                tracing::debug!(from = %from.ip(), "connection refused: {lost}");
                let text = format!("peer at {} refused: {lost}", from.ip());
                let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                if lost.is_refusal_of_ours() && said.is_due(&text, clock::timer()) {
                    tracing::warn!("{text}");
                }
            }
        });
    }
}

async fn meet(shared: &Arc<Shared>, tcp: TcpStream) -> Result<(), Lost> {
    tcp.set_nodelay(true)?;
    let tls = shared.tls();
    let stream = tls.accept(tcp).await?;
    let ours = shared.hello();
    let established = Established::accepted(stream, &ours, |stream, theirs| {
        ours.common(theirs)?;
        tls.check_name(stream, &theirs.body.address)?;
        let (seat, node) = (theirs.body.seat, theirs.body.node);
        ours.check(theirs, seat, shared.identity.is_retired(node))?;
        let peers = shared.peers();
        let mut others = peers.iter().filter(|other| other.seat != seat);
        if others.any(|other| other.process().is_some_and(|other| other.node == node)) {
            return Err(HelloError::Copy(node).into());
        }
        let filled = peers
            .iter()
            .find(|peer| peer.seat == seat)
            .is_some_and(|peer| !peer.admits(theirs.process()));
        if filled { Err(Lost::Filled) } else { Ok(()) }
    });
    let established = established.await?;
    let theirs = &established.hello.body;
    let peer = shared.introduce(theirs.seat, &theirs.address);
    match peer.is_dialled() {
        // A higher seat only makes itself known. It is dialled in turn.
        true => Ok(()),
        false => peer.hand_over(established).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t_74_whoever_is_refused_again_and_again_is_a_line_a_minute() {
        let (mut said, start) = (Said::default(), Instant::now());
        assert!(said.is_due("one", start));
        assert!(!said.is_due("one", start + QUIET / 2));
        assert!(said.is_due("one", start + QUIET));
        let lines = (0..1000).filter(|n| said.is_due(&n.to_string(), start + QUIET));
        assert_eq!(lines.count(), LINES - 1);
    }
}
