use super::*;

type Plain = Queue<u32, &'static str>;

const NONE: Limits = Limits::NONE;

fn entry(message: u32, qos: Qos) -> Entry<u32> {
    Entry {
        message,
        qos,
        retain: false,
        subscription_ids: None,
        expires_at: None,
        bytes: 10,
    }
}

fn filled(messages: u32, qos: Qos) -> Plain {
    let mut queue = Plain::default();
    for n in 0..messages {
        assert_eq!(queue.push(entry(n, qos), NONE, Instant(0)), Pushed::Kept);
    }
    queue
}

/// Everything that may be sent: (packet id or 0, dup, message); a PUBREL has message `u32::MAX`.
fn sent(queue: &mut Plain) -> Vec<(u16, bool, u32)> {
    let mut sent = Vec::new();
    loop {
        match queue.next(Instant(0)) {
            Some(Next::Publish(m)) => {
                sent.push((m.packet_id.map_or(0, PacketId::get), m.dup, m.entry.message));
            }
            Some(Next::Pubrel(id)) => sent.push((id.get(), false, u32::MAX)),
            Some(Next::Gap(_)) | None => return sent,
        }
    }
}

fn id(n: u16) -> PacketId {
    PacketId::new(n).unwrap()
}

#[test]
fn the_window_limits_what_is_sent_and_an_acknowledgement_opens_it() {
    let mut queue = filled(3, Qos::AtLeastOnce);
    assert_eq!(sent(&mut queue), [], "nobody is attached");
    queue.attach(2, u64::MAX);
    assert_eq!(sent(&mut queue), [(1, false, 0), (2, false, 1)]);
    assert!(queue.puback(id(1)) && !queue.puback(id(1)));
    assert_eq!(sent(&mut queue), [(3, false, 2)]);
}

#[test]
fn what_is_in_flight_is_repeated_in_order_before_anything_new() {
    let mut queue = filled(4, Qos::ExactlyOnce);
    queue.attach(3, u64::MAX);
    sent(&mut queue);
    queue.pubrec(id(2), 0);
    queue.detach();
    queue.attach(10, u64::MAX);
    assert_eq!(
        sent(&mut queue),
        [
            (2, false, u32::MAX),
            (1, true, 0),
            (3, true, 2),
            (4, false, 3)
        ]
    );
}

#[test]
fn a_smaller_window_after_reconnecting_holds_back_repetitions() {
    let mut queue = filled(4, Qos::AtLeastOnce);
    queue.attach(3, u64::MAX);
    sent(&mut queue);
    queue.detach();
    queue.attach(1, u64::MAX);
    assert_eq!(sent(&mut queue), [(1, true, 0)]);
    assert!(queue.puback(id(1)));
    assert_eq!(sent(&mut queue), [(2, true, 1)]);
}

#[test]
fn a_refused_qos_2_message_is_over() {
    let mut queue = filled(1, Qos::ExactlyOnce);
    queue.attach(1, u64::MAX);
    sent(&mut queue);
    assert!(!queue.puback(id(1)), "not the answer to QoS 2");
    assert!(queue.pubrec(id(1), 0x97));
    assert!(queue.is_empty() && !queue.pubcomp(id(1)));
}

#[test]
fn a_full_queue_drops_the_newest_and_says_so_once() {
    let mut queue = Plain::default();
    let two = Limits {
        messages: 2,
        ..NONE
    };
    let push = |queue: &mut Plain, n| queue.push(entry(n, Qos::AtLeastOnce), two, Instant(0));
    queue.attach(1, u64::MAX);
    for n in 0..3 {
        assert_eq!(push(&mut queue, n), Pushed::Kept, "the window takes one");
    }
    assert_eq!(
        push(&mut queue, 3),
        Pushed::Dropped {
            messages: 1,
            first: true
        }
    );
    assert_eq!(
        push(&mut queue, 4),
        Pushed::Dropped {
            messages: 1,
            first: false
        }
    );
    queue.detach();
    queue.attach(9, u64::MAX);
    assert_eq!(sent(&mut queue).len(), 3);
}

#[test]
fn bytes_are_limited_too() {
    let mut queue = Plain::default();
    let limits = Limits { bytes: 15, ..NONE };
    let mut push = || queue.push(entry(0, Qos::AtLeastOnce), limits, Instant(0));
    assert_eq!((push(), push()), (Pushed::Kept, Pushed::Kept));
    assert_eq!(
        push(),
        Pushed::Dropped {
            messages: 1,
            first: true
        }
    );
}

#[test]
fn expired_messages_are_not_sent_and_make_room() {
    let mut queue = Plain::default();
    let one = Limits {
        messages: 1,
        ..NONE
    };
    let mut dying = entry(0, Qos::AtLeastOnce);
    dying.expires_at = Some(Instant(5));
    queue.push(dying.clone(), one, Instant(0));
    let dropped = queue.push(entry(1, Qos::AtLeastOnce), one, Instant(4));
    assert_eq!(
        dropped,
        Pushed::Dropped {
            messages: 1,
            first: true
        }
    );
    let kept = queue.push(entry(2, Qos::AtLeastOnce), one, Instant(5));
    assert_eq!((kept, queue.len()), (Pushed::Kept, 1));
    queue.push(dying, NONE, Instant(0));
    queue.attach(5, u64::MAX);
    assert!(matches!(queue.next(Instant(6)), Some(Next::Publish(m)) if m.entry.message == 2));
    assert!(queue.next(Instant(6)).is_none());
    assert_eq!(queue.messages_waiting(), 0);
}

#[test]
fn qos_0_needs_no_window_but_keeps_its_place() {
    let mut queue = filled(1, Qos::AtMostOnce);
    queue.push(entry(1, Qos::AtLeastOnce), NONE, Instant(0));
    queue.push(entry(2, Qos::AtMostOnce), NONE, Instant(0));
    assert!(!queue.is_clear_for_qos0());
    queue.attach(1, u64::MAX);
    assert_eq!(
        sent(&mut queue),
        [(0, false, 0), (1, false, 1), (0, false, 2)]
    );
    assert!(queue.is_clear_for_qos0());
    queue.push(entry(3, Qos::AtLeastOnce), NONE, Instant(0));
    assert!(!queue.is_clear_for_qos0(), "a message waits for the window");
}

#[test]
fn nothing_behind_a_gap_is_sent_before_it_is_closed() {
    let mut queue = filled(1, Qos::AtLeastOnce);
    queue.push_gap("retained");
    queue.push(entry(1, Qos::AtLeastOnce), NONE, Instant(0));
    queue.attach(2, u64::MAX);
    assert_eq!(sent(&mut queue), [(1, false, 0)]);
    assert_eq!(queue.next(Instant(0)), Some(Next::Gap(&mut "retained")));
    let now = queue.send_now(entry(7, Qos::AtLeastOnce));
    assert!(now.is_some_and(|m| m.packet_id == Some(id(2))));
    assert!(
        queue.send_now(entry(8, Qos::AtLeastOnce)).is_none(),
        "no window"
    );
    queue.close_gap();
    queue.puback(id(1));
    assert_eq!(sent(&mut queue), [(3, false, 1)]);
}

#[test]
fn packet_ids_go_around_and_skip_those_in_use() {
    let mut queue = filled(1, Qos::AtLeastOnce);
    queue.attach(3, u64::MAX);
    sent(&mut queue);
    for n in 0..200_000_u32 {
        queue.push(entry(n, Qos::AtLeastOnce), NONE, Instant(0));
        let packet_id = sent(&mut queue)[0].0;
        assert!(packet_id > 1, "1 is still in flight");
        assert!(queue.puback(id(packet_id)));
    }
    assert!(queue.puback(id(1)) && queue.is_empty());
}

#[test]
fn a_full_queue_drops_the_oldest_if_it_is_to() {
    let mut queue = Plain::default();
    let limits = Limits {
        messages: 2,
        drops_oldest: true,
        ..NONE
    };
    queue.attach(1, u64::MAX);
    let push = |queue: &mut Plain, n| queue.push(entry(n, Qos::AtLeastOnce), limits, Instant(0));
    push(&mut queue, 0);
    assert_eq!(sent(&mut queue), [(1, false, 0)]);
    queue.push_gap("retained");
    for n in 1..3 {
        assert_eq!(push(&mut queue, n), Pushed::Kept);
    }
    let dropped = |first| Pushed::Dropped { messages: 1, first };
    assert_eq!(push(&mut queue, 3), dropped(true));
    assert_eq!(push(&mut queue, 4), dropped(false));
    queue.attach(9, u64::MAX);
    assert_eq!(sent(&mut queue), [(1, true, 0)], "in flight it is safe");
    queue.close_gap();
    assert_eq!(sent(&mut queue), [(2, false, 3), (3, false, 4)]);
}

#[test]
fn nothing_is_dropped_for_a_message_that_has_no_room_anyway() {
    let mut queue = filled(3, Qos::AtLeastOnce);
    queue.attach(3, u64::MAX);
    sent(&mut queue);
    queue.detach();
    let limits = Limits {
        messages: 3,
        drops_oldest: true,
        ..NONE
    };
    let pushed = queue.push(entry(9, Qos::AtLeastOnce), limits, Instant(0));
    assert_eq!(
        pushed,
        Pushed::Dropped {
            messages: 1,
            first: true
        },
        "what is in flight is not the queue's to drop"
    );
    assert_eq!(queue.len(), 3);
}

#[test]
fn room_in_the_broker_limits_what_waits_and_not_what_goes_at_once() {
    let mut queue = Plain::default();
    let limits = Limits { room: 9, ..NONE };
    let push = |queue: &mut Plain, room| {
        let limits = Limits { room, ..limits };
        queue.push(entry(0, Qos::AtLeastOnce), limits, Instant(0)) == Pushed::Kept
    };
    assert!(!push(&mut queue, 9) && push(&mut queue, 10));
    queue.attach(2, u64::MAX);
    assert!(push(&mut queue, 0), "the window takes it");
    assert!(!push(&mut queue, 0));
    assert_eq!(queue.bytes_waiting(), 20);
}

#[test]
fn bytes_on_the_wire_are_limited_to_about_as_many() {
    let mut queue = filled(5, Qos::AtLeastOnce);
    queue.push(entry(5, Qos::ExactlyOnce), NONE, Instant(0));
    queue.attach(20, 15);
    assert_eq!(sent(&mut queue), [(1, false, 0), (2, false, 1)]);
    assert!(queue.puback(id(1)));
    assert_eq!(sent(&mut queue), [(3, false, 2)]);
    queue.detach();
    queue.attach(20, 1);
    assert_eq!(sent(&mut queue), [(2, true, 1)], "one of any size");
    assert!(queue.puback(id(2)));
    assert_eq!(sent(&mut queue), [(3, true, 2)]);
    assert!(queue.puback(id(3)));
    assert_eq!(sent(&mut queue), [(4, false, 3)]);
    assert!(queue.puback(id(4)));
    assert_eq!(sent(&mut queue), [(5, false, 4)]);
    assert!(queue.puback(id(5)));
    assert_eq!(sent(&mut queue), [(6, false, 5)]);
    queue.push(entry(6, Qos::AtLeastOnce), NONE, Instant(0));
    assert!(sent(&mut queue).is_empty());
    assert!(queue.pubrec(id(6), 0), "it has arrived");
    assert_eq!(sent(&mut queue), [(7, false, 6)]);
}

#[test]
fn qos_0_takes_no_room_from_the_others() {
    for drops_oldest in [false, true] {
        let limits = Limits {
            messages: 3,
            drops_oldest,
            ..NONE
        };
        let mut queue = Plain::default();
        for n in 0..6 {
            queue.push(entry(n, Qos::AtMostOnce), limits, Instant(0));
        }
        for n in 6..9 {
            let pushed = queue.push(entry(n, Qos::AtLeastOnce), limits, Instant(0));
            assert_eq!(pushed, Pushed::Kept);
        }
        let more = queue.push(entry(9, Qos::AtMostOnce), limits, Instant(0));
        assert_ne!(more, Pushed::Kept);
        queue.attach(9, u64::MAX);
        let left: Vec<u32> = sent(&mut queue).iter().map(|m| m.2).collect();
        let zeros = if drops_oldest { [5, 9] } else { [1, 2] };
        assert!(zeros.iter().all(|n| left.contains(n)), "{left:?}");
        assert!((6..9).all(|n| left.contains(&n)), "{left:?}");
    }
}
