//! XML as XMPP restricts it: a strict reader, a tree, one writer.
//!
//! Received bytes never travel on: what is forwarded is the tree, written anew (T-3).

mod document;
mod element;
mod error;
mod grammar;
mod name;
mod reader;
mod tag;
mod text;
mod token;
mod tree;
mod write;

pub use document::{Document, Part};
pub use element::{Attribute, Element, Node};
pub use error::{Measured, ReadError, Shape};
pub use name::Name;
pub use reader::{Reader, Token};
pub(crate) use tree::is_one_element;
pub(crate) use write::attribute;

#[cfg(test)]
mod tests;
