//! Thin wrappers of system calls: with ring/shm.rs the only places with unsafe.
