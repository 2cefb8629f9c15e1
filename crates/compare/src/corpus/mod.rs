//! Data to be scored: what is read from disk.

pub mod nab;
