//! Asks a running node on behalf of commands such as `holdfast session list`, and formats the answer.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use proto::Jid;
use serde_json::Value;

use super::announce;
use super::limits::{self, Change};
use super::members;
use super::request::{Answer, Method, encode, request};
use super::status;
use super::table;
use super::token::{self, Token, TokenError};
use super::trace;
use crate::config::Config;

/// The most pages of sessions that are fetched; more would be of no use to a person or a shell.
const MAX_PAGES: usize = 1000;

/// A node to ask, with its token.
#[derive(Debug)]
pub struct Client {
    address: String,
    token: Token,
}

/// Why a command got no answer. Each message says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No token, so the node has not been started here.
    #[error(
        "{0}; has the node been started with this configuration? otherwise give --url and --token-file"
    )]
    Token(#[from] TokenError),
    /// The URL is not one of an admin interface.
    #[error("{0:?} is not of the form http://host:port")]
    Url(String),
    /// Nobody answers at the address.
    #[error("no answer from the admin interface at {address}: {source}; is the node running?")]
    Connect {
        /// The address.
        address: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The node does not know our token.
    #[error("{0} refuses the token: it belongs to another node")]
    Unauthorized(String),
    /// The node refuses, with this reason.
    #[error("{0}")]
    Refused(String),
    /// Something else answers there.
    #[error("{0} is not the admin interface of a Holdfast node")]
    NotOurs(String),
}

impl Client {
    /// Asks the node with this URL, with the token in this file.
    pub fn at(url: &str, token_file: &Path) -> Result<Self, ClientError> {
        let rest = url
            .strip_prefix("http://")
            .map(|rest| rest.trim_end_matches('/'));
        let has_port = |rest: &&str| {
            let port = rest.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            matches!(port, Some(Ok(_))) && !rest.contains(['/', '@', ' '])
        };
        let address = rest
            .filter(has_port)
            .ok_or_else(|| ClientError::Url(url.to_owned()))?;
        Ok(Self {
            address: address.to_owned(),
            token: Token::read(token_file)?,
        })
    }

    /// Chooses the node: the one of `--url` with `--token-file`, else the configured one.
    pub fn choose(
        config: &Config,
        url: Option<&str>,
        token_file: Option<&Path>,
    ) -> Result<Self, ClientError> {
        let own = config.data_dir().join(token::FILE);
        let file = token_file.unwrap_or(&own);
        match url {
            Some(url) => Self::at(url, file),
            None => Ok(Self {
                address: reachable(config.admin.listen).to_string(),
                token: Token::read(file)?,
            }),
        }
    }

    async fn ask(&self, method: Method, path: &str) -> Result<Value, ClientError> {
        let answer = request(&self.address, method, path, Some(&self.token)).await;
        let Answer { status, body } = answer.map_err(|source| ClientError::Connect {
            address: self.address.clone(),
            source,
        })?;
        let not_ours = || ClientError::NotOurs(self.address.clone());
        if status == 204 {
            return Ok(Value::Null);
        }
        if status == 401 {
            return Err(ClientError::Unauthorized(self.address.clone()));
        }
        let value: Value = serde_json::from_slice(&body).map_err(|_| not_ours())?;
        if status == 200 {
            return Ok(value);
        }
        let reason = value
            .get("error")
            .and_then(Value::as_str)
            .ok_or_else(not_ours)?;
        Err(ClientError::Refused(reason.to_owned()))
    }
}

/// The address at which a listener can be reached from this machine.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// A request to a running node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiRequest {
    /// `holdfast cluster status`
    ClusterStatus,
    /// `holdfast cluster remove`: the node in a seat.
    ClusterRemove(u64),
    /// `holdfast cluster drain`: the node in a seat.
    ClusterDrain(u64),
    /// `holdfast cluster undrain`: the node in a seat.
    ClusterUndrain(u64),
    /// `holdfast session list`: all sessions, or those of one account.
    SessionList(Option<Jid>),
    /// `holdfast session show`: one session, or all of an account.
    SessionShow(Jid),
    /// `holdfast session end`: one session, or all of an account.
    SessionEnd(Jid),
    /// `holdfast announce`: a text, to one domain or to all.
    Announce(String, Option<String>),
    /// `holdfast trace`: a message's steps, by either id.
    Trace(String),
    /// `holdfast limits show`: an account's.
    LimitsShow(Jid),
    /// `holdfast limits set`: an account's.
    LimitsSet(Jid, Change),
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The text to print: JSON for programs, else a table for people.
    pub text: String,
    /// Whether the command succeeds; it decides the exit code.
    pub is_well: bool,
}

/// Sends the request and formats the answer.
pub async fn answer(
    client: &Client,
    question: &ApiRequest,
    json: bool,
) -> Result<Report, ClientError> {
    let value = match question {
        ApiRequest::ClusterStatus => client.ask(Method::Get, "/api/v1/cluster").await?,
        ApiRequest::ClusterRemove(node) => {
            client.ask(Method::Delete, &members::path(*node)).await?;
            serde_json::json!({ "removed": node })
        }
        ApiRequest::ClusterDrain(node) => {
            client.ask(Method::Put, &members::drain_path(*node)).await?;
            serde_json::json!({ "drained": node })
        }
        ApiRequest::ClusterUndrain(node) => {
            let path = members::drain_path(*node);
            client.ask(Method::Delete, &path).await?;
            serde_json::json!({ "undrained": node })
        }
        ApiRequest::SessionList(of) => sessions(client, of.as_ref()).await?,
        ApiRequest::SessionShow(jid) => {
            let found = sessions(client, Some(jid)).await?;
            if found.as_array().is_none_or(Vec::is_empty) {
                return Err(ClientError::Refused(format!("there is no session {jid}")));
            }
            found
        }
        ApiRequest::SessionEnd(jid) => {
            let ended = end(client, jid).await?;
            serde_json::json!({ "ended": ended })
        }
        ApiRequest::Announce(text, domain) => {
            let path = announce::path(text, domain.as_deref());
            client.ask(Method::Put, &path).await?
        }
        ApiRequest::Trace(id) => client.ask(Method::Get, &trace::path(id)).await?,
        ApiRequest::LimitsShow(jid) => client.ask(Method::Get, &limits::path(jid)).await?,
        ApiRequest::LimitsSet(jid, change) => {
            let path = limits::path(jid) + &change.query();
            client.ask(Method::Put, &path).await?
        }
    };
    let is_well = value["majority"] != Value::Bool(false);
    let text = match (json, question) {
        (true, _) => format!("{value:#}\n"),
        (false, ApiRequest::ClusterStatus) => status::text(&value),
        (false, ApiRequest::ClusterRemove(node)) => format!("node {node} is given up\n"),
        (false, ApiRequest::ClusterDrain(node)) => {
            format!("node {node} hands over what it leads and sends its clients away\n")
        }
        (false, ApiRequest::ClusterUndrain(node)) => format!("node {node} is in service\n"),
        (false, ApiRequest::SessionList(_) | ApiRequest::Trace(_)) => table::rows(&value),
        (false, ApiRequest::SessionShow(_)) => table::records(&value),
        (false, ApiRequest::SessionEnd(_) | ApiRequest::Announce(..)) => table::sections(&value),
        (false, ApiRequest::LimitsShow(_) | ApiRequest::LimitsSet(..)) => {
            table::records(&Value::Array(vec![value]))
        }
    };
    Ok(Report { text, is_well })
}

/// Ends a session, or all of an account, and returns their addresses.
async fn end(client: &Client, jid: &Jid) -> Result<Vec<String>, ClientError> {
    let found = match jid.is_bare() {
        true => sessions(client, Some(jid)).await?,
        false => serde_json::json!([{ "jid": jid.as_str() }]),
    };
    let found = found.as_array().into_iter().flatten();
    let mut ended = Vec::new();
    for jid in found.filter_map(|session| session["jid"].as_str()) {
        let path = format!("/api/v1/sessions?jid={}", encode(jid));
        client.ask(Method::Delete, &path).await?;
        ended.push(jid.to_owned());
    }
    match ended.is_empty() {
        true => Err(ClientError::Refused(format!("{jid} has no session"))),
        false => Ok(ended),
    }
}

/// Fetches all sessions, page by page.
async fn sessions(client: &Client, of: Option<&Jid>) -> Result<Value, ClientError> {
    let of = of.map(|jid| format!("&jid={}", encode(jid.as_str())));
    let of = of.unwrap_or_default();
    let mut all: Vec<Value> = Vec::new();
    for _ in 0..MAX_PAGES {
        let after = all.last().and_then(|last| last["jid"].as_str());
        let after = encode(after.unwrap_or_default());
        let path = format!("/api/v1/sessions?after={after}{of}");
        let mut page = client.ask(Method::Get, &path).await?;
        let Value::Array(some) = page["sessions"].take() else {
            return Err(ClientError::NotOurs(client.address.clone()));
        };
        all.extend(some);
        if page["more"] != Value::Bool(true) {
            break;
        }
    }
    Ok(Value::Array(all))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::http::tests::start;

    async fn ask(question: ApiRequest, json: bool) -> Result<String, ClientError> {
        let (address, node, _) = start(true);
        let file = node.dir.path().join("admin.token");
        let client = Client::at(&format!("http://{address}/"), &file)?;
        Ok(answer(&client, &question, json).await?.text)
    }

    fn jid(text: &str) -> Jid {
        Jid::new(text).unwrap()
    }

    #[tokio::test]
    async fn people_get_tables_and_programs_get_json() {
        let text = ask(ApiRequest::SessionList(None), false).await.unwrap();
        assert_eq!(text.lines().count(), 4, "{text}");
        assert!(text.starts_with("JID"), "{text}");
        let json = ask(ApiRequest::SessionList(Some(jid("a@x"))), true)
            .await
            .unwrap();
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json.as_array().unwrap().len(), 2);
        let status = ask(ApiRequest::ClusterStatus, false).await.unwrap();
        assert!(
            status.contains("can be lost: 1") && status.contains("SEAT"),
            "{status}"
        );
        let one = ask(ApiRequest::SessionShow(jid("a@x/2")), false)
            .await
            .unwrap();
        assert!(
            one.contains("hibernated") && !one.contains("a@x/1"),
            "{one}"
        );
    }

    #[tokio::test]
    async fn a_node_is_drained_if_there_is_another() {
        let drained = ask(ApiRequest::ClusterDrain(2), false).await.unwrap();
        assert!(drained.starts_with("node 2 hands over"), "{drained}");
        let undrained = ask(ApiRequest::ClusterUndrain(2), false).await.unwrap();
        assert_eq!(undrained, "node 2 is in service\n");
        for (node, why) in [(1, "no other node"), (7, "node 7 is not connected")] {
            let error = ask(ApiRequest::ClusterDrain(node), false)
                .await
                .unwrap_err();
            assert!(error.to_string().starts_with(why), "{error}");
        }
    }

    #[tokio::test]
    async fn an_announcement_says_who_was_told() {
        let say = |text: &str, domain: Option<&str>| {
            ask(
                ApiRequest::Announce(text.to_owned(), domain.map(str::to_owned)),
                true,
            )
        };
        let told = say("it's über-late & \n", None).await.unwrap();
        let told: Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told, serde_json::json!({ "domains": ["x"] }));
        for (text, domain, why) in [
            ("", Some("x"), "there is no text"),
            ("now", Some("y"), "y is not served here"),
        ] {
            let error = say(text, domain).await.unwrap_err();
            assert_eq!(error.to_string(), why);
        }
    }

    #[tokio::test]
    async fn only_a_node_that_is_away_is_given_up() {
        let removed = ask(ApiRequest::ClusterRemove(2), false).await.unwrap();
        assert_eq!(removed, "node 2 is given up\n");
        for (node, why) in [
            (1, "node 1 is connected: stop it first"),
            (
                7,
                "there is no node 7, or this one has not met it since it started",
            ),
        ] {
            let error = ask(ApiRequest::ClusterRemove(node), false)
                .await
                .unwrap_err();
            assert_eq!(error.to_string(), why);
        }
    }

    #[tokio::test]
    async fn what_cannot_be_done_is_said() {
        let error = ask(ApiRequest::SessionShow(jid("c@x")), false)
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "there is no session c@x");
        let error = ask(ApiRequest::SessionEnd(jid("a@x/9")), false)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("a@x/9"), "{error}");
        assert!(
            ask(ApiRequest::SessionEnd(jid("a@x/1")), false)
                .await
                .is_ok()
        );
    }

    #[tokio::test]
    async fn a_node_that_does_not_run_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("t");
        let missing = Client::at("http://127.0.0.1:9", &file).unwrap_err();
        assert!(matches!(missing, ClientError::Token(_)));
        Token::open(&file).unwrap();
        for wrong in [
            "https://h:1",
            "h:1",
            "http://h",
            "http://h:x",
            "http://h:1/path",
        ] {
            assert!(
                matches!(Client::at(wrong, &file), Err(ClientError::Url(_))),
                "{wrong}"
            );
        }
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let client = Client::at(&format!("http://{address}"), &file).unwrap();
        let error = answer(&client, &ApiRequest::ClusterStatus, false)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    #[test]
    fn a_wildcard_is_reached_over_loopback() {
        let reached = |listen: &str| reachable(listen.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:9090"), "127.0.0.1:9090");
        assert_eq!(reached("[::]:9090"), "[::1]:9090");
        assert_eq!(reached("10.0.0.1:1"), "10.0.0.1:1");
    }
}
