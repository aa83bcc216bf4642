//! Accounts that people make for themselves (XEP-0077).

use proto::BareJid;

use super::Storage;
use super::account::AccountKeys;
use super::error::StorageError;
use super::invitation::{self, Invitation};
use super::removal;

/// What became of an account that somebody wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// It is made.
    Made,
    /// The name is somebody's, or is kept for somebody.
    Taken,
    /// The invitation was used by somebody else, or taken back.
    Spent,
}

impl Storage {
    /// Makes an account for somebody who has shown this invitation, or none. The invitation is used up if, and only if,
    /// the account is made.
    pub async fn register(
        &self,
        jid: &BareJid,
        keys: &AccountKeys,
        now: u64,
        shown: Option<&Invitation>,
    ) -> Result<Registered, StorageError> {
        let mut transaction = self.database.begin().await?;
        // The name of a removed account is an operator's to give away.
        let given = shown.is_some_and(|i| i.inviter.is_none() && i.reserved.as_ref() == Some(jid));
        if (!given && removal::is_retired(&mut transaction, jid, now).await?)
            || invitation::is_reserved(&mut transaction, jid, shown, now).await?
        {
            return Ok(Registered::Taken);
        }
        if let Some(shown) = shown
            && !invitation::spend(&mut transaction, shown, jid).await?
        {
            return Ok(Registered::Spent);
        }
        // A transaction that is dropped has changed nothing.
        if !self.insert(&mut transaction, jid, keys, now).await? {
            return Ok(Registered::Taken);
        }
        transaction.commit().await?;
        Ok(Registered::Made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Ends, Purpose, testing};

    fn jid(text: &str) -> BareJid {
        BareJid::new(text).unwrap()
    }

    #[tokio::test]
    async fn re_4_only_an_account_that_is_made_uses_an_invitation_up() {
        testing::each(async |storage| {
            let keys = AccountKeys::default();
            let shown = Invitation {
                id: "1".to_owned(),
                domain: "example.org".to_owned(),
                reserved: None,
                contact: Some(jid("bob@example.org")),
                inviter: None,
                purpose: Purpose::Account,
                created: 5,
                expires: 9,
            };
            let (bob, alice) = ("bob@example.org", "alice@example.org");
            storage.create_account(&jid(bob), &keys, 0).await.unwrap();
            storage.add_invitation(&shown, b"1", 3).await.unwrap();
            let register = async |name: &str, now| {
                let (jid, shown) = (jid(name), Some(&shown));
                storage.register(&jid, &keys, now, shown).await.unwrap()
            };
            assert_eq!(register(bob, 6).await, Registered::Taken);
            assert_eq!(storage.used_invitations(10).await.unwrap(), []);
            // It was shown in time.
            assert_eq!(register(alice, 100).await, Registered::Made);
            assert_eq!(register("carol@example.org", 6).await, Registered::Spent);
            let used = storage.used_invitations(10).await.unwrap();
            assert_eq!(used, [(shown.clone(), jid(alice))]);
            assert_eq!(storage.invitations("", 10, 6).await.unwrap(), []);
        })
        .await;
    }

    #[tokio::test]
    async fn re_4_a_reserved_name_is_for_whoever_has_the_invitation() {
        testing::each(async |storage| {
            let keys = AccountKeys::default();
            let alice = jid("alice@example.org");
            let shown = Invitation {
                id: "1".to_owned(),
                domain: "example.org".to_owned(),
                reserved: Some(alice.clone()),
                contact: None,
                inviter: None,
                purpose: Purpose::Account,
                created: 5,
                expires: 9,
            };
            storage.add_invitation(&shown, b"1", 3).await.unwrap();
            let stranger = storage.register(&alice, &keys, 8, None).await;
            assert_eq!(stranger.unwrap(), Registered::Taken);
            let invited = storage.register(&alice, &keys, 8, Some(&shown)).await;
            assert_eq!(invited.unwrap(), Registered::Made);
        })
        .await;
    }

    #[tokio::test]
    async fn re_4_only_an_operator_gives_the_name_of_a_removed_account_away() {
        testing::each(async |storage| {
            let keys = AccountKeys::default();
            let alice = jid("alice@example.org");
            let mut shown = Invitation {
                id: "1".to_owned(),
                domain: "example.org".to_owned(),
                reserved: Some(alice.clone()),
                contact: None,
                inviter: Some(jid("bob@example.org")),
                purpose: Purpose::Account,
                created: 5,
                expires: 9,
            };
            storage.create_account(&alice, &keys, 1).await.unwrap();
            storage.remove_account(&alice, 4, Ends::ALL).await.unwrap();
            storage.add_invitation(&shown, b"1", 3).await.unwrap();
            let invited = storage.register(&alice, &keys, 8, Some(&shown)).await;
            assert_eq!(invited.unwrap(), Registered::Taken);
            shown.inviter = None;
            let invited = storage.register(&alice, &keys, 8, Some(&shown)).await;
            assert_eq!(invited.unwrap(), Registered::Made);
        })
        .await;
    }

    #[tokio::test]
    async fn re_1_of_two_who_want_a_name_one_gets_it() {
        testing::each(async |storage| {
            let alice = jid("alice@example.org");
            let wishes = (0..8).map(|_| {
                let (storage, alice) = (storage.clone(), alice.clone());
                tokio::spawn(async move {
                    let keys = AccountKeys::default();
                    storage.register(&alice, &keys, 8, None).await.unwrap()
                })
            });
            let mut made = 0;
            for wish in wishes.collect::<Vec<_>>() {
                made += usize::from(wish.await.unwrap() == Registered::Made);
            }
            assert_eq!(made, 1);
        })
        .await;
    }
}
