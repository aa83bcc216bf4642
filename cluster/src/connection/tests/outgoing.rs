//! What the shard puts out: written once, in order, as far as the socket keeps up and the session is ours.

use super::*;
use crate::session::Unheard;

#[test]
fn what_comes_twice_is_written_once_and_in_order() {
    let mut script = Script::resumed();
    assert_eq!(script.stanzas([9, 10, 9, 10, 11, 10]), ["write 9 10 11"]);
    assert!(script.stanzas([8, 11]).is_empty());
    assert_eq!(script.stanzas([12]), ["write 12"]);
}

#[test]
fn what_is_for_another_epoch_is_not_ours() {
    let mut script = Script::resumed();
    let mut old = output(stanza(9));
    old.epoch = Epoch(EPOCH.0 - 1);
    script.connection.output(script.moment, old);
    assert!(script.settled().is_empty());
}

#[test]
fn what_was_skipped_is_read_from_the_replica_before_the_rest() {
    let mut script = Script::resumed();
    script.connection.output(script.moment, output(stanza(11)));
    assert_eq!(script.lines(), ["read 9"]);
    script.connection.missed(Some(unheard(9..12)));
    assert_eq!(script.stanzas([11, 12]), ["write 9 10 11 12"]);
    script.connection.resync();
    assert_eq!(script.lines(), ["read 13"]);
    script.connection.missed(Some(unheard(13..13)));
    assert!(script.settled().is_empty());
}

#[test]
fn whoever_cannot_read_what_was_skipped_leaves() {
    let lost = "depart lost, acknowledged 9";
    let cases = [
        (None, vec!["drop", "over Detached(None)"]),
        (Some(unheard(10..11)), vec!["trouble", lost, "over Lost"]),
    ];
    for (missed, expected) in cases {
        let mut script = Script::resumed();
        script.connection.resync();
        assert_eq!(script.lines(), ["read 9"]);
        script.connection.missed(missed);
        assert_eq!(script.settled(), expected);
    }
}

#[test]
fn sm_17_enabled_that_was_skipped_is_written_before_what_counts() {
    let mut script = Script::bound();
    let enable = Input::Enable {
        resume: true,
        max: None,
    };
    script.says([enable]);
    script.connection.resync();
    assert_eq!(script.lines(), ["read 1"]);
    // The new source sends what it has since, and the client must not have it before `<enabled/>`.
    assert!(script.stanzas([1]).is_empty());
    let missed = Unheard {
        enabled: Some(enabled_from(1)),
        ..unheard(1..3)
    };
    script.connection.missed(Some(missed));
    assert_eq!(script.settled(), ["write enabled 1 2"]);
    assert!(script.output(enabled()).is_empty(), "it comes once");
}

#[test]
fn t_13_a_socket_that_does_not_keep_up_is_given_no_more_until_it_has() {
    let mut script = Script::resumed();
    let large = |seq: u64| {
        let mut packet = message().with_id(seq.to_string()).pack();
        packet.payload = format!("<body>{}</body>", "x".repeat(30_000)).into();
        let item = item(packet).into();
        Event::Stanza { seq, item }
    };
    for seq in 9..14 {
        let output = output(large(seq));
        script.connection.output(script.moment, output);
    }
    // It is asked as well, as much is in flight.
    assert_eq!(script.settled(), ["write 9 10 11 r", "report"]);
    assert!(script.stanzas([14]).is_empty());
    // What is not the shard's goes on, as it is small.
    script.connection.input(0, Input::AckRequest);
    assert_eq!(script.settled(), ["taken 1", "write a3", "report"]);
    script.connection.drained();
    assert_eq!(script.settled(), ["write 12 13 14"]);
}

#[test]
fn t_38_after_a_pause_the_shard_is_asked_before_anything_is_written() {
    let mut script = Script::resumed();
    script.moment.pauses = 1;
    assert_eq!(script.stanzas([9]), ["verify 1"]);
    assert!(script.stanzas([10]).is_empty());
    script.connection.verified(Some(true), 1);
    assert_eq!(script.settled(), ["write 9 10"]);
    assert_eq!(script.stanzas([11]), ["write 11"]);
    // There was another one while the shard was asked.
    script.moment.pauses = 2;
    assert_eq!(script.stanzas([12]), ["verify 2"]);
    script.moment.pauses = 3;
    script.connection.verified(Some(true), 2);
    assert_eq!(script.settled(), ["verify 3"]);
    script.connection.verified(Some(false), 3);
    assert_eq!(script.settled(), ["drop", "over Detached(None)"]);
}

#[test]
fn sm_27_the_shard_hears_what_the_client_has_and_once() {
    let mut script = Script::resumed();
    script.stanzas(9..12);
    assert_eq!(script.says([Input::Ack(8)]), ["acknowledge 11", "taken 1"]);
    assert_eq!(script.says([Input::Ack(8)]), ["taken 1"]);
}

#[test]
fn sm_28_a_count_beyond_what_was_written_ends_the_session() {
    let mut script = Script::resumed();
    script.stanzas(9..12);
    let lines = script.says([Input::Ack(10), Input::Stanza(message())]);
    let end = "depart Violation, acknowledged 9";
    assert_eq!(
        lines,
        [
            "fail undefined-condition",
            end,
            "over Ended(Violation)",
            "taken 1"
        ]
    );
}

#[test]
fn sm_31_a_client_that_counts_is_asked_and_not_twice() {
    let mut script = Script::resumed();
    script.stanzas(9..12);
    assert_eq!(script.woken(2_000), ["write r"]);
    assert_eq!(script.stanzas([12]), ["write 12"]);
    script.moment.now = 3_000;
    assert_eq!(script.says([Input::Ack(9)]), ["acknowledge 12", "taken 1"]);
    assert_eq!(script.woken(5_000), ["write r"]);
}

#[test]
fn a_client_that_does_not_count_is_pinged_and_its_answer_counts_for_what_went_before() {
    let mut script = Script::bound();
    assert_eq!(script.stanzas(1..6), ["write 1 2 3 4 5 ping name64"]);
    assert_eq!(script.stanzas([6]), ["write 6"]);
    // Another answer is a stanza like any other.
    assert_eq!(script.says([pong("other")]), ["resolve 1", "taken 1"]);
    assert!(script.admitted(1).is_some());
    script.committed(2);
    let lines = script.says([pong("name64")]);
    assert_eq!(lines, ["acknowledge 6", "resolve 1", "taken 1"]);
}

#[test]
fn sm_33_a_client_that_does_not_answer_is_dead() {
    let mut script = Script::resumed();
    script.stanzas([9]);
    assert_eq!(script.woken(2_000), ["write r"]);
    // It is late first, which counts only if nobody looks at it.
    assert!(script.woken(22_000).is_empty());
    let lines = script.woken(62_000);
    let lost = "depart lost, acknowledged 9";
    assert_eq!(lines, ["fail connection-timeout", lost, "over Lost"]);
}

#[test]
fn im_105_an_inactive_client_that_is_late_counts_as_away() {
    let mut script = Script::resumed();
    assert_eq!(script.says([Input::Csi(false)]), ["taken 1"]);
    // It is asked along with what is written, not later.
    assert_eq!(script.stanzas([9]), ["write 9 r"]);
    assert_eq!(script.woken(20_000), ["overdue"]);
}

fn unheard(numbers: std::ops::Range<u64>) -> Unheard {
    Unheard {
        enabled: None,
        stanzas: numbers.map(|seq| (seq, numbered(seq))).collect(),
    }
}
