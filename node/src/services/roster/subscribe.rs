//! Subscription requests of our own clients (IM-E, outbound).
//!
//! The user's half is written to the roster here; the contact's half follows when the stanza reaches the
//! contact's account ([`super::arrival`]), for a local contact as for any other (IM-36).

use cluster::session::{Action, Relay};
use proto::stanza::error::{Condition, StanzaError};
use proto::stanza::{Kind, PresenceType, Stanza};
use proto::{BareJid, Jid};

use super::contact;
use super::settings::Quotas;
use super::subscription::{Request, State};
use crate::hooks::{Edge, Sender, Target, failure, refuse};

pub(super) async fn resolve(
    sender: Sender<'_>,
    quotas: Quotas,
    request: Request,
    to: &Jid,
    stanza: &mut Stanza,
) -> Result<Vec<Action>, StanzaError> {
    let (edge, account) = (sender.edge, sender.account);
    let peer = to.bare();
    let remote = match sender.target(Some(&Jid::from(&peer))) {
        // Nobody subscribes to themselves (IM-38), or to a server.
        Target::Own | Target::Host(_) => return Ok(Vec::new()),
        Target::Remote => true,
        Target::Account(_) | Target::Session(_) => false,
    };
    let header = stanza.header.clone();
    let repeat = repeat_key(sender.session, request, header.id.as_deref());
    let sent = contact::sent(edge, quotas, account, &peer, request, &repeat);
    let sent = sent.await.map_err(|error| failure(&error))?;

    let mut actions = Vec::new();
    if sent.hides {
        actions.extend(farewells(edge, account, &peer).await.map(Action::Send));
    }
    if sent.route && remote && request == Request::Subscribe {
        // The request stands, but its sender has to know that nobody heard it (IM-33).
        actions.extend(refuse(
            &header,
            &StanzaError::new(Condition::RemoteServerNotFound),
        ));
    } else if sent.route && !remote {
        stanza.header.from = Some(account.clone().into());
        stanza.header.to = Some(peer.into());
        actions.push(Action::Send(Relay::Subscription(stanza.pack())));
    }
    actions.extend(sent.push.map(Action::Send));
    Ok(actions)
}

/// Names a request, so that the same one is known when it is resolved again. Two equal requests of one
/// session may share a name: to repeat the outcome of the last one is harmless, and so is to do so late,
/// because any other change to the contact forgets the name.
pub fn repeat_key(session: &Jid, request: Request, id: Option<&str>) -> String {
    format!("{session} {request:?} {}", id.unwrap_or_default())
}

/// What a contact hears when everything between the two ends: what the account had asked for and what it had granted.
pub fn cancelled(
    edge: &Edge,
    account: &BareJid,
    peer: &BareJid,
    state: State,
) -> impl Iterator<Item = Relay> {
    let told = [
        (state.to() || state.ask(), Request::Unsubscribe),
        (state.from() || state.pending(), Request::Unsubscribed),
    ];
    let told = told.into_iter().filter(|(applies, _)| *applies);
    told.map(move |(_, request)| {
        let stanza = Stanza::new(Kind::Presence(request.kind())).with_id(edge.stanza_id());
        let stanza = stanza
            .with_from(Jid::from(account))
            .with_to(Jid::from(peer));
        Relay::Subscription(stanza.pack())
    })
}

/// From each available session of an account, that it is gone, to somebody who may see it no longer (IM-31).
pub async fn farewells(
    edge: &Edge,
    account: &BareJid,
    peer: &BareJid,
) -> impl Iterator<Item = Relay> + use<> {
    let peer = Jid::from(peer);
    let available = edge.presences.available(account).await;
    available.into_iter().map(move |session| {
        let stanza = Stanza::new(Kind::Presence(PresenceType::Unavailable));
        let packet = stanza.with_from(session).with_to(peer.clone()).pack();
        Relay::Presence {
            packet,
            to: vec![peer.clone()],
        }
    })
}

#[cfg(test)]
mod tests {
    use crate::router::testing::{action, acts, edge, says, session, settle};

    const ALICE: &str = "alice@example.org";
    const BOB: &str = "bob@example.org";

    fn presence(kind: &str, to: &str) -> String {
        format!("<presence type='{kind}' to='{to}' id='p'/>")
    }

    fn stanza(kind: &str, from: &str, to: &str) -> String {
        format!("<presence to='{to}' from='{from}' id='p' type='{kind}'/>")
    }

    fn push(account: &str, counter: u32, item: &str) -> String {
        // The epoch is random; see `without_epoch`.
        format!(
            "push to {account}: <iq id='00000000000000000000000000000007' type='set'>\
             <query xmlns='jabber:iq:roster' ver='E-{counter}'>{item}</query></iq>"
        )
    }

    fn without_epoch(lines: Vec<String>) -> Vec<String> {
        let fixed = lines.into_iter().map(|line| match line.find("ver='") {
            Some(at) => format!("{}E{}", &line[..at + 5], &line[at + 21..]),
            None => line,
        });
        fixed.collect()
    }

    #[tokio::test]
    async fn im_e_alice_asks_and_bob_agrees() {
        let edge = edge().await;
        let alice = session(&edge, "alice@example.org/desk");
        let bob = session(&edge, "bob@example.org/phone");

        let asked = settle(
            &edge,
            acts(&alice, &presence("subscribe", "bob@example.org/x")).await,
        )
        .await;
        let item = "<item jid='bob@example.org' subscription='none' ask='subscribe'/>";
        let request = stanza("subscribe", ALICE, BOB);
        assert_eq!(
            without_epoch(asked),
            [
                format!("subscription {request}"),
                push(ALICE, 1, item),
                format!("notice to available of {BOB}: {request}"),
            ]
        );
        // It is shown again to a session that comes later (IM-32).
        let initial = says(&bob, "<presence/>").await;
        assert!(
            initial[0].starts_with("broadcast 0 to [] probing [] showing 1: "),
            "{initial:?}"
        );

        let granted = settle(&edge, acts(&bob, &presence("subscribed", ALICE)).await).await;
        let grant = stanza("subscribed", BOB, ALICE);
        assert_eq!(
            without_epoch(granted),
            [
                format!("subscription {grant}"),
                push(
                    BOB,
                    1,
                    "<item jid='alice@example.org' subscription='from'/>"
                ),
                format!("notice to interested of {ALICE}: {grant}"),
                push(ALICE, 2, "<item jid='bob@example.org' subscription='to'/>"),
                format!("{ALICE} probes [{BOB}]"),
                format!("{ALICE} may see {BOB}"),
            ]
        );
        let initial = says(&bob, "<presence/>").await;
        assert!(
            initial[0].starts_with("broadcast 0 to [alice@example.org] probing [] showing 0: "),
            "{initial:?}"
        );
        let initial = says(&alice, "<presence><priority>3</priority></presence>").await;
        assert!(
            initial[0].starts_with("broadcast 3 to [] probing [bob@example.org] showing 0: "),
            "{initial:?}"
        );
    }

    #[tokio::test]
    async fn im_28_and_im_31_who_loses_sight_is_told_that_the_other_is_gone_first() {
        let edge = edge().await;
        let alice = session(&edge, "alice@example.org/desk");
        let bob = session(&edge, "bob@example.org/phone");
        settle(&edge, acts(&alice, &presence("subscribe", BOB)).await).await;
        settle(&edge, acts(&bob, &presence("subscribed", ALICE)).await).await;

        let ended = settle(&edge, acts(&alice, &presence("unsubscribe", BOB)).await).await;
        let gone = "presence to [alice@example.org]: \
                    <presence to='alice@example.org' from='bob@example.org/on' type='unavailable'/>";
        let seen = ended
            .iter()
            .position(|line| line == gone)
            .expect("an unavailable presence");
        let answer = ended
            .iter()
            .position(|line| line.contains("type='unsubscribed'"));
        assert!(answer.is_some_and(|at| at > seen), "{ended:?}");
        assert!(
            ended.iter().all(|line| !line.contains("subscription='to'")),
            "{ended:?}"
        );
    }

    #[tokio::test]
    async fn a_request_that_is_resolved_again_has_the_same_outcome() {
        let edge = edge().await;
        let alice = session(&edge, "alice@example.org/desk");
        let bob = session(&edge, "bob@example.org/phone");
        settle(&edge, acts(&alice, &presence("subscribe", BOB)).await).await;
        let once = says(&bob, &presence("subscribed", ALICE)).await;
        let again = says(&bob, &presence("subscribed", ALICE)).await;
        assert_eq!(once.len(), 2);
        assert_eq!(once, again);
    }

    #[tokio::test]
    async fn im_35_an_approval_in_advance_answers_for_bob() {
        let edge = edge().await;
        let bob = session(&edge, "bob@example.org/phone");
        let approved = says(&bob, &presence("subscribed", ALICE)).await;
        assert_eq!(approved.len(), 1);
        assert!(approved[0].contains("approved='true'"), "{approved:?}");
        let alice = session(&edge, "alice@example.org/desk");
        let asked = settle(&edge, acts(&alice, &presence("subscribe", BOB)).await).await;
        assert!(
            asked
                .iter()
                .all(|line| !line.starts_with("notice to available")),
            "{asked:?}"
        );
        let revealed = [
            format!("{ALICE} probes [{BOB}]"),
            format!("{ALICE} may see {BOB}"),
        ];
        assert!(asked.ends_with(&revealed), "{asked:?}");
    }

    #[tokio::test]
    async fn im_33_and_im_38_requests_that_go_nowhere() {
        let edge = edge().await;
        let alice = session(&edge, "alice@example.org/desk");
        assert!(says(&alice, &presence("subscribe", ALICE)).await.is_empty());
        assert!(
            says(&alice, &presence("subscribe", "example.org"))
                .await
                .is_empty()
        );
        let remote = acts(&alice, &presence("subscribe", "a@remote.example")).await;
        let remote: Vec<String> = remote.iter().map(action).collect();
        assert!(remote[0].contains("<remote-server-not-found"), "{remote:?}");
        assert!(remote[1].contains("ask='subscribe'"), "{remote:?}");
        // Nobody learns that an account does not exist.
        let nobody = settle(
            &edge,
            acts(&alice, &presence("subscribe", "nobody@example.org")).await,
        )
        .await;
        assert_eq!(nobody.len(), 2, "{nobody:?}");
    }
}
