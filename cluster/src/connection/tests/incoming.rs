//! What the client says: one proposal at a time, and no count beyond what is committed.

use super::*;

#[test]
fn sm_14_no_answer_says_more_than_is_committed() {
    let mut script = Script::resumed();
    script.proposed(2);
    // What comes meanwhile waits, and so does the question behind it.
    let more = [Input::Stanza(message()), Input::AckRequest];
    assert!(script.says(more).is_empty());
    assert_eq!(script.committed(7), ["resolve 1", "taken 1"]);
    assert!(script.admitted(1).is_some());
    assert_eq!(script.committed(8), ["taken 1", "write a6"]);
}

#[test]
fn sm_24_a_question_that_waits_for_long_is_answered_with_what_is_committed() {
    let mut script = Script::resumed();
    script.proposed(2);
    assert!(script.says([Input::AckRequest]).is_empty());
    assert_eq!(script.woken(5_000), ["taken 1", "write a3"]);
    assert!(script.committed(7).is_empty());
}

#[test]
fn stanzas_that_wait_are_one_proposal_and_numbered_from_the_first() {
    let mut script = Script::bound();
    script.proposed(1);
    let three = (0..3).map(|_| Input::Stanza(message()));
    assert!(script.says(three).is_empty());
    assert_eq!(script.committed(2), ["resolve 3", "taken 3"]);
    let Some(Command::Inbound(inbound)) = script.admitted(3) else {
        panic!("not proposed");
    };
    assert_eq!((inbound.first, inbound.epoch), (2, EPOCH));
    assert_eq!(inbound.stanzas.len(), 3);
}

#[test]
fn what_is_too_much_for_one_command_goes_first_in_the_next() {
    let mut script = Script::bound();
    let three = (0..3).map(|_| Input::Stanza(message()));
    assert_eq!(script.says(three), ["resolve 3", "taken 3"]);
    let left = [Work::Answer(None), Work::Answer(None)];
    script.connection.resolved(left.into_iter());
    assert!(script.connection.admitted(vec![Vec::new()]).is_some());
    // They have been taken up before.
    assert_eq!(script.committed(2), ["resolve 2"]);
}

#[test]
fn a_proposal_without_an_outcome_is_repeated_and_then_given_up() {
    let mut script = Script::bound();
    script.proposed(2);
    for _ in 1..3 {
        let (again, lines) = script.handled(Err(Failure::Unavailable));
        let Some(Command::Inbound(inbound)) = again else {
            panic!("not proposed again");
        };
        assert_eq!((inbound.first, inbound.stanzas.len()), (1, 2));
        assert!(lines.is_empty());
    }
    let (again, lines) = script.handled(Err(Failure::Unavailable));
    assert_eq!(again, None);
    assert_eq!(
        lines,
        ["trouble", "depart lost, acknowledged 1", "over Lost"]
    );
}

#[test]
fn what_the_shard_finds_missing_or_will_never_take_is_the_clients_to_send_again() {
    let wrong = [
        Ok(Outcome::Gap { expected: 1 }),
        Ok(Outcome::Done),
        Err(Failure::Refused),
    ];
    for outcome in wrong {
        let mut script = Script::bound();
        script.proposed(1);
        let (again, lines) = script.handled(outcome);
        assert_eq!((again, &*lines[0]), (None, "trouble"));
    }
}

#[test]
fn whoever_asks_for_much_waits_before_the_next_stanza() {
    let mut script = Script::of(Opening::bound(jid(), EPOCH), 1 << 20);
    script.says([Input::Stanza(message())]);
    script.connection.resolved(std::iter::empty());
    let much = vec![vec![answer(3 << 19)]];
    assert!(script.connection.admitted(much).is_some());
    assert!(script.committed(2).is_empty());
    assert!(script.says([Input::Stanza(message())]).is_empty());
    let rested = script.connection.wake().expect("a time");
    assert!((500..510).contains(&rested), "{rested}");
    assert_eq!(script.woken(rested), ["resolve 1", "taken 1"]);
}

#[test]
fn sm_16_counting_begins_behind_enable() {
    let mut script = Script::bound();
    script.proposed(3);
    let enable = Input::Enable {
        resume: true,
        max: Some(30),
    };
    let behind = [enable, Input::Stanza(message()), Input::AckRequest];
    assert!(script.says(behind).is_empty());
    let enable = "enable after 3 for 30 as Some(\"name128\")";
    assert_eq!(script.committed(4), [enable, "taken 1"]);
    script.connection.enable_decided(0, Ok(Outcome::Done));
    assert!(script.settled().is_empty());
    let lines = script.output(enabled());
    assert_eq!(lines, ["resolve 1", "taken 1", "write enabled"]);
    assert!(script.admitted(1).is_some());
    assert_eq!(script.committed(5), ["taken 1", "write a1"]);
}

#[test]
fn sm_18_what_follows_a_failed_enable_goes_on() {
    let mut script = Script::bound();
    let enable = Input::Enable {
        resume: false,
        max: None,
    };
    script.says([enable, Input::Stanza(message())]);
    script
        .connection
        .enable_decided(0, Err(Failure::Unavailable));
    let lines = script.settled();
    assert_eq!(lines, ["enable failed", "resolve 1", "taken 1"]);
}

#[test]
fn an_answer_to_enable_that_is_lost_does_not_undo_its_output() {
    let mut script = Script::bound();
    let enable = Input::Enable {
        resume: true,
        max: None,
    };
    script.says([enable]);
    assert_eq!(script.output(enabled()), ["write enabled"]);
    script.proposed(1);
    // It must not let a second proposal go beside the first.
    script
        .connection
        .enable_decided(0, Err(Failure::Unavailable));
    assert!(script.says([Input::Stanza(message())]).is_empty());
    assert_eq!(script.committed(2), ["resolve 1", "taken 1"]);
}

#[test]
fn while_its_stanzas_wait_for_room_a_clients_silence_says_nothing() {
    let mut script = Script::resumed();
    script.stanzas(9..10);
    script.says([Input::Stanza(message())]);
    script.connection.resolved(std::iter::empty());
    script.moment.now = 2_000;
    assert_eq!(script.settled(), ["write r"]);
    for minutes in 1..4 {
        script.moment.now = 10_000 + minutes * 60_000;
        assert!(script.settled().is_empty());
        assert_eq!(script.connection.wake(), Some(script.moment.now + 1_000));
    }
    assert!(script.connection.admitted(vec![Vec::new()]).is_some());
    // It is read again from now on.
    script.committed(6);
    assert!(!script.connection.is_over());
}
