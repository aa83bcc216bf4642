//! What a client asks for along with its login (XEP-0388, XEP-0386, XEP-0484), and what it gets.

use super::settings::Settings;
use super::state::State;
use crate::jid::{BareJid, Jid, prepare_resource};
use crate::ns;
use crate::sasl::ht::TokenMechanism;
use crate::sasl::{Digest, Offer, ScramKeys};
use crate::sm::elements::{Enabled, Failed, SmElement};
use crate::stanza::error::Condition;
use crate::xml::Element;

/// Characters of a tag that become part of a resource (BI-3).
const TAG_CHARACTERS: usize = 64;

/// What is to be done once the client is authenticated, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inline {
    /// Which of its user's clients this is, if it says so.
    pub agent: Option<Agent>,
    /// An old session that shall go on.
    pub resume: Option<Resume>,
    /// A resource that shall be bound, unless a session goes on.
    pub bind: Option<Bind2>,
    /// A token for the next login is wanted, for this mechanism.
    pub token: Option<TokenMechanism>,
    /// The tokens that the client has shall be worth nothing any more.
    pub invalidate: bool,
    /// Keys that the account lacks and the client has given, with their hash. They are to be kept first.
    pub keys: Option<(Digest, ScramKeys)>,
    /// New keys would be given.
    pub(super) upgrade: bool,
    /// What was asked for cannot be resumed, whatever there is.
    pub(super) failed: Option<Failed>,
}

/// The id of a client: a random UUID in lower case, of which nobody else learns (SA-11).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Agent(Box<str>);

/// An old session that shall go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The SM-ID.
    pub previd: String,
    /// How many stanzas the client handled.
    pub h: u32,
}

/// A resource that shall be bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bind2 {
    /// What its name shall begin with, prepared.
    pub tag: Option<String>,
    /// Stream Management shall be on: whether the session shall be resumable, and for how many seconds.
    pub enable: Option<(bool, Option<u32>)>,
    /// Copies of what goes to other sessions are wanted.
    pub carbons: bool,
    /// Whether someone looks at the client, if it says so.
    pub active: Option<bool>,
}

/// What the client got.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Its session, if it has one now.
    pub session: Session,
    /// Why nothing was resumed, if that was wanted.
    pub failed: Option<Failed>,
    /// The token for the next login.
    pub token: Option<GivenToken>,
}

/// A token, with the time at which it ends (XEP-0082).
#[derive(Clone, PartialEq, Eq)]
pub struct GivenToken {
    /// The token.
    pub secret: String,
    /// When it ends.
    pub expiry: String,
}

/// The session of a client that has just logged in.
#[derive(Clone, Debug)]
pub enum Session {
    /// It has none, and may bind a resource as clients always did.
    None,
    /// An old one goes on.
    Resumed {
        /// Its full address.
        jid: Jid,
        /// The SM-ID.
        previd: String,
        /// How many of the client's stanzas are handled.
        h: u32,
    },
    /// A new one.
    Bound {
        /// Its full address.
        jid: Jid,
        /// Stream Management, if it was wanted.
        sm: Option<Result<Enabled, Condition>>,
        /// What services say of the account at this moment.
        about: Vec<Element>,
    },
}

impl Agent {
    /// Reads a UUID of version 4; anything else names nobody (SA-11).
    pub fn parse(text: &str) -> Option<Self> {
        let legal = |(index, byte): (usize, u8)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            14 => byte == b'4',
            19 => matches!(byte.to_ascii_lowercase(), b'8' | b'9' | b'a' | b'b'),
            _ => byte.is_ascii_hexdigit(),
        };
        let is_legal = text.len() == 36 && text.bytes().enumerate().all(legal);
        is_legal.then(|| Self(text.to_ascii_lowercase().into()))
    }

    /// The id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for GivenToken {
    /// Tokens never reach a log (T-73).
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GivenToken(***)")
    }
}

impl Inline {
    /// Reads the children of `<authenticate/>`. What is not known, or not offered, is left out (BI-6).
    pub(super) fn parse(authenticate: &Element, offer: &Offer, settings: &Settings) -> Self {
        let (sm, tokens) = (settings.sm, settings.tokens);
        let mut inline = Self::default();
        for child in authenticate.elements() {
            match (child.ns(), child.local()) {
                (ns::SASL2, "user-agent") => {
                    inline.agent = child.attr("id").and_then(Agent::parse);
                }
                (ns::SM, "resume") if sm => match SmElement::parse(child) {
                    Ok(SmElement::Resume { previd, h }) => {
                        inline.resume = Some(Resume { previd, h });
                    }
                    _ => inline.failed = Some(Failed::new(Condition::BadRequest)),
                },
                (ns::SM, "resume") => {
                    inline.failed = Some(Failed::new(Condition::FeatureNotImplemented));
                }
                (ns::BIND2, "bind") => inline.bind = Some(Bind2::parse(child, sm)),
                (ns::FAST, "request-token") if tokens => {
                    let wanted = child.attr("mechanism").and_then(TokenMechanism::parse);
                    inline.token = wanted.filter(|wanted| wanted.binding(offer).is_some());
                }
                (ns::UPGRADE, "upgrade") => {
                    let offered = settings.upgrade;
                    inline.upgrade |= offered.is_some_and(|it| it.is_asked(child));
                }
                (ns::FAST, "fast") => {
                    inline.invalidate = matches!(child.attr("invalidate"), Some("true" | "1"));
                }
                _ => {}
            }
        }
        inline
    }
}

impl Bind2 {
    fn parse(bind: &Element, sm: bool) -> Self {
        let mut wish = Self::default();
        for child in bind.elements() {
            match (child.ns(), child.local()) {
                (ns::BIND2, "tag") => wish.tag = tag(&child.text()),
                (ns::SM, "enable") if sm => {
                    if let Ok(SmElement::Enable { resume, max }) = SmElement::parse(child) {
                        wish.enable = Some((resume, max));
                    }
                }
                (ns::CARBONS, "enable") => wish.carbons = true,
                (ns::CSI, "active") => wish.active = Some(true),
                (ns::CSI, "inactive") => wish.active = Some(false),
                _ => {}
            }
        }
        wish
    }
}

/// The part of a tag that a resource can begin with (BI-3).
fn tag(text: &str) -> Option<String> {
    let cut: String = text.chars().take(TAG_CHARACTERS).collect();
    prepare_resource(&cut).ok()
}

impl Opened {
    /// The state of a stream with this session.
    pub(super) fn state(&self) -> State {
        match &self.session {
            Session::None => State::Authenticated,
            Session::Resumed { .. }
            | Session::Bound {
                sm: Some(Ok(_)), ..
            } => State::Managed,
            Session::Bound { .. } => State::Bound,
        }
    }

    /// `<success/>`, with what the mechanism has to say at last.
    pub(super) fn success(self, account: &BareJid, last: Option<String>) -> Element {
        let mut success = Element::new("success", ns::SASL2);
        if let Some(last) = last {
            success.push(Element::new("additional-data", ns::SASL2).with_text(&last));
        }
        let who = match &self.session {
            Session::None => account.as_str(),
            Session::Resumed { jid, .. } | Session::Bound { jid, .. } => jid.as_str(),
        };
        success.push(Element::new("authorization-identifier", ns::SASL2).with_text(who));
        if let Some(GivenToken { secret, expiry }) = self.token {
            let token = Element::new("token", ns::FAST).with_attr("expiry", expiry);
            success.push(token.with_attr("token", secret));
        }
        if let Some(failed) = self.failed {
            success.push(SmElement::Failed(failed).to_element());
        }
        match self.session {
            Session::None => {}
            Session::Resumed { previd, h, .. } => {
                success.push(SmElement::Resumed { previd, h }.to_element());
            }
            Session::Bound { sm, about, .. } => success.push(bound(sm, about)),
        }
        success
    }
}

fn bound(sm: Option<Result<Enabled, Condition>>, about: Vec<Element>) -> Element {
    let mut bound = Element::new("bound", ns::BIND2);
    for element in about {
        bound.push(element);
    }
    match sm {
        None => {}
        Some(Ok(enabled)) => bound.push(SmElement::Enabled(enabled).to_element()),
        Some(Err(condition)) => bound.push(SmElement::Failed(Failed::new(condition)).to_element()),
    }
    bound
}

/// What the features say that may be asked for along with a login.
pub(super) fn offered(offer: &Offer, (sm, tokens): (bool, bool)) -> Element {
    let mut inline = Element::new("inline", ns::SASL2);
    let mut within = Element::new("inline", ns::BIND2);
    let features = [ns::CARBONS, ns::CSI, ns::SM];
    for feature in features.into_iter().filter(|name| sm || *name != ns::SM) {
        within.push(Element::new("feature", ns::BIND2).with_attr("var", feature));
    }
    if sm {
        inline.push(Element::new("sm", ns::SM));
    }
    inline.push(Element::new("bind", ns::BIND2).with_child(within));
    if tokens {
        let mut fast = Element::new("fast", ns::FAST);
        let mechanisms = TokenMechanism::ALL.into_iter();
        for mechanism in mechanisms.filter(|it| it.binding(offer).is_some()) {
            fast.push(Element::new("mechanism", ns::FAST).with_text(mechanism.name()));
        }
        inline.push(fast);
    }
    inline
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "9c1f6c1e-6a52-4d3f-9a3c-0d6a2f0f1b11";

    fn parse(children: &str) -> Inline {
        let xml = format!("<authenticate xmlns='urn:xmpp:sasl:2'>{children}</authenticate>");
        let element = Element::parse(&xml).expect("well-formed");
        Inline::parse(&element, &Offer::default(), &Settings::default())
    }

    #[test]
    fn sa_11_only_a_random_uuid_names_a_client() {
        let upper = ID.to_ascii_uppercase();
        assert_eq!(Agent::parse(&upper).expect("legal").as_str(), ID);
        for wrong in [
            "",
            "phone",
            "9c1f6c1e-6a52-1d3f-9a3c-0d6a2f0f1b11",
            "9c1f6c1e-6a52-4d3f-7a3c-0d6a2f0f1b11",
            "9c1f6c1e6a524d3f9a3c0d6a2f0f1b11",
            "9c1f6c1e-6a52-4d3f-9a3c-0d6a2f0f1b1g",
            "9c1f6c1e-6a52-4d3f-9a3c-0d6a2f0f1b111",
        ] {
            assert_eq!(Agent::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn bi_6_what_is_not_known_is_left_out() {
        let inline = parse(
            "<user-agent id='x'/><x xmlns='urn:example'/><bind xmlns='urn:xmpp:bind:0'>\
             <tag>App</tag><x xmlns='urn:example'/><enable xmlns='urn:xmpp:carbons:2'/>\
             <inactive xmlns='urn:xmpp:csi:0'/><enable xmlns='urn:xmpp:sm:3' resume='1' max='9'/></bind>\
             <request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-512-NONE'/>",
        );
        let bind = Bind2 {
            tag: Some("App".to_owned()),
            enable: Some((true, Some(9))),
            carbons: true,
            active: Some(false),
        };
        let expect = Inline {
            bind: Some(bind),
            ..Inline::default()
        };
        assert_eq!(inline, expect);
    }

    #[test]
    fn bi_3_a_tag_is_cut_and_one_that_cannot_be_in_a_resource_is_none() {
        assert_eq!(tag(&"ä".repeat(99)), Some("ä".repeat(64)));
        assert_eq!(tag(""), None);
        assert_eq!(tag("a\u{7}b"), None);
    }

    #[test]
    fn fa_2_a_token_is_given_only_for_a_mechanism_that_is_offered() {
        let ask = |name: &str| {
            let request = "<request-token xmlns='urn:xmpp:fast:0' mechanism='NAME'/>";
            parse(&request.replace("NAME", name)).token
        };
        assert_eq!(ask("HT-SHA-256-NONE"), Some(TokenMechanism::Unbound));
        assert_eq!(ask("HT-SHA-256-EXPR"), None);
        assert!(parse("<fast xmlns='urn:xmpp:fast:0' invalidate='true'/>").invalidate);
        assert!(!parse("<fast xmlns='urn:xmpp:fast:0'/>").invalidate);
    }

    #[test]
    fn sm_70_what_cannot_be_resumed_is_no_reason_to_fail() {
        let bad = parse("<resume xmlns='urn:xmpp:sm:3' previd='x'/>");
        assert_eq!(bad.failed, Some(Failed::new(Condition::BadRequest)));
        assert_eq!(bad.resume, None);
    }
}
