//! The SASL exchange on a stream (ST-31…51).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::error::{Condition, StreamError};
use super::login::{ATTEMPTS, Login, Pending, Profile};
use super::state::State;
use super::{Input, Stream};
use crate::jid::{self, BareJid};
use crate::limit::Limits;
use crate::ns;
use crate::sasl::ht::Method;
use crate::sasl::plain::Plain;
use crate::sasl::scram::{ClientFirst, Exchange};
use crate::sasl::{self, Credentials, Digest, Failure, Mechanism};
use crate::xml::Element;

impl Stream {
    /// The account's keys, or made-up ones if there is no such account (ST-49). Without any, the login
    /// fails at once.
    pub fn credentials(&mut self, credentials: Option<Credentials>) {
        if self.state != State::Lookup {
            return;
        }
        match (std::mem::take(&mut self.login), credentials) {
            (
                Login::Scram {
                    mechanism,
                    first,
                    digest,
                    binding_input,
                    account,
                },
                Some(credentials),
            ) => {
                let upgrade = self.upgrade_for(digest, &credentials);
                let Some((keys, real)) = credentials.keys(digest) else {
                    return self.fail_login(Failure::NotAuthorized, Some(account));
                };
                let nonce = STANDARD.encode((self.entropy)());
                let offer = self.offer.fingerprint(digest);
                let (exchange, challenge) =
                    Exchange::new(&first, digest, (keys, real), &binding_input, &nonce, &offer);
                self.login = Login::Proof {
                    mechanism,
                    exchange: Box::new(exchange),
                    account,
                    upgrade,
                };
                self.challenge(Some(&challenge));
            }
            (Login::Plain { password, account }, Some(credentials)) => {
                let real = credentials.real;
                let Some((digest, keys)) = credentials.cheapest() else {
                    return self.fail_login(Failure::NotAuthorized, Some(account));
                };
                self.login = Login::Verifying { account, real };
                self.wait(
                    State::Verifying,
                    Input::VerifyPlain {
                        digest,
                        keys,
                        password,
                    },
                );
            }
            (Login::Scram { account, .. } | Login::Plain { account, .. }, None) => {
                self.fail_login(Failure::NotAuthorized, Some(account));
            }
            _ => self.fail_login(Failure::NotAuthorized, None),
        }
    }

    /// The accounts cannot be read, or this one is throttled: the peer may try again later.
    pub fn credentials_unavailable(&mut self) {
        if matches!(self.state, State::Lookup | State::Verifying) {
            self.fail_login(Failure::TemporaryAuthFailure, None);
        }
    }

    /// Whether the password of [`Input::VerifyPlain`] is the right one.
    pub fn plain_verified(&mut self, right: bool) {
        if self.state != State::Verifying {
            return;
        }
        match std::mem::take(&mut self.login) {
            Login::Verifying {
                account,
                real: true,
            } if right => self.succeed(Mechanism::Plain, account, None),
            Login::Verifying { account, .. } => {
                self.fail_login(Failure::NotAuthorized, Some(account));
            }
            _ => self.fail_login(Failure::NotAuthorized, None),
        }
    }

    /// `<auth/>`: whatever went on before is forgotten (ST-33).
    pub(super) fn begin_login(&mut self, auth: &Element) {
        if !self.begins_attempt(Profile::Sasl) {
            return;
        }
        let mechanism = auth.attr("mechanism").and_then(Mechanism::parse);
        let offered = |known: &Mechanism| self.offer.mechanisms().contains(known);
        self.mechanism = mechanism.map(Method::Password);
        let Some(mechanism) = mechanism.filter(offered) else {
            return self.fail_login(Failure::InvalidMechanism, None);
        };
        match sasl::decode(&auth.text()) {
            Ok(Some(message)) => self.first_message(mechanism, &message),
            Ok(None) => {
                self.login = Login::Invited(mechanism);
                self.challenge(None);
            }
            Err(failure) => self.fail_login(failure, None),
        }
    }

    /// `<response/>`
    pub(super) fn respond(&mut self, response: &Element) {
        let login = std::mem::take(&mut self.login);
        let message = match self.decode(response) {
            Ok(message) => message,
            Err(failure) => return self.fail_login(failure, None),
        };
        match login {
            Login::Invited(mechanism) => self.first_message(mechanism, &message),
            Login::Proof {
                mechanism,
                exchange,
                account,
                upgrade,
            } => match (exchange.verify(&message), upgrade) {
                (Ok(last), None) => self.succeed(mechanism, account, Some(&last)),
                (Ok(last), Some(upgrade)) => {
                    let pending = Pending {
                        mechanism,
                        account,
                        upgrade,
                        salt: Vec::new(),
                    };
                    self.ask_to_upgrade(pending, &last);
                }
                (Err(failure), _) => self.fail_login(failure, Some(account)),
            },
            _ => self.fail_login(Failure::MalformedRequest, None),
        }
    }

    pub(super) fn first_message(&mut self, mechanism: Mechanism, message: &[u8]) {
        let login = match mechanism.digest() {
            Some(digest) => self.first_scram(mechanism, digest, message),
            None => self.first_plain(message),
        };
        match login {
            Ok((login, account)) => {
                self.login = login;
                let username = account.local().unwrap_or_default().to_owned();
                let domain = account.domain().to_owned();
                self.wait(State::Lookup, Input::Lookup { username, domain });
            }
            Err(failure) => self.fail_login(failure, None),
        }
    }

    fn first_scram(
        &self,
        mechanism: Mechanism,
        digest: Digest,
        message: &[u8],
    ) -> Result<(Login, BareJid), Failure> {
        let first = ClientFirst::parse(message)?;
        let binding_input = first.binding_input(mechanism, &self.offer)?;
        let account = self.account_of(first.username())?;
        check_authzid(first.authzid(), &account)?;
        let login = Login::Scram {
            mechanism,
            first,
            digest,
            binding_input,
            account: account.clone(),
        };
        Ok((login, account))
    }

    fn first_plain(&self, message: &[u8]) -> Result<(Login, BareJid), Failure> {
        let plain = Plain::parse(message)?;
        let account = self.account_named(&plain.authcid)?;
        check_authzid(plain.authzid.as_deref(), &account)?;
        let login = Login::Plain {
            password: plain.password,
            account: account.clone(),
        };
        Ok((login, account))
    }

    /// The same where some clients send the whole address (ST-50).
    pub(super) fn account_named(&self, authcid: &str) -> Result<BareJid, Failure> {
        match BareJid::new(authcid) {
            Ok(account) if account.local().is_some() && account.domain() == self.domain => {
                self.as_claimed(account)
            }
            _ => self.account_of(authcid),
        }
    }

    /// The account of that name. A name that cannot be one is as unknown as any other (ST-37).
    fn account_of(&self, username: &str) -> Result<BareJid, Failure> {
        let local = jid::prepare_local(username).map_err(|_| Failure::NotAuthorized)?;
        let account = BareJid::from_parts(Some(&local), &self.domain);
        self.as_claimed(account.map_err(|_| Failure::NotAuthorized)?)
    }

    /// Who has said who it is logs in as nobody else (SA-4).
    fn as_claimed(&self, account: BareJid) -> Result<BareJid, Failure> {
        let claimed = self.from.as_ref().filter(|_| self.is_sasl2());
        match claimed {
            Some(claimed) if *claimed != account => Err(Failure::InvalidAuthzid),
            _ => Ok(account),
        }
    }

    pub(super) fn is_sasl2(&self) -> bool {
        self.profile == Some(Profile::Sasl2)
    }

    pub(super) fn succeed(&mut self, mechanism: Mechanism, account: BareJid, last: Option<&str>) {
        let method = Method::Password(mechanism);
        if self.is_sasl2() {
            return self.authenticated(method, account, last.map(str::as_bytes));
        }
        let success = Element::new("success", ns::SASL);
        let success = match last {
            Some(last) => success.with_text(&sasl::encode(last.as_bytes())),
            None => success,
        };
        self.write(&success);
        self.restart(Limits::after_auth().with_stanza_bytes(self.settings.max_stanza_bytes));
        self.account = Some(account.clone());
        self.state = State::OpenAuthenticated;
        self.inputs.push_back(Input::Authenticated {
            account,
            mechanism: method,
        });
    }

    /// A message that ends a login. One that was never begun costs an attempt as well.
    pub(super) fn break_login(&mut self, failure: Failure) {
        if self.state == State::Secured {
            self.attempts += 1;
        }
        self.fail_login(failure, None);
    }

    /// The login failed; another one may be tried, but not too often (ST-34).
    pub(super) fn fail_login(&mut self, failure: Failure, account: Option<BareJid>) {
        self.login = Login::None;
        self.inline = None;
        self.state = State::Secured;
        self.write_failure(failure);
        self.inputs.push_back(Input::AuthFailed {
            account,
            mechanism: self.mechanism,
            failure,
        });
        if self.attempts >= ATTEMPTS {
            self.fail(StreamError::new(Condition::PolicyViolation));
        }
    }

    pub(super) fn write_failure(&mut self, failure: Failure) {
        let condition = Element::new(failure.name(), ns::SASL);
        self.write(&Element::new("failure", self.sasl_ns()).with_child(condition));
    }

    fn sasl_ns(&self) -> &'static str {
        match self.is_sasl2() {
            true => ns::SASL2,
            false => ns::SASL,
        }
    }

    pub(super) fn challenge(&mut self, message: Option<&str>) {
        let challenge = Element::new("challenge", self.sasl_ns());
        let challenge = match message {
            Some(message) => challenge.with_text(&sasl::encode(message.as_bytes())),
            None => challenge,
        };
        self.write(&challenge);
        self.state = match self.is_sasl2() {
            true => State::Proving,
            false => State::Challenged,
        };
    }
}

/// Nobody acts for another account (ST-36).
fn check_authzid(authzid: Option<&str>, account: &BareJid) -> Result<(), Failure> {
    match authzid.map(BareJid::new) {
        None => Ok(()),
        Some(Ok(identity)) if identity == *account => Ok(()),
        Some(_) => Err(Failure::InvalidAuthzid),
    }
}
