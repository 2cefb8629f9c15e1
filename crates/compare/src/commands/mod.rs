//! One file a subcommand.

pub mod calibration;
pub mod injected;
pub mod nab;
pub mod speed;
