//! Links over real sockets: each node is a runtime of its own, so that dropping it is as good as a kill.

use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use super::*;
use crate::bound;
use crate::config::LinkAuth;
use crate::session::Settings;

mod formats;

const PATIENCE: Duration = Duration::from_secs(10);

struct Node {
    links: Links,
    identity: Identity,
    runtime: Option<Runtime>,
    _dir: tempfile::TempDir,
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Answers with what it was asked.
struct Echo;

impl Handler for Echo {
    fn handle(&self, request: Request) -> BoxFuture<'static, Option<Bytes>> {
        Box::pin(async move {
            match &request.payload[..] {
                b"never" => std::future::pending().await,
                b"refuse" => None,
                _ => Some(request.payload),
            }
        })
    }
}

/// Listeners for three seats, on ports that are free.
fn listeners() -> Vec<std::net::TcpListener> {
    (0..3)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").expect("binds"))
        .collect()
}

fn config(listeners: &[std::net::TcpListener], seat: u64) -> Config {
    let peers = (1..)
        .zip(listeners)
        .map(|(seat, listener)| crate::config::Peer {
            seat,
            address: listener.local_addr().expect("has one").to_string(),
        });
    let peers: Vec<_> = peers.collect();
    let own = peers.iter().find(|peer| peer.seat == seat);
    Config {
        seat,
        advertise: own.map(|peer| peer.address.clone()).unwrap_or_default(),
        peers,
        auth: LinkAuth::Secrets(vec![vec![7; 32]]),
        ..Config::single(std::path::PathBuf::new(), Settings::default())
    }
}

fn start(config: &Config, listener: &std::net::TcpListener) -> Node {
    let dir = tempfile::tempdir().expect("makes");
    let identity = Identity::open(dir.path(), config.seat, true).expect("opens");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("starts");
    let listener = listener.try_clone().expect("clones");
    let _inside = runtime.enter();
    let links = Links::start_on(listener, config, &identity, runtime.handle()).expect("starts");
    links.serve(&[Kind::Propose], Arc::new(Echo));
    drop(_inside);
    Node {
        links,
        identity,
        runtime: Some(runtime),
        _dir: dir,
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "waited too long: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn requests_travel_both_ways_and_each_gets_its_own_answer() {
    let listeners = listeners();
    let (one, two) = (
        start(&config(&listeners, 1), &listeners[0]),
        start(&config(&listeners, 2), &listeners[1]),
    );
    until("connected", || {
        one.links.up().len() == 1 && two.links.up().len() == 1
    })
    .await;
    for (asker, asked) in [(&one, &two), (&two, &one)] {
        let to = asked.identity.node();
        let call = |text: &'static [u8]| {
            asker
                .links
                .call(to, Kind::Propose, 3, text, Duration::from_millis(200))
        };
        let (a, b, refused, never) =
            tokio::join!(call(b"a"), call(b"b"), call(b"refuse"), call(b"never"));
        assert_eq!((a, b), (Ok(Bytes::from("a")), Ok(Bytes::from("b"))));
        assert_eq!(
            (refused, never),
            (Err(LinkError::Refused), Err(LinkError::Timeout))
        );
        let unknown = asker.links.call(to, Kind::Standing, 0, "", PATIENCE).await;
        assert_eq!(unknown, Err(LinkError::Refused));
        let huge = asker
            .links
            .call(to, Kind::Propose, 0, vec![0; bound::MESSAGE + 1], PATIENCE)
            .await;
        let over = TooLarge {
            what: "a request",
            bytes: bound::MESSAGE + 1,
            most: bound::MESSAGE,
        };
        assert_eq!(huge, Err(LinkError::TooLarge(over)));
    }
    let large = |bytes: usize| {
        let call = one
            .links
            .call(To::Seat(2), Kind::Propose, 0, vec![5u8; bytes], PATIENCE);
        async move { assert_eq!(call.await.expect("answers").len(), bytes) }
    };
    // Larger than a frame, both ways, and more of them than take turns.
    futures_util::future::join_all([bound::MESSAGE, bound::FRAME, 3 << 20].map(large)).await;
    futures_util::future::join_all([bound::FRAME; 20].map(large)).await;
    assert_eq!(
        one.links
            .call(To::Seat(3), Kind::Propose, 0, "", PATIENCE)
            .await,
        Err(LinkError::Down)
    );
}

#[tokio::test]
async fn a_killed_peer_is_down_at_once_for_those_who_wait_too() {
    let mut listeners = listeners();
    let configs = [config(&listeners, 1), config(&listeners, 2)];
    let one = start(&configs[0], &listeners[0]);
    let two = start(&configs[1], &listeners[1]);
    for (survivor, victim, place) in [(&one, two, 1)] {
        until("connected", || survivor.links.up().len() == 1).await;
        let gone = survivor.links.up()[0];
        let mut events = survivor.links.subscribe();
        let waiting = survivor
            .links
            .call(To::Seat(2), Kind::Propose, 0, "never", PATIENCE);
        let kill = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(listeners.remove(place));
            drop(victim);
            Instant::now()
        };
        let (answer, killed) = tokio::join!(waiting, kill);
        assert_eq!(answer, Err(LinkError::Down));
        assert_eq!(events.recv().await, Ok(PeerEvent::Down(gone)));
        assert!(
            killed.elapsed() < Duration::from_millis(450),
            "the refusal was not noticed"
        );
        assert!(survivor.links.up().is_empty());
    }
}

#[tokio::test]
async fn a_new_run_of_a_peer_is_another_process() {
    let mut listeners = listeners();
    let configs = [config(&listeners, 1), config(&listeners, 2)];
    let two = start(&configs[1], &listeners[1]);
    let mut events = two.links.subscribe();
    let one = start(&configs[0], &listeners[0]);
    let first = match events.recv().await {
        Ok(PeerEvent::Up(process)) => process,
        other => panic!("unexpected {other:?}"),
    };
    drop(one);
    // The side that does not dial has to find out by itself that nobody listens any more.
    let address = listeners[0].local_addr().expect("has one");
    drop(listeners.remove(0));
    assert_eq!(events.recv().await, Ok(PeerEvent::Down(first)));
    assert_eq!(events.recv().await, Ok(PeerEvent::Gone(first)));
    let again = std::net::TcpListener::bind(address).expect("is free again");
    let _one = start(&configs[0], &again);
    match events.recv().await {
        Ok(PeerEvent::Up(process)) => assert_ne!(process, first),
        other => panic!("unexpected {other:?}"),
    }
}

#[tokio::test]
async fn t_67_a_peer_with_another_secret_or_cluster_never_comes_up() {
    let listeners = listeners();
    let stranger = Config {
        auth: LinkAuth::Secrets(vec![vec![8; 32]]),
        ..config(&listeners, 3)
    };
    let foreigner = Config {
        cluster_name: String::from("other"),
        ..config(&listeners, 2)
    };
    let one = start(&config(&listeners, 1), &listeners[0]);
    let _others = (
        start(&foreigner, &listeners[1]),
        start(&stranger, &listeners[2]),
    );
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(one.links.up().is_empty());
}

#[tokio::test]
async fn t_67_a_secret_is_changed_node_by_node_and_an_old_one_is_worth_nothing() {
    let listeners = listeners();
    let knows = |seat, secrets: &[u8]| {
        let secrets = secrets.iter().map(|byte| vec![*byte; 32]).collect();
        Config {
            auth: LinkAuth::Secrets(secrets),
            ..config(&listeners, seat)
        }
    };
    // Both know another one first, and neither is told twice which one they share.
    let one = start(&knows(1, &[9, 7]), &listeners[0]);
    let two = start(&knows(2, &[8, 7]), &listeners[1]);
    until("connected", || one.links.up().len() == 1).await;
    let before = one.links.up();
    for node in [&one, &two] {
        let set = node.links.set_auth(&LinkAuth::Secrets(vec![vec![6; 32]]));
        set.expect("is good");
        assert_eq!(one.links.up(), before, "connections stay");
    }
    drop(two);
    until("gone", || one.links.up().is_empty()).await;
    // Whoever knows only the old one is out.
    let stale = start(&knows(2, &[7]), &listeners[1]);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(one.links.up().is_empty());
    drop(stale);
    let _fresh = start(&knows(2, &[7, 6]), &listeners[1]);
    until("connected", || one.links.up().len() == 1).await;
}

#[tokio::test]
async fn t_67_a_stranger_gets_not_a_byte() {
    let listeners = listeners();
    let _two = start(&config(&listeners, 2), &listeners[1]);
    let address = listeners[1].local_addr().expect("has one");
    let mut plain = TcpStream::connect(address).await.expect("connects");
    let silence = tokio::time::timeout(Duration::from_millis(200), plain.read_u8()).await;
    assert!(silence.is_err(), "something was said to a silent stranger");
    let tls = Tls::new(&LinkAuth::Certificates {
        ca: "/nonexistent".into(),
        certificate: "/nonexistent".into(),
        key: "/nonexistent".into(),
    });
    assert!(matches!(tls, Err(TlsError::Pem { .. })));
    plain.write_all(&[0; 64]).await.expect("is sent");
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said).await;
    // At most the alert by which TLS refuses what is not TLS.
    assert!(said.len() <= 7, "{said:?}");
}

#[tokio::test]
async fn a_silent_peer_is_down_until_it_speaks_again() {
    let listeners = listeners();
    let (one, two) = (
        start(&config(&listeners, 1), &listeners[0]),
        start(&config(&listeners, 2), &listeners[1]),
    );
    until("connected", || {
        one.links.up().len() == 1 && two.links.up().len() == 1
    })
    .await;
    for (stalled, waiting) in [(&one, &two), (&two, &one)] {
        let process = waiting.links.up()[0];
        let mut events = waiting.links.subscribe();
        let (release, released) = std::sync::mpsc::channel::<()>();
        // The only thread of its runtime stands still; its sockets stay open.
        stalled
            .runtime
            .as_ref()
            .expect("runs")
            .spawn(async move { released.recv() });
        assert_eq!(events.recv().await, Ok(PeerEvent::Down(process)));
        let absent = waiting.links.absent();
        assert_eq!(absent.len(), 1);
        assert!(!absent[0].gone, "it is merely silent");
        drop(release);
        assert_eq!(events.recv().await, Ok(PeerEvent::Up(process)));
        until("connected", || stalled.links.up().len() == 1).await;
    }
}

#[tokio::test]
async fn t_68_a_frame_that_claims_too_much_ends_the_connection() {
    let listeners = listeners();
    let two = start(&config(&listeners, 2), &listeners[1]);
    let address = listeners[1].local_addr().expect("has one").to_string();
    let tls = Tls::new(&LinkAuth::Secrets(vec![vec![7; 32]])).expect("is good");
    for claim in [u32::MAX, frame::MAX_FRAME as u32 + 1, 3] {
        let dialled = tls.dial(&address, &address).await;
        let mut stream = dialled.expect("knows the secret");
        stream
            .write_all(&claim.to_le_bytes())
            .await
            .expect("is sent");
        stream.write_all(&[0; 64]).await.expect("is sent");
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said).await;
        assert!(said.is_empty(), "{said:?}");
    }
    assert!(two.links.up().is_empty());
}

#[tokio::test]
async fn a_node_meets_itself_at_its_own_address_behind_a_name() {
    let listeners = listeners();
    let own = listeners[0].local_addr().expect("has one").to_string();
    let config = Config {
        peers: Vec::new(),
        discovery: Some(own.clone()),
        advertise: own,
        ..config(&listeners, 1)
    };
    let node = start(&config, &listeners[0]);
    until("met all", || {
        node.links.found().is_some_and(|found| found.all_met)
    })
    .await;
}

#[tokio::test]
async fn m_13_a_node_that_is_retired_is_told_whether_it_calls_or_is_called() {
    for (refuses, retired, forgets) in [(0, 1, false), (1, 0, false), (0, 1, true)] {
        let listeners = listeners();
        let nodes = [1, 2].map(|seat| {
            let listener = &listeners[seat as usize - 1];
            start(&config(&listeners, seat), listener)
        });
        let met = || nodes.iter().all(|node| node.links.up().len() == 1);
        until("connected", met).await;
        let mut events = nodes[retired].links.subscribe();
        let node = nodes[retired].identity.node();
        nodes[refuses].identity.retire(node).expect("writes");
        match forgets {
            true => nodes[refuses].links.dismiss(retired as u64 + 1),
            false => nodes[refuses].links.send_away(node),
        }
        let told = async { while events.recv().await != Ok(PeerEvent::Replaced) {} };
        let told = tokio::time::timeout(PATIENCE, told).await;
        assert!(told.is_ok(), "seat {} is not told", retired + 1);
        let away = || nodes[refuses].links.up().is_empty();
        until("it counts as away", away).await;
    }
}
