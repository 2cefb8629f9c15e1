//! One file a subcommand.

pub mod all;
pub mod calibration;
pub mod cmapss;
pub mod fleet;
pub mod hdfs;
pub mod injected;
pub mod nab;
pub mod openstack;
pub mod speed;
pub mod templates;
pub mod trainticket;
