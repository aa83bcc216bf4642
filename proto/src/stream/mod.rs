//! [`Stream`]: the server's side of a client's stream (RFC 6120, XEP-0198).
//!
//! Bytes go in by [`Stream::feed`], what they mean comes out of [`Stream::poll`], and bytes to send
//! gather in [`Stream::output`]. All that a peer may do in which state is one table, in [`state`].
//!
//! # The driver's part
//!
//! 1. After each `feed`, and after each answer, call `poll` until it returns `None`, then send the output.
//! 2. While [`Stream::is_waiting`], do not read from the socket: an answer is due. What the peer sent
//!    already is kept, within a bound.
//! 3. Once stanzas flow, write them into the output yourself, behind what is already there.
//!
//! # Invariants
//!
//! 1. After [`Input::Closed`] or [`Input::Failed`], `poll` returns `None` for ever.
//! 2. The domain and the account never change once the peer is authenticated (T-10).
//! 3. No stanza comes out before [`Stream::bound`], [`Stream::resumed`] or [`Stream::opened`] was called (T-21).

pub mod bosh;
mod error;
mod features;
mod framing;
mod header;
mod inline;
mod login;
mod registration;
mod sasl;
mod sasl2;
mod session;
mod settings;
pub mod state;
mod task;
#[cfg(test)]
mod tests;
mod upgrade;
mod written;

use std::collections::VecDeque;
use std::sync::Arc;

use zeroize::Zeroizing;

use self::login::{Login, Profile};
pub use self::state::State;
use self::state::{Action, Event};
use crate::jid::BareJid;
use crate::limit::Limits;
use crate::ns;
use crate::payload::register::Request;
use crate::sasl::ht::{Method, TokenMechanism};
use crate::sasl::{Digest, Failure, Offer, ScramKeys};
use crate::stanza::{Header, Packet, Stanza};
use crate::xml::{Element, Reader, Token};

pub use error::{Condition, StreamError};
pub use framing::Framing;
pub use inline::{Agent, Bind2, GivenToken, Inline, Opened, Resume, Session};
pub use settings::{Security, Settings, TlsInfo};
pub use upgrade::Upgrade;

/// How often a peer may act out of order before its stream ends (SM-9, SM-29).
const MISUSES: u8 = 3;
/// How many bytes are kept beside one stanza while the driver owes an answer.
const WAITING_BYTES: usize = 64 * 1024;
/// The end of a stream.
const END: &[u8] = b"</stream:stream>";

/// What came from the peer, for the driver to act upon.
#[derive(Debug)]
pub enum Input {
    /// `<proceed/>` is in the output. Send it, check that [`Stream::has_rest`] is false (T-19), do the
    /// handshake, call [`Stream::tls_established`].
    StartTls,
    /// A stranger asks for an account. Answer with [`Stream::registration`].
    Register(Request),
    /// A login needs keys. Answer with [`Stream::credentials`] or [`Stream::credentials_unavailable`].
    Lookup {
        /// The prepared localpart.
        username: String,
        /// The domain of the stream.
        domain: String,
    },
    /// A password waits for [`crate::sasl::plain::verify`], which is slow. Answer with
    /// [`Stream::plain_verified`].
    VerifyPlain {
        /// The hash of the keys.
        digest: Digest,
        /// What the password must match.
        keys: ScramKeys,
        /// As received.
        password: Zeroizing<String>,
    },
    /// A login needs the tokens of one client. Answer with [`Stream::tokens`] or
    /// [`Stream::credentials_unavailable`].
    LookupTokens {
        /// Whose.
        account: BareJid,
        /// The client.
        agent: Agent,
        /// What they are for.
        mechanism: TokenMechanism,
    },
    /// The peer is authenticated; `<success/>` is in the output, or [`Input::Open`] follows.
    Authenticated {
        /// As whom.
        account: BareJid,
        /// The mechanism.
        mechanism: Method,
    },
    /// The peer is authenticated by SASL2 and asks for all this. Answer with [`Stream::opened`] or
    /// [`Stream::open_failed`]: only then the peer hears of either.
    Open(Inline),
    /// A login failed; `<failure/>` is in the output.
    AuthFailed {
        /// As whom it was tried, if that much was understood.
        account: Option<BareJid>,
        /// How, if that much was understood.
        mechanism: Option<Method>,
        /// The reason.
        failure: Failure,
    },
    /// A resource is asked for. Answer with [`Stream::bound`] or [`Stream::bind_failed`].
    Bind {
        /// The id of the request.
        id: Box<str>,
        /// The prepared wish; `None`: generate one.
        resource: Option<String>,
    },
    /// An old session is asked for. Answer with [`Stream::resumed`] or [`Stream::resume_failed`].
    Resume {
        /// The SM-ID.
        previd: String,
        /// How many stanzas the client handled.
        h: u32,
    },
    /// Stream Management shall begin; every stanza from here on counts (SM-16). Answer with
    /// [`Stream::enabled`] or [`Stream::enable_failed`]; meanwhile stanzas go on flowing.
    Enable {
        /// Whether the session shall be resumable.
        resume: bool,
        /// The wished window in seconds.
        max: Option<u32>,
    },
    /// A stanza. Its `from` is what the client wrote: overwrite it (ST-67).
    Stanza(Stanza),
    /// A stanza that was dealt with here. It counts as handled (SM-19).
    Invalid {
        /// The answer to send, if there is one. It bears no `to`.
        reply: Option<Packet>,
    },
    /// `<r/>`: answer with the count of handled stanzas.
    AckRequest,
    /// `<a/>`: the peer handled so many.
    Ack(u32),
    /// Whether someone looks at the client (XEP-0352).
    Csi(bool),
    /// The peer ended the stream; our own end is in the output. A last `<a/>` (SM-30) goes before
    /// what [`Stream::take_output`] then returns.
    Closed,
    /// The stream failed. The error and our end are in the output: send it and close.
    Failed(StreamError),
}

/// The server's side of one client connection.
pub struct Stream {
    settings: Arc<Settings>,
    entropy: Box<dyn FnMut() -> [u8; 16] + Send>,
    state: State,
    reader: Reader,
    output: Vec<u8>,
    inputs: VecDeque<Input>,
    offer: Offer,
    login: Login,
    /// Of the login that goes on, or of the last one.
    mechanism: Option<Method>,
    profile: Option<Profile>,
    /// What the login that goes on asks for besides.
    inline: Option<Box<Inline>>,
    attempts: u8,
    misuses: u8,
    refused_binds: u8,
    registrations: u8,
    /// The request about an account that waits for its answer.
    asked: Option<Box<Header>>,
    domain: String,
    lang: Option<Box<str>>,
    account: Option<BareJid>,
    /// Who the peer says that it is.
    from: Option<BareJid>,
}

impl Stream {
    /// A connection that was just made. `entropy` gives 128 fresh random bits whenever it is called:
    /// stream ids and nonces are made of them.
    pub fn new(
        settings: Arc<Settings>,
        security: Security,
        entropy: Box<dyn FnMut() -> [u8; 16] + Send>,
    ) -> Self {
        let (state, offer) = match security {
            Security::Plain => (State::OpenPlain, Offer::default()),
            Security::Tls(tls) => (State::OpenTls, tls.offer(&settings.mechanisms)),
        };
        let domain = settings.domains.first().cloned().unwrap_or_default();
        Self {
            settings,
            entropy,
            state,
            reader: Reader::new(Limits::before_auth()),
            output: Vec::new(),
            // There is hardly ever a second one.
            inputs: VecDeque::with_capacity(1),
            offer,
            login: Login::None,
            mechanism: None,
            profile: None,
            inline: None,
            attempts: 0,
            misuses: 0,
            refused_binds: 0,
            registrations: 0,
            asked: None,
            domain,
            lang: None,
            account: None,
            from: None,
        }
    }

    /// Takes bytes from the peer.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.state == State::Closed {
            return;
        }
        let kept = self.reader.rest_len() + bytes.len();
        if self.state.is_waiting() && kept > self.settings.max_stanza_bytes + WAITING_BYTES {
            return self.fail(StreamError::new(Condition::PolicyViolation));
        }
        self.reader.feed(bytes);
    }

    /// The next thing that the driver must know or do.
    pub fn poll(&mut self) -> Option<Input> {
        loop {
            if let Some(input) = self.inputs.pop_front() {
                return Some(input);
            }
            if self.state == State::Closed || self.state.is_waiting() {
                return None;
            }
            match self.reader.next() {
                Ok(Some(token)) => self.take(token),
                Ok(None) => return None,
                Err(error) => self.fail(error.into()),
            }
        }
    }

    /// Bytes to send.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Takes the bytes to send.
    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// Where the stream stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether the driver owes an answer.
    pub fn is_waiting(&self) -> bool {
        self.state.is_waiting()
    }

    /// Whether bytes came that were not read yet.
    pub fn has_rest(&self) -> bool {
        self.reader.has_rest()
    }

    /// The domain that the peer connected to; the default one until it said so.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The authenticated account.
    pub fn account(&self) -> Option<&BareJid> {
        self.account.as_ref()
    }

    /// The handshake is done: the peer begins anew (ST-11).
    pub fn tls_established(&mut self, tls: TlsInfo) {
        if self.state != State::Handshake {
            return;
        }
        if self.reader.has_rest() {
            // Someone added to what the peer sent in the clear (ST-12, T-19).
            return self.fail(StreamError::new(Condition::PolicyViolation));
        }
        self.offer = tls.offer(&self.settings.mechanisms);
        self.restart(Limits::before_auth());
        self.state = State::OpenTls;
    }

    /// Ends the stream with an error. [`Input::Failed`] follows.
    pub fn fail(&mut self, error: StreamError) {
        match self.state {
            State::Closed => return,
            // In the middle of a handshake, or after our end, nothing can be said any more.
            State::Handshake | State::Closing => {}
            state => {
                if state.awaits_header() {
                    self.write_header(None);
                }
                error.write(&mut self.output);
                self.output.extend_from_slice(END);
            }
        }
        self.state = State::Closed;
        self.inputs.push_back(Input::Failed(error));
    }

    /// Ends the stream without an error. [`Input::Closed`] follows once the peer has ended it as well.
    pub fn close(&mut self) {
        match self.state {
            State::Closed | State::Closing => return,
            State::Handshake => self.state = State::Closed,
            state => {
                if state.awaits_header() {
                    self.write_header(None);
                }
                self.output.extend_from_slice(END);
                self.state = if state.is_live() {
                    State::Closing
                } else {
                    State::Closed
                };
            }
        }
        if self.state == State::Closed {
            self.inputs.push_back(Input::Closed);
        }
    }

    fn take(&mut self, token: Token) {
        match token {
            Token::Open(header) => self.act(Event::Header, header),
            Token::Element(element) => self.act(Event::of(&element), element),
            Token::Close => self.end(),
            // Not even a space is legal in the middle of such a login (SA-5).
            Token::Whitespace if self.state.is_in_login() => {
                self.fail(StreamError::new(Condition::PolicyViolation));
            }
            Token::Whitespace => {}
        }
    }

    /// Carries out what the table says.
    fn act(&mut self, event: Event, element: Element) {
        match state::action(self.state, event) {
            Action::Open => self.open(&element),
            Action::StartTls => self.start_tls(),
            Action::RefuseTls => self.refuse_tls(),
            Action::Login => self.begin_login(&element),
            Action::Authenticate => self.authenticate(&element),
            Action::Respond => self.respond(&element),
            Action::BeginTask => self.begin_task(&element),
            Action::EndTask => self.end_task(&element),
            Action::FailLogin(failure) => self.break_login(failure),
            Action::RefuseLogin(failure) => {
                self.write_failure(failure);
                self.misuse();
            }
            Action::Bind => self.bind(element),
            Action::Rebind => self.rebind(element),
            Action::Session => self.session(element),
            Action::Register => self.register(element),
            Action::Stanza => self.stanza(element),
            Action::Enable => self.enable(&element),
            Action::Resume => self.resume(&element),
            Action::RefuseSm => self.refuse_sm(),
            Action::AckRequest => self.inputs.push_back(Input::AckRequest),
            Action::Ack => self.ack(&element),
            Action::Csi => self
                .inputs
                .push_back(Input::Csi(element.local() == "active")),
            Action::Misuse => self.misuse(),
            Action::Close => self.end(),
            Action::Ignore => {}
            Action::Fail(condition) => self.fail(StreamError::new(condition)),
        }
    }

    /// The peer ended the stream.
    fn end(&mut self) {
        if self.state != State::Closing {
            self.output.extend_from_slice(END);
        }
        self.state = State::Closed;
        self.inputs.push_back(Input::Closed);
    }

    fn start_tls(&mut self) {
        if self.reader.has_rest() {
            // Whoever waits for `<proceed/>` has nothing to say yet (ST-12, T-19).
            return self.fail(StreamError::new(Condition::PolicyViolation));
        }
        self.write(&Element::new("proceed", ns::TLS));
        self.wait(State::Handshake, Input::StartTls);
    }

    fn refuse_tls(&mut self) {
        self.write(&Element::new("failure", ns::TLS));
        self.output.extend_from_slice(END);
        self.state = State::Closed;
        self.inputs.push_back(Input::Closed);
    }

    /// Counts what is out of order but does no harm by itself.
    fn misuse(&mut self) {
        self.misuses += 1;
        if self.misuses > MISUSES {
            self.fail(StreamError::new(Condition::PolicyViolation));
        }
    }

    /// Waits for the driver.
    fn wait(&mut self, state: State, input: Input) {
        self.state = state;
        self.inputs.push_back(input);
    }

    /// Forgets all that was read, but not what came after it (ST-11).
    fn restart(&mut self, limits: Limits) {
        self.reader.reset();
        self.reader.set_limits(limits);
    }

    fn write(&mut self, element: &Element) {
        element.write_to(ns::CLIENT, &mut self.output);
    }
}

impl std::fmt::Debug for Stream {
    /// No keys and no bytes of the peer reach a log (T-73).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = f.debug_struct("Stream");
        debug.field("state", &self.state).finish_non_exhaustive()
    }
}
