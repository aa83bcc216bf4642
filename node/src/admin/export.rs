//! `holdfast user export`: all that the server keeps of one account, in one file (XEP-0227).
//!
//! It is read from the database while nodes go on: what changes meanwhile may be in the file as it was or as it is. Each
//! service writes its own part; here is what surrounds them.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cluster::disk;
use proto::sasl::ScramKeys;
use proto::{BareJid, Element};

use super::user::UserError;
use crate::hooks::Registry;
use crate::hooks::portable::{Export, ExportError, OWN};
use crate::storage::{AccountKeys, Storage, StoredKeys};

/// The format.
pub(super) const PIE: &str = "urn:xmpp:pie:0";
/// The format of keys.
pub(super) const SCRAM: &str = "urn:xmpp:pie:0#scram";

/// Why an account was not written, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// There is such a file, or it cannot be made.
    #[error("cannot make {}: {source}", path.display())]
    Make {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// It cannot be written.
    #[error("cannot write {}: {source}; it is removed", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: ExportError,
    },
}

/// Writes an account into a new file that only its owner may read, or to `out`.
pub(super) async fn run(
    registry: &Registry,
    storage: &Storage,
    (account, with_keys): (&BareJid, bool),
    output: Option<&Path>,
    out: &mut (dyn Write + Send),
) -> Result<(), UserError> {
    let (local, domain) = (account.local().unwrap_or_default(), account.domain());
    let Some(mut stored) = storage.account_keys(local, domain).await? else {
        return Err(UserError::Missing(account.clone()));
    };
    if !with_keys {
        stored.keys = AccountKeys::default();
    }
    let to_file = output.filter(|path| *path != Path::new("-"));
    let Some(path) = to_file else {
        let written = write(registry, storage, account, &stored, out).await;
        return written.map_err(|error| match error {
            ExportError::Storage(error) => error.into(),
            ExportError::Output(error) => UserError::Output(error),
        });
    };
    // Half of an account would be taken for all of it, so that it gets its name when all is there.
    let partial = partial(path);
    let made = begin(path, &partial).map_err(|source| OutputError::Make {
        path: path.to_owned(),
        source,
    });
    let mut file = BufWriter::new(made?);
    let mut written = write(registry, storage, account, &stored, &mut file).await;
    if written.is_ok() {
        written = finish(file, &partial, path).map_err(Into::into);
    }
    let Err(source) = written else { return Ok(()) };
    drop(std::fs::remove_file(&partial));
    let path = path.to_owned();
    Err(OutputError::Write { path, source }.into())
}

/// What a file is called until it is complete.
fn partial(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    path.with_file_name(name)
}

/// Makes the file that is to become `path`, in place of what a killed export has left of it.
fn begin(path: &Path, partial: &Path) -> io::Result<File> {
    if path.symlink_metadata().is_ok() {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    match std::fs::remove_file(partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    disk::open(OpenOptions::new().write(true).create_new(true), partial)
}

/// Gives a complete file its name.
fn finish(file: BufWriter<File>, partial: &Path, path: &Path) -> io::Result<()> {
    let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    std::fs::rename(partial, path)?;
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    disk::sync_dir(dir.unwrap_or(Path::new(".")))
}

async fn write(
    registry: &Registry,
    storage: &Storage,
    account: &BareJid,
    stored: &StoredKeys,
    out: &mut (dyn Write + Send),
) -> Result<(), ExportError> {
    let mut export = Export::begin(out)?;
    export.open(&Element::new("server-data", PIE))?;
    export.open(&Element::new("host", PIE).with_attr("jid", account.domain()))?;
    let name = account.local().unwrap_or_default();
    export.open(&Element::new("user", PIE).with_attr("name", name))?;
    if stored.disabled {
        export.element(&Element::new("disabled", OWN))?;
    }
    let AccountKeys {
        sha1,
        sha256,
        sha512,
    } = &stored.keys;
    for (mechanism, keys) in [
        ("SCRAM-SHA-1", sha1),
        ("SCRAM-SHA-256", sha256),
        ("SCRAM-SHA-512", sha512),
    ] {
        if let Some(keys) = keys {
            export.element(&credentials(mechanism, keys))?;
        }
    }
    for portable in registry.portables() {
        portable.export(storage, account, &mut export).await?;
    }
    for _ in ["user", "host", "server-data"] {
        export.close()?;
    }
    Ok(out.flush()?)
}

fn credentials(mechanism: &str, keys: &ScramKeys) -> Element {
    let child = |name: &'static str, text: String| Element::new(name, SCRAM).with_text(&text);
    Element::new("scram-credentials", SCRAM)
        .with_attr("mechanism", mechanism)
        .with_child(child("iter-count", keys.iterations.to_string()))
        .with_child(child("salt", STANDARD.encode(&keys.salt)))
        .with_child(child("server-key", STANDARD.encode(&keys.server_key)))
        .with_child(child("stored-key", STANDARD.encode(&keys.stored_key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_name_when_all_of_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("alice.xml");
        let partial = partial(&path);
        // The first one is killed.
        for text in ["half", "whole"] {
            let mut file = BufWriter::new(begin(&path, &partial).unwrap());
            file.write_all(text.as_bytes()).unwrap();
            file.flush().unwrap();
            assert!(!path.exists() && partial.exists());
            if text == "whole" {
                finish(file, &partial, &path).unwrap();
            }
        }
        assert!(!partial.exists());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "whole");
        let error = begin(&path, &partial).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(!partial.exists());
    }
}
