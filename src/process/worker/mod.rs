//! A worker: the network, inbound.
