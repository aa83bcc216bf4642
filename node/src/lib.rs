//! Holdfast.

pub mod admin;
pub mod auth;
pub mod clock;
pub mod config;
pub mod hooks;
pub mod router;
pub mod services;
pub mod storage;
