//! Both programs against the same script: they must send the same, print the same and end with the same status.

use crate::programs::{Make, Outcome, makes, run};
use crate::script::Server;
use crate::script::Step::{self, Hear, HearAll, Say};

/// What a program did, and what the server heard.
fn play(
    make: Make,
    line: &[&str],
    input: &str,
    connections: &'static [&'static [Step]],
) -> (Outcome, Vec<String>) {
    let server = Server::start(connections);
    let port = server.port();
    let mut arguments = vec!["-h", "127.0.0.1", "-p", &port];
    arguments.extend(&line[1..]);
    let outcome = run(make, line[0], &arguments, input);
    (outcome, server.heard())
}

/// The same from both, with this status.
fn agree(line: &[&str], connections: &'static [&'static [Step]], status: u8) -> Vec<String> {
    agree_with_input(line, "", connections, status)
}

fn agree_with_input(
    line: &[&str],
    input: &str,
    connections: &'static [&'static [Step]],
    status: u8,
) -> Vec<String> {
    let mut played = makes().map(|make| play(make, line, input, connections));
    let ours = played.next().unwrap();
    if let Some(original) = played.next() {
        assert_eq!(ours, original, "{line:?}");
    }
    assert_eq!(ours.0.status, Some(i32::from(status)), "{line:?}: {ours:?}");
    ours.1
}

const PUB: &[&str] = &["mosquitto_pub", "-t", "a", "-m", "x", "-d"];
const SUB: &[&str] = &["mosquitto_sub", "-t", "a", "-d"];

fn with<'a>(line: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    line.iter().chain(more).copied().collect()
}

#[test]
fn the_connection_is_asked_for_in_the_same_bytes() {
    const REFUSE: &[&[Step]] = &[&[Hear, Say("20 02 00 05"), HearAll]];
    for more in [
        &[][..],
        &["-i", "me"],
        &["-i", "me", "-c"],
        &["-V", "mqttv31", "-i", "me"],
        &["-k", "5"],
        &["-k", "65535"],
        &["-u", "user"],
        &["-u", "user", "-P", "secret"],
        &["-u", ""],
        &["--will-topic", "w"],
        &[
            "--will-topic",
            "w",
            "--will-payload",
            "p",
            "--will-qos",
            "2",
            "--will-retain",
        ],
    ] {
        agree(&with(PUB, more), REFUSE, 5);
        agree(&with(SUB, more), REFUSE, 5);
    }
}

#[test]
fn the_connection_is_asked_for_in_the_same_bytes_in_5_0() {
    const REFUSE: &[&[Step]] = &[&[Hear, Say("20 03 00 87 00"), HearAll]];
    for more in [
        &["-V", "5"][..],
        &["-V", "mqttv5", "-i", "me", "-c"],
        &["-V", "5", "-i", "me", "-x", "7"],
        &["-V", "5", "-i", "me", "-x", "0", "-c"],
        &["-V", "5", "-i", "me", "-x", "∞"],
        &["-V", "5", "-P", "secret"],
        &["-V", "5", "--will-topic", "w", "--will-payload", "p"],
    ] {
        agree(&with(PUB, more), REFUSE, 0x87);
        agree(&with(SUB, more), REFUSE, 0x87);
    }
}

#[test]
fn every_refusal_has_its_words_and_its_status() {
    const CODES: &[(u8, &[&[Step]])] = &[
        (1, &[&[Hear, Say("20 02 00 01"), HearAll]]),
        (2, &[&[Hear, Say("20 02 00 02"), HearAll]]),
        (3, &[&[Hear, Say("20 02 00 03"), HearAll]]),
        (4, &[&[Hear, Say("20 02 00 04"), HearAll]]),
        (5, &[&[Hear, Say("20 02 00 05"), HearAll]]),
        (6, &[&[Hear, Say("20 02 00 06"), HearAll]]),
    ];
    for (code, script) in CODES {
        agree(PUB, script, *code);
        agree(SUB, script, *code);
        agree(&with(PUB, &["--quiet"]), script, *code);
    }
    const REASONS: &[(u8, &[&[Step]])] = &[
        (0x80, &[&[Hear, Say("20 03 00 80 00"), HearAll]]),
        (0x81, &[&[Hear, Say("20 03 00 81 00"), HearAll]]),
        (0x84, &[&[Hear, Say("20 03 00 84 00"), HearAll]]),
        (0x85, &[&[Hear, Say("20 03 00 85 00"), HearAll]]),
        (0x86, &[&[Hear, Say("20 03 00 86 00"), HearAll]]),
        (0x88, &[&[Hear, Say("20 03 00 88 00"), HearAll]]),
        (0x89, &[&[Hear, Say("20 03 00 89 00"), HearAll]]),
        (0x8a, &[&[Hear, Say("20 03 00 8a 00"), HearAll]]),
        (0x97, &[&[Hear, Say("20 03 00 97 00"), HearAll]]),
        (0x9f, &[&[Hear, Say("20 03 00 9f 00"), HearAll]]),
    ];
    for (code, script) in REASONS {
        agree(&with(PUB, &["-V", "5"]), script, *code);
        agree(&with(SUB, &["-V", "5"]), script, *code);
    }
}

#[test]
fn a_message_takes_the_steps_of_its_qos() {
    agree(PUB, &[&[Hear, Say("20 02 00 00"), HearAll]], 0);
    agree(
        &with(PUB, &["-q", "1", "-r"]),
        &[&[Hear, Say("20 02 00 00"), Hear, Say("40 02 00 01"), HearAll]],
        0,
    );
    let heard = agree(
        &with(PUB, &["-q", "2"]),
        &[&[
            Hear,
            Say("20 02 00 00"),
            Hear,
            Say("50 02 00 01"),
            Hear,
            Say("70 02 00 01"),
            HearAll,
        ]],
        0,
    );
    assert_eq!(
        heard[2..],
        [
            "340600016100 0178".replace(' ', ""),
            "62020001".into(),
            "e000".into()
        ]
    );
}

#[test]
fn a_message_that_the_broker_does_not_want_is_told() {
    agree(
        &with(PUB, &["-V", "5", "-q", "1"]),
        &[&[
            Hear,
            Say("20 03 00 00 00"),
            Hear,
            Say("40 03 00 01 87"),
            HearAll,
        ]],
        0,
    );
    agree(
        &with(PUB, &["-V", "5", "-q", "2"]),
        &[&[
            Hear,
            Say("20 03 00 00 00"),
            Hear,
            Say("50 03 00 01 97"),
            HearAll,
        ]],
        0,
    );
}

#[test]
fn a_lost_connection_is_an_error_for_a_single_message() {
    agree(PUB, &[&[Hear]], 7);
    agree(
        &with(PUB, &["-q", "1"]),
        &[&[Hear, Say("20 02 00 00"), Hear]],
        7,
    );
}

#[test]
fn lines_go_on_over_a_new_connection() {
    const SCRIPT: &[&[Step]] = &[
        &[Hear, Say("20 02 00 00"), Hear],
        &[Hear, Say("20 02 00 00"), Hear, Say("40 02 00 01"), HearAll],
    ];
    let line = ["mosquitto_pub", "-t", "a", "-l", "-q", "1"];
    let (outcome, heard) = play(Make::Ours, &line, "x\n", SCRIPT);
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    // Another session, so another message: the original sets DUP here.
    let publish = "3206000161000178";
    assert_eq!(heard[2], publish);
    assert_eq!(heard[5..], [publish, "e000"]);
}

#[test]
fn each_line_of_input_is_a_message() {
    let heard = agree_with_input(
        &["mosquitto_pub", "-t", "a", "-l", "-q", "1"],
        "1\n\nlast",
        &[&[
            Hear,
            Say("20 02 00 00"),
            Hear,
            Say("40 02 00 01"),
            Hear,
            Say("40 02 00 02"),
            Hear,
            Say("40 02 00 03"),
            HearAll,
        ]],
        0,
    );
    assert_eq!(
        heard[2..],
        [
            "3206000161000131",
            "32050001610002",
            "32090001610003 6c617374",
            "e000"
        ]
        .map(|hex| hex.replace(' ', ""))
    );
    agree_with_input(
        &["mosquitto_pub", "-t", "a", "-l", "-d"],
        "",
        &[&[Hear, Say("20 02 00 00"), HearAll]],
        0,
    );
    agree_with_input(
        &["mosquitto_pub", "-t", "a", "-s"],
        "1\n2\n",
        &[&[Hear, Say("20 02 00 00"), HearAll]],
        0,
    );
}

/// Lines are not read ahead of what the window takes: the input of a slow broker waits in its pipe.
#[test]
fn no_more_lines_are_in_flight_than_the_window_allows() {
    const SCRIPT: &[&[Step]] = &[&[
        Hear,
        Say("20 06 00 00 03 21 00 02"),
        Hear,
        Hear,
        Say("40 02 00 01"),
        Hear,
        Say("40 02 00 02 40 02 00 03"),
        HearAll,
    ]];
    let line = ["mosquitto_pub", "-t", "a", "-l", "-q", "1", "-V", "5"];
    let (outcome, heard) = play(Make::Ours, &line, "1\n2\n3\n", SCRIPT);
    assert_eq!(outcome.status, Some(0), "{outcome:?}");
    assert_eq!(heard.len(), 6, "{heard:?}");
}

#[test]
fn what_the_broker_cannot_take_is_an_error() {
    // The original ends with 0 in both cases, and without a word when the message is too large.
    const QOS_0_ONLY: &[&[Step]] = &[&[Hear, Say("20 05 00 00 02 24 00"), HearAll]];
    let (outcome, _) = play(
        Make::Ours,
        &with(PUB, &["-V", "5", "-q", "1"]),
        "",
        QOS_0_ONLY,
    );
    assert_eq!(outcome.status, Some(24));
    assert!(
        outcome
            .stderr
            .contains("Message QoS not supported on broker")
    );
    const SMALL_ONLY: &[&[Step]] = &[&[Hear, Say("20 08 00 00 05 27 00 00 00 06"), HearAll]];
    let (outcome, heard) = play(Make::Ours, &with(PUB, &["-V", "5"]), "", SMALL_ONLY);
    assert_eq!(outcome.status, Some(25));
    assert_eq!(heard[2..], ["e000"]);
}

#[test]
fn a_broker_without_retained_messages_gets_none() {
    agree(
        &with(PUB, &["-V", "5", "-r"]),
        &[&[Hear, Say("20 05 00 00 02 25 00"), HearAll]],
        0,
    );
}

#[test]
fn subscriptions_are_asked_for_in_the_same_bytes() {
    for (more, codes) in [
        (&["-t", "b/#", "-t", "+/c"][..], 0),
        (&["-q", "2"], 1),
        (&["-U", "u", "-U", "v"], 2),
    ] {
        const ACCEPT: [&[&[Step]]; 3] = [
            &[&[
                Hear,
                Say("20 02 00 00"),
                Hear,
                Say("90 05 00 01 00 00 00"),
                HearAll,
            ]],
            &[&[
                Hear,
                Say("20 02 00 00"),
                Hear,
                Say("90 03 00 01 02"),
                HearAll,
            ]],
            &[&[
                Hear,
                Say("20 02 00 00"),
                Hear,
                Hear,
                Hear,
                Say("90 03 00 01 00"),
                HearAll,
            ]],
        ];
        agree(&with(SUB, &with(more, &["-E"])), ACCEPT[codes], 0);
    }
    for more in [
        &["-R"][..],
        &["--retain-as-published"],
        &["--retain-as-published", "-q", "1"],
    ] {
        agree(
            &with(SUB, &with(more, &["-V", "5", "-E"])),
            &[&[
                Hear,
                Say("20 03 00 00 00"),
                Hear,
                Say("90 04 00 01 00 00"),
                HearAll,
            ]],
            0,
        );
    }
}

#[test]
fn denied_subscriptions_end_the_program() {
    agree(
        SUB,
        &[&[
            Hear,
            Say("20 02 00 00"),
            Hear,
            Say("90 03 00 01 80"),
            HearAll,
        ]],
        0,
    );
    agree(
        &with(SUB, &["-V", "5"]),
        &[&[
            Hear,
            Say("20 03 00 00 00"),
            Hear,
            Say("90 04 00 01 00 87"),
            HearAll,
        ]],
        0,
    );
}

#[test]
fn messages_of_every_qos_are_acknowledged_and_printed() {
    let heard = agree(
        &with(SUB, &["-q", "2", "-v", "-C", "3"]),
        &[&[
            Hear,
            Say("20 02 00 00"),
            Hear,
            Say("90 03 00 01 02"),
            Say("30 05 00 01 61 30 31"),
            Say("32 06 00 01 61 00 07 32"),
            Hear,
            Say("34 06 00 01 61 00 08 33"),
            Hear,
            Say("62 02 00 08"),
            HearAll,
        ]],
        0,
    );
    assert_eq!(heard[3..], ["40020007", "50020008", "70020008", "e000"]);
}

#[test]
fn retained_messages_are_printed_skipped_or_removed_as_asked() {
    const STALE_THEN_FRESH: &[&[Step]] = &[&[
        Hear,
        Say("20 02 00 00"),
        Hear,
        Say("90 03 00 01 00"),
        Say("31 04 00 01 61 31"),
        Say("30 04 00 01 61 32"),
        HearAll,
    ]];
    for more in [&["-R", "-C", "1"][..], &["-C", "1"], &["--retained-only"]] {
        // Whether the goodbye is heard is chance: who closes with a message unread resets the connection.
        let line = with(SUB, more);
        let mut outcomes = makes().map(|make| play(make, &line, "", STALE_THEN_FRESH).0);
        let ours = outcomes.next().unwrap();
        assert_eq!(ours.status, Some(0), "{more:?}");
        assert!(
            outcomes.all(|original| original == ours),
            "{more:?}: {ours:?}"
        );
    }
}

#[test]
fn the_end_waits_until_retained_messages_are_removed() {
    const ONE: &[&[Step]] = &[&[
        Hear,
        Say("20 02 00 00"),
        Hear,
        Say("90 03 00 01 00"),
        Say("31 04 00 01 61 31"),
        Hear,
        Say("40 02 00 02"),
        HearAll,
    ]];
    // The original waits for more messages then.
    let (outcome, heard) = play(
        Make::Ours,
        &with(SUB, &["--remove-retained", "-C", "1"]),
        "",
        ONE,
    );
    assert_eq!(outcome.status, Some(0));
    assert_eq!(heard[3..], ["33050001610002", "e000"]);
}

#[test]
fn topics_that_are_filtered_out_do_not_count() {
    agree(
        &["mosquitto_sub", "-t", "#", "-T", "a/+", "-v", "-C", "1"],
        &[&[
            Hear,
            Say("20 02 00 00"),
            Hear,
            Say("90 03 00 01 00"),
            Say("30 06 00 03 61 2f 62 31"),
            Say("30 04 00 01 61 32"),
            HearAll,
        ]],
        0,
    );
}

#[test]
fn empty_messages_and_odd_bytes_are_printed_as_they_are() {
    for more in [&[][..], &["-v"], &["-N"]] {
        agree(
            &with(&["mosquitto_sub", "-t", "a", "-C", "2"], more),
            &[&[
                Hear,
                Say("20 02 00 00"),
                Hear,
                Say("90 03 00 01 00"),
                Say("30 03 00 01 61"),
                Say("30 07 00 01 61 00 ff 0a 31"),
                HearAll,
            ]],
            0,
        );
    }
}

#[test]
fn the_subscriber_comes_back_and_subscribes_again() {
    let heard = agree(
        &["mosquitto_sub", "-t", "a", "-C", "1", "-q", "1"],
        &[
            &[Hear, Say("20 02 00 00"), Hear, Say("90 03 00 01 01")],
            &[
                Hear,
                Say("20 02 00 00"),
                Hear,
                Say("90 03 00 02 01"),
                Say("32 06 00 01 61 00 01 31"),
                HearAll,
            ],
        ],
        0,
    );
    assert_eq!(heard.iter().filter(|h| *h == "connection").count(), 2);
}

#[test]
fn the_broker_s_goodbye_ends_the_subscriber() {
    agree(
        &with(SUB, &["-V", "5"]),
        &[&[
            Hear,
            Say("20 03 00 00 00"),
            Hear,
            Say("90 04 00 01 00 00"),
            Say("e0 02 8b 00"),
            HearAll,
        ]],
        0,
    );
}

#[test]
fn what_is_no_mqtt_is_an_error() {
    const NONSENSE: &[&[Step]] = &[&[
        Hear,
        Say("20 02 00 00"),
        Hear,
        Say("90 03 00 01 00"),
        Say("f0 00"),
        HearAll,
    ]];
    // The debug output of the original names the packet.
    agree(&["mosquitto_sub", "-t", "a"], NONSENSE, 2);
}
