//! PURE: one connected client: what its packets may say, and which packet identifiers are under way.
//!
//! No sockets and no subscriptions here: the worker's dispatch asks, and does what the answer says.

pub mod aliases;
pub mod connect;
pub mod inbound;
pub mod rate;
pub mod window;

pub use aliases::{Alias, Aliases};
pub use connect::{Admission, Refusal, Terms, admit, admit_again};
pub use inbound::{Inbound, Received, Violation};
pub use rate::{Credit, Rates};
pub use window::{Place, Queued, QueuedMessage, Window};

/// What may wait for a client, here as in the store.
pub use crate::queue::Limits;
