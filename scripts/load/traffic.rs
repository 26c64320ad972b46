//! Messages from publishers to subscribers: as fast as the broker can, or at a rate; and what that costs.

use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mosquitto::mqtt::encode::encode;
use mosquitto::mqtt::{Packet, Qos, Topic, Version};

use crate::Failure;
use crate::args::Args;
use crate::broker::{Broker, Cpu};
use crate::histogram::Histogram;
use crate::json::Object;
use crate::packets::{self, Stamp};
use crate::poll::{Poll, Ready};
use crate::publisher::{Common, Due, Publisher};
use crate::subscriber::{Faults, Subscriber};
use crate::wire::{Got, READ_BYTES, Wire};

/// Who hears whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// Publisher N to subscriber N.
    Pairs,
    /// Every publisher to every subscriber, on one topic each.
    FanOut,
    /// The same, but the subscribers use one filter with a wildcard.
    FanIn,
}

/// What a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    pub target: SocketAddrV4,
    pub shape: Shape,
    pub publishers: u32,
    pub subscribers: u32,
    pub qos: Qos,
    pub version: Version,
    /// Messages that each publisher keeps in flight at most.
    pub window: u16,
    pub payload_bytes: usize,
    /// Deliveries per second, all together; 0 is as fast as it goes.
    pub rate: f64,
    pub warmup: Duration,
    pub measure: Duration,
    /// At full speed: this program rests before each turn, at most so long, so that it reads and writes many
    /// messages at once; otherwise it spends more CPU on single messages than most brokers do.
    pub nap_max: Duration,
    /// Without any packet from the broker for so long, though it owes some, it has failed.
    pub stall: Duration,
    pub broker: Option<Broker>,
    /// Begins client ids and topics, so that runs do not meet.
    pub nonce: u32,
}

/// What a run found.
#[derive(Debug)]
pub struct Report {
    /// Of the measured part.
    pub delivered: u64,
    pub took: Duration,
    pub cpu: Cpu,
    pub latency: Histogram,
    pub pss_kib: Option<u64>,
    /// Of the whole run.
    pub sent: u64,
    pub faults: Faults,
}

pub fn main(args: &mut Args) -> Result<(), Failure> {
    let shape: String = args.take("shape", "pairs".into())?;
    let qos = packets::qos(args.take("qos", 0)?)?;
    let rate: f64 = args.take("rate", 0.0)?;
    let plan = Plan {
        target: args.target()?,
        shape: match shape.as_str() {
            "pairs" => Shape::Pairs,
            "fan-out" => Shape::FanOut,
            "fan-in" => Shape::FanIn,
            _ => return Err(Failure::Usage(format!("--shape: \"{shape}\" is none"))),
        },
        publishers: args.take("publishers", 10)?,
        subscribers: args.take("subscribers", 10)?,
        qos,
        version: version(args)?,
        window: args
            .take("window", if qos == Qos::AtMostOnce { 100 } else { 20 })?
            .clamp(1, u16::MAX / 2),
        payload_bytes: args.take("payload", 64)?.clamp(Stamp::BYTES, 1 << 19),
        rate,
        warmup: seconds(args, "warmup", 0.5)?,
        measure: seconds(args, "seconds", 3.0)?,
        nap_max: Duration::from_micros(args.take("nap", 500)?),
        stall: seconds(args, "stall", 10.0)?,
        broker: args.take_option("broker-pid")?.map(Broker::new),
        nonce: nonce(),
    };
    args.finish()?;
    let report = run(&plan, &AtomicBool::new(false))?;
    report.print();
    report.verdict()
}

/// Runs `plan` to its end, or until `stop` is set; what was sent until then is still awaited and checked.
pub fn run(plan: &Plan, stop: &AtomicBool) -> Result<Report, Failure> {
    let mut run = Run::new(plan)?;
    run.set_up()?;
    run.load(stop)?;
    let pss_kib = plan.broker.and_then(Broker::pss_kib);
    run.settle()?;
    Ok(run.report(pss_kib))
}

/// Seconds from the command line.
pub fn seconds(args: &mut Args, name: &str, default: f64) -> Result<Duration, Failure> {
    let value: f64 = args.take(name, default)?;
    Duration::try_from_secs_f64(value.min(3600.0))
        .map_err(|e| Failure::Usage(format!("--{name}: {e}")))
}

/// Protocol level from the command line.
pub fn version(args: &mut Args) -> Result<Version, Failure> {
    match args.take("version", 4_u8)? {
        3 => Ok(Version::V31),
        4 => Ok(Version::V311),
        5 => Ok(Version::V5),
        other => Err(Failure::Usage(format!("--version: {other} is none"))),
    }
}

/// A number that another run most likely does not have.
pub fn nonce() -> u32 {
    let nanos = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .map_or(0, |d| d.subsec_nanos());
    nanos ^ std::process::id().rotate_left(16)
}

impl Report {
    fn print(&self) {
        let per_second = self.delivered as f64 / self.took.as_secs_f64();
        let mut object = Object::new();
        object
            .number("delivered", self.delivered)
            .number("seconds", format_args!("{:.3}", self.took.as_secs_f64()))
            .number("per_second", format_args!("{per_second:.0}"))
            .number(
                "broker_cpu_seconds",
                format_args!("{:.4}", self.cpu.broker.as_secs_f64()),
            )
            .number(
                "own_cpu_seconds",
                format_args!("{:.4}", self.cpu.own.as_secs_f64()),
            )
            .maybe("p50_us", self.latency.micros(0.5))
            .maybe("p99_us", self.latency.micros(0.99))
            .maybe("p999_us", self.latency.micros(0.999))
            .maybe("max_us", self.latency.micros(1.0))
            .maybe("pss_kib", self.pss_kib)
            .number("sent", self.sent)
            .number("lost", self.faults.lost)
            .number("repeated", self.faults.repeated)
            .number("foreign", self.faults.foreign)
            .number("altered", self.faults.altered)
            .text(
                "first_fault",
                self.faults.first.as_deref().unwrap_or_default(),
            );
        object.print();
    }

    /// Bad if a single message was not as it must be.
    pub fn verdict(&self) -> Result<(), Failure> {
        let f = &self.faults;
        if f.count() == 0 {
            return Ok(());
        }
        let first = f.first.as_deref().unwrap_or_default();
        Err(Failure::Broker(format!(
            "of {} sent: {} lost, {} repeated, {} foreign, {} altered; first: {first}",
            self.sent, f.lost, f.repeated, f.foreign, f.altered
        )))
    }
}

struct Run<'p> {
    plan: &'p Plan,
    poll: Poll,
    /// The publishers' connections, then the subscribers'.
    wires: Vec<Wire>,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    topics: Vec<String>,
    meter: Meter,
    buffer: Vec<u8>,
    /// Connections that may have more to read than was read.
    unread: Vec<usize>,
    /// Connections that have something to write since this turn.
    dirty: Vec<usize>,
    /// Publishing goes on.
    loading: bool,
    pace: Option<Pace>,
    /// The rest before each turn of full speed.
    nap: Duration,
    /// The measured part.
    took: Duration,
    cpu: Cpu,
}

/// What is counted while packets come in.
struct Meter {
    began: Instant,
    connected: usize,
    subscribed: usize,
    pongs: usize,
    measuring: bool,
    /// While measuring; the latencies too.
    delivered: u64,
    latency: Histogram,
    faults: Faults,
    /// The last packet from the broker.
    heard: Instant,
}

/// Paced load: which publisher is next, and when.
struct Pace {
    interval: Duration,
    next: u64,
    turn: usize,
}

impl<'p> Run<'p> {
    fn new(plan: &'p Plan) -> Result<Self, Failure> {
        let heard_by_each = plan.shape == Shape::Pairs;
        if plan.publishers == 0
            || plan.subscribers == 0
            || heard_by_each && plan.publishers != plan.subscribers
        {
            return Err(Failure::Usage(
                "pairs need as many publishers as subscribers, and all need one".into(),
            ));
        }
        let common = Common {
            qos: plan.qos,
            version: plan.version,
            window: plan.window,
            payload_bytes: plan.payload_bytes,
            nonce: plan.nonce,
            deliveries_per_message: if heard_by_each {
                1
            } else {
                plan.subscribers as usize
            },
        };
        let topics: Vec<String> = (0..plan.publishers)
            .map(|p| format!("load/{:08x}/{p}", plan.nonce))
            .collect();
        let publishers = (0..)
            .zip(&topics)
            .filter_map(|(p, t)| Some(Publisher::new(p, Topic::new(t)?, common)));
        let subscribers = (0..plan.subscribers).map(|s| match plan.shape {
            Shape::Pairs => {
                Subscriber::new(format!("load/{:08x}/{s}", plan.nonce), common, s..s + 1)
            }
            Shape::FanOut if plan.publishers == 1 => Subscriber::new(topics.concat(), common, 0..1),
            _ => Subscriber::new(
                format!("load/{:08x}/+", plan.nonce),
                common,
                0..plan.publishers,
            ),
        });
        let now = Instant::now();
        Ok(Self {
            plan,
            poll: Poll::new()?,
            wires: Vec::new(),
            publishers: publishers.collect(),
            subscribers: subscribers.collect(),
            topics,
            meter: Meter {
                began: now,
                connected: 0,
                subscribed: 0,
                pongs: 0,
                measuring: false,
                delivered: 0,
                latency: Histogram::new(),
                faults: Faults::default(),
                heard: now,
            },
            buffer: vec![0; READ_BYTES],
            unread: Vec::new(),
            dirty: Vec::new(),
            loading: false,
            pace: None,
            nap: plan.nap_max,
            took: Duration::ZERO,
            cpu: Cpu::default(),
        })
    }

    /// Connects all and waits for every SUBACK.
    fn set_up(&mut self) -> Result<(), Failure> {
        let all = self.publishers.len() + self.subscribers.len();
        for token in 0..all {
            let mut wire = Wire::connect(self.plan.target, None, self.plan.version)?;
            let client_id = format!("load-{:08x}-{token}", self.plan.nonce);
            packets::connect(self.plan.version, &client_id, 60, &mut wire.out);
            if let Some(subscriber) = token
                .checked_sub(self.publishers.len())
                .and_then(|s| self.subscribers.get(s))
            {
                packets::subscribe(
                    self.plan.version,
                    &subscriber.filter,
                    self.plan.qos,
                    &mut wire.out,
                )?;
            }
            self.poll.add(wire.fd(), token)?;
            self.wires.push(wire);
        }
        while self.meter.connected < all || self.meter.subscribed < self.subscribers.len() {
            self.turn(100)?;
            self.check_stall("waiting for CONNACK and SUBACK")?;
        }
        Ok(())
    }

    /// Publishes for as long as the plan says; counts what comes after the warm-up.
    fn load(&mut self, stop: &AtomicBool) -> Result<(), Failure> {
        self.start_pace()?;
        self.loading = true;
        let warm_at = Instant::now() + self.plan.warmup;
        while Instant::now() < warm_at && !stop.load(Ordering::Relaxed) {
            self.turn(10)?;
            self.check_stall("warming up")?;
        }
        let (cpu, from) = (Cpu::now(self.plan.broker), Instant::now());
        self.meter.measuring = true;
        while from.elapsed() < self.plan.measure && !stop.load(Ordering::Relaxed) {
            self.turn(10)?;
            self.check_stall("under load")?;
        }
        self.meter.measuring = false;
        self.took = from.elapsed();
        self.cpu = Cpu::now(self.plan.broker).since(cpu);
        self.loading = false;
        Ok(())
    }

    /// Waits for what is in flight, then for one PINGRESP on each connection: what a broker wrongly sends twice has
    /// most likely come before that.
    fn settle(&mut self) -> Result<(), Failure> {
        let began = Instant::now();
        while !self.publishers.iter().all(Publisher::is_settled) {
            self.turn(10)?;
            if self.meter.heard.max(began).elapsed() > self.plan.stall {
                break;
            }
        }
        let sent: Vec<u64> = self.publishers.iter().map(Publisher::sent).collect();
        for subscriber in &self.subscribers {
            subscriber.finish(&sent, &mut self.meter.faults);
        }
        for (token, wire) in self.wires.iter_mut().enumerate() {
            encode(&Packet::Pingreq, self.plan.version, &mut wire.out);
            self.dirty.push(token);
        }
        self.meter.heard = Instant::now();
        while self.meter.pongs < self.wires.len() {
            self.turn(100)?;
            self.check_stall("waiting for PINGRESP")?;
        }
        for wire in &mut self.wires {
            packets::disconnect(self.plan.version, &mut wire.out);
            let _ = wire.flush();
        }
        Ok(())
    }

    /// Waits at most `timeout_ms`, reads everything, publishes what the windows allow, and writes everything.
    fn turn(&mut self, timeout_ms: u16) -> Result<(), Failure> {
        if self.loading && self.pace.is_none() {
            std::thread::sleep(self.nap);
        }
        let timeout_ms = if self.unread.is_empty() {
            timeout_ms
        } else {
            0
        };
        let mut ready = Vec::new();
        self.poll.wait(timeout_ms, &mut ready)?;
        for token in std::mem::take(&mut self.unread) {
            self.read(token, true)?;
        }
        for Ready {
            token,
            readable,
            writable,
            ended,
        } in ready
        {
            if readable {
                self.read(token, ended)?;
            } else if writable {
                self.dirty.push(token);
            }
        }
        if self.loading {
            self.publish();
        }
        for token in std::mem::take(&mut self.dirty) {
            if let Some(Err(e)) = self.wires.get_mut(token).map(Wire::flush) {
                return Err(self.closed(token, &e.to_string()));
            }
        }
        Ok(())
    }

    fn read(&mut self, token: usize, ended: bool) -> Result<(), Failure> {
        let Self {
            wires,
            publishers,
            subscribers,
            topics,
            meter,
            buffer,
            ..
        } = self;
        let Some(wire) = wires.get_mut(token) else {
            return Ok(());
        };
        let subscriber = token.checked_sub(publishers.len());
        let got = wire.read(buffer, ended, |packet, out, at| {
            meter.heard = at;
            match packet {
                Packet::Connack(c) if c.code == 0 => meter.connected += 1,
                Packet::Suback(s) if s.codes.iter().all(|c| *c < 0x80) => meter.subscribed += 1,
                Packet::Pingresp => meter.pongs += 1,
                _ => match (
                    subscriber.and_then(|s| subscribers.get_mut(s)),
                    publishers.get_mut(token),
                ) {
                    (Some(subscriber), _) => {
                        let arrival =
                            subscriber.on_packet(packet, topics, &mut meter.faults, out)?;
                        if let Some(arrival) = arrival {
                            meter.count(&arrival.stamp, at);
                            if let Some(publisher) =
                                publishers.get_mut(arrival.stamp.publisher as usize)
                            {
                                (arrival.from..=arrival.stamp.seq)
                                    .for_each(|seq| publisher.delivered(seq));
                            }
                        }
                    }
                    (None, Some(publisher)) => publisher.on_packet(packet, out)?,
                    (None, None) => {}
                },
            }
            Ok(())
        });
        self.dirty.push(token);
        match got {
            Ok(Got::All) => Ok(()),
            Ok(Got::More) => {
                self.unread.push(token);
                Ok(())
            }
            Ok(Got::End) => Err(self.closed(token, "the broker closed")),
            Err(what) => Err(self.closed(token, &what)),
        }
    }

    /// Fills the windows, or sends what is due.
    fn publish(&mut self) {
        let now = self.meter.nanos(Instant::now());
        if let Some(pace) = &mut self.pace {
            for (publisher, due) in pace.due(now, self.publishers.len()) {
                if let Some(publisher) = self.publishers.get_mut(publisher) {
                    publisher.overdue.push_back(due);
                }
            }
        }
        let paced = self.pace.is_some();
        let mut sent = 0;
        for (token, (publisher, wire)) in
            self.publishers.iter_mut().zip(&mut self.wires).enumerate()
        {
            let before = publisher.sent();
            while publisher.may_send() {
                // What the window held back is as old as its due time, so that a slow broker cannot hide its
                // slowness by slowing this program.
                let stamp = match publisher.overdue.pop_front() {
                    Some(Due { at, held: true }) => at,
                    Some(_) => now,
                    None if paced => break,
                    None => now,
                };
                publisher.send(stamp, &mut wire.out);
            }
            publisher.overdue.iter_mut().for_each(|due| due.held = true);
            sent += publisher.sent() - before;
            if publisher.sent() > before {
                self.dirty.push(token);
            }
        }
        self.adapt_nap(sent);
    }

    /// A turn should find about a third of what can be under way: with much less there are too many turns, with
    /// much more the broker may have waited for this program. Above QoS 0 the broker's own window to each subscriber
    /// bounds that too.
    fn adapt_nap(&mut self, sent: u64) {
        let mut most = u64::from(self.plan.window) * u64::from(self.plan.publishers) * self.fan();
        if self.plan.qos != Qos::AtMostOnce {
            most = most.min(BROKER_WINDOW * u64::from(self.plan.subscribers));
        }
        let delivered = sent * self.fan();
        if delivered * 4 < most {
            self.nap = (self.nap + NAP_STEP).min(self.plan.nap_max);
        } else if delivered * 2 > most {
            self.nap /= 2;
        }
    }

    /// Deliveries of each message.
    fn fan(&self) -> u64 {
        if self.plan.shape == Shape::Pairs {
            1
        } else {
            u64::from(self.plan.subscribers)
        }
    }

    fn start_pace(&mut self) -> Result<(), Failure> {
        // The kernel's default slack of 50 us would be a good part of the latency that is measured.
        nix::sys::prctl::set_timerslack(1)?;
        if self.plan.rate <= 0.0 {
            return Ok(());
        }
        let interval = Duration::try_from_secs_f64(self.fan() as f64 / self.plan.rate)
            .map_err(|e| Failure::Usage(format!("--rate: {e}")))?
            .max(Duration::from_micros(1));
        self.poll.tick(interval.max(TICK_MIN))?;
        self.pace = Some(Pace {
            interval,
            next: self.meter.nanos(Instant::now()),
            turn: 0,
        });
        Ok(())
    }

    fn check_stall(&self, when: &str) -> Result<(), Failure> {
        let owed = !self.loading || !self.publishers.iter().all(Publisher::is_settled);
        if !owed || self.meter.heard.elapsed() < self.plan.stall {
            return Ok(());
        }
        Err(Failure::Broker(format!(
            "the broker says nothing for {:.1} s {when}; {}",
            self.plan.stall.as_secs_f64(),
            self.counts()
        )))
    }

    fn closed(&self, token: usize, why: &str) -> Failure {
        let who = match token.checked_sub(self.publishers.len()) {
            None => format!("publisher {token}"),
            Some(subscriber) => format!("subscriber {subscriber}"),
        };
        Failure::Broker(format!("the connection of {who}: {why}; {}", self.counts()))
    }

    fn counts(&self) -> String {
        let (meter, faults) = (&self.meter, &self.meter.faults);
        format!(
            "{} of {} connected, {} of {} subscribed, {} sent, {} faults{}{}",
            meter.connected,
            self.wires.len(),
            meter.subscribed,
            self.subscribers.len(),
            self.publishers.iter().map(Publisher::sent).sum::<u64>(),
            faults.count(),
            if faults.first.is_some() {
                ", first: "
            } else {
                ""
            },
            faults.first.as_deref().unwrap_or_default(),
        )
    }

    fn report(self, pss_kib: Option<u64>) -> Report {
        Report {
            delivered: self.meter.delivered,
            took: self.took,
            cpu: self.cpu,
            latency: self.meter.latency,
            pss_kib,
            sent: self.publishers.iter().map(Publisher::sent).sum(),
            faults: self.meter.faults,
        }
    }
}

impl Meter {
    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_nanos()).unwrap_or(u64::MAX)
    }

    fn count(&mut self, stamp: &Stamp, at: Instant) {
        if self.measuring {
            self.delivered += 1;
            self.latency
                .record(self.nanos(at).saturating_sub(stamp.nanos));
        }
    }
}

impl Pace {
    /// The publishers whose turn has come until `now`, each with its time.
    fn due(&mut self, now: u64, publishers: usize) -> Vec<(usize, Due)> {
        let mut due = Vec::new();
        let interval = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        while self.next <= now {
            due.push((
                self.turn,
                Due {
                    at: self.next,
                    held: false,
                },
            ));
            self.turn = (self.turn + 1) % publishers;
            self.next = self.next.saturating_add(interval);
        }
        due
    }
}

/// Messages that a broker has unacknowledged with one subscriber: the default of `max_inflight_messages`.
const BROKER_WINDOW: u64 = 20;

/// How fast the rests grow.
const NAP_STEP: Duration = Duration::from_micros(10);

/// Timer ticks are not closer than this; several messages may share one.
const TICK_MIN: Duration = Duration::from_micros(50);
