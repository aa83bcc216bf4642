//! How Holdfast is put together: all of it on one page.

#![doc = include_str!("../docs/architecture.md")]
