//! The interface over a node that is not there.

use super::*;
use crate::admin::ready::Verdict;
use crate::admin::request::{Method, request};
use cluster::ShardId;
use cluster::session::ShardState;
use std::net::SocketAddr;

pub(in crate::admin) struct Fake {
    pub(in crate::admin) dir: tempfile::TempDir,
    pub(in crate::admin) ready: bool,
}

impl Node for Fake {
    fn token_file(&self) -> PathBuf {
        self.dir.path().join("admin.token")
    }

    fn ready(&self) -> Result<(), String> {
        self.ready.then_some(()).ok_or("no leader".to_owned())
    }

    fn metrics(&self) -> String {
        "# EOF\n".to_owned()
    }

    fn checks(&self) -> Vec<Check> {
        let check = |verdict, found: &str| Check {
            verdict,
            subject: "shard 0".to_owned(),
            found: found.to_owned(),
        };
        match self.ready {
            true => vec![check(Verdict::Ok, "led by node 1")],
            false => vec![
                check(Verdict::Fail, "no leader"),
                check(Verdict::Warn, "and more"),
            ],
        }
    }

    fn cluster(&self) -> BoxFuture<'static, serde_json::Value> {
        let nodes = serde_json::json!([{ "seat": 1, "up": true }]);
        let report = serde_json::json!({
            "majority": self.ready,
            "can_lose": 1,
            "warnings": if self.ready { vec![] } else { vec!["shard 0 has no majority"] },
            "nodes": nodes,
            "shards": [],
        });
        Box::pin(std::future::ready(report))
    }

    fn remove(&self, seat: u64) -> BoxFuture<'static, Result<(), RemoveError>> {
        Box::pin(async move {
            match seat {
                1 => Err(RemoveError::Up(1)),
                2 => Ok(()),
                _ => Err(RemoveError::Unknown(seat)),
            }
        })
    }

    fn drain(&self, seat: u64, _: bool) -> BoxFuture<'static, Result<(), DrainError>> {
        Box::pin(async move {
            match seat {
                1 => Err(DrainError::Alone(1)),
                2 => Ok(()),
                _ => Err(DrainError::NotThere(seat)),
            }
        })
    }

    fn sessions(
        &self,
        of: Option<&BareJid>,
        after: &str,
        max: usize,
    ) -> BoxFuture<'static, Result<Vec<SessionReport>, Unavailable>> {
        let all = ["a@x/1", "a@x/2", "b@x/1"].into_iter();
        let behind =
            all.filter(|jid| *jid > after && of.is_none_or(|of| jid.starts_with(of.as_str())));
        let page = behind.take(max).map(report).collect();
        Box::pin(std::future::ready(Ok(page)))
    }

    fn end(&self, session: Jid) -> BoxFuture<'static, Result<bool, Unavailable>> {
        Box::pin(async move {
            match session.as_str() {
                "a@x/1" => Ok(true),
                "b@x/1" => Err(Unavailable),
                _ => Ok(false),
            }
        })
    }

    fn announce(
        &self,
        domain: Option<String>,
        text: String,
    ) -> BoxFuture<'static, Result<Vec<String>, Unsaid>> {
        let told = match (domain.as_deref(), text.as_str()) {
            (_, "") => Err(Unsaid::Empty),
            (None | Some("x"), _) => Ok(vec!["x".to_owned()]),
            (Some(other), _) => Err(Unsaid::NotServed(other.to_owned())),
        };
        Box::pin(std::future::ready(told))
    }

    fn trace(&self, _: String) -> BoxFuture<'static, Vec<Mark>> {
        Box::pin(async { Vec::new() })
    }

    fn limits(
        &self,
        account: BareJid,
    ) -> BoxFuture<'static, Result<Option<LimitsReport>, Unavailable>> {
        let shard = ShardState::new(ShardId(0), 1);
        let known = account.local() != Some("nobody");
        let report = known.then(|| shard.quota(&account).into());
        Box::pin(async move { Ok(report) })
    }

    fn set_limits(
        &self,
        account: BareJid,
        _: Change,
    ) -> BoxFuture<'static, Result<Option<LimitsReport>, Unavailable>> {
        self.limits(account)
    }
}

fn report(jid: &str) -> SessionReport {
    SessionReport {
        jid: jid.to_owned(),
        state: SessionState::Hibernated,
        node: None,
        address: None,
        since: None,
        epoch: 3,
        resumable: true,
        queue: 2,
        queue_bytes: 100,
        queue_age_ms: 1500,
        priority: Some(0),
        hibernates_for_ms: Some(60_000),
    }
}

/// Serves a node that is not real; its address and the token.
pub(in crate::admin) fn start(ready: bool) -> (SocketAddr, Arc<Fake>, Token) {
    let dir = tempfile::tempdir().unwrap();
    let node = Arc::new(Fake { dir, ready });
    let token = Token::open(&node.token_file()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(open(node.clone(), listener).unwrap());
    (address, node, token)
}

#[tokio::test]
async fn health_and_metrics_need_no_token() {
    for (path, ready, status) in [
        ("/livez", false, 200),
        ("/readyz", true, 200),
        ("/readyz", false, 503),
        ("/metrics", true, 200),
        ("/elsewhere", true, 404),
    ] {
        let (address, _node, _) = start(ready);
        let answer = request(&address.to_string(), Method::Get, path, None).await;
        assert_eq!(answer.unwrap().status, status, "{path} {ready}");
    }
}

#[tokio::test]
async fn a_person_is_told_every_reason() {
    for (ready, path, status, page) in [
        (true, "/readyz", 200, "ready\n"),
        (
            true,
            "/readyz?verbose",
            200,
            "ready\nok    shard 0      led by node 1\n",
        ),
        (false, "/readyz", 503, "no leader\n"),
        (
            false,
            "/readyz?verbose=1",
            503,
            "not ready\nfail  shard 0      no leader\nwarn  shard 0      and more\n",
        ),
    ] {
        let (address, _node, _) = start(ready);
        let answer = request(&address.to_string(), Method::Get, path, None).await;
        let answer = answer.unwrap();
        let found = (answer.status, String::from_utf8(answer.body).unwrap());
        assert_eq!(found, (status, page.to_owned()), "{path}");
    }
}

#[tokio::test]
async fn everything_else_needs_the_token() {
    let (address, _node, token) = start(true);
    let other = tempfile::tempdir().unwrap();
    let other = Token::open(&other.path().join("t")).unwrap();
    let paths = ["/api/v1/cluster", "/api/v1/sessions", "/api/v1/elsewhere"];
    for (path, status) in paths.into_iter().zip([200, 200, 404]) {
        for wrong in [None, Some(&other)] {
            let answer = request(&address.to_string(), Method::Get, path, wrong).await;
            assert_eq!(answer.unwrap().status, 401, "{path}");
        }
        let answer = request(&address.to_string(), Method::Get, path, Some(&token)).await;
        assert_eq!(answer.unwrap().status, status, "{path}");
    }
}

#[tokio::test]
async fn sessions_come_in_pages() {
    let (address, _node, token) = start(true);
    let page = async |query: &str| {
        let path = format!("/api/v1/sessions?{query}");
        let answer = request(&address.to_string(), Method::Get, &path, Some(&token)).await;
        let page: serde_json::Value = serde_json::from_slice(&answer.unwrap().body).unwrap();
        let jids = page["sessions"].as_array().unwrap().iter();
        let jids: Vec<_> = jids
            .map(|s| s["jid"].as_str().unwrap().to_owned())
            .collect();
        (jids.join(" "), page["more"].as_bool().unwrap())
    };
    assert_eq!(page("limit=2").await, ("a@x/1 a@x/2".to_owned(), true));
    assert_eq!(
        page("limit=2&after=a@x/2").await,
        ("b@x/1".to_owned(), false)
    );
    assert_eq!(page("jid=a@x").await.0, "a@x/1 a@x/2");
    assert_eq!(page("jid=a@x/2").await.0, "a@x/2");
}

#[tokio::test]
async fn a_session_is_ended_by_its_full_address() {
    let (address, _node, token) = start(true);
    let address = address.to_string();
    for (jid, status) in [
        ("a@x/1", 204),
        ("a@x/9", 404),
        ("b@x/1", 503),
        ("a@x", 400),
        ("@@", 400),
    ] {
        let path = format!("/api/v1/sessions?jid={jid}");
        let answer = request(&address, Method::Delete, &path, Some(&token)).await;
        assert_eq!(answer.unwrap().status, status, "{jid}");
    }
}
