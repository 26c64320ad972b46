//! PURE: which subscribers' filters match a topic, and what members tell each other about theirs.

pub mod foreign;
pub mod index;
pub mod interest;
mod subscribers;
mod table;
mod tree;

pub use foreign::Foreign;
pub use index::Index;
pub use interest::Interest;
