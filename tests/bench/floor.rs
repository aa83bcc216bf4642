//! `bench floor`: the least that a message can cost. A relay on one thread decrypts what one client of a pair sends and
//! encrypts it for the other one: it reads no XML, keeps nothing and writes nothing to disk.

use std::collections::HashMap;
use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use clap::Args;
use node::demo::client::Connection;
use proto::ns;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{
    AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, ReadHalf, WriteHalf,
    split,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::Failure;
use crate::chat::{Chat, Span, To, watched};
use crate::place::whole_handshakes;
use crate::talk::{self, Client, Talk};
use crate::usage::{Usage, memory};

/// The name in the relay's certificate.
const DOMAIN: &str = "localhost";
/// Before the measurement begins.
const WARM_UP: Duration = Duration::from_secs(2);
/// What the relay reads at a time: the content of one TLS record.
const RECORD: usize = 16 * 1024;

type Tls = TlsStream<TcpStream>;

/// The relay itself, which `bench floor` starts.
#[derive(Args)]
pub struct Relay {
    /// Holds certificate.pem and key.pem
    dir: PathBuf,
}

/// Has the same clients chat through the relay.
pub async fn run(chat: Chat) -> Result<Value, Failure> {
    if chat.place.at.is_some() || chat.place.nodes != 1 || chat.place.archive || chat.to == To::Full
    {
        return Err(
            "the floor has no servers: --at, --nodes, --archive and --to mean nothing".into(),
        );
    }
    let dir = tempfile::tempdir()?;
    let made = rcgen::generate_simple_self_signed([DOMAIN.to_owned()])?;
    fs::write(dir.path().join("certificate.pem"), made.cert.pem())?;
    fs::write(dir.path().join("key.pem"), made.signing_key.serialize_pem())?;
    let (relay, address) = start(dir.path(), chat.place.cores.as_deref()).await?;
    let pids: Vec<u32> = relay.id().into_iter().collect();
    let tls = whole_handshakes([made.cert.der().clone()])?;
    let window = chat.rate.map_or(chat.window, |_| 0);
    let talk = Talk::new(window);
    let mut open = Vec::new();
    for me in 0..chat.sessions {
        let mut connection = Connection::open_tls(address, DOMAIN, &tls).await?;
        // The one thing that the relay looks at. The partner gets it as the start of its stream.
        let (client, stream, pair) = (ns::CLIENT, ns::STREAM, me / 2);
        let header =
            format!("<stream:stream to='{pair}' xmlns='{client}' xmlns:stream='{stream}'>");
        connection.send_text(&header).await?;
        open.push(connection);
    }
    let (mut clients, mut commands) = (JoinSet::new(), Vec::new());
    for (me, connection) in open.into_iter().enumerate() {
        let partner = format!("client-{}@{DOMAIN}", me ^ 1);
        let client = Client::new(&talk, (connection, None), partner, None);
        commands.push(client.start(&mut clients));
    }
    let mut line = chat.place.line("floor");
    line.insert("sessions".into(), json!(chat.sessions));
    if let Some(rate) = chat.rate {
        line.insert("rate".into(), json!(rate));
        talk.pace(rate, commands, talk::Command::Say);
    } else {
        line.insert("window".into(), json!(window));
    }
    let span = measure(&pids, &talk, chat.seconds);
    watched(span, &mut clients).await?.tell(&mut line);
    talk.finish(clients, &mut line).await?;
    Ok(line.into())
}

async fn measure(pids: &[u32], talk: &Talk, seconds: u64) -> Result<Span, Failure> {
    sleep(WARM_UP).await;
    let (before, came) = (Usage::read(pids, None)?, talk.delivered.load(Relaxed));
    talk.begin();
    sleep(Duration::from_secs(seconds)).await;
    talk.end();
    let (after, now) = (Usage::read(pids, None)?, talk.delivered.load(Relaxed));
    let spent = after.since(&before);
    Ok(Span {
        length: spent.took,
        spent,
        messages: now - came,
        memory: memory(pids)?,
    })
}

async fn start(dir: &Path, cores: Option<&str>) -> Result<(Child, SocketAddr), Failure> {
    let own = std::env::current_exe()?;
    let mut command = match cores {
        Some(cores) => {
            let mut command = Command::new("taskset");
            command.args(["-c", cores]).arg(own);
            command
        }
        None => Command::new(own),
    };
    command.arg("relay").arg(dir).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let out = child.stdout.take().ok_or("the relay says nothing")?;
    let said = BufReader::new(out).lines().next_line().await?;
    let port = said.as_deref().and_then(|said| said.parse::<u16>().ok());
    let port = port.ok_or("the relay does not start")?;
    Ok((child, SocketAddr::from((Ipv4Addr::LOCALHOST, port))))
}

impl Relay {
    /// Relays until standard input ends, which it does when whoever started it does.
    pub async fn run(self) -> Result<(), Failure> {
        let certificates = CertificateDer::pem_file_iter(self.dir.join("certificate.pem"))?;
        let certificates = certificates.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(self.dir.join("key.pem"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(certificates, key)?;
        config.alpn_protocols = vec![b"xmpp-client".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("{}", listener.local_addr()?.port());
        std::io::stdout().flush()?;
        let (sender, mut ready) = unbounded_channel();
        let mut waiting: HashMap<Vec<u8>, Stranger> = HashMap::new();
        let (mut input, mut nothing) = (tokio::io::stdin(), [0; 1]);
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (socket, _) = accepted?;
                    tokio::spawn(introduce(acceptor.clone(), socket, sender.clone()));
                }
                Some(two) = ready.recv() => match waiting.remove(&two.header) {
                    None => drop(waiting.insert(two.header.clone(), two)),
                    Some(one) => connect(one, two).await?,
                },
                _ = input.read(&mut nothing) => return Ok(()),
            }
        }
    }
}

/// A client whose partner is not there yet.
struct Stranger {
    socket: Tls,
    /// What it began with, which both of a pair have in common.
    header: Vec<u8>,
    /// What it said behind that.
    rest: Vec<u8>,
}

/// Lets a client in, and reads which pair it belongs to.
async fn introduce(
    acceptor: TlsAcceptor,
    socket: TcpStream,
    ready: UnboundedSender<Stranger>,
) -> Result<(), Failure> {
    socket.set_nodelay(true)?;
    let mut socket = acceptor.accept(socket).await?;
    let mut header = Vec::new();
    loop {
        let mut part = [0; 1024];
        let count = socket.read(&mut part).await?;
        if count == 0 {
            return Ok(());
        }
        header.extend_from_slice(&part[..count]);
        if let Some(end) = header.iter().position(|byte| *byte == b'>') {
            let rest = header.split_off(end + 1);
            let stranger = Stranger {
                socket,
                header,
                rest,
            };
            return ready
                .send(stranger)
                .map_err(|_| "the relay has ended".into());
        }
    }
}

/// Passes on what two clients say, beginning with what each said already.
async fn connect(mut one: Stranger, mut two: Stranger) -> Result<(), Failure> {
    for (socket, rest) in [(&mut one.socket, &two.rest), (&mut two.socket, &one.rest)] {
        socket.write_all(&one.header).await?;
        socket.write_all(rest).await?;
        socket.flush().await?;
    }
    let ((from_one, to_one), (from_two, to_two)) = (split(one.socket), split(two.socket));
    tokio::spawn(pass(from_one, to_two));
    tokio::spawn(pass(from_two, to_one));
    Ok(())
}

async fn pass(mut from: ReadHalf<Tls>, mut to: WriteHalf<Tls>) -> Result<(), std::io::Error> {
    let mut record = vec![0; RECORD];
    loop {
        let count = from.read(&mut record).await?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&record[..count]).await?;
        to.flush().await?;
    }
}
