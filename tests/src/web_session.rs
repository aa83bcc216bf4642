//! A web client's session, counted as far as tests need it.

use std::time::Duration;

use proto::ns;
use tokio::time::Instant;

use crate::PATIENCE;
use crate::client::body;
use crate::cluster::Cluster;
use crate::web::{Web, address};
use crate::wire::End;

/// A session that can be resumed, and the connection that it has at the moment.
pub struct Session {
    /// The connection.
    pub web: Web,
    id: String,
    handled: u32,
}

impl Session {
    /// Logs in, binds, asks for a session that can be resumed, and becomes available.
    pub async fn start(cluster: &Cluster, node: usize, user: &str) -> Self {
        let web = Web::connect(address(cluster, node), cluster.tls()).await;
        let mut web = web.expect("a WebSocket");
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
        let mut web = Web::connect(address(cluster, node), cluster.tls()).await?;
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
                Err(end) if end.is_passing() && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(end) => panic!("not resumed: {end}"),
            }
        }
    }
}
