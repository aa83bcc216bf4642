//! The tools of operators: the command line, and the admin interface of a running node.

pub(crate) mod advice;
pub mod announce;
pub(crate) mod check;
pub mod cli;
pub(crate) mod client;
mod dns;
mod export;
pub(crate) mod http;
pub(crate) mod import;
mod invitation;
pub(crate) mod limits;
pub(crate) mod members;
pub(crate) mod ready;
pub(crate) mod recover;
pub(crate) mod report;
pub mod request;
mod restore;
mod socket;
mod status;
mod table;
pub mod token;
mod trace;
pub(crate) mod user;
pub(crate) mod warning;
