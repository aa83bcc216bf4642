//! What operators use: the command line, and the interface of a running node.

pub mod check;
pub mod cli;
pub mod client;
pub mod http;
pub mod import;
pub mod limits;
pub mod report;
pub mod request;
mod socket;
mod table;
pub mod token;
mod trace;
pub mod user;
