//! What the parser takes and refuses, much of it seen on the original 2.0.11.

use proptest::prelude::*;

use super::*;
use crate::config::{LogDest, SocketDomain, Versions, Workers, options};

fn parse_with(text: &[u8], overrides: &Overrides) -> Parsed {
    let main = Source {
        path: "t.conf".to_owned(),
        text: text.to_vec(),
        includes: Vec::new(),
    };
    Config::parse(&main, overrides)
}

fn parse(text: &str) -> Parsed {
    parse_with(text.as_bytes(), &Overrides::default())
}

fn config(text: &str) -> Config {
    let parsed = parse(text);
    parsed.config.unwrap_or_else(|e| panic!("{text}: {e:?}"))
}

fn errors(text: &str) -> Vec<String> {
    let errors = parse(text).config.expect_err(text);
    errors.iter().map(ToString::to_string).collect()
}

fn warnings(text: &str) -> Vec<String> {
    let notices = parse(text).notices.into_iter();
    notices.map(|notice| notice.text).collect()
}

#[test]
fn lines_that_say_nothing_are_skipped() {
    for text in ["", "\n", "\r\n\r\n", "   \n", "# a\n#b"] {
        assert_eq!(config(text), Config::default_local(), "{text:?}");
    }
    let latin1 = parse_with(b"# M\xfcller\nmax_qos 2\n", &Overrides::default());
    assert_eq!(latin1.config, Ok(Config::default_local()));
}

#[test]
fn comments_start_in_the_first_column() {
    assert_eq!(
        errors(" # c"),
        [
            "t.conf:1: #: Unknown configuration variable \"#\", mosquitto.conf(5) lists those there are"
        ]
    );
}

#[test]
fn line_ends_of_other_systems_are_not_part_of_values() {
    let unix = config("listener 1884 ::1\nallow_anonymous true\npid_file /p q\n");
    let other = config("listener 1884 ::1\r\nallow_anonymous true\r\npid_file /p q\r\n");
    assert_eq!(unix, other);
    assert_eq!(other.pid_file.as_deref(), Some("/p q"));
}

#[test]
fn a_tab_does_not_separate_words() {
    let error = errors("user\tx").concat();
    assert!(error.contains("Unknown configuration variable \"user\tx\""));
    assert!(error.ends_with("words are separated by spaces, not by tabs"));
    assert!(errors("allow_anonymous true\t")[0].contains("Invalid allow_anonymous value (true\t)"));
}

#[test]
fn texts_run_to_the_end_of_the_line_and_are_trimmed() {
    let config = config("  pid_file   a b # c \t\nuser  me\t\n");
    assert_eq!(config.pid_file.as_deref(), Some("a b # c"));
    assert_eq!(config.user.as_deref(), Some("me"));
}

#[test]
fn what_follows_a_word_is_ignored_but_not_silently() {
    assert_eq!(
        warnings("allow_anonymous true # fine\nmax_keepalive 60 # fine"),
        [""; 0]
    );
    assert_eq!(
        warnings("allow_anonymous 1 junk"),
        ["Warning: t.conf:1: allow_anonymous: ignored: junk."]
    );
}

#[test]
fn the_later_of_two_values_holds_but_texts_may_not_be_repeated() {
    assert_eq!(config("max_keepalive 5\nmax_keepalive 6").max_keepalive, 6);
    assert!(
        errors("pid_file a\npid_file b")[0]
            .starts_with("t.conf:2: pid_file: Duplicate pid_file value")
    );
    let each =
        config("listener 1\nlistener_auto_id_prefix a\nlistener 2\nlistener_auto_id_prefix b");
    assert_eq!(each.listeners[1].auto_id_prefix.as_deref(), Some("b"));
}

/// Files and the words that the original 2.0.11 prints for them, with the line that it names.
#[test]
fn faults_have_the_words_of_the_original() {
    for (text, line, words) in [
        ("zzz", 1, "Unknown configuration variable \"zzz\""),
        (
            "allow_anonymous",
            1,
            "Empty allow_anonymous value in configuration",
        ),
        (
            "\nallow_anonymous TRUE",
            2,
            "Invalid allow_anonymous value (TRUE)",
        ),
        (
            "max_inflight_messages",
            1,
            "Empty max_inflight_messages value in configuration",
        ),
        (
            "max_packet_size 19",
            1,
            "Invalid max_packet_size value (19)",
        ),
        ("max_packet_size 0", 1, "Invalid max_packet_size value (0)"),
        (
            "max_keepalive 65536",
            1,
            "Invalid max_keepalive value (65536)",
        ),
        ("max_keepalive -1", 1, "Invalid max_keepalive value (-1)"),
        (
            "message_size_limit 300000000",
            1,
            "Invalid message_size_limit value (300000000)",
        ),
        (
            "sys_interval 65536",
            1,
            "Invalid sys_interval value (65536)",
        ),
        (
            "message_size_limit -1",
            1,
            "Invalid message_size_limit value (-1)",
        ),
        ("memory_limit -1", 1, "Invalid memory_limit value (-1)"),
        (
            "persistence_file a\npersistence_file b",
            2,
            "Duplicate persistence_file value",
        ),
        ("pid_file", 1, "Empty pid_file value in configuration"),
        ("user a\nuser b", 2, "Duplicate user value in configuration"),
        ("log_type info", 1, "Invalid log_type value (info)"),
        ("log_dest", 1, "Empty log_dest value in configuration"),
        ("log_dest bogus", 1, "Invalid log_dest value (bogus)"),
        (
            "log_dest file",
            1,
            "Empty \"log_dest file\" value in configuration",
        ),
        (
            "log_dest file a\nlog_dest file a",
            2,
            "Duplicate \"log_dest file\" value",
        ),
        ("log_facility 9", 1, "Invalid log_facility value (9)"),
        ("listener", 1, "Empty listener value in configuration"),
        (
            "listener 0",
            1,
            "A listener with port 0 must provide a Unix socket path",
        ),
        ("listener 65536", 1, "Invalid port value (65536)"),
        ("listener -1", 1, "Invalid port value (-1)"),
        ("port", 1, "Empty port value in configuration"),
        ("port 0", 1, "Invalid port value (0)"),
        ("protocol foo", 1, "Invalid protocol value (foo)"),
        (
            "socket_domain",
            1,
            "Empty socket_domain value in configuration",
        ),
        ("include_dir", 1, "Empty include_dir value in configuration"),
        ("pid_file a\tb", 1, "Malformed UTF-8 in configuration"),
        ("pid_file \x7f", 1, "Malformed UTF-8 in configuration"),
        (
            "log_timestamp_format",
            1,
            "Empty log_timestamp_format value in configuration",
        ),
    ] {
        let error = &errors(text)[0];
        assert!(error.contains(words), "{text:?}: {error}");
        let lines = parse(text).config.unwrap_err()[0].log_lines();
        assert_eq!(lines[1], format!("Error found at t.conf:{line}."));
    }
}

/// As [`faults_have_the_words_of_the_original`], for values that the original 2.0.11 starts with.
#[test]
fn values_that_the_original_takes_are_taken() {
    assert_eq!(
        config("max_inflight_messages 0x10").max_inflight_messages,
        16
    );
    assert_eq!(
        config("max_inflight_messages -1").max_inflight_messages,
        65_535
    );
    assert_eq!(
        config("max_inflight_messages 0").max_inflight_messages,
        65_535
    );
    assert_eq!(
        config("max_queued_messages -3").max_queued_messages,
        u32::MAX
    );
    assert_eq!(config("max_queued_bytes -1").max_queued_bytes, u64::MAX);
    assert_eq!(
        config("max_packet_size 300000000").max_packet_size,
        300_000_000
    );
    assert_eq!(
        config("listener 1\nmax_connections -5").listeners[0].max_connections,
        -5
    );
    assert_eq!(config("listener 1\nmaximum_qos 1").listeners[0].max_qos, 1);
    assert_eq!(
        config("log_type information").log_mask.0,
        LogType::Info as u32
    );
    assert_eq!(
        config("log_type none\nlog_type error").log_mask.0,
        LogType::Error as u32
    );
    assert_eq!(
        config("log_type error\nlog_type none").log_mask,
        LogMask::NONE
    );
    assert_eq!(config("log_type all junk").log_mask, LogMask::ALL);
    assert_eq!(config("log_type").log_mask, LogMask::DEFAULT);
    assert_eq!(config("log_dest stderr\nlog_dest none").log_dests, []);
    assert_eq!(
        config("log_dest none\nlog_dest stdout").log_dests,
        [LogDest::Stdout]
    );
    assert_eq!(
        config("persistent_client_expiration").persistent_client_expiration,
        None
    );
    assert_eq!(
        config("persistent_client_expiration 1d junk").persistent_client_expiration,
        Some(86_400)
    );
}

#[test]
fn numbers_with_junk_are_refused() {
    for text in [
        "max_inflight_messages abc",
        "max_qos x",
        "sys_interval 3x",
        "listener 1901x",
        "port abc",
        "listener abc",
    ] {
        assert!(errors(text)[0].contains("Invalid "), "{text}");
    }
}

#[test]
fn every_fault_of_a_file_is_reported() {
    let errors = errors("max_qos 3\nmax_keepalive 1\nbogus\nlistener");
    let lines: Vec<_> = errors
        .iter()
        .map(|e| e.split(": ").next().unwrap())
        .collect();
    assert_eq!(lines, ["t.conf:1", "t.conf:3", "t.conf:4"]);
    assert_eq!(
        errors[0],
        "t.conf:1: max_qos: Invalid max_qos value (3), allowed: 0 to 2"
    );
}

#[test]
fn faults_beyond_the_limit_are_counted() {
    let parsed = parse(&"bogus\n".repeat(CONFIG_ERRORS_MAX + 7));
    assert_eq!(parsed.config.unwrap_err().len(), CONFIG_ERRORS_MAX);
    assert_eq!(
        parsed.notices[0].text,
        "Error: 7 more errors are not shown."
    );
}

#[test]
fn what_is_not_built_is_refused_with_its_line() {
    assert_eq!(
        errors("\npersistence true"),
        ["t.conf:2: persistence: not built yet in this version of mosquitto, allowed: false"]
    );
    for text in [
        "cafile /x",
        "connection c",
        "addresses h",
        "auth_plugin p.so",
        "auth_opt_host h",
        "plugin_opt_x y",
        "password_file f",
        "protocol websockets",
        "listener 0 /run/m.sock",
        "log_dest syslog",
    ] {
        assert!(
            errors(text)[0].contains("not built yet in this version"),
            "{text}"
        );
    }
    assert!(
        errors("plugin_opt_ y")[0].contains("Unknown"),
        "a key is missing"
    );
}

#[test]
fn what_asks_for_what_is_done_anyway_is_accepted() {
    let accepted = "persistence 0\nretained_persistence false\npersistence_file a.db\nautosave_interval 5\n\
        persistence_location /var/lib/mosquitto/\nper_listener_settings false\nenable_control_api false\n\
        global_max_connections -1\nmax_topic_alias 10\nprotocol mqtt\nrequire_certificate false\n\
        upgrade_outgoing_qos false\ncheck_retain_source true\nmemory_limit 0\nlog_facility 3";
    assert_eq!(config(accepted), Config::default_local());
}

#[test]
fn obsolete_options_warn_and_do_nothing() {
    let text = "retry_interval 20\ndhparamfile x\nwebsockets_log_level 255\npacket_buffer_size 1";
    assert_eq!(config(text), Config::default_local());
    assert_eq!(
        warnings(text)[0],
        "Warning: t.conf:1: retry_interval: ignored, messages are sent again on reconnect only."
    );
    assert_eq!(warnings(text).len(), 4);
}

#[test]
fn deprecated_options_work_and_say_what_to_use() {
    let text = "port 1884\nbind_address ::1";
    assert_eq!(
        warnings(text),
        [
            "Warning: t.conf:1: port: deprecated, use listener.",
            "Warning: t.conf:2: bind_address: deprecated, use listener."
        ]
    );
    let [listener] = config(text).listeners.try_into().unwrap();
    assert_eq!(listener, Listener::new(1884, Some("::1".to_owned())));
}

#[test]
fn options_are_about_the_listener_above_them() {
    let config = config(
        "port 1\nmax_qos 1\nlistener 2 host # c\nmax_connections 7\nsocket_domain ipv6\n\
         listener_allow_anonymous true\naccept_protocol_versions 4, 5\nlistener 0x3   # c",
    );
    let [second, third, default] = config.listeners.try_into().unwrap();
    assert_eq!((default.port, default.max_qos), (1, 1));
    assert_eq!(
        second,
        Listener {
            max_connections: 7,
            socket_domain: SocketDomain::Ipv6,
            allow_anonymous: Some(true),
            versions: Versions {
                v31: false,
                ..Versions::ALL
            },
            ..Listener::new(2, Some("host".to_owned()))
        }
    );
    assert_eq!(third, Listener::new(3, None));
    assert!(!config.local_only);
}

#[test]
fn a_repeated_port_warns_and_the_last_one_holds() {
    let text = "port 12\nport 13";
    assert_eq!(config(text).listeners, [Listener::new(13, None)]);
    assert!(
        warnings(text)
            .concat()
            .contains("Default listener port specified multiple times")
    );
}

#[test]
fn anonymous_clients_are_refused_once_there_is_a_listener() {
    assert!(config("max_keepalive 5").allow_anonymous);
    assert!(!config("listener 1").allow_anonymous);
    assert!(!config("port 1").allow_anonymous);
    assert!(!config("bind_address ::1").allow_anonymous);
    assert!(config("allow_anonymous true\nlistener 1").allow_anonymous);
    assert!(!config("allow_anonymous false").allow_anonymous);
}

#[test]
fn a_restriction_before_any_listener_opens_the_default_one_as_in_the_original() {
    for text in ["max_connections 5", "max_qos 1", "socket_domain ipv4"] {
        let config = config(text);
        assert!(!config.local_only && !config.allow_anonymous, "{text}");
        assert_eq!(config.listeners[0].port, 1883);
        assert!(
            warnings(text)
                .concat()
                .contains("open port 1883 on all addresses")
        );
    }
    assert!(config("max_connections -1").local_only);
    let stays_local = config("listener_allow_anonymous true\naccept_protocol_versions 5");
    assert!(stays_local.local_only && !stays_local.listeners[1].versions.v311);
}

#[test]
fn ports_of_the_command_line_count_without_a_listener_only() {
    let overrides = Overrides {
        ports: vec![1884, 1885],
        ..Overrides::default()
    };
    let local = parse_with(b"max_keepalive 9", &overrides);
    let local = local.config.unwrap();
    assert_eq!(local.max_keepalive, 9);
    assert_eq!(
        local.listeners,
        Config::local_on_ports(&[1884, 1885]).listeners
    );
    let listener = parse_with(b"listener 7", &overrides);
    assert_eq!(listener.config.unwrap().listeners, [Listener::new(7, None)]);
    assert!(listener.notices[0].text.contains("-p is ignored"));
}

#[test]
fn verbosity_of_the_command_line_stands_above_the_file() {
    let with = |verbosity| {
        let overrides = Overrides {
            verbosity,
            ports: Vec::new(),
        };
        parse_with(b"log_type error\nlog_dest stdout", &overrides)
            .config
            .unwrap()
    };
    assert_eq!(with(Verbosity::All).log_mask, LogMask::ALL);
    assert_eq!(with(Verbosity::All).log_dests, [LogDest::Stdout]);
    assert_eq!(with(Verbosity::Nothing).log_mask, LogMask::NONE);
    assert_eq!(with(Verbosity::Nothing).log_dests, []);
}

#[test]
fn our_own_options_have_bounds() {
    assert_eq!(config("workers 3").workers, Workers::Count(3));
    assert_eq!(config("workers auto").workers, Workers::Auto);
    assert_eq!(config("ring_size 0x10000").ring_bytes, Some(65_536));
    for text in [
        "workers 0",
        "workers 57",
        "workers many",
        "ring_size 65535",
        "ring_size 1073741825",
    ] {
        assert!(errors(text)[0].contains(", allowed: auto, "), "{text}");
    }
}

#[test]
fn protocol_versions_are_a_list() {
    for (list, shown) in [
        ("3", (true, false, false)),
        ("4 5", (false, true, true)),
        ("5,3", (true, false, true)),
    ] {
        let versions =
            config(&format!("listener 1\naccept_protocol_versions {list}")).listeners[0].versions;
        assert_eq!((versions.v31, versions.v311, versions.v5), shown, "{list}");
    }
    for list in [",", "6", "3,x"] {
        assert!(errors(&format!("accept_protocol_versions {list}"))[0].contains("Invalid"));
    }
}

#[test]
fn too_many_listeners_are_refused() {
    assert!(errors(&"listener 1\n".repeat(LISTENERS_MAX + 1))[0].contains("too many listeners"));
}

#[test]
fn an_included_file_begins_with_the_default_listener() {
    let included = |text: &str| {
        Ok(Source {
            path: "i.conf".into(),
            text: text.into(),
            includes: Vec::new(),
        })
    };
    let main = Source {
        path: "t.conf".into(),
        text: b"listener 1\ninclude_dir d\nmax_qos 1".to_vec(),
        includes: vec![Include {
            line: 2,
            files: Ok(vec![
                included("max_qos 0\nlistener 2"),
                included("include_dir e\nport 3"),
            ]),
        }],
    };
    let parsed = Config::parse(&main, &Overrides::default());
    let config = parsed.config.unwrap();
    let seen: Vec<_> = config
        .listeners
        .iter()
        .map(|l| (l.port, l.max_qos))
        .collect();
    assert_eq!(seen, [(1, 1), (2, 2), (3, 0)]);
    assert!(parsed.notices.iter().any(|n| {
        n.text
            .starts_with("Warning: i.conf:1: include_dir: ignored")
    }));
}

fn any_line() -> impl Strategy<Value = Vec<u8>> {
    let name = prop::sample::select(options::rows().map(|row| row.name).collect::<Vec<_>>());
    let word = prop::sample::select(vec![
        "",
        "0",
        "1",
        "-1",
        "true",
        "false",
        "none",
        "file",
        "auto",
        "0x7fffffff",
        "99999999999",
        "ipv4",
        "3,4",
        "mqtt",
        "#",
        "1d",
        "all",
        "\t",
        "\0",
        "é",
    ]);
    prop_oneof![
        3 => (name, word.clone(), word).prop_map(|(n, a, b)| format!("{n} {a} {b}").into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

#[test]
fn an_address_is_one_word() {
    let errors = parse("bind_address ::1 ::2").config.unwrap_err();
    assert!(errors[0].to_string().contains("one host name or address"));
}

proptest! {
    #[test]
    fn arbitrary_files_never_panic_and_every_fault_names_its_line(
        lines in prop::collection::vec(any_line(), 0..30),
    ) {
        let text = lines.join(&b'\n');
        let count = text.split(|b| *b == b'\n').count();
        match parse_with(&text, &Overrides::default()).config {
            Ok(config) => {
                prop_assert!(!config.listeners.is_empty());
                prop_assert_eq!(Config::from_snapshot(&config.to_snapshot()), Ok(config));
            }
            Err(errors) => {
                prop_assert!(!errors.is_empty());
                for error in errors {
                    let place = error.place.clone().unwrap();
                    prop_assert!(place.line >= 1 && place.line <= count);
                    let start = format!("t.conf:{}: ", place.line);
                    prop_assert!(error.to_string().starts_with(&start));
                    prop_assert!(error.log_lines()[1].starts_with("Error found at t.conf:"));
                }
            }
        }
    }
}
