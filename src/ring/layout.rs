//! Where each shared word is. PURE. The same on every machine: 32-bit words only, no pointers, and a ring that
//! starts on a page whether pages have 4, 16 or 64 KiB.

use crate::base::figures::Figures;
use crate::base::limits::{
    MEMBERS_MAX, RECORD_BYTES_MAX, REMAINING_LENGTH_MAX, RETAINED_SLICE_BYTES, RING_BYTES_MAX,
    RING_BYTES_MIN, RING_RECORD_SHARE,
};

/// Says that a region is an outbox of this version of the layout.
pub const OUTBOX_MAGIC: u32 = 0x4d51_0b01;
/// Says that a region is a cursor page of this version of the layout.
pub const CURSORS_MAGIC: u32 = 0x4d51_0c01;
/// Says that a region is a ledger of this version of the layout.
pub const LEDGER_MAGIC: u32 = 0x4d51_0d01;

/// All kinds of region start with a magic number, then the incarnation of the owner.
pub const MAGIC_AT: usize = 0;
/// The owner's incarnation.
pub const INCARNATION_AT: usize = 4;

/// Outbox: bytes of ring.
pub const RING_BYTES_AT: usize = 8;
/// Outbox: the end of what is published. Alone on its cache lines (two, as neighbours are fetched in pairs).
pub const HEAD_AT: usize = 128;
/// Outbox: a reader whose cursor goes past this position rings the owner.
pub const RING_ME_AT: usize = 256;
/// Outbox: where each reader starts, [`START_BYTES`] a slot: incarnation of the reader, position low, high.
pub const STARTS_AT: usize = 512;
/// Distance of two start positions.
pub const START_BYTES: usize = 16;
/// Outbox: the ring.
pub const RING_AT: usize = LARGEST_PAGE;

/// Cursor page: counted up by its owner's event loop.
pub const HEARTBEAT_AT: usize = 128;
/// Cursor page: odd while its owner sleeps; each sleep has another number.
pub const SLEEP_AT: usize = 256;
/// Cursor page: one cell a writer, [`CELL_BYTES`] each: incarnation of the writer that was joined, cursor.
pub const CELLS_AT: usize = 512;
/// Distance of two cells: no two writers poll the same cache line, nor a pair of lines.
pub const CELL_BYTES: usize = 128;
/// Cursor page: its owner's figures, away from what is polled.
pub const FIGURES_AT: usize = CELLS_AT + MEMBERS_MAX * CELL_BYTES;
/// Bytes of a block of figures: two numbers, then the figures.
pub const FIGURES_BLOCK_BYTES: usize = 16 + Figures::COUNT * 8;
/// Bytes of two of them, with the number in front that says which one is whole.
pub const FIGURES_BYTES: usize = 16 + 2 * FIGURES_BLOCK_BYTES;
/// Bytes of a cursor page.
pub const CURSORS_BYTES: usize = LARGEST_PAGE;

/// Ledger: distance of the blocks of figures of two slots.
pub const LEDGER_ENTRY_BYTES: usize = 1024;
/// Bytes of a ledger.
pub const LEDGER_BYTES: usize = 2 * LARGEST_PAGE;
const LEDGER_ENTRIES_AT: usize = 128;

const LARGEST_PAGE: usize = 64 * 1024;

/// Bytes of an outbox with this ring.
pub const fn outbox_bytes(ring_bytes: u32) -> usize {
    RING_AT + ring_bytes as usize
}

/// Whether a ring may have this size.
pub const fn ring_bytes_are_valid(ring_bytes: u32) -> bool {
    ring_bytes.is_power_of_two() && ring_bytes >= RING_BYTES_MIN && ring_bytes <= RING_BYTES_MAX
}

/// Where `slot`'s start position is in an outbox.
pub const fn start_at(slot: usize) -> usize {
    STARTS_AT + slot * START_BYTES
}

/// Where the cell for the writer in `slot` is in a cursor page.
pub const fn cell_at(slot: usize) -> usize {
    CELLS_AT + slot * CELL_BYTES
}

/// Where the figures of the dead of `slot` are in a ledger.
pub const fn ledger_at(slot: usize) -> usize {
    LEDGER_ENTRIES_AT + slot * LEDGER_ENTRY_BYTES
}

/// What a shared word holds of a position.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the low half is what is wanted"
)]
pub const fn low(position: u64) -> u32 {
    position as u32
}

/// The other half of a position, for start positions.
pub const fn high(position: u64) -> u32 {
    (position >> 32) as u32
}

const _: () = {
    assert!(RING_BYTES_AT + 4 <= HEAD_AT);
    assert!(HEAD_AT.is_multiple_of(128) && HEAD_AT + 128 <= RING_ME_AT);
    assert!(RING_ME_AT.is_multiple_of(128) && RING_ME_AT + 128 <= STARTS_AT);
    assert!(start_at(MEMBERS_MAX) <= RING_AT);
    assert!(INCARNATION_AT + 4 <= HEARTBEAT_AT);
    assert!(HEARTBEAT_AT.is_multiple_of(128) && HEARTBEAT_AT + 128 <= SLEEP_AT);
    assert!(SLEEP_AT.is_multiple_of(128) && SLEEP_AT + 128 <= CELLS_AT);
    assert!(CELLS_AT.is_multiple_of(CELL_BYTES) && CELL_BYTES >= 128);
    assert!(cell_at(MEMBERS_MAX) <= FIGURES_AT && FIGURES_AT.is_multiple_of(128));
    assert!(FIGURES_AT + FIGURES_BYTES <= CURSORS_BYTES);
    assert!(FIGURES_BYTES <= LEDGER_ENTRY_BYTES && ledger_at(MEMBERS_MAX) <= LEDGER_BYTES);
    assert!(RING_BYTES_MIN.is_power_of_two() && RING_BYTES_MAX.is_power_of_two());
    // Positions are compared by the difference of their low halves, as signed numbers.
    assert!(RING_BYTES_MAX <= 1 << 30);
    // A fragment with its headers and the header of its batch fits the smallest ring with room to spare.
    assert!(RING_BYTES_MIN / RING_RECORD_SHARE >= 128);
    // The last message of a slice may be the largest there is.
    assert!(RECORD_BYTES_MAX - REMAINING_LENGTH_MAX >= 4 * RETAINED_SLICE_BYTES);
};
