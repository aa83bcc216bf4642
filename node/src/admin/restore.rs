//! `holdfast user import` of accounts with all that is theirs (XEP-0227), as `holdfast user export` and other servers
//! write them.
//!
//! A file of any length is read piece by piece. An account that exists already stays as it is; one that an import has
//! begun and not finished is made anew, and until it is finished nobody can use it. Of what nobody here reads, and of what
//! does not fit, the operator is told; the rest is kept.

use std::collections::BTreeSet;
use std::io::{BufRead, Write};
use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proto::limit::Limits;
use proto::sasl::{Digest, ScramKeys};
use proto::xml::{Document, Part};
use proto::{BareJid, Element};

use super::export::{PIE, SCRAM};
use super::import::ImportError as FileError;
use super::user::{self, UserError};
use crate::auth::derive_keys;
use crate::config::Config;
use crate::hooks::Registry;
use crate::hooks::portable::{Import, ImportError, OWN, Reading};
use crate::storage::{AccountKeys, Storage};

/// Elements that a service is given at a time.
const BATCH: usize = 64;
/// The bytes that they are made of, about.
const BATCH_BYTES: u64 = 1 << 20;
/// Elements within one that is read as a whole.
const ELEMENTS: usize = 1 << 16;
/// Kinds of elements that are named of those that nobody reads.
const MOST_NAMED: usize = 32;
/// Parts that are named of those that are left out, of a whole file.
const MOST_TOLD: usize = 1000;
/// How often a password must have been hashed at least, so that its keys are worth something to nobody who gets hold of
/// them (RFC 7677 §4), and how often at most, since it is hashed as often whenever somebody logs in with PLAIN.
const ITERATIONS: RangeInclusive<u32> = 4096..=1_000_000;
/// The longest salt.
const SALT: usize = 255;
/// How deep the parts of an account lie: in the document, a host and a user.
const USER: usize = 3;

/// Reads accounts. What cannot be used is named on `out`.
pub(super) async fn run(
    (config, registry, storage): (&Config, &Registry, &Storage),
    input: &mut (dyn BufRead + Send),
    now: u64,
    out: &mut (dyn Write + Send),
) -> Result<(), UserError> {
    let limits = Limits {
        elements: ELEMENTS,
        ..Limits::own()
    };
    let mut document = Document::new(limits);
    let mut reader = Reader {
        config,
        registry,
        storage,
        now,
        out,
        user: None,
        tally: Tally::default(),
        bytes: 0,
    };
    let opens = |path: &[Element], element: &Element| opens(registry, path, element);
    loop {
        let chunk = input.fill_buf().map_err(FileError::Input)?;
        let length = chunk.len();
        if length == 0 {
            break;
        }
        document.feed(chunk);
        input.consume(length);
        reader.bytes += length as u64;
        while let Some(part) = document.next(opens).map_err(FileError::Xml)? {
            reader.take(part, document.path()).await?;
        }
    }
    if !document.has_ended() {
        return Err(FileError::Short.into());
    }
    reader.end()
}

fn opens(registry: &Registry, path: &[Element], element: &Element) -> bool {
    match path.len() {
        0 => true,
        1 => element.is("host", PIE),
        2 => element.is("user", PIE),
        _ => reading(registry, &path[USER..], element).1 == Reading::Open,
    }
}

/// Who reads an element, and how.
fn reading(registry: &Registry, path: &[Element], element: &Element) -> (usize, Reading) {
    let mut all = (0..).zip(registry.portables());
    let found = all.find_map(|(index, portable)| {
        let reading = portable.reads(path, element);
        (reading != Reading::Foreign).then_some((index, reading))
    });
    found.unwrap_or((0, Reading::Foreign))
}

/// What came of a file.
#[derive(Debug, Default)]
struct Tally {
    made: usize,
    present: usize,
    refused: usize,
    skipped: usize,
}

/// An account that is being read.
struct User {
    jid: BareJid,
    keys: AccountKeys,
    disabled: bool,
    /// Elements that were read.
    number: u64,
    batch: Option<Batch>,
    /// What nobody reads.
    foreign: BTreeSet<String>,
}

/// Elements for one service.
struct Batch {
    portable: usize,
    path: Vec<Element>,
    elements: Vec<Element>,
    begun_at: u64,
}

struct Reader<'a> {
    config: &'a Config,
    registry: &'a Registry,
    storage: &'a Storage,
    now: u64,
    out: &'a mut (dyn Write + Send),
    user: Option<User>,
    tally: Tally,
    /// How much of the file was read.
    bytes: u64,
}

impl Reader<'_> {
    async fn take(&mut self, part: Part, path: &[Element]) -> Result<(), UserError> {
        match (part, path) {
            (Part::Open, [root]) if !root.is("server-data", PIE) => Err(FileError::Foreign.into()),
            (Part::Open, [_, host, user]) => self.begin(host, user).await,
            (Part::Open, _) => self.flush().await,
            (Part::Close, [_, _]) => self.finish().await,
            (Part::Close, _) => self.flush().await,
            (Part::Element(element), path) if path.len() < USER => {
                let name = named(&element);
                self.leave_out(&format!("{name} is no account and was left out"))
            }
            (Part::Element(element), path) => self.element(&path[USER..], element).await,
        }
    }

    fn say(&mut self, line: &str) -> Result<(), UserError> {
        writeln!(self.out, "{line}").map_err(UserError::Output)
    }

    /// Something is left out. Of a file that is made of such things not all is told.
    fn leave_out(&mut self, line: &str) -> Result<(), UserError> {
        self.tally.skipped += 1;
        self.complain(line)
    }

    fn complain(&mut self, line: &str) -> Result<(), UserError> {
        match self.tally.skipped + self.tally.refused {
            ..=MOST_TOLD => self.say(line),
            told if told == MOST_TOLD + 1 => self.say("more of that is not named"),
            _ => Ok(()),
        }
    }

    async fn begin(&mut self, host: &Element, user: &Element) -> Result<(), UserError> {
        let part = |element: &Element, name| element.attr(name).unwrap_or_default().to_owned();
        let jid = format!("{}@{}", part(user, "name"), part(host, "jid"));
        let made = self.make(&jid, user.attr("password")).await;
        match made {
            Ok(Some((jid, keys))) => {
                self.user = Some(User {
                    jid,
                    keys,
                    disabled: false,
                    number: 0,
                    batch: None,
                    foreign: BTreeSet::new(),
                });
                Ok(())
            }
            Ok(None) => {
                self.tally.present += 1;
                Ok(())
            }
            // An error of the database concerns not just this account.
            Err(UserError::Storage(error)) => Err(error.into()),
            Err(error) => {
                self.tally.refused += 1;
                self.complain(&format!("{jid}: {error}"))
            }
        }
    }

    async fn make(
        &self,
        jid: &str,
        password: Option<&str>,
    ) -> Result<Option<(BareJid, AccountKeys)>, UserError> {
        let jid = user::served(self.config, jid)?;
        let keys = password.map(derive_keys).transpose()?.unwrap_or_default();
        let made = self.storage.begin_import(&jid, self.now).await?;
        Ok(made.then_some((jid, keys)))
    }

    async fn element(&mut self, path: &[Element], element: Element) -> Result<(), UserError> {
        let Some(user) = &mut self.user else {
            return Ok(());
        };
        if path.is_empty() && element.is("disabled", OWN) {
            user.disabled = true;
            return Ok(());
        }
        if path.is_empty() && element.is("scram-credentials", SCRAM) {
            return match add_keys(&mut user.keys, &element) {
                Ok(()) => Ok(()),
                Err(error) => {
                    let line = format!("{}: left out: {error}", user.jid);
                    self.leave_out(&line)
                }
            };
        }
        let (portable, reading) = reading(self.registry, path, &element);
        if reading != Reading::Take {
            if user.foreign.len() < MOST_NAMED {
                user.foreign.insert(named(&element));
            }
            return Ok(());
        }
        if user
            .batch
            .as_ref()
            .is_some_and(|batch| batch.portable != portable)
        {
            self.flush().await?;
        }
        let Some(user) = &mut self.user else {
            return Ok(());
        };
        let batch = user.batch.get_or_insert_with(|| Batch {
            portable,
            path: path.to_vec(),
            elements: Vec::new(),
            begun_at: self.bytes,
        });
        batch.elements.push(element);
        let full = batch.elements.len() >= BATCH || self.bytes - batch.begun_at >= BATCH_BYTES;
        match full {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    /// Gives what has come together to its service.
    async fn flush(&mut self) -> Result<(), UserError> {
        let Some(user) = &mut self.user else {
            return Ok(());
        };
        let Some(batch) = user.batch.take() else {
            return Ok(());
        };
        let Some(portable) = self.registry.portables().nth(batch.portable) else {
            return Ok(());
        };
        let (storage, jid) = (self.storage, user.jid.clone());
        let import = |elements, number| {
            portable.import(Import {
                storage,
                account: &jid,
                path: &batch.path,
                elements,
                number,
            })
        };
        let number = user.number;
        user.number += batch.elements.len() as u64;
        match import(&batch.elements, number).await {
            Ok(()) => return Ok(()),
            Err(ImportError::Storage(error)) => return Err(error.into()),
            Err(ImportError::Skipped(_)) => {}
        }
        // One that does not fit must not take the others with it.
        for (number, element) in (number..).zip(&batch.elements) {
            match import(std::slice::from_ref(element), number).await {
                Ok(()) => {}
                Err(ImportError::Storage(error)) => return Err(error.into()),
                Err(ImportError::Skipped(why)) => {
                    self.leave_out(&format!("{jid}: left out: {why}"))?;
                }
            }
        }
        Ok(())
    }

    /// An account is complete.
    async fn finish(&mut self) -> Result<(), UserError> {
        self.flush().await?;
        let Some(user) = self.user.take() else {
            return Ok(());
        };
        if user.keys == AccountKeys::default() {
            let jid = &user.jid;
            self.say(&format!(
                "{jid} has no password; `holdfast user passwd {jid}` gives it one"
            ))?;
        }
        let finished = self
            .storage
            .finish_import(&user.jid, &user.keys, user.disabled);
        if !finished.await? {
            self.tally.refused += 1;
            return self.complain(&format!("{} was removed meanwhile", user.jid));
        }
        self.tally.made += 1;
        if !user.foreign.is_empty() {
            let names: Vec<_> = user.foreign.into_iter().collect();
            let line = format!("{}: nothing here reads {}", user.jid, names.join(", "));
            self.say(&line)?;
        }
        Ok(())
    }

    fn end(mut self) -> Result<(), UserError> {
        let Tally {
            made,
            present,
            refused,
            skipped,
        } = self.tally;
        self.say(&format!(
            "{made} accounts made, {present} existed already and were left as they are."
        ))?;
        match (refused, skipped) {
            (0, 0) => Ok(()),
            _ => Err(FileError::Partly { refused, skipped }.into()),
        }
    }
}

/// An element, for people.
fn named(element: &Element) -> String {
    format!("{} ({})", element.local(), element.ns())
}

/// Why the keys of one mechanism are not taken.
#[derive(Debug, thiserror::Error)]
enum BadKeys {
    #[error("keys cannot be read")]
    Unreadable,
    #[error(
        "keys of a password that was hashed {0} times; it must be {least} to {most} times",
        least = ITERATIONS.start(),
        most = ITERATIONS.end()
    )]
    Iterations(u32),
}

/// Adds the keys of one mechanism.
fn add_keys(keys: &mut AccountKeys, element: &Element) -> Result<(), BadKeys> {
    let (place, read) = read_keys(keys, element).ok_or(BadKeys::Unreadable)?;
    if !ITERATIONS.contains(&read.iterations) {
        return Err(BadKeys::Iterations(read.iterations));
    }
    *place = Some(read);
    Ok(())
}

/// Keys, and where they belong.
fn read_keys<'a>(
    keys: &'a mut AccountKeys,
    element: &Element,
) -> Option<(&'a mut Option<ScramKeys>, ScramKeys)> {
    let (digest, place) = match element.attr("mechanism")? {
        "SCRAM-SHA-1" => (Digest::Sha1, &mut keys.sha1),
        "SCRAM-SHA-256" => (Digest::Sha256, &mut keys.sha256),
        "SCRAM-SHA-512" => (Digest::Sha512, &mut keys.sha512),
        _ => return None,
    };
    let text = |name| element.child(name, SCRAM).map(|child| child.text());
    let bytes = |name| STANDARD.decode(text(name)?.trim()).ok();
    let iterations: u32 = text("iter-count")?.trim().parse().ok()?;
    let read = ScramKeys {
        salt: bytes("salt")?,
        iterations,
        stored_key: bytes("stored-key")?,
        server_key: bytes("server-key")?,
        others: Vec::new(),
    };
    let fits = |key: &[u8]| key.len() == digest.bytes();
    let is_salt = (1..=SALT).contains(&read.salt.len());
    let all_fit = is_salt && fits(&read.stored_key) && fits(&read.server_key);
    all_fit.then_some((place, read))
}

#[cfg(test)]
mod tests;
