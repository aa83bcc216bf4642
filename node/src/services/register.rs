//! XEP-0077 for those who have an account: what it is called, a new password for it, and its end. Accounts are made
//! before a login, elsewhere.

use std::time::Duration;

use proto::payload::register::{self, Change, Password};
use proto::stanza::error::{Condition, ErrorType, StanzaError};
use proto::{Element, ns};
use serde::Deserialize;

use crate::auth::change::{self, AccountError};
use crate::config::Table;
use crate::hooks::{Empty, Payload, Request, Scope, Service, Setup, Xep, fail, failure};
use crate::storage::Ends;

/// The service. The invitations of XEP-0445 are used before a login.
pub const SERVICE: Service =
    Service::new("register", &[Xep(77, "2.4"), Xep(445, "0.2.0")], register);

/// How long a client whose account goes has to hear the answer.
const FAREWELL: Duration = Duration::from_secs(1);

/// Of `[auth]`: what users may do to their accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct Permitted {
    /// Give them new passwords.
    change_password: bool,
    /// Remove them.
    remove_account: bool,
}

impl Default for Permitted {
    fn default() -> Self {
        Self {
            change_password: true,
            remove_account: true,
        }
    }
}

impl Table for Permitted {
    const SECTION: &'static str = "auth";
}

fn register(setup: &mut Setup<'_>) {
    let permitted: Permitted = setup.config();
    let scopes = [Scope::Host, Scope::Account];
    setup.iq_get(&scopes, tell);
    setup.iq_set(&scopes, move |request| alter(request, permitted));
    setup.feature(&[Scope::Host], ns::REGISTER);
}

/// What is asked with a get.
pub struct Get;

impl Payload for Get {
    const NS: &'static str = ns::REGISTER;
    const NAME: &'static str = "query";
    const ANNOUNCED: bool = false;

    fn decode(_: &Element) -> Result<Self, StanzaError> {
        Ok(Self)
    }
}

/// What is changed with a set.
pub struct Set(Change);

impl Payload for Set {
    const NS: &'static str = ns::REGISTER;
    const NAME: &'static str = "query";
    const ANNOUNCED: bool = false;

    fn decode(element: &Element) -> Result<Self, StanzaError> {
        Ok(Self(Change::read(element)?))
    }
}

async fn tell(request: Request<Get>) -> Result<Element, StanzaError> {
    let name = request.account.local().unwrap_or_default();
    Ok(register::registered(name))
}

async fn alter(request: Request<Set>, permitted: Permitted) -> Result<Empty, StanzaError> {
    match &request.payload.0 {
        Change::Remove if permitted.remove_account => remove(&request).await,
        Change::Account {
            username: Some(username),
            password: Some(password),
        } if permitted.change_password => set_password(&request, username, password).await,
        Change::Account { .. } if permitted.change_password => fail(Condition::BadRequest),
        Change::Remove | Change::Account { .. } => fail(Condition::NotAllowed),
    }
}

/// The answer goes out first; then all sessions end, this one too (RE-3).
async fn remove(request: &Request<Set>) -> Result<Empty, StanzaError> {
    let (edge, account) = (&request.edge, &request.account);
    let now = (edge.now)();
    let ends = Ends {
        grace: FAREWELL,
        ..Ends::ALL
    };
    match change::remove(&edge.storage, account, now, ends).await {
        Ok(()) => tracing::info!(%account, session = %request.session, "removed by its user"),
        // A request that is handled again finds nothing to remove.
        Err(AccountError::Missing(_)) => {}
        Err(error) => return Err(refusal(&error)),
    }
    edge.accounts.forget(account);
    Ok(Empty)
}

/// All other sessions end, as with an operator's change (SM-42).
async fn set_password(
    request: &Request<Set>,
    username: &str,
    password: &Password,
) -> Result<Empty, StanzaError> {
    let account = &request.account;
    let named = proto::jid::prepare_local(username).ok();
    if named.as_deref() != account.local() {
        return fail(Condition::Forbidden);
    }
    let ends = Ends {
        spared: Some(&request.session),
        ..Ends::ALL
    };
    let (storage, password) = (&request.edge.storage, password.reveal().to_owned());
    let changed = change::set_password(storage, account, password, ends).await;
    changed.map_err(|error| refusal(&error))?;
    tracing::info!(%account, session = %request.session, "has given itself a new password");
    Ok(Empty)
}

fn refusal(error: &AccountError) -> StanzaError {
    match error {
        AccountError::Password(_) => StanzaError::new(Condition::NotAcceptable),
        // It is being removed.
        AccountError::Missing(_) => {
            StanzaError::new(Condition::ItemNotFound).with_type(ErrorType::Cancel)
        }
        AccountError::Storage(error) => failure(error),
        AccountError::Exists(_) | AccountError::Interrupted => {
            StanzaError::new(Condition::InternalServerError)
        }
    }
}
