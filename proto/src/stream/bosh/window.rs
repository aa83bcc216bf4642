//! The numbers of requests: which one's turn it is, which may come, and what earlier ones were told.
//!
//! Requests of HTTP may overtake each other, and their answers may be lost. So the client numbers them; they are taken
//! in the order of their numbers, answered in that order, and a number that comes again gets the very bytes that it got
//! before (XEP-0124 §14).
//!
//! # Invariants
//!
//! 1. Each number is taken at most once, and answered once, both in order.
//! 2. At most [`REQUESTS`] and one more are not answered, and of at most [`KEPT`] the answers are kept.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// So many requests may be under way at a time; one more, if it pauses or ends the session.
pub const REQUESTS: u64 = 2;
/// So many answers are kept: as many as may be lost at a time.
pub const KEPT: usize = REQUESTS as usize + 1;

/// What a request is that came.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// One that is expected.
    New,
    /// One that was there already, and has no answer yet.
    Again,
    /// One that has its answer.
    Answered(Arc<[u8]>),
    /// One that is too far ahead, or so long ago that its answer is forgotten.
    Outside,
    /// One too many.
    TooMany,
}

/// A request without an answer.
#[derive(Debug)]
struct Open<R> {
    /// Until its turn.
    request: Option<R>,
    /// Its HTTP request still waits.
    attached: bool,
    until: Duration,
}

/// See the module.
#[derive(Debug)]
pub struct Window<R> {
    /// The first that is not answered.
    base: u64,
    /// The next to be taken.
    next: u64,
    open: BTreeMap<u64, Open<R>>,
    /// The answers to those before `base`, the last one last.
    answers: VecDeque<Arc<[u8]>>,
}

impl<R> Window<R> {
    /// Begins with the request of this number.
    pub fn new(first: u64) -> Self {
        Self {
            base: first,
            next: first,
            open: BTreeMap::new(),
            answers: VecDeque::new(),
        }
    }

    /// A request has come, which may wait for its answer until then. `extra`: it may be one more than the others.
    pub fn arrive(&mut self, rid: u64, request: R, extra: bool, until: Duration) -> Arrival {
        if rid < self.base {
            return match self.answer_to(rid) {
                Some(answer) => Arrival::Answered(answer),
                None => Arrival::Outside,
            };
        }
        if let Some(open) = self.open.get_mut(&rid) {
            (open.attached, open.until) = (true, until);
            return Arrival::Again;
        }
        if rid >= self.next + REQUESTS + u64::from(extra) {
            return Arrival::Outside;
        }
        if rid >= self.base + REQUESTS + u64::from(extra) {
            return Arrival::TooMany;
        }
        let open = Open {
            request: Some(request),
            attached: true,
            until,
        };
        self.open.insert(rid, open);
        Arrival::New
    }

    /// What was said to a request, if that is still known.
    pub fn answer_to(&self, rid: u64) -> Option<Arc<[u8]>> {
        let back = usize::try_from(self.base.checked_sub(rid)?).ok()?;
        let place = self.answers.len().checked_sub(back)?;
        self.answers.get(place).cloned()
    }

    /// Nobody waits for the answer any more; it is kept for when the request comes again.
    pub fn detach(&mut self, rid: u64) {
        if let Some(open) = self.open.get_mut(&rid) {
            open.attached = false;
        }
    }

    /// A request may wait until then only.
    pub fn hurry(&mut self, rid: u64, until: Duration) {
        if let Some(open) = self.open.get_mut(&rid) {
            open.until = open.until.min(until);
        }
    }

    /// Takes the request whose turn it is, if it came.
    pub fn take(&mut self) -> Option<R> {
        let open = self.open.get_mut(&self.next)?;
        self.next += 1;
        open.request.take()
    }

    /// How many have been taken and not answered.
    pub fn held(&self) -> u64 {
        self.next - self.base
    }

    /// Until when the first of those may wait.
    pub fn until(&self) -> Option<Duration> {
        let first = (self.held() > 0).then_some(&self.base);
        first
            .and_then(|rid| self.open.get(rid))
            .map(|open| open.until)
    }

    /// Whether somebody waits for the answer to the first of those.
    pub fn is_awaited(&self) -> bool {
        let first = (self.held() > 0).then_some(&self.base);
        let first = first.and_then(|rid| self.open.get(rid));
        first.is_some_and(|open| open.attached)
    }

    /// Whether somebody waits for any answer.
    pub fn is_attached(&self) -> bool {
        self.open.values().any(|open| open.attached)
    }

    /// The number of the next answer.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// The number of the last request that was taken.
    pub fn last(&self) -> u64 {
        self.next - 1
    }

    /// Answers the first request that was taken and not answered; its number.
    pub fn answer(&mut self, answer: Arc<[u8]>) -> Option<u64> {
        if self.held() == 0 {
            return None;
        }
        let rid = self.base;
        self.open.remove(&rid);
        self.base += 1;
        self.answers.push_back(answer);
        if self.answers.len() > KEPT {
            self.answers.pop_front();
        }
        Some(rid)
    }

    /// The client has all answers up to this one.
    pub fn acknowledge(&mut self, rid: u64) {
        let kept = self.base.saturating_sub(1).saturating_sub(rid);
        let kept = usize::try_from(kept).unwrap_or(usize::MAX);
        let gone = self.answers.len().saturating_sub(kept.max(1));
        self.answers.drain(..gone);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn answer(text: &str) -> Arc<[u8]> {
        text.as_bytes().into()
    }

    fn arrive(window: &mut Window<u64>, rid: u64) -> Arrival {
        window.arrive(rid, rid, false, NOW)
    }

    #[test]
    fn bo_2_requests_are_taken_in_the_order_of_their_numbers() {
        let mut window = Window::new(10);
        assert_eq!(arrive(&mut window, 11), Arrival::New);
        assert_eq!(window.take(), None);
        assert_eq!(arrive(&mut window, 10), Arrival::New);
        assert_eq!([window.take(), window.take()], [Some(10), Some(11)]);
        assert_eq!((window.take(), window.held()), (None, 2));
        assert_eq!(window.answer(answer("a")), Some(10));
        assert_eq!(window.answer(answer("b")), Some(11));
        assert_eq!(window.answer(answer("c")), None);
    }

    #[test]
    fn bo_2_a_number_that_is_too_far_ahead_is_none_of_the_session() {
        let mut window = Window::new(10);
        assert_eq!(arrive(&mut window, 12), Arrival::Outside);
        assert_eq!(arrive(&mut window, 9), Arrival::Outside);
        assert_eq!(window.arrive(12, 12, true, NOW), Arrival::New);
        assert_eq!(window.arrive(13, 13, true, NOW), Arrival::Outside);
    }

    #[test]
    fn bo_2_one_request_too_many_at_a_time_is_told_apart() {
        let mut window = Window::new(10);
        for rid in [10, 11] {
            arrive(&mut window, rid);
            window.take();
        }
        assert_eq!(arrive(&mut window, 12), Arrival::TooMany);
        assert_eq!(window.arrive(12, 12, true, NOW), Arrival::New);
        window.answer(answer("a"));
        assert_eq!(window.arrive(13, 13, false, NOW), Arrival::TooMany);
    }

    #[test]
    fn bo_3_a_number_that_comes_again_gets_the_same_answer_while_it_is_kept() {
        let mut window = Window::new(10);
        for rid in 10..15 {
            arrive(&mut window, rid);
            window.take();
            window.answer(answer(&rid.to_string()));
        }
        for rid in 12..15 {
            let kept = answer(&rid.to_string());
            assert_eq!(arrive(&mut window, rid), Arrival::Answered(kept));
        }
        assert_eq!(arrive(&mut window, 11), Arrival::Outside);
        window.acknowledge(13);
        assert_eq!(arrive(&mut window, 13), Arrival::Outside);
        assert!(matches!(arrive(&mut window, 14), Arrival::Answered(_)));
        // The last one may be lost whatever a client claims.
        window.acknowledge(99);
        assert!(matches!(arrive(&mut window, 14), Arrival::Answered(_)));
    }

    #[test]
    fn bo_3_a_request_that_nobody_waits_for_is_awaited_again_when_it_comes_again() {
        let mut window = Window::new(10);
        arrive(&mut window, 10);
        window.take();
        window.detach(10);
        assert!(!window.is_awaited() && !window.is_attached());
        assert_eq!(arrive(&mut window, 10), Arrival::Again);
        assert!(window.is_awaited());
        assert_eq!(window.take(), None, "it is not taken twice");
    }

    proptest! {
        /// Whatever comes, in whatever order and however often.
        #[test]
        fn bo_2_each_number_is_taken_once_and_answered_once_in_order(
            steps in proptest::collection::vec((0_u8..5, 0_u64..8), 0..200),
        ) {
            let (mut window, mut taken, mut answered) = (Window::new(100), Vec::new(), Vec::new());
            for (step, number) in steps {
                match step {
                    0 | 1 => {
                        let rid = (window.base() + number).saturating_sub(3);
                        let before = answered.contains(&rid);
                        match window.arrive(rid, rid, number == 7, NOW) {
                            Arrival::Answered(body) => {
                                prop_assert!(before);
                                prop_assert_eq!(body, answer(&rid.to_string()));
                            }
                            Arrival::New => prop_assert!(!before && !taken.contains(&rid)),
                            Arrival::Again => prop_assert!(!before),
                            Arrival::Outside | Arrival::TooMany => {}
                        }
                    }
                    2 => taken.extend(window.take()),
                    3 => answered.extend(window.answer(answer(&window.base().to_string()))),
                    _ => window.detach(window.base() + number),
                }
                prop_assert!(window.open.len() as u64 <= REQUESTS + 1);
                prop_assert!(window.answers.len() <= KEPT);
                prop_assert!(answered.len() <= taken.len());
            }
            let expect: Vec<_> = (100..).take(taken.len()).collect();
            prop_assert_eq!(&taken, &expect);
            prop_assert_eq!(&answered[..], &expect[..answered.len()]);
        }
    }
}
