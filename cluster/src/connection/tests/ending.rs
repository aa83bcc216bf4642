//! How connections end: what the client is told, what the shard is told, and what no longer matters then.

use proto::stream::{Condition, StreamError};

use super::*;

#[test]
fn whoever_is_detached_hears_why_behind_what_came_before() {
    use EndReason::*;
    let cases = [
        (Detached::Resumed, "fail conflict"),
        (Detached::Ended(Conflict), "fail conflict"),
        (Detached::Ended(Admin), "fail policy-violation"),
        (Detached::Ended(Violation), "fail policy-violation"),
        (Detached::Ended(Credentials), "fail not-authorized"),
        (Detached::Ended(Removed), "fail not-authorized"),
        (Detached::Ended(Limit), "fail resource-constraint"),
        (Detached::Ended(Overflow), "fail resource-constraint"),
        (Detached::Ended(Expired), "fail connection-timeout"),
        (Detached::Ended(Lost), "fail connection-timeout"),
        (Detached::Ended(Closed), "drop"),
        (Detached::Fenced, "drop"),
    ];
    for (why, told) in cases {
        let mut script = Script::resumed();
        script.connection.output(script.moment, output(stanza(9)));
        let lines = script.output(Event::Detached(why));
        assert_eq!((&*lines[0], &*lines[1]), ("write 9", told), "{why:?}");
        // The session is not ours: there is nothing to say to the shard.
        assert!(lines[2].starts_with("over Detached"), "{lines:?}");
        assert_eq!(lines.len(), 3);
    }
}

#[test]
fn nothing_that_comes_after_the_end_matters() {
    let mut script = Script::resumed();
    script.proposed(1);
    script.output(Event::Detached(Detached::Resumed));
    assert!(script.connection.is_over());
    assert!(script.committed(6).is_empty());
    assert!(script.stanzas([9]).is_empty());
    script.connection.missed(None);
    script.connection.verified(None, 1);
    script.connection.closed(true);
    script.connection.resync();
    script.connection.leave();
    script.connection.away();
    script.connection.gone();
    assert!(script.says([Input::AckRequest, Input::Closed]).is_empty());
    assert_eq!(script.connection.wake(), None);
}

#[test]
fn sm_30_a_stream_is_closed_behind_its_stanzas_and_with_a_last_count() {
    let mut script = Script::resumed();
    script.stanzas(9..11);
    let said = [Input::Stanza(message()), Input::Closed];
    assert_eq!(script.says(said), ["resolve 1", "taken 1"]);
    assert!(script.admitted(1).is_some());
    // Who counts has said what it has.
    assert_eq!(
        script.committed(6),
        ["finish Closed, acknowledged 9", "taken 1"]
    );
    // What the shard says of it, and what else comes, is not waited for.
    let ended = Detached::Ended(EndReason::Closed);
    assert!(script.output(Event::Detached(ended)).is_empty());
    assert!(script.stanzas([11]).is_empty());
    script.connection.closed(true);
    assert_eq!(
        script.settled(),
        ["write a4", "close", "over Ended(Closed)"]
    );
}

#[test]
fn a_client_that_does_not_count_and_closes_its_stream_has_read_all_of_it() {
    let mut script = Script::bound();
    script.stanzas(1..4);
    assert_eq!(
        script.says([Input::Closed]),
        ["finish Closed, acknowledged 4", "taken 1"]
    );
    script.connection.closed(false);
    let again = "depart Closed, acknowledged 4";
    assert_eq!(script.settled(), ["close", again, "over Ended(Closed)"]);
}

#[test]
fn a_lost_connection_is_lost_behind_what_it_had_said() {
    let mut script = Script::bound();
    script.proposed(1);
    script.connection.gone();
    assert!(script.settled().is_empty());
    let lost = "depart lost, acknowledged 1";
    assert_eq!(script.committed(2), [lost, "over Lost", "taken 1"]);
}

#[test]
fn sm_17_enabled_says_nothing_of_what_the_client_has() {
    let mut script = Script::bound();
    script.stanzas(1..4);
    let (resume, max) = (true, None);
    script.says([Input::Enable { resume, max }]);
    assert_eq!(script.output(enabled()), ["write enabled"]);
    // Perhaps it has read nothing of all that.
    script.connection.gone();
    let lost = "depart lost, acknowledged 1";
    assert_eq!(script.settled(), [lost, "over Lost", "taken 1"]);
}

#[test]
fn whoever_breaks_the_protocol_ends_its_session() {
    let mut script = Script::bound();
    let failed = Input::Failed(StreamError::new(Condition::PolicyViolation));
    let end = "depart Violation, acknowledged 1";
    assert_eq!(
        script.says([failed]),
        [end, "over Ended(Violation)", "taken 1"]
    );
}

#[test]
fn a_refused_proposal_waits_for_the_word_of_the_shard() {
    let stale = || {
        let mut script = Script::resumed();
        script.proposed(1);
        let (again, lines) = script.handled(Ok(Outcome::Stale));
        assert_eq!((again, lines.len()), (None, 0));
        script
    };
    let mut told = stale();
    // Until then nothing is written and nothing begins.
    assert!(told.stanzas([9]).is_empty());
    assert!(
        told.says([Input::AckRequest, Input::Stanza(message())])
            .is_empty()
    );
    let lines = told.output(Event::Detached(Detached::Resumed));
    assert_eq!(lines, ["fail conflict", "over Detached(Some(Conflict))"]);
    let mut untold = stale();
    assert_eq!(untold.woken(1_000), ["drop", "over Detached(None)"]);
}

#[test]
fn a_node_that_stops_lets_its_clients_go_between_two_jobs() {
    let mut script = Script::resumed();
    script.proposed(2);
    script.connection.leave();
    assert!(script.settled().is_empty());
    let lost = "depart lost, acknowledged 9";
    assert_eq!(
        script.committed(7),
        ["write a5", "leave", lost, "over Leaving"]
    );
}

#[test]
fn a_node_that_reaches_nobody_sends_its_clients_away_at_once() {
    let mut script = Script::resumed();
    script.proposed(2);
    script.connection.away();
    let lost = "depart lost, acknowledged 9";
    assert_eq!(script.settled(), ["leave", lost, "over Lost"]);
}

#[test]
fn whoever_cannot_ask_whether_it_may_write_gives_up() {
    let mut script = Script::resumed();
    script.moment.pauses = 1;
    assert_eq!(script.stanzas([9]), ["verify 1"]);
    script.connection.verified(None, 1);
    let lost = "depart lost, acknowledged 9";
    assert_eq!(script.settled(), ["trouble", lost, "over Lost"]);
}
