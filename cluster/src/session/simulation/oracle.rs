//! Judges what the clients saw.

use std::collections::{BTreeMap, BTreeSet};

use proto::BareJid;

use super::client::Client;

/// The first broken invariant, in words.
pub(super) fn judge(clients: &[Client]) -> Result<(), String> {
    let mut sent: BTreeMap<u64, (usize, &BareJid)> = BTreeMap::new();
    for (n, client) in clients.iter().enumerate() {
        for (_, uid, to) in &client.sent {
            sent.insert(*uid, (n, to));
        }
    }
    for client in clients {
        let alone = clients.iter().filter(|c| c.account == client.account);
        judge_receiver(client, &sent, alone.count() == 1)?;
    }
    for client in clients {
        judge_answers(client)?;
        for uid in &client.acknowledged {
            let Some((_, to)) = sent.get(uid) else {
                continue;
            };
            let receivers = clients.iter().filter(|c| c.account == **to);
            let has = |all: fn(&Client) -> &Vec<(u32, u64)>| {
                receivers
                    .clone()
                    .any(|c| all(c).iter().any(|(_, received)| received == uid))
            };
            if !has(|c| &c.received) && !has(|c| &c.copies) {
                return Err(format!("{uid} to {to} was acknowledged and is lost (I-1)"));
            }
        }
    }
    Ok(())
}

/// Every question gets one answer, from whoever was asked or from the server in its stead. Who ends a
/// session before the answer comes, or asks somebody who is there and silent, gets none.
fn judge_answers(client: &Client) -> Result<(), String> {
    for asked in &client.asked {
        let (session, uid) = *asked;
        let answers = client.answers.iter().filter(|a| *a == asked).count();
        let due = client.acknowledged.contains(&uid)
            && session == client.session
            && !uid.is_multiple_of(4);
        if answers > 1 || (due && answers == 0) {
            let who = &client.jid;
            return Err(format!("{uid} of {who} got {answers} answers (IM-16)"));
        }
    }
    Ok(())
}

/// `alone`: the account has no other client, whose messages come late when it ends without them.
fn judge_receiver(
    client: &Client,
    sent: &BTreeMap<u64, (usize, &BareJid)>,
    alone: bool,
) -> Result<(), String> {
    let account = &client.account;
    let (mut seen, mut copies) = (BTreeSet::new(), BTreeSet::new());
    if let Some((_, uid)) = client.copies.iter().find(|copied| !copies.insert(*copied)) {
        return Err(format!(
            "a copy of {uid} came twice in one session of {account} (I-3)"
        ));
    }
    let late: BTreeSet<&(u32, u64)> = client.late.iter().collect();
    let mut newest: BTreeMap<(u32, usize), u64> = BTreeMap::new();
    for received in &client.received {
        let (session, uid) = received;
        let Some((sender, to)) = sent.get(uid) else {
            return Err(format!("{uid} was never sent (I-2)"));
        };
        if *to != account {
            return Err(format!("{uid} for {to} reached {account} (I-2)"));
        }
        if !seen.insert(received) {
            return Err(format!(
                "{uid} came twice in one session of {account} (I-3)"
            ));
        }
        if copies.contains(received) {
            return Err(format!(
                "{uid} and its copy came in one session of {account} (IM-14)"
            ));
        }
        if late.contains(received) && !alone {
            continue;
        }
        if let Some(before) = newest
            .insert((*session, *sender), *uid)
            .filter(|before| before > uid)
        {
            return Err(format!("{uid} came after {before} at {account} (I-5)"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> BareJid {
        BareJid::new(&format!("{name}@example.org")).expect("valid")
    }

    /// Messages 1 and 2 from a to b, acknowledged; b received what is given.
    #[track_caller]
    fn check(received: &[(u32, u64)], expect: &str) {
        check_copies(received, &[], expect);
    }

    /// The same, and copies.
    #[track_caller]
    fn check_copies(received: &[(u32, u64)], copies: &[(u32, u64)], expect: &str) {
        let mut a = Client::new(account("a"), "sim", true);
        a.sent = vec![(1, 1, account("b")), (1, 2, account("b"))];
        a.acknowledged = vec![1, 2];
        let mut b = Client::new(account("b"), "sim", true);
        b.received = received.to_vec();
        b.copies = copies.to_vec();
        let verdict = judge(&[a, b]).err().unwrap_or_default();
        assert!(
            verdict.contains(expect) && expect.is_empty() == verdict.is_empty(),
            "{verdict}"
        );
    }

    #[test]
    fn bad_histories_are_refused_by_the_right_invariant() {
        check(&[(1, 1), (1, 2)], "");
        check(&[(1, 1), (1, 2), (2, 1)], "");
        check(&[(1, 1)], "I-1");
        check(&[(1, 1), (1, 2), (1, 3)], "I-2");
        check(&[(1, 1), (1, 1), (1, 2)], "I-3");
        check(&[(1, 2), (1, 1)], "I-5");
        check_copies(&[(1, 2)], &[(1, 1)], "");
        check_copies(&[(1, 2), (2, 1)], &[(1, 1)], "");
        check_copies(&[(1, 2)], &[(1, 1), (1, 1)], "I-3");
        check_copies(&[(1, 1), (1, 2)], &[(1, 1)], "IM-14");
    }

    #[test]
    fn a_question_with_two_answers_or_none_is_refused() {
        for (answers, broken) in [(0, true), (1, false), (2, true)] {
            let mut a = Client::new(account("a"), "sim", true);
            a.session = 1;
            a.asked = vec![(1, 5)];
            a.acknowledged = vec![5];
            a.answers = vec![(1, 5); answers];
            let verdict = judge(&[a]).err().unwrap_or_default();
            assert_eq!(verdict.contains("IM-16"), broken, "{verdict}");
        }
    }
}
