//! A web client's session, counted as far as tests need it, whatever carries its stream.

use std::time::Duration;

use proto::{Element, Jid, ns};
use tokio::time::Instant;

use crate::PATIENCE;
use crate::client::body;
use crate::cluster::Cluster;
use crate::wire::End;

/// What carries the stream of a web client.
#[allow(async_fn_in_trait, reason = "tests alone use it")]
pub trait Carrier: Sized {
    /// Reaches a node.
    async fn reach(cluster: &Cluster, node: usize) -> Result<Self, End>;
    /// Logs in and opens the stream of the session; its features.
    async fn login(&mut self, user: &str) -> Result<Element, End>;
    /// Sends an element.
    async fn send(&mut self, element: &str) -> Result<(), End>;
    /// The next element.
    async fn next(&mut self) -> Result<Element, End>;

    /// Whether a client comes back for its session after this end.
    fn passes(end: &End) -> bool {
        end.is_passing()
    }

    /// The next stanza, behind requests for acknowledgements.
    async fn stanza(&mut self) -> Result<Element, End> {
        loop {
            let element = self.next().await?;
            if element.ns() == ns::CLIENT {
                return Ok(element);
            }
        }
    }

    /// Binds a resource.
    async fn bind(&mut self, resource: &str) -> Result<Jid, End> {
        self.send(&format!(
            "<iq xmlns='{}' type='set' id='bind'><bind xmlns='{}'><resource>{resource}</resource></bind></iq>",
            ns::CLIENT,
            ns::BIND
        ))
        .await?;
        let answer = self.next().await?;
        assert!(answer.is("iq", ns::CLIENT), "{answer:?}");
        let bound = answer.child("bind", ns::BIND);
        let jid = bound.and_then(|bound| bound.child("jid", ns::BIND));
        let jid = jid.unwrap_or_else(|| panic!("bound: {answer:?}")).text();
        Ok(Jid::new(&jid).expect("an address"))
    }
}

/// A session that can be resumed, and what carries it at the moment.
pub struct Session<C> {
    /// What carries it.
    pub web: C,
    id: String,
    handled: u32,
}

impl<C: Carrier> Session<C> {
    /// Logs in, binds, asks for a session that can be resumed, and becomes available.
    pub async fn start(cluster: &Cluster, node: usize, user: &str) -> Self {
        let mut web = C::reach(cluster, node).await.expect("a stream");
        web.login(user).await.expect("a session");
        web.bind("browser").await.expect("a session");
        let enable = format!("<enable xmlns='{}' resume='true'/>", ns::SM);
        web.send(&enable).await.expect("a session");
        let enabled = web.next().await.expect("a session");
        assert!(enabled.is("enabled", ns::SM), "{enabled:?}");
        let id = enabled.attr("id").expect("SM-7: an id").to_owned();
        let presence = format!("<presence xmlns='{}'/>", ns::CLIENT);
        web.send(&presence).await.expect("a session");
        let (id, handled) = (id, 0);
        Self { web, id, handled }
    }

    /// The body of the next message.
    pub async fn message(&mut self) -> String {
        loop {
            let stanza = self.web.stanza().await.expect("a session");
            self.handled += 1;
            if stanza.local() == "message" {
                return body(&stanza);
            }
        }
    }

    /// One attempt to resume; how many stanzas the server has handled.
    pub async fn try_resume(
        &mut self,
        cluster: &Cluster,
        node: usize,
        user: &str,
    ) -> Result<u32, End> {
        let mut web = C::reach(cluster, node).await?;
        web.login(user).await?;
        let (id, h) = (&self.id, self.handled);
        web.send(&format!(
            "<resume xmlns='{}' previd='{id}' h='{h}'/>",
            ns::SM
        ))
        .await?;
        let resumed = web.next().await?;
        assert!(resumed.is("resumed", ns::SM), "I-10: {resumed:?}");
        self.web = web;
        let h = resumed.attr("h").and_then(|h| h.parse().ok());
        Ok(h.expect("an h"))
    }

    /// Goes on with the session at this node, as soon as it can decide; how many stanzas the server has handled.
    pub async fn resume(&mut self, cluster: &Cluster, node: usize, user: &str) -> u32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.try_resume(cluster, node, user).await {
                Ok(h) => return h,
                Err(end) if C::passes(&end) && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(end) => panic!("not resumed: {end}"),
            }
        }
    }
}
