//! Stream errors: each one ends its stream (RFC 6120 §4.9).

use std::borrow::Cow;

use crate::ns;
use crate::xml::{Element, ReadError};

/// Why a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// Well-formed XML that cannot be used.
    BadFormat,
    /// A prefix is wrong or missing. Never sent: prefixes decide nothing (ST-1).
    BadNamespacePrefix,
    /// Another stream took the session or the resource over.
    Conflict,
    /// The peer does not answer what it was sent.
    ConnectionTimeout,
    /// The domain is no longer served here.
    HostGone,
    /// The domain is not served here.
    HostUnknown,
    /// A stanza between servers lacks an address.
    ImproperAddressing,
    /// The server's fault.
    InternalServerError,
    /// The sender's domain is not authenticated for this stream.
    InvalidFrom,
    /// The stream or its content is of another namespace.
    InvalidNamespace,
    /// An element breaks its schema.
    InvalidXml,
    /// Data before authentication, or for another identity.
    NotAuthorized,
    /// Not well-formed XML, or not by the rules of namespaces.
    NotWellFormed,
    /// A limit or a rule of the operator.
    PolicyViolation,
    /// A backend that is needed cannot be reached.
    RemoteConnectionFailed,
    /// The features changed: connect again.
    Reset,
    /// Overload.
    ResourceConstraint,
    /// XML that XMPP forbids: comments, processing instructions, DTDs, entities.
    RestrictedXml,
    /// Another host serves this domain.
    SeeOtherHost,
    /// The server stops.
    SystemShutdown,
    /// Named by the application condition beside it.
    UndefinedCondition,
    /// Another encoding than UTF-8.
    UnsupportedEncoding,
    /// A mandatory feature is not known.
    UnsupportedFeature,
    /// An element that is no stanza.
    UnsupportedStanzaType,
    /// A version of XMPP before 1.0.
    UnsupportedVersion,
}

impl Condition {
    /// Every condition.
    pub const ALL: [Self; 25] = [
        Self::BadFormat,
        Self::BadNamespacePrefix,
        Self::Conflict,
        Self::ConnectionTimeout,
        Self::HostGone,
        Self::HostUnknown,
        Self::ImproperAddressing,
        Self::InternalServerError,
        Self::InvalidFrom,
        Self::InvalidNamespace,
        Self::InvalidXml,
        Self::NotAuthorized,
        Self::NotWellFormed,
        Self::PolicyViolation,
        Self::RemoteConnectionFailed,
        Self::Reset,
        Self::ResourceConstraint,
        Self::RestrictedXml,
        Self::SeeOtherHost,
        Self::SystemShutdown,
        Self::UndefinedCondition,
        Self::UnsupportedEncoding,
        Self::UnsupportedFeature,
        Self::UnsupportedStanzaType,
        Self::UnsupportedVersion,
    ];

    /// The name of its element.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadFormat => "bad-format",
            Self::BadNamespacePrefix => "bad-namespace-prefix",
            Self::Conflict => "conflict",
            Self::ConnectionTimeout => "connection-timeout",
            Self::HostGone => "host-gone",
            Self::HostUnknown => "host-unknown",
            Self::ImproperAddressing => "improper-addressing",
            Self::InternalServerError => "internal-server-error",
            Self::InvalidFrom => "invalid-from",
            Self::InvalidNamespace => "invalid-namespace",
            Self::InvalidXml => "invalid-xml",
            Self::NotAuthorized => "not-authorized",
            Self::NotWellFormed => "not-well-formed",
            Self::PolicyViolation => "policy-violation",
            Self::RemoteConnectionFailed => "remote-connection-failed",
            Self::Reset => "reset",
            Self::ResourceConstraint => "resource-constraint",
            Self::RestrictedXml => "restricted-xml",
            Self::SeeOtherHost => "see-other-host",
            Self::SystemShutdown => "system-shutdown",
            Self::UndefinedCondition => "undefined-condition",
            Self::UnsupportedEncoding => "unsupported-encoding",
            Self::UnsupportedFeature => "unsupported-feature",
            Self::UnsupportedStanzaType => "unsupported-stanza-type",
            Self::UnsupportedVersion => "unsupported-version",
        }
    }

    /// The condition of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == name)
    }

    /// Whether a session with Stream Management outlives a stream that we end like this (SM-38).
    pub const fn is_resumable(self) -> bool {
        matches!(
            self,
            Self::ConnectionTimeout
                | Self::SystemShutdown
                | Self::SeeOtherHost
                | Self::InternalServerError
        )
    }
}

/// A stream error, as it is sent.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{}", self.condition.name())]
pub struct StreamError {
    /// The condition.
    pub condition: Condition,
    /// For people, in English. Never repeats what the peer sent.
    pub text: Option<Cow<'static, str>>,
    /// What exactly, in a namespace of its own.
    pub application: Option<Element>,
}

impl StreamError {
    /// An error without text.
    pub fn new(condition: Condition) -> Self {
        Self {
            condition,
            text: None,
            application: None,
        }
    }

    /// The same with a text.
    pub fn with_text(mut self, text: impl Into<Cow<'static, str>>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Reads an `<error/>` of the namespace of streams: for clients.
    pub fn parse(element: &Element) -> Self {
        let mut error = Self::new(Condition::UndefinedCondition);
        for child in element.elements() {
            match (child.ns(), child.local()) {
                (ns::STREAMS, "text") => error.text = Some(child.text().into()),
                (ns::STREAMS, name) => {
                    error.condition = Condition::parse(name).unwrap_or(error.condition);
                    // `see-other-host` has its text inside (RFC 6120 §4.9.3.19).
                    error.text = error.text.or_else(|| Some(child.text().into()));
                    error.text = error.text.filter(|text| !text.is_empty());
                }
                _ => error.application = Some(child.clone()),
            }
        }
        error
    }

    /// Writes `<stream:error/>`, without the end of the stream (ST-82).
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut text = String::from("<stream:error>");
        // Some clients read what follows by its place: condition, text, application condition.
        let condition = match self.condition {
            Condition::SeeOtherHost => {
                let host = self.text.as_deref().unwrap_or_default();
                Element::new(self.condition.name(), ns::STREAMS).with_text(host)
            }
            other => Element::new(other.name(), ns::STREAMS),
        };
        condition.write(ns::CLIENT, &mut text);
        if let Some(words) = &self.text
            && self.condition != Condition::SeeOtherHost
        {
            let mut element = Element::new("text", ns::STREAMS).with_text(words);
            element.set_attr_ns("lang", ns::XML, "en");
            element.write(ns::CLIENT, &mut text);
        }
        if let Some(application) = &self.application {
            application.write(ns::CLIENT, &mut text);
        }
        text.push_str("</stream:error>");
        out.extend_from_slice(text.as_bytes());
    }
}

impl From<Condition> for StreamError {
    fn from(condition: Condition) -> Self {
        Self::new(condition)
    }
}

impl From<ReadError> for StreamError {
    /// No `_` arm: whoever adds a refusal also decides what the peer is told.
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotWellFormed => Self::new(Condition::NotWellFormed),
            ReadError::RestrictedXml => Self::new(Condition::RestrictedXml),
            ReadError::UnsupportedEncoding => Self::new(Condition::UnsupportedEncoding),
            ReadError::BadFormat => Self::new(Condition::BadFormat),
            ReadError::TooBig(_) => Self {
                application: Some(Element::new("stanza-too-big", ns::ERRORS)),
                ..Self::new(Condition::PolicyViolation)
            },
            ReadError::PolicyViolation(_) => Self::new(Condition::PolicyViolation),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::Measured;

    fn written(error: &StreamError) -> String {
        let mut out = Vec::new();
        error.write(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn st_82_condition_text_and_application_in_this_order() {
        assert_eq!(
            written(&StreamError::new(Condition::Conflict).with_text("a<b")),
            "<stream:error><conflict xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
             <text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>a&lt;b</text></stream:error>"
        );
        assert_eq!(
            written(&ReadError::TooBig(Measured::Stanza).into()),
            "<stream:error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
             <stanza-too-big xmlns='urn:xmpp:errors'/></stream:error>"
        );
        assert_eq!(
            written(&StreamError::new(Condition::SeeOtherHost).with_text("[::1]:5222")),
            "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>[::1]:5222\
             </see-other-host></stream:error>"
        );
    }

    #[test]
    fn st_82_every_error_is_read_as_it_was_written() {
        for condition in Condition::ALL {
            let error = StreamError {
                application: Some(Element::new("x", "urn:y")),
                ..StreamError::new(condition).with_text("why")
            };
            let text = written(&error).replace(
                "<stream:error>",
                "<stream:error xmlns:stream='http://etherx.jabber.org/streams'>",
            );
            let element = Element::parse(&text).expect("well-formed");
            assert_eq!(StreamError::parse(&element), error);
        }
    }
}
