//! Messages (IM-B). Whether and to which sessions a message is delivered is the shard's decision; here it
//! gets its archive id and its traits, and loses what only a server may say.

use cluster::session::{Action, Relay};
use proto::stanza::MessageType;
use proto::stanza::Stanza;
use proto::stanza::error::{Condition, StanzaError};

use super::classify;
use super::context::SessionContext;
use crate::hooks::{Message, Target, fail, permission};

pub(super) async fn resolve(
    ctx: &SessionContext,
    kind: MessageType,
    mut stanza: Stanza,
) -> Result<Vec<Action>, StanzaError> {
    classify::strip(&ctx.services, &mut stanza, |domain| ctx.edge.serves(domain));
    let account = match ctx.sender().target(stanza.header.to.as_ref()) {
        Target::Remote if kind == MessageType::Error => return Ok(Vec::new()),
        Target::Remote => return in_vain(ctx, &stanza, Condition::RemoteServerNotFound).await,
        Target::Host(_) if kind == MessageType::Error => return Ok(Vec::new()),
        Target::Host(_) => return fail(Condition::ServiceUnavailable),
        Target::Own => {
            // Only an absent address is filled in: one that was written stays (IM-4).
            stanza
                .header
                .to
                .get_or_insert_with(|| ctx.account.clone().into());
            ctx.account.clone()
        }
        Target::Account(account) => account,
        Target::Session(session) => session.bare(),
    };
    if account != ctx.account && !ctx.edge.exists(&account).await? {
        return match kind {
            MessageType::Error | MessageType::Headline => Ok(Vec::new()),
            MessageType::Normal | MessageType::Chat | MessageType::Groupchat => {
                in_vain(ctx, &stanza, Condition::ServiceUnavailable).await
            }
        };
    }
    let mut message = Message {
        traits: classify::traits(&ctx.services, &stanza),
        before: Vec::new(),
        account,
        stanza,
    };
    for hook in ctx.services.messages() {
        hook.turn(ctx.sender(), &mut message).await?;
    }
    let mut actions = message.before;
    actions.push(Action::Send(Relay::Message(cluster::session::Message {
        packet: message.stanza.pack(),
        mid: ctx.edge.archive_id(),
        traits: message.traits,
    })));
    Ok(actions)
}

/// It cannot be delivered. Whoever has blocked the addressee hears of that rather than of this (IM-70).
async fn in_vain(
    ctx: &SessionContext,
    stanza: &Stanza,
    condition: Condition,
) -> Result<Vec<Action>, StanzaError> {
    if let Some(to) = &stanza.header.to {
        permission::unblocked(&ctx.edge, &ctx.session, to).await?;
    }
    fail(condition)
}

#[cfg(test)]
mod tests {
    use crate::router::testing::{edge, says, session};

    #[track_caller]
    fn one(actions: Vec<String>) -> String {
        assert!(actions.len() <= 1, "{actions:?}");
        actions.into_iter().next().unwrap_or_default()
    }

    async fn say(to: &str, kind: &str) -> String {
        let ctx = session(&edge().await, "alice@example.org/desk");
        let xml = format!(
            "<message to='{to}' type='{kind}' from='mallory@x' id='1'><body>b</body></message>"
        );
        one(says(&ctx, &xml).await)
    }

    #[tokio::test]
    async fn st_67_a_message_bears_the_session_s_address() {
        let expect = "message <message to='bob@example.org' from='alice@example.org/desk' id='1' type='chat'>\
                      <body>b</body></message>";
        assert_eq!(say("bob@example.org", "chat").await, expect);
        assert!(
            say("bob@example.org/gone", "normal")
                .await
                .starts_with("message ")
        );
    }

    #[tokio::test]
    async fn im_b_a_message_to_nobody_is_refused_by_type() {
        for kind in ["chat", "normal", "groupchat"] {
            let refusal = say("nobody@example.org", kind).await;
            assert!(
                refusal.contains("<service-unavailable"),
                "{kind}: {refusal}"
            );
        }
        for kind in ["headline", "error"] {
            assert_eq!(say("nobody@example.org/x", kind).await, "");
        }
    }

    #[tokio::test]
    async fn im_11_and_st_80_hosts_take_no_messages() {
        assert!(
            say("example.org", "chat")
                .await
                .contains("<service-unavailable")
        );
        assert!(
            say("a@remote.example", "chat")
                .await
                .contains("<remote-server-not-found")
        );
        assert_eq!(say("example.org", "error").await, "");
        assert_eq!(say("a@remote.example", "error").await, "");
    }

    #[tokio::test]
    async fn st_71_a_message_without_address_is_for_the_own_account() {
        let ctx = session(&edge().await, "alice@example.org/desk");
        let sent = one(says(&ctx, "<message><body>b</body></message>").await);
        assert!(
            sent.starts_with("message <message to='alice@example.org' "),
            "{sent}"
        );
    }

    #[tokio::test]
    async fn without_the_database_the_sender_is_told_to_wait() {
        let edge = edge().await;
        edge.storage.close().await;
        let ctx = session(&edge, "alice@example.org/desk");
        let refusal = one(says(
            &ctx,
            "<message to='bob@example.org' id='1'><body>b</body></message>",
        )
        .await);
        assert!(
            refusal.contains("<error type='wait' code='500'><internal-server-error"),
            "{refusal}"
        );
        let own = one(says(
            &ctx,
            "<message to='alice@example.org'><body>b</body></message>",
        )
        .await);
        assert!(own.starts_with("message "), "{own}");
    }

    #[tokio::test]
    async fn t_72_what_is_too_long_when_it_is_written_is_refused_before_it_is_handled() {
        let ctx = session(&edge().await, "alice@example.org/desk");
        // As a client may send it, in little more than a byte for each.
        let body = format!("<body><![CDATA[{}]]></body>", "&".repeat(200_000));
        let chat = format!("<message to='bob@example.org' type='chat' id='1'>{body}</message>");
        let refusal = one(says(&ctx, &chat).await);
        assert!(refusal.contains("<policy-violation"), "{refusal}");
        let presence = format!("<presence to='bob@example.org' id='1'>{body}</presence>");
        let refusal = one(says(&ctx, &presence).await);
        assert!(refusal.contains("<policy-violation"), "{refusal}");
    }
}
