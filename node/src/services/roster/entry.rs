//! One contact as one user's roster has it, and what requests make of it. Pure.

use super::storage::RosterItem;
use super::subscription::{self, Request, State};

/// A contact as one user's roster has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Entry {
    /// How the two stand to each other.
    pub state: State,
    /// A request of the contact is granted in advance.
    pub approved: bool,
    /// The user has it in the roster; else it is but a request that awaits an answer.
    pub listed: bool,
    /// What the user calls it.
    pub name: Option<String>,
    /// Where the user sorts it.
    pub groups: Vec<String>,
}

impl Entry {
    /// The entry after a request of the user's own client, and what else follows.
    pub fn sent(mut self, request: Request) -> (Self, subscription::Sent) {
        let sent = subscription::sent(self.state, request);
        self.listed |= match request {
            Request::Subscribe | Request::Subscribed => true,
            Request::Unsubscribe | Request::Unsubscribed => false,
        };
        self.state = sent.state;
        // An approval in advance lasts until it is taken back (IM-35).
        self.approved = match request {
            Request::Unsubscribed => false,
            _ => sent.approve.unwrap_or(self.approved),
        };
        (self, sent)
    }

    /// The entry after a request of the contact, and what else follows.
    pub fn received(mut self, request: Request) -> (Self, subscription::Received) {
        let received = subscription::received(self.state, self.approved, request);
        self.state = received.state;
        self.listed |= self.state.from() || self.state.to();
        (self, received)
    }

    /// The entry after a request of the contact that shows an invitation of the user: it is granted, and the user asks
    /// as well, unless the contact has granted that already (RE-6).
    pub fn introduced(mut self) -> Self {
        self.state = State::new(self.state.to(), true, true, false);
        self.listed = true;
        self
    }

    /// Nobody needs to remember it.
    pub fn is_void(&self) -> bool {
        !self.listed && !self.state.pending()
    }
}

impl From<&RosterItem> for Entry {
    fn from(item: &RosterItem) -> Self {
        let (to, from) = (item.subscription.to(), item.subscription.from());
        Self {
            state: State::new(to, from, item.ask, item.request.is_some()),
            approved: item.approved,
            listed: item.listed,
            name: item.name.clone(),
            groups: item.groups.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(state: State, listed: bool) -> Entry {
        Entry {
            state,
            listed,
            ..Entry::default()
        }
    }

    #[test]
    fn im_29_a_stranger_s_request_changes_nothing_that_clients_see() {
        let (asked, outcome) = Entry::default().received(Request::Subscribe);
        assert!(outcome.deliver && !asked.listed && !asked.is_void());
        let (refused, outcome) = asked.sent(Request::Unsubscribed);
        assert!(outcome.route && !refused.listed && refused.is_void());
    }

    #[test]
    fn im_35_approval_in_advance_makes_an_item_and_lasts_until_it_is_taken_back() {
        let (approved, outcome) = Entry::default().sent(Request::Subscribed);
        assert!(!outcome.route && approved.approved && approved.listed);
        // Nothing else is granted without the user (IM-34).
        let (granted, outcome) = approved.received(Request::Subscribe);
        assert_eq!(outcome.answer, Some(Request::Subscribed));
        assert!(granted.approved && granted.state == State::From);
        let (refused, _) = granted.sent(Request::Unsubscribed);
        assert!(!refused.approved && refused.state == State::None && refused.listed);
    }

    #[test]
    fn re_6_who_shows_an_invitation_is_granted_and_asked() {
        for state in State::ALL {
            let before = Entry {
                name: Some("Bob".to_owned()),
                ..entry(state, false)
            };
            let after = before.clone().introduced();
            let expect = if state.to() {
                State::Both
            } else {
                State::FromOut
            };
            assert_eq!(after.state, expect, "{state:?}");
            assert!(after.listed && !after.approved && after.name == before.name);
        }
    }

    #[test]
    fn im_17_a_request_of_one_s_own_lists_the_contact() {
        let (asked, _) = entry(State::NoneIn, false).sent(Request::Subscribe);
        assert_eq!(asked.state, State::NoneOutIn);
        assert!(asked.listed);
        let (granted, _) = entry(State::NoneIn, false).sent(Request::Subscribed);
        assert!(granted.listed && granted.state == State::From);
    }
}
