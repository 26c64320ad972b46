use super::*;
use crate::ipc::mesh::{AnnouncedFilter, Class};

fn subscribed(world: &mut World) -> Vec<Vec<bool>> {
    let said = world.said().into_iter();
    said.filter_map(|(_, what)| match what {
        ToWorker::Subscribed { existed, .. } => Some(existed),
        _ => None,
    })
    .collect()
}

#[test]
fn a_filter_is_announced_to_everybody_with_its_first_subscriber_and_its_last() {
    let mut world = World::new();
    let (a, _) = world.session(0, "a", &[]);
    let (b, _) = world.session(1, "b", &[]);
    world.subscribe(a, 0, &[(1, "x/#"), (1, "exact")]);
    let hash = world.store.hash.of("exact");
    let everybody = world.mesh.live;
    let class = Class::QOS12;
    let both = |class| {
        [
            AnnouncedFilter::Wildcard("x/#"),
            AnnouncedFilter::Exact(hash),
        ]
        .map(|filter| (everybody, Announcement { class, filter }))
    };
    assert_eq!(world.announced(), both(class));
    world.subscribe(b, 0, &[(2, "x/#"), (0, "exact")]);
    assert_eq!(world.announced(), []);
    let filters = vec!["x/#", "exact"];
    for (conn, last) in [(a, false), (b, true)] {
        let unsubscribe = ToStore::Unsubscribe {
            claim: conn.claim,
            request: 4,
            filters: filters.clone(),
        };
        world.tell(conn, &unsubscribe);
        let none: &[_] = &both(Class(0));
        assert_eq!(world.announced(), if last { none } else { &[] });
    }
}

#[test]
fn with_queue_qos0_messages_the_store_announces_both_classes() {
    let mut world = World::with(StoreSettings {
        queue_qos0_messages: true,
        ..SETTINGS
    });
    let (a, _) = world.session(0, "a", &[]);
    world.subscribe(a, 0, &[(1, "#")]);
    assert_eq!(world.announced()[0].1.class, Class::BOTH);
}

#[test]
fn rule_17_the_answer_waits_until_everybody_applied_the_announcement() {
    let mut world = World::new();
    let (a, _) = world.session(0, "a", &[]);
    let (b, _) = world.session(1, "b", &[]);
    world.mesh.passed = Some(0);
    world.subscribe(a, 0, &[(1, "t")]);
    world.turn();
    let announced_at = world.mesh.head();
    world.turn();
    assert_eq!(subscribed(&mut world), [[false]; 0]);
    assert_eq!(
        world.mesh.wake_at,
        Some(announced_at),
        "a wake-up is asked for"
    );
    assert_eq!(world.store.next_deadline(), None, "and nothing polled");
    // Another client's announcement of the same filter is waited for too.
    world.subscribe(b, 0, &[(1, "t")]);
    world.turn();
    assert_eq!(subscribed(&mut world), [[false]; 0]);
    world.mesh.passed = Some(announced_at.0);
    world.turn();
    assert_eq!(subscribed(&mut world), [[false], [false]]);
    world.subscribe(a, 0, &[(1, "t")]);
    world.turn();
    assert_eq!(subscribed(&mut world), [[true]], "nothing new: at once");
}

#[test]
fn rule_17_an_announcement_in_the_overflow_list_has_been_applied_by_nobody() {
    let mut world = World::new();
    let (a, _) = world.session(0, "a", &[]);
    world.mesh.uncovered = 1;
    world.subscribe(a, 0, &[(1, "t")]);
    world.turn();
    world.turn();
    assert_eq!(subscribed(&mut world), [[false]; 0]);
    world.mesh.uncovered = 0;
    world.settle();
    assert_eq!(subscribed(&mut world), [[false]]);
}

#[test]
fn the_answer_waits_for_what_was_published_before_the_request() {
    let mut world = World::new();
    let (a, _) = world.session(0, "a", &[]);
    let heads = vec![
        (worker(1), Incarnation(2), Position(5)),
        (worker(7), Incarnation(99), Position(5)),
    ];
    let head = (Incarnation(2), Position(5));
    world.mesh.published.insert(worker(1), head);
    world.subscribe_after(a, 0, heads, &[(1, "t")]);
    world.settle();
    assert_eq!(subscribed(&mut world), [[false]; 0]);
    world
        .mesh
        .applied
        .insert(worker(1), (Incarnation(2), Position(5)));
    world.later(1);
    assert_eq!(
        subscribed(&mut world),
        [[false]],
        "who is gone is not waited for"
    );
}

#[test]
fn a_worker_that_lies_about_the_heads_holds_nobody_up() {
    let mut world = World::new();
    let (a, _) = world.session(0, "a", &[]);
    let (b, _) = world.session(1, "b", &[]);
    let heads = vec![(worker(1), Incarnation(2), Position(u64::MAX))];
    world.subscribe_after(a, 0, heads, &[(1, "t")]);
    world.subscribe(b, 0, &[(1, "t")]);
    world.settle();
    assert_eq!(subscribed(&mut world).len(), 2);
}

#[test]
fn rule_19_a_publish_right_behind_the_subscribe_is_not_missed() {
    let mut world = World::new();
    let (a, client) = world.session(0, "a", &[]);
    world.mesh.passed = Some(0);
    world.subscribe(a, 0, &[(1, "t")]);
    let own = Message {
        publisher: client,
        ..message("t", Qos::AtLeastOnce)
    };
    world.publish(a, &own);
    world.turn();
    world.mesh.passed = None;
    world.settle();
    assert_eq!(world.topics(), [(1, false, "t")]);
}

#[test]
fn rule_20_filters_of_one_hash_do_not_switch_each_other_off() {
    let hash = crate::ipc::mesh::FilterHash::new([3, 4]);
    let mut announced = super::super::announced::Announced::new(false);
    // The same filter twice is what two filters of one hash look like.
    assert!(announced.add("t", Class::QOS12, &hash).is_some());
    assert!(announced.add("t", Class::QOS12, &hash).is_none());
    assert!(announced.remove("t", Class::QOS12, &hash).is_none());
    assert!(announced.remove("t", Class::QOS12, &hash).is_some());
}

#[test]
fn unsubscribing_says_what_was_there_and_stops_messages() {
    let mut world = World::new();
    let (a, _) = world.session(0, "a", &[(1, "t")]);
    let unsubscribe = ToStore::Unsubscribe {
        claim: a.claim,
        request: 4,
        filters: vec!["t", "u"],
    };
    world.tell(a, &unsubscribe);
    let unsubscribed = ToWorker::Unsubscribed {
        claim: a.claim,
        request: 4,
        existed: vec![true, false],
    };
    assert_eq!(world.said_to(a), [unsubscribed]);
    world.publish(a, &message("t", Qos::AtLeastOnce));
    assert_eq!(world.topics(), []);
}

#[test]
fn a_member_that_joins_is_told_every_filter_and_then_the_end() {
    let mut world = World::new();
    let filters: Vec<_> = (0..3000)
        .map(|n| format!("filter/{n}/{}", if n % 2 == 0 { "+" } else { "x" }))
        .collect();
    let filters: Vec<_> = filters.iter().map(|f| (1, f.as_str())).collect();
    world.session(0, "a", &filters);
    world.join(3, 9);
    let said = world.mesh.said.clone();
    assert!(said.iter().all(|(to, ..)| *to == worker(3).mask()));
    assert!(said.len() > 2, "in slices");
    assert_eq!(said.last().unwrap().1, kind::INDEX_END);
    assert_eq!(world.announced().len(), 3000);
}

#[test]
fn a_large_index_is_told_in_several_turns_and_what_changes_meanwhile_as_well() {
    let mut world = World::new();
    let name = |n: usize| {
        format!(
            "filter/{n}/{}",
            if n.is_multiple_of(4) { "x/y/+" } else { "z" }
        )
    };
    let filters: Vec<String> = (0..60_000).map(name).collect();
    let wanted: Vec<_> = filters.iter().map(|f| (1, f.as_str())).collect();
    let (a, _) = world.session(0, "a", &wanted);
    world.join(3, 9);
    let ended = |world: &World| {
        world
            .mesh
            .said
            .iter()
            .any(|(_, kind, _)| *kind == kind::INDEX_END)
    };
    assert!(!ended(&world), "not at once");
    for n in 0..3 {
        let filters: Vec<&str> = filters
            .iter()
            .skip(n)
            .step_by(3)
            .map(|f| &**f)
            .take(300)
            .collect();
        let request = 4;
        let claim = a.claim;
        world.tell(
            a,
            &ToStore::Unsubscribe {
                claim,
                request,
                filters,
            },
        );
        world.subscribe(
            a,
            0,
            &[(1, &format!("new/{n}")), (1, &format!("new/+/{n}"))],
        );
        world.turn();
    }
    world.settle();
    let to_joiner = |(to, ..): &&(MemberMask, u8, Vec<u8>)| to.contains(worker(3));
    let said: Vec<_> = world.mesh.said.iter().filter(to_joiner).cloned().collect();
    assert_eq!(
        said.iter()
            .filter(|(_, kind, _)| *kind == kind::INDEX_END)
            .count(),
        1
    );
    let mut known = std::collections::BTreeMap::new();
    for (_, kind, bytes) in &said {
        for change in (*kind == kind::ANNOUNCE)
            .then(|| announcements(bytes))
            .into_iter()
            .flatten()
        {
            let change = change.unwrap();
            known.insert(format!("{:?}", change.filter), change.class);
        }
    }
    known.retain(|_, class| *class != Class(0));
    assert_eq!(known.len(), 60_000 - 3 * 300 + 3 * 2);
    world.join(4, 10);
    world.die(4, 10);
    world.mesh.said.clear();
    world.settle();
    assert!(world.mesh.said.is_empty(), "nothing is said to the dead");
}

#[test]
fn a_filter_that_is_none_is_not_subscribed() {
    let mut world = World::new();
    let (a, _) = world.session(0, "a", &[]);
    world.subscribe(a, 0, &[(1, "a#"), (1, "$share/g"), (1, "")]);
    assert_eq!(world.announced(), []);
    world.settle();
    assert_eq!(subscribed(&mut world), [[false; 3]]);
}
