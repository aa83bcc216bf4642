//! What a client and the server have agreed on with the first request and its answer (XEP-0124 §7).

use std::time::Duration;

use super::answer::Answer;
use super::request::Request;
use super::window::REQUESTS;
use crate::ns;
use crate::xml::Element;

/// How long a request may wait for an answer.
pub const WAIT: Duration = Duration::from_secs(60);
/// How long a client may be without a request; then its connection is lost.
pub const INACTIVITY: Duration = Duration::from_secs(60);
/// The same at most, if it asks for it.
pub const MAX_PAUSE: Duration = Duration::from_secs(120);
/// Empty requests that follow each other faster than this are counted.
pub const POLLING: Duration = Duration::from_secs(1);
/// The version of XEP-0124.
const VERSION: (u32, u32) = (1, 11);
/// Bytes of the name of a media type.
const CONTENT_BYTES: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Terms {
    sid: Box<str>,
    head: Element,
    /// How long a request waits at most.
    pub wait: Duration,
    /// How many requests wait at most.
    pub hold: u64,
    /// Both sides say what they have received.
    pub acknowledges: bool,
}

impl Terms {
    /// What the first request asks for, as far as that can be.
    pub fn new(sid: &str, request: &Request) -> Self {
        let wait = request.number("wait").map_or(WAIT, Duration::from_secs);
        let wait = wait.min(WAIT);
        let hold = request.number("hold").unwrap_or(REQUESTS - 1);
        Self {
            sid: sid.into(),
            head: request.head.clone(),
            wait,
            hold: match wait.is_zero() {
                true => 0,
                false => hold.min(REQUESTS - 1),
            },
            acknowledges: request.number("ack") == Some(1),
        }
    }

    /// The domain that is asked for.
    pub fn to(&self) -> Option<&str> {
        self.head.attr("to")
    }

    /// The version of XMPP for a stream. Who says none with a restart means the one that it has said before.
    pub fn version<'a>(&'a self, request: &'a Request) -> Option<&'a str> {
        let version = |head: &'a Element| head.attr_ns("version", ns::XBOSH);
        version(&request.head).or_else(|| version(&self.head))
    }

    /// The media type that the client wants its answers to have, if it is the name of one.
    pub fn content(&self) -> Option<&str> {
        let content = self.head.attr("content")?;
        let (kind, rest) = content.split_once(';').unwrap_or((content, ""));
        let is_word = |word: &str| {
            let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.' | '=');
            !word.is_empty() && word.chars().all(is_part)
        };
        let (of, name) = kind.split_once('/')?;
        let rest = rest.trim_start_matches(' ');
        let is_one = is_word(of) && is_word(name) && (rest.is_empty() || is_word(rest));
        (is_one && content.len() <= CONTENT_BYTES).then_some(content)
    }

    /// Says them in the first answer, with the attributes of our header, once there is one (XEP-0206 §4).
    pub fn say(&self, header: Option<&Element>, answer: &mut Answer) {
        let seconds = |time: Duration| time.as_secs().to_string();
        answer.attribute("xmlns:xmpp", ns::XBOSH);
        answer.attribute("xmlns:stream", ns::STREAM);
        answer.attribute("sid", &self.sid);
        answer.attribute("wait", &seconds(self.wait));
        answer.attribute("hold", &self.hold.to_string());
        answer.attribute("requests", &REQUESTS.to_string());
        answer.attribute("inactivity", &seconds(INACTIVITY));
        answer.attribute("polling", &seconds(POLLING));
        answer.attribute("maxpause", &seconds(MAX_PAUSE));
        let (major, minor) = version(self.head.attr("ver"));
        answer.attribute("ver", &format!("{major}.{minor}"));
        answer.attribute("secure", "true");
        answer.attribute("xmpp:version", "1.0");
        answer.attribute("xmpp:restartlogic", "true");
        for (name, from) in [("from", "from"), ("authid", "id")] {
            if let Some(value) = header.and_then(|header| header.attr(from)) {
                answer.attribute(name, value);
            }
        }
    }
}

/// For how long a client wants to be without a request, if that is allowed.
pub fn pause(request: &Request) -> Option<Duration> {
    let pause = request.number("pause").map(Duration::from_secs);
    pause.filter(|pause| *pause <= MAX_PAUSE)
}

/// The version that both know.
fn version(asked: Option<&str>) -> (u32, u32) {
    let asked = asked.and_then(|version| version.split_once('.'));
    let asked = asked.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    asked.unwrap_or(VERSION).min(VERSION)
}
