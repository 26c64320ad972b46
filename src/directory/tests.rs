use super::*;

type Ids = Directory<(), u64>;

/// No limit.
const ANYHOW: (u16, Seats) = (
    0,
    Seats {
        of_listener: None,
        connections: None,
        clients: None,
    },
);

fn key(member: usize, incarnation: u32, serial: u64) -> ClaimKey {
    ClaimKey {
        member: MemberId::worker(member).unwrap(),
        incarnation: Incarnation(incarnation),
        serial: ClaimSerial(serial),
    }
}

fn mark(of: ClaimKey) -> Option<Mark> {
    Some(Mark {
        member: of.member,
        incarnation: of.incarnation,
        position: Position(1),
    })
}

fn granted(ids: &mut Ids, client: ClientNumber) -> Option<ClaimKey> {
    match ids.grant(client, |_, ()| true) {
        Turn::Granted(key, _) => Some(key),
        _ => None,
    }
}

#[test]
fn a_free_id_is_granted_at_once() {
    let mut ids = Ids::new(1);
    let a = key(0, 1, 1);
    let claimed = ids.claim(a, "id", ANYHOW, 0).unwrap();
    assert_eq!((claimed.superseded, claimed.evict), (None, None));
    assert_eq!(granted(&mut ids, claimed.client), Some(a));
    assert_eq!(ids.held_by(a), Some(claimed.client));
}

#[test]
fn the_holder_is_evicted_once_and_the_newest_claim_waits() {
    let mut ids = Ids::new(1);
    let (a, b, c) = (key(0, 1, 1), key(1, 2, 1), key(0, 1, 2));
    let client = ids.claim(a, "id", ANYHOW, 0).unwrap().client;
    assert_eq!(granted(&mut ids, client), Some(a));
    let second = ids.claim(b, "id", ANYHOW, 0).unwrap();
    assert_eq!((second.superseded, second.evict), (None, Some(a)));
    assert_eq!(granted(&mut ids, client), None, "a still holds it");
    let third = ids.claim(c, "id", ANYHOW, 0).unwrap();
    assert_eq!((third.superseded, third.evict), (Some(b), None));
    assert_eq!(ids.release(a, mark(a)), Released::Holder(client));
    assert_eq!(granted(&mut ids, client), Some(c));
    assert_eq!(ids.held_by(b), None);
}

#[test]
fn a_grant_waits_until_the_last_holder_was_read_everywhere() {
    let mut ids = Ids::new(1);
    let (a, b) = (key(0, 1, 1), key(1, 2, 1));
    let client = ids.claim(a, "id", ANYHOW, 0).unwrap().client;
    granted(&mut ids, client);
    ids.claim(b, "id", ANYHOW, 7).unwrap();
    ids.release(a, mark(a));
    assert_eq!(ids.grant(client, |_, ()| false), Turn::NotYet);
    assert_eq!(
        ids.grant(client, |m, ()| m.unwrap().member == a.member),
        Turn::Granted(b, 7)
    );
}

#[test]
fn a_client_is_forgotten_only_when_nothing_names_it() {
    let mut ids = Ids::new(1);
    let a = key(0, 1, 1);
    let client = ids.claim(a, "id", ANYHOW, 0).unwrap().client;
    assert!(!ids.forget(client), "a claim waits");
    granted(&mut ids, client);
    assert!(!ids.forget(client), "a connection holds it");
    ids.release(a, mark(a));
    assert!(!ids.forget(client), "its records are on their way");
    assert!(!ids.mark_passed(client, |_| false));
    assert!(ids.mark_passed(client, |_| true));
    assert!(ids.forget(client));
    assert!(ids.is_empty());
    let next = ids.claim(key(0, 1, 2), "other", ANYHOW, 0).unwrap().client;
    assert_ne!(next, client, "numbers are not used again at once");
}

#[test]
fn a_dead_members_ids_are_free_only_when_it_is_removed() {
    let mut ids = Ids::new(1);
    let (a, b, c) = (key(0, 1, 1), key(1, 2, 1), key(2, 3, 1));
    let client = ids.claim(a, "id", ANYHOW, 0).unwrap().client;
    granted(&mut ids, client);
    ids.claim(b, "id", ANYHOW, 0).unwrap();
    assert!(ids.member_gone(a.incarnation).is_empty());
    assert_eq!(granted(&mut ids, client), None);
    assert_eq!(ids.member_gone(b.incarnation), [client]);
    ids.claim(c, "id", ANYHOW, 0).unwrap();
    assert_eq!(ids.member_removed(a.incarnation), [(a, client)]);
    assert_eq!(granted(&mut ids, client), Some(c));
}

fn seats(listener: u16, of_listener: usize, connections: usize, clients: usize) -> (u16, Seats) {
    let most = |n| Some(n).filter(|n| *n < 99);
    let seats = Seats {
        of_listener: most(of_listener),
        connections: most(connections),
        clients: most(clients),
    };
    (listener, seats)
}

#[test]
fn one_too_many_is_denied_and_changes_nothing() {
    let mut ids = Ids::new(1);
    let full = |limit| Err(Denied::Full(limit));
    let one = ids.claim(key(0, 1, 1), "one", seats(0, 1, 99, 99), 0);
    assert!(one.is_ok());
    let two = |ids: &mut Ids, seats| ids.claim(key(1, 2, 1), "two", seats, 0);
    assert_eq!(two(&mut ids, seats(0, 1, 99, 99)), full(Full::Listener));
    assert_eq!(two(&mut ids, seats(1, 1, 1, 99)), full(Full::Connections));
    assert_eq!(two(&mut ids, seats(1, 1, 99, 1)), full(Full::Clients));
    assert_eq!((ids.len(), ids.claims.len()), (1, 1));
    assert!(two(&mut ids, seats(1, 1, 2, 2)).is_ok(), "another listener");
}

#[test]
fn who_takes_over_needs_no_seat_and_nobody_else_gets_it_meanwhile() {
    let mut ids = Ids::new(1);
    let only = seats(0, 1, 1, 1);
    let (a, b, c) = (key(0, 1, 1), key(1, 2, 1), key(2, 3, 1));
    let client = ids.claim(a, "id", only, 0).unwrap().client;
    granted(&mut ids, client);
    assert_eq!(ids.claim(b, "id", only, 0).unwrap().evict, Some(a));
    ids.release(a, mark(a));
    let late = ids.claim(key(2, 3, 9), "other", only, 0);
    assert_eq!(late, Err(Denied::Full(Full::Listener)));
    assert_eq!(granted(&mut ids, client), Some(b));
    // On another listener it is one more there, and nobody is evicted for one who may not come.
    ids.claim(c, "id2", seats(1, 1, 99, 99), 0).unwrap();
    let elsewhere = ids.claim(key(2, 3, 2), "id", seats(1, 1, 99, 99), 0);
    assert_eq!(elsewhere, Err(Denied::Full(Full::Listener)));
    assert!(ids.waiting(client).is_none());
    ids.release(b, mark(b));
    assert_eq!((ids.taken.connections, ids.taken.of_listener(0)), (1, 0));
}

#[test]
fn an_absent_client_with_a_session_counts_as_a_client_only() {
    let mut ids = Ids::new(1);
    let only = seats(0, 1, 1, 1);
    let a = key(0, 1, 1);
    let client = ids.claim(a, "id", only, 0).unwrap().client;
    granted(&mut ids, client);
    ids.set_lasting(client, true);
    ids.release(a, None);
    let other = ids.claim(key(0, 1, 2), "other", only, 0);
    assert_eq!(other, Err(Denied::Full(Full::Clients)));
    let again = key(0, 1, 3);
    assert!(ids.claim(again, "id", only, 0).is_ok());
    ids.release(again, None);
    ids.set_lasting(client, false);
    assert!(ids.claim(key(0, 1, 4), "other", only, 0).is_ok());
}

#[test]
fn the_death_of_a_member_frees_its_seats_at_once() {
    let mut ids = Ids::new(1);
    let only = seats(0, 1, 1, 1);
    let a = key(0, 1, 1);
    let client = ids.claim(a, "id", only, 0).unwrap().client;
    granted(&mut ids, client);
    ids.member_gone(a.incarnation);
    assert!(ids.claim(key(1, 2, 1), "other", only, 0).is_ok());
}

/// Per id: who holds it, who waits, and whether the mark stands. Written without any of the code above.
#[derive(Default, Clone)]
struct Naive {
    holder: Option<ClaimKey>,
    evicted: bool,
    waiting: Option<ClaimKey>,
    marked: Option<Incarnation>,
    /// The holder's member is gone.
    dead: bool,
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

const IDS: [&str; 3] = ["a", "b", "c"];

fn step(ids: &mut Ids, naive: &mut [Naive], random: &mut Random, serial: &mut u64) {
    let which = usize::try_from(random.below(3)).unwrap();
    let member = random.below(3);
    let incarnation = u32::try_from(member).unwrap() + 1;
    let one = &mut naive[which];
    match random.below(8) {
        0..3 => {
            *serial += 1;
            let new = key(usize::try_from(member).unwrap(), incarnation, *serial);
            let claimed = ids.claim(new, IDS[which], ANYHOW, 0).unwrap();
            assert_eq!(claimed.superseded, one.waiting);
            assert_eq!(claimed.evict, one.holder.filter(|_| !one.evicted));
            one.evicted = one.holder.is_some();
            one.waiting = Some(new);
        }
        3 => {
            if let Some(holder) = one.holder.take() {
                let released = ids.release(holder, mark(holder));
                assert!(matches!(released, Released::Holder(_)));
                one.marked = Some(holder.incarnation);
            }
        }
        4 => {
            if let Some(waiting) = one.waiting.take() {
                assert!(matches!(ids.release(waiting, None), Released::Waiting(_)));
                assert_eq!(ids.release(waiting, None), Released::Unknown);
            }
        }
        5 => {
            ids.member_gone(Incarnation(incarnation));
            for one in &mut *naive {
                one.dead |= one.holder.is_some_and(|k| k.incarnation.0 == incarnation);
                one.waiting = one.waiting.filter(|k| k.incarnation.0 != incarnation);
            }
        }
        6 => {
            let dead = Incarnation(incarnation);
            let freed = ids.member_removed(dead).len();
            let held = |o: &&mut Naive| o.holder.is_some_and(|k| k.incarnation == dead);
            assert_eq!(freed, naive.iter_mut().filter(held).count());
            for one in &mut *naive {
                if one.holder.is_some_and(|k| k.incarnation == dead) {
                    (one.holder, one.marked) = (None, None);
                }
                one.marked = one.marked.filter(|m| *m != dead);
            }
        }
        _ => {
            let passed = random.below(2) == 0;
            let Some(client) = ids.by_id.get(IDS[which]).copied() else {
                return;
            };
            let turn = ids.grant(client, |mark, ()| mark.is_none() || passed);
            let free = one.holder.is_none() && one.waiting.is_some();
            match turn {
                Turn::Nobody => assert!(!free),
                Turn::NotYet => assert!(free && one.marked.is_some() && !passed),
                Turn::Granted(key, _) => {
                    assert!(free && (one.marked.is_none() || passed));
                    assert_eq!(one.waiting.take(), Some(key));
                    (one.holder, one.evicted, one.marked) = (Some(key), false, None);
                    one.dead = false;
                }
            }
        }
    }
}

#[test]
fn random_histories_agree_with_a_naive_directory() {
    for seed in 0..2000 {
        let (mut ids, mut random, mut serial) = (Ids::new(seed), Random(seed), 0);
        let mut naive = vec![Naive::default(); IDS.len()];
        for _ in 0..60 {
            step(&mut ids, &mut naive, &mut random, &mut serial);
            for (id, one) in IDS.iter().zip(&naive) {
                let client = ids.by_id.get(*id).copied();
                let holder = client.and_then(|c| ids.holder(c));
                assert_eq!(holder, one.holder, "seed {seed}");
                assert_eq!(
                    client.is_some_and(|c| ids.waiting(c).is_some()),
                    one.waiting.is_some()
                );
            }
            let live = naive.iter().filter(|o| o.holder.is_some()).count()
                + naive.iter().filter(|o| o.waiting.is_some()).count();
            assert_eq!(ids.claims.len(), live, "seed {seed}: a claim leaked");
            let sits = |o: &&Naive| (o.holder.is_some() && !o.dead) || o.waiting.is_some();
            let seated = naive.iter().filter(sits).count();
            let taken = &ids.taken;
            let counted = (taken.connections, taken.clients, taken.of_listener(0));
            assert_eq!(counted, (seated, seated, seated), "seed {seed}");
        }
    }
}
