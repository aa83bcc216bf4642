//! Questions that the host of one node asks the hosts of the others, about what only they have seen.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all, ready};

use crate::cluster::Host;
use crate::link::{Handler, Kind, Links, Request};

/// A node that has not answered after this time is left out.
const PATIENCE: Duration = Duration::from_secs(2);

/// Hands questions of other nodes to this node's host.
pub(crate) struct Inquiries(pub(crate) Arc<dyn Host>);

impl Handler for Inquiries {
    fn handle(&self, request: Request) -> BoxFuture<'static, Option<Bytes>> {
        Box::pin(ready(Some(self.0.answer(request.payload))))
    }
}

/// Asks every node that is connected; those that do not answer in time are left out.
pub(crate) async fn ask(links: &Links, question: &Bytes) -> Vec<Bytes> {
    let ask = |node| links.call(node, Kind::Ask, 0, question.clone(), PATIENCE);
    let asked = links.up().into_iter().map(|process| ask(process.node));
    join_all(asked).await.into_iter().flatten().collect()
}
