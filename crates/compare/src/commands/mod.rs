//! One file a subcommand.

pub mod nab;
