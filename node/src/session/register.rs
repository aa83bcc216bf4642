//! A stranger who wants an account, before there is a login (XEP-0077, XEP-0445).

use proto::Element;
use proto::payload::register::{self, Request};
use proto::stanza::error::{Condition, StanzaError};
use tokio::io::{AsyncRead, AsyncWrite};

use super::negotiate::Negotiation;
use crate::auth::invite;
use crate::auth::registration::{self, Applicant, Refusal};
use crate::clock;
use crate::config::Registration;
use crate::metrics::{RegistrationResult, Throttled};

const OPEN: &str = "Choose a name and a password.";
const INVITED: &str = "Choose a name and a password. An invitation is needed.";

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Negotiation<S> {
    /// Answers a request about an account that is to be made.
    pub(super) async fn register(&mut self, request: Request) {
        let result = match request {
            Request::Fields => Ok(Some(self.fields())),
            Request::Preauth(token) => self.show(token.reveal()).await.map(|()| None),
            Request::Account { username, password } => {
                let domain = self.machine.domain().to_owned();
                let applicant = Applicant {
                    domain: &domain,
                    username: &username,
                    password,
                    address: self.address,
                    shown: self.shown.as_ref(),
                };
                let registered = registration::register(&self.app, applicant).await;
                match registered {
                    Ok(account) => {
                        self.app.metrics.registrations.inc(RegistrationResult::Made);
                        self.shown = None;
                        tracing::info!(%account, address = %self.address, "registered");
                        Ok(None)
                    }
                    Err(refusal) => Err(self.refused(&refusal)),
                }
            }
        };
        self.machine.registration(result);
    }

    fn fields(&self) -> Element {
        let invited = self.app.config.auth.registration == Registration::Invited;
        let reserved = self
            .shown
            .as_ref()
            .and_then(|shown| shown.reserved.as_ref());
        let name = reserved.and_then(|reserved| reserved.local());
        let instructions = match invited && self.shown.is_none() {
            true => INVITED,
            false => OPEN,
        };
        register::fields(instructions, name)
    }

    /// An invitation is shown: it counts for the rest of the stream (RE-4).
    async fn show(&mut self, token: &str) -> Result<(), StanzaError> {
        let (storage, domain) = (&self.app.edge.storage, self.machine.domain());
        match invite::shown(storage, token, domain, clock::now()).await {
            Ok(Some(shown)) => {
                self.shown = Some(shown);
                Ok(())
            }
            Ok(None) => {
                let reason = "not an invitation, or one that has ended";
                self.app.journal.registration_failed(self.address, reason);
                self.app
                    .metrics
                    .registrations
                    .inc(RegistrationResult::Refused);
                Err(Condition::ItemNotFound.into())
            }
            Err(error) => Err(self.refused(&error.into())),
        }
    }

    fn refused(&self, refusal: &Refusal) -> StanzaError {
        let reason = refusal.to_string();
        self.app.journal.registration_failed(self.address, &reason);
        self.app.metrics.registrations.inc(refusal.result());
        if matches!(refusal, Refusal::TooMany) {
            self.app.metrics.throttled.inc(Throttled::Registration);
        }
        refusal.into()
    }
}
