//! What the store decides: who holds which client id, what persistent sessions get and when, what is retained,
//! and which wills are due.
//!
//! Pure: records come in, records go out through the mesh that each step is lent; no descriptor, no clock of its
//! own. `claims` is who holds an id, `sessions` feeds persistent sessions, `publish` applies messages and wills,
//! `subscribe` changes subscriptions and answers once every member knows, `shared` runs the groups of shared
//! subscriptions, `retained_requests` streams what is retained to transient sessions. Everything a worker sends is checked: one that an attacker has taken over may
//! lie about its own connections, and nothing it sends may stop the store.

mod announced;
mod claims;
mod figures;
mod message;
mod publish;
mod retained_requests;
mod sessions;
mod settings;
mod shared;
mod subscribe;
#[cfg(test)]
mod tests;
mod timers;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use crate::base::clock::Instant;
use crate::base::figures::Figures;
use crate::base::ids::{ClaimSerial, ClientNumber, Incarnation, MemberId, Position, Serial};
use crate::base::limits::{MEMBERS_MAX, RETAINED_STEPS_PER_TURN, SHARED_STEPS_PER_TURN};
use crate::base::log::LogType;
use crate::base::memory::MemoryGuard;
use crate::directory::{ClaimKey, Directory, Mark};
use crate::group::{GroupId, Groups};
use crate::ipc::mesh::{FilterHash, Heads, Message, ToStore, ToWorker, kind};
use crate::retained::Retained;
use crate::ring::{Cx, Mesh};
use crate::router::index::Index;

use announced::Announced;
use claims::{Asked, Client};
use message::{Kept, Stock, StoredMessage};
use publish::Hit;
use retained_requests::Request;
pub use settings::StoreSettings;
use subscribe::{Collecting, Subscribing, Subscription};

/// The store's deciding part, with a memory backend.
pub struct Store {
    settings: StoreSettings,
    hash: FilterHash,
    /// Who reads this outbox, by slot. Nothing is said to anybody else.
    readers: Vec<Option<Incarnation>>,
    directory: Directory<Client, Asked>,
    index: Index<ClientNumber, Subscription>,
    announced: Announced,
    /// Shared subscriptions, of persistent sessions and of transient ones.
    groups: Groups<Rc<StoredMessage>>,
    retained: Retained<Kept>,
    /// Messages on further topics are not being retained, and the log said so.
    refuses_to_retain: bool,
    /// How many of them the broker published itself.
    retained_system: usize,
    /// Counts what was retained, so that a subscription knows what came after it.
    retained_stamp: u64,
    /// Clients whose claim waits for the last holder's records to be applied everywhere.
    awaiting_mark: BTreeSet<ClientNumber>,
    /// Clients to forget once their last holder's records have been applied everywhere.
    fading: VecDeque<ClientNumber>,
    fading_at: Instant,
    /// The next thing that time does to a client: its session or its will's delay ends.
    timers: BTreeSet<(Instant, ClientNumber)>,
    subscribing: VecDeque<Subscribing>,
    collecting: VecDeque<Collecting>,
    requests: VecDeque<Request>,
    requests_of: BTreeMap<MemberId, usize>,
    /// Bytes that wait in the queues of sessions, and in other members' queues as they said last.
    bytes_waiting: u64,
    queued_elsewhere: u64,
    memory: MemoryGuard,
    /// Sessions that have something to be fed when there is room again.
    stalled: Vec<ClientNumber>,
    /// Retained topics that may still be looked at for sessions in this turn.
    retained_steps: usize,
    /// Members of groups that may still be found without room in this turn.
    shared_steps: usize,
    /// Clients whose sessions may end at another time since the operator changed his mind.
    to_wait_anew: Vec<ClientNumber>,
    sweep_at: Instant,
    /// There is something to do at once, in another turn.
    again: bool,
    /// There is something to look at again soon, whatever happens.
    soon: Option<Instant>,
    next_gap: u64,
    /// Whose record is being applied.
    reading: Option<(MemberId, Incarnation)>,
    /// Whose nonsense was logged.
    warned: BTreeSet<Incarnation>,
    scratch: Vec<u8>,
    hits: Vec<Hit>,
    groups_found: Vec<GroupId>,
    stock: Stock,
    /// What was counted so far; what there is now is filled in when it is asked for.
    counted: Figures,
}

impl Store {
    /// An empty store. `hash_key` is the same in every member of this start of the broker.
    pub fn new(settings: StoreSettings, hash_key: [u64; 2]) -> Self {
        let [seed, _] = hash_key;
        Self {
            announced: Announced::new(settings.outgoing().every_qos),
            settings,
            hash: FilterHash::new(hash_key),
            readers: vec![None; MEMBERS_MAX],
            directory: Directory::new(seed),
            index: Index::new(),
            groups: Groups::new(seed),
            retained: Retained::default(),
            refuses_to_retain: false,
            retained_system: 0,
            retained_stamp: 0,
            awaiting_mark: BTreeSet::new(),
            fading: VecDeque::new(),
            fading_at: Instant::default(),
            timers: BTreeSet::new(),
            subscribing: VecDeque::new(),
            collecting: VecDeque::new(),
            reading: None,
            requests: VecDeque::new(),
            requests_of: BTreeMap::new(),
            bytes_waiting: 0,
            queued_elsewhere: 0,
            memory: MemoryGuard::default(),
            stalled: Vec::new(),
            retained_steps: RETAINED_STEPS_PER_TURN,
            shared_steps: SHARED_STEPS_PER_TURN,
            to_wait_anew: Vec::new(),
            sweep_at: Instant::default(),
            again: false,
            soon: None,
            next_gap: 0,
            warned: BTreeSet::new(),
            scratch: Vec::new(),
            hits: Vec::new(),
            groups_found: Vec::new(),
            stock: Stock::default(),
            counted: Figures::default(),
        }
    }

    /// Follows other settings from now on. Whether QoS 0 messages come through here is decided at the start: what was
    /// announced to the workers stands on it.
    pub fn set_settings(&mut self, settings: StoreSettings) {
        if settings.persistent_client_expiration != self.settings.persistent_client_expiration {
            self.to_wait_anew = self.directory.numbers();
        }
        self.settings = StoreSettings {
            queue_qos0_messages: self.settings.queue_qos0_messages,
            upgrade_outgoing_qos: self.settings.upgrade_outgoing_qos,
            ..settings
        };
    }

    /// One record from `from`'s outbox, as it was copied out of the ring.
    pub fn record<M: Mesh>(
        &mut self,
        from: MemberId,
        incarnation: Incarnation,
        record_kind: u8,
        bytes: &[u8],
        cx: &mut Cx<'_, M>,
    ) {
        let key = |serial: ClaimSerial| ClaimKey {
            member: from,
            incarnation,
            serial,
        };
        match record_kind {
            // The store keeps no index of the workers' filters: it addresses everybody.
            kind::ANNOUNCE | kind::INDEX_END => {}
            kind::PUBLISH => match Message::decode(bytes) {
                Ok(message) => {
                    self.reading = Some((from, incarnation));
                    self.publish(&message, cx);
                    self.reading = None;
                    if let Some(release) = message.releases {
                        self.release(key(release.claim), &release, cx);
                    }
                }
                Err(e) => self.warn(from, incarnation, e.what, cx),
            },
            _ => match ToStore::decode(record_kind, bytes) {
                Ok(record) => self.request(record, key, cx),
                Err(e) => self.warn(from, incarnation, e.what, cx),
            },
        }
    }

    fn request<M: Mesh>(
        &mut self,
        record: ToStore<'_>,
        key: impl Fn(ClaimSerial) -> ClaimKey,
        cx: &mut Cx<'_, M>,
    ) {
        match record {
            ToStore::Claim(claim) => self.claim(key(claim.claim), &claim, cx),
            ToStore::Armed { claim } => self.armed(key(claim)),
            ToStore::Release(release) => self.release(key(release.claim), &release, cx),
            ToStore::Subscribe {
                claim,
                request,
                subscription_id,
                heads,
                filters,
            } => {
                let asked = subscribe::Asked {
                    key: key(claim),
                    request,
                    subscription_id,
                    heads: possible(heads, cx.mesh),
                };
                self.subscribe(asked, &filters, cx);
            }
            ToStore::Unsubscribe {
                claim,
                request,
                filters,
            } => self.unsubscribe(key(claim), request, &filters, cx),
            ToStore::RetainedRequest {
                claim,
                request,
                heads,
                filter,
                after,
            } => {
                let request = Request {
                    key: key(claim),
                    request,
                    heads: possible(heads, cx.mesh),
                    filter: filter.into(),
                    after: Some(after.into()).filter(|_| !after.is_empty()),
                };
                self.retained_request(request, cx);
            }
            ToStore::Ack {
                claim,
                packet_id,
                what,
                code,
            } => self.ack(key(claim), packet_id, what, code, cx),
            ToStore::Settled { claim, tokens } => self.settled(key(claim), &tokens, cx),
            ToStore::Unsent {
                claim,
                seen,
                tokens,
            } => self.unsent(key(claim), seen, &tokens),
        }
    }

    /// One line per life of a worker, however much nonsense it sends.
    fn warn<M: Mesh>(
        &mut self,
        from: MemberId,
        incarnation: Incarnation,
        what: &str,
        cx: &mut Cx<'_, M>,
    ) {
        if self.warned.insert(incarnation) {
            cx.log.line(
                LogType::Warning,
                format_args!(
                    "Warning: a record of {from} was not understood ({what}) and ignored."
                ),
            );
        }
    }

    /// The inboxes were read: retry what waited for others, and go on with what is streamed.
    pub fn end_of_turn<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) {
        self.again = false;
        self.soon = None;
        self.retained_steps = RETAINED_STEPS_PER_TURN;
        self.tell_joiners(cx);
        self.retry_grants(cx);
        self.answer_subscribes(cx);
        self.collect_retained(cx);
        self.feed_stalled(cx);
        self.serve_due(cx);
        self.stream_retained(cx);
    }

    /// The turn's records were flushed.
    pub fn flushed<M: Mesh>(&mut self, cx: &mut Cx<'_, M>) {
        self.again |= self
            .announced
            .flushed(!self.subscribing.is_empty(), cx.mesh);
    }

    /// When [`Store::tick`] (or just another turn) is due at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.again || !self.to_wait_anew.is_empty() {
            return Some(Instant::default());
        }
        let timer = self.timers.first().map(|(at, _)| *at);
        let fading = (!self.fading.is_empty()).then_some(self.fading_at);
        let sweep = self.retained.has_expiring().then_some(self.sweep_at);
        [timer, fading, sweep, self.soon]
            .into_iter()
            .flatten()
            .min()
    }

    fn look_again_soon(&mut self, now: Instant) {
        self.soon = Some(now.after_millis(1));
    }

    fn reads(&self, key: ClaimKey) -> bool {
        reads(&self.readers, key)
    }

    /// Says something to one worker about one of its connections, if it still lives.
    fn tell<M: Mesh>(&mut self, key: ClaimKey, what: &ToWorker<'_>, cx: &mut Cx<'_, M>) {
        if self.reads(key) {
            what.append(cx.mesh, key.member, &mut self.scratch);
        }
    }

    /// How many client ids are known.
    pub fn clients(&self) -> usize {
        self.directory.len()
    }

    /// How many messages are retained.
    pub fn retained_messages(&self) -> usize {
        self.retained.len()
    }
}

/// Whether this connection's worker reads what the store says.
fn reads(readers: &[Option<Incarnation>], key: ClaimKey) -> bool {
    readers.get(key.member.slot()).copied().flatten() == Some(key.incarnation)
}

/// Whether the store has applied all of `heads`. An incarnation that is gone has been applied to its end.
fn applied<M: Mesh>(heads: &[(MemberId, Incarnation, Position)], mesh: &M) -> bool {
    heads.iter().all(|(member, incarnation, position)| {
        let applied = mesh.applied(*member);
        applied.is_none_or(|(now, at)| now != *incarnation || at >= *position)
    })
}

/// The heads that a worker says it saw, without what cannot be: nothing waits for a position that never comes.
fn possible<M: Mesh>(mut heads: Heads, mesh: &M) -> Heads {
    heads.retain_mut(
        |(member, incarnation, position)| match mesh.published(*member) {
            Some((now, published)) if now == *incarnation => {
                *position = published.min(*position);
                true
            }
            // It is gone, and has been applied to its end.
            _ => false,
        },
    );
    heads
}

/// How far the store has applied every outbox.
fn applied_heads<M: Mesh>(mesh: &M) -> Heads {
    let of = |m| {
        mesh.applied(m)
            .map(|(incarnation, at)| (m, incarnation, at))
    };
    MemberId::all().filter_map(of).collect()
}

/// How far every outbox is filled at this moment.
fn published_heads<M: Mesh>(mesh: &M) -> Heads {
    let of = |m| {
        mesh.published(m)
            .map(|(incarnation, at)| (m, incarnation, at))
    };
    MemberId::all().filter_map(of).collect()
}

/// How far this connection's worker has filled its outbox: everything that it has said so far. `None` if that
/// outbox is gone, and so has been applied to its end.
fn published<M: Mesh>(key: ClaimKey, mesh: &M) -> Option<Mark> {
    let (incarnation, position) = mesh.published(key.member)?;
    let mark = Mark {
        member: key.member,
        incarnation,
        position,
    };
    (incarnation == key.incarnation).then_some(mark)
}

/// A serial that is smaller than every record's.
const NO_RECORD: Serial = Serial(0);
