//! A worker: the network, inbound.
pub mod dispatch;
