//! The stream header: read, judged, answered (ST-1…11).

use super::{Condition, State, Stream, StreamError, features};
use crate::jid::{BareJid, Jid};
use crate::ns;
use crate::xml::{Element, attribute};

impl Stream {
    /// Answers the peer's header: ours first, whatever follows (ST-2).
    pub(super) fn open(&mut self, header: &Element) {
        let verdict = self.judge(header);
        let from = header.attr("from").and_then(|from| Jid::new(from).ok());
        self.note_identity(from);
        let from = self.from.as_ref().map(BareJid::to_string);
        self.write_header(from.as_deref());
        self.state = match self.state {
            State::OpenPlain => State::Plain,
            State::OpenTls => State::Secured,
            _ => State::Authenticated,
        };
        match verdict {
            Ok(()) => {
                features::write(self.state, &self.settings, &self.offer, &mut self.output);
            }
            Err(condition) => self.fail(StreamError::new(condition)),
        }
    }

    /// Writes our header. Before the peer said what it wants, it speaks for the default domain.
    pub(super) fn write_header(&mut self, to: Option<&str>) {
        let id: String = (self.entropy)()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let out = &mut self.output;
        out.extend_from_slice(b"<?xml version='1.0'?><stream:stream");
        attribute("xmlns", ns::CLIENT, out);
        attribute("xmlns:stream", ns::STREAM, out);
        attribute("from", &self.domain, out);
        if let Some(to) = to {
            attribute("to", to, out);
        }
        attribute("id", &id, out);
        attribute("version", "1.0", out);
        attribute("xml:lang", &self.settings.default_lang, out);
        out.push(b'>');
    }

    fn judge(&mut self, header: &Element) -> Result<(), Condition> {
        if header.ns() != ns::STREAM {
            return Err(Condition::InvalidNamespace);
        }
        if header.local() != "stream" {
            return Err(Condition::BadFormat);
        }
        // A header in the default namespace leaves it to each stanza to declare its own (ST-1).
        if !matches!(self.reader.content_ns(), ns::CLIENT | ns::STREAM | "") {
            return Err(Condition::InvalidNamespace);
        }
        self.judge_host(header.attr("to"))?;
        if !header.attr("version").is_some_and(is_supported) {
            return Err(Condition::UnsupportedVersion);
        }
        self.judge_identity(header.attr("from"))?;
        let lang = header.attr_ns("lang", ns::XML);
        let other = lang.filter(|lang| *lang != self.settings.default_lang && !lang.is_empty());
        self.lang = other.map(Box::from);
        Ok(())
    }

    /// A hosted domain, and always the same one once the peer is authenticated (ST-7, T-10).
    fn judge_host(&mut self, to: Option<&str>) -> Result<(), Condition> {
        let Some(to) = to else {
            let known = self.settings.domains.len() == 1 || self.account.is_some();
            return if known {
                Ok(())
            } else {
                Err(Condition::HostUnknown)
            };
        };
        let to = Jid::new(to).map_err(|_| Condition::HostUnknown)?;
        if !self
            .settings
            .domains
            .iter()
            .any(|domain| domain == to.domain())
        {
            return Err(Condition::HostUnknown);
        }
        if self.account.is_some() && to.domain() != self.domain {
            return Err(Condition::NotAuthorized);
        }
        to.domain().clone_into(&mut self.domain);
        Ok(())
    }

    /// After a login, nobody may claim to be someone else (ST-10).
    fn judge_identity(&self, from: Option<&str>) -> Result<(), Condition> {
        match (&self.account, from) {
            (Some(account), Some(from)) => match Jid::new(from) {
                Ok(from) if from.bare() == *account => Ok(()),
                _ => Err(Condition::NotAuthorized),
            },
            _ => Ok(()),
        }
    }
}

/// Version 1.0 or later, compared as numbers (ST-5).
fn is_supported(version: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match version.split_once('.') {
        Some((major, minor)) => {
            digits(major) && digits(minor) && !major.trim_start_matches('0').is_empty()
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn st_5_versions_are_numbers() {
        for version in ["1.0", "1.1", "01.00", "2.0", "10.9"] {
            assert!(is_supported(version), "{version}");
        }
        for version in ["", "0.9", "1", "1.", ".1", "one", "1.0.0", "-1.0", "00.9"] {
            assert!(!is_supported(version), "{version}");
        }
    }
}
