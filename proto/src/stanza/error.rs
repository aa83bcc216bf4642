//! Stanza errors and the one way to answer with them (RFC 6120 §8.3).

use std::borrow::Cow;

use super::header::Header;
use super::kind::{IqType, Kind, MessageType, PresenceType};
use super::packet::Packet;
use super::tree::Stanza;
use crate::ns;
use crate::xml::Element;

/// Declares conditions with their names on the wire and their default types.
macro_rules! conditions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $kind:ident;)*) => {
        /// The condition of a stanza error (RFC 6120 §8.3.3).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Condition {
            $($(#[$doc])* $variant,)*
        }

        impl Condition {
            /// Every condition.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its element name.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The type that usually goes with it.
            pub fn default_type(self) -> ErrorType {
                match self {
                    $(Self::$variant => ErrorType::$kind,)*
                }
            }
        }
    };
}

conditions! {
    /// The payload is malformed.
    BadRequest = "bad-request", Modify;
    /// It exists already.
    Conflict = "conflict", Cancel;
    /// The namespace is known, this part of it is not.
    FeatureNotImplemented = "feature-not-implemented", Cancel;
    /// The sender lacks the permission.
    Forbidden = "forbidden", Auth;
    /// The addressee moved or was destroyed.
    Gone = "gone", Cancel;
    /// Our fault.
    InternalServerError = "internal-server-error", Cancel;
    /// No such item.
    ItemNotFound = "item-not-found", Cancel;
    /// The address is none (ST-72).
    JidMalformed = "jid-malformed", Modify;
    /// It fails our criteria.
    NotAcceptable = "not-acceptable", Modify;
    /// Nobody may do this.
    NotAllowed = "not-allowed", Cancel;
    /// Credentials are needed first.
    NotAuthorized = "not-authorized", Auth;
    /// Size, rate or another policy.
    PolicyViolation = "policy-violation", Modify;
    /// The recipient is away for the moment.
    RecipientUnavailable = "recipient-unavailable", Wait;
    /// Another address for now.
    Redirect = "redirect", Modify;
    /// For members only.
    RegistrationRequired = "registration-required", Auth;
    /// The remote domain cannot be found (ST-80).
    RemoteServerNotFound = "remote-server-not-found", Cancel;
    /// The remote domain does not answer (ST-80).
    RemoteServerTimeout = "remote-server-timeout", Wait;
    /// Overload or a quota.
    ResourceConstraint = "resource-constraint", Wait;
    /// No such service or user, or not for the sender.
    ServiceUnavailable = "service-unavailable", Cancel;
    /// A subscription is needed.
    SubscriptionRequired = "subscription-required", Auth;
    /// Only together with an application condition.
    UndefinedCondition = "undefined-condition", Cancel;
    /// Out of order.
    UnexpectedRequest = "unexpected-request", Wait;
}

impl Condition {
    /// The number that said the same before conditions had names (XEP-0086). Some clients still go by it: profanity makes
    /// its first list of OMEMO devices only when there is none by a 404.
    fn code(self) -> Option<&'static str> {
        Some(match self {
            Self::Gone | Self::Redirect => "302",
            Self::BadRequest | Self::JidMalformed | Self::UnexpectedRequest => "400",
            Self::NotAuthorized => "401",
            Self::Forbidden => "403",
            Self::ItemNotFound | Self::RecipientUnavailable | Self::RemoteServerNotFound => "404",
            Self::NotAllowed => "405",
            Self::NotAcceptable => "406",
            Self::RegistrationRequired | Self::SubscriptionRequired => "407",
            Self::Conflict => "409",
            Self::InternalServerError | Self::ResourceConstraint | Self::UndefinedCondition => {
                "500"
            }
            Self::FeatureNotImplemented => "501",
            Self::ServiceUnavailable => "503",
            Self::RemoteServerTimeout => "504",
            // It is younger than the numbers.
            Self::PolicyViolation => return None,
        })
    }
}

/// What the sender may do about an error (RFC 6120 §8.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorType {
    /// Retry with credentials.
    Auth,
    /// Do not retry.
    Cancel,
    /// Go on; it was a warning.
    Continue,
    /// Retry with changed data.
    Modify,
    /// Retry later.
    Wait,
}

impl ErrorType {
    /// The value of the `type` attribute.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Cancel => "cancel",
            Self::Continue => "continue",
            Self::Modify => "modify",
            Self::Wait => "wait",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let all = [
            Self::Auth,
            Self::Cancel,
            Self::Continue,
            Self::Modify,
            Self::Wait,
        ];
        all.into_iter().find(|kind| kind.name() == name)
    }
}

/// What an `<error/>` says.
#[derive(Clone, Debug, PartialEq)]
pub struct StanzaError {
    /// The condition.
    pub condition: Condition,
    /// What the sender may do.
    pub kind: ErrorType,
    /// For humans.
    pub text: Option<Cow<'static, str>>,
    /// More detail in another namespace.
    pub application: Option<Element>,
}

impl StanzaError {
    /// An error of the usual type for its condition.
    pub fn new(condition: Condition) -> Self {
        Self {
            condition,
            kind: condition.default_type(),
            text: None,
            application: None,
        }
    }

    /// The error with another type.
    pub fn with_type(self, kind: ErrorType) -> Self {
        Self { kind, ..self }
    }

    /// The error with a text for humans.
    pub fn with_text(self, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            text: Some(text.into()),
            ..self
        }
    }

    /// The error with an application condition.
    pub fn with_application(self, application: Element) -> Self {
        Self {
            application: Some(application),
            ..self
        }
    }

    /// The `<error/>` element.
    pub fn to_element(&self) -> Element {
        let mut error = Element::new("error", ns::CLIENT).with_attr("type", self.kind.name());
        if let Some(code) = self.condition.code() {
            error.set_attr("code", code);
        }
        error.push(Element::new(self.condition.name(), ns::STANZAS));
        if let Some(text) = &self.text {
            error.push(Element::new("text", ns::STANZAS).with_text(text));
        }
        if let Some(application) = &self.application {
            error.push(application.clone());
        }
        error
    }

    /// Reads an `<error/>`; what a peer left out or invented becomes `undefined-condition`.
    pub fn parse(error: &Element) -> Self {
        let named = |e: &Element| {
            let same = |c: &&Condition| c.name() == e.local();
            Condition::ALL.iter().find(same).copied()
        };
        let defined = |e: &&Element| e.ns() == ns::STANZAS;
        let condition = error.elements().filter(defined).find_map(named);
        let condition = condition.unwrap_or(Condition::UndefinedCondition);
        let kind = error.attr("type").and_then(ErrorType::parse);
        let text = error.child("text", ns::STANZAS);
        Self {
            condition,
            kind: kind.unwrap_or(condition.default_type()),
            text: text.map(|text| text.text().into()),
            application: error.elements().find(|e| e.ns() != ns::STANZAS).cloned(),
        }
    }
}

impl From<Condition> for StanzaError {
    fn from(condition: Condition) -> Self {
        Self::new(condition)
    }
}

/// The one error reply (ST-76), without the original payload; none to an error or a result (ST-77).
pub fn reply(header: &Header, error: &StanzaError) -> Option<Packet> {
    let kind = match header.kind {
        Kind::Message(MessageType::Error)
        | Kind::Presence(PresenceType::Error)
        | Kind::Iq(IqType::Error | IqType::Result) => return None,
        Kind::Message(_) => Kind::Message(MessageType::Error),
        Kind::Presence(_) => Kind::Presence(PresenceType::Error),
        Kind::Iq(_) => Kind::Iq(IqType::Error),
    };
    let mut stanza = Stanza::new(kind).with_child(error.to_element());
    stanza.header = header.reply(kind);
    Some(stanza.pack())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: Kind) -> Header {
        let request = Stanza::new(kind).with_id("7");
        let request = request.with_to("b@x".parse().unwrap());
        request.with_from("a@x/r".parse().unwrap()).header
    }

    #[test]
    fn st_76_a_reply_swaps_addresses_and_holds_the_condition_only() {
        let error = StanzaError::new(Condition::Forbidden);
        let packet = reply(&header(Kind::Iq(IqType::Get)), &error).unwrap();
        let mut out = Vec::new();
        packet.write(&[], &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "<iq to='a@x/r' from='b@x' id='7' type='error'><error type='auth' code='403'>\
             <forbidden xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
        );
    }

    #[test]
    fn st_77_errors_and_results_are_never_answered() {
        for kind in [
            Kind::Message(MessageType::Error),
            Kind::Presence(PresenceType::Error),
            Kind::Iq(IqType::Error),
            Kind::Iq(IqType::Result),
        ] {
            let error = StanzaError::new(Condition::BadRequest);
            assert_eq!(reply(&header(kind), &error), None);
        }
    }

    #[test]
    fn st_76_every_condition_is_read_as_it_was_written() {
        for condition in Condition::ALL {
            let error = StanzaError::new(*condition)
                .with_text("why")
                .with_application(Element::new("x", "urn:y"));
            assert_eq!(StanzaError::parse(&error.to_element()), error);
        }
    }
}
