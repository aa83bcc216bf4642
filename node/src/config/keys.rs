//! Knows every key that may be configured, so that misspelt ones are recognised.

use super::table::{Tables, fields};
use super::{
    Admin, Auth, C2s, Cluster, Config, Drain, Limits, Log, Quotas, Redis, Sm, Storage, Tls, Web,
};

/// Every key that may be configured.
pub(super) struct Keys {
    /// The keys outside of any section.
    pub(super) top: Vec<&'static str>,
    /// The sections and their keys. A section in which services have keys may be there several times.
    pub(super) sections: Vec<(&'static str, &'static [&'static str])>,
}

/// What a top-level name stands for.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Known {
    /// A key with a value.
    Key,
    /// A section.
    Section,
    /// Nothing.
    Unknown,
}

impl Keys {
    /// Those of the server itself, and those of its services.
    pub(super) fn new(tables: &Tables) -> Self {
        let mut sections = vec![
            ("c2s", fields::<C2s>()),
            ("web", fields::<Web>()),
            ("tls", fields::<Tls>()),
            ("auth", fields::<Auth>()),
            ("sm", fields::<Sm>()),
            ("storage", fields::<Storage>()),
            ("limits", fields::<Limits>()),
            ("quotas", fields::<Quotas>()),
            ("redis", fields::<Redis>()),
            ("cluster", fields::<Cluster>()),
            ("drain", fields::<Drain>()),
            ("admin", fields::<Admin>()),
            ("log", fields::<Log>()),
        ];
        let own: Vec<_> = sections.iter().map(|(section, _)| *section).collect();
        let top = fields::<Config>().iter().copied();
        let top = top.filter(|name| !own.contains(name)).collect();
        sections.extend(tables.iter().map(|table| (table.section, table.keys)));
        Self { top, sections }
    }

    /// Looks up a top-level name.
    pub(super) fn top(&self, name: &str) -> Known {
        let is_section = |(section, _): &(&str, _)| *section == name;
        match self.sections.iter().any(is_section) {
            true => Known::Section,
            false if self.top.contains(&name) => Known::Key,
            false => Known::Unknown,
        }
    }

    /// The keys of a section, or those outside of any.
    pub(super) fn of<'a>(
        &'a self,
        section: Option<&'a str>,
    ) -> impl Iterator<Item = &'static str> + 'a {
        let top = self.top.iter().filter(move |_| section.is_none()).copied();
        let all = self.sections.iter();
        let own = all.filter(move |(name, _)| Some(*name) == section);
        top.chain(own.flat_map(|(_, keys)| keys.iter().copied()))
    }

    /// All names outside of sections.
    pub(super) fn top_names(&self) -> impl Iterator<Item = &'static str> {
        let sections = self.sections.iter().map(|(section, _)| *section);
        self.top.iter().copied().chain(sections)
    }
}

/// The known name that is spelt most alike, if any is.
///
/// A key of another section is no help: its section would have to be changed too.
pub(super) fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<String> {
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, candidate)| candidate.to_owned())
}
