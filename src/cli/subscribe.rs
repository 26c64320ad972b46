//! `mosquitto_sub`: subscribes and prints what comes, over as many connections as it takes.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::signal::{SIGALRM, SIGINT, SIGTERM};

use super::link::{Link, Ready, Watch};
use super::options::{Options, Program};
use super::publish::{PROTOCOL_ERROR, RECONNECT_AFTER};
use super::screen::{Screen, complain, words};
use super::transport::ConnectError;
use super::{defaults, status, usage};
use crate::base::clock::Instant;
use crate::client::{Cause, Client, Event, Message};
use crate::mqtt::reason::return_code_text;
use crate::mqtt::{Filter, PacketId, Properties, Qos, Reason, SubscriptionOptions, Topic, Version};
use crate::sys::{clock, random};

/// The whole program.
pub fn main() -> ExitCode {
    let status = match defaults::options(Program::Sub) {
        Ok(options) => run(&options),
        Err(stop) => usage::stop(Program::Sub, &stop),
    };
    ExitCode::from(status)
}

fn run(options: &Options) -> u8 {
    let mut screen = Screen::new(options.quiet);
    let signals = match Signals::take(options.timeout_secs) {
        Ok(signals) => signals,
        Err(error) => {
            complain(&format!("Error: {}", words(&error)));
            return status::FAILURE;
        }
    };
    let settings = options.settings(std::process::id(), random_name);
    let mut link = Link::new(options, settings);
    if let Err(error) = link.connect(None) {
        return connect_failed(&mut screen, &error);
    }
    let mut subscriber = Subscriber {
        options,
        signals,
        printed: 0,
        removing: None,
        end: None,
    };
    let status = subscriber.live(&mut link, &mut screen);
    screen.debug(&mut link.client);
    screen.flush();
    status
}

/// What was asked for, and how far that is.
struct Subscriber<'o> {
    options: &'o Options,
    signals: Signals,
    /// Messages that count for `-C`.
    printed: u32,
    /// The last message of `--remove-retained` that is not acknowledged; what is the end waits for it.
    removing: Option<PacketId>,
    /// The exit status, once it is decided.
    end: Option<u8>,
}

impl Subscriber<'_> {
    /// From the first CONNECT to the end.
    fn live(&mut self, link: &mut Link, screen: &mut Screen) -> u8 {
        let mut reconnect_at = None;
        loop {
            link.each_event(screen, |screen, client, event| {
                self.handle(screen, client, event);
            });
            screen.flush();
            self.look_after_output(&mut link.client, screen);
            screen.debug(&mut link.client);
            let mut connection = link.write();
            let drained = link.client.output().is_empty();
            if let Some(status) = self.end
                && (drained && self.removing.is_none()
                    || connection.is_err()
                    || reconnect_at.is_some())
            {
                return status;
            }
            if reconnect_at.is_some_and(|at| at <= clock::now()) {
                // original: tries again and again, and does not say so.
                let interrupt = Some(self.signals.wake.as_fd());
                let failed = link.connect(interrupt).is_err();
                reconnect_at = failed.then(|| clock::now() + RECONNECT_AFTER);
                continue;
            }
            let closed = link.client.is_closing() && drained;
            if connection.is_ok() && !closed {
                connection = self.wait(link, screen, reconnect_at);
            }
            if connection.is_err() || closed {
                // What came with the end of the connection is printed still.
                link.each_event(screen, |screen, client, event| {
                    self.handle(screen, client, event);
                });
                link.drop_connection();
                reconnect_at = Some(clock::now() + RECONNECT_AFTER);
            }
        }
    }

    fn wait(
        &mut self,
        link: &mut Link,
        screen: &mut Screen,
        until: Option<Instant>,
    ) -> io::Result<()> {
        let stdout = io::stdout();
        let Ready {
            output_broken,
            signals,
            ..
        } = link.wait(&Watch {
            input: None,
            // Once is enough: it would be told again in every turn.
            output: self.end.is_none().then(|| stdout.as_fd()),
            signals: Some(self.signals.wake.as_fd()),
            until,
        })?;
        if output_broken {
            self.finish(&mut link.client, 0, status::BROKEN_PIPE);
        }
        if signals && self.signals.drain() {
            self.interrupted(link, screen);
        }
        Ok(())
    }

    /// SIGINT and SIGTERM end the connection and the program; so does the alarm of `-W`.
    fn interrupted(&mut self, link: &mut Link, screen: &mut Screen) {
        let timed_out = self.signals.alarm.load(Ordering::SeqCst);
        if timed_out {
            screen.error("Timed out");
        }
        // original: leaves it to the broker to publish the will (5.0).
        let code = match link.client.settings().version {
            Version::V5 => Reason::DisconnectWithWill.code(),
            Version::V31 | Version::V311 => 0,
        };
        self.removing = None;
        let status = if timed_out { status::TIMED_OUT } else { 0 };
        self.finish(&mut link.client, code, status);
    }

    /// Nobody who reads, no need to write.
    fn look_after_output(&mut self, client: &mut Client, screen: &Screen) {
        let (Some(error), None) = (screen.broken(), self.end) else {
            return;
        };
        let status = if error.kind() == io::ErrorKind::BrokenPipe {
            status::BROKEN_PIPE
        } else {
            complain(&format!("Error: {}", words(error)));
            status::FAILURE
        };
        self.finish(client, 0, status);
    }

    fn finish(&mut self, client: &mut Client, code: u8, status: u8) {
        self.end.get_or_insert(status);
        if self.removing.is_none() {
            client.disconnect(code);
            // From here on, a signal ends the program where it stands.
            self.signals.fatal.store(true, Ordering::SeqCst);
        }
    }

    fn handle(&mut self, screen: &mut Screen, client: &mut Client, event: Event<'_>) {
        match event {
            Event::Connected { .. } => {
                self.signals.fatal.store(false, Ordering::SeqCst);
                self.subscribe(client);
            }
            Event::Refused { code } => {
                refused(screen, client.settings().version, code);
                self.end = Some(code);
                if self.options.debug {
                    // original: says goodbye to nobody, and says so.
                    let name = client.settings().name();
                    let line = format!("Client {name} sending DISCONNECT\n");
                    screen.out().extend_from_slice(line.as_bytes());
                }
            }
            Event::Message(message) => self.message(screen, client, &message),
            Event::Subscribed { packet_id, codes } => {
                self.subscribed(screen, client, packet_id, &codes);
            }
            Event::Published { packet_id, .. } if self.removing == Some(packet_id) => {
                self.removing = None;
                if let Some(status) = self.end {
                    self.finish(client, 0, status);
                }
            }
            // original: what the broker ends with a DISCONNECT is over, and no error.
            Event::Disconnected { .. } => self.end = Some(0),
            Event::Closed(Cause::Protocol(_)) => {
                screen.error(PROTOCOL_ERROR);
                self.end = Some(status::PROTOCOL);
            }
            Event::Closed(Cause::Disconnect | Cause::NoConnack | Cause::NoPingresp)
            | Event::Unsubscribed { .. }
            | Event::Published { .. } => {}
        }
    }

    /// On every connection: the broker may not have kept them, whatever it says.
    fn subscribe(&self, client: &mut Client) {
        let subscription = self.options.subscription();
        let filters: Vec<(Filter<'_>, SubscriptionOptions)> = filters(&self.options.topics)
            .map(|filter| (filter, subscription))
            .collect();
        // Just connected, and fewer requests than there is room for: not refused.
        let _ = client.subscribe(&filters, Properties::NONE);
        for filter in filters_of_unsubscribe(self.options) {
            let _ = client.unsubscribe(&[filter], Properties::NONE);
        }
    }

    fn subscribed(
        &mut self,
        screen: &mut Screen,
        client: &mut Client,
        packet_id: PacketId,
        codes: &[u8],
    ) {
        if self.options.debug {
            let codes: Vec<String> = codes.iter().map(u8::to_string).collect();
            let line = format!("Subscribed (mid: {packet_id}): {}\n", codes.join(", "));
            screen.out().extend_from_slice(line.as_bytes());
        }
        if codes.iter().all(|code| *code >= 0x80) {
            screen.error("All subscription requests were denied.");
            self.finish(client, 0, 0);
        } else if self.options.exit_after_suback {
            self.finish(client, 0, 0);
        }
    }

    fn message(&mut self, screen: &mut Screen, client: &mut Client, message: &Message<'_>) {
        let options = self.options;
        if self.end.is_some() {
            return;
        }
        if options.retained_only && !message.retain {
            return self.finish(client, 0, 0);
        }
        if message.retain && options.hide_retained {
            return;
        }
        let topic = Topic::trusted(&message.topic);
        if filters(&options.filter_out).any(|filter| filter.matches(topic)) {
            return;
        }
        if options.remove_retained && message.retain {
            let empty = Message::new(topic.as_str(), &[], Qos::AtLeastOnce, true);
            // If there is no room for it, the message stays: the same as when the connection breaks here.
            if let Ok(packet_id) = client.publish(empty) {
                self.removing = Some(packet_id);
                screen.debug(client);
            }
        }
        print(screen.out(), message, options);
        self.printed += 1;
        if options.count == Some(self.printed) {
            self.finish(client, 0, 0);
        }
    }
}

/// The message as the original prints it: an empty one is nothing at all, or `(null)` with `-v`.
fn print(out: &mut Vec<u8>, message: &Message<'_>, options: &Options) {
    let is_empty = message.payload.is_empty();
    if is_empty && !(options.verbose && options.end_of_line) {
        return;
    }
    if options.verbose {
        out.extend_from_slice(message.topic.as_bytes());
        out.push(b' ');
    }
    out.extend_from_slice(if is_empty {
        b"(null)"
    } else {
        &message.payload
    });
    if options.end_of_line {
        out.push(b'\n');
    }
}

/// They were checked when the command line was read.
fn filters(texts: &[String]) -> impl Iterator<Item = Filter<'_>> {
    texts.iter().map(|text| Filter::trusted(text))
}

fn filters_of_unsubscribe(options: &Options) -> impl Iterator<Item = Filter<'_>> {
    filters(&options.unsubscribe)
}

/// SIGINT, SIGTERM and the alarm of `-W`.
struct Signals {
    /// Becomes readable when one came.
    wake: UnixStream,
    alarm: Arc<AtomicBool>,
    /// While set, a signal ends the program where it stands: before the broker has accepted the connection (the
    /// name may be looked up, and nothing would look at `wake`), and once the program is ending anyway.
    fatal: Arc<AtomicBool>,
}

impl Signals {
    fn take(timeout_secs: Option<u32>) -> io::Result<Self> {
        let (wake, write) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let alarm = Arc::new(AtomicBool::new(false));
        let fatal = Arc::new(AtomicBool::new(true));
        for signal in [SIGINT, SIGTERM, SIGALRM] {
            signal_hook::flag::register_conditional_shutdown(
                signal,
                i32::from(status::INTERRUPTED),
                Arc::clone(&fatal),
            )?;
        }
        signal_hook::flag::register(SIGALRM, Arc::clone(&alarm))?;
        for signal in [SIGINT, SIGTERM, SIGALRM] {
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        if let Some(secs) = timeout_secs {
            nix::unistd::alarm::set(secs);
        }
        Ok(Self { wake, alarm, fatal })
    }

    /// Whether there was one.
    fn drain(&self) -> bool {
        let mut buffer = [0; 16];
        matches!(io::Read::read(&mut &self.wake, &mut buffer), Ok(read) if read > 0)
    }
}

/// Says why there is no connection, and returns the exit status.
pub(super) fn connect_failed(screen: &mut Screen, error: &ConnectError) -> u8 {
    match error {
        ConnectError::Lookup => screen.error("Unable to connect (Lookup error.)."),
        ConnectError::System(error) => screen.error(&format!("Error: {}", words(error))),
        ConnectError::Interrupted => {}
    }
    status::FAILURE
}

/// Says what the broker said in its CONNACK.
pub(super) fn refused(screen: &mut Screen, version: Version, code: u8) {
    let text = match (version, Reason::from_u8(code)) {
        (Version::V5, Some(Reason::UnsupportedProtocolVersion)) => {
            "Unsupported Protocol Version. Try connecting to an MQTT v5 broker, or use MQTT v3.x mode."
        }
        (Version::V5, Some(reason)) => reason.text(),
        (Version::V5, None) => return_code_text(code),
        (Version::V31 | Version::V311, _) => return_code_text(code),
    };
    screen.error(&format!("Connection error: {text}"));
}

/// The random part of a client id, as long as 3.1 allows.
pub(super) fn random_name() -> String {
    const LETTERS: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut bytes = [0; 18];
    // Without random bytes the process id, added by nobody else, would have to do; getrandom does not fail.
    if random::fill(&mut bytes).is_err() {
        return std::process::id().to_string();
    }
    let letter = |byte: u8| LETTERS.get(usize::from(byte) % LETTERS.len());
    bytes
        .iter()
        .filter_map(|byte| letter(*byte))
        .map(|letter| char::from(*letter))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn printed(arguments: &[&str], payload: &str) -> String {
        let arguments = ["-t", "#"].iter().chain(arguments).map(OsString::from);
        let options = Options::parse(Program::Sub, None, arguments).unwrap();
        let message = Message::new("a/b", payload.as_bytes(), Qos::AtMostOnce, false);
        let mut out = Vec::new();
        print(&mut out, &message, &options);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_message_is_printed_as_in_the_original() {
        assert_eq!(printed(&[], "12"), "12\n");
        assert_eq!(printed(&["-v"], "12"), "a/b 12\n");
        assert_eq!(printed(&["-N"], "12"), "12");
        assert_eq!(printed(&["-v", "-N"], "12"), "a/b 12");
    }

    #[test]
    fn an_empty_message_shows_with_v_only() {
        assert_eq!(printed(&[], ""), "");
        assert_eq!(printed(&["-v"], ""), "a/b (null)\n");
        assert_eq!(printed(&["-N", "-v"], ""), "");
    }

    #[test]
    fn random_names_differ() {
        assert_ne!(random_name(), random_name());
        assert_eq!(random_name().len(), 18);
    }
}
