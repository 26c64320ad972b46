//! CONNECT: what is let in, what is refused and how, and what CONNACK says.

use crate::broker::Setup;
use crate::wire::{
    Got, PINGREQ, PINGRESP, V5, V31, V311, connect, packet, property, publish, text, varint,
};
use crate::{Bench, Test, test};

pub const TESTS: &[Test] = &[
    test!(every_version_is_accepted),
    test!(all_flags_together_are_accepted),
    test!(bridges_set_the_high_bit_of_the_level),
    test!(an_unknown_level_is_refused_with_1),
    test!(a_wrong_protocol_name_closes_without_an_answer),
    test!(the_reserved_flag_closes_without_an_answer),
    test!(will_flags_without_a_will_close),
    test!(will_qos_3_closes),
    test!(a_password_without_a_user_name_closes_in_3),
    test!(a_password_without_a_user_name_is_allowed_in_5),
    test!(a_truncated_connect_closes),
    test!(a_first_packet_that_is_not_connect_closes),
    test!(a_second_connect_closes),
    test!(a_second_connect_is_a_protocol_error_in_5).original_breaks("does not say why it closes"),
    test!(an_empty_id_needs_a_clean_session_in_311),
    test!(an_empty_id_is_refused_in_31),
    test!(an_empty_id_is_assigned_in_5),
    test!(an_empty_id_is_refused_where_it_is_not_allowed)
        .setup(Setup::Strict)
        .original_breaks("says 0x80 in 5.0, and with properties"),
    test!(without_leave_a_client_is_refused).setup(Setup::Closed),
    test!(an_unknown_authentication_method_is_refused),
    test!(connack_of_5_has_its_properties_in_order).since_2_1(),
    test!(connack_of_5_names_the_limits_in_order).setup(Setup::Strict),
    test!(a_will_that_the_limits_forbid_is_refused).setup(Setup::Strict),
    test!(a_keep_alive_over_the_limit_is_refused_in_3)
        .setup(Setup::Strict)
        .since_2_1(),
    test!(properties_out_of_place_are_refused),
    test!(packets_behind_connect_in_one_segment_are_served),
    test!(ping_is_answered_in_every_version),
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

fn all_flags_together_are_accepted(bench: &Bench<'_>) {
    for version in [V31, V311, V5] {
        let id = bench.id(&format!("all{version}"));
        let all = connect(version, &id)
            .persistent()
            .will(&bench.topic("will"), "gone", 2, true)
            .username("somebody")
            .password("secret");
        assert_eq!(all.flags(), 0xf4);
        bench.client(&all).disconnect();
        // The session and what is retained end here.
        bench.client(&connect(version, &id)).disconnect();
    }
}

fn bridges_set_the_high_bit_of_the_level(bench: &Bench<'_>) {
    for (version, level) in [(V31, 0x83), (V311, 0x84)] {
        let mut client = bench.socket();
        client.version = version;
        let mut bytes = connect(version, &bench.id(&version.to_string())).bytes();
        let at = bytes.windows(2).position(|b| *b == [version, 2]).unwrap();
        bytes[at] = level;
        client.send(&bytes);
        client.expect_bytes(&[0x20, 2, 0, 0]);
        client.ping();
    }
}

fn an_unknown_level_is_refused_with_1(bench: &Bench<'_>) {
    for level in [0, 2, 6, 127] {
        let mut client = bench.socket();
        let mut body = text("MQTT");
        body.extend([level, 2, 0, 60]);
        body.extend(text(&bench.id("level")));
        client.send(&packet(0x10, &body));
        client.expect_bytes(&[0x20, 2, 0, 1]);
        client.expect_end();
    }
}

fn a_wrong_protocol_name_closes_without_an_answer(bench: &Bench<'_>) {
    for name in ["", "MQT", "mqtt", "MQTTT", "HTTP/1.1"] {
        let mut client = bench.socket();
        let mut body = text(name);
        body.extend([4, 2, 0, 60]);
        body.extend(text(&bench.id("name")));
        client.send(&packet(0x10, &body));
        client.expect_end();
    }
}

fn the_reserved_flag_closes_without_an_answer(bench: &Bench<'_>) {
    for version in [V311, V5] {
        let mut client = bench.socket();
        client.version = version;
        client.send(&connect(version, &bench.id("r")).bytes_with_flags(3));
        if let Some(answer) = client.try_next() {
            assert!(
                version == V5 && matches!(answer, Got::Connack { code: 0x81, .. }),
                "{answer:?}"
            );
            client.expect_end();
        }
    }
}

fn will_flags_without_a_will_close(bench: &Bench<'_>) {
    for flags in [0x0a, 0x12, 0x22] {
        let mut client = bench.socket();
        client.send(&connect(V311, &bench.id("w")).bytes_with_flags(flags));
        client.expect_end();
    }
}

fn will_qos_3_closes(bench: &Bench<'_>) {
    let mut client = bench.socket();
    let will = connect(V311, &bench.id("w")).will(&bench.topic("t"), "x", 3, false);
    client.send(&will.bytes());
    client.expect_end();
}

fn a_password_without_a_user_name_closes_in_3(bench: &Bench<'_>) {
    let mut client = bench.socket();
    client.send(&connect(V311, &bench.id("p")).password("secret").bytes());
    client.expect_end();
}

fn a_password_without_a_user_name_is_allowed_in_5(bench: &Bench<'_>) {
    bench.client(&connect(V5, &bench.id("p")).password("secret"));
}

fn a_truncated_connect_closes(bench: &Bench<'_>) {
    let whole = connect(V311, &bench.id("truncated")).bytes();
    for length in [2, 5, 8, 9, 11, 12, 13, whole.len() - 1] {
        let mut client = bench.socket();
        client.send(&packet(0x10, &whole[2..length]));
        client.expect_end();
    }
}

fn a_first_packet_that_is_not_connect_closes(bench: &Bench<'_>) {
    let publish = publish(&bench.topic("t"), "x", 1, 1).bytes(V311);
    for first in [
        PINGREQ.to_vec(),
        publish,
        crate::wire::subscribe(V311, 1, &[("a", 0)]),
        crate::wire::DISCONNECT.to_vec(),
        vec![0xf0, 0],
        vec![0, 0],
    ] {
        let mut client = bench.socket();
        client.send(&first);
        client.expect_end();
    }
}

fn a_second_connect_closes(bench: &Bench<'_>) {
    for version in [V31, V311] {
        let again = connect(version, &bench.id(&version.to_string()));
        let mut client = bench.client(&again);
        client.send(&again.bytes());
        client.expect_end();
    }
}

fn a_second_connect_is_a_protocol_error_in_5(bench: &Bench<'_>) {
    let again = connect(V5, &bench.id("again"));
    let mut client = bench.client(&again);
    client.send(&again.bytes());
    client.expect_disconnect(0x82);
}

fn an_empty_id_needs_a_clean_session_in_311(bench: &Bench<'_>) {
    bench.client(&connect(V311, ""));
    let mut client = bench.socket();
    client.send(&connect(V311, "").clean(false).bytes());
    client.expect_bytes(&[0x20, 2, 0, 2]);
    client.expect_end();
}

fn an_empty_id_is_refused_in_31(bench: &Bench<'_>) {
    let mut client = bench.socket();
    client.version = V31;
    client.send(&connect(V31, "").bytes());
    client.expect_bytes(&[0x20, 2, 0, 2]);
    client.expect_end();
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

fn a_will_that_the_limits_forbid_is_refused(bench: &Bench<'_>) {
    let refused = |qos, retain, code| {
        let will = connect(V5, &bench.id("w")).will(&bench.topic("t"), "x", qos, retain);
        let mut client = bench.socket();
        assert_eq!(client.connack(&will.keep_alive(10)).1, code);
        client.expect_end();
    };
    refused(2, false, 0x9b);
    refused(0, true, 0x9a);
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

fn properties_out_of_place_are_refused(bench: &Bench<'_>) {
    let refused = |properties: &[u8]| {
        let mut body = text("MQTT");
        body.extend([5, 2, 0, 60]);
        body.extend(varint(properties.len()));
        body.extend_from_slice(properties);
        body.extend(text(&bench.id("p")));
        let mut client = bench.socket();
        client.version = V5;
        client.send(&packet(0x10, &body));
        if let Some(answer) = client.try_next() {
            assert!(
                matches!(
                    answer,
                    Got::Connack {
                        code: 0x81 | 0x82,
                        ..
                    }
                ),
                "{answer:?} to {properties:02x?}"
            );
            client.expect_end();
        }
    };
    // Of another packet; unknown; twice; a value that is none; cut short.
    refused(&property::topic_alias(1));
    refused(&[0x7e, 0]);
    refused(&[property::session_expiry(1), property::session_expiry(1)].concat());
    refused(&property::receive_maximum(0));
    refused(&property::maximum_packet_size(0));
    refused(&property::session_expiry(1)[..3]);
    refused(&[0x17, 2]);
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

fn ping_is_answered_in_every_version(bench: &Bench<'_>) {
    for version in [V31, V311, V5] {
        let mut client = bench.clean(version, &version.to_string());
        for _ in 0..3 {
            client.send(PINGREQ);
            client.expect_bytes(PINGRESP);
        }
    }
}
