//! Shared-memory rings: how members talk.
//!
//! Each incarnation of a member owns one outbox (a broadcast ring, one writer, many readers) and one cursor page.
//! `shm.rs` is the one audited unsafe file; `record.rs` is pure. This room moves opaque records; what they mean is
//! `ipc::mesh`.

pub mod layout;
pub mod memory;
pub mod record;

mod cursors;
mod doorbell;
mod figures;
mod inbox;
mod outbox;
mod overflow;
mod peer;
mod shared_mesh;
mod shm;

pub use doorbell::create_doorbell;
pub use figures::{Entry, Ledger, LedgerView, MemberPage, OwnPage};
pub use inbox::{Inbox, Step};
pub use layout::ring_bytes_are_valid;
pub use shared_mesh::{Received, RingError, RingMesh, SharedMesh};
pub use shm::{Seal, create_cursors, create_outbox, seal};

use crate::base::clock::Instant;
use crate::base::ids::{Incarnation, MemberId, MemberMask, Position, Serial};
use crate::base::log::Log;

/// What deciding code is lent for one step: the mesh to speak into, the log, and the time.
pub struct Cx<'a, M: Mesh> {
    pub mesh: &'a mut M,
    pub log: &'a mut Log,
    pub now: Instant,
}

/// What a member's deciding code may ask of the mesh. The rings implement it; so does the simulation.
pub trait Mesh {
    /// This member.
    fn me(&self) -> MemberId;

    /// The other members that read this outbox now.
    fn live(&self) -> MemberMask;

    /// Appends one record, made of `parts` one after the other, for the members in `to`. It is copied at once:
    /// into shared memory, or into the overflow list when the ring is full. Readers see it after the turn's flush.
    /// Records of any size up to `RECORD_BYTES_MAX`; large ones are cut into fragments below this interface.
    fn append(&mut self, to: MemberMask, kind: u8, parts: &[&[u8]]) -> Serial;

    /// Every record up to this serial is in shared memory and outlives this process once the turn is flushed.
    /// An acknowledgement may leave when the serial of its record is covered, after the flush.
    fn covered(&self) -> Serial;

    /// Bytes in the overflow list; above `OVERFLOW_BYTES_PAUSE` the caller stops reading from its clients.
    fn overflow_bytes(&self) -> usize;

    /// The end of what is in shared memory, records of this turn that are not flushed yet included.
    fn head(&self) -> Position;

    /// All of `by` that are live have applied this outbox up to here (`head()` when none of them is live).
    fn passed(&self, by: MemberMask) -> Position;

    /// Asks for a wake-up (doorbell) once every live reader has applied this outbox up to `position`, and wakes
    /// those that sleep short of it.
    fn wake_when_passed(&mut self, position: Position);

    /// Incarnation and position up to which this member has applied `of`'s outbox, the record in hand included; `None`
    /// if it reads none.
    fn applied(&self, of: MemberId) -> Option<(Incarnation, Position)>;

    /// Incarnation and published head of `of`'s outbox at this moment; `None` if this member does not read it.
    fn published(&self, of: MemberId) -> Option<(Incarnation, Position)>;

    /// Whether every live member (this one included, `of` itself not) has applied `of`'s outbox up to `position`,
    /// or that incarnation is gone and drained. Wakes those that sleep short of it; the caller asks again within a
    /// millisecond.
    fn everyone_applied(
        &mut self,
        of: MemberId,
        incarnation: Incarnation,
        position: Position,
    ) -> bool;
}
