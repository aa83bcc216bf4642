//! What a connection writes: outputs in their order, questions and answers about counts.

use proto::sm::elements::{write_ack, write_request};
use proto::sm::{Enabled, SmElement};

use super::postpone::Postponed;
use super::request::{Moment, Note, Request};
use super::state::{Flow, Job, Title};
use super::unwritten::{Entry, Pushed};
use super::{Connection, write};
use crate::session::{Command, Event, Item, Output, Unheard};

/// So many bytes may be on their way to the socket; more waits unwritten (T-13).
const HIGH: usize = 64 * 1024;

impl Connection {
    /// What the replica on this node says, in order. It may say it twice.
    pub fn output(&mut self, moment: Moment, output: Output) {
        if output.epoch != self.epoch || !self.state.is_undecided() {
            return;
        }
        match output.event {
            Event::Stanza { seq, item } => {
                if let Pushed::Gap(from) = self.unwritten.push(seq, item) {
                    self.read(from);
                }
            }
            Event::Enabled(enabled) => {
                self.unwritten.enabled(enabled);
                self.release();
            }
            Event::Detached(why) => {
                // Before a last word goes what came before it.
                self.release();
                self.drain(moment);
                self.flush();
                self.told(why);
            }
            // These come before there is a connection that acts for the session.
            Event::Bound | Event::Resumed(_) => {}
        }
    }

    /// Outputs may have been skipped.
    pub fn resync(&mut self) {
        if self.state.is_undecided() {
            self.read(self.unwritten.expected());
        }
    }

    fn read(&mut self, from: u64) {
        self.reads += 1;
        self.request(Request::Read(from));
    }

    /// What was asked by [`Request::Read`]; nothing, if the session is not this connection's.
    pub fn missed(&mut self, missed: Option<Unheard>) {
        self.reads = self.reads.saturating_sub(1);
        if !self.state.is_undecided() {
            return;
        }
        let Some(Unheard { enabled, stanzas }) = missed else {
            return self.detached(None);
        };
        for (seq, item) in stanzas {
            if let Pushed::Gap(_) = self.unwritten.push(seq, item) {
                return self.give_up();
            }
        }
        if let (Some(Job::Enabling { .. }), Some(enabled)) = (self.state.job(), enabled) {
            self.unwritten.enabled(enabled);
            self.release();
        }
    }

    /// All that is unwritten goes as soon as the socket takes it.
    pub(super) fn release(&mut self) {
        if !self.unwritten.is_empty() {
            self.postponed = Postponed::Due;
        }
    }

    /// The client is inactive and needs nothing of what is unwritten yet (IM-100).
    fn may_wait(&mut self, now: u64) -> bool {
        let (unwritten, session) = (&self.unwritten, &self.session);
        self.liveness.is_inactive() && self.postponed.may_wait(now, unwritten, session)
    }

    /// What was asked by [`Request::Read`] cannot be found out: whatever was skipped would be missing.
    pub fn unread(&mut self) {
        if self.state.is_undecided() {
            self.give_up();
        }
    }

    /// What was asked by [`Request::Verify`]: whether the session is this connection's, if that can be known.
    pub fn verified(&mut self, ours: Option<bool>, pauses: u64) {
        if !self.state.is_undecided() {
            return;
        }
        match ours {
            Some(true) => self.title = Title::Known(pauses),
            Some(false) => self.detached(None),
            None => self.give_up(),
        }
    }

    /// Nearly everything is written.
    pub fn drained(&mut self) {
        if let Flow::Full = self.flow {
            self.flow = Flow::Open(0);
        }
    }

    /// `<a/>`, with what is committed.
    pub(super) fn answer(&mut self) {
        if let Some(h) = self.incoming.h() {
            write_ack(h, &mut self.buffer);
        }
    }

    pub(super) fn ask(&mut self, now: u64) {
        if self.outgoing.counts() {
            write_request(&mut self.buffer);
        } else {
            let id = (self.names)(64);
            write::ping(&self.session, &id, &mut self.buffer);
            self.ping = Some((id, self.outgoing.written()));
        }
        self.liveness.asked(now);
    }

    /// The client has not answered for long. If it is inactive, it counts as away until it does (IM-105).
    pub(super) fn late(&mut self) {
        self.liveness.said_late();
        if self.liveness.is_inactive() {
            let (session, epoch) = (self.session.clone(), self.epoch);
            self.request(Request::Propose(Command::Overdue { session, epoch }));
        }
        let (stanzas, _) = self.outgoing.in_flight();
        self.request(Request::Note(Note::Late { stanzas }));
    }

    /// Whether the session is known to be ours. After a pause of the process it is only known again when the shard
    /// has confirmed it (T-38).
    fn is_sure(&mut self, pauses: u64) -> bool {
        match self.title {
            Title::Known(known) if known == pauses => true,
            Title::Known(_) => {
                self.title = Title::Asked;
                self.request(Request::Verify(pauses));
                false
            }
            Title::Asked => false,
        }
    }

    /// Writes what is unwritten as far as the socket keeps up.
    pub(super) fn drain(&mut self, moment: Moment) {
        // `<enabled/>` may be among what is read, and belongs before stanzas that have come already.
        if self.unwritten.is_empty() || self.may_wait(moment.now) || self.reads > 0 {
            return;
        }
        if self.state.job().is_none() || !self.is_sure(moment.pauses) {
            return;
        }
        let (mut stanzas, mut unasked) = (0, (0, 0));
        let mut messages = Vec::new();
        while let Flow::Open(given) = self.flow
            && self.state.job().is_some()
        {
            match self.unwritten.pop() {
                None => break,
                Some(Entry::Enabled(enabled)) => {
                    let id = enabled.smid.map(|id| String::from(id.0));
                    let (max, seed) = (id.as_ref().map(|_| enabled.max), enabled.seed);
                    SmElement::Enabled(Enabled { id, max }).write(&mut self.buffer);
                    self.outgoing.enable(seed);
                    self.liveness.answered(moment.now, 0, 0);
                    self.liveness.set_times(self.settings.times(true));
                    (unasked, self.ping) = ((0, 0), None);
                    self.enabled(seed);
                }
                Some(Entry::Stanza(seq, item)) => {
                    let bytes = self.write(seq, &item);
                    messages.extend(item.original());
                    stanzas += 1;
                    unasked = (unasked.0 + 1, unasked.1 + bytes);
                }
            }
            if given + self.buffer.len() >= HIGH {
                self.flow = Flow::Full;
                self.request(Request::Note(Note::HeldBack));
            }
        }
        if self.unwritten.is_empty() {
            self.postponed = Postponed::default();
        }
        if stanzas > 0 {
            self.request(Request::Note(Note::Written { stanzas, messages }));
        }
        if unasked.0 > 0 {
            self.liveness.wrote(moment.now, unasked.0, unasked.1);
        }
    }

    fn write(&mut self, seq: u64, item: &Item) -> usize {
        let whose = (&self.session, &self.account);
        let bytes = write::stanza(item, whose, seq < self.late, &mut self.buffer);
        self.outgoing.wrote(bytes);
        if let Some(mid) = item.original() {
            self.traced.push_back((seq, mid));
        }
        bytes
    }

    /// Gives the socket what was written.
    pub(super) fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let bytes = std::mem::take(&mut self.buffer);
        let length = bytes.len();
        self.request(Request::Write(bytes));
        match &mut self.flow {
            Flow::Open(given) => *given += length,
            Flow::Full => self.request(Request::Report),
        }
    }
}
