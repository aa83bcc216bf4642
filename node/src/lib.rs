//! Holdfast.

pub mod admin;
pub mod auth;
pub mod clock;
pub mod config;
pub mod storage;
