//! Lists every key that may be configured, so that misspelt ones are recognised.

/// The keys outside of any section.
pub(super) const TOP: &[&str] = &["domain", "domains", "data_dir"];

/// The sections and their keys.
pub(super) const SECTIONS: &[(&str, &[&str])] = &[
    (
        "c2s",
        &[
            "listen",
            "listen_tls",
            "proxy_protocol",
            "trusted_proxies",
            "idle_timeout",
            "ping_timeout",
            "max_stanza_bytes",
        ],
    ),
    ("tls", &["certificate", "key"]),
    ("auth", &["mechanisms", "registration"]),
    (
        "sm",
        &[
            "hibernation_time",
            "push_hibernation_time",
            "max_hibernated_sessions",
            "max_old_sessions",
            "max_unacked_stanzas",
            "max_ack_delay",
            "ack_timeout",
            "s2s",
            "on_timeout",
            "max_queue_stanzas",
            "max_queue_bytes",
            "max_queue_ids",
            "first_count",
        ],
    ),
    ("storage", &["url"]),
    ("archive", &["default", "retention", "quota_messages"]),
    ("push", &["with_sender", "with_body"]),
    (
        "limits",
        &[
            "stanzas_per_second",
            "bytes_per_second",
            "logins_per_minute",
            "connections_per_address",
            "failed_resumes_per_minute",
            "sessions_per_account",
            "backlog_bytes",
        ],
    ),
    (
        "quotas",
        &[
            "roster_contacts",
            "roster_groups",
            "roster_bytes",
            "roster_requests",
            "private_elements",
            "private_bytes",
            "vcard_bytes",
            "push_registrations",
            "push_bytes",
            "queue_bytes",
            "directed_presence",
            "directed_presence_bytes",
        ],
    ),
    ("redis", &["url"]),
    (
        "cluster",
        &[
            "node_id",
            "node_id_from_hostname",
            "listen",
            "advertise",
            "peers",
            "discovery",
            "secret_file",
            "ca",
            "certificate",
            "key",
            "shards",
            "lost_after",
        ],
    ),
    ("admin", &["listen"]),
    ("log", &["format", "level"]),
];

/// What a top-level name stands for.
pub(super) enum Known {
    /// A key with a value.
    Key,
    /// A section with these keys.
    Section(&'static [&'static str]),
    /// Nothing.
    Unknown,
}

/// Looks up a top-level name.
pub(super) fn top(name: &str) -> Known {
    if TOP.contains(&name) {
        return Known::Key;
    }
    let section = SECTIONS.iter().find(|(section, _)| *section == name);
    section.map_or(Known::Unknown, |(_, keys)| Known::Section(keys))
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

/// All names outside of sections.
pub(super) fn top_names() -> impl Iterator<Item = &'static str> {
    TOP.iter()
        .copied()
        .chain(SECTIONS.iter().map(|(section, _)| *section))
}
