//! From an accepted socket to a stream over TLS, through each of the doors.
//!
//! What a client is asked for here has one bound in time, whatever it is made of: a handshake, the stream before it, a
//! request of HTTP behind it (T-11).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::BareJid;
use proto::stream::{Input, Security, State, Stream, StreamError, TlsInfo};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::server::TlsStream;

use super::journal::Ending;
use super::negotiate::{FAREWELL, Negotiation, farewell, next};
use super::pump::Pump;
use crate::app::App;
use crate::clock;
use crate::listen::gate::Permit;
use crate::listen::web::{self, Answer, Head};
use crate::listen::websocket::WebSocket;
use crate::listen::{Door, bosh};
use crate::metrics::Refused;

/// How long a client may take to its stream over TLS.
const PATIENCE: Duration = Duration::from_secs(10);

/// A socket that was let in.
pub struct Visitor {
    /// The socket.
    pub socket: TcpStream,
    /// Whose it is, as far as a trusted balancer or the network tells.
    pub address: IpAddr,
    /// Its place among those that have no session yet.
    pub permit: Permit,
}

/// Who comes, and since when.
pub(super) struct Entered {
    pub(super) address: IpAddr,
    pub(super) accepted: Instant,
    pub(super) permit: Permit,
}

/// What carries a stream, and its machine.
pub(super) struct Secured<S> {
    pub(super) socket: S,
    pub(super) machine: Stream,
}

type Tls = TlsStream<TcpStream>;

/// Leads a connection from its first byte to its session, which has its actor then. The pump is still to
/// be run: as a task of its own, because this one is five times as large.
pub async fn starttls(app: Arc<App>, visitor: Visitor) -> Option<Pump<Tls>> {
    let (socket, entered) = enter(visitor);
    let secured = negotiated(&app, socket);
    let secured = in_time(&app, &entered, secured).await?;
    Negotiation::new(app, secured, entered).run().await
}

/// The same where TLS comes first.
pub async fn tls(app: Arc<App>, visitor: Visitor) -> Option<Pump<Tls>> {
    let (socket, entered) = enter(visitor);
    let secured = async {
        let (socket, info) = handshake(&app, socket, Door::Tls).await?;
        let machine = machine(&app, Security::Tls(info));
        Ok(Secured { socket, machine })
    };
    let secured = in_time(&app, &entered, secured).await?;
    Negotiation::new(app, secured, entered).run().await
}

/// What a web client has come to.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
pub enum Web {
    /// A session over WebSocket.
    Socket(Pump<WebSocket<Tls>>),
    /// A request of BOSH, which may be the first of many.
    Requests(bosh::Connection<Tls>),
}

/// The same for web clients, whose first request decides.
pub async fn web(app: Arc<App>, visitor: Visitor) -> Option<Web> {
    let (socket, entered) = enter(visitor);
    match in_time(&app, &entered, asked(&app, socket)).await? {
        Asked::Socket(secured) => {
            let pump = Negotiation::new(app, secured, entered).run().await;
            pump.map(Web::Socket)
        }
        Asked::Requests(socket, head) => {
            let Entered {
                address, permit, ..
            } = entered;
            let connection = bosh::Connection::new(app, socket, address, permit, head);
            Some(Web::Requests(connection))
        }
    }
}

/// Leads a session of BOSH, which has no connection of its own, to its session of XMPP and through it.
pub fn bosh(app: Arc<App>, socket: bosh::Socket, address: IpAddr, permit: Permit) {
    let entered = Entered {
        address,
        accepted: clock::timer(),
        permit,
    };
    // Its requests come by any number of connections, so that channel binding could name none of them (BO-6).
    let machine = machine(&app, Security::Tls(TlsInfo::default()));
    let negotiation = Negotiation::new(app, Secured { socket, machine }, entered);
    drop(actix_rt::spawn(async move {
        let Some(pump) = negotiation.run().await.map(Box::new) else {
            return;
        };
        drop(actix_rt::spawn(async move { pump.run().await }));
    }));
}

fn enter(visitor: Visitor) -> (TcpStream, Entered) {
    let accepted = clock::timer();
    let Visitor {
        socket,
        address,
        permit,
    } = visitor;
    let entered = Entered {
        address,
        accepted,
        permit,
    };
    (socket, entered)
}

/// Waits for a stream over TLS, as long as that may take and nobody else needs the place.
async fn in_time<T>(
    app: &App,
    entered: &Entered,
    secured: impl Future<Output = Result<T, Ending>>,
) -> Option<T> {
    let signal = entered.permit.signal();
    let secured = tokio::select! {
        secured = timeout(PATIENCE, secured) => secured.unwrap_or(Err(Ending::Late)),
        () = signal.notified() => Err(Ending::Shed),
    };
    secured
        .inspect_err(|ending| ended_early(app, None, entered.address, ending))
        .ok()
}

/// A connection has come to no session.
pub(super) fn ended_early(app: &App, account: Option<&BareJid>, address: IpAddr, ending: &Ending) {
    if matches!(ending, Ending::Shed) {
        app.metrics.refused.inc(Refused::Shed);
    }
    app.journal.ended_early(account, address, ending);
}

async fn handshake(app: &App, socket: TcpStream, door: Door) -> Result<(Tls, TlsInfo), Ending> {
    let identity = app.certificates.current();
    let accepted = identity.accept(socket, door).await;
    accepted.map_err(Ending::of_tls)
}

/// STARTTLS.
async fn negotiated(app: &App, mut socket: TcpStream) -> Result<Secured<Tls>, Ending> {
    let mut machine = machine(app, Security::Plain);
    loop {
        let input = next(&mut socket, &mut machine).await;
        match input {
            None if machine.state() == State::OpenPlain => return Err(Ending::Silent),
            None => return Err(Ending::Lost),
            Some(Input::StartTls) if machine.has_rest() => return Err(Ending::Early),
            Some(Input::StartTls) => break,
            Some(Input::Closed) => {
                farewell(&mut socket, &mut machine, FAREWELL).await;
                return Err(Ending::Closed);
            }
            Some(Input::Failed(error)) => {
                farewell(&mut socket, &mut machine, FAREWELL).await;
                return Err(Ending::Failed { error });
            }
            Some(_) => {}
        }
    }
    let proceed = machine.take_output();
    socket.write_all(&proceed).await.map_err(|_| Ending::Lost)?;
    let identity = app.certificates.current();
    let accepted = identity.accept(socket, Door::StartTls).await;
    let (socket, info) = accepted.map_err(Ending::Tls)?;
    machine.tls_established(info);
    Ok(Secured { socket, machine })
}

/// What the first request of a web client is for.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
enum Asked {
    Socket(Secured<WebSocket<Tls>>),
    Requests(Tls, Head),
}

/// The first request of a web client. One that wanted a page has it, and is gone.
async fn asked(app: &App, socket: TcpStream) -> Result<Asked, Ending> {
    let (mut socket, info) = handshake(app, socket, Door::Web).await?;
    let head = Head::read(&mut socket, Vec::new()).await;
    let head = head.map_err(|_| Ending::Lost)?;
    let head = match head {
        Some(head) if bosh::is_asked(&head) => return Ok(Asked::Requests(socket, head)),
        head => head,
    };
    let links = app.config.web.links();
    let said = head
        .as_ref()
        .map_or_else(web::too_long, |head| head.answer(&links));
    let (Answer::Upgrade(text), Some(head)) = (&said, head) else {
        say(&mut socket, &said).await;
        return Err(Ending::Answered);
    };
    let sent = async {
        socket.write_all(text.as_bytes()).await?;
        socket.flush().await
    };
    sent.await.map_err(|_| Ending::Lost)?;
    let max_message = app.config.c2s.max_stanza_bytes;
    Ok(Asked::Socket(Secured {
        socket: WebSocket::new(socket, head.into_rest(), max_message),
        machine: machine(app, Security::Tls(info)),
    }))
}

/// Gives a page and closes.
async fn say(socket: &mut Tls, answer: &Answer) {
    let (Answer::Upgrade(text) | Answer::Page(text)) = answer;
    let said = async {
        socket.write_all(text.as_bytes()).await?;
        socket.shutdown().await
    };
    // Whatever fails here, the socket closes next.
    drop(said.await);
}

fn machine(app: &App, security: Security) -> Stream {
    let settings = app.stream_settings.current();
    Stream::new(settings, security, Box::new(clock::entropy))
}

/// Says why a connection is not let in, and closes it.
pub async fn turn_away(app: &App, mut socket: TcpStream, door: Door, error: StreamError) {
    let say = async {
        match door {
            Door::StartTls => refuse(&mut socket, machine(app, Security::Plain), error).await,
            Door::Tls => {
                if let Ok((mut socket, info)) = handshake(app, socket, door).await {
                    refuse(&mut socket, machine(app, Security::Tls(info)), error).await;
                }
            }
            Door::Web => {
                if let Ok((mut socket, _)) = handshake(app, socket, door).await {
                    let why = error.text.as_deref().unwrap_or_default();
                    say(&mut socket, &web::no_room(why)).await;
                }
            }
        }
    };
    // Who is too slow to hear it finds the connection closed.
    drop(timeout(FAREWELL, say).await);
}

async fn refuse<S>(socket: &mut S, mut machine: Stream, error: StreamError)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    machine.fail(error);
    farewell(socket, &mut machine, FAREWELL).await;
}
