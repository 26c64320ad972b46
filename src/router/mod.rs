//! PURE: the subscription index.
pub mod index;
