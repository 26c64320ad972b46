//! Figures in shared memory: each member's in its own cursor page, and those of the dead in the supervisor's ledger.
//!
//! Figures are written to two blocks in turn, and a number says which one is whole; so whoever is killed while writing
//! leaves the ones before. Readers take a copy, and take another when the number moved meanwhile; they check nothing
//! else, since a member that lies can only lie about itself.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use crate::base::figures::Figures;
use crate::base::ids::{Incarnation, MemberId};

use super::cursors::OwnCursors;
use super::layout::{
    CURSORS_BYTES, FIGURES_AT, FIGURES_BLOCK_BYTES, HEARTBEAT_AT, INCARNATION_AT, LEDGER_BYTES,
    LEDGER_MAGIC, MAGIC_AT, high, ledger_at, low,
};
use super::memory::{Region, View};
use super::shm::{self, ForeignMap, OwnMap};

/// The numbers of a block that are no figures; the figures follow.
const NOTES: usize = 2;

/// Writes figures to the pair of blocks at `at`. `written` is this writer's own, and counts up.
pub(super) fn write_blocks<R: Region>(
    region: &R,
    at: usize,
    written: &mut u32,
    notes: [u32; NOTES],
    figures: &Figures,
) {
    *written = written.wrapping_add(1);
    let block = block_at(at, *written);
    // The number that says that the other block is whole was stored before; the fence orders it before the words here,
    // also for a reader that sees only one of them.
    region.fence();
    let [first, second] = notes;
    region.store(block, first, Relaxed);
    region.store(block + 4, second, Relaxed);
    let mut word = block + 16;
    for value in figures.values() {
        region.store(word, low(value), Relaxed);
        region.store(word + 4, high(value), Relaxed);
        word += 8;
    }
    // Release: whoever sees this number with Acquire sees all words.
    region.store(at, *written, Release);
}

/// Copies the block at `at` that is whole; `None` if the other one was finished each time meanwhile.
pub(super) fn read_blocks<V: View>(
    view: &V,
    at: usize,
    into: &mut Figures,
) -> Option<[u32; NOTES]> {
    for _ in 0..READS_MAX {
        let written = view.load(at, Acquire);
        let block = block_at(at, written);
        // Acquire: whoever sees a word of the next but one writing sees the number before it, below.
        let notes = [view.load(block, Acquire), view.load(block + 4, Acquire)];
        let mut word = block + 16;
        for (_, value) in into.values_mut() {
            let halves = (view.load(word, Acquire), view.load(word + 4, Acquire));
            *value = u64::from(halves.1) << 32 | u64::from(halves.0);
            word += 8;
        }
        if view.load(at, Relaxed) == written {
            return Some(notes);
        }
    }
    None
}

/// Nothing was ever written to the first block when the number is 0: all zeroes.
const fn block_at(at: usize, written: u32) -> usize {
    at + 16 + (written & 1) as usize * FIGURES_BLOCK_BYTES
}

/// A writer comes by ten times a second; one that writes without end is hostile.
const READS_MAX: usize = 16;

/// A member's cursor page as the supervisor and control see it: its heart, and its figures.
pub struct MemberPage {
    map: ForeignMap,
    latest: Figures,
}

impl MemberPage {
    /// Maps a sealed cursor page.
    pub fn map(cursors: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self {
            map: ForeignMap::new(cursors, CURSORS_BYTES)?,
            latest: Figures::default(),
        })
    }

    /// How often the member's loop has turned. Progress is any change of it.
    pub fn beats(&self) -> u32 {
        self.map.load(HEARTBEAT_AT, Relaxed)
    }

    /// The member's figures as it last told them.
    pub fn figures(&mut self) -> &Figures {
        let mut figures = Figures::default();
        if read_blocks(&self.map, FIGURES_AT, &mut figures).is_some() {
            self.latest = figures;
        }
        &self.latest
    }
}

/// The page of a process that is no member: its heart beats there.
pub struct OwnPage(OwnCursors<OwnMap>);

impl OwnPage {
    /// Maps a new cursor page, before it is sealed.
    pub fn map(page: BorrowedFd<'_>, incarnation: Incarnation) -> io::Result<Self> {
        let map = OwnMap::new(page, CURSORS_BYTES)?;
        Ok(Self(OwnCursors::new(map, incarnation)))
    }

    /// The loop has turned once more.
    pub fn beat(&mut self) {
        self.0.beat();
    }
}

/// What the dead left behind, by slot; the supervisor keeps it, so that totals survive the death of whoever counted.
pub struct Ledger {
    map: OwnMap,
    fd: OwnedFd,
    written: u32,
}

/// The page of the ledger for one slot.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Entry {
    /// The last one that died.
    pub last: Incarnation,
    /// How many died.
    pub deaths: u32,
    /// What they left, all together.
    pub figures: Figures,
}

impl Entry {
    /// Writes down one more death.
    pub fn bury(&mut self, last: Incarnation, figures: &Figures) {
        let mut figures = figures.clone();
        figures.bury();
        figures.inherit(&self.figures);
        *self = Self {
            last,
            deaths: self.deaths.saturating_add(1),
            figures,
        };
    }
}

impl Ledger {
    /// An empty ledger, sealed as soon as it is mapped.
    pub fn new() -> io::Result<Self> {
        let fd = shm::create_ledger()?;
        let map = OwnMap::new(fd.as_fd(), LEDGER_BYTES)?;
        map.store(MAGIC_AT, LEDGER_MAGIC, Relaxed);
        map.store(INCARNATION_AT, 0, Relaxed);
        shm::seal(fd.as_fd())?;
        Ok(Self {
            map,
            fd,
            written: 0,
        })
    }

    /// What whoever is to read it maps.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Writes down that this life of `member` is over, with its last figures.
    pub fn bury(&mut self, member: MemberId, life: Incarnation, figures: &Figures) {
        let mut entry = read_entry(&self.map, member);
        entry.bury(life, figures);
        let notes = [entry.last.0, entry.deaths];
        let at = ledger_at(member.slot());
        write_blocks(&self.map, at, &mut self.written, notes, &entry.figures);
    }
}

/// The supervisor's ledger as control sees it.
pub struct LedgerView {
    map: ForeignMap,
}

impl LedgerView {
    /// Maps it.
    pub fn map(ledger: BorrowedFd<'_>) -> io::Result<Self> {
        ForeignMap::new(ledger, LEDGER_BYTES).map(|map| Self { map })
    }

    /// What the dead of this slot left.
    pub fn entry(&self, member: MemberId) -> Entry {
        read_entry(&self.map, member)
    }
}

fn read_entry<V: View>(view: &V, member: MemberId) -> Entry {
    let mut entry = Entry::default();
    if let Some([last, deaths]) = read_blocks(view, ledger_at(member.slot()), &mut entry.figures) {
        entry.last = Incarnation(last);
        entry.deaths = deaths;
        return entry;
    }
    Entry::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(bytes: u64, sockets: u64) -> Figures {
        Figures {
            bytes_received: bytes,
            sockets,
            ..Figures::default()
        }
    }

    #[test]
    fn a_member_s_figures_are_seen_by_others_as_they_were_told() {
        let fd = shm::create_cursors().unwrap();
        let own = OwnMap::new(fd.as_fd(), CURSORS_BYTES).unwrap();
        let mut cursors = OwnCursors::new(own, Incarnation(1));
        shm::seal(fd.as_fd()).unwrap();
        let mut page = MemberPage::map(fd.as_fd()).unwrap();
        assert_eq!(*page.figures(), Figures::default());
        for told in [figures(u64::MAX - 1, 1 << 33), figures(3, 0)] {
            cursors.tell_figures(&told);
            assert_eq!(*page.figures(), told);
        }
    }

    #[test]
    fn the_ledger_keeps_totals_of_all_lives_and_what_was_only_now_of_none() {
        let mut ledger = Ledger::new().unwrap();
        let view = LedgerView::map(ledger.fd()).unwrap();
        let member = MemberId::worker(62).unwrap();
        assert_eq!(view.entry(member), Entry::default());
        ledger.bury(member, Incarnation(4), &figures(u64::from(u32::MAX), 7));
        ledger.bury(member, Incarnation(9), &figures(2, 8));
        let expected = Entry {
            last: Incarnation(9),
            deaths: 2,
            figures: figures(u64::from(u32::MAX) + 2, 0),
        };
        assert_eq!(view.entry(member), expected);
        assert_eq!(view.entry(MemberId::STORE), Entry::default());
    }

    #[test]
    fn whoever_dies_while_writing_leaves_what_was_told_before() {
        let fd = shm::create_cursors().unwrap();
        let own = OwnMap::new(fd.as_fd(), CURSORS_BYTES).unwrap();
        let mut written = 0;
        for n in 1..4 {
            write_blocks(&own, FIGURES_AT, &mut written, [0; 2], &figures(n, n));
        }
        // The next ones are there, all but the number that says so.
        write_blocks(&own, FIGURES_AT, &mut written, [0; 2], &figures(9, 9));
        own.store(FIGURES_AT, 3, Relaxed);
        shm::seal(fd.as_fd()).unwrap();
        let mut page = MemberPage::map(fd.as_fd()).unwrap();
        assert_eq!(*page.figures(), figures(3, 3));
    }

    #[test]
    fn a_reader_never_sees_half_of_a_block() {
        let fd = shm::create_cursors().unwrap();
        let own = OwnMap::new(fd.as_fd(), CURSORS_BYTES).unwrap();
        shm::seal(fd.as_fd()).unwrap();
        let reader = std::thread::spawn(move || {
            let mut page = MemberPage::map(fd.as_fd()).unwrap();
            let mut last = 0;
            while last < 20_000 {
                let figures = page.figures();
                let first = figures.bytes_received;
                assert!(figures.values().all(|value| value == first));
                assert!(first >= last);
                last = first;
            }
        });
        let (mut written, mut all) = (0, Figures::default());
        for n in 1.. {
            all.values_mut().for_each(|(_, value)| *value = n);
            write_blocks(&own, FIGURES_AT, &mut written, [0; 2], &all);
            if reader.is_finished() {
                break;
            }
        }
        reader.join().unwrap();
    }
}
