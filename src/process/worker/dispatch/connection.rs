//! One connection as dispatch keeps it.

use std::collections::{HashSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use foldhash::fast::RandomState;
use slotmap::{Key, KeyData};

use super::live::SeenLive;
use super::mount::Mount;
use super::rates::Pause;
use super::shared::Shares;
use super::subscribe::RetainedWait;
use crate::base::clock::Instant;
use crate::base::ids::{ClaimSerial, ClientNumber};
use crate::ipc::mesh::WillRecord;
use crate::mqtt::{Qos, RetainHandling, SubscriptionOptions, Version};
use crate::net::output::Output;
use crate::router::index::FilterId;
use crate::session::{Aliases, Credit, Inbound, Terms, Window};

slotmap::new_key_type! {
    /// A connection of this worker; never reused for another one.
    pub struct ConnId;
}

impl ConnId {
    /// As a number, for an epoll token.
    pub fn token(self) -> u64 {
        self.data().as_ffi()
    }

    /// From [`ConnId::token`]. Any number is safe: one that names no connection finds none.
    pub fn from_token(token: u64) -> Self {
        KeyData::from_ffi(token).into()
    }

    /// The claim of this connection at the store.
    pub(super) fn claim(self) -> ClaimSerial {
        ClaimSerial(self.token())
    }

    /// The connection of a claim.
    pub(super) fn of(claim: ClaimSerial) -> Self {
        Self::from_token(claim.0)
    }
}

/// Where a connection came in.
#[derive(Clone, Copy, Debug)]
pub struct AcceptedFrom {
    /// The other end.
    pub peer: SocketAddr,
    /// Which of the configuration's listeners.
    pub listener: u16,
}

impl AcceptedFrom {
    /// The broker's own: no listener accepted it.
    pub const INTERNAL: Self = Self {
        peer: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        listener: u16::MAX,
    };

    /// Whether the other end is a part of this broker.
    pub fn is_internal(self) -> bool {
        // There are far fewer listeners.
        self.listener == u16::MAX
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// Nothing but CONNECT may come.
    AwaitConnect,
    /// The store was asked for the client id; input waits.
    Claiming,
    /// CONNACK was sent.
    Connected,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    pub from: AcceptedFrom,
    pub stage: Stage,
    pub client: Client,
    /// The start of a packet whose end has not come yet, or what waits for the store's answer.
    pub partial: Vec<u8>,
    /// The client has closed its end, and all that it said has been read; and it said nothing but CONNECT.
    pub has_ended: bool,
    pub is_pointless: bool,
    pub output: Output,
    /// Bytes that may wait for it.
    pub output_bytes_max: usize,
    /// It is in the list of those with output.
    pub dirty: bool,
    /// Packets for it that wait until a record is covered, and how long they are.
    pub held: u32,
    /// Its CONNACK waits for nothing any more.
    pub greeted: bool,
    pub held_bytes: usize,
    /// The store wants it closed for this reason, once what it sent has been read; and how often it was looked at.
    pub evicting: Option<(u8, u16)>,
    /// What it may send now, whether it waits for more, and whether the log said so.
    pub credit: Credit,
    pub pause: Pause,
    pub slowed: bool,
    /// When bytes last came; before CONNECT, when the connection came.
    pub heard: Instant,
    /// When to look whether it has been silent for too long. An entry in the timers that comes earlier is of old.
    pub look_at: Instant,
    /// The fan-out that reached it last, and its place among the targets.
    pub reached: (u64, usize),
    /// QoS 0 messages are being dropped, and the log said so.
    pub dropping: bool,
    /// Packets put into the output since it was last empty, less those that were written, about.
    pub packets_waiting: u64,
    /// What the figures hold of it: packets and bytes that the client did not take when it was last written to.
    pub noted_waiting: (u64, u64),
}

/// Who is at the other end, from CONNECT on.
#[derive(Debug)]
pub struct Client {
    pub id: Box<str>,
    pub version: Version,
    /// It is a bridge of 3.x, by the high bit of its protocol level.
    pub bridge: bool,
    /// The store's number; 0 until the claim is granted.
    pub number: ClientNumber,
    /// The session is the store's.
    pub stored: bool,
    pub username: Option<Box<str>>,
    pub clean_start: bool,
    pub keep_alive: u16,
    /// Seconds that the session outlives the connection, now and as CONNECT said.
    pub expiry: u32,
    pub expiry_at_connect: u32,
    pub packet_bytes_max: u32,
    /// What stands before its topics, unseen.
    pub(super) mount: Option<Mount>,
    /// Towards it.
    pub aliases: Aliases,
    /// Whether it wants reason strings in what is not CONNACK or DISCONNECT.
    pub problem_information: bool,
    /// What it may do.
    pub terms: Terms,
    pub will: Option<Will>,
    pub inbound: Inbound,
    pub window: Window,
    /// Of a transient session with shared subscriptions.
    pub shares: Option<Box<Shares>>,
    pub filters: HashSet<FilterId, RandomState>,
    /// What it subscribes to and this worker's index does not have, since the store does all for it: counted only,
    /// and only if there is a limit.
    pub filters_at_store: HashSet<Box<str>, RandomState>,
    /// Answers to retained requests that are under way, and what came live meanwhile.
    pub retained_pending: u32,
    pub seen_live: SeenLive,
    /// SUBACKs that wait for other members, and what the store's deliveries have to say behind them.
    pub subacks_owed: u32,
    pub behind_suback: Vec<u8>,
    /// Retained requests that the store has not answered, and what to ask for next.
    pub retained_requested: usize,
    pub retained_waiting: VecDeque<(Box<str>, LocalSubscription)>,
    /// Those of which a slice came; the topic behind which to go on when the client has taken it.
    pub retained_resting: VecDeque<(RetainedWait, Box<str>)>,
    /// The client id was assigned by the broker, the keep-alive or the session cut: CONNACK says so.
    pub tell_id: bool,
    pub tell_keep_alive: bool,
    pub tell_expiry: bool,
    /// It acknowledged what was not sent, and the log said so.
    pub warned: bool,
}

impl Client {
    /// Nobody yet.
    pub fn unknown() -> Self {
        Self {
            id: Box::default(),
            version: Version::V311,
            bridge: false,
            number: ClientNumber(0),
            stored: false,
            username: None,
            clean_start: true,
            keep_alive: 0,
            expiry: 0,
            expiry_at_connect: 0,
            packet_bytes_max: u32::MAX,
            mount: None,
            aliases: Aliases::default(),
            problem_information: true,
            terms: Terms::STRANGER,
            will: None,
            inbound: Inbound::default(),
            window: Window::new(u16::MAX, u64::MAX),
            shares: None,
            filters: HashSet::default(),
            filters_at_store: HashSet::default(),
            retained_pending: 0,
            seen_live: SeenLive::default(),
            subacks_owed: 0,
            behind_suback: Vec::new(),
            retained_requested: 0,
            retained_waiting: VecDeque::new(),
            retained_resting: VecDeque::new(),
            tell_id: false,
            tell_keep_alive: false,
            tell_expiry: false,
            warned: false,
        }
    }
}

impl Connection {
    pub fn new(from: AcceptedFrom, output_bytes_max: usize, now: Instant) -> Self {
        Self {
            from,
            stage: Stage::AwaitConnect,
            client: Client::unknown(),
            partial: Vec::new(),
            has_ended: false,
            is_pointless: false,
            output: Output::default(),
            output_bytes_max,
            dirty: false,
            held: 0,
            greeted: false,
            held_bytes: 0,
            evicting: None,
            credit: Credit::default(),
            pause: Pause::No,
            slowed: false,
            heard: now,
            look_at: now,
            reached: (0, 0),
            dropping: false,
            packets_waiting: 0,
            noted_waiting: (0, 0),
        }
    }

    /// Bytes that wait to be written, or to be allowed to.
    pub fn unsent(&self) -> usize {
        self.output.len() + self.held_bytes + self.client.behind_suback.len()
    }

    /// Takes no more of what can be dropped or can wait.
    pub fn is_full(&self) -> bool {
        self.unsent() >= self.output_bytes_max
    }
}

/// A will, kept until the connection ends.
#[derive(Clone, PartialEq, Debug)]
pub struct Will {
    pub qos: Qos,
    pub retain: bool,
    pub delay_secs: u32,
    pub topic: Box<str>,
    pub properties: Box<[u8]>,
    pub payload: Box<[u8]>,
}

impl Will {
    /// As it travels with the claim.
    pub fn record(&self) -> WillRecord<'_> {
        WillRecord {
            qos: self.qos,
            retain: self.retain,
            delay_secs: self.delay_secs,
            topic: &self.topic,
            properties: &self.properties,
            payload: &self.payload,
        }
    }
}

/// What a local subscriber asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LocalSubscription {
    pub options: SubscriptionOptions,
    /// 0 is none.
    pub identifier: u32,
}

/// The options byte of SUBSCRIBE [MQTT5-3.8.3.1].
pub fn options_byte(options: SubscriptionOptions) -> u8 {
    options.qos as u8
        | u8::from(options.no_local) << 2
        | u8::from(options.retain_as_published) << 3
        | (options.retain_handling as u8) << 4
}

/// The options of a byte that [`options_byte`] made; unknown bits count as 0.
pub fn options_from(byte: u8) -> SubscriptionOptions {
    SubscriptionOptions {
        qos: Qos::from_bits(byte & 3).unwrap_or_default(),
        no_local: byte & 4 != 0,
        retain_as_published: byte & 8 != 0,
        retain_handling: match byte >> 4 & 3 {
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => RetainHandling::Send,
        },
    }
}
