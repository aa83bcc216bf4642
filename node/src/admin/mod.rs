//! What operators use: the command line, and the interface of a running node.

pub mod check;
pub mod cli;
pub mod import;
pub mod user;
