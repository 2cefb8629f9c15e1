//! Data to be scored: what is read from disk.

pub mod hdfs;
pub mod injected;
pub mod loghub;
pub mod nab;
pub mod openstack;
