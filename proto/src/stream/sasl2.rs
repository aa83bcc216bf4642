//! The SASL2 exchange on a stream (XEP-0388), with tokens (XEP-0484).
//!
//! The mechanisms and the limits are those of [`super::sasl`]; here is what differs. The stream is not begun anew after
//! a login, and the answer to the last message waits for all that the client has asked for along with it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::error::{Condition, StreamError};
use super::inline::{Inline, Opened, Session};
use super::login::{ATTEMPTS, Authenticated, Login, Profile};
use super::state::State;
use super::{Input, Stream, features};
use crate::jid::{BareJid, Jid};
use crate::limit::Limits;
use crate::ns;
use crate::sasl::ht::{self, Initiator, Method, Token, TokenMechanism};
use crate::sasl::{Failure, Mechanism};
use crate::xml::Element;

impl Stream {
    /// The tokens of a client, newest first; none if it has none, or if there is no such account.
    pub fn tokens(&mut self, tokens: &[Token]) {
        if self.state != State::Lookup {
            return;
        }
        let login = std::mem::take(&mut self.login);
        let Login::Token {
            mechanism,
            initiator,
            account,
        } = login
        else {
            return self.fail_login(Failure::NotAuthorized, None);
        };
        let binding = mechanism.binding(&self.offer).unwrap_or_default();
        let found = initiator.find(tokens, binding);
        let Some((index, token)) = found.and_then(|at| Some((at, tokens.get(at)?))) else {
            return self.fail_login(Failure::NotAuthorized, Some(account));
        };
        if token.is_expired {
            return self.fail_login(Failure::CredentialsExpired, Some(account));
        }
        let last = ht::responder(&token.secret, binding);
        let method = Method::Token { mechanism, index };
        self.authenticated(method, account, Some(&last));
    }

    /// All that was asked for along with the login is done, or will not be.
    pub fn opened(&mut self, mut opened: Opened) {
        if self.state != State::Opening {
            return;
        }
        let Login::Opening(done) = std::mem::take(&mut self.login) else {
            return self.fail(StreamError::new(Condition::InternalServerError));
        };
        opened.failed = opened.failed.or(done.failed);
        self.account = Some(done.account.clone());
        self.state = opened.state();
        let is_resumed = matches!(opened.session, Session::Resumed { .. });
        let is_bound = matches!(opened.session, Session::Bound { .. });
        let success = opened.success(&done.account, done.last);
        self.write(&success);
        let limits = Limits::after_auth().with_stanza_bytes(self.settings.max_stanza_bytes);
        self.reader.set_limits(limits);
        // A resumed session is in full flow again at once (SM-69).
        if !is_resumed {
            features::write(self.state, &self.settings, &self.offer, &mut self.output);
        }
        if let Some(active) = done.active.filter(|_| is_bound) {
            self.inputs.push_back(Input::Csi(active));
        }
    }

    /// Nothing can be opened at the moment: the login counts as failed, and nothing has happened (BI-6).
    pub fn open_failed(&mut self, failure: Failure) {
        if self.state != State::Opening {
            return;
        }
        let account = match std::mem::take(&mut self.login) {
            Login::Opening(done) => Some(done.account),
            _ => None,
        };
        self.fail_login(failure, account);
    }

    /// `<authenticate/>`
    pub(super) fn authenticate(&mut self, authenticate: &Element) {
        if !self.begins_attempt(Profile::Sasl2) {
            return;
        }
        // A client that says who it is must mean an account of the domain that it speaks to (SA-4).
        if let Some(from) = &self.from
            && from.domain() != self.domain
        {
            return self.fail(StreamError::new(Condition::InvalidFrom));
        }
        let inline = Inline::parse(authenticate, &self.offer, &self.settings);
        let has_fast = authenticate.child("fast", ns::FAST).is_some();
        self.inline = Some(Box::new(inline));
        let name = authenticate.attr("mechanism").unwrap_or_default();
        let message = authenticate.child("initial-response", ns::SASL2);
        let message = message.map(|message| STANDARD.decode(message.text()));
        let message = match message.transpose() {
            Ok(message) => message,
            Err(_) => return self.fail_login(Failure::IncorrectEncoding, None),
        };
        if let Some(mechanism) = TokenMechanism::parse(name) {
            self.mechanism = Some(Method::Token {
                mechanism,
                index: 0,
            });
            return self.first_token(mechanism, message, has_fast);
        }
        let mechanism = Mechanism::parse(name);
        self.mechanism = mechanism.map(Method::Password);
        let offered = |known: &Mechanism| self.offer.mechanisms().contains(known);
        match (mechanism.filter(offered), message) {
            (None, _) => self.fail_login(Failure::InvalidMechanism, None),
            (Some(mechanism), Some(message)) => self.first_message(mechanism, &message),
            (Some(mechanism), None) => {
                self.login = Login::Invited(mechanism);
                self.challenge(None);
            }
        }
    }

    /// A login with a token has one message, and says whose client it is and which (FA-3).
    fn first_token(&mut self, mechanism: TokenMechanism, message: Option<Vec<u8>>, has_fast: bool) {
        let is_offered = self.settings.tokens && mechanism.binding(&self.offer).is_some();
        if !is_offered {
            return self.fail_login(Failure::InvalidMechanism, None);
        }
        match self.judge_token(message, has_fast) {
            Ok((initiator, account)) => {
                let agent = self.inline.as_ref().and_then(|it| it.agent.clone());
                let Some(agent) = agent else {
                    return self.fail_login(Failure::MalformedRequest, None);
                };
                self.login = Login::Token {
                    mechanism,
                    initiator,
                    account: account.clone(),
                };
                let lookup = Input::LookupTokens {
                    account,
                    agent,
                    mechanism,
                };
                self.wait(State::Lookup, lookup);
            }
            Err(failure) => self.fail_login(failure, None),
        }
    }

    fn judge_token(
        &self,
        message: Option<Vec<u8>>,
        has_fast: bool,
    ) -> Result<(Initiator, BareJid), Failure> {
        let is_whole = has_fast && self.from.is_some();
        let message = message.filter(|_| is_whole);
        let initiator = Initiator::parse(&message.ok_or(Failure::MalformedRequest)?)?;
        let account = self.account_named(&initiator.authcid)?;
        Ok((initiator, account))
    }

    /// The client is who it says. What it asked for comes next, and only then it hears of both.
    pub(super) fn authenticated(&mut self, method: Method, account: BareJid, last: Option<&[u8]>) {
        let inline = self.inline.take().map(|inline| *inline);
        let inline = inline.unwrap_or_default();
        self.login = Login::Opening(Box::new(Authenticated {
            account: account.clone(),
            last: last.map(|last| STANDARD.encode(last)),
            failed: inline.failed,
            active: inline.bind.as_ref().and_then(|bind| bind.active),
        }));
        self.inputs.push_back(Input::Authenticated {
            account,
            mechanism: method,
        });
        self.wait(State::Opening, Input::Open(inline));
    }

    /// The message of `<response/>`. There, nothing is the empty message (SA-3).
    pub(super) fn decode(&self, response: &Element) -> Result<Vec<u8>, Failure> {
        match self.profile {
            Some(Profile::Sasl2) => STANDARD
                .decode(response.text())
                .map_err(|_| Failure::IncorrectEncoding),
            _ => crate::sasl::decode(&response.text()).map(Option::unwrap_or_default),
        }
    }

    /// Counts a login. False, if that ends the stream: both forms in turns make no sense (SA-1).
    pub(super) fn begins_attempt(&mut self, profile: Profile) -> bool {
        self.login = Login::None;
        self.inline = None;
        self.attempts += 1;
        let other = self.profile.is_some_and(|known| known != profile);
        self.profile = Some(profile);
        if other || self.attempts > ATTEMPTS {
            self.fail(StreamError::new(Condition::PolicyViolation));
            return false;
        }
        true
    }

    /// Who the client says that it is in its header, if that is an account (SA-4).
    pub(super) fn note_identity(&mut self, from: Option<Jid>) {
        self.from = from.map(|from| from.bare());
    }
}
