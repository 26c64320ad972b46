//! One room per process. No process names another: they meet in `ipc` and `ring`.

pub mod child;
pub mod control;
pub mod member;
pub mod store;
pub mod supervisor;
pub mod worker;
