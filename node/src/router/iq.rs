//! Iq stanzas (IM-D): those to a session go there, all others are answered by the server itself.

use cluster::session::{Action, Relay};
use proto::stanza::error::{Condition, StanzaError};
use proto::stanza::{IqType, Kind, Stanza};
use proto::{BareJid, Jid};

use super::context::SessionContext;
use super::dispatch::dispatch;
use crate::hooks::{Scope, Target, fail, failure, permission};

pub(super) async fn resolve(
    ctx: &SessionContext,
    stanza: Stanza,
) -> Result<Vec<Action>, StanzaError> {
    let request = matches!(stanza.header.kind, Kind::Iq(IqType::Get | IqType::Set));
    match ctx.sender().target(stanza.header.to.as_ref()) {
        Target::Remote if request => {
            if let Some(to) = &stanza.header.to {
                permission::unblocked(&ctx.edge, &ctx.session, to).await?;
            }
            fail(Condition::RemoteServerNotFound)
        }
        Target::Session(session) => relay(ctx, request, session, stanza).await,
        Target::Own if !request => Ok(answered(ctx, &ctx.account, &stanza).await),
        Target::Account(account) if !request => Ok(answered(ctx, &account, &stanza).await),
        // The answer to a roster push, or to nothing.
        _ if !request => Ok(Vec::new()),
        Target::Own => Ok(dispatch(ctx, Scope::Account, ctx.account.clone(), stanza).await),
        Target::Host(domain) => Ok(dispatch(ctx, Scope::Host, domain, stanza).await),
        Target::Account(account) => of_contact(ctx, account, stanza).await,
        Target::Remote => Ok(Vec::new()),
    }
}

/// Services hear of what may be meant for them.
async fn answered(ctx: &SessionContext, account: &BareJid, answer: &Stanza) -> Vec<Action> {
    let mut actions = Vec::new();
    for hook in ctx.services.answers() {
        actions.extend(hook.answered(ctx.sender(), account, answer).await);
    }
    actions
}

/// A stranger cannot tell an account that does not exist from one that does not answer (ST-81).
async fn of_contact(
    ctx: &SessionContext,
    account: BareJid,
    stanza: Stanza,
) -> Result<Vec<Action>, StanzaError> {
    permission::unblocked(&ctx.edge, &ctx.session, account.as_jid()).await?;
    if !ctx.edge.exists(&account).await? {
        return fail(Condition::ServiceUnavailable);
    }
    Ok(dispatch(ctx, Scope::Contact, account, stanza).await)
}

/// A request reaches a session whose account lets the sender see its presence (IM-D); the shard adds
/// those to whom that session has sent directed presence (IM-15).
async fn relay(
    ctx: &SessionContext,
    request: bool,
    session: Jid,
    stanza: Stanza,
) -> Result<Vec<Action>, StanzaError> {
    let packet = stanza.pack();
    let relay = match request {
        true => permission::request(&ctx.edge, &ctx.account, &session.bare(), packet).await,
        // An answer passes: the shard knows which ones are awaited.
        false => Ok(Relay::Iq {
            packet,
            permitted: true,
        }),
    };
    let relay = relay.map_err(|error| failure(&error))?;
    Ok(vec![Action::Send(relay)])
}

#[cfg(test)]
mod tests {
    use crate::router::testing::{edge, says, session};

    async fn ask(xml: &str) -> Vec<String> {
        says(&session(&edge().await, "alice@example.org/desk"), xml).await
    }

    #[tokio::test]
    async fn st_73_every_request_is_answered_once() {
        let pong =
            "reply <iq to='alice@example.org/desk' from='example.org' id='1' type='result'/>";
        assert_eq!(
            ask("<iq type='get' id='1' to='example.org'><ping xmlns='urn:xmpp:ping'/></iq>").await,
            [pong]
        );
        for (to, payload, condition) in [
            (
                "example.org",
                "<x xmlns='urn:unknown'/>",
                "service-unavailable",
            ),
            (
                "alice@example.org",
                "<x xmlns='urn:unknown'/>",
                "service-unavailable",
            ),
            // A stranger hears the same of who is there and of who is not (ST-81).
            (
                "bob@example.org",
                "<ping xmlns='urn:xmpp:ping'/>",
                "service-unavailable",
            ),
            (
                "nobody@example.org",
                "<vCard xmlns='vcard-temp'/>",
                "service-unavailable",
            ),
            (
                "a@remote.example",
                "<ping xmlns='urn:xmpp:ping'/>",
                "remote-server-not-found",
            ),
        ] {
            let replies = ask(&format!("<iq type='get' id='1' to='{to}'>{payload}</iq>")).await;
            assert_eq!(replies.len(), 1, "{replies:?}");
            assert!(
                replies[0].contains(&format!("<{condition} ")),
                "{to}: {replies:?}"
            );
        }
    }

    #[tokio::test]
    async fn im_23_answers_to_the_server_end_here() {
        assert!(ask("<iq type='result' id='push'/>").await.is_empty());
        assert!(
            ask("<iq type='result' id='push' to='example.org'/>")
                .await
                .is_empty()
        );
    }

    #[tokio::test]
    async fn im_d_a_stranger_s_request_is_marked_and_an_answer_passes() {
        let request =
            "<iq type='get' id='1' to='bob@example.org/on'><ping xmlns='urn:xmpp:ping'/></iq>";
        assert!(ask(request).await[0].starts_with("iq permitted=false "));
        // One's own sessions may always be asked (IM-15).
        let own =
            "<iq type='get' id='1' to='alice@example.org/on'><ping xmlns='urn:xmpp:ping'/></iq>";
        assert!(ask(own).await[0].starts_with("iq permitted=true "));
        assert!(
            ask("<iq type='result' id='1' to='bob@example.org/on'/>").await[0]
                .starts_with("iq permitted=true ")
        );
    }

    #[tokio::test]
    async fn xep_0030_disco_names_what_is_attached() {
        let info = "<query xmlns='http://jabber.org/protocol/disco#info'/>";
        let of = async |to: &str| {
            ask(&format!("<iq type='get' id='1' to='{to}'>{info}</iq>"))
                .await
                .remove(0)
        };
        let host = of("example.org").await;
        for feature in [
            "urn:xmpp:ping",
            "urn:xmpp:carbons:2",
            "msgoffline",
            "urn:xmpp:time",
            "vcard-temp",
        ] {
            assert!(
                host.contains(&format!("<feature var='{feature}'/>")),
                "{feature}: {host}"
            );
        }
        assert!(
            host.contains("category='server'") && !host.contains("urn:xmpp:mam:2"),
            "{host}"
        );
        let own = of("alice@example.org").await;
        assert!(
            own.contains("category='account'") && own.contains("var='urn:xmpp:mam:2'"),
            "{own}"
        );
        // To a stranger an account looks like none (DI-1).
        assert!(of("bob@example.org").await.contains("<service-unavailable"));
    }

    #[tokio::test]
    async fn im_74_carbons_are_switched_before_the_answer() {
        let actions = ask("<iq type='set' id='1'><enable xmlns='urn:xmpp:carbons:2'/></iq>").await;
        assert_eq!(actions[0], "carbons true");
        assert!(actions[1].starts_with("reply ") && actions[1].contains("type='result'"));
    }
}
