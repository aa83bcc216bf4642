//! Who is shown and told what when a list changes, and how the list stays that of the database.

use super::super::stage::{Stage, blocked, jid, packet, stanzas};
use crate::id::EffectId;
use crate::session::*;
use proto::stanza::{IqType, Kind, PresenceType};

const ALICE: &str = "alice@example.org/a";
const BOB: &str = "bob@example.org/b";

#[test]
fn im_67_who_could_see_the_account_sees_it_go_and_come_back() {
    let mut stage = Stage::new();
    stage.bind(ALICE, Some(0));
    stage.bind("alice@example.org/silent", None);
    stage.bind(BOB, Some(0));
    let to_bob = |kind| (BOB.to_owned(), Kind::Presence(kind));
    let seen = stanzas(&stage.block(ALICE, &["bob@example.org"], &[]));
    assert_eq!(seen, [to_bob(PresenceType::Unavailable)]);
    assert_eq!(stanzas(&stage.block(ALICE, &["bob@example.org"], &[])), []);
    assert_eq!(stanzas(&stage.block(ALICE, &["example.org"], &[])), []);
    assert_eq!(stanzas(&stage.block(ALICE, &[], &["bob@example.org"])), []);
    let seen = stanzas(&stage.block(ALICE, &[], &["example.org"]));
    assert_eq!(seen, [], "whom the domain hid is not among those who see");
    stage.block(ALICE, &["bob@example.org"], &[]);
    let seen = stanzas(&stage.block(ALICE, &[], &["bob@example.org"]));
    let probed = (ALICE.to_owned(), Kind::Presence(PresenceType::Available));
    assert_eq!(seen[0], to_bob(PresenceType::Available));
    assert!(seen.contains(&probed), "{seen:?}");
    assert!(stage.state.account(&jid(ALICE).bare()).blocklist.revision() > 0);
}

#[test]
fn im_67_presence_that_was_directed_is_taken_back() {
    let mut stage = Stage::new();
    stage.bind(ALICE, None);
    stage.bind(BOB, None);
    let shows = Kind::Presence(PresenceType::Available);
    stage.act(ALICE, Action::Directed(packet(shows, ALICE, Some(BOB))));
    let mut update = blocked(0, 1, &["bob@example.org"], &[]);
    update.viewers.clear();
    let seen = stanzas(&stage.act(ALICE, Action::Blocklist(update)));
    assert_eq!(
        seen,
        [(BOB.into(), Kind::Presence(PresenceType::Unavailable))]
    );
    let session = stage.state.session(&jid(ALICE)).expect("bound");
    assert!(session.directed().is_empty());
}

#[test]
fn im_66_a_change_is_pushed_to_the_sessions_that_asked_for_the_list() {
    let mut stage = Stage::new();
    let asleep = "alice@example.org/asleep";
    stage.bind(ALICE, None);
    stage.bind("alice@example.org/other", Some(0));
    stage.resumable(asleep, None);
    for session in [ALICE, asleep] {
        stage.act(session, Action::FollowsBlocklist);
    }
    stage.lose(asleep);
    let seen = stanzas(&stage.block("alice@example.org/other", &["eve@example.net"], &[]));
    assert_eq!(seen, [(ALICE.into(), Kind::Iq(IqType::Set))]);
    let (_, outputs) = stage.resume(asleep, 0);
    assert_eq!(stanzas(&outputs), [(asleep.into(), Kind::Iq(IqType::Set))]);
}

/// Carries out what reads the list, and says what was found.
fn read(stage: &mut Stage, revision: u64, jids: &[&str]) {
    let pending = stage.state.pending(EffectId(0), 9);
    let [pending] = &pending[..] else {
        panic!("{pending:?}")
    };
    stage.apply(Command::Done(vec![found(pending.id, revision, jids)]));
}

fn found(id: EffectId, revision: u64, jids: &[&str]) -> Completed {
    let account = jid(ALICE).bare();
    let jids = jids.iter().map(|text| jid(text)).collect();
    Completed {
        id,
        relays: vec![Relay::Blocklist {
            account,
            revision,
            jids,
        }],
        messages: Vec::new(),
    }
}

fn blocks(stage: &Stage, peer: &str) -> bool {
    stage.state.has_blocked(&jid(ALICE), &jid(peer))
}

#[test]
fn im_71_a_list_that_the_shard_does_not_know_is_read() {
    let mut stage = Stage::new();
    stage.bind(ALICE, None);
    stage.act(ALICE, Action::BlocklistAt(0));
    assert_eq!(stage.state.pending_count(), 0);
    stage.act(ALICE, Action::BlocklistAt(5));
    read(&mut stage, 5, &["bob@example.org"]);
    assert!(blocks(&stage, BOB));
    stage.act(ALICE, Action::BlocklistAt(5));
    assert_eq!(stage.state.pending_count(), 0);
    // A change that has found another list than this one.
    let update = blocked(8, 9, &["eve@example.net"], &["bob@example.org"]);
    stage.act(ALICE, Action::Blocklist(update));
    assert!(blocks(&stage, BOB) && blocks(&stage, "eve@example.net"));
    read(&mut stage, 9, &["eve@example.net"]);
    assert!(!blocks(&stage, BOB) && blocks(&stage, "eve@example.net"));
    stage.apply(Command::ReadBlocklist {
        account: jid(ALICE).bare(),
    });
    read(&mut stage, 0, &[]);
    assert!(stage.state.account(&jid(ALICE).bare()).blocklist.is_empty());
}

#[test]
fn im_71_an_older_reading_takes_no_change_back() {
    let mut stage = Stage::new();
    stage.bind(ALICE, None);
    stage.act(ALICE, Action::BlocklistAt(5));
    let older = stage.state.pending(EffectId(0), 9)[0].id;
    stage.act(
        ALICE,
        Action::Blocklist(blocked(0, 6, &["bob@example.org"], &[])),
    );
    stage.apply(Command::Done(vec![found(older, 5, &[])]));
    assert!(blocks(&stage, BOB), "it was read before the change");
    read(&mut stage, 6, &["bob@example.org"]);
    assert!(blocks(&stage, BOB));
}

#[test]
fn nothing_is_left_of_a_list_that_is_empty_again() {
    let mut stage = Stage::new();
    let other = "alice@example.org/other";
    stage.bind(other, None);
    let before = stage.state.account(&jid(other).bare()).clone();
    stage.act(
        other,
        Action::Blocklist(blocked(0, 3, &["eve@example.net"], &[])),
    );
    stage.act(
        other,
        Action::Blocklist(blocked(3, 0, &[], &["eve@example.net"])),
    );
    let after = stage.state.account(&jid(other).bare());
    assert_eq!(before.blocklist, after.blocklist);
}
