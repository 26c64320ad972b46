//! The table of options: one row each, for both client programs. Parsing, `--help`, the refusal of what is not built
//! and the check of the manual pages follow from it.

use std::path::PathBuf;

use super::number::{leading_integer, leading_seconds};
use super::options::{Options, Payload, Program};
use super::url::{self, BadUrl};
use crate::base::limits::STRING_BYTES_MAX;
use crate::mqtt::{Filter, Qos, RetainHandling, Topic, Version};

/// One option.
#[derive(Debug)]
pub struct Row {
    /// All that it may be called; the one that `--help` shows comes first.
    pub names: &'static [&'static str],
    pub programs: Programs,
    /// What `--help` calls the value; empty if it takes none.
    pub value: &'static str,
    pub help: &'static str,
    pub effect: Effect,
}

/// Who has an option.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Programs {
    Both,
    PubOnly,
    SubOnly,
}

impl Programs {
    /// Whether `program` has it.
    pub const fn contains(self, program: Program) -> bool {
        matches!(
            (self, program),
            (Self::Both, _) | (Self::PubOnly, Program::Pub) | (Self::SubOnly, Program::Sub)
        )
    }
}

/// What an option does.
#[derive(Clone, Copy, Debug)]
pub enum Effect {
    Flag(fn(&mut Options) -> Result<(), String>),
    Value {
        /// What is said when there is no value.
        missing: &'static str,
        apply: fn(&mut Options, Vec<u8>) -> Result<(), String>,
    },
    Help,
    Version,
    /// The original has it; refused by name.
    NotBuilt,
}

/// The row of the option that is called `name`.
pub fn find(program: Program, name: &[u8]) -> Option<&'static Row> {
    ROWS.iter().find(|row| {
        row.programs.contains(program) && row.names.iter().any(|own| own.as_bytes() == name)
    })
}

const fn flag(
    names: &'static [&'static str],
    programs: Programs,
    help: &'static str,
    apply: fn(&mut Options) -> Result<(), String>,
) -> Row {
    Row {
        names,
        programs,
        value: "",
        help,
        effect: Effect::Flag(apply),
    }
}

const fn value(
    names: &'static [&'static str],
    programs: Programs,
    value: &'static str,
    missing: &'static str,
    help: &'static str,
    apply: fn(&mut Options, Vec<u8>) -> Result<(), String>,
) -> Row {
    Row {
        names,
        programs,
        value,
        help,
        effect: Effect::Value { missing, apply },
    }
}

const fn not_built(names: &'static [&'static str], programs: Programs) -> Row {
    Row {
        names,
        programs,
        value: "",
        help: "",
        effect: Effect::NotBuilt,
    }
}

use Programs::{Both, PubOnly, SubOnly};

/// Every option that the original has, in the order of `--help`.
pub const ROWS: &[Row] = &[
    value(
        &["-h", "--host"],
        Both,
        "HOST",
        "-h argument given but no host specified",
        "connect to the broker on HOST (default: localhost)",
        |o, v| set_text(&mut o.host, "-h", v),
    ),
    value(
        &["-p", "--port"],
        Both,
        "PORT",
        "-p argument given but no port specified",
        "connect to PORT (default: 1883)",
        |o, v| set_port(o, &v),
    ),
    value(
        &["--unix"],
        Both,
        "PATH",
        "--unix argument given but no socket path specified",
        "connect to the Unix socket PATH instead",
        |o, v| {
            o.unix = Some(path(v));
            Ok(())
        },
    ),
    value(
        &["-L", "--url"],
        Both,
        "URL",
        "-L argument given but no URL specified",
        "mqtt://[USER[:PASSWORD]@]HOST[:PORT]/TOPIC in one word",
        set_url,
    ),
    value(
        &["-A"],
        Both,
        "ADDRESS",
        "-A argument given but no address specified",
        "connect from this local address",
        |o, v| set(&mut o.bind_address, text("-A", v)?),
    ),
    value(
        &["-t", "--topic"],
        Both,
        "TOPIC",
        "-t argument given but no topic specified",
        "publish to TOPIC; subscribe to it (as often as wanted, with + and #)",
        add_topic,
    ),
    value(
        &["-m", "--message"],
        PubOnly,
        "MESSAGE",
        "-m argument given but no message specified",
        "publish MESSAGE",
        |o, v| set_payload(o, Payload::Bytes(v)),
    ),
    value(
        &["-f", "--file"],
        PubOnly,
        "FILE",
        "-f argument given but no file specified",
        "publish the contents of FILE",
        |o, v| set_payload(o, Payload::File(path(v))),
    ),
    flag(
        &["-l", "--stdin-line"],
        PubOnly,
        "publish each line of standard input as a message",
        |o| set_payload(o, Payload::Lines),
    ),
    flag(
        &["-s", "--stdin-file"],
        PubOnly,
        "publish all of standard input as one message",
        |o| set_payload(o, Payload::WholeInput),
    ),
    flag(
        &["-n", "--null-message"],
        PubOnly,
        "publish an empty message",
        |o| set_payload(o, Payload::Bytes(Vec::new())),
    ),
    value(
        &["-q", "--qos"],
        Both,
        "QOS",
        "-q argument given but no QoS specified",
        "quality of service: 0, 1 or 2 (default: 0)",
        |o, v| set_qos(&mut o.qos, "Error: Invalid QoS given: ", "", &v),
    ),
    flag(
        &["-r", "--retain"],
        PubOnly,
        "ask the broker to keep the message for later subscribers",
        |o| on(&mut o.retain),
    ),
    value(
        &["--repeat"],
        PubOnly,
        "N",
        "--repeat argument given but no count specified",
        "publish the message N times (with -f, -m, -n or -s)",
        |o, v| {
            let count = u32::try_from(leading_integer(&v)).unwrap_or(0);
            set_if(
                count > 0,
                &mut o.repeat,
                count,
                "Error: --repeat argument must be >0.",
            )
        },
    ),
    value(
        &["--repeat-delay"],
        PubOnly,
        "SECONDS",
        "--repeat-delay argument given but no time specified",
        "wait between these messages (default: 0)",
        |o, v| {
            o.repeat_delay =
                leading_seconds(&v).ok_or("Error: --repeat-delay argument must be >=0.0.")?;
            Ok(())
        },
    ),
    value(
        &["-M"],
        PubOnly,
        "N",
        "-M argument given but max_inflight not specified",
        "messages of QoS 1 and 2 that may wait for their acknowledgement (default: 20)",
        |o, v| {
            let n = u16::try_from(leading_integer(&v)).unwrap_or(0);
            let text = "Error: Maximum inflight messages must be greater than 0.";
            set_if(n > 0, &mut o.in_flight_max, n, text)
        },
    ),
    value(
        &["-C"],
        SubOnly,
        "N",
        "-C argument given but no count specified",
        "end after N messages",
        |o, v| set_count(&mut o.count, "message count", &v),
    ),
    value(
        &["-W"],
        SubOnly,
        "SECONDS",
        "-W argument given but no timeout specified",
        "end after this time, with exit status 27",
        |o, v| set_count(&mut o.timeout_secs, "timeout", &v),
    ),
    flag(
        &["-E"],
        SubOnly,
        "end when the broker has acknowledged the subscriptions",
        |o| on(&mut o.exit_after_suback),
    ),
    value(
        &["-T", "--filter-out"],
        SubOnly,
        "TOPIC",
        "-T argument given but no topic filter specified",
        "do not print messages whose topic matches (as often as wanted)",
        |o, v| add_filter(&mut o.filter_out, "filter", "-T", v),
    ),
    value(
        &["-U", "--unsubscribe"],
        SubOnly,
        "TOPIC",
        "-U argument given but no unsubscribe topic specified",
        "unsubscribe from TOPIC (as often as wanted)",
        |o, v| add_filter(&mut o.unsubscribe, "unsubscribe", "-U", v),
    ),
    flag(
        &["-v", "--verbose"],
        SubOnly,
        "print the topic in front of each message",
        |o| on(&mut o.verbose),
    ),
    flag(
        &["-N"],
        SubOnly,
        "print no end of line behind a message",
        |o| {
            o.end_of_line = false;
            Ok(())
        },
    ),
    flag(&["-R"], SubOnly, "do not print retained messages", |o| {
        on(&mut o.hide_retained)
    }),
    flag(
        &["--retained-only"],
        SubOnly,
        "print retained messages, and end at the first that is not",
        |o| on(&mut o.retained_only),
    ),
    flag(
        &["--remove-retained"],
        SubOnly,
        "remove each retained message from the broker once it came (not those of -T)",
        |o| on(&mut o.remove_retained),
    ),
    flag(
        &["--retain-as-published"],
        SubOnly,
        "5.0: have the retain flag of messages as their publisher set it",
        |o| on(&mut o.retain_as_published),
    ),
    value(
        &["--retain-handling"],
        SubOnly,
        "WHEN",
        "--retain-handling argument given but no option specified",
        "5.0: ask for retained messages always (default), for new subscriptions (new) or never",
        set_retain_handling,
    ),
    value(
        &["-i", "--id"],
        Both,
        "ID",
        "-i argument given but no id specified",
        "the client id (default: the broker chooses one)",
        |o, v| {
            if o.id_prefix.is_some() {
                return Err("Error: -i and -I argument cannot be used together.".to_owned());
            }
            set(&mut o.client_id, text("-i", v)?)
        },
    ),
    value(
        &["-I", "--id-prefix"],
        Both,
        "PREFIX",
        "-I argument given but no id prefix specified",
        "make the client id of PREFIX and the process id",
        |o, v| {
            if o.client_id.is_some() {
                return Err("Error: -i and -I argument cannot be used together.".to_owned());
            }
            set(&mut o.id_prefix, text("-I", v)?)
        },
    ),
    flag(
        &["-c", "--disable-clean-session"],
        Both,
        "keep the session at the broker when the connection ends (needs -i)",
        |o| {
            o.clean = false;
            Ok(())
        },
    ),
    value(
        &["-x"],
        Both,
        "SECONDS",
        "-x argument given but no session expiry interval specified",
        "5.0: how long to keep it; -1 is for ever (default: with -c for ever, else 0)",
        |o, v| set_session_expiry(o, &v),
    ),
    value(
        &["-k", "--keepalive"],
        Both,
        "SECONDS",
        "-k argument given but no keepalive specified",
        "ping the broker when nothing else was said for this time (default: 60)",
        |o, v| {
            let secs = u16::try_from(leading_integer(&v)).unwrap_or(0);
            let text = "Error: Invalid keepalive given, it must be between 5 and 65535 inclusive.";
            set_if(secs >= 5, &mut o.keep_alive_secs, secs, text)
        },
    ),
    value(
        &["-u", "--username"],
        Both,
        "NAME",
        "-u argument given but no username specified",
        "log in as NAME",
        |o, v| set(&mut o.username, text("-u", v)?),
    ),
    value(
        &["-P", "--pw"],
        Both,
        "PASSWORD",
        "-P argument given but no password specified",
        "with this password",
        |o, v| set(&mut o.password, bounded("-P", v)?),
    ),
    value(
        &["-V", "--protocol-version"],
        Both,
        "VERSION",
        "--protocol-version argument given but no version specified",
        "mqttv5, mqttv311 or mqttv31, or just the number (default: mqttv311)",
        |o, v| set_version(o, &v),
    ),
    value(
        &["--will-topic"],
        Both,
        "TOPIC",
        "--will-topic argument given but no will topic specified",
        "if the connection breaks, the broker publishes a will to TOPIC",
        set_will_topic,
    ),
    value(
        &["--will-payload"],
        Both,
        "MESSAGE",
        "--will-payload argument given but no will payload specified",
        "its payload (default: empty)",
        |o, v| set(&mut o.will_payload, bounded("--will-payload", v)?),
    ),
    value(
        &["--will-qos"],
        Both,
        "QOS",
        "--will-qos argument given but no will QoS specified",
        "its quality of service (default: 0)",
        |o, v| set_qos(&mut o.will_qos, "Error: Invalid will QoS ", ".", &v),
    ),
    flag(&["--will-retain"], Both, "it is retained", |o| {
        on(&mut o.will_retain)
    }),
    flag(
        &["--nodelay"],
        Both,
        "send without waiting for more to send: always so here",
        |_| Ok(()),
    ),
    flag(
        &["-d", "--debug"],
        Both,
        "print each packet that is sent and received",
        |o| on(&mut o.debug),
    ),
    flag(
        &["--quiet"],
        Both,
        "print no errors about the connection",
        |o| on(&mut o.quiet),
    ),
    Row {
        names: &["--help"],
        programs: Both,
        value: "",
        help: "print this",
        effect: Effect::Help,
    },
    Row {
        names: &["--version"],
        programs: Both,
        value: "",
        help: "print the version",
        effect: Effect::Version,
    },
    not_built(&["-D", "--property"], Both),
    not_built(&["-F"], SubOnly),
    not_built(&["--pretty"], SubOnly),
    not_built(&["--random-filter"], SubOnly),
    not_built(&["-w", "--watch"], SubOnly),
    not_built(&["--message-rate"], SubOnly),
    not_built(&["-o"], Both),
    not_built(&["-S"], Both),
    not_built(&["--proxy"], Both),
    not_built(&["--ws"], Both),
    not_built(&["--cafile"], Both),
    not_built(&["--capath"], Both),
    not_built(&["--cert"], Both),
    not_built(&["--key"], Both),
    not_built(&["--keyform"], Both),
    not_built(&["--ciphers"], Both),
    not_built(&["--insecure"], Both),
    not_built(&["--tls-version"], Both),
    not_built(&["--tls-alpn"], Both),
    not_built(&["--tls-engine"], Both),
    not_built(&["--tls-engine-kpass-sha1"], Both),
    not_built(&["--tls-use-os-certs"], Both),
    not_built(&["--tls-keylog"], Both),
    not_built(&["--no-tls"], Both),
    not_built(&["--psk"], Both),
    not_built(&["--psk-identity"], Both),
];

fn on(flag: &mut bool) -> Result<(), String> {
    *flag = true;
    Ok(())
}

fn set<T>(place: &mut Option<T>, value: T) -> Result<(), String> {
    *place = Some(value);
    Ok(())
}

fn set_if<T>(good: bool, place: &mut T, value: T, otherwise: &str) -> Result<(), String> {
    if !good {
        return Err(otherwise.to_owned());
    }
    *place = value;
    Ok(())
}

fn path(value: Vec<u8>) -> PathBuf {
    PathBuf::from(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(value))
}

/// What fits a field of a packet.
fn bounded(option: &str, value: Vec<u8>) -> Result<Vec<u8>, String> {
    match value.len() {
        0..=STRING_BYTES_MAX => Ok(value),
        _ => Err(format!(
            "Error: {option} argument is longer than {STRING_BYTES_MAX} bytes."
        )),
    }
}

fn text(option: &str, value: Vec<u8>) -> Result<String, String> {
    String::from_utf8(bounded(option, value)?)
        .map_err(|_| format!("Error: Malformed UTF-8 in {option} argument."))
}

fn set_text(place: &mut String, option: &str, value: Vec<u8>) -> Result<(), String> {
    *place = text(option, value)?;
    Ok(())
}

fn set_port(options: &mut Options, value: &[u8]) -> Result<(), String> {
    let number = leading_integer(value);
    // original: takes 0 for a Unix socket, and then finds no path.
    let port = u16::try_from(number).unwrap_or(0);
    let text = format!("Error: Invalid port given: {number}");
    set_if(port > 0, &mut options.port, port, &text)
}

fn set_url(options: &mut Options, value: Vec<u8>) -> Result<(), String> {
    let value = text("-L", value)?;
    let url = url::parse(&value).map_err(|error| match error {
        BadUrl::Scheme => "Error: unsupported URL scheme.".to_owned(),
        BadUrl::SchemeNotBuilt(scheme) => {
            format!("Error: The URL scheme '{scheme}' is not available yet.")
        }
        BadUrl::TopicMissing => {
            "Error: Invalid URL for -L argument specified - topic missing.".to_owned()
        }
    })?;
    url.host.clone_into(&mut options.host);
    // original: the port of an earlier -p does not outlive a URL without one.
    set_port(options, url.port.unwrap_or("1883").as_bytes())?;
    if let Some(username) = url.username {
        options.username = Some(username.to_owned());
    }
    if let Some(password) = url.password {
        options.password = Some(password.as_bytes().to_vec());
    }
    add_topic(options, url.topic.as_bytes().to_vec())
}

fn add_topic(options: &mut Options, value: Vec<u8>) -> Result<(), String> {
    if options.program == Program::Sub {
        return add_filter(&mut options.topics, "subscription", "-t", value);
    }
    let topic = utf8("-t", value)?;
    if Topic::new(&topic).is_none() {
        return Err(format!(
            "Error: Invalid publish topic '{topic}', does it contain '+' or '#'?"
        ));
    }
    // The last one counts.
    options.topics = vec![topic];
    Ok(())
}

/// Without a bound: a topic that is too long is said to be an invalid topic.
fn utf8(option: &str, value: Vec<u8>) -> Result<String, String> {
    String::from_utf8(value).map_err(|_| format!("Error: Malformed UTF-8 in {option} argument."))
}

fn add_filter(
    filters: &mut Vec<String>,
    what: &str,
    option: &str,
    value: Vec<u8>,
) -> Result<(), String> {
    let filter = utf8(option, value)?;
    if Filter::new(&filter).is_none() {
        return Err(format!(
            "Error: Invalid {what} topic '{filter}', are all '+' and '#' wildcards correct?"
        ));
    }
    filters.push(filter);
    Ok(())
}

fn set_will_topic(options: &mut Options, value: Vec<u8>) -> Result<(), String> {
    let topic = utf8("--will-topic", value)?;
    if Topic::new(&topic).is_none() {
        return Err(format!(
            "Error: Invalid will topic '{topic}', does it contain '+' or '#'?"
        ));
    }
    set(&mut options.will_topic, topic)
}

fn set_payload(options: &mut Options, payload: Payload) -> Result<(), String> {
    let first = options.message == Payload::Missing;
    let text = "Error: Only one type of message can be sent at once.";
    set_if(first, &mut options.message, payload, text)
}

fn set_qos(place: &mut Qos, before: &str, after: &str, value: &[u8]) -> Result<(), String> {
    let number = leading_integer(value);
    *place = u8::try_from(number)
        .ok()
        .and_then(Qos::from_bits)
        .ok_or_else(|| format!("{before}{number}{after}"))?;
    Ok(())
}

fn set_count(place: &mut Option<u32>, what: &str, value: &[u8]) -> Result<(), String> {
    let number = leading_integer(value);
    match u32::try_from(number) {
        Ok(count) if count > 0 => set(place, count),
        _ => Err(format!("Error: Invalid {what} \"{number}\".")),
    }
}

fn set_version(options: &mut Options, value: &[u8]) -> Result<(), String> {
    options.version = match value {
        b"mqttv31" | b"31" => Version::V31,
        b"mqttv311" | b"311" => Version::V311,
        b"mqttv5" | b"5" => Version::V5,
        _ => return Err("Error: Invalid protocol version argument given.".to_owned()),
    };
    Ok(())
}

fn set_session_expiry(options: &mut Options, value: &[u8]) -> Result<(), String> {
    let secs = if value == "∞".as_bytes() || value == b"-1" {
        u32::MAX
    } else {
        let number: i64 = std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse().ok())
            .ok_or("Error: session-expiry-interval not a number.")?;
        u32::try_from(number).map_err(|_| "Error: session-expiry-interval out of range.")?
    };
    options.session_expiry_secs = Some(secs);
    // original: since 2.1; before, the option did nothing in 3.x.
    options.version = Version::V5;
    Ok(())
}

fn set_retain_handling(options: &mut Options, value: Vec<u8>) -> Result<(), String> {
    options.retain_handling = match value.as_slice() {
        b"always" => RetainHandling::Send,
        b"new" => RetainHandling::SendIfNew,
        b"never" => RetainHandling::DoNotSend,
        _ => {
            let value = String::from_utf8_lossy(&value).into_owned();
            return Err(format!("Error: Unknown --retain-handling value '{value}'."));
        }
    };
    Ok(())
}
