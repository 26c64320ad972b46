//! CONNECT: what is let in, what is refused and how, and what CONNACK says.

use crate::broker::Setup;
use crate::wire::{Got, PINGREQ, V5, V31, V311, connect, property, publish};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(every_version_is_accepted),
    test!(an_empty_id_is_assigned_in_5),
    test!(an_empty_id_is_refused_where_it_is_not_allowed)
        .setup(Setup::Strict)
        .original_breaks("says 0x80 in 5.0, and with properties"),
    test!(without_leave_a_client_is_refused).setup(Setup::Closed),
    test!(an_unknown_authentication_method_is_refused),
    test!(connack_of_5_has_its_properties_in_order).since_2_1(),
    test!(connack_of_5_names_the_limits_in_order).setup(Setup::Strict),
    test!(a_keep_alive_over_the_limit_is_refused_in_3)
        .setup(Setup::Strict)
        .since_2_1(),
    test!(packets_behind_connect_in_one_segment_are_served),
];

fn every_version_is_accepted(bench: &Bench<'_>) {
    for version in [V31, V311, V5] {
        let mut client = bench.socket();
        let id = bench.id(&version.to_string());
        let (present, code, _) = client.connack(&connect(version, &id));
        assert_eq!((present, code), (false, 0), "version {version}");
        client.disconnect();
    }
}

fn an_empty_id_is_assigned_in_5(bench: &Bench<'_>) {
    let mut ids = Vec::new();
    for clean in [true, false] {
        let mut client = bench.socket();
        let (_, code, properties) = client.connack(&connect(V5, "").clean(clean));
        assert_eq!(code, 0);
        let id = assigned_id(&properties);
        let uuid = id.strip_prefix("auto-").expect(&id);
        let groups: Vec<usize> = uuid.split('-').map(str::len).collect();
        assert_eq!(groups, [8, 4, 4, 4, 12], "{id}");
        ids.push(id);
    }
    assert_ne!(ids[0], ids[1]);
}

/// Behind the topic alias maximum.
fn assigned_id(properties: &[u8]) -> String {
    assert_eq!(properties[3], 0x12, "{properties:02x?}");
    let length = usize::from(properties[5]);
    String::from_utf8(properties[6..6 + length].to_vec()).unwrap()
}

fn an_empty_id_is_refused_where_it_is_not_allowed(bench: &Bench<'_>) {
    for (version, code) in [(V31, 2), (V311, 2), (V5, 0x85)] {
        let mut client = bench.socket();
        let (_, got, properties) = client.connack(&connect(version, "").keep_alive(10));
        assert_eq!((got, properties), (code, Vec::new()), "version {version}");
        client.expect_end();
    }
}

fn without_leave_a_client_is_refused(bench: &Bench<'_>) {
    for (version, code) in [(V31, 5), (V311, 5), (V5, 0x87)] {
        let anonymous = connect(version, &bench.id("anonymous"));
        let (_, got, properties) = bench.socket().connack(&anonymous);
        assert_eq!((got, properties), (code, Vec::new()), "version {version}");
        // What comes behind a refused CONNECT is not looked at.
        let mut client = bench.socket();
        client.version = version;
        let mut bytes = anonymous.bytes();
        bytes.extend(publish("a", "x", 1, 1).bytes(version));
        client.send(&bytes);
        assert!(matches!(client.next(), Got::Connack { code: c, .. } if c == code));
        client.expect_end();
    }
}

fn an_unknown_authentication_method_is_refused(bench: &Bench<'_>) {
    let mut client = bench.socket();
    let method = connect(V5, &bench.id("a")).property(property::authentication_method("GS2-KRB5"));
    let (_, code, _) = client.connack(&method);
    assert_eq!(code, 0x8c);
    client.expect_end();
}

fn connack_of_5_has_its_properties_in_order(bench: &Bench<'_>) {
    let (_, _, properties) = bench.socket().connack(&connect(V5, &bench.id("c")));
    let mut expected = property::topic_alias_maximum(10);
    expected.extend(property::maximum_packet_size(2_000_000));
    expected.extend(property::receive_maximum(20));
    assert_eq!(properties, expected);
}

fn connack_of_5_names_the_limits_in_order(bench: &Bench<'_>) {
    let (_, _, properties) = bench
        .socket()
        .connack(&connect(V5, &bench.id("c")).keep_alive(31));
    let mut expected = property::topic_alias_maximum(10);
    expected.extend(property::server_keep_alive(30));
    expected.extend([0x25, 0]);
    expected.extend(property::maximum_packet_size(2000));
    expected.extend(property::receive_maximum(3));
    expected.extend([0x24, 1]);
    assert_eq!(properties, expected);
}

fn a_keep_alive_over_the_limit_is_refused_in_3(bench: &Bench<'_>) {
    for keep_alive in [31, 0] {
        let over = connect(V311, &bench.id("k")).keep_alive(keep_alive);
        let mut client = bench.socket();
        assert_eq!(client.connack(&over).1, 2, "keep alive {keep_alive}");
        client.expect_end();
    }
    bench.client(&connect(V311, &bench.id("k")).keep_alive(30));
}

fn packets_behind_connect_in_one_segment_are_served(bench: &Bench<'_>) {
    let topic = bench.topic("t");
    let mut client = bench.socket();
    let mut bytes = connect(V311, &bench.id("one")).bytes();
    bytes.extend(crate::wire::subscribe(V311, 7, &[(&topic, 0)]));
    bytes.extend(publish(&topic, "x", 0, 0).bytes(V311));
    bytes.extend(PINGREQ);
    client.send(&bytes);
    client.expect_bytes(&[0x20, 2, 0, 0]);
    // SUBACK may wait for other members; the rest is in order.
    let mut got: Vec<Got> = (0..3).map(|_| client.next()).collect();
    let suback = got.iter().position(|g| *g == Got::Suback(7, vec![0]));
    got.remove(suback.expect("SUBACK"));
    assert_eq!(
        got,
        [Got::Publish(publish(&topic, "x", 0, 0)), Got::Pingresp]
    );
}
