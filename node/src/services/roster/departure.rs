//! Contacts that the server makes, and those of accounts that are gone.

use cluster::session::Relay;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use proto::stanza::{Kind, PresenceType, Stanza};
use proto::{BareJid, Jid};

use super::contact;
use super::settings::Quotas;
use super::subscribe;
use crate::hooks::{Contacts, Edge, Farewell};
use crate::storage::StorageError;

/// Contacts that are told in one go.
const AT_A_TIME: u32 = 50;
/// The bytes that go to them, about. All of it has to fit into an entry.
const BYTES: usize = 64 << 10;

/// Keeps rosters.
pub struct Rosters {
    /// What a roster may take.
    pub quotas: Quotas,
}

impl Contacts for Rosters {
    fn befriend<'a>(
        &'a self,
        edge: &'a Edge,
        one: &'a BareJid,
        other: &'a BareJid,
    ) -> BoxFuture<'a, Result<Vec<Relay>, StorageError>> {
        async move {
            let first = contact::befriend(edge, self.quotas, one, other).await?;
            let second = contact::befriend(edge, self.quotas, other, one).await?;
            Ok(first.into_iter().chain(second).collect())
        }
        .boxed()
    }

    fn untold<'a>(
        &'a self,
        edge: &'a Edge,
        leaver: &'a BareJid,
    ) -> BoxFuture<'a, Result<Option<Farewell>, StorageError>> {
        untold(edge, leaver).boxed()
    }

    fn told<'a>(
        &'a self,
        edge: &'a Edge,
        leaver: &'a BareJid,
        contacts: &'a [BareJid],
    ) -> BoxFuture<'a, Result<(), StorageError>> {
        edge.storage.forget_departed(leaver, contacts).boxed()
    }
}

/// Who saw the account sees first that its sessions are gone (IM-31), and then that nothing is left between the two.
async fn untold(edge: &Edge, leaver: &BareJid) -> Result<Option<Farewell>, StorageError> {
    let mut contacts = edge.storage.departed(leaver, AT_A_TIME).await?;
    if contacts.is_empty() {
        return Ok(None);
    }
    let available = edge.presences.available(leaver).await;
    let stanzas = available.len() + 2;
    let mut bytes = 0;
    let fits = contacts.iter().take_while(|(contact, _)| {
        let fits = bytes <= BYTES;
        bytes += stanzas * (contact.as_str().len() + leaver.as_str().len() + 100);
        fits
    });
    let fits = fits.count();
    contacts.truncate(fits);
    let ours = contacts
        .iter()
        .filter(|(contact, _)| edge.serves(contact.domain()));
    let viewers = ours.clone().filter(|(_, state)| state.from());
    let viewers: Vec<Jid> = viewers.map(|(contact, _)| contact.into()).collect();
    let mut relays = Vec::new();
    if !viewers.is_empty() {
        relays.extend(available.into_iter().map(|session| {
            let stanza = Stanza::new(Kind::Presence(PresenceType::Unavailable));
            Relay::Presence {
                packet: stanza.with_from(session).pack(),
                to: viewers.clone(),
            }
        }));
    }
    for (contact, state) in ours {
        relays.extend(subscribe::cancelled(edge, leaver, contact, *state));
    }
    let contacts = contacts.into_iter().map(|(contact, _)| contact).collect();
    Ok(Some(Farewell { contacts, relays }))
}

#[cfg(test)]
mod tests {
    use crate::router::testing::{acts, bare, edge, says, session, settle};
    use crate::storage::Ends;

    const ALICE: &str = "alice@example.org";
    const BOB: &str = "bob@example.org";

    #[tokio::test]
    async fn re_3_contacts_of_a_removed_account_hear_of_it_until_they_have() {
        let edge = edge().await;
        let alice = session(&edge, "alice@example.org/desk");
        let bob = session(&edge, "bob@example.org/phone");
        let carol = session(&edge, "carol@example.org/pad");
        let ask = |to: &str| format!("<presence type='subscribe' to='{to}' id='p'/>");
        let grant = format!("<presence type='subscribed' to='{ALICE}' id='q'/>");
        settle(&edge, acts(&alice, &ask(BOB)).await).await;
        settle(&edge, acts(&bob, &grant).await).await;
        settle(&edge, acts(&carol, &ask(ALICE)).await).await;
        let alice = bare(ALICE);
        let contacts = edge.edge.contacts.clone();
        assert!(contacts.untold(&edge, &alice).await.unwrap().is_none());
        assert!(
            edge.storage
                .remove_account(&alice, 7, Ends::ALL)
                .await
                .unwrap()
        );
        for _ in 0..2 {
            let farewell = contacts.untold(&edge, &alice).await.unwrap().unwrap();
            let told = [bare(BOB), bare("carol@example.org")];
            assert_eq!(farewell.contacts, told);
            let relays = format!("{:?}", farewell.relays);
            // Bob granted and Carol asked; neither saw Alice.
            assert_eq!(farewell.relays.len(), 2, "{relays}");
            assert!(relays.contains("Unsubscribe") && relays.contains("Unsubscribed"));
        }
        let farewell = contacts.untold(&edge, &alice).await.unwrap().unwrap();
        contacts
            .told(&edge, &alice, &farewell.contacts)
            .await
            .unwrap();
        assert!(contacts.untold(&edge, &alice).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn re_4_whom_the_server_makes_contacts_see_each_other() {
        let edge = edge().await;
        let (alice, bob) = (bare(ALICE), bare(BOB));
        let contacts = edge.edge.contacts.clone();
        let pushes = contacts.befriend(&edge, &alice, &bob).await.unwrap();
        assert_eq!(pushes.len(), 2);
        let again = contacts.befriend(&edge, &alice, &bob).await.unwrap();
        assert!(again.is_empty());
        for (own, other) in [("alice@example.org/x", BOB), ("bob@example.org/x", ALICE)] {
            let ctx = session(&edge, own);
            let presence = says(&ctx, "<presence/>").await.concat();
            let expect = format!("to [{other}] probing [{other}]");
            assert!(presence.contains(&expect), "{presence}");
        }
        assert!(
            edge.storage
                .remove_account(&alice, 7, Ends::ALL)
                .await
                .unwrap()
        );
        // Bob saw her.
        let farewell = contacts.untold(&edge, &alice).await.unwrap().unwrap();
        let relays = format!("{:?}", farewell.relays);
        assert_eq!(farewell.relays.len(), 3, "{relays}");
        assert!(relays.contains("Unavailable"), "{relays}");
    }
}
