//! `bench token`: what it costs to come back to one's session with a token, in one round trip, beside what a login costs.

use std::sync::Arc;

use clap::Args;
use node::demo::client::{Connection, Credentials};
use proto::sasl::ht::{self, TokenMechanism};
use proto::sasl::{encode, plain};
use proto::{Element, ns};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::Failure;
use crate::place::{Place, Where};
use crate::usage::hundredths;

/// Each client says that it is this device; of its own account.
const AGENT: &str = "<user-agent id='9c1f6c1e-6a52-4d3f-9a3c-0d6a2f0f1b11'/>";
const BIND: &str =
    "<bind xmlns='urn:xmpp:bind:0'><enable xmlns='urn:xmpp:sm:3' resume='true'/></bind>";
const MECHANISM: TokenMechanism = TokenMechanism::Unbound;
/// So many come back at the same time.
const AT_A_TIME: usize = 16;
/// Logins before anything is measured: the first ones pay for what all others share.
const FIRST: usize = 50;

/// Clients that come back with a token.
#[derive(Args)]
pub struct Token {
    /// How many, each of its own account
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub clients: u32,
    #[command(flatten)]
    pub place: Where,
}

/// What a client comes back with.
#[derive(Clone)]
struct Ticket {
    token: String,
    smid: String,
}

impl Token {
    /// Logs in, comes back, and tells what both cost.
    pub async fn run(self) -> Result<Value, Failure> {
        let clients = self.clients as usize;
        let place = Arc::new(Place::prepare(&self.place, FIRST + 2 * clients, "").await?);
        let first = place.clients(0..FIRST).await?;
        let start = place.usage().await?;
        let open = place.clients(FIRST..FIRST + clients).await?;
        let logins = place.usage().await?.since(&start);
        let range = FIRST + clients..FIRST + 2 * clients;
        let tickets = each(&place, range.clone(), |place, account| async move {
            begin(&place, account).await
        });
        let tickets = Arc::new(tickets.await?);
        let start = place.usage().await?;
        let back = each(&place, range.clone(), {
            let begin = range.start;
            move |place, account| {
                let ticket = tickets[account - begin].clone();
                async move { come_back(&place, account, &ticket).await }
            }
        });
        let back = back.await?;
        let resumes = place.usage().await?.since(&start);
        let mut line = self.place.line("token");
        let count = u64::from(self.clients);
        let [login, resume] = [logins, resumes].map(|spent| spent.micros_per(count) / 1e3);
        line.insert("clients".into(), json!(back.len()));
        line.insert("cpu_ms_per_login".into(), json!(hundredths(login)));
        line.insert("cpu_ms_per_return".into(), json!(hundredths(resume)));
        line.insert("return_per_login".into(), json!(hundredths(resume / login)));
        drop((first, open));
        Ok(line.into())
    }
}

/// The same for each of these accounts, their results in order.
async fn each<T, F>(
    place: &Arc<Place>,
    accounts: std::ops::Range<usize>,
    work: impl Fn(Arc<Place>, usize) -> F,
) -> Result<Vec<T>, Failure>
where
    T: Send + 'static,
    F: Future<Output = Result<T, Failure>> + Send + 'static,
{
    let (mut working, mut done) = (JoinSet::new(), Vec::new());
    for account in accounts {
        let job = work(place.clone(), account);
        working.spawn(async move { Ok::<_, Failure>((account, job.await?)) });
        if working.len() >= AT_A_TIME {
            done.extend(working.join_next().await.transpose()?.transpose()?);
        }
    }
    while let Some(last) = working.join_next().await {
        done.push(last??);
    }
    done.sort_by_key(|(account, _)| *account);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

/// Begins a session that can be resumed, asks for a token, and loses the connection.
async fn begin(place: &Place, account: usize) -> Result<Ticket, Failure> {
    let (mut connection, credentials) = place.open(account).await?;
    let Credentials {
        username, password, ..
    } = credentials;
    let message = plain::Plain::message(username, password);
    let wish = format!(
        "<request-token xmlns='{}' mechanism='{}'/>{BIND}",
        ns::FAST,
        MECHANISM.name()
    );
    let success = log_in(&mut connection, credentials, "PLAIN", &message, &wish).await?;
    let token = success
        .child("token", ns::FAST)
        .and_then(|it| it.attr("token"));
    let bound = success.child("bound", ns::BIND2);
    let enabled = bound.and_then(|bound| bound.child("enabled", ns::SM));
    let smid = enabled.and_then(|it| it.attr("id"));
    match (token, smid) {
        (Some(token), Some(smid)) => Ok(Ticket {
            token: token.to_owned(),
            smid: smid.to_owned(),
        }),
        _ => Err(format!("no token or no session: {success:?}").into()),
    }
}

/// Goes on with the session, in one round trip behind the handshake.
async fn come_back(place: &Place, account: usize, ticket: &Ticket) -> Result<Connection, Failure> {
    let (mut connection, credentials) = place.open(account).await?;
    let message = ht::Initiator::message(&credentials.username, &ticket.token, &[]);
    let wish = format!(
        "<fast xmlns='{}'/><resume xmlns='{}' previd='{}' h='0'/>",
        ns::FAST,
        ns::SM,
        ticket.smid
    );
    let name = MECHANISM.name();
    let success = log_in(&mut connection, credentials, name, &message, &wish).await?;
    match success.child("resumed", ns::SM) {
        Some(_) => Ok(connection),
        None => Err(format!("not resumed: {success:?}").into()),
    }
}

async fn log_in(
    connection: &mut Connection,
    who: &Credentials,
    mechanism: &str,
    message: &[u8],
    wish: &str,
) -> Result<Element, Failure> {
    let Credentials {
        username, domain, ..
    } = who;
    let message = encode(message);
    let text = format!(
        "<?xml version='1.0'?><stream:stream from='{username}@{domain}' to='{domain}' version='1.0' \
         xmlns='{}' xmlns:stream='{}'><authenticate xmlns='{}' mechanism='{mechanism}'>\
         <initial-response>{message}</initial-response>{AGENT}{wish}</authenticate>",
        ns::CLIENT,
        ns::STREAM,
        ns::SASL2
    );
    connection.send_text(&text).await?;
    let features = connection.next().await?;
    if !features.is("features", ns::STREAM) {
        return Err(format!("no features: {features:?}").into());
    }
    let answer = connection.next().await?;
    match answer.is("success", ns::SASL2) {
        true => Ok(answer),
        false => Err(format!("no login: {answer:?}").into()),
    }
}
