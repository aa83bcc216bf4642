//! A TCP load balancer without affinity: each connection goes to the next healthy node.
//!
//! It knows nothing of XMPP. As with any balancer, a node is healthy when its `/readyz` says so, and a node that
//! refuses a connection is skipped at once. When one side closes its connection, the other one is closed too. Nodes
//! that want it get each client's address in a PROXY header.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::admin::request::{Method, request};
use crate::listen::proxy;

/// How often a node's health is checked.
const CHECK: Duration = Duration::from_millis(50);
/// A node that does not answer in this time is not healthy.
const PATIENCE: Duration = Duration::from_secs(1);
/// A node that does not accept in this time is skipped.
const CONNECT: Duration = Duration::from_millis(250);
/// How long a client that has closed its side may still receive from its node.
const FAREWELL: Duration = Duration::from_secs(1);

/// A node behind the balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// Where its clients connect.
    pub clients: SocketAddr,
    /// The address of its health checks.
    pub admin: SocketAddr,
}

/// A running balancer. It stops, and its connections end, when it is dropped.
pub struct Balancer {
    address: SocketAddr,
    shared: Arc<Shared>,
    tasks: Vec<AbortHandle>,
}

struct Shared {
    /// Whether nodes are told each client's address.
    proxy: bool,
    backends: Vec<(Backend, AtomicBool)>,
    next: AtomicUsize,
    /// Which node each connection goes to, by the client's address.
    routes: Mutex<HashMap<SocketAddr, usize>>,
}

impl Balancer {
    /// Listens on a free loopback port.
    pub async fn start(backends: Vec<Backend>) -> io::Result<Self> {
        Self::start_as(backends, false).await
    }

    /// The same for nodes that demand PROXY headers.
    pub async fn start_proxy(backends: Vec<Backend>) -> io::Result<Self> {
        Self::start_as(backends, true).await
    }

    /// One that others run, and of which only the address is known.
    pub(super) fn of_others(address: SocketAddr) -> Self {
        let shared = Shared {
            proxy: false,
            backends: Vec::new(),
            next: AtomicUsize::new(0),
            routes: Mutex::default(),
        };
        Self {
            address,
            shared: Arc::new(shared),
            tasks: Vec::new(),
        }
    }

    async fn start_as(backends: Vec<Backend>, proxy: bool) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            proxy,
            backends: backends
                .into_iter()
                .map(|b| (b, AtomicBool::new(false)))
                .collect(),
            next: AtomicUsize::new(0),
            routes: Mutex::default(),
        });
        let mut tasks = vec![tokio::spawn(accept(listener, shared.clone())).abort_handle()];
        for index in 0..shared.backends.len() {
            tasks.push(tokio::spawn(check(shared.clone(), index)).abort_handle());
        }
        Ok(Self {
            address,
            shared,
            tasks,
        })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many nodes are behind it.
    pub fn len(&self) -> usize {
        self.shared.backends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.shared.backends.is_empty()
    }

    /// The node that serves the client at that address.
    pub fn node_of(&self, client: SocketAddr) -> Option<usize> {
        self.shared.routes().get(&client).copied()
    }

    /// Whether that node is healthy.
    pub fn is_well(&self, node: usize) -> bool {
        self.shared
            .backends
            .get(node)
            .is_some_and(|(_, well)| well.load(Ordering::Relaxed))
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Shared {
    /// A lock, since several tasks use the routes; nobody holds it across an await.
    fn routes(&self) -> std::sync::MutexGuard<'_, HashMap<SocketAddr, usize>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects to the next healthy node; if there is none, to the next that accepts.
    async fn connect(&self) -> Option<(usize, TcpStream)> {
        let count = self.backends.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let turn = || (0..count).map(|step| (first.wrapping_add(step)) % count);
        let well = |index: &usize| self.backends[*index].1.load(Ordering::Relaxed);
        let order = turn()
            .filter(well)
            .chain(turn().filter(|index| !well(index)));
        for index in order.collect::<Vec<_>>() {
            let (backend, well) = &self.backends[index];
            match timeout(CONNECT, TcpStream::connect(backend.clients)).await {
                Ok(Ok(socket)) => return Some((index, socket)),
                _ => well.store(false, Ordering::Relaxed),
            }
        }
        None
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((client, address)) => {
                connections.spawn(carry(shared.clone(), client, address));
            }
            Err(_) => sleep(CHECK).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

/// Carries bytes both ways until one side is gone.
async fn carry(shared: Arc<Shared>, mut client: TcpStream, address: SocketAddr) {
    let Some((index, mut node)) = shared.connect().await else {
        return;
    };
    shared.routes().insert(address, index);
    // Errors are ignored: these options only save latency, and a copy that fails is a connection that has ended.
    drop(client.set_nodelay(true));
    drop(node.set_nodelay(true));
    if shared.proxy && introduce(&mut node, address).await.is_err() {
        shared.routes().remove(&address);
        return;
    }
    let ((mut from_client, mut to_client), (mut from_node, mut to_node)) =
        (client.split(), node.split());
    let inbound = async {
        drop(copy(&mut from_client, &mut to_node).await);
        sleep(FAREWELL).await;
    };
    tokio::select! {
        () = inbound => {}
        _ = copy(&mut from_node, &mut to_client) => {}
    }
    shared.routes().remove(&address);
}

/// Tells a node whose connection this is.
async fn introduce(node: &mut TcpStream, client: SocketAddr) -> io::Result<()> {
    let header = proxy::header_for(client, node.peer_addr()?);
    node.write_all(&header).await
}

/// Checks a node's health again and again.
async fn check(shared: Arc<Shared>, index: usize) {
    let (backend, well) = &shared.backends[index];
    let admin = backend.admin.to_string();
    loop {
        let answer = timeout(PATIENCE, request(&admin, Method::Get, "/readyz", None)).await;
        let ready = matches!(answer, Ok(Ok(answer)) if answer.status == 200);
        well.store(ready, Ordering::Relaxed);
        sleep(CHECK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt as _;

    /// A node that answers each connection with its name and closes it.
    async fn node(name: &'static str) -> (Backend, AbortHandle) {
        let clients = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let admin = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = Backend {
            clients: clients.local_addr().unwrap(),
            admin: admin.local_addr().unwrap(),
        };
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    Ok((mut socket, _)) = clients.accept() => socket.write_all(name.as_bytes()).await.unwrap(),
                    Ok((mut socket, _)) = admin.accept() => {
                        let mut request = [0; 1024];
                        let _ = socket.read(&mut request).await.unwrap();
                        socket.write_all(b"HTTP/1.0 200 OK\r\n\r\n").await.unwrap();
                    }
                }
            }
        });
        (backend, task.abort_handle())
    }

    async fn ask(balancer: &Balancer) -> String {
        let mut socket = TcpStream::connect(balancer.address()).await.unwrap();
        let mut name = String::new();
        socket.read_to_string(&mut name).await.unwrap();
        name
    }

    #[tokio::test]
    async fn connections_take_turns_over_the_nodes_that_are_well() {
        let (a, stop_a) = node("a").await;
        let (b, _b) = node("b").await;
        let balancer = Balancer::start(vec![a, b]).await.unwrap();
        while !(balancer.is_well(0) && balancer.is_well(1)) {
            sleep(Duration::from_millis(5)).await;
        }
        let mut names = vec![ask(&balancer).await, ask(&balancer).await];
        names.sort();
        assert_eq!(names, ["a", "b"]);
        stop_a.abort();
        while TcpStream::connect(a.clients).await.is_ok() {
            sleep(Duration::from_millis(5)).await;
        }
        for _ in 0..4 {
            assert_eq!(ask(&balancer).await, "b");
        }
    }

    #[tokio::test]
    async fn a_client_goes_with_its_node() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let clients = listener.local_addr().unwrap();
        let balancer = Balancer::start(vec![Backend {
            clients,
            admin: clients,
        }])
        .await
        .unwrap();
        let mut client = TcpStream::connect(balancer.address()).await.unwrap();
        // The balancer's questions arrive at the same socket here; only the client is silent.
        let node = loop {
            let (mut node, _) = listener.accept().await.unwrap();
            let mut byte = [0];
            let silent = timeout(Duration::from_millis(100), node.read(&mut byte))
                .await
                .is_err();
            if silent {
                break node;
            }
        };
        assert_eq!(balancer.node_of(client.local_addr().unwrap()), Some(0));
        drop(node);
        let mut byte = [0];
        assert!(matches!(client.read(&mut byte).await, Ok(0) | Err(_)));
    }
}
