//! What services keep of an account, on its way out of this server and into one (XEP-0227).
//!
//! Each service writes its own part of an account, as children of its `<user/>`, and reads the same back. Neither is
//! ever in memory as a whole: what is long is written page by page, and read child by child.

use std::io::{self, Write};

use futures_util::future::BoxFuture;
use proto::{BareJid, Element};

use crate::storage::{Storage, StorageError};

/// The namespace of what only this server writes and reads.
pub const OWN: &str = "urn:x-holdfast:export";

/// Writes and reads back what one service keeps of accounts.
pub trait Portable: Send + Sync + 'static {
    /// The tables of which it writes what is in them.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "a test compares them with those that there are")
    )]
    fn tables(&self) -> &'static [&'static str];

    /// Writes what is kept of the account.
    fn export<'a>(
        &'a self,
        storage: &'a Storage,
        account: &'a BareJid,
        out: &'a mut Export<'_>,
    ) -> BoxFuture<'a, Result<(), ExportError>>;

    /// What it does with an element below a `<user/>`; `path` are the elements between the two, the outermost first.
    fn reads(&self, path: &[Element], element: &Element) -> Reading;

    /// Keeps elements that it said it takes, all with the same path, in their order. The account was made a moment ago
    /// for what is being read, and nobody has used it.
    fn import<'a>(&'a self, import: Import<'a>) -> BoxFuture<'a, Result<(), ImportError>>;
}

/// What becomes of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// It is another one's.
    Foreign,
    /// Its children are asked about one by one.
    Open,
    /// It is read as a whole.
    Take,
}

/// Elements that are read.
pub struct Import<'a> {
    /// The database.
    pub storage: &'a Storage,
    /// Whose they are.
    pub account: &'a BareJid,
    /// The elements between them and the `<user/>`, without their children.
    pub path: &'a [Element],
    /// The elements.
    pub elements: &'a [Element],
    /// How many elements of the account were read before them.
    pub number: u64,
}

/// Why something was not read.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is not what it should be, or there is no room for it; the rest can be read.
    #[error("{0}")]
    Skipped(String),
    /// The database refuses everything.
    #[error(transparent)]
    Storage(StorageError),
}

impl From<StorageError> for ImportError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Full(full) => Self::Skipped(full),
            error => Self::Storage(error),
        }
    }
}

/// Why nothing more is written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The database.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The output.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

/// Where an account is written to.
pub struct Export<'a> {
    out: &'a mut (dyn Write + Send),
    /// The elements that are open: their names and namespaces.
    open: Vec<(String, String)>,
}

impl<'a> Export<'a> {
    /// The beginning of a document.
    pub fn begin(out: &'a mut (dyn Write + Send)) -> io::Result<Self> {
        out.write_all(b"<?xml version='1.0' encoding='UTF-8'?>\n")?;
        let open = Vec::new();
        Ok(Self { out, open })
    }

    fn ns(&self) -> &str {
        self.open.last().map_or("", |(_, ns)| ns)
    }

    /// Begins an element; what is written until it is closed are its children.
    pub fn open(&mut self, element: &Element) -> io::Result<()> {
        let xml = element.to_xml(self.ns());
        // An element without children is written with a slash at its end.
        let tag = xml.strip_suffix("/>").unwrap_or(&xml);
        writeln!(self.out, "{tag}>")?;
        let name = (element.local().to_owned(), element.ns().to_owned());
        self.open.push(name);
        Ok(())
    }

    /// Writes an element.
    pub fn element(&mut self, element: &Element) -> io::Result<()> {
        let xml = element.to_xml(self.ns());
        writeln!(self.out, "{xml}")
    }

    /// Ends the element that was opened last.
    pub fn close(&mut self) -> io::Result<()> {
        match self.open.pop() {
            Some((name, _)) => writeln!(self.out, "</{name}>"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_stand_in_those_that_are_open() {
        let mut out = Vec::new();
        let mut export = Export::begin(&mut out).unwrap();
        export
            .open(&Element::new("a", "u").with_attr("n", "<'>"))
            .unwrap();
        export
            .element(&Element::new("b", "u").with_text("&"))
            .unwrap();
        export.open(&Element::new("c", "v")).unwrap();
        export.element(&Element::new("d", "v")).unwrap();
        for _ in 0..3 {
            export.close().unwrap();
        }
        let xml = String::from_utf8(out).unwrap();
        let (_, xml) = xml.split_once('\n').unwrap();
        assert_eq!(
            xml.replace('\n', ""),
            "<a xmlns='u' n='&lt;&apos;&gt;'><b>&amp;</b><c xmlns='v'><d/></c></a>"
        );
    }
}
