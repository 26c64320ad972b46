//! Random histories: clients, members and faults, one small step at a time, then the book is checked.

use mosquitto::base::ids::{MemberId, MemberMask};
use mosquitto::config::Config;
use mosquitto::mqtt::{Qos, RetainHandling, SubscriptionOptions, Version};

use crate::book::{Fate, Publish};
use crate::client::{FOREVER, Link, Say};
use crate::groups::GROUPS;
use crate::limits::{QueueLimit, UNLIMITED, choose_limit};
use crate::world::{DieAt, Random, World};

const QOS: [Qos; 3] = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce];
const FILTERS: [&str; 10] = [
    "a/0", "a/1", "a/2", "a/+", "a/#", "will/#", "+/1", "r/+", "r/1", "#",
];
/// What may die in a history; each holds those before it.
const NOTHING: u64 = 0;
const WORKERS: u64 = 2;
const TAKEOVERS: u64 = 3;
const STORE: u64 = 4;

/// One history. The seed decides everything.
pub fn history(seed: u64) -> Result<(), String> {
    let mut random = Random(seed);
    let workers = 1 + random.below(6);
    let mut faults = random.below(6) as u64;
    let mut config = Config::default_local();
    config.max_inflight_messages = random.one_of(&[20, 20, 2, 1]);
    config.max_queued_messages = UNLIMITED;
    if random.one_in(5) {
        config.max_inflight_bytes = random.one_of(&[1, 3, 6]);
    }
    config.queue_qos0_messages = random.one_in(5);
    let clients = 3 + random.below(6);
    choose_limit(&mut random, clients, &mut config);
    let queue = QueueLimit::of(&config);
    let capacity = random.one_of(&[1, 2, 4, 16, 1000, 1000]);
    let mut world = World::new(random, workers, capacity, config);
    world.book.queue = queue;
    // What is dropped is judged from one rest to the next.
    world.rests = match queue {
        Some(_) => world.random.one_of(&[30, 150]),
        None => world.random.one_of(&[0, 150]),
    };
    world.chunk = world.random.one_of(&[1, 7, 200, 200]);
    for at in 0..clients {
        add_client(&mut world, at);
    }
    // A connection that breaks in time has the same look as one that is turned away.
    if world.is_limited() && world.random.one_in(2) {
        faults = NOTHING;
    }
    world.settle()?;
    observe(&mut world)?;
    let steps = 400 + world.random.below(1200);
    for _ in 0..steps {
        step(&mut world, faults)?;
    }
    finish(&mut world)
}

/// Two clients, one with a session that lasts, subscribe to all that is judged when it is missing.
fn observe(world: &mut World) -> Result<(), String> {
    let filter = match world.book.queue {
        Some(_) => "+/#",
        None => "will/+",
    };
    for client in 0..2 {
        come(world, client);
        world.settle()?;
        if world.is_up(client) {
            let options = SubscriptionOptions {
                qos: Qos::ExactlyOnce,
                ..Default::default()
            };
            subscribe(world, client, filter, options, 0);
        }
        world.settle()?;
    }
    Ok(())
}

fn add_client(world: &mut World, at: usize) {
    let version = world
        .random
        .one_of(&[Version::V311, Version::V5, Version::V5, Version::V31]);
    let index = world.client(version, at.is_multiple_of(2));
    let window = usize::from(world.config.max_inflight_messages);
    let takes = world.random.one_of(&[u16::MAX, u16::MAX, 3, 2, 1]);
    // What a group is owed is known only as long as its members' sessions are surely there.
    let shares = world.book.queue.is_none() && world.random.one_in(2);
    let expiry = match shares {
        true => FOREVER,
        false => world.random.one_of(&[FOREVER, FOREVER, 3, 10]),
    };
    let refuses = world.random.one_in(5);
    let changes = !shares && world.random.one_in(2);
    let aliases = world.random.one_of(&[0, 0, 1, 2, 20]);
    let sends_aliases = world.random.one_in(2);
    let has_bytes = world.config.max_inflight_bytes < 1000;
    let may_be_refused = world.is_limited();
    let client = &mut world.clients[index];
    client.may_be_refused = may_be_refused;
    client.shares = shares;
    client.changes = changes;
    client.window.most = window;
    client.window.bytes_most = world.config.max_inflight_bytes as usize;
    if version == Version::V5 {
        client.takes = takes;
        client.window.most = window.min(usize::from(takes));
        client.expiry = expiry;
        client.refuses = refuses;
        client.aliases.takes = aliases;
        client.aliases.sends = sends_aliases;
    }
    // Bytes may close the window earlier.
    let window = if has_bytes { 0 } else { client.window.most };
    world.book.windows.insert(index, window);
}

fn step(world: &mut World, faults: u64) -> Result<(), String> {
    world.step += 1;
    world.now.0 += world.random.next() % 500_000;
    if world.random.one_in(150) {
        world.now = world.now.after_millis(world.random.next() % 3000);
    }
    if world.rests > 0 && world.random.one_in(world.rests) {
        return rest(world);
    }
    match world.random.below(20) {
        0..=11 => some_turn(world),
        12..=14 => {
            let client = world.random.below(world.clients.len());
            world.client_reads(client)?;
        }
        // Behind slow clients queues fill.
        15..=16 if world.book.queue.is_some() && !world.random.one_in(6) => {}
        15..=16 => {
            let client = world.random.below(world.clients.len());
            let most = 1 + world.random.below(3);
            world.client_acknowledges(client, most);
        }
        17..=18 => act(world),
        _ if faults > NOTHING && world.random.one_in(8) => {
            // Some come together: a death while another one is being drained, the death of a joiner.
            for _ in 0..world.random.one_of(&[1, 1, 2, 4]) {
                fault(world, faults);
                for _ in 0..world.random.below(6) {
                    some_turn(world);
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// Everything that is under way arrives. Sometimes so much time passes that sessions expire.
fn rest(world: &mut World) -> Result<(), String> {
    world.settle()?;
    if world.random.one_in(3) {
        world.now = world.now.after_secs(world.random.one_of(&[3, 10]));
        world.settle()?;
    }
    Ok(())
}

fn some_turn(world: &mut World) {
    let slot = MemberId::new(world.random.below(world.workers + 1)).unwrap();
    let most = 1 + world.random.below(8);
    // Some inboxes are read later than others.
    let from = if world.random.one_in(3) {
        MemberMask(world.random.next())
    } else {
        MemberMask::ALL
    };
    world.turn_reading(slot, from, most, None);
}

/// Everybody comes back, everything arrives, somebody looks at what is retained, then the book is checked.
fn finish(world: &mut World) -> Result<(), String> {
    world.settle()?;
    world.close_abandoned();
    world.settle()?;
    let late = world.random.one_in(2);
    if late {
        time_passes(world)?;
    }
    for _ in 0..4 {
        for client in 0..world.clients.len() {
            if world.clients[client].changes && world.clients[client].link == Link::Down {
                (
                    world.clients[client].persistent,
                    world.clients[client].clean,
                ) = (true, false);
            }
            if world.clients[client].persistent && world.clients[client].link == Link::Down {
                let slot = world.any_worker();
                world.connect(client, slot, None);
            }
        }
        world.settle()?;
    }
    time_passes(world)?;
    if world.is_limited() {
        // Not everybody may be in.
        for client in &world.clients {
            if let (Link::Down, Some(session)) = (client.link, client.session) {
                world.book.sessions[session].ended.get_or_insert(world.step);
            }
        }
        world.book.check_sessions()?;
    } else {
        look_at_retained(world)?;
        world.book.check()?;
    }
    if world.random.one_in(3) {
        world.leave_nothing()?;
    }
    Ok(())
}

/// So long that every will is due whose session did not go on.
fn time_passes(world: &mut World) -> Result<(), String> {
    for _ in 0..2 {
        world.now = world.now.after_secs(20);
        world.settle()?;
    }
    for fate in world.book.wills.values_mut() {
        if matches!(fate, Fate::Delayed(_)) {
            *fate = Fate::Must;
        }
    }
    Ok(())
}

/// A transient and a persistent client subscribe anew.
fn look_at_retained(world: &mut World) -> Result<(), String> {
    let readers = [false, true].map(|persistent| world.client(Version::V5, persistent));
    for reader in readers {
        let slot = world.any_worker();
        world.connect(reader, slot, None);
    }
    world.settle()?;
    for reader in readers {
        let options = SubscriptionOptions {
            qos: Qos::ExactlyOnce,
            ..Default::default()
        };
        subscribe(world, reader, "r/#", options, 0);
        world.book.readers.extend(world.clients[reader].session);
    }
    world.step += 1;
    world.settle()?;
    if world.book.readers.len() < readers.len() {
        return Err("the last subscribers were not let in".into());
    }
    Ok(())
}

/// A client does something.
fn act(world: &mut World) {
    let client = world.random.below(world.clients.len());
    if !world.is_up(client) {
        if world.clients[client].link == Link::Down {
            come(world, client);
        }
        return;
    }
    match world.random.below(12) {
        0 | 1 if world.clients[client].shares => join_group(world, client),
        0..=2 => {
            let filter = any_filter(world, client);
            let options = SubscriptionOptions {
                qos: world.random.one_of(&QOS),
                no_local: world.random.one_in(4),
                retain_as_published: world.random.one_in(4),
                retain_handling: world.random.one_of(&[
                    RetainHandling::Send,
                    RetainHandling::Send,
                    RetainHandling::SendIfNew,
                    RetainHandling::DoNotSend,
                ]),
            };
            let id = world.random.one_of(&[0, 1, 2, 77, 300]);
            subscribe(world, client, filter, options, id);
        }
        3 => {
            let filter = match world.clients[client].shares && world.random.one_in(2) {
                true => world.random.one_of(&GROUPS).filter,
                false => any_filter(world, client),
            };
            let at = world.moment();
            let bytes = world.clients[client].unsubscribe(filter, &mut world.book, at);
            world.send(client, &bytes);
        }
        4 if world.random.one_in(3) => {
            let with_will = world.random.one_in(3);
            world.disconnect(client, with_will);
        }
        _ => {
            for _ in 0..1 + world.random.below(4) {
                publish(world, client);
            }
        }
    }
}

/// A filter that is not shared, and does not match what goes to groups if this client is in one.
fn any_filter(world: &mut World, client: usize) -> &'static str {
    loop {
        let filter = world.random.one_of(&FILTERS);
        if !(world.clients[client].shares && ["#", "+/1"].contains(&filter)) {
            return filter;
        }
    }
}

fn join_group(world: &mut World, client: usize) {
    let group = loop {
        let group = world.random.one_of(&GROUPS);
        // In 3.x, only its topic tells from which group a message comes.
        if world.clients[client].version == Version::V5 || !group.needs_id {
            break group;
        }
    };
    let options = SubscriptionOptions {
        qos: world
            .random
            .one_of(&[Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce]),
        ..Default::default()
    };
    subscribe(world, client, group.filter, options, group.id);
}

fn subscribe(
    world: &mut World,
    client: usize,
    filter: &str,
    options: SubscriptionOptions,
    id: u32,
) {
    let at = world.moment();
    let bytes = world.clients[client].subscribe(filter, options, id, &mut world.book, at);
    world.send(client, &bytes);
}

fn publish(world: &mut World, client: usize) {
    if !world.clients[client].has_room() {
        return;
    }
    let may_retain = world.book.queue.is_none();
    let (topic, retain) = match world.random.below(8) {
        0 | 1 => (format!("r/{client}"), may_retain && !world.random.one_in(4)),
        5 => (format!("s/{}", world.random.below(2)), false),
        6 | 7 => (format!("v/{}", world.random.below(2)), false),
        n => (format!("a/{}", n % 3), false),
    };
    let clears = retain && world.random.one_in(6);
    let expiry = world
        .random
        .one_of(&[None, None, None, Some(2), Some(FOREVER)]);
    let say = Say {
        topic: &topic,
        qos: world.random.one_of(&QOS),
        retain,
        clears,
        expiry: expiry.filter(|_| !clears),
    };
    let at = world.moment();
    let bytes = world.clients[client].publish(say, &mut world.book, at);
    world.send(client, &bytes);
}

/// A client connects anywhere, perhaps with a will.
fn come(world: &mut World, client: usize) {
    let slot = world.any_worker();
    choose_kind(world, client);
    if world.random.one_in(2) {
        return world.connect(client, slot, None);
    }
    let delay = world.random.one_of(&[0, 0, 1, 3]);
    let is_five = world.clients[client].version == Version::V5;
    let number = world.book.note(Publish {
        publisher: client,
        topic: format!("will/{client}"),
        qos: Qos::AtLeastOnce,
        retain: false,
        clears: false,
        expiry: None,
        sent: world.step,
        sent_at: world.now,
        accepted: None,
        resent: false,
        will: true,
        pipe: 0,
        opened: world.step,
    });
    world.connect(
        client,
        slot,
        Some((number, if is_five { delay } else { 0 })),
    );
    let pipe = world.clients[client].link.pipe();
    world.book.publishes[number as usize].pipe = pipe.unwrap_or_default();
}

/// Some clients come with a new session, or one that ends with the connection, now and then.
fn choose_kind(world: &mut World, client: usize) {
    if !world.clients[client].changes {
        return;
    }
    let is_five = world.clients[client].version == Version::V5;
    let persistent = !world.random.one_in(3);
    // In 3.x the two are one.
    let clean = match is_five {
        true => world.random.one_in(3),
        false => !persistent,
    };
    world.clients[client].persistent = persistent;
    world.clients[client].clean = clean;
}

/// Something dies, or is believed to.
fn fault(world: &mut World, faults: u64) {
    match world.random.below(7) {
        0 | 1 => {
            let client = world.random.below(world.clients.len());
            world.close(client);
        }
        2 if faults >= WORKERS => {
            let slot = world.any_worker();
            die(world, slot);
        }
        3 if faults >= TAKEOVERS => {
            // The same client id again, while the old connection still stands.
            let client = world.random.below(world.clients.len());
            if world.is_up(client) {
                world.abandon(client);
                come(world, client);
            }
        }
        4 if faults >= WORKERS && world.newest != MemberId::STORE => {
            let joiner = world.newest;
            die(world, joiner);
        }
        5 if faults >= TAKEOVERS => storm(world),
        6 if faults >= WORKERS => die_together(world, faults),
        _ if faults >= STORE && world.random.one_in(3) => die(world, MemberId::STORE),
        _ => {}
    }
}

/// A few clients come again and again, faster than anybody hears of it.
fn storm(world: &mut World) {
    let first = world.random.below(world.clients.len());
    let second = world.random.below(world.clients.len());
    for _ in 0..world.random.one_of(&[3, 6, 20]) {
        let client = world.random.one_of(&[first, first, second]);
        if world.clients[client].link != Link::Down {
            world.abandon(client);
        }
        come(world, client);
        for _ in 0..world.random.below(4) {
            some_turn(world);
        }
        if world.is_up(client) {
            publish(world, client);
        }
    }
}

/// Two workers, or a worker and the store, before anybody hears of either.
fn die_together(world: &mut World, faults: u64) {
    let first = world.any_worker();
    let second = match faults >= STORE && world.random.one_in(6) {
        true => MemberId::STORE,
        false => world.any_worker(),
    };
    die(world, first);
    die(world, second);
}

fn die(world: &mut World, slot: MemberId) {
    let at = world.random.one_of(&[
        DieAt::AfterReading,
        DieAt::BeforeFlush,
        DieAt::AfterFlush,
        DieAt::AfterSockets,
    ]);
    if world.is_alive(slot) {
        world.turn(slot, 4, Some(at));
    }
}
