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
        judge_receiver(client, &sent)?;
    }
    for client in clients {
        for uid in &client.acknowledged {
            let (_, to) = sent[uid];
            let mut receivers = clients.iter().filter(|c| c.account == *to);
            if !receivers.any(|c| c.received.iter().any(|(_, received)| received == uid)) {
                return Err(format!("{uid} to {to} was acknowledged and is lost (I-1)"));
            }
        }
    }
    Ok(())
}

fn judge_receiver(client: &Client, sent: &BTreeMap<u64, (usize, &BareJid)>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    let mut newest: BTreeMap<(u32, usize), u64> = BTreeMap::new();
    for (session, uid) in &client.received {
        let Some((sender, to)) = sent.get(uid) else {
            return Err(format!("{uid} was never sent (I-2)"));
        };
        if **to != client.account {
            return Err(format!("{uid} for {to} reached {} (I-2)", client.account));
        }
        if !seen.insert((session, uid)) {
            return Err(format!(
                "{uid} came twice in one session of {} (I-3)",
                client.account
            ));
        }
        if let Some(before) = newest
            .insert((*session, *sender), *uid)
            .filter(|before| before > uid)
        {
            return Err(format!(
                "{uid} came after {before} at {} (I-5)",
                client.account
            ));
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

    /// One message 1, 2 from a to b, acknowledged; b received what is given.
    #[track_caller]
    fn check(received: &[(u32, u64)], expect: &str) {
        let mut a = Client::new(account("a"));
        a.sent = vec![(1, 1, account("b")), (1, 2, account("b"))];
        a.acknowledged = vec![1, 2];
        let mut b = Client::new(account("b"));
        b.received = received.to_vec();
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
    }
}
