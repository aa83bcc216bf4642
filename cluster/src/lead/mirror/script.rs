//! Makes the calls to Redis and reads their answers. Pure.
//!
//! Redis is not trusted (T-71): an answer has the right shape and its numbers are in range, or it is
//! [`Odd`]. SM-IDs are keys to sessions and never leave the cluster; Redis gets digests of them.

use std::fmt::Write as _;

use proto::BareJid;
use redis::{Cmd, Value};
use sha2::{Digest as _, Sha256};

use crate::id::SmId;
use crate::session::MAX_LIMIT;
use crate::session::{Limits, Notice, Override, Quota, SessionEvent, Settings};

/// How many seconds the sets live unless a leader renews them.
const SETS_LIVE: u64 = 50;
/// How many seconds limits live in Redis. The shard remembers them in any case.
const LIMITS_LIVE: u64 = 24 * 3600;

/// The keys of one account, as the module says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys(pub [String; 3]);

impl Keys {
    /// All three share one hash tag. It contains the domain first, so that no choice of a localpart can make one
    /// account's prefix that of another.
    pub fn of(account: &BareJid) -> Self {
        let tag = format!("{{holdfast:{}:{account}}}", account.domain());
        Self(["hibernated", "old", "limits"].map(|what| format!("{tag}:{what}")))
    }
}

/// A script, and the name by which Redis knows it once it is loaded.
#[derive(Debug)]
struct Script {
    code: &'static str,
    name: String,
}

impl Script {
    fn new(code: &'static str) -> Self {
        let name = redis::Script::new(code).get_hash().to_owned();
        Self { code, name }
    }

    fn load(&self) -> Cmd {
        let mut cmd = redis::cmd("SCRIPT");
        cmd.arg("LOAD").arg(self.code);
        cmd
    }
}

/// All scripts.
#[derive(Debug)]
pub struct Scripts {
    hibernate: Script,
    resume: Script,
    retire: Script,
    agree: Script,
    set: Script,
}

impl Default for Scripts {
    fn default() -> Self {
        Self {
            hibernate: Script::new(include_str!("hibernate.lua")),
            resume: Script::new(include_str!("resume.lua")),
            retire: Script::new(include_str!("retire.lua")),
            agree: Script::new(include_str!("agree.lua")),
            set: Script::new(include_str!("set.lua")),
        }
    }
}

/// A decision of the shard that Redis is to be told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The account of the session.
    pub account: BareJid,
    /// What became of the session.
    pub what: What,
}

/// See [`Decision`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// It hibernates.
    Hibernate {
        /// Its resource.
        resource: Box<str>,
        /// Since when, in milliseconds since 1970.
        since: u64,
    },
    /// It no longer hibernates.
    Resume {
        /// Its resource.
        resource: Box<str>,
    },
    /// It has ended.
    Retire {
        /// Its resource.
        resource: Box<str>,
        /// Its identifier.
        smid: SmId,
        /// When, in milliseconds since 1970.
        at: u64,
    },
    /// The account's limits have changed.
    Set,
}

impl Decision {
    /// What Redis has to know of something that happened, if anything.
    pub fn of(notice: &Notice) -> Option<Self> {
        let resource = || notice.session.resource().map(Box::from);
        let what = match notice.what {
            SessionEvent::HibernationStart { .. } => What::Hibernate {
                resource: resource()?,
                since: notice.at,
            },
            SessionEvent::HibernationEnd { .. } => What::Resume {
                resource: resource()?,
            },
            SessionEvent::Ended(_) => What::Retire {
                resource: resource()?,
                smid: notice.smid.clone()?,
                at: notice.at,
            },
            SessionEvent::LimitsSet => What::Set,
            SessionEvent::StanzaQueued { .. }
            | SessionEvent::AckDelayed { .. }
            | SessionEvent::MarkerMoved { .. } => return None,
        };
        let account = notice.session.bare();
        Some(Self { account, what })
    }
}

impl Scripts {
    /// The calls that load all scripts.
    pub fn load(&self) -> Vec<Cmd> {
        let all = [
            &self.hibernate,
            &self.resume,
            &self.retire,
            &self.agree,
            &self.set,
        ];
        all.into_iter().map(Script::load).collect()
    }

    /// The call for a decision; `set` is what was set for the account.
    pub fn decide(&self, decision: &Decision, settings: &Settings, set: Override) -> Cmd {
        let account = &decision.account;
        match &decision.what {
            What::Hibernate { resource, since } => {
                let mut cmd = call(&self.hibernate, account, SETS_LIVE);
                let limit = settings.max_hibernated_sessions;
                cmd.arg(&**resource).arg(*since).arg(limit);
                cmd
            }
            What::Resume { resource } => {
                let mut cmd = call(&self.resume, account, SETS_LIVE);
                cmd.arg(&**resource);
                cmd
            }
            What::Retire { resource, smid, at } => {
                let mut cmd = call(&self.retire, account, SETS_LIVE);
                let until = at + settings.old_session_ttl;
                cmd.arg(&**resource).arg(digest(smid)).arg(until);
                cmd.arg(settings.max_old_sessions);
                cmd
            }
            What::Set => self.set(account, set),
        }
    }

    /// The call that makes Redis agree with the shard about an account.
    pub fn agree(&self, quota: &Quota) -> Cmd {
        let mut cmd = call(&self.agree, &quota.account, SETS_LIVE);
        cmd.arg(quota.hibernated.len()).arg(quota.old.len());
        let hibernated = quota.hibernated.iter();
        let mut hibernated: Vec<_> = hibernated.map(|(at, r)| (*at, r.to_string())).collect();
        let old = quota.old.iter();
        let mut old: Vec<_> = old.map(|(at, smid)| (*at, digest(smid))).collect();
        // Redis orders members by score, then by name, so that both sides can be compared as they are.
        hibernated.sort();
        old.sort();
        for (at, member) in hibernated.into_iter().chain(old) {
            cmd.arg(at).arg(member);
        }
        cmd
    }

    /// A call that changes nothing, but fails if Redis takes no changes.
    pub fn probe(&self) -> Cmd {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&self.resume.name).arg(3);
        for what in ["hibernated", "old", "limits"] {
            cmd.arg(format!("{{holdfast::probe}}:{what}"));
        }
        cmd.arg(SETS_LIVE).arg("");
        cmd
    }

    /// The call that has Redis know what was set for an account.
    pub fn set(&self, account: &BareJid, set: Override) -> Cmd {
        let mut cmd = call(&self.set, account, LIMITS_LIVE);
        let text = |limit: Option<u32>| limit.map_or_else(String::new, |limit| limit.to_string());
        cmd.arg(set.version);
        cmd.arg(text(set.limits.hibernated))
            .arg(text(set.limits.old));
        cmd
    }
}

fn call(script: &Script, account: &BareJid, live: u64) -> Cmd {
    let mut cmd = redis::cmd("EVALSHA");
    cmd.arg(&script.name).arg(3);
    for key in Keys::of(account).0 {
        cmd.arg(key);
    }
    cmd.arg(live);
    cmd
}

/// A digest of an SM-ID: Redis must not learn the id itself.
fn digest(smid: &SmId) -> String {
    let digest = Sha256::digest(smid.0.as_bytes());
    digest[..16].iter().fold(String::new(), |mut text, byte| {
        // Writing to memory does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// What Redis answers to any of the scripts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What is set for the account there.
    pub set: Remote,
    /// Resources that Redis has dropped because the account has too many.
    pub evicted: Vec<String>,
}

/// An account's limits as Redis has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remote {
    /// The limits.
    pub limits: Limits,
    /// The version under which a leader wrote them; `None` if somebody else wrote them, or nobody.
    pub version: Option<u64>,
}

/// An answer that makes no sense, or a key of another type: the account's keys are to be written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Redis holds something else than it should")]
pub struct Odd;

impl Answer {
    /// Reads an answer.
    pub fn read(value: &Value) -> Result<Self, Odd> {
        let [set, evicted] = list(value)? else {
            return Err(Odd);
        };
        let [hibernated, old, version] = list(set)? else {
            return Err(Odd);
        };
        let limit = |value| match number(value)? {
            Some(limit) if limit > u64::from(MAX_LIMIT) => Err(Odd),
            limit => Ok(limit.and_then(|limit| u32::try_from(limit).ok())),
        };
        let limits = Limits {
            hibernated: limit(hibernated)?,
            old: limit(old)?,
        };
        let version = number(version)?;
        let evicted = list(evicted)?.iter().map(|member| match member {
            Value::BulkString(bytes) => String::from_utf8(bytes.clone()).map_err(|_| Odd),
            _ => Err(Odd),
        });
        Ok(Self {
            set: Remote { limits, version },
            evicted: evicted.collect::<Result<_, _>>()?,
        })
    }
}

fn list(value: &Value) -> Result<&[Value], Odd> {
    match value {
        Value::Array(values) => Ok(values),
        _ => Err(Odd),
    }
}

fn number(value: &Value) -> Result<Option<u64>, Odd> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => {
            let text = std::str::from_utf8(bytes).map_err(|_| Odd)?;
            text.parse().map(Some).map_err(|_| Odd)
        }
        _ => Err(Odd),
    }
}

/// What is to be done about two copies of an account's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Both say the same.
    Agreed,
    /// Redis is behind or was emptied, so the shard's limits are written to it.
    Tell,
    /// Somebody has set other limits in Redis, so the shard takes them.
    Take(Limits),
}

/// Compares what the shard has with what Redis has.
pub fn compare(ours: Override, theirs: Remote) -> Verdict {
    let emptied = theirs.version.is_none() && theirs.limits.is_default();
    let behind = theirs.version.is_some_and(|version| version < ours.version);
    if emptied && ours.limits.is_default() {
        Verdict::Agreed
    } else if emptied || behind {
        Verdict::Tell
    } else if theirs.limits != ours.limits {
        Verdict::Take(theirs.limits)
    } else {
        Verdict::Agreed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn answer(set: [Value; 3], evicted: Vec<Value>) -> Value {
        Value::Array(vec![
            Value::Array(set.into_iter().collect()),
            Value::Array(evicted),
        ])
    }

    #[test]
    fn t_71_an_answer_is_in_shape_and_in_range_or_it_counts_for_nothing() {
        let good = answer([bulk("3"), Value::Nil, bulk("17")], vec![bulk("handler")]);
        let read = Answer::read(&good).expect("is one");
        assert_eq!(read.set.limits.hibernated, Some(3));
        assert_eq!((read.set.version, read.evicted.len()), (Some(17), 1));
        for wrong in ["18446744073709551616", "10001", "-1", "", "many", "3.5"] {
            let wrong = answer([bulk(wrong), Value::Nil, Value::Nil], Vec::new());
            assert_eq!(Answer::read(&wrong), Err(Odd), "{wrong:?}");
        }
        let none = || [Value::Nil, Value::Nil, Value::Nil];
        for wrong in [
            Value::Nil,
            Value::Okay,
            Value::Array(Vec::new()),
            Value::Array(vec![Value::Nil, Value::Nil]),
            answer(none(), vec![Value::Int(1)]),
            answer(none(), vec![Value::BulkString(vec![0xff])]),
        ] {
            assert_eq!(Answer::read(&wrong), Err(Odd), "{wrong:?}");
        }
    }

    #[test]
    fn of_two_copies_the_newer_holds_and_an_emptied_redis_is_told() {
        let limits = |hibernated| Limits {
            hibernated,
            old: None,
        };
        let ours = |hibernated, version| Override {
            limits: limits(hibernated),
            version,
        };
        let theirs = |hibernated, version| Remote {
            limits: limits(hibernated),
            version,
        };
        let take = |hibernated| Verdict::Take(limits(hibernated));
        for (ours, theirs, expect) in [
            (ours(None, 0), theirs(None, None), Verdict::Agreed),
            (ours(Some(3), 5), theirs(Some(3), Some(5)), Verdict::Agreed),
            (ours(Some(3), 5), theirs(None, None), Verdict::Tell),
            (ours(None, 6), theirs(Some(3), Some(5)), Verdict::Tell),
            (ours(None, 0), theirs(Some(3), None), take(Some(3))),
            (ours(Some(3), 5), theirs(Some(4), Some(5)), take(Some(4))),
            (ours(Some(3), 5), theirs(None, Some(5)), take(None)),
            (ours(Some(3), 5), theirs(Some(4), Some(9)), take(Some(4))),
        ] {
            assert_eq!(compare(ours, theirs), expect, "{ours:?} {theirs:?}");
        }
    }

    #[test]
    fn t_73_an_identifier_does_not_leave_the_cluster() {
        let account = BareJid::new("a@x").expect("valid");
        let decision = Decision {
            account,
            what: What::Retire {
                resource: "r".into(),
                smid: SmId("geheim".into()),
                at: 5,
            },
        };
        let cmd = Scripts::default().decide(&decision, &Settings::default(), Override::default());
        let bytes = cmd.get_packed_command();
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("geheim") && text.contains("{holdfast:x:a@x}:old"));
    }

    #[test]
    fn t_71_no_account_has_the_keys_of_another() {
        let keys = |jid| Keys::of(&BareJid::new(jid).expect("valid"));
        let hostile = keys("a}hibernated@x");
        let tag = |key: &String| key.split('}').next().map(str::to_owned);
        assert!(hostile.0.iter().all(|key| tag(key) == tag(&hostile.0[0])));
        assert!(keys("a@x").0.iter().all(|key| !hostile.0.contains(key)));
    }
}
