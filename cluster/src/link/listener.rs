//! Accepts the connections that lower seats make.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time;

use super::Shared;
use super::connection::{Established, Lost};
use super::hello::HelloError;
use super::peer::HANDSHAKE;

/// Connections that have not proved themselves yet, at a time. More are closed unheard.
const STRANGERS: usize = 64;

/// Accepts for as long as the node runs.
pub(super) async fn run(shared: Arc<Shared>, listener: TcpListener) {
    let room = Arc::new(Semaphore::new(STRANGERS));
    // A peer of another age calls again and again; one line says it.
    let said = Arc::<Mutex<String>>::default();
    loop {
        let (tcp, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely; they come back when others are closed.
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
                if lost.is_age() {
                    let text = format!("peer at {} refused: {lost}", from.ip());
                    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                    if *said != text {
                        tracing::warn!("{text}");
                        *said = text;
                    }
                }
            }
        });
    }
}

async fn meet(shared: &Shared, tcp: TcpStream) -> Result<(), Lost> {
    tcp.set_nodelay(true)?;
    let stream = shared.tls.accept(tcp).await?;
    let ours = shared.hello();
    let established = Established::accepted(stream, &ours, |stream, theirs| {
        ours.common(theirs)?;
        let peer = shared
            .peers
            .get(&theirs.body.seat)
            .filter(|peer| !peer.is_dialled());
        let peer = peer.ok_or(HelloError::Seat(theirs.body.seat))?;
        shared.tls.check_name(stream, &peer.address)?;
        let copied = shared
            .peers
            .values()
            .filter(|other| other.seat != peer.seat)
            .filter_map(|other| other.process());
        if copied
            .into_iter()
            .any(|other| other.node == theirs.body.node)
        {
            return Err(HelloError::Copy(theirs.body.node).into());
        }
        ours.check(
            theirs,
            peer.seat,
            shared.identity.is_retired(theirs.body.node),
        )?;
        match peer.admits(theirs.process()) {
            true => Ok(()),
            false => Err(Lost::Filled),
        }
    });
    let established = established.await?;
    match shared.peers.get(&established.hello.body.seat) {
        Some(peer) => peer.hand_over(established).await,
        None => Ok(()),
    }
}
