//! Whole connections per second: connect, CONNECT, CONNACK, DISCONNECT, and the broker's close.

use std::net::SocketAddrV4;
use std::time::{Duration, Instant};

use mosquitto::mqtt::{Packet, Version};

use crate::Failure;
use crate::args::Args;
use crate::broker::{Broker, Cpu};
use crate::histogram::Histogram;
use crate::json::Object;
use crate::packets;
use crate::poll::{Poll, Ready};
use crate::traffic::{nonce, seconds, version};
use crate::wire::{Got, READ_BYTES, Wire, source_address};

/// Connections from one source address before the next has its turn: far fewer than it has ports, so that those that
/// wait out their end in the kernel are never in the way.
const CONNECTIONS_PER_ADDRESS: u64 = 2000;

pub fn main(args: &mut Args) -> Result<(), Failure> {
    let target = args.target()?;
    let version = version(args)?;
    let concurrency: usize = args.take("concurrency", 64)?;
    let warmup = seconds(args, "warmup", 0.5)?;
    let measure = seconds(args, "seconds", 3.0)?;
    let stall = seconds(args, "stall", 10.0)?;
    let broker = args.take_option("broker-pid")?.map(Broker::new);
    args.finish()?;

    let mut run = Run::new(target, version, concurrency.max(1), stall)?;
    run.turns(warmup)?;
    run.connections = 0;
    run.latency.clear();
    let (before, from) = (Cpu::now(broker), Instant::now());
    run.turns(measure)?;
    let (took, cpu, connections) = (
        from.elapsed(),
        Cpu::now(broker).since(before),
        run.connections,
    );
    let pss = broker.and_then(Broker::pss_kib);
    run.open = false;
    run.settle()?;

    Object::new()
        .number("connections", connections)
        .number("seconds", format_args!("{:.3}", took.as_secs_f64()))
        .number(
            "per_second",
            format_args!("{:.0}", connections as f64 / took.as_secs_f64()),
        )
        .number(
            "broker_cpu_seconds",
            format_args!("{:.4}", cpu.broker.as_secs_f64()),
        )
        .number(
            "own_cpu_seconds",
            format_args!("{:.4}", cpu.own.as_secs_f64()),
        )
        .maybe("p50_us", run.latency.micros(0.5))
        .maybe("p99_us", run.latency.micros(0.99))
        .maybe("p999_us", run.latency.micros(0.999))
        .maybe("max_us", run.latency.micros(1.0))
        .maybe("pss_kib", pss)
        .print();
    Ok(())
}

struct Run {
    target: SocketAddrV4,
    version: Version,
    nonce: u32,
    stall: Duration,
    poll: Poll,
    clients: Vec<Option<Client>>,
    buffer: Vec<u8>,
    /// A connection that ends is followed by the next.
    open: bool,
    begun: u64,
    /// Ended as they should.
    connections: u64,
    latency: Histogram,
    heard: Instant,
}

struct Client {
    wire: Wire,
    began: Instant,
    /// CONNACK came and DISCONNECT went.
    left: bool,
}

impl Run {
    fn new(
        target: SocketAddrV4,
        version: Version,
        concurrency: usize,
        stall: Duration,
    ) -> Result<Self, Failure> {
        let mut run = Self {
            target,
            version,
            nonce: nonce(),
            stall,
            poll: Poll::new()?,
            clients: (0..concurrency).map(|_| None).collect(),
            buffer: vec![0; READ_BYTES],
            open: true,
            begun: 0,
            connections: 0,
            latency: Histogram::new(),
            heard: Instant::now(),
        };
        for slot in 0..concurrency {
            run.begin(slot)?;
        }
        Ok(run)
    }

    fn begin(&mut self, slot: usize) -> Result<(), Failure> {
        let source = source_address(1 + self.begun / CONNECTIONS_PER_ADDRESS);
        let mut wire = Wire::connect(self.target, Some(source), self.version)?;
        packets::connect(
            self.version,
            &format!("load-{:08x}-{}", self.nonce, self.begun),
            60,
            &mut wire.out,
        );
        self.poll.add(wire.fd(), slot)?;
        self.begun += 1;
        if let Some(place) = self.clients.get_mut(slot) {
            *place = Some(Client {
                wire,
                began: Instant::now(),
                left: false,
            });
        }
        Ok(())
    }

    fn turns(&mut self, time: Duration) -> Result<(), Failure> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn()?;
        }
        Ok(())
    }

    fn settle(&mut self) -> Result<(), Failure> {
        while self.clients.iter().any(Option::is_some) {
            self.turn()?;
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), Failure> {
        let mut ready = Vec::new();
        self.poll.wait(10, &mut ready)?;
        for Ready {
            token,
            readable,
            ended,
            ..
        } in ready
        {
            self.serve(token, readable, ended)?;
        }
        if self.heard.elapsed() > self.stall {
            return Err(Failure::Broker(format!(
                "the broker answers no connection; {} were served",
                self.connections
            )));
        }
        Ok(())
    }

    fn serve(&mut self, slot: usize, readable: bool, ended: bool) -> Result<(), Failure> {
        let Some(client) = self.clients.get_mut(slot).and_then(Option::as_mut) else {
            return Ok(());
        };
        let mut got = Got::All;
        if readable {
            let (version, left) = (self.version, &mut client.left);
            got = client
                .wire
                .read(&mut self.buffer, ended, |packet, out, at| match packet {
                    Packet::Connack(c) if c.code == 0 && !*left => {
                        *left = true;
                        self.latency.record(nanos(at - client.began));
                        packets::disconnect(version, out);
                        Ok(())
                    }
                    other => Err(format!("{other:?} came instead of CONNACK")),
                })
                .map_err(Failure::Broker)?;
        }
        // The broker may have closed before our DISCONNECT was written only if it did so without being asked.
        if client.wire.flush().is_err() || got == Got::End {
            if !client.left {
                return Err(Failure::Broker(
                    "a connection was closed before CONNACK".into(),
                ));
            }
            self.connections += 1;
            self.heard = Instant::now();
            if let Some(place) = self.clients.get_mut(slot) {
                *place = None;
            }
            if self.open {
                self.begin(slot)?;
            }
        }
        Ok(())
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
