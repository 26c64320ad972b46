//! Many connections that do nothing: what each weighs, and what holding them costs.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use mosquitto::mqtt::encode::encode;
use mosquitto::mqtt::{Packet, Version};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::Failure;
use crate::args::Args;
use crate::broker::{Broker, Cpu};
use crate::json::Object;
use crate::packets;
use crate::poll::{Poll, Ready};
use crate::traffic::{nonce, seconds, version};
use crate::wire::{Got, READ_BYTES, Wire, source_address};

/// Long enough that nobody has to ping while this runs.
const KEEP_ALIVE_SECS: u16 = 600;
const CONNECTIONS_PER_ADDRESS: u64 = 5000;
/// Descriptors that are no connections.
const OTHER_DESCRIPTORS: u64 = 32;

pub fn main(args: &mut Args) -> Result<(), Failure> {
    let target = args.target()?;
    let version = version(args)?;
    let connections: usize = args.take("connections", 10_000)?;
    let concurrency: usize = args.take("concurrency", 256)?;
    let rest = seconds(args, "seconds", 2.0)?;
    let stall = seconds(args, "stall", 10.0)?;
    let broker = args.take_option("broker-pid")?.map(Broker::new);
    args.finish()?;
    raise_descriptor_limit(connections as u64 + OTHER_DESCRIPTORS)?;

    let pss = |broker: Option<Broker>| broker.and_then(Broker::pss_kib);
    let empty_kib = pss(broker);
    let mut run = Run {
        target,
        version,
        poll: Poll::new()?,
        wires: Vec::new(),
        connected: 0,
        pongs: 0,
        stall,
    };
    let before = Cpu::now(broker);
    let began = Instant::now();
    run.connect(connections, concurrency.max(1))?;
    let took = began.elapsed();
    let connecting = Cpu::now(broker).since(before);

    let before = Cpu::now(broker);
    run.turns(rest)?;
    let resting = Cpu::now(broker).since(before);
    let full_kib = pss(broker);
    run.ping_all()?;
    let pinged_kib = pss(broker);

    let per_connection = |kib: Option<u64>| {
        let grown = kib
            .zip(empty_kib)
            .map(|(kib, empty)| kib.saturating_sub(empty) * 1024);
        grown.map(|bytes| bytes / connections.max(1) as u64)
    };
    Object::new()
        .number("connections", connections)
        .number("seconds", format_args!("{:.3}", took.as_secs_f64()))
        .number(
            "per_second",
            format_args!("{:.0}", connections as f64 / took.as_secs_f64()),
        )
        .number(
            "broker_cpu_seconds",
            format_args!("{:.4}", connecting.broker.as_secs_f64()),
        )
        .number(
            "own_cpu_seconds",
            format_args!("{:.4}", connecting.own.as_secs_f64()),
        )
        .number(
            "idle_broker_cpu_per_second",
            format_args!("{:.5}", resting.broker.as_secs_f64() / rest.as_secs_f64()),
        )
        .maybe("pss_empty_kib", empty_kib)
        .maybe("pss_kib", full_kib)
        .maybe("bytes_per_connection", per_connection(full_kib))
        .maybe("pinged_bytes_per_connection", per_connection(pinged_kib))
        .print();
    Ok(())
}

struct Run {
    target: SocketAddrV4,
    version: Version,
    poll: Poll,
    wires: Vec<Wire>,
    connected: usize,
    pongs: usize,
    stall: Duration,
}

impl Run {
    /// Connects `count`, never more than `concurrency` that wait for CONNACK.
    fn connect(&mut self, count: usize, concurrency: usize) -> Result<(), Failure> {
        let nonce = nonce();
        let mut progress = Instant::now();
        while self.connected < count {
            while self.wires.len() < count && self.wires.len() - self.connected < concurrency {
                let token = self.wires.len();
                let source = source_address(1 + token as u64 / CONNECTIONS_PER_ADDRESS);
                let mut wire = Wire::connect(self.target, Some(source), self.version)?;
                packets::connect(
                    self.version,
                    &format!("idle-{nonce:08x}-{token}"),
                    KEEP_ALIVE_SECS,
                    &mut wire.out,
                );
                self.poll.add(wire.fd(), token)?;
                self.wires.push(wire);
            }
            let before = self.connected;
            self.turn(10)?;
            if self.connected > before {
                progress = Instant::now();
            }
            self.check_stall(progress, "CONNACK", self.connected)?;
        }
        Ok(())
    }

    fn turns(&mut self, time: Duration) -> Result<(), Failure> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn(50)?;
        }
        Ok(())
    }

    /// Every connection must still be there and answer.
    fn ping_all(&mut self) -> Result<(), Failure> {
        for wire in &mut self.wires {
            encode(&Packet::Pingreq, self.version, &mut wire.out);
            wire.flush()
                .map_err(|e| Failure::Broker(format!("an idle connection: {e}")))?;
        }
        let began = Instant::now();
        while self.pongs < self.wires.len() {
            self.turn(50)?;
            self.check_stall(began, "PINGRESP", self.pongs)?;
        }
        Ok(())
    }

    fn turn(&mut self, timeout_ms: u16) -> Result<(), Failure> {
        let mut ready = Vec::new();
        self.poll.wait(timeout_ms, &mut ready)?;
        let mut buffer = [0; READ_BYTES];
        for Ready {
            token,
            readable,
            ended,
            ..
        } in ready
        {
            let Some(wire) = self.wires.get_mut(token) else {
                continue;
            };
            let mut got = Ok(Got::All);
            if readable {
                got = wire.read(&mut buffer, ended, |packet, _, _| {
                    match packet {
                        Packet::Connack(c) if c.code == 0 => self.connected += 1,
                        Packet::Pingresp => self.pongs += 1,
                        other => return Err(format!("an idle connection received {other:?}")),
                    }
                    Ok(())
                });
            }
            if got.map_err(Failure::Broker)? == Got::End || wire.flush().is_err() {
                return Err(Failure::Broker(format!(
                    "idle connection {token} was closed; {} stood",
                    self.connected
                )));
            }
        }
        Ok(())
    }

    fn check_stall(&self, since: Instant, what: &str, have: usize) -> Result<(), Failure> {
        if since.elapsed() < self.stall {
            return Ok(());
        }
        Err(Failure::Broker(format!(
            "no {what} for {:.1} s, {have} have it",
            self.stall.as_secs_f64()
        )))
    }
}

/// Raises the soft limit of descriptors as far as needed.
pub fn raise_descriptor_limit(need: u64) -> Result<(), Failure> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if hard < need {
        return Err(Failure::Local(format!(
            "the limit of descriptors is {hard}, {need} are needed"
        )));
    }
    Ok(setrlimit(Resource::RLIMIT_NOFILE, soft.max(need), hard)?)
}
