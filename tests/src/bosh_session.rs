//! The session of a client of BOSH, counted as far as tests need it.

use std::time::Duration;

use proto::ns;
use tokio::time::Instant;

use crate::PATIENCE;
use crate::bosh::Bosh;
use crate::client::body;
use crate::cluster::Cluster;
use crate::web::address;
use crate::wire::End;

/// A session that can be resumed, and the session of BOSH that it has at the moment.
pub struct Session {
    /// The session of BOSH.
    pub bosh: Bosh,
    id: String,
    handled: u32,
}

impl Session {
    /// Logs in, binds, asks for a session that can be resumed, and becomes available.
    pub async fn start(cluster: &Cluster, node: usize, user: &str) -> Self {
        let bosh = Bosh::begin(address(cluster, node), cluster.tls()).await;
        let mut bosh = bosh.expect("a session of BOSH");
        bosh.login(user).await.expect("a session");
        bosh.bind("browser").await.expect("a session");
        let enable = format!("<enable xmlns='{}' resume='true'/>", ns::SM);
        bosh.send(&enable).await.expect("a session");
        let enabled = bosh.next().await.expect("a session");
        assert!(enabled.is("enabled", ns::SM), "{enabled:?}");
        let id = enabled.attr("id").expect("SM-7: an id").to_owned();
        let presence = format!("<presence xmlns='{}'/>", ns::CLIENT);
        bosh.send(&presence).await.expect("a session");
        let (id, handled) = (id, 0);
        Self { bosh, id, handled }
    }

    /// The body of the next message.
    pub async fn message(&mut self) -> String {
        loop {
            let stanza = self.bosh.stanza().await.expect("a session");
            self.handled += 1;
            if stanza.local() == "message" {
                return body(&stanza);
            }
        }
    }

    async fn try_resume(&mut self, cluster: &Cluster, node: usize, user: &str) -> Result<u32, End> {
        let mut bosh = Bosh::begin(address(cluster, node), cluster.tls()).await?;
        bosh.login(user).await?;
        let (id, h) = (&self.id, self.handled);
        let resume = format!("<resume xmlns='{}' previd='{id}' h='{h}'/>", ns::SM);
        bosh.send(&resume).await?;
        let resumed = bosh.next().await?;
        assert!(resumed.is("resumed", ns::SM), "I-10: {resumed:?}");
        self.bosh = bosh;
        let h = resumed.attr("h").and_then(|h| h.parse().ok());
        Ok(h.expect("an h"))
    }

    /// Goes on with the session at this node, as soon as it can decide; how many stanzas the server has handled.
    pub async fn resume(&mut self, cluster: &Cluster, node: usize, user: &str) -> u32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.try_resume(cluster, node, user).await {
                Ok(h) => return h,
                Err(end) if passes(&end) && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(end) => panic!("not resumed: {end}"),
            }
        }
    }
}

/// Whether a client comes back for its session after this.
fn passes(end: &End) -> bool {
    let remote = "remote-stream-error";
    end.is_passing() || [remote, "remote-connection-failed"].contains(&end.condition())
}
