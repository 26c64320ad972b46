//! Command lines that are wrong.

use crate::programs::{Make, run, same};

/// Both say the same and end with 1. Nothing listens on the port, should one of them think that all is well.
#[test]
fn what_is_wrong_is_said_in_the_original_s_words() {
    let cases: &[(&str, &[&[&str]])] = &[
        (
            "mosquitto_pub",
            &[
                &["-p"],
                &["-h"],
                &["-k"],
                &["-t"],
                &["-m"],
                &["-f"],
                &["-i"],
                &["-I"],
                &["-u"],
                &["-P"],
                &["-q"],
                &["-V"],
                &["-L"],
                &["-A"],
                &["-M"],
                &["-x"],
                &["--unix"],
                &["--repeat"],
                &["--repeat-delay"],
                &["--will-topic"],
                &["--will-payload"],
                &["--will-qos"],
                &["--topic"],
                &["--message"],
                &["--foo"],
                &["-dq"],
                &["-v"],
                &["-C", "1"],
                &["foo"],
                &["-t", "a", "-q", "-m", "x"],
                &["-t", "a", "-m", "x", "-n"],
                &["-t", "a", "-m", "x", "-m", "y"],
                &["-t", "a", "-m", "x", "-l"],
                &["-t", "a", "-l", "-s"],
                &["-t", "a", "-n", "-n"],
                &["-t", "a", "-n", "-f", "x"],
                &["-t", "a", "-n", "-q", "3"],
                &["-t", "a", "-n", "-q", "-1"],
                &["-t", "a/#", "-n"],
                &["-t", "+", "-n"],
                &["-p", "70000"],
                &["-p", "-1"],
                &["-k", "4"],
                &["-k", "65536"],
                &["-k", "x"],
                &["-V", "6"],
                &["-V", "mqttv3"],
                &["-M", "0"],
                &["--repeat", "0"],
                &["--repeat-delay", "-1"],
                &["-t", "a", "-n", "-c"],
                &["-t", "a", "-n", "-c", "-I", "x"],
                &["-t", "a", "-n", "-i", "x", "-I", "y"],
                &["-t", "a", "-n", "-I", "x", "-i", "y"],
                &["-t", "a", "-n", "-i", ""],
                &["-t", "a", "-n", "-P", "x"],
                &["-t", "a", "-n", "-V", "5", "-x", "-1"],
                &["-x", "one"],
                &["-x", "-2"],
                &["-x", "4294967296"],
                &["-t", "a", "-n", "--will-payload", "x"],
                &["-t", "a", "-n", "--will-retain"],
                &["--will-qos", "3"],
                &["--will-topic", "a/#"],
                &["-L", "http://localhost/a"],
                &["-L", "mqtt://localhost"],
                &["-t", "a", "-f", "/nonexistent/file"],
                &["-t", "a", "-s"],
            ],
        ),
        (
            "mosquitto_sub",
            &[
                &[],
                &["-C"],
                &["-W"],
                &["-T"],
                &["-U"],
                &["-m", "x"],
                &["-n"],
                &["-r"],
                &["-l"],
                &["-t", "a#"],
                &["-t", "a/#/b"],
                &["-t", "a+"],
                &["-T", "a#"],
                &["-U", "a#"],
                &["-U", "a"],
                &["-C", "0"],
                &["-C", "-1"],
                &["-W", "0"],
                &["-W", "x"],
                &["-t", "a", "-c"],
                &["-t", "a", "-R", "--retained-only"],
                &["-t", "a", "-i", ""],
                &["-t", "a", "-P", "x"],
                &["-q", "5", "--quiet"],
            ],
        ),
    ];
    for (program, lines) in cases {
        for line in *lines {
            assert_eq!(
                same(program, line, "").status,
                Some(1),
                "{program} {line:?}"
            );
        }
    }
}

#[test]
fn help_and_version_are_on_standard_output() {
    for program in ["mosquitto_pub", "mosquitto_sub"] {
        for (option, needle) in [("--help", "Usage: "), ("--version", " version ")] {
            for make in crate::programs::makes() {
                let outcome = run(make, program, &[option, "--foo"], "");
                assert_eq!(outcome.status, Some(1), "{make:?} {option}");
                assert!(outcome.stdout.contains(needle) && outcome.stderr.is_empty());
            }
        }
    }
}

/// The usage is printed too, in words of our own.
#[test]
fn without_topic_or_message_there_is_nothing_to_publish() {
    for line in [&[][..], &["-t", "a"], &["-m", "x"], &["-n", "-d"]] {
        for make in crate::programs::makes() {
            let outcome = run(make, "mosquitto_pub", line, "");
            assert_eq!(outcome.status, Some(1));
            assert_eq!(
                outcome.stderr.trim_end(),
                "Error: Both topic and message must be supplied."
            );
            assert!(outcome.stdout.contains("Usage: mosquitto_pub"));
        }
    }
}

/// The original takes these for something else: an empty topic goes to the broker (which ends the connection) and
/// status 0, port 0 is a Unix socket without a path.
#[test]
fn what_cannot_work_is_refused_at_once() {
    for (program, line) in [
        ("mosquitto_pub", &["-t", "", "-n"][..]),
        ("mosquitto_pub", &["-t", "a", "-n", "-p", "0"]),
        ("mosquitto_pub", &["-t", "a", "-n", "-p", "x"]),
        ("mosquitto_pub", &["-n", "-L", "mqtt://localhost/"]),
        ("mosquitto_sub", &["-t", ""]),
    ] {
        let outcome = run(Make::Ours, program, line, "");
        assert_eq!(outcome.status, Some(1), "{program} {line:?}");
        assert!(outcome.stderr.starts_with("Error: "), "{}", outcome.stderr);
    }
}

#[test]
fn options_that_are_missing_are_refused_by_name() {
    for (program, option) in [
        ("mosquitto_pub", "--cafile"),
        ("mosquitto_pub", "-D"),
        ("mosquitto_sub", "-F"),
        ("mosquitto_sub", "--psk"),
        ("mosquitto_sub", "--proxy"),
    ] {
        let outcome = run(Make::Ours, program, &["-t", "a", option, "x"], "");
        assert_eq!(outcome.status, Some(1));
        let text = format!("Error: The option '{option}' is not available yet.");
        assert!(outcome.stderr.starts_with(&text), "{}", outcome.stderr);
    }
}

/// Options of the user's own file hold, and those of the command line stand above them.
#[test]
fn the_user_s_defaults_are_read() {
    let port = crate::broker::free_port().to_string();
    let dir = std::env::temp_dir().join(format!("cli-defaults-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let text = format!("# mine\n-h 127.0.0.1\n-p {port}\n-q 3\n");
    std::fs::write(dir.join("mosquitto_pub"), &text).unwrap();
    std::fs::write(dir.join("mosquitto_sub"), text.replace("-q 3\n", "")).unwrap();
    for make in crate::programs::makes() {
        for (program, error) in [
            ("mosquitto_pub", "Error: Invalid QoS given: 3\n"),
            ("mosquitto_sub", "Error: Connection refused\n"),
        ] {
            let output = std::process::Command::new(crate::programs::path(make, program).unwrap())
                .args(["-t", "a"])
                .env("XDG_CONFIG_HOME", &dir)
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(1));
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.starts_with(error), "{make:?} {program}: {said}");
        }
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
