//! The subscription tables of RFC 6121 appendix A, as pure functions (IM-E).
//!
//! A state is one user's view of one contact. [`sent`] says what a stanza of the user's own client does
//! to it, [`received`] what a stanza of the contact does. Nothing here stores or delivers.
//!
//! ```text
//!              contact's grant →   no        asked      yes
//!  user's grant ↓          no      None      NoneOut    To
//!                     requested    NoneIn    NoneOutIn  ToIn
//!                          yes     From      FromOut    Both
//! ```

use proto::stanza::PresenceType;

/// How a user and a contact stand to each other, seen from the user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// Neither sees the other.
    #[default]
    None,
    /// The user has asked (pending out).
    NoneOut,
    /// The contact has asked (pending in).
    NoneIn,
    /// Both have asked.
    NoneOutIn,
    /// The user sees the contact.
    To,
    /// The user sees the contact, who has asked.
    ToIn,
    /// The contact sees the user.
    From,
    /// The contact sees the user, who has asked.
    FromOut,
    /// Each sees the other.
    Both,
}

impl State {
    /// Every state, in the order of the tables.
    #[cfg(test)]
    pub const ALL: [Self; 9] = [
        Self::None,
        Self::NoneOut,
        Self::NoneIn,
        Self::NoneOutIn,
        Self::To,
        Self::ToIn,
        Self::From,
        Self::FromOut,
        Self::Both,
    ];

    /// The state with these parts. A request beside the grant that it asks for is over, hence ignored.
    pub fn new(to: bool, from: bool, ask: bool, pending: bool) -> Self {
        match (to, from, ask, pending) {
            (false, false, false, false) => Self::None,
            (false, false, true, false) => Self::NoneOut,
            (false, false, false, true) => Self::NoneIn,
            (false, false, true, true) => Self::NoneOutIn,
            (true, false, _, false) => Self::To,
            (true, false, _, true) => Self::ToIn,
            (false, true, false, _) => Self::From,
            (false, true, true, _) => Self::FromOut,
            (true, true, _, _) => Self::Both,
        }
    }

    /// The user sees the contact's presence.
    pub fn to(self) -> bool {
        matches!(self, Self::To | Self::ToIn | Self::Both)
    }

    /// The contact sees the user's presence.
    pub fn from(self) -> bool {
        matches!(self, Self::From | Self::FromOut | Self::Both)
    }

    /// The user's request is unanswered.
    pub fn ask(self) -> bool {
        matches!(self, Self::NoneOut | Self::NoneOutIn | Self::FromOut)
    }

    /// The contact's request is unanswered.
    pub fn pending(self) -> bool {
        matches!(self, Self::NoneIn | Self::NoneOutIn | Self::ToIn)
    }
}

/// A presence stanza that manages a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Asks to see the recipient's presence.
    Subscribe,
    /// Gives that up.
    Unsubscribe,
    /// Grants it.
    Subscribed,
    /// Refuses it or withdraws the grant.
    Unsubscribed,
}

impl Request {
    /// The request that a presence stanza makes, if it makes one.
    pub fn of(kind: PresenceType) -> Option<Self> {
        match kind {
            PresenceType::Subscribe => Some(Self::Subscribe),
            PresenceType::Unsubscribe => Some(Self::Unsubscribe),
            PresenceType::Subscribed => Some(Self::Subscribed),
            PresenceType::Unsubscribed => Some(Self::Unsubscribed),
            PresenceType::Available
            | PresenceType::Unavailable
            | PresenceType::Probe
            | PresenceType::Error => None,
        }
    }

    /// The type of the stanza that makes this request.
    pub fn kind(self) -> PresenceType {
        match self {
            Self::Subscribe => PresenceType::Subscribe,
            Self::Unsubscribe => PresenceType::Unsubscribe,
            Self::Subscribed => PresenceType::Subscribed,
            Self::Unsubscribed => PresenceType::Unsubscribed,
        }
    }
}

/// What a request of the user's own client comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The new state.
    pub state: State,
    /// The contact's server hears of it.
    pub route: bool,
    /// The contact's request is granted in advance (`true`), or that is taken back (`false`).
    pub approve: Option<bool>,
}

/// A request of the user's own client.
pub fn sent(state: State, request: Request) -> Sent {
    use State::*;
    let routed = |state| Sent {
        state,
        route: true,
        approve: Option::None,
    };
    let kept = |approve| Sent {
        state,
        route: false,
        approve,
    };
    match request {
        Request::Subscribe => routed(match state {
            None | NoneOut => NoneOut,
            NoneIn | NoneOutIn => NoneOutIn,
            From | FromOut => FromOut,
            To | ToIn | Both => state,
        }),
        Request::Unsubscribe => routed(match state {
            None | NoneOut | To => None,
            NoneIn | NoneOutIn | ToIn => NoneIn,
            From | FromOut | Both => From,
        }),
        Request::Subscribed => match state {
            None | NoneOut | To => kept(Some(true)),
            NoneIn => routed(From),
            NoneOutIn => routed(FromOut),
            ToIn => routed(Both),
            From | FromOut | Both => kept(Option::None),
        },
        Request::Unsubscribed => match state {
            None | NoneOut | To => kept(Some(false)),
            NoneIn | From => routed(None),
            NoneOutIn | FromOut => routed(NoneOut),
            ToIn | Both => routed(To),
        },
    }
}

/// What a request from the contact comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// The new state.
    pub state: State,
    /// The user's clients hear of it.
    pub deliver: bool,
    /// What the server answers in the user's name.
    pub answer: Option<Request>,
}

/// A request from the contact; `approved` if the user granted it in advance (IM-34, IM-35).
pub fn received(state: State, approved: bool, request: Request) -> Received {
    use State::*;
    let ignored = Received {
        state,
        deliver: false,
        answer: Option::None,
    };
    let delivered = |state| Received {
        state,
        deliver: true,
        answer: Option::None,
    };
    let granted = |state| Received {
        state,
        deliver: false,
        answer: Some(Request::Subscribed),
    };
    let withdrawn = |state| Received {
        state,
        deliver: true,
        answer: Some(Request::Unsubscribed),
    };
    match request {
        Request::Subscribe => match state {
            None if approved => granted(From),
            NoneOut if approved => granted(FromOut),
            To if approved => granted(Both),
            None => delivered(NoneIn),
            NoneOut => delivered(NoneOutIn),
            To => delivered(ToIn),
            NoneIn | NoneOutIn | ToIn => ignored,
            From | FromOut | Both => granted(state),
        },
        Request::Unsubscribe => match state {
            None | NoneOut | To => ignored,
            NoneIn | From => withdrawn(None),
            NoneOutIn | FromOut => withdrawn(NoneOut),
            ToIn | Both => withdrawn(To),
        },
        Request::Subscribed => match state {
            NoneOut => delivered(To),
            NoneOutIn => delivered(ToIn),
            FromOut => delivered(Both),
            None | NoneIn | To | ToIn | From | Both => ignored,
        },
        Request::Unsubscribed => match state {
            NoneOut | To => delivered(None),
            NoneOutIn | ToIn => delivered(NoneIn),
            FromOut | Both => delivered(From),
            None | NoneIn | From => ignored,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUESTS: [Request; 4] = [
        Request::Subscribe,
        Request::Unsubscribe,
        Request::Subscribed,
        Request::Unsubscribed,
    ];
    const NAMES: [&str; 9] = ["N", "N+o", "N+i", "N+oi", "T", "T+i", "F", "F+o", "B"];

    fn named(name: &str) -> State {
        let at = NAMES.iter().position(|n| *n == name);
        State::ALL[at.unwrap_or_else(|| panic!("no state {name}"))]
    }

    /// Columns: state, subscribe, unsubscribe, subscribed, unsubscribed. `>` routed, `=` not routed,
    /// `+` approved in advance, `-` that is taken back.
    const SENT: &str = "
        N     >N+o   >N     +N     -N
        N+o   >N+o   >N     +N+o   -N+o
        N+i   >N+oi  >N+i   >F     >N
        N+oi  >N+oi  >N+i   >F+o   >N+o
        T     >T     >N     +T     -T
        T+i   >T+i   >N+i   >B     >T
        F     >F+o   >F     =F     >N
        F+o   >F+o   >F     =F+o   >N+o
        B     >B     >F     =B     >T";

    #[test]
    fn im_e_what_the_own_client_sends_follows_the_table() {
        let mut cells = 0;
        for row in SENT.lines().filter(|l| !l.trim().is_empty()) {
            let row: Vec<&str> = row.split_whitespace().collect();
            for (request, cell) in REQUESTS.into_iter().zip(&row[1..]) {
                let (mark, next) = cell.split_at(1);
                let expect = Sent {
                    state: named(next),
                    route: mark == ">",
                    approve: match mark {
                        "+" => Some(true),
                        "-" => Some(false),
                        _ => None,
                    },
                };
                assert_eq!(
                    sent(named(row[0]), request),
                    expect,
                    "{} {request:?}",
                    row[0]
                );
                cells += 1;
            }
        }
        assert_eq!(cells, 36);
    }

    /// `!` delivered, `~` delivered and answered with `unsubscribed`, `.` ignored, `a` answered with `subscribed`.
    const RECEIVED: &str = "
        N     !N+i   .N     .N     .N
        N+o   !N+oi  .N+o   !T     !N
        N+i   .N+i   ~N     .N+i   .N+i
        N+oi  .N+oi  ~N+o   !T+i   !N+i
        T     !T+i   .T     .T     !N
        T+i   .T+i   ~T     .T+i   !N+i
        F     aF     ~N     .F     .F
        F+o   aF+o   ~N+o   !B     !F
        B     aB     ~T     .B     !F";

    #[test]
    fn im_e_what_the_contact_sends_follows_the_table() {
        let mut cells = 0;
        for row in RECEIVED.lines().filter(|l| !l.trim().is_empty()) {
            let row: Vec<&str> = row.split_whitespace().collect();
            for (request, cell) in REQUESTS.into_iter().zip(&row[1..]) {
                let (mark, next) = cell.split_at(1);
                let expect = Received {
                    state: named(next),
                    deliver: matches!(mark, "!" | "~"),
                    answer: match mark {
                        "~" => Some(Request::Unsubscribed),
                        "a" => Some(Request::Subscribed),
                        _ => None,
                    },
                };
                assert_eq!(
                    received(named(row[0]), false, request),
                    expect,
                    "{} {request:?}",
                    row[0]
                );
                cells += 1;
            }
        }
        assert_eq!(cells, 36);
    }

    #[test]
    fn im_35_a_request_that_was_approved_in_advance_is_granted_unseen() {
        for (state, next) in [("N", "F"), ("N+o", "F+o"), ("T", "B")] {
            let outcome = received(named(state), true, Request::Subscribe);
            assert_eq!(
                outcome,
                Received {
                    state: named(next),
                    deliver: false,
                    answer: Some(Request::Subscribed)
                }
            );
        }
    }

    #[test]
    fn a_state_is_the_sum_of_its_parts() {
        for state in State::ALL {
            assert_eq!(
                State::new(state.to(), state.from(), state.ask(), state.pending()),
                state
            );
        }
    }
}
