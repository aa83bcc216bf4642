//! What a client asks for along with its login (XEP-0388): its old session, or a new one, and a token for the next time.

use cluster::SmId;
use cluster::connection::negotiation::{self, Along, Verdict};
use cluster::session::OpenSm;
use proto::BareJid;
use proto::sasl::{Digest, Failure};
use proto::sm::Enabled;
use proto::stream::{Agent, Bind2, GivenToken, Inline, Opened, Resume, Session};
use tokio::io::{AsyncRead, AsyncWrite};

use super::entered::Opening;
use super::negotiate::Negotiation;
use super::resume::Resumption;
use super::settings::settings;
use crate::auth::TokenWish;
use crate::clock;

/// What comes of a wish to bind: the session, and what the client is told of it; none if the machine has been told.
type Bound = Option<(Opening, Session)>;

impl<S: AsyncRead + AsyncWrite + Unpin + 'static> Negotiation<S> {
    /// Does all that, in the order in which it counts (SM-68). None, if there is no session yet.
    pub(super) async fn open(&mut self, inline: Inline) -> Option<Opening> {
        let account = self.account.clone()?;
        if let Some((Digest::Sha512, keys)) = inline.keys {
            self.add_sha512(keys).await;
        }
        let (mut opening, mut session, mut failed) = (None, Session::None, None);
        if let Some(Resume { previd, h }) = inline.resume {
            match self.take_back(&account, &previd, h).await {
                Resumption::Resumed(resumed, h) => {
                    let jid = resumed.session.session.clone();
                    opening = Some(*resumed);
                    session = Session::Resumed { jid, previd, h };
                }
                Resumption::Failed(why) => failed = Some(why),
                Resumption::Over => return None,
            }
        }
        if let (None, Some(wish)) = (&opening, &inline.bind) {
            let (bound, told) = self
                .bind_along(&account, inline.agent.as_ref(), wish)
                .await?;
            (opening, session) = (Some(bound), told);
        }
        let wish = TokenWish {
            used: self.used.take(),
            invalidate: inline.invalidate,
            wanted: inline.token,
        };
        let token = match &inline.agent {
            Some(agent) => self.settle_tokens(&account, agent, wish).await,
            // A token without a client that it belongs to would be anybody's (FA-4).
            None => None,
        };
        self.machine.opened(Opened {
            session,
            failed,
            token,
        });
        opening
    }

    async fn bind_along(
        &mut self,
        account: &BareJid,
        agent: Option<&Agent>,
        wish: &Bind2,
    ) -> Bound {
        let part = match agent {
            Some(agent) => self
                .app
                .edge
                .accounts
                .client_name(account, agent)
                .await
                .ok(),
            None => None,
        };
        let named = |part: &str| match &wish.tag {
            Some(tag) => format!("{tag}/{part}"),
            None => part.to_owned(),
        };
        let random = named(&clock::name(64));
        let wished = part.as_deref().map_or_else(|| random.clone(), named);
        let config = self.app.live.get();
        let settings = settings(&config);
        let sm = wish.enable.map(|(resume, max)| OpenSm {
            smid: (resume && settings.hibernation > 0).then(|| SmId(clock::name(128).into())),
            max: max.map_or(settings.hibernation, |max| max.min(settings.hibernation)),
            seed: settings.first_count,
        });
        let enabled = sm.as_ref().map(|sm| {
            let id = sm.smid.as_ref().map(|id| id.0.to_string());
            let max = id.as_ref().map(|_| sm.max);
            Ok(Enabled { id, max })
        });
        let along = Along {
            agent: part.map(Into::into),
            sm,
            carbons: wish.carbons,
        };
        let step = negotiation::open(account, &wished, &random, along);
        match self.lead(account, step).await {
            Ok((Verdict::Bound(opening), Some(entered))) => {
                let jid = opening.session.clone();
                let opening = self.began(opening, entered, "bound").await;
                let about = self.app.services.about(&self.app.edge, account).await;
                let sm = enabled;
                Some((opening, Session::Bound { jid, sm, about }))
            }
            Ok((Verdict::NotBound(error), _)) => {
                let reason = format!("no resource could be bound: {}", error.condition.name());
                let journal = &self.app.journal;
                journal.login_failed(Some(account), self.address, None, &reason);
                self.machine.open_failed(Failure::TemporaryAuthFailure);
                None
            }
            other => {
                self.not_opened(other);
                None
            }
        }
    }

    /// Without a token the client has its password still.
    async fn settle_tokens(
        &self,
        account: &BareJid,
        agent: &Agent,
        wish: TokenWish,
    ) -> Option<GivenToken> {
        let (_, checked) = self.credentials.as_ref()?;
        let tokens = &self.app.tokens;
        let settled = tokens.settle(account, agent, checked, &self.tokens, wish);
        match settled.await {
            Ok(given) => given,
            Err(error) => {
                tracing::debug!(%account, %error, "no token is given");
                None
            }
        }
    }
}
