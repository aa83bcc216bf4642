//! Which account lives where.

pub mod map;
