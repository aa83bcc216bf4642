//! What an account's first presence needs of its roster, in one question: a login that asks three is a third dearer.

use proto::BareJid;

use super::item::Subscription;
use super::row::address;
use crate::storage::{Row, Storage, StorageError};

/// How many requests are shown at a time.
const MOST_REQUESTS: usize = 1000;

/// Whom an account's presence concerns. Each list is in the order of addresses.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Audience {
    /// Who may see the account's presence (subscription `from` or `both`).
    pub subscribers: Vec<BareJid>,
    /// Whose presence the account may see: both rosters agree on it.
    pub visible: Vec<BareJid>,
    /// The requests that await the account's answer, written (IM-32), as far as they are shown at a time.
    pub requests: Vec<String>,
}

impl Audience {
    fn add(&mut self, row: &Row) -> Result<(), StorageError> {
        let contact = address(row, 0)?;
        let subscription =
            Subscription::parse(&row.text(1)?).ok_or(StorageError::Damaged("a subscription"))?;
        if let Some(request) = row.text_or_none(2)?
            && self.requests.len() < MOST_REQUESTS
        {
            self.requests.push(request);
        }
        let is_refused = row.truth(3)?;
        if subscription.to() && !is_refused {
            self.visible.push(contact.clone());
        }
        if subscription.from() {
            self.subscribers.push(contact);
        }
        Ok(())
    }
}

impl Storage {
    /// Whom an account's presence concerns.
    pub(in crate::services) async fn audience(
        &self,
        account: &BareJid,
    ) -> Result<Audience, StorageError> {
        let sql = "SELECT own.contact, own.subscription, own.request, \
                   CAST(COALESCE(theirs.removed, 1) AS BIGINT) FROM roster own \
                   LEFT JOIN roster theirs ON theirs.account = own.contact AND theirs.contact = own.account \
                   AND theirs.removed = 0 AND theirs.subscription IN ('from', 'both') \
                   AND own.subscription IN ('to', 'both') \
                   WHERE own.account = $1 AND own.removed = 0 \
                   AND (own.subscription <> 'none' OR own.request IS NOT NULL) ORDER BY own.contact";
        let rows = self
            .database
            .rows(sql, vec![account.as_str().into()])
            .await?;
        let mut audience = Audience::default();
        for row in &rows {
            audience.add(row)?;
        }
        Ok(audience)
    }
}

#[cfg(test)]
mod tests {
    use super::super::item::{Change, RosterItem};
    use super::*;
    use crate::services::roster::settings::Quotas;
    use crate::storage::testing;

    fn jid(name: &str) -> BareJid {
        BareJid::new(&format!("{name}@example.org")).unwrap()
    }

    async fn put(
        storage: &Storage,
        (account, contact): (&str, &str),
        subscription: Subscription,
        request: Option<&str>,
    ) {
        let change = |_: Option<&RosterItem>| {
            Change::Put(RosterItem {
                listed: true,
                subscription,
                request: request.map(str::to_owned),
                ..RosterItem::new(jid(contact))
            })
        };
        let (account, contact) = (jid(account), jid(contact));
        let put = storage.update_contact(Quotas::default(), &account, &contact, None, change);
        put.await.unwrap();
    }

    #[tokio::test]
    async fn im_32_im_39_the_first_presence_learns_of_viewers_contacts_and_requests_at_once() {
        use Subscription::{Both, From, None as Neither, To};
        testing::each(async |storage| {
            for (contact, subscription, request) in [
                ("bob", Both, None),
                ("carol", To, None),
                ("dora", From, Some("<presence type='subscribe'/>")),
                ("eve", Neither, Some("<presence/>")),
                ("frank", Neither, None),
            ] {
                put(&storage, ("alice", contact), subscription, request).await;
            }
            put(&storage, ("bob", "alice"), Both, None).await;
            // Carol's roster lets alice see nothing.
            put(&storage, ("carol", "alice"), To, None).await;

            let audience = storage.audience(&jid("alice")).await.unwrap();
            assert_eq!(audience.subscribers, [jid("bob"), jid("dora")]);
            assert_eq!(audience.visible, [jid("bob")]);
            assert_eq!(
                audience.requests,
                ["<presence type='subscribe'/>", "<presence/>"]
            );
            let nobody = storage.audience(&jid("nobody")).await.unwrap();
            assert_eq!(nobody, Audience::default());
        })
        .await;
    }
}
