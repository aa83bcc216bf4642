//! The states of a client's stream, and the one table of its transitions.
//!
//! ```text
//!  OpenPlain ──header──▶ Plain ──starttls──▶ Handshake ──(TLS)──▶ OpenTls ──header──▶ Secured
//!
//!  Secured ──auth──▶ Lookup ──(keys, SCRAM)──▶ Challenged ──response──▶ OpenAuthenticated
//!     │                 └─────(keys, PLAIN)──▶ Verifying ───(right)───▶ OpenAuthenticated
//!     ├──auth without a message──▶ Challenged ──response──▶ Lookup
//!     └◀─────────── a failure that is not the third, from any of these
//!
//!  Secured ──authenticate──▶ Lookup ──(keys, SCRAM)──▶ Proving ──response──▶ Opening
//!     │                        ├──────(keys, PLAIN)──▶ Verifying ───(right)───▶ │ ──(nothing is open)──▶ Authenticated
//!     │                        └──────────(tokens)────────────────────────────▶ │ ──(bound, resumed)───▶ Bound, Managed
//!     ├──authenticate without a message──▶ Proving ──response──▶ Lookup
//!     │                                    Proving ──response, keys are lacking──▶ Tasked ──next──▶ Salted ──task data──▶ Opening
//!     └◀─────────── a failure that is not the third, from any of these
//!
//!  Secured ──register──▶ Registering ──(made, refused)──▶ Secured
//!
//!  OpenAuthenticated ──header──▶ Authenticated ──bind────▶ Binding ───(bound)────▶ Bound
//!                                     │  ▲◀────(refused)──────┘                      │ enable
//!                                     │  └◀────(refused)──────┐                      ▼
//!                                     └──────resume────▶ Resuming ──(resumed)──▶ Managed
//!
//!  Bound, Managed ──(close)──▶ Closing       every state ──end of stream, error──▶ Closed
//! ```
//!
//! What stands in parentheses is done by the driver. While it is waited for, nothing is read.

use super::error::Condition;
use crate::ns;
use crate::payload::register;
use crate::sasl::Failure;
use crate::xml::Element;

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Awaits the header, without TLS.
    OpenPlain,
    /// Awaits `<starttls/>`.
    Plain,
    /// `<proceed/>` was sent: waits for TLS.
    Handshake,
    /// Awaits the first header over TLS.
    OpenTls,
    /// Awaits `<auth/>`.
    Secured,
    /// Waits for the account's keys.
    Lookup,
    /// Awaits `<response/>`.
    Challenged,
    /// Awaits `<response/>` of SASL2.
    Proving,
    /// Awaits `<next/>`, with which the client begins to give new keys (XEP-0480).
    Tasked,
    /// Awaits `<task-data/>` with the salted password.
    Salted,
    /// Waits until a password is checked.
    Verifying,
    /// Waits for what was asked for along with a login.
    Opening,
    /// Waits for what becomes of a request about an account that is to be made.
    Registering,
    /// Awaits the header after `<success/>`.
    OpenAuthenticated,
    /// Awaits a bind request or `<resume/>`.
    Authenticated,
    /// Waits for the resource.
    Binding,
    /// Waits for the old session.
    Resuming,
    /// Stanzas flow.
    Bound,
    /// Stanzas flow and are counted.
    Managed,
    /// We closed: the peer may finish.
    Closing,
    /// It is over.
    Closed,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 21] = [
        Self::OpenPlain,
        Self::Plain,
        Self::Handshake,
        Self::OpenTls,
        Self::Secured,
        Self::Lookup,
        Self::Challenged,
        Self::Proving,
        Self::Tasked,
        Self::Salted,
        Self::Verifying,
        Self::Opening,
        Self::Registering,
        Self::OpenAuthenticated,
        Self::Authenticated,
        Self::Binding,
        Self::Resuming,
        Self::Bound,
        Self::Managed,
        Self::Closing,
        Self::Closed,
    ];

    /// Whether nothing may be read until the driver has answered.
    pub const fn is_waiting(self) -> bool {
        matches!(
            self,
            Self::Handshake
                | Self::Lookup
                | Self::Verifying
                | Self::Opening
                | Self::Registering
                | Self::Binding
                | Self::Resuming
        )
    }

    /// Whether the peer's header, and so ours, is still to come.
    pub const fn awaits_header(self) -> bool {
        matches!(
            self,
            Self::OpenPlain | Self::OpenTls | Self::OpenAuthenticated
        )
    }

    /// Whether a login by SASL2 is in the middle of its messages (SA-5).
    pub const fn is_in_login(self) -> bool {
        matches!(self, Self::Proving | Self::Tasked | Self::Salted)
    }

    /// Whether stanzas flow.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Bound | Self::Managed)
    }
}

/// What came from the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The stream header.
    Header,
    /// `<starttls/>`
    StartTls,
    /// `<auth/>`
    Auth,
    /// `<response/>`
    Response,
    /// `<abort/>`
    Abort,
    /// `<authenticate/>`
    Authenticate,
    /// `<response/>` of SASL2
    Response2,
    /// `<abort/>` of SASL2
    Abort2,
    /// `<next/>` of SASL2
    Next,
    /// `<task-data/>` of SASL2
    TaskData,
    /// An iq that asks for a resource.
    Bind,
    /// An iq that asks for the legacy session.
    Session,
    /// An iq about an account of one's own, or one that is to be made (XEP-0077, XEP-0445).
    Register,
    /// Any other stanza.
    Stanza,
    /// `<enable/>`
    Enable,
    /// `<resume/>`
    Resume,
    /// `<r/>`
    AckRequest,
    /// `<a/>`
    Ack,
    /// `<active/>` or `<inactive/>`
    Csi,
    /// The end of the stream, or the peer's stream error (SM-38).
    End,
    /// Anything else.
    Unknown,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 21] = [
        Self::Header,
        Self::StartTls,
        Self::Auth,
        Self::Response,
        Self::Abort,
        Self::Authenticate,
        Self::Response2,
        Self::Abort2,
        Self::Next,
        Self::TaskData,
        Self::Bind,
        Self::Session,
        Self::Register,
        Self::Stanza,
        Self::Enable,
        Self::Resume,
        Self::AckRequest,
        Self::Ack,
        Self::Csi,
        Self::End,
        Self::Unknown,
    ];

    /// What a first-level element is. The right name in the wrong namespace is unknown (T-4).
    pub fn of(element: &Element) -> Self {
        match (element.ns(), element.local()) {
            (ns::CLIENT, "iq") if element.child("bind", ns::BIND).is_some() => Self::Bind,
            (ns::CLIENT, "iq") if element.child("session", ns::SESSION).is_some() => Self::Session,
            (ns::CLIENT, "iq") if register::is_about_account(element) => Self::Register,
            (ns::CLIENT, "message" | "presence" | "iq") => Self::Stanza,
            (ns::SM, "r") => Self::AckRequest,
            (ns::SM, "a") => Self::Ack,
            (ns::SM, "enable") => Self::Enable,
            (ns::SM, "resume") => Self::Resume,
            (ns::CSI, "active" | "inactive") => Self::Csi,
            (ns::TLS, "starttls") => Self::StartTls,
            (ns::SASL, "auth") => Self::Auth,
            (ns::SASL, "response") => Self::Response,
            (ns::SASL, "abort") => Self::Abort,
            (ns::SASL2, "authenticate") => Self::Authenticate,
            (ns::SASL2, "response") => Self::Response2,
            (ns::SASL2, "abort") => Self::Abort2,
            (ns::SASL2, "next") => Self::Next,
            (ns::SASL2, "task-data") => Self::TaskData,
            (ns::STREAM, "error") => Self::End,
            _ => Self::Unknown,
        }
    }
}

/// What is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Answer the header.
    Open,
    /// Start TLS.
    StartTls,
    /// `<failure/>` of STARTTLS, which ends the stream (ST-24).
    RefuseTls,
    /// Start a login; one in progress is forgotten (ST-33).
    Login,
    /// Start a login by SASL2.
    Authenticate,
    /// Go on with the login.
    Respond,
    /// Tell the client what the new keys need.
    BeginTask,
    /// Take the new keys, and go on with the login.
    EndTask,
    /// The login failed.
    FailLogin(Failure),
    /// No login is possible here.
    RefuseLogin(Failure),
    /// Ask the driver for a resource.
    Bind,
    /// Refuse a second resource (ST-65).
    Rebind,
    /// Answer with an empty result (ST-16).
    Session,
    /// Ask the driver for an account.
    Register,
    /// Hand it to the driver.
    Stanza,
    /// Turn Stream Management on.
    Enable,
    /// Ask the driver for an old session.
    Resume,
    /// `<failed/>`: out of order (SM-4, SM-9).
    RefuseSm,
    /// Hand `<r/>` to the driver.
    AckRequest,
    /// Hand `<a/>` to the driver.
    Ack,
    /// Tell the driver whether someone looks.
    Csi,
    /// Out of order, yet harmless: counted (SM-29).
    Misuse,
    /// Close as well.
    Close,
    /// Nothing.
    Ignore,
    /// End the stream with an error.
    Fail(Condition),
}

/// The table of transitions: all that a peer can do in any state.
pub fn action(state: State, event: Event) -> Action {
    use {Action as A, Event as E, State as S};
    match (state, event) {
        (S::Closed, _) => A::Ignore,
        (_, E::End) => A::Close,

        (S::OpenPlain | S::OpenTls | S::OpenAuthenticated, E::Header) => A::Open,
        (S::OpenPlain | S::OpenTls | S::OpenAuthenticated, _) => A::Fail(Condition::BadFormat),
        (_, E::Header) => A::Fail(Condition::BadFormat),

        // The peer may not have noticed our end yet, so its stanzas still count (ST-18).
        (S::Closing, E::Stanza | E::Register) => A::Stanza,
        (S::Closing, E::Ack) => A::Ack,
        (S::Closing, _) => A::Ignore,

        // Nothing is read in these states, so a caller that polls nevertheless gets nothing.
        (
            S::Handshake
            | S::Lookup
            | S::Verifying
            | S::Opening
            | S::Registering
            | S::Binding
            | S::Resuming,
            _,
        ) => A::Fail(Condition::InternalServerError),

        (S::Plain, E::StartTls) => A::StartTls,
        (S::Plain, E::Auth | E::Response | E::Abort) => A::RefuseLogin(Failure::EncryptionRequired),
        (S::Plain, _) => A::Fail(Condition::PolicyViolation),

        // A login by SASL2 takes nothing else in between, and there is one (SA-5, SA-10).
        (S::Proving, E::Response2) => A::Respond,
        (S::Tasked, E::Next) => A::BeginTask,
        (S::Salted, E::TaskData) => A::EndTask,
        (S::Proving | S::Tasked | S::Salted, E::Abort2) => A::FailLogin(Failure::Aborted),
        (S::Secured, E::Authenticate) => A::Authenticate,
        (S::Proving | S::Tasked | S::Salted, _)
        | (_, E::Authenticate | E::Response2 | E::Abort2 | E::Next | E::TaskData) => {
            A::Fail(Condition::PolicyViolation)
        }
        (_, E::StartTls) => A::RefuseTls,

        (_, E::Unknown) => A::Fail(Condition::UnsupportedStanzaType),

        (S::Secured | S::Challenged, E::Auth) => A::Login,
        (S::Challenged, E::Response) => A::Respond,
        (S::Secured, E::Response) => A::FailLogin(Failure::MalformedRequest),
        (S::Secured | S::Challenged, E::Abort) => A::FailLogin(Failure::Aborted),
        (_, E::Auth | E::Response | E::Abort) => A::RefuseLogin(Failure::MalformedRequest),

        (S::Secured, E::Register) => A::Register,
        (S::Secured | S::Challenged, E::Bind | E::Session | E::Register | E::Stanza) => {
            A::Fail(Condition::NotAuthorized)
        }
        (S::Authenticated, E::Bind) => A::Bind,
        (S::Authenticated, E::Register | E::Stanza) => A::Fail(Condition::NotAuthorized),
        (S::Authenticated | S::Bound | S::Managed, E::Session) => A::Session,
        (S::Bound | S::Managed, E::Bind) => A::Rebind,
        (S::Bound | S::Managed, E::Register | E::Stanza) => A::Stanza,

        (S::Authenticated, E::Resume) => A::Resume,
        (S::Bound, E::Enable) => A::Enable,
        (_, E::Enable | E::Resume) => A::RefuseSm,
        (S::Managed, E::AckRequest) => A::AckRequest,
        (S::Managed, E::Ack) => A::Ack,
        (_, E::AckRequest | E::Ack) => A::Misuse,

        (S::Bound | S::Managed, E::Csi) => A::Csi,
        (_, E::Csi) => A::Misuse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t_21_nothing_is_done_for_a_peer_that_is_not_authenticated() {
        let early = [
            State::OpenPlain,
            State::Plain,
            State::OpenTls,
            State::Secured,
            State::Challenged,
            State::Proving,
            State::Tasked,
            State::Salted,
        ];
        for (state, event) in early.iter().flat_map(|s| Event::ALL.map(|e| (*s, e))) {
            let done = action(state, event);
            let forbidden = matches!(
                done,
                Action::Bind
                    | Action::Rebind
                    | Action::Session
                    | Action::Stanza
                    | Action::Enable
                    | Action::Resume
                    | Action::AckRequest
                    | Action::Ack
                    | Action::Csi
            );
            assert!(!forbidden, "{state:?} {event:?} {done:?}");
        }
    }

    #[test]
    fn t_20_only_starttls_leads_out_of_a_plain_stream() {
        for event in Event::ALL {
            let expect = match event {
                Event::StartTls => Action::StartTls,
                Event::End => Action::Close,
                Event::Header => Action::Fail(Condition::BadFormat),
                Event::Auth | Event::Response | Event::Abort => {
                    Action::RefuseLogin(Failure::EncryptionRequired)
                }
                _ => Action::Fail(Condition::PolicyViolation),
            };
            assert_eq!(action(State::Plain, event), expect);
        }
    }

    #[test]
    fn sa_5_and_sa_10_a_login_by_sasl2_stands_alone_and_comes_once() {
        for (state, next, goes_on) in [
            (State::Proving, Event::Response2, Action::Respond),
            (State::Tasked, Event::Next, Action::BeginTask),
            (State::Salted, Event::TaskData, Action::EndTask),
        ] {
            for event in Event::ALL {
                let expect = match event {
                    Event::Abort2 => Action::FailLogin(Failure::Aborted),
                    Event::End => Action::Close,
                    Event::Header => Action::Fail(Condition::BadFormat),
                    event if event == next => goes_on,
                    _ => Action::Fail(Condition::PolicyViolation),
                };
                assert_eq!(action(state, event), expect, "{state:?} {event:?}");
            }
        }
        for state in [State::Authenticated, State::Bound, State::Managed] {
            for event in [
                Event::Authenticate,
                Event::Response2,
                Event::Abort2,
                Event::Next,
                Event::TaskData,
            ] {
                let expect = Action::Fail(Condition::PolicyViolation);
                assert_eq!(action(state, event), expect, "{state:?} {event:?}");
            }
        }
    }

    #[test]
    fn re_1_an_account_is_asked_for_over_tls_and_before_a_login() {
        for state in State::ALL {
            let asks = action(state, Event::Register) == Action::Register;
            assert_eq!(asks, state == State::Secured, "{state:?}");
        }
    }

    #[test]
    fn sm_3_each_element_has_its_one_state() {
        for state in State::ALL {
            let enable = action(state, Event::Enable) == Action::Enable;
            assert_eq!(enable, state == State::Bound, "{state:?}");
            let resume = action(state, Event::Resume) == Action::Resume;
            assert_eq!(resume, state == State::Authenticated, "{state:?}");
        }
    }
}
