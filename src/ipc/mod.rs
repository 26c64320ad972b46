//! What processes say to each other: `mesh` in the rings, `control` between the supervisor and each child.

pub mod channel;
pub mod control;
pub mod mesh;
mod wire;
