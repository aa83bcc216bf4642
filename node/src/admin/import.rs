//! `holdfast user import`: many accounts from one file, of lines or of all that is theirs ([`restore`]).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use proto::xml::ReadError;

use super::restore;
use super::user::{self, UserError};
use crate::auth::derive_keys;
use crate::config::Config;
use crate::hooks::Registry;
use crate::services;
use crate::storage::Storage;

/// Why an import failed. Accounts that were made before stay, one of which not all was kept is none yet, and it does no
/// harm to import the file again.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file cannot be read to its end.
    #[error("cannot read: {0}")]
    Input(#[source] io::Error),
    /// It is not XML as this server reads it.
    #[error(
        "the file is not well-formed, or larger than it may be: {0}; accounts before that place are done, and the one in \
         which it is will be when the file is mended and imported again"
    )]
    Xml(#[source] ReadError),
    /// It is something else.
    #[error("the file is not one of accounts: it has to begin with <server-data/> of XEP-0227")]
    Foreign,
    /// It ends in the middle.
    #[error(
        "the file is not complete; an account in which it ends is none yet: import the whole file, or remove the account"
    )]
    Short,
    /// A line is longer than any with an account.
    #[error(
        "line {0} has more than {LONGEST} bytes: this is no file of accounts; what was before is done"
    )]
    Long(usize),
    /// Some of it could not be used, and has been named.
    #[error(
        "{refused} accounts were refused and {skipped} parts left out, see above; all else is done"
    )]
    Partly {
        /// Accounts that were not made.
        refused: usize,
        /// Parts that were not kept.
        skipped: usize,
    },
    /// Some lines could not be used; they have been named.
    #[error("{refused} of {lines} lines were refused, see above; the others are done")]
    Refused {
        /// How many lines were refused.
        refused: usize,
        /// How many lines there are.
        lines: usize,
    },
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLine {
    /// There are not exactly two fields.
    #[error(
        "expected `jid,password`; a password with a comma or a quote is written \"like, \"\"this\"\"\""
    )]
    Fields,
    /// A quote is not closed, or something follows it.
    #[error("a quote is not closed, or not at the end of a field")]
    Quote,
    /// Not text.
    #[error("it is not UTF-8")]
    Text,
}

/// Makes the accounts of a file. What cannot be used is named on `out`, and the rest is done.
pub(super) async fn run(
    config: &Config,
    storage: &Storage,
    path: &Path,
    now: u64,
    out: &mut (dyn Write + Send),
) -> Result<(), UserError> {
    let unreadable = |source| ImportError::Read {
        path: path.to_owned(),
        source,
    };
    let mut input = open(path).map_err(unreadable)?;
    let begin = input.fill_buf().map_err(unreadable)?;
    let mark = begin.starts_with(MARK);
    let begin = if mark { &begin[MARK.len()..] } else { begin };
    if begin.trim_ascii_start().starts_with(b"<") {
        input.consume(if mark { MARK.len() } else { 0 });
        let registry = Registry::new(services::ALL, config)?;
        return restore::run((config, &registry, storage), &mut *input, now, out).await;
    }
    lines(config, storage, (path, &mut *input), now, out).await
}

/// Makes the accounts of lines.
async fn lines(
    config: &Config,
    storage: &Storage,
    (path, input): (&Path, &mut (dyn BufRead + Send)),
    now: u64,
    out: &mut (dyn Write + Send),
) -> Result<(), UserError> {
    let (mut made, mut present, mut refused, mut lines) = (0, 0, 0, 0);
    let mut bytes = Vec::new();
    for number in 1.. {
        if !next_line(input, number, &mut bytes)? {
            break;
        }
        let line = std::str::from_utf8(&bytes).map_err(|_| BadLine::Text);
        let line = line.map(|line| row(number, line)).transpose();
        let Some(line) = line else { continue };
        lines += 1;
        let done = match line {
            Ok(line) => account(config, storage, line, now).await,
            Err(error) => Err(error.into()),
        };
        match done {
            Ok(true) => made += 1,
            Ok(false) => present += 1,
            // An error of the database concerns not just this line.
            Err(Refused::User(UserError::Storage(error))) => return Err(error.into()),
            Err(error) => {
                refused += 1;
                writeln!(out, "{} line {number}: {error}", path.display())
                    .map_err(UserError::Output)?;
            }
        }
    }
    writeln!(
        out,
        "{made} accounts made, {present} existed already and were left as they are."
    )
    .map_err(UserError::Output)?;
    if refused > 0 {
        return Err(ImportError::Refused { refused, lines }.into());
    }
    Ok(())
}

/// What some editors write at the beginning of a text.
const MARK: &[u8] = "\u{feff}".as_bytes();
/// What is read of a file at a time.
const CHUNK: usize = 64 << 10;
/// The most bytes of a line: an address has at most 3071, and a password far fewer.
const LONGEST: usize = 16 << 10;

/// A file, or standard input.
fn open(path: &Path) -> io::Result<Box<dyn BufRead + Send>> {
    Ok(match path == Path::new("-") {
        true => Box::new(BufReader::with_capacity(CHUNK, io::stdin())),
        false => Box::new(BufReader::with_capacity(CHUNK, File::open(path)?)),
    })
}

/// Reads a line into `bytes`; `false` at the end.
fn next_line(
    input: &mut (dyn BufRead + Send),
    number: usize,
    bytes: &mut Vec<u8>,
) -> Result<bool, ImportError> {
    bytes.clear();
    let bound = LONGEST as u64 + 1;
    let read = Read::take(input, bound).read_until(b'\n', bytes);
    match read.map_err(ImportError::Input)? {
        0 => Ok(false),
        read if read > LONGEST => Err(ImportError::Long(number)),
        _ => Ok(true),
    }
}

/// The lines with an account, and their numbers.
pub(crate) fn rows(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(text.lines());
    lines.filter_map(|(number, line)| Some((number, row(number, line)?)))
}

/// What a line says of an account, if it says anything of one.
fn row(number: usize, line: &str) -> Option<&str> {
    let line = line.trim_end_matches(['\r', '\n']);
    let line = match number {
        1 => line.trim_start_matches('\u{feff}'),
        _ => line,
    };
    let heading = number == 1 && line.trim().eq_ignore_ascii_case("jid,password");
    (!line.trim().is_empty() && !heading).then_some(line)
}

/// Why one line was refused. The message never shows the password.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Line(#[from] BadLine),
    #[error(transparent)]
    User(#[from] UserError),
}

async fn account(
    config: &Config,
    storage: &Storage,
    line: &str,
    now: u64,
) -> Result<bool, Refused> {
    let [jid, password] = fields(line)?;
    let jid = user::served(config, jid.trim())?;
    let keys = derive_keys(&password).map_err(UserError::from)?;
    Ok(storage
        .create_account(&jid, &keys, now)
        .await
        .map_err(UserError::from)?)
}

/// Splits a line into its two fields (RFC 4180).
pub(crate) fn fields(line: &str) -> Result<[String; 2], BadLine> {
    let mut fields = Vec::new();
    let mut rest = Some(line);
    while let Some(text) = rest {
        let (field, later) = match text.strip_prefix('"') {
            Some(quoted) => unquote(quoted)?,
            None => match text.split_once(',') {
                Some((field, later)) => (field.to_owned(), Some(later)),
                None => (text.to_owned(), None),
            },
        };
        fields.push(field);
        rest = later;
    }
    fields.try_into().map_err(|_| BadLine::Fields)
}

/// Reads a quoted field, without its opening quote. Returns the field and what follows its comma.
fn unquote(text: &str) -> Result<(String, Option<&str>), BadLine> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, later) = rest.split_once('"').ok_or(BadLine::Quote)?;
        field.push_str(part);
        match later.chars().next() {
            Some('"') => {
                field.push('"');
                rest = &later[1..];
            }
            Some(',') => return Ok((field, Some(&later[1..]))),
            None => return Ok((field, None)),
            Some(_) => return Err(BadLine::Quote),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::testing;

    #[test]
    fn a_line_has_two_fields_that_may_be_quoted() {
        let two = |one: &str, other: &str| Ok([one.to_owned(), other.to_owned()]);
        assert_eq!(fields("a@x,pw"), two("a@x", "pw"));
        assert_eq!(fields("a@x,\"p,\"\"w\"\"\""), two("a@x", "p,\"w\""));
        assert_eq!(fields("\"a@x\", pw"), two("a@x", " pw"));
        for wrong in ["a@x", "a@x,b,c", ""] {
            assert_eq!(fields(wrong), Err(BadLine::Fields), "{wrong}");
        }
        for wrong in ["a@x,\"pw", "a@x,\"pw\"x"] {
            assert_eq!(fields(wrong), Err(BadLine::Quote), "{wrong}");
        }
    }

    #[tokio::test]
    async fn good_lines_are_done_and_bad_ones_named_without_their_password() {
        let storage = testing::in_memory().await;
        let config = Config::load(
            &services::needs().tables,
            None,
            &["domain=x".to_owned()],
            [],
        )
        .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        std::fs::write(
            &path,
            "jid,password\r\na@x,one\r\n\nb@y,hunter2\nc@x\na@x,two\n",
        )
        .unwrap();
        let mut out = Vec::new();
        let error = run(&config, &storage, &path, 0, &mut out)
            .await
            .unwrap_err();
        let refused = ImportError::Refused {
            refused: 2,
            lines: 4,
        }
        .to_string();
        assert_eq!(error.to_string(), refused);
        let out = String::from_utf8(out).unwrap();
        assert!(
            out.contains("line 4") && out.contains("line 5") && !out.contains("hunter2"),
            "{out}"
        );
        assert!(out.contains("1 accounts made, 1 existed"), "{out}");
        assert!(storage.account_keys("a", "x").await.unwrap().is_some());
    }

    #[tokio::test]
    async fn what_has_no_lines_is_not_read_to_its_end() {
        let storage = testing::in_memory().await;
        let sets = ["domain=x".to_owned()];
        let config = Config::load(&services::needs().tables, None, &sets, []).unwrap();
        let mut out = Vec::new();
        let endless = run(&config, &storage, Path::new("/dev/zero"), 0, &mut out);
        let error = endless.await.unwrap_err().to_string();
        assert!(
            error.contains("line 1 has more than 16384 bytes"),
            "{error}"
        );
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        std::fs::write(&path, b"a@x,one\nb@x,\xff\nc@x,two").unwrap();
        let mut out = Vec::new();
        let done = run(&config, &storage, &path, 0, &mut out).await;
        let said = String::from_utf8(out).unwrap();
        assert!(
            done.is_err() && said.contains("line 2: it is not UTF-8"),
            "{said}"
        );
        assert!(said.contains("2 accounts made"), "{said}");
    }
}
