//! Names and namespaces, cheap to copy.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::ns;

/// A local name or a namespace: a constant of ours or a shared string.
#[derive(Clone)]
pub struct Name(Text);

#[derive(Clone)]
enum Text {
    Static(&'static str),
    Shared(Arc<str>),
}

impl Name {
    /// A namespace as it was read.
    pub(crate) fn namespace(uri: &str) -> Self {
        ns::known(uri).map_or_else(|| Self(Text::Shared(uri.into())), Self::from)
    }

    /// A local name as it was read.
    pub(crate) fn local(name: &str) -> Self {
        common(name).map_or_else(|| Self(Text::Shared(name.into())), Self::from)
    }
}

/// The names that most elements and attributes of real traffic have; sharing them saves an allocation each.
fn common(name: &str) -> Option<&'static str> {
    macro_rules! one_of {
        ($($name:literal)*) => {
            match name {
                $($name => Some($name),)*
                _ => None,
            }
        };
    }
    one_of!("message" "presence" "iq" "body" "to" "from" "id" "type" "lang" "query" "error" "text" "a" "r" "h"
        "active" "composing" "paused" "inactive" "gone" "received" "request" "displayed" "markable" "thread"
        "subject" "show" "status" "priority" "c" "hash" "node" "ver" "x" "origin-id" "stanza-id" "by" "item"
        "items" "jid" "name" "subscription" "ask" "group" "ping" "set" "max" "before" "after" "field" "value"
        "var" "delay" "stamp" "forwarded" "encrypted" "header" "payload" "key" "rid" "iv" "store" "encryption"
        "enable" "enabled" "resume" "resumed" "previd" "auth" "response" "challenge" "success" "mechanism"
        "bind" "resource" "pubsub" "publish" "event" "version" "stream" "features" "identity" "feature"
        "category" "xmlns" "photo" "result" "sid" "namespace" "reactions" "reaction" "prefs" "start" "end")
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Text::Static(text) => text,
            Text::Shared(text) => text,
        }
    }
}

impl From<&'static str> for Name {
    fn from(text: &'static str) -> Self {
        Self(Text::Static(text))
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self(Text::Shared(text.into()))
    }
}

impl From<&Name> for Name {
    fn from(name: &Name) -> Self {
        name.clone()
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Name {}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
