//! Holdfast.

pub mod config;
