//! When a client's socket may be read: as far ahead as its inputs are taken up, and as fast as its rate allows
//! (T-13, T-15). All times are measured from any fixed point.

use std::collections::VecDeque;
use std::time::Duration;

use super::rate::Rate;

/// How many inputs, and of how many bytes, may wait to be taken up before the socket is read no further. So an
/// overloaded node holds for each client this, one read and the beginning of a stanza.
const AHEAD: (usize, usize) = (128, 64 * 1024);

/// Whether to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Read.
    Open,
    /// Not before that time.
    Until(Duration),
    /// Not before inputs are taken up.
    Full,
    /// Never again.
    Shut,
}

/// What was read of one client.
#[derive(Debug)]
pub struct Reading {
    rate: Rate,
    pace: Pace,
    /// What was read and is not taken up: inputs, and their bytes.
    ahead: VecDeque<(usize, usize)>,
}

#[derive(Debug)]
enum Pace {
    /// It is within its rate.
    Free,
    /// It was above its rate, and rests until then.
    Resting(Duration),
    /// The client has ended its stream.
    Over,
}

impl Reading {
    /// Nothing was read yet.
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            pace: Pace::Free,
            ahead: VecDeque::new(),
        }
    }

    /// So many inputs were read, and so many bytes. Returns whether the client has to wait since that was too much.
    pub fn read(&mut self, inputs: usize, bytes: usize, now: Duration) -> bool {
        let pause = self.rate.spend(inputs, bytes, now);
        if !self.is_over() {
            self.pace = pause.map_or(Pace::Free, |pause| Pace::Resting(now + pause));
        }
        if inputs > 0 {
            self.ahead.push_back((inputs, bytes));
        }
        pause.is_some()
    }

    /// So many inputs were taken up.
    pub fn taken(&mut self, mut inputs: usize) {
        while let Some(front) = self.ahead.front_mut() {
            if front.0 > inputs {
                front.0 -= inputs;
                return;
            }
            inputs -= front.0;
            self.ahead.pop_front();
        }
    }

    /// The client has ended its stream: what follows is not read.
    pub fn end(&mut self) {
        self.pace = Pace::Over;
    }

    /// The client has ended its stream.
    pub fn is_over(&self) -> bool {
        matches!(self.pace, Pace::Over)
    }

    /// Whether to read now.
    pub fn gate(&self, now: Duration) -> Gate {
        match self.pace {
            Pace::Over => return Gate::Shut,
            Pace::Resting(until) if now < until => return Gate::Until(until),
            Pace::Resting(_) | Pace::Free => {}
        }
        let sum = |(n, b), (inputs, bytes): &(usize, usize)| (n + inputs, b + bytes);
        let (inputs, bytes) = self.ahead.iter().fold((0, 0), sum);
        match inputs < AHEAD.0 && bytes < AHEAD.1 {
            true => Gate::Open,
            false => Gate::Full,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(5);

    fn unlimited() -> Reading {
        Reading::new(Rate::new(0, 0, NOW))
    }

    #[test]
    fn t_15_a_client_is_read_no_further_than_its_inputs_are_taken_up() {
        let mut reading = unlimited();
        reading.read(AHEAD.0 - 1, 100, NOW);
        assert_eq!(reading.gate(NOW), Gate::Open);
        reading.read(1, 100, NOW);
        assert_eq!(reading.gate(NOW), Gate::Full);
        reading.taken(1);
        assert_eq!(reading.gate(NOW), Gate::Open);
    }

    #[test]
    fn t_13_few_inputs_of_many_bytes_are_as_much() {
        let mut reading = unlimited();
        reading.read(1, 10, NOW);
        reading.read(2, AHEAD.1, NOW);
        // One that was read in pieces is taken up with its last one: its bytes stay until then.
        for (taken, gate) in [(1, Gate::Full), (1, Gate::Full), (1, Gate::Open)] {
            reading.taken(taken);
            assert_eq!(reading.gate(NOW), gate);
        }
    }

    #[test]
    fn bytes_that_are_no_input_yet_do_not_wait_for_anybody() {
        let mut reading = unlimited();
        reading.read(0, 2 * AHEAD.1, NOW);
        assert_eq!(reading.gate(NOW), Gate::Open);
    }

    #[test]
    fn t_15_whoever_is_above_its_rate_rests() {
        let mut reading = Reading::new(Rate::new(200, 0, NOW));
        reading.read(1100, 0, NOW);
        let until = NOW + Duration::from_millis(500);
        assert_eq!(reading.gate(NOW), Gate::Until(until));
        // Then it matters again what was taken up.
        assert_eq!(reading.gate(until), Gate::Full);
        reading.taken(1100);
        assert_eq!(reading.gate(until), Gate::Open);
    }

    #[test]
    fn behind_the_end_of_its_stream_a_client_is_not_read() {
        let mut reading = unlimited();
        reading.end();
        reading.read(1, 10, NOW);
        reading.taken(1);
        assert!(reading.is_over());
        assert_eq!(reading.gate(NOW + NOW), Gate::Shut);
    }
}
