//! From a connection with TLS to a bound or resumed session.
//!
//! Deadlines run from the moment of acceptance, not from the last byte: a client that dribbles is out
//! of time all the same (T-11). Nothing is interrupted while a proposal is under way, so that a session
//! never belongs to a connection that has given up.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr};
use futures_channel::mpsc;
use proto::BareJid;
use proto::sasl::ht::{Method, TokenMechanism};
use proto::sasl::{Credentials, Failure, ScramKeys, plain};
use proto::stream::{Agent, Condition, Input, Stream, StreamError};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};

use super::actor::SessionActor;
use super::arrival::{Entered, Secured, ended_early};
use super::entered::Opening;
use super::journal::{self, Ending};
use super::pump::{Pump, read_some};
use crate::app::App;
use crate::auth::{Known, derive_sha512, revoke};
use crate::clock;
use crate::listen::gate::Permit;
use crate::metrics::{LoginResult, Throttled};
use crate::storage::{Invitation, StorageError};

const AUTHENTICATED: Duration = Duration::from_secs(30);
const BOUND: Duration = Duration::from_secs(60);
/// How long a client may take to hear how its stream ends.
pub(super) const FAREWELL: Duration = Duration::from_secs(5);
/// Whoever has to make room for others gets no more time to hear it.
const SHED: Duration = Duration::from_secs(1);

/// What a client hears that has to make room.
const NO_ROOM: &str = "others need the place, log in faster";

/// A stream on its way to a session.
pub(super) struct Negotiation<S> {
    pub(super) app: Arc<App>,
    pub(super) machine: Stream,
    pub(super) address: IpAddr,
    pub(super) account: Option<BareJid>,
    /// What the client was checked against last.
    pub(super) credentials: Option<(BareJid, Credentials)>,
    /// The tokens that it may have used last.
    pub(super) tokens: Known,
    /// Which of them it used.
    pub(super) used: Option<usize>,
    /// The invitation that it has shown, for an account that it has not made yet.
    pub(super) shown: Option<Invitation>,
    socket: S,
    deadline: Instant,
    accepted: Instant,
    permit: Permit,
    /// How long the client may take to hear how its stream ends.
    patience: Duration,
}

impl<S> Negotiation<S> {
    /// Over a connection that has TLS.
    pub(super) fn new(app: Arc<App>, secured: Secured<S>, entered: Entered) -> Self {
        let Secured { socket, machine } = secured;
        let Entered {
            address,
            accepted,
            permit,
        } = entered;
        Self {
            app,
            machine,
            address,
            account: None,
            credentials: None,
            tokens: Known::default(),
            used: None,
            shown: None,
            socket,
            deadline: accepted + AUTHENTICATED,
            accepted,
            permit,
            patience: FAREWELL,
        }
    }
}

/// The next input; `None` if the peer is gone. Output is sent before anything is awaited.
pub(super) async fn next<S>(socket: &mut S, machine: &mut Stream) -> Option<Input>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        if let Some(input) = machine.poll() {
            return Some(input);
        }
        let output = machine.take_output();
        if !output.is_empty() {
            socket.write_all(&output).await.ok()?;
            socket.flush().await.ok()?;
        }
        if read_some(socket, machine).await.ok()? == 0 {
            return None;
        }
    }
}

/// Sends what is left to say and closes.
pub(super) async fn farewell<S>(socket: &mut S, machine: &mut Stream, patience: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let output = machine.take_output();
    let last = async {
        socket.write_all(&output).await?;
        socket.shutdown().await?;
        let mut rest = [0; 1024];
        while tokio::io::AsyncReadExt::read(socket, &mut rest).await? > 0 {}
        std::io::Result::Ok(())
    };
    // Whatever fails here, the socket closes next.
    drop(timeout(patience, last).await);
}

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Negotiation<S> {
    /// Leads the stream to its session, which has its actor then. The pump is still to be run.
    pub(super) async fn run(mut self) -> Option<Pump<S>> {
        let opening = match self.negotiate().await {
            Ok(opening) => opening,
            Err(ending) => {
                ended_early(&self.app, self.account.as_ref(), self.address, &ending);
                farewell(&mut self.socket, &mut self.machine, self.patience).await;
                return None;
            }
        };
        let Self {
            app,
            machine,
            mut socket,
            permit,
            credentials,
            ..
        } = self;
        drop(permit);
        if let Some((_, checked)) = credentials {
            let (session, epoch) = (opening.session.session.clone(), opening.session.epoch);
            tokio::spawn(revoke::confirm(app.clone(), session, epoch, checked));
        }
        let mut machine = machine;
        // `<resumed/>` or the result of binding goes out before anything that the actor writes.
        let output = machine.take_output();
        let (orders, to_pump) = mpsc::unbounded();
        let (limits, metrics) = (app.live.get().limits.clone(), app.metrics.clone());
        let actor: Addr<SessionActor> = SessionActor::new(app, opening, orders).start();
        // An error shows itself to the pump again.
        drop(socket.write_all(&output).await);
        drop(socket.flush().await);
        Some(Pump::new(socket, machine, actor, to_pump, &limits, metrics))
    }

    async fn negotiate(&mut self) -> Result<Opening, Ending> {
        loop {
            let signal = self.permit.signal();
            let input = next(&mut self.socket, &mut self.machine);
            let input = tokio::select! {
                input = timeout_at(self.deadline, input) => input,
                () = signal.notified() => {
                    let error = StreamError::new(Condition::ResourceConstraint);
                    self.machine.fail(error.with_text(NO_ROOM));
                    self.patience = SHED;
                    return Err(Ending::Shed);
                }
            };
            match input {
                Ok(Some(Input::Bind { id, resource })) => {
                    if let Some(opening) = self.bind(&id, resource).await {
                        return Ok(opening);
                    }
                }
                Ok(Some(Input::Resume { previd, h })) => {
                    if let Some(opening) = self.resume(previd, h).await {
                        return Ok(opening);
                    }
                }
                Ok(Some(Input::Open(inline))) => {
                    if let Some(opening) = self.open(inline).await {
                        return Ok(opening);
                    }
                }
                Ok(None) => return Err(Ending::Lost),
                Ok(Some(Input::Closed)) => return Err(Ending::Closed),
                Ok(Some(Input::Failed(error))) => return Err(Ending::Failed { error }),
                Ok(Some(Input::Register(request))) => self.register(request).await,
                Ok(Some(input)) => self.log_in(input).await,
                Err(_) => {
                    self.machine
                        .fail(StreamError::new(Condition::ConnectionTimeout));
                    return Err(Ending::Late);
                }
            }
        }
    }

    /// What comes before authentication.
    async fn log_in(&mut self, input: Input) {
        match input {
            Input::Lookup { username, domain } => self.look_up(&username, &domain).await,
            Input::LookupTokens {
                account,
                agent,
                mechanism,
            } => self.look_up_tokens(account, &agent, mechanism).await,
            Input::VerifyPlain {
                digest,
                keys,
                password,
            } => {
                // Bounded, because each of them costs a core for milliseconds (T-26).
                let permit = self.app.hashing.acquire().await;
                let lacks = self.lacks_sha512();
                let verify = move || {
                    let right = plain::verify(digest, &keys, &password);
                    let new = (right && lacks).then(|| derive_sha512(&password));
                    (right, new.flatten())
                };
                let verified = tokio::task::spawn_blocking(verify).await;
                let (right, new) = verified.unwrap_or_default();
                drop(permit);
                if let Some(new) = new {
                    self.add_sha512(new).await;
                }
                self.machine.plain_verified(right);
            }
            Input::Authenticated { account, mechanism } => {
                self.used = match mechanism {
                    Method::Password(_) => None,
                    Method::Token { index, .. } => Some(index),
                };
                self.app.metrics.logins.inc(LoginResult::Ok);
                journal::logged_in(&account, self.address, mechanism);
                self.deadline = self.accepted + BOUND;
                self.account = Some(account);
            }
            Input::AuthFailed {
                account,
                mechanism,
                failure,
            } => {
                let account = account.as_ref();
                // Why it could not be decided has been told where that was found out.
                if failure != Failure::TemporaryAuthFailure {
                    let (journal, reason) = (&self.app.journal, failure.name());
                    journal.login_failed(account, self.address, mechanism, reason);
                }
                if failure == Failure::NotAuthorized {
                    self.app.metrics.logins.inc(LoginResult::Failed);
                    let logins = &self.app.failures.logins;
                    logins.failed(account, Some(self.address), clock::instant());
                }
            }
            _ => {}
        }
    }

    async fn look_up(&mut self, username: &str, domain: &str) {
        let Ok(account) = BareJid::new(&format!("{username}@{domain}")) else {
            return self.machine.credentials(None);
        };
        if !self.may_try(&account).await {
            return self.machine.credentials_unavailable();
        }
        match self.app.edge.accounts.credentials(username, domain).await {
            Ok(credentials) => {
                self.credentials = Some((account, credentials.clone()));
                self.machine.credentials(Some(credentials));
            }
            Err(error) => self.cannot_look_up(&account, &error),
        }
    }

    async fn look_up_tokens(&mut self, account: BareJid, agent: &Agent, mechanism: TokenMechanism) {
        if !self.may_try(&account).await {
            return self.machine.credentials_unavailable();
        }
        let edge = &self.app.edge;
        let local = account.local().unwrap_or_default();
        let credentials = edge.accounts.credentials(local, account.domain()).await;
        // It is asked for in any case, so that the time does not tell whether there is such an account.
        let found = self.app.tokens.find(&account, agent, mechanism).await;
        match (credentials, found) {
            (Ok(credentials), Ok((known, mut tokens))) => {
                if !credentials.real {
                    tokens.clear();
                }
                self.tokens = known;
                self.credentials = Some((account, credentials));
                self.machine.tokens(&tokens);
            }
            (Err(error), _) | (_, Err(error)) => self.cannot_look_up(&account, &error),
        }
    }

    fn cannot_look_up(&mut self, account: &BareJid, error: &StorageError) {
        let reason = format!("the account cannot be looked up: {error}");
        let journal = &self.app.journal;
        journal.login_failed(Some(account), self.address, None, &reason);
        self.app.metrics.logins.inc(LoginResult::Unavailable);
        self.machine.credentials_unavailable();
    }

    /// Whether the account may be tried from here now; waits as long as earlier failures make it (T-26).
    async fn may_try(&self, account: &BareJid) -> bool {
        let address = Some(self.address);
        let Some(delay) = self
            .app
            .failures
            .logins
            .check(account, address, clock::instant())
        else {
            self.app.metrics.logins.inc(LoginResult::Throttled);
            self.app.metrics.throttled.inc(Throttled::Login);
            let journal = &self.app.journal;
            journal.login_failed(Some(account), self.address, None, "too many failures");
            return false;
        };
        tokio::time::sleep(delay).await;
        true
    }

    /// The account is older than SCRAM-SHA-512.
    fn lacks_sha512(&self) -> bool {
        let checked = self.credentials.as_ref().map(|(_, checked)| checked);
        checked.is_some_and(|it| it.real && it.sha512.is_none() && strongest(it).is_some())
    }

    /// Keeps what only somebody can make who knows the password.
    pub(super) async fn add_sha512(&self, new: ScramKeys) {
        if let Some((account, checked)) = &self.credentials
            && let Some(known) = strongest(checked)
        {
            let added = self.app.edge.storage.add_sha512_keys(account, known, new);
            if let Err(error) = added.await {
                tracing::debug!(%account, %error, "keys for SCRAM-SHA-512 are not kept");
            }
        }
    }
}

/// The strongest keys of an account that is older than SCRAM-SHA-512.
fn strongest(account: &Credentials) -> Option<&ScramKeys> {
    account.sha256.as_ref().or(account.sha1.as_ref())
}
