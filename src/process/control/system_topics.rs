//! PURE: what `$SYS` says: (figures, now) -> the topics whose value has changed.
//!
//! Names and forms of the values are those of the original; what is ours is below `workers` and, of the store, below
//! `store`. Figures come added up over all lives of a process, so that no total ever goes back.

use std::collections::BTreeMap;

use crate::base::clock::Instant;
use crate::base::figures::Figures;
use crate::base::ids::MemberId;

/// One member, with what its predecessors left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberFigures {
    pub member: MemberId,
    /// How often it was started again.
    pub restarts: u32,
    pub figures: Figures,
}

/// A value that is to be published.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Change {
    pub topic: String,
    pub value: String,
}

/// What was published, and what the loads were.
#[derive(Debug)]
pub struct SystemTopics {
    started: Instant,
    published: BTreeMap<String, String>,
    loads: Vec<Load>,
    last: Option<(Instant, Figures)>,
}

/// One figure's averages.
#[derive(Debug)]
struct Load {
    name: &'static str,
    of: fn(&Figures) -> u64,
    averages: [Average; SPANS.len()],
}

#[derive(Clone, Copy, Debug, Default)]
struct Average {
    per_minute: f64,
    published: Option<f64>,
}

impl SystemTopics {
    /// Nothing is published yet, of a broker that started at `started`.
    pub fn new(started: Instant) -> Self {
        let load = |(name, of): &(&'static str, fn(&Figures) -> u64)| Load {
            name,
            of: *of,
            averages: Default::default(),
        };
        Self {
            started,
            published: BTreeMap::new(),
            loads: LOADS.iter().map(load).collect(),
            last: None,
        }
    }

    /// Nobody knows any more what was published.
    pub fn forget_published(&mut self) {
        self.published.clear();
        for average in self.loads.iter_mut().flat_map(|l| &mut l.averages) {
            average.published = None;
        }
    }

    /// What has changed since the last time.
    pub fn update(&mut self, members: &[MemberFigures], now: Instant) -> Vec<Change> {
        let mut all = Figures::default();
        for one in members {
            all.add(&one.figures);
        }
        let mut changes = Vec::new();
        self.broker(&all, now, &mut changes);
        for one in members {
            self.member(one, &mut changes);
        }
        self.update_loads(&all, now, &mut changes);
        self.last = Some((now, all));
        changes
    }

    fn broker(&mut self, all: &Figures, now: Instant, out: &mut Vec<Change>) {
        let version = env!("CARGO_PKG_VERSION");
        self.text("version", format!("mosquitto version {version}"), out);
        let uptime = now.since(self.started).as_secs();
        self.text("uptime", format!("{uptime} seconds"), out);
        for (name, of) in NUMBERS {
            self.number(name, of(all), out);
        }
        for (packet, nth) in PACKETS.iter().zip(1..) {
            for (way, counts) in [("received", &all.received), ("sent", &all.sent)] {
                let count = counts.get(nth).copied().unwrap_or(0);
                self.number(&format!("mqtt/{packet}/{way}"), count, out);
            }
        }
    }

    fn member(&mut self, one: &MemberFigures, out: &mut Vec<Change>) {
        let (branch, own) = match one.member.slot().checked_sub(1) {
            None => ("store".to_owned(), OF_THE_STORE),
            Some(worker) => (format!("workers/{worker}"), OF_WORKERS),
        };
        for (name, of) in own.iter().chain(OF_MEMBERS) {
            self.number(&format!("{branch}/{name}"), of(&one.figures), out);
        }
        self.number(&format!("{branch}/restarts"), one.restarts.into(), out);
    }

    fn number(&mut self, name: &str, value: u64, out: &mut Vec<Change>) {
        self.text(name, value.to_string(), out);
    }

    fn text(&mut self, name: &str, value: String, out: &mut Vec<Change>) {
        let known = self.published.get_mut(name);
        if known.as_ref().is_some_and(|known| **known == value) {
            return;
        }
        match known {
            Some(known) => known.clone_from(&value),
            None => drop(self.published.insert(name.to_owned(), value.clone())),
        }
        out.push(change(name, value));
    }

    /// Each average comes nearer to what the last interval would have brought in a minute, the shorter its span the
    /// nearer.
    fn update_loads(&mut self, all: &Figures, now: Instant, out: &mut Vec<Change>) {
        let last = self.last.as_ref();
        for load in &mut self.loads {
            for (average, (span, minutes)) in load.averages.iter_mut().zip(SPANS) {
                if let Some((at, before)) = last {
                    let grown = (load.of)(all).saturating_sub((load.of)(before));
                    average.follow(grown, now.since(*at).as_secs_f64(), minutes);
                }
                if let Some(value) = average.news() {
                    out.push(change(&format!("load/{}/{span}", load.name), value));
                }
            }
        }
    }
}

impl Average {
    fn follow(&mut self, grown: u64, seconds: f64, minutes: f64) {
        if seconds > 0.0 {
            // Beyond 2^53 the last digits are lost, which nobody sees in an average.
            let rate = grown as f64 * 60.0 / seconds;
            let stays = (-seconds / (60.0 * minutes)).exp();
            self.per_minute = rate + stays * (self.per_minute - rate);
        }
    }

    /// The value, if it has moved far enough to be seen.
    fn news(&mut self) -> Option<String> {
        let moved = |old: f64| (self.per_minute - old).abs() >= LOAD_STEP;
        if !self.published.is_none_or(moved) {
            return None;
        }
        self.published = Some(self.per_minute);
        Some(format!("{:.2}", self.per_minute))
    }
}

fn change(name: &str, value: String) -> Change {
    Change {
        topic: format!("$SYS/broker/{name}"),
        value,
    }
}

/// A load that has moved by less is not published.
const LOAD_STEP: f64 = 0.01;

/// The spans of the averages, in minutes.
const SPANS: [(&str, f64); 3] = [("1min", 1.0), ("5min", 5.0), ("15min", 15.0)];

type Named = (&'static str, fn(&Figures) -> u64);

/// By packet type, from 1 on.
const PACKETS: [&str; 15] = [
    "connect",
    "connack",
    "publish",
    "puback",
    "pubrec",
    "pubrel",
    "pubcomp",
    "subscribe",
    "suback",
    "unsubscribe",
    "unsuback",
    "pingreq",
    "pingresp",
    "disconnect",
    "auth",
];

const NUMBERS: &[Named] = &[
    ("clients/total", clients),
    ("clients/maximum", |f| f.clients_maximum),
    ("clients/connected", |f| f.clients_connected),
    ("clients/active", |f| f.clients_connected),
    ("clients/disconnected", |f| f.clients_disconnected),
    ("clients/inactive", |f| f.clients_disconnected),
    ("clients/expired", |f| f.clients_expired),
    ("messages/stored", |f| f.stored_messages),
    ("messages/received", Figures::packets_received),
    ("messages/sent", Figures::packets_sent),
    ("store/messages/count", |f| f.stored_messages),
    ("store/messages/bytes", |f| f.stored_bytes),
    ("subscriptions/count", |f| f.subscriptions),
    ("shared_subscriptions/count", |f| f.shared_subscriptions),
    ("retained messages/count", |f| f.retained),
    ("heap/current", |f| f.heap_current),
    ("heap/maximum", |f| f.heap_maximum),
    ("bytes/received", |f| f.bytes_received),
    ("bytes/sent", |f| f.bytes_sent),
    ("publish/bytes/received", |f| f.publish_bytes_received),
    ("publish/bytes/sent", |f| f.publish_bytes_sent),
    ("publish/messages/dropped", |f| f.publish_dropped),
    ("publish/messages/received", publishes_received),
    ("publish/messages/sent", publishes_sent),
    ("packet/out/count", |f| f.packets_waiting),
    ("packet/out/bytes", |f| f.packet_bytes_waiting),
    ("connections/socket/count", |f| f.sockets),
];

const LOADS: &[Named] = &[
    ("messages/received", Figures::packets_received),
    ("messages/sent", Figures::packets_sent),
    ("publish/dropped", |f| f.publish_dropped),
    ("publish/received", publishes_received),
    ("publish/sent", publishes_sent),
    ("bytes/received", |f| f.bytes_received),
    ("bytes/sent", |f| f.bytes_sent),
    ("sockets", |f| f.sockets_accepted),
    ("connections", |f| {
        f.received.get(CONNECT).copied().unwrap_or(0)
    }),
];

const OF_WORKERS: &[Named] = &[
    ("connections", |f| f.sockets),
    ("messages/received", Figures::packets_received),
    ("messages/sent", Figures::packets_sent),
    ("bytes/received", |f| f.bytes_received),
    ("bytes/sent", |f| f.bytes_sent),
    ("publish/messages/received", publishes_received),
    ("publish/messages/sent", publishes_sent),
    ("publish/messages/dropped", |f| f.publish_dropped),
];

const OF_THE_STORE: &[Named] = &[("retained/dropped", |f| f.retained_dropped)];

const OF_MEMBERS: &[Named] = &[
    ("heap/current", |f| f.heap_current),
    ("heap/maximum", |f| f.heap_maximum),
    ("queued/bytes", |f| f.queued_bytes),
    ("ring/lag", |f| f.lag_bytes),
    ("ring/overflow", |f| f.overflow_bytes),
];

const CONNECT: usize = 1;
const PUBLISH: usize = 3;

fn clients(figures: &Figures) -> u64 {
    figures
        .clients_connected
        .saturating_add(figures.clients_disconnected)
}

fn publishes_received(figures: &Figures) -> u64 {
    figures.received.get(PUBLISH).copied().unwrap_or(0)
}

fn publishes_sent(figures: &Figures) -> u64 {
    figures.sent.get(PUBLISH).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Instant = Instant(5_000_000_000);

    fn member(slot: usize, figures: Figures) -> MemberFigures {
        MemberFigures {
            member: MemberId::new(slot).unwrap(),
            restarts: 0,
            figures,
        }
    }

    fn values(changes: Vec<Change>) -> BTreeMap<String, String> {
        let count = changes.len();
        let strip = |c: Change| {
            (
                c.topic.strip_prefix("$SYS/broker/").unwrap().to_owned(),
                c.value,
            )
        };
        let all: BTreeMap<_, _> = changes.into_iter().map(strip).collect();
        assert_eq!(all.len(), count, "no topic comes twice");
        all
    }

    fn busy(n: u64) -> Figures {
        let mut figures = Figures {
            bytes_received: 100 * n,
            sockets: n,
            heap_current: 1000,
            clients_connected: n,
            clients_disconnected: 1,
            ..Figures::default()
        };
        figures.received[CONNECT] = n;
        figures.received[PUBLISH] = 2 * n;
        figures
    }

    #[test]
    fn everything_is_said_once_and_then_what_changes() {
        let mut topics = SystemTopics::new(START);
        let quiet = [member(0, Figures::default()), member(1, Figures::default())];
        let first = values(topics.update(&quiet, START.after_secs(3)));
        assert_eq!(first["uptime"], "3 seconds");
        assert_eq!(
            first["version"],
            concat!("mosquitto version ", env!("CARGO_PKG_VERSION"))
        );
        for topic in [
            "clients/total",
            "retained messages/count",
            "workers/0/connections",
        ] {
            assert_eq!(first[topic], "0");
        }
        assert_eq!(first["load/sockets/15min"], "0.00");
        assert_eq!(first["mqtt/auth/sent"], "0");
        assert_eq!(first["store/ring/lag"], "0");
        let second = values(topics.update(&quiet, START.after_secs(13)));
        assert_eq!(
            second.into_iter().collect::<Vec<_>>(),
            [("uptime".into(), "13 seconds".into())]
        );
        topics.forget_published();
        let again = values(topics.update(&quiet, START.after_secs(13)));
        assert_eq!(again.len(), first.len());
    }

    #[test]
    fn figures_are_added_up_over_members_and_told_of_each() {
        let mut topics = SystemTopics::new(START);
        let mut second = member(2, busy(3));
        second.restarts = 4;
        let all = values(topics.update(&[member(1, busy(2)), second], START));
        assert_eq!(all["bytes/received"], "500");
        assert_eq!(all["clients/total"], "7");
        assert_eq!(
            (&*all["clients/active"], &*all["clients/inactive"]),
            ("5", "2")
        );
        assert_eq!(all["messages/received"], "15");
        assert_eq!(all["publish/messages/received"], "10");
        assert_eq!(all["mqtt/connect/received"], "5");
        assert_eq!(
            (
                &*all["workers/0/connections"],
                &*all["workers/1/connections"]
            ),
            ("2", "3")
        );
        assert_eq!(
            (&*all["workers/0/restarts"], &*all["workers/1/restarts"]),
            ("0", "4")
        );
        assert_eq!(
            (&*all["heap/current"], &*all["workers/1/heap/current"]),
            ("2000", "1000")
        );
        assert!(!all.keys().any(|topic| topic.starts_with("store/ring")));
    }

    #[test]
    fn loads_follow_the_rate_of_a_minute_the_slower_the_longer_their_span() {
        let mut topics = SystemTopics::new(START);
        topics.update(&[member(1, busy(0))], START);
        let loads = values(topics.update(&[member(1, busy(10))], START.after_secs(10)));
        // 10 CONNECTs in 10 s are 60 in a minute; 1 - exp(-10/60) of that is here.
        assert_eq!(loads["load/connections/1min"], "9.21");
        assert_eq!(loads["load/connections/5min"], "1.97");
        assert_eq!(loads["load/connections/15min"], "0.66");
        assert_eq!(loads["load/publish/received/1min"], "18.42");
        let later = values(topics.update(&[member(1, busy(10))], START.after_secs(70)));
        assert_eq!(later["load/connections/1min"], "3.39");
    }

    #[test]
    fn a_load_is_published_when_it_has_moved_by_a_hundredth_in_all() {
        let mut average = Average::default();
        assert_eq!(average.news().as_deref(), Some("0.00"));
        let mut said = Vec::new();
        for _ in 0..9 {
            average.per_minute += 0.003;
            said.extend(average.news());
        }
        assert_eq!(said, ["0.01", "0.02"]);
    }

    #[test]
    fn a_total_that_lies_does_no_harm() {
        let mut topics = SystemTopics::new(START);
        topics.update(&[member(1, busy(u64::MAX / 1000))], START);
        let loads = values(topics.update(&[member(1, busy(1))], START.after_secs(1)));
        assert!(!loads.contains_key("load/connections/1min"));
        let all = [
            member(1, busy(1)),
            member(
                2,
                Figures {
                    bytes_sent: u64::MAX,
                    ..busy(1)
                },
            ),
        ];
        let said = values(topics.update(&all, START.after_secs(2)));
        assert_eq!(said["bytes/received"], "200");
        assert_eq!(said["bytes/sent"], u64::MAX.to_string());
    }
}
