//! What an inactive client (XEP-0352) gets later, and when.

use proto::stanza::PresenceType;

use super::*;
use crate::session::Item;

/// Silence after which the client is asked whether it lives.
const IDLE: u64 = SETTINGS.times.idle;

/// A stanza that may wait, with so many bytes of text.
fn lazy(seq: u64, bytes: usize) -> Event {
    let kind = Kind::Presence(PresenceType::Available);
    let mut packet = Stanza::new(kind).with_id(seq.to_string()).pack();
    packet.payload = format!("<status>{}</status>", "x".repeat(bytes)).into();
    let item = item(packet).into();
    Event::Stanza { seq, item }
}

impl Script {
    /// A resumed client that has become inactive.
    fn inactive() -> Self {
        let mut script = Self::resumed();
        assert_eq!(script.says([Input::Csi(false)]), ["taken 1"]);
        script
    }

    /// Stanzas with these numbers come, all of which may wait, with so many bytes of text each.
    fn lazy(&mut self, numbers: impl IntoIterator<Item = u64>, bytes: usize) -> Vec<String> {
        for seq in numbers {
            let output = output(lazy(seq, bytes));
            self.connection.output(self.moment, output);
        }
        self.settled()
    }

    fn at(&mut self, now: u64) -> &mut Self {
        self.moment.now = now;
        self
    }
}

#[test]
fn im_100_what_may_wait_waits_and_goes_before_what_may_not() {
    let mut script = Script::inactive();
    assert!(script.lazy([9], 1).is_empty());
    assert!(script.lazy([10], 1).is_empty());
    assert_eq!(script.stanzas([11]), ["write 9 10 11 r"]);
    // And the next one waits again.
    assert!(script.lazy([12], 1).is_empty());
    assert_eq!(script.stanzas([13]), ["write 12 13"]);
}

#[test]
fn im_99_an_active_client_gets_everything_at_once() {
    let mut script = Script::resumed();
    assert_eq!(script.lazy([9], 1), ["write 9"]);
    assert_eq!(script.says([Input::Csi(true)]), ["taken 1"]);
    assert_eq!(script.lazy([10], 1), ["write 10"]);
}

#[test]
fn im_101_a_client_that_is_active_again_has_everything_before_any_answer() {
    let mut script = Script::inactive();
    script.lazy([9], 1);
    let lines = script.says([Input::Csi(true), Input::AckRequest]);
    assert_eq!(lines, ["taken 2", "write 9 a3"]);
    assert_eq!(script.lazy([10], 1), ["write 10"]);
    // It has everything also if nobody looked at it for long.
    script.says([Input::Csi(false)]);
    assert!(script.lazy([11], 1).is_empty());
    let glance = [Input::Csi(true), Input::Csi(false)];
    assert_eq!(script.says(glance), ["taken 2", "write 11"]);
    assert!(script.lazy([12], 1).is_empty());
}

#[test]
fn im_100_no_more_than_200_stanzas_wait() {
    let mut script = Script::inactive();
    assert!(script.lazy(9..208, 1).is_empty());
    let lines = script.lazy([208], 1);
    assert!(lines[0].starts_with("write 9 10 "), "{lines:?}");
    assert!(lines[0].ends_with(" 207 208 r"), "{lines:?}");
    assert!(script.lazy([209], 1).is_empty());
}

#[test]
fn im_100_no_more_than_64_kib_wait() {
    let mut script = Script::inactive();
    assert!(script.lazy(9..13, 15_000).is_empty());
    assert_eq!(
        script.lazy([13], 15_000),
        ["write 9 10 11 12 13 r", "report"]
    );
}

#[test]
fn im_100_nothing_waits_longer_than_five_minutes() {
    let mut script = Script::inactive();
    assert!(script.at(1_000).lazy([9], 1).is_empty());
    assert!(script.at(200_000).lazy([10], 1).is_empty());
    // The client is alive, so that it is not asked.
    script.at(250_000).says([Input::AckRequest]);
    assert_eq!(script.woken(301_000), ["write 9 10 r"]);
    script.says([Input::Ack(8)]);
    assert!(script.at(302_000).lazy([11], 1).is_empty());
    assert_eq!(script.connection.wake(), Some(301_000 + IDLE));
}

#[test]
fn im_100_what_waits_goes_along_with_a_question() {
    let mut script = Script::inactive();
    assert!(script.at(50_000).lazy([9], 1).is_empty());
    assert_eq!(script.woken(IDLE), ["write 9 r"]);
}

#[test]
fn im_100_what_is_due_stays_due_until_the_socket_takes_it() {
    let mut script = Script::inactive();
    script.connection.input(0, Input::Csi(true));
    assert_eq!(script.lazy(9..12, 15_000), ["taken 1", "write 9 10 11 r"]);
    assert_eq!(script.says([Input::Csi(false)]), ["taken 1"]);
    assert!(script.lazy(12..15, 15_000).is_empty());
    let lines = script.says([Input::Csi(true), Input::Csi(false)]);
    assert_eq!(lines, ["taken 2", "write 12 13", "report"]);
    script.connection.drained();
    assert_eq!(script.settled(), ["write 14"]);
}

#[test]
fn sm_17_enabled_waits_for_nothing() {
    let mut script = Script::bound();
    script.says([Input::Csi(false)]);
    assert!(script.lazy([1], 1).is_empty());
    let enable = Input::Enable {
        resume: true,
        max: None,
    };
    script.says([enable]);
    let enabled = Event::Enabled(enabled_from(2));
    assert_eq!(script.output(enabled), ["write 1 enabled"]);
    assert!(script.lazy([2], 1).is_empty());
}

#[test]
fn sm_74_what_waits_is_not_asked_about_and_cannot_be_acknowledged() {
    let mut script = Script::inactive();
    script.lazy([9, 10], 1);
    assert!(script.at(60_000).settled().is_empty());
    assert_eq!(script.says([Input::AckRequest]), ["taken 1", "write a3"]);
    assert_eq!(script.says([Input::Ack(6)]), ["taken 1"]);
    let lines = script.says([Input::Ack(7)]);
    assert_eq!(lines[0], "fail undefined-condition");
}

#[test]
fn before_a_last_word_goes_what_waited() {
    let mut script = Script::inactive();
    script.lazy([9], 1);
    let lines = script.output(Event::Detached(Detached::Resumed));
    assert_eq!(lines[..2], ["write 9", "fail conflict"]);
}

/// What a client's radio has to do in an hour.
#[derive(Debug, PartialEq)]
struct Radio {
    stanzas: u64,
    writes: usize,
    bytes: usize,
}

/// An hour of an account with 60 contacts who change their presence every five minutes, one of whom types every half
/// minute and says something every five; there is an event every minute. The client answers all that is asked.
fn hour(is_active: bool) -> Radio {
    let mut script = Script::resumed();
    let always = Times {
        unacked: 0,
        ..SETTINGS.times
    };
    script.connection.configure(Settings {
        times: always,
        ..SETTINGS
    });
    script.says([Input::Csi(is_active)]);
    let (mut seq, mut writes, mut bytes) = (9, 0, 0);
    for second in 1..=3_600 {
        let now = second * 1_000;
        script.moment.now = now;
        for item in minute(second) {
            let output = output(Event::Stanza { seq, item });
            script.connection.output(script.moment, output);
            seq += 1;
        }
        if second == 3_600 {
            script.connection.input(now, Input::Csi(true));
        }
        loop {
            script.connection.settle(script.moment);
            let mut is_asked = false;
            while let Some(request) = script.connection.poll() {
                if let Request::Write(written) = request {
                    writes += 1;
                    bytes += written.len();
                    is_asked |= written.ends_with(b"<r xmlns='urn:xmpp:sm:3'/>");
                }
            }
            script.connection.drained();
            if !is_asked {
                break;
            }
            let written = script.connection.outgoing.written();
            script.connection.heard(now);
            let h = u32::try_from(written - 3).expect("small");
            script.connection.input(now, Input::Ack(h));
        }
    }
    let stanzas = script.connection.outgoing.written() - 9;
    assert_eq!(stanzas, seq - 9, "nothing is left");
    Radio {
        stanzas,
        writes,
        bytes,
    }
}

/// What comes in this second.
fn minute(second: u64) -> Vec<std::sync::Arc<Item>> {
    let of = |kind, contact: u64, payload: &str| {
        let mut stanza = Stanza::new(kind).with_to(jid());
        stanza.header.from = Jid::new(&format!("contact{contact}@example.org/phone")).ok();
        let mut packet = stanza.pack();
        packet.payload = payload.to_owned().into();
        std::sync::Arc::new(item(packet))
    };
    let chat = Kind::Message(MessageType::Chat);
    let mut items = Vec::new();
    if second.is_multiple_of(5) {
        let kind = Kind::Presence(PresenceType::Available);
        let caps = "<show>away</show><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' \
                    node='https://client.example' ver='QgayPKawpkPSDYmwT/WM94uAlu0='/>";
        items.push(of(kind, second / 5 % 60, caps));
    }
    if second.is_multiple_of(30) {
        let state = "<composing xmlns='http://jabber.org/protocol/chatstates'/>";
        items.push(of(chat, 1, state));
    }
    if second.is_multiple_of(60) {
        let event = "<event xmlns='http://jabber.org/protocol/pubsub#event'>\
                     <items node='urn:xmpp:mood'><item id='1'/></items></event>";
        items.push(of(Kind::Message(MessageType::Headline), 2, event));
    }
    if second % 300 == 150 {
        items.push(of(chat, 1, "<body>Are you there?</body>"));
    }
    items
}

#[test]
fn an_hour_of_a_busy_account_costs_an_inactive_client_few_wake_ups() {
    let (active, inactive) = (hour(true), hour(false));
    println!("active {active:?}, inactive {inactive:?}");
    assert_eq!(active.stanzas, inactive.stanzas);
    assert!(inactive.writes * 20 < active.writes);
    assert!(inactive.bytes < active.bytes);
}
