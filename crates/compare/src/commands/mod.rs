//! One file a subcommand.

pub mod injected;
pub mod nab;
pub mod trainticket;
