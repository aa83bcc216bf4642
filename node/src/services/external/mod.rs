//! XEP-0215: External Service Discovery. Relays for calls, with credentials that are good for a while (DI-6).
//!
//! The credentials follow the convention that TURN servers call *REST*: the name begins with the time at which it is
//! void, and the password is its HMAC-SHA1 with a secret that the server and the relay share. So the relay asks
//! nobody. The rest of the name is the same for all credentials of an account, so that the relay can count what one
//! takes, and tells the relay nothing else about it.

mod settings;

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::sasl::Digest;
use proto::stanza::error::{Condition, ErrorType, StanzaError};
use proto::{BareJid, Element, ns};
use tokio::io::AsyncReadExt as _;

use self::settings::{External, ExternalService};
use crate::clock;
use crate::hooks::{Payload, Request, Scope, Service, Setup, Xep, fail};

/// The service.
pub const SERVICE: Service = Service::new("external", &[Xep(215, "1.0.2")], register);

/// The most bytes of a file with a secret.
const MOST_SECRET: u64 = 4_096;
/// Characters of a name that stand for the account.
const PSEUDONYM: usize = 16;

fn register(setup: &mut Setup<'_>) {
    let external: External = setup.config();
    if external.service.is_empty() {
        return;
    }
    let all: Arc<[ExternalService]> = external.service.into();
    let known = all.clone();
    setup.iq_get(&[Scope::Host], move |request| {
        services(known.clone(), request)
    });
    setup.iq_get(&[Scope::Host], move |request| {
        credentials(all.clone(), request)
    });
}

async fn services(
    all: Arc<[ExternalService]>,
    request: Request<Services>,
) -> Result<Element, StanzaError> {
    ours_only(&request)?;
    let mut services = Element::new("services", ns::EXTERNAL_SERVICES);
    let wanted = &request.payload.0;
    if let Some(kind) = wanted {
        services.set_attr("type", kind.clone());
    }
    let fits = |one: &&ExternalService| wanted.as_ref().is_none_or(|kind| one.kind == *kind);
    for one in all.iter().filter(fits) {
        services.push(described(one, &request).await?);
    }
    Ok(services)
}

async fn credentials(
    all: Arc<[ExternalService]>,
    request: Request<Credentials>,
) -> Result<Element, StanzaError> {
    ours_only(&request)?;
    let Credentials { host, kind, port } = &request.payload;
    let fits = |one: &&ExternalService| {
        one.host == *host
            && one.kind == *kind
            && one.secret_file.is_some()
            && port.is_none_or(|port| one.port == Some(port))
    };
    let mut credentials = Element::new("credentials", ns::EXTERNAL_SERVICES);
    for one in all.iter().filter(fits) {
        credentials.push(described(one, &request).await?);
    }
    let found = credentials.elements().next().is_some();
    match found {
        true => Ok(credentials),
        false => fail(Condition::ItemNotFound),
    }
}

/// A relay is for those whose server it stands beside.
fn ours_only<P>(request: &Request<P>) -> Result<(), StanzaError> {
    match request.edge.serves(request.account.domain()) {
        true => Ok(()),
        false => fail(Condition::Forbidden),
    }
}

async fn described<P>(
    service: &ExternalService,
    request: &Request<P>,
) -> Result<Element, StanzaError> {
    let mut element = Element::new("service", ns::EXTERNAL_SERVICES)
        .with_attr("type", &service.kind)
        .with_attr("host", &service.host);
    let port = service.port.map(|port| port.to_string());
    for (name, value) in [
        ("port", &port),
        ("transport", &service.transport),
        ("name", &service.name),
    ] {
        if let Some(value) = value {
            element.set_attr(name, value);
        }
    }
    let Some(file) = &service.secret_file else {
        return Ok(element);
    };
    // It is read each time, so that a new one counts at once.
    let secret = read(file).await.map_err(|error| {
        tracing::warn!(file = %file.display(), %error, "a relay's secret cannot be read");
        StanzaError::new(Condition::InternalServerError).with_type(ErrorType::Wait)
    })?;
    let lifetime = u64::try_from(service.lifetime.as_millis()).unwrap_or(u64::MAX);
    let until = (request.edge.now)().saturating_add(lifetime);
    let (name, password) = good_until(&secret, until / 1000, &request.account);
    element.set_attr("restricted", "true");
    element.set_attr("username", name);
    element.set_attr("password", password);
    // To the second, as the name has it.
    if let Some(expires) = clock::text(until / 1000 * 1000) {
        element.set_attr("expires", expires);
    }
    Ok(element)
}

/// The name and the password, which are void after so many seconds since 1970.
fn good_until(secret: &[u8], until: u64, account: &BareJid) -> (String, String) {
    let hashed = Digest::Sha256.hmac(secret, account.as_str().as_bytes());
    let mut pseudonym: String = hashed.iter().map(|byte| format!("{byte:02x}")).collect();
    pseudonym.truncate(PSEUDONYM);
    let name = format!("{until}:{pseudonym}");
    let password = STANDARD.encode(Digest::Sha1.hmac(secret, name.as_bytes()));
    (name, password)
}

/// The secret, without the end of its line.
async fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = tokio::fs::File::open(file).await?;
    file.take(MOST_SECRET).read_to_end(&mut bytes).await?;
    match bytes.trim_ascii() {
        [] => Err(std::io::ErrorKind::InvalidData.into()),
        secret => Ok(secret.to_vec()),
    }
}

/// Asks for all services, or for those of a type.
pub struct Services(Option<String>);

impl Payload for Services {
    const NS: &'static str = ns::EXTERNAL_SERVICES;
    const NAME: &'static str = "services";

    fn decode(element: &Element) -> Result<Self, StanzaError> {
        Ok(Self(element.attr("type").map(str::to_owned)))
    }
}

/// Asks for credentials at a service.
pub struct Credentials {
    host: String,
    kind: String,
    port: Option<u16>,
}

impl Payload for Credentials {
    const NS: &'static str = ns::EXTERNAL_SERVICES;
    const NAME: &'static str = "credentials";

    fn decode(element: &Element) -> Result<Self, StanzaError> {
        let malformed = || StanzaError::new(Condition::BadRequest);
        let service = element.child("service", ns::EXTERNAL_SERVICES);
        let service = service.ok_or_else(malformed)?;
        let named = |name| service.attr(name).map(str::to_owned).ok_or_else(malformed);
        let port = service.attr("port").map(str::parse).transpose();
        Ok(Self {
            host: named("host")?,
            kind: named("type")?,
            port: port.map_err(|_| malformed())?,
        })
    }
}

#[cfg(test)]
mod tests;
