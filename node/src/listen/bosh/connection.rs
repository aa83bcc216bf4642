//! [`Connection`]: the requests of HTTP that come by one connection, one after the other.
//!
//! Each has a bound in time: a head and a body for as long as a client may take to its stream, an answer for as long as
//! one may wait, and a connection that carries none for a little longer than clients keep one. A connection counts as
//! one of a stranger until it carries requests of a session that is logged in (T-12).

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::stream::bosh::{Condition, Request, WAIT, terminal};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::body;
use super::call::{CONTINUE, Call, answered, call, preflight, refused};
use super::session::{Reply, Seat, Session, Ticket};
use super::socket::Socket;
use crate::app::App;
use crate::listen::gate::Permit;
use crate::listen::web::Head;
use crate::session::arrival;

/// How long a stranger may take to the next request, and anybody to say one.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection of a session may be without a request.
const IDLE: Duration = Duration::from_secs(75);
/// How long a request may be without an answer: one whose predecessor never comes has none.
const UNANSWERED: Duration = WAIT.saturating_add(Duration::from_secs(30));
/// How long a client may take to receive an answer.
const SENDING: Duration = Duration::from_secs(30);
/// So much of a request that is refused is read, since unread bytes would turn our close into a reset.
const IGNORED: usize = 512 * 1024;
/// So often a browser may ask on one connection whether a script may send a request: without a session nothing else
/// would ever end it.
const PREFLIGHTS: u8 = 16;
/// So much may come while an answer is awaited.
const AHEAD: usize = 2 * 1024;

/// See the module.
pub struct Connection<S> {
    app: Arc<App>,
    socket: S,
    address: IpAddr,
    permit: Option<Permit>,
    seat: Option<Seat>,
    head: Option<Head>,
    preflights: u8,
}

/// What becomes of the connection.
enum Next {
    /// It may bring another request, of which this much has come.
    Request(Vec<u8>),
    /// It is closed, when the client has heard why.
    Close,
    /// It is closed.
    Drop,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// A connection whose first request is for BOSH.
    pub fn new(app: Arc<App>, socket: S, address: IpAddr, permit: Permit, head: Head) -> Self {
        Self {
            app,
            socket,
            address,
            permit: Some(permit),
            seat: None,
            head: Some(head),
            preflights: 0,
        }
    }

    /// Serves it to its end.
    pub async fn run(mut self) {
        while let Some(head) = self.head.take() {
            match self.serve(head).await {
                Ok(Next::Request(rest)) => self.head = self.next(rest).await,
                Ok(Next::Close) => self.close().await,
                Ok(Next::Drop) | Err(_) => {}
            }
        }
    }

    /// The head of the next request.
    async fn next(&mut self, rest: Vec<u8>) -> Option<Head> {
        let patience = match self.permit {
            Some(_) => PATIENCE,
            None => IDLE,
        };
        let signal = self.permit.as_ref().map(Permit::signal);
        let shed = async {
            match signal {
                Some(signal) => signal.notified().await,
                None => std::future::pending().await,
            }
        };
        let head = timeout(patience, Head::read(&mut self.socket, rest));
        tokio::select! {
            head = head => head.ok()?.ok()?,
            () = shed => None,
        }
    }

    async fn serve(&mut self, head: Head) -> io::Result<Next> {
        match call(&head) {
            // Another page than the first one is asked for by another connection.
            None => {
                self.say(&refused("404 Not Found")).await?;
                Ok(Next::Close)
            }
            Some(Call::Refused(status)) => {
                self.say(&refused(status)).await?;
                Ok(Next::Close)
            }
            Some(Call::Preflight) => {
                self.preflights += 1;
                let keeps = self.preflights < PREFLIGHTS;
                self.say(&preflight(keeps)).await?;
                Ok(match keeps {
                    true => Next::Request(head.into_rest()),
                    false => Next::Close,
                })
            }
            Some(Call::Post {
                length,
                expects,
                keeps,
            }) => {
                let mut rest = head.into_rest();
                if expects && rest.is_empty() {
                    self.say(CONTINUE).await?;
                }
                let (sessions, max) = (&self.app.bosh, self.app.config.c2s.max_stanza_bytes);
                let asked = body::read(&mut self.socket, &mut rest, length, sessions, max);
                match timeout(PATIENCE, asked).await?? {
                    Err(condition) => self.end(condition).await,
                    Ok((request, session)) => self.take(request, session, rest, keeps).await,
                }
            }
        }
    }

    /// Gives a request to its session, and its answer to the client.
    async fn take(
        &mut self,
        request: Request,
        session: Option<Arc<Session>>,
        rest: Vec<u8>,
        keeps: bool,
    ) -> io::Result<Next> {
        let (session, reply) = match (request.sid(), session) {
            (Some(_), None) => return self.end(Condition::ItemNotFound).await,
            (Some(_), Some(session)) => {
                let reply = session.receive(request);
                (session, reply)
            }
            (None, _) => match self.begin(request) {
                Some(begun) => begun,
                None => return self.end(Condition::PolicyViolation).await,
            },
        };
        if !self.is_let_in(&session) {
            return self.end(Condition::PolicyViolation).await;
        }
        let mut rest = rest;
        let answer = match reply {
            Reply::Now(answer) => answer,
            Reply::Later(ticket, later) => {
                let waited = self.wait(ticket, later, &mut rest);
                let Ok(Some(answer)) = timeout(UNANSWERED, waited).await else {
                    return Ok(Next::Drop);
                };
                answer
            }
        };
        let keeps = keeps && !session.is_over();
        self.answer(session.content().as_deref(), &answer, keeps)
            .await?;
        Ok(match keeps {
            true => Next::Request(rest),
            false => Next::Close,
        })
    }

    /// Begins a session, whose stream is a task of its own. None if this address has too many that are not logged in.
    fn begin(&mut self, request: Request) -> Option<(Arc<Session>, Reply)> {
        let permit = self.permit.take();
        let permit = permit.or_else(|| self.app.gate.enter(self.address))?;
        self.seat = None;
        let (sid, session, reply) = self.app.bosh.begin(request);
        let (app, watched) = (self.app.clone(), session.clone());
        drop(actix_rt::spawn(async move {
            app.metrics.bosh_sessions.inc();
            watched.watch().await;
            app.metrics.bosh_sessions.dec();
            app.bosh.forget(&sid);
        }));
        let socket = Socket::new(session.clone(), self.app.clone());
        arrival::bosh(self.app.clone(), socket, self.address, permit);
        Some((session, reply))
    }

    /// Whether the connection may carry requests of this session: as one of a few of its own, or as a stranger's.
    fn is_let_in(&mut self, session: &Arc<Session>) -> bool {
        if self.seat.as_ref().is_some_and(|seat| seat.is_of(session)) {
            return true;
        }
        self.seat = session.seat();
        if self.seat.is_some() {
            self.permit = None;
        } else if self.permit.is_none() {
            self.permit = self.app.gate.enter(self.address);
        }
        self.seat.is_some() || self.permit.is_some()
    }

    /// Waits for an answer. None: nobody is there any more to hear it, or asks for it by another connection.
    async fn wait(
        &mut self,
        ticket: Ticket,
        mut later: tokio::sync::oneshot::Receiver<Arc<[u8]>>,
        rest: &mut Vec<u8>,
    ) -> Option<Arc<[u8]>> {
        let signal = self.permit.as_ref().map(Permit::signal);
        let mut hurried = false;
        loop {
            if !rest.is_empty() && !hurried {
                // The client has asked again behind this request, and hears nothing before its answer.
                hurried = true;
                ticket.hurry();
            }
            let shed = async {
                match &signal {
                    Some(signal) => signal.notified().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                answer = &mut later => return answer.ok(),
                read = self.socket.read_buf(rest), if rest.len() < AHEAD => match read {
                    Ok(0) | Err(_) => return None,
                    Ok(_) => {}
                },
                () = shed => return None,
            }
        }
    }

    /// Says that there is no such session, or that it is over, and why.
    async fn end(&mut self, condition: Condition) -> io::Result<Next> {
        self.answer(None, &terminal(condition), false).await?;
        Ok(Next::Close)
    }

    async fn answer(&mut self, content: Option<&str>, body: &[u8], keeps: bool) -> io::Result<()> {
        let mut answer = answered(content, body.len(), keeps).into_bytes();
        answer.extend_from_slice(body);
        self.send(&answer).await
    }

    async fn say(&mut self, text: &str) -> io::Result<()> {
        self.send(text.as_bytes()).await
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = async {
            self.socket.write_all(bytes).await?;
            self.socket.flush().await
        };
        timeout(SENDING, sent).await?
    }

    /// Closes the connection so that the client hears what was said last.
    async fn close(&mut self) {
        let closed = async {
            self.socket.shutdown().await?;
            let mut ignored = vec![0; 4 * 1024];
            let mut left = IGNORED;
            while left > 0 {
                match self.socket.read(&mut ignored).await? {
                    0 => break,
                    count => left = left.saturating_sub(count),
                }
            }
            io::Result::Ok(())
        };
        // Whatever fails here, the socket closes next.
        drop(timeout(PATIENCE, closed).await);
    }
}
