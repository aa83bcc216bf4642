//! Invitations (XEP-0401, XEP-0379, XEP-0445). The token that is given away is not stored, only its hash.
//!
//! # Invariants
//!
//! 1. An invitation leads to one account or one contact at most.
//! 2. A name is reserved by one invitation at a time.
//! 3. There are at most [`MOST`] of them, and as many of one account as its bound says, or a few more if several are
//!    made at the same moment. Those that led to a contact within the last hour count. What operators make in somebody's
//!    name is counted by itself.

use proto::BareJid;

use super::Storage;
use super::account::name;
use super::database::Transaction;
use super::error::StorageError;
use super::row::Row;

/// All that may be there.
const MOST: u64 = if cfg!(test) { 20 } else { 10_000 };
/// How long one that has expired is kept, in milliseconds: who has shown it in time may take longer to fill in a form.
/// One that has led to a contact is kept for as long.
const KEPT: u64 = 3600 * 1000;

/// What an invitation may lead to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// A new account.
    #[default]
    Account,
    /// A contact who has an account already.
    Contact,
    /// Whichever comes first.
    Either,
}

impl Purpose {
    const ALL: [Self; 3] = [Self::Account, Self::Contact, Self::Either];

    fn number(self) -> i64 {
        match self {
            Self::Account => 0,
            Self::Contact => 1,
            Self::Either => 2,
        }
    }
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Its name for operators. It is worth nothing to anybody else.
    pub id: String,
    /// Where the account will be.
    pub domain: String,
    /// The only account that may be made with it. Nobody else gets its name meanwhile.
    pub reserved: Option<BareJid>,
    /// Who invites: a contact of the new account.
    pub contact: Option<BareJid>,
    /// Who has made it, if that was no operator.
    pub inviter: Option<BareJid>,
    /// What it may lead to.
    pub purpose: Purpose,
    /// When it was made, in milliseconds since 1970.
    pub created: u64,
    /// When it ends.
    pub expires: u64,
}

/// What became of one that was to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is there.
    Yes,
    /// Its name is an account's, or reserved already.
    NameTaken,
    /// There are too many.
    TooMany,
}

impl Storage {
    /// Adds an invitation; `digest` is the hash of its token, and of one account there are at most `most`. It takes the
    /// place of one with the same id that nobody has used.
    pub async fn add_invitation(
        &self,
        invitation: &Invitation,
        digest: &[u8],
        most: u64,
    ) -> Result<Added, StorageError> {
        let mut transaction = self.database.begin().await?;
        let earlier = "DELETE FROM invitation WHERE id = $1 AND used_by IS NULL";
        let id = vec![invitation.id.as_str().into()];
        transaction.execute(earlier, id).await?;
        if is_full(&mut transaction, invitation, most).await? {
            return Ok(Added::TooMany);
        }
        if let Some(reserved) = &invitation.reserved {
            let sql = "SELECT 1 FROM account WHERE localpart = $1 AND domain = $2";
            if transaction.row(sql, name(reserved)).await?.is_some() {
                return Ok(Added::NameTaken);
            }
            let ended =
                "DELETE FROM invitation WHERE reserved = $1 AND expires <= $2 AND used_by IS NULL";
            let values = vec![reserved.as_str().into(), invitation.created.into()];
            transaction.execute(ended, values).await?;
        }
        // The index lets no other one have the name.
        let sql = "INSERT INTO invitation \
                   (id, digest, domain, reserved, contact, created, expires, inviter, purpose) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING";
        let text = |jid: &Option<BareJid>| jid.as_ref().map(|jid| jid.as_str().to_owned());
        let values = vec![
            invitation.id.as_str().into(),
            Some(digest.to_vec()).into(),
            invitation.domain.as_str().into(),
            text(&invitation.reserved).into(),
            text(&invitation.contact).into(),
            invitation.created.into(),
            invitation.expires.into(),
            text(&invitation.inviter).into(),
            invitation.purpose.number().into(),
        ];
        let added = transaction.execute(sql, values).await? == 1;
        transaction.commit().await?;
        Ok(if added { Added::Yes } else { Added::NameTaken })
    }

    /// The invitation whose token has this hash, if an account may still be made with it at this domain.
    pub async fn invitation(
        &self,
        digest: &[u8],
        domain: &str,
        now: u64,
    ) -> Result<Option<Invitation>, StorageError> {
        let sql = "SELECT id, domain, reserved, contact, created, expires, used_by, inviter, purpose FROM invitation \
                   WHERE digest = $1 AND domain = $2 AND expires > $3 AND used_by IS NULL AND purpose <> 1";
        let values = vec![Some(digest.to_vec()).into(), domain.into(), now.into()];
        let row = self.database.row(sql, values).await?;
        row.map(|row| invitation(&row)).transpose()
    }

    /// Somebody who has an account shows the token of this hash to become a contact of who has made it. It is used up
    /// then. `false` if it is none of that account's for a contact, or not good any more. Whoever has used it may show
    /// it again for a while, and has the same answer.
    pub async fn redeem_invitation(
        &self,
        digest: &[u8],
        inviter: &BareJid,
        by: &BareJid,
        now: u64,
    ) -> Result<bool, StorageError> {
        let sql = "UPDATE invitation SET used_by = $3, settled = 1, \
                   expires = CASE WHEN expires > $4 THEN $4 ELSE expires END \
                   WHERE digest = $1 AND contact = $2 AND purpose <> 0 AND \
                   ((used_by IS NULL AND expires > $4) OR (used_by = $3 AND settled = 1))";
        let values = vec![
            Some(digest.to_vec()).into(),
            inviter.as_str().into(),
            by.as_str().into(),
            now.into(),
        ];
        Ok(self.database.execute(sql, values).await? == 1)
    }

    /// Up to `max` invitations that may still be used, by their names, behind `after`.
    pub async fn invitations(
        &self,
        after: &str,
        max: u32,
        now: u64,
    ) -> Result<Vec<Invitation>, StorageError> {
        let sql = "SELECT id, domain, reserved, contact, created, expires, used_by, inviter, purpose FROM invitation \
                   WHERE id > $1 AND expires > $2 AND used_by IS NULL ORDER BY id LIMIT 0 + $3";
        let values = vec![after.into(), now.into(), i64::from(max).into()];
        let rows = self.database.rows(sql, values).await?;
        rows.iter().map(invitation).collect()
    }

    /// Takes an invitation back, or forgets one that has done its part. `false` if there is none of that name.
    pub async fn remove_invitation(&self, id: &str) -> Result<bool, StorageError> {
        let sql = "DELETE FROM invitation WHERE id = $1";
        let removed = self.database.execute(sql, vec![id.into()]).await?;
        Ok(removed == 1)
    }

    /// Up to `max` invitations that accounts were made with, and these accounts.
    pub async fn used_invitations(
        &self,
        max: u32,
    ) -> Result<Vec<(Invitation, BareJid)>, StorageError> {
        let sql = "SELECT id, domain, reserved, contact, created, expires, used_by, inviter, purpose FROM invitation \
                   WHERE used_by IS NOT NULL AND settled = 0 ORDER BY id LIMIT 0 + $1";
        let rows = self.database.rows(sql, vec![i64::from(max).into()]).await?;
        let used = rows.iter().map(|row| {
            let account = address(row, 6)?.ok_or(StorageError::Damaged("an address"))?;
            Ok((invitation(row)?, account))
        });
        used.collect()
    }

    /// Forgets those that nobody can use any more.
    pub async fn forget_expired_invitations(&self, now: u64) -> Result<(), StorageError> {
        let sql = "DELETE FROM invitation WHERE expires < $1 AND (used_by IS NULL OR settled = 1)";
        let values = vec![now.saturating_sub(KEPT).into()];
        self.database.execute(sql, values).await.map(drop)
    }
}

/// Whether there may be no more, of anybody or of whom this one is counted for: who has made it, or, apart from these,
/// in whose name operators have.
async fn is_full(
    transaction: &mut Transaction,
    invitation: &Invitation,
    most: u64,
) -> Result<bool, StorageError> {
    let (whose, sql) = match &invitation.inviter {
        Some(inviter) => (
            Some(inviter),
            "SELECT count(*), count(CASE WHEN inviter = $1 THEN 1 END) FROM invitation \
             WHERE expires > $2 OR settled = 1",
        ),
        None => (
            invitation.contact.as_ref(),
            "SELECT count(*), count(CASE WHEN inviter IS NULL AND contact = $1 THEN 1 END) FROM invitation \
             WHERE expires > $2 OR settled = 1",
        ),
    };
    let whose = whose.map_or("", BareJid::as_str);
    let values = vec![whose.into(), invitation.created.into()];
    let row = transaction.row(sql, values).await?;
    let (all, own) = match row {
        Some(row) => (row.count(0)?, row.count(1)?),
        None => (0, 0),
    };
    Ok(all >= MOST || own >= most)
}

/// Whether an invitation keeps the name for somebody else than who has shown `shown`.
pub(super) async fn is_reserved(
    transaction: &mut Transaction,
    jid: &BareJid,
    shown: Option<&Invitation>,
    now: u64,
) -> Result<bool, StorageError> {
    let sql = "SELECT 1 FROM invitation \
               WHERE reserved = $1 AND id <> $2 AND expires > $3 AND used_by IS NULL";
    let shown = shown.map_or("", |shown| shown.id.as_str());
    let values = vec![jid.as_str().into(), shown.into(), now.into()];
    Ok(transaction.row(sql, values).await?.is_some())
}

/// Uses an invitation up. `false` if somebody else has, or it was taken back. Whether it has expired was asked when it
/// was shown (RE-4).
pub(super) async fn spend(
    transaction: &mut Transaction,
    invitation: &Invitation,
    account: &BareJid,
) -> Result<bool, StorageError> {
    let sql = "UPDATE invitation SET used_by = $2 WHERE id = $1 AND used_by IS NULL";
    let values = vec![invitation.id.as_str().into(), account.as_str().into()];
    Ok(transaction.execute(sql, values).await? == 1)
}

fn address(row: &Row, index: usize) -> Result<Option<BareJid>, StorageError> {
    let text = row.text_or_none(index)?;
    let jid = text.map(|text| BareJid::new(&text)).transpose();
    jid.map_err(|_| StorageError::Damaged("an address"))
}

fn invitation(row: &Row) -> Result<Invitation, StorageError> {
    let purpose = row.number_or_none(8)?;
    let mut known = Purpose::ALL.into_iter();
    let purpose = known.find(|known| Some(known.number()) == purpose);
    Ok(Invitation {
        id: row.text(0)?,
        domain: row.text(1)?,
        reserved: address(row, 2)?,
        contact: address(row, 3)?,
        inviter: address(row, 7)?,
        purpose: purpose.ok_or(StorageError::Damaged("the purpose of an invitation"))?,
        created: row.count(4)?,
        expires: row.count(5)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{AccountKeys, Ends, testing};

    const MOST_OF_ONE: u64 = 3;

    fn jid(text: &str) -> BareJid {
        BareJid::new(text).unwrap()
    }

    fn until(id: &str, expires: u64) -> Invitation {
        Invitation {
            id: id.to_owned(),
            domain: "example.org".to_owned(),
            reserved: None,
            contact: None,
            inviter: None,
            purpose: Purpose::Account,
            created: 5,
            expires,
        }
    }

    async fn add(storage: &Storage, invitation: &Invitation) -> Added {
        let digest = invitation.id.as_bytes();
        let added = storage.add_invitation(invitation, digest, MOST_OF_ONE);
        added.await.unwrap()
    }

    #[tokio::test]
    async fn re_4_an_invitation_is_found_by_its_hash_until_it_ends() {
        testing::each(async |storage| {
            let one = until("1", 9);
            assert_eq!(add(&storage, &one).await, Added::Yes);
            let found = async |digest: &[u8], domain, now| {
                storage.invitation(digest, domain, now).await.unwrap()
            };
            assert_eq!(found(b"1", "example.org", 8).await, Some(one.clone()));
            assert_eq!(found(b"1", "example.org", 9).await, None);
            assert_eq!(found(b"1", "example.net", 8).await, None);
            assert_eq!(found(b"2", "example.org", 8).await, None);
            assert_eq!(storage.invitations("", 10, 8).await.unwrap(), [one]);
            assert_eq!(storage.invitations("1", 10, 8).await.unwrap(), []);
            assert_eq!(storage.invitations("", 10, 9).await.unwrap(), []);
            storage.forget_expired_invitations(9 + KEPT).await.unwrap();
            assert!(storage.remove_invitation("1").await.unwrap());
            assert!(!storage.remove_invitation("1").await.unwrap());
            add(&storage, &until("1", 9)).await;
            let later = 10 + KEPT;
            storage.forget_expired_invitations(later).await.unwrap();
            assert!(!storage.remove_invitation("1").await.unwrap());
        })
        .await;
    }

    #[tokio::test]
    async fn re_4_a_name_is_reserved_by_one_invitation_until_it_ends() {
        testing::each(async |storage| {
            let keys = AccountKeys::default();
            let bob = jid("bob@example.org");
            storage.create_account(&bob, &keys, 0).await.unwrap();
            let reserving = |id: &str, name: &str, created| Invitation {
                reserved: Some(jid(name)),
                created,
                ..until(id, 9)
            };
            let alice = "alice@example.org";
            for (invitation, expect) in [
                (reserving("1", "bob@example.org", 5), Added::NameTaken),
                (reserving("2", alice, 5), Added::Yes),
                (reserving("3", alice, 5), Added::NameTaken),
                (reserving("4", alice, 9), Added::Yes),
            ] {
                assert_eq!(add(&storage, &invitation).await, expect, "{invitation:?}");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn t_54_invitations_are_bounded_and_go_with_the_account_that_has_made_them() {
        testing::each(async |storage| {
            let of = |id: u64, name: &str| Invitation {
                contact: Some(jid(name)),
                ..until(&id.to_string(), 9)
            };
            for n in 0..MOST_OF_ONE {
                assert_eq!(add(&storage, &of(n, "alice@x")).await, Added::Yes);
            }
            assert_eq!(add(&storage, &of(100, "alice@x")).await, Added::TooMany);
            for n in MOST_OF_ONE..MOST {
                let id = (1000 + n).to_string();
                assert_eq!(add(&storage, &until(&id, 9)).await, Added::Yes);
            }
            assert_eq!(add(&storage, &of(101, "bob@x")).await, Added::TooMany);
            let alice = jid("alice@x");
            let removed = storage.remove_account(&alice, 7, Ends::ALL).await;
            assert!(!removed.unwrap(), "it was never there, but in invitations");
            assert_eq!(add(&storage, &of(101, "bob@x")).await, Added::Yes);
        })
        .await;
    }

    #[tokio::test]
    async fn re_5_what_operators_make_in_a_user_s_name_leaves_the_user_his_own() {
        testing::each(async |storage| {
            let of = |id: u64, inviter: Option<&str>| Invitation {
                contact: Some(jid("alice@x")),
                inviter: inviter.map(jid),
                ..until(&id.to_string(), 9)
            };
            for (first, inviter) in [(0, None), (100, Some("alice@x"))] {
                for n in 0..MOST_OF_ONE {
                    let added = add(&storage, &of(first + n, inviter)).await;
                    assert_eq!(added, Added::Yes, "{inviter:?}");
                }
                let more = add(&storage, &of(first + 50, inviter)).await;
                assert_eq!(more, Added::TooMany, "{inviter:?}");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn re_6_a_contact_uses_an_invitation_up_and_finds_it_again_for_a_while() {
        testing::each(async |storage| {
            let (alice, bob) = (jid("alice@x"), jid("bob@x"));
            let of = |id: &str, purpose| Invitation {
                contact: Some(alice.clone()),
                inviter: Some(alice.clone()),
                purpose,
                ..until(id, 9)
            };
            for (id, purpose) in [("0", Purpose::Account), ("1", Purpose::Contact)] {
                assert_eq!(add(&storage, &of(id, purpose)).await, Added::Yes);
            }
            let shown = storage.invitation(b"1", "example.org", 8).await;
            assert_eq!(shown.unwrap(), None, "no account is made with it");
            let redeem = async |id: &str, inviter: &BareJid, by: &BareJid, now| {
                let redeemed = storage.redeem_invitation(id.as_bytes(), inviter, by, now);
                redeemed.await.unwrap()
            };
            assert!(!redeem("0", &alice, &bob, 8).await);
            assert!(!redeem("1", &bob, &alice, 8).await);
            assert!(!redeem("1", &alice, &bob, 9).await, "it has ended");
            for now in [8, 20] {
                assert!(redeem("1", &alice, &bob, now).await);
                assert!(!redeem("1", &alice, &jid("eve@x"), 8).await);
            }
            assert_eq!(storage.used_invitations(10).await.unwrap(), []);
            // It counts for as long as it is there.
            assert_eq!(add(&storage, &of("2", Purpose::Either)).await, Added::Yes);
            let more = of("3", Purpose::Either);
            assert_eq!(add(&storage, &more).await, Added::TooMany);
            let later = 9 + KEPT;
            storage.forget_expired_invitations(later).await.unwrap();
            assert!(!redeem("1", &alice, &bob, 8).await);
            assert_eq!(add(&storage, &more).await, Added::Yes);
        })
        .await;
    }

    #[tokio::test]
    async fn re_5_an_invitation_takes_the_place_of_one_of_its_id() {
        testing::each(async |storage| {
            let named = Invitation {
                reserved: Some(jid("alice@example.org")),
                ..until("1", 9)
            };
            for digest in [b"a", b"b"] {
                let added = storage.add_invitation(&named, digest, 1).await;
                assert_eq!(added.unwrap(), Added::Yes);
            }
            let first = storage.invitation(b"a", "example.org", 8).await;
            assert_eq!(first.unwrap(), None);
            let second = storage.invitation(b"b", "example.org", 8).await;
            assert_eq!(second.unwrap(), Some(named));
        })
        .await;
    }
}
