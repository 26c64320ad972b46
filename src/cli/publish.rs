//! `mosquitto_pub`: publishes one message, some of them, or one for each line that it reads.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::link::{Link, Watch};
use super::options::{Options, Payload, Program};
use super::screen::{Screen, complain, words};
use super::subscribe::{connect_failed, random_name, refused};
use super::{defaults, status, usage};
use crate::base::clock::Instant;
use crate::base::limits::REMAINING_LENGTH_MAX;
use crate::client::{Cause, Client, Event, Message, Refusal};
use crate::mqtt::Reason;
use crate::sys::clock;

/// The whole program.
pub fn main() -> ExitCode {
    let status = match defaults::options(Program::Pub) {
        Ok(options) => run(&options),
        Err(stop) => usage::stop(Program::Pub, &stop),
    };
    ExitCode::from(status)
}

fn run(options: &Options) -> u8 {
    let mut screen = Screen::new(options.quiet);
    let source = match Source::open(options) {
        Ok(source) => source,
        Err(text) => {
            complain(&text);
            return status::FAILURE;
        }
    };
    let settings = options.settings(std::process::id(), random_name);
    let mut link = Link::new(options, settings);
    if let Err(error) = link.connect(None) {
        return connect_failed(&mut screen, &error);
    }
    let mut publisher = Publisher {
        options,
        source,
        next_at: Instant::default(),
        reconnect_at: None,
        done: false,
        end: None,
    };
    let status = publisher.live(&mut link, &mut screen);
    screen.debug(&mut link.client);
    screen.flush();
    status
}

/// What is to be published, and how far that is.
struct Publisher<'o> {
    options: &'o Options,
    source: Source,
    /// When the next message may go (`--repeat-delay`).
    next_at: Instant,
    /// When to connect again, while there is no connection.
    reconnect_at: Option<Instant>,
    /// All is published; the acknowledgements may be missing.
    done: bool,
    /// The exit status, once it is decided.
    end: Option<u8>,
}

impl Publisher<'_> {
    /// From the first CONNECT to the end.
    fn live(&mut self, link: &mut Link, screen: &mut Screen) -> u8 {
        loop {
            link.each_event(screen, |screen, client, event| {
                self.handle(screen, client, event);
            });
            if self.end.is_none() {
                self.publish_some(&mut link.client, screen);
            }
            screen.debug(&mut link.client);
            screen.flush();
            let mut connection = link.write();
            let drained = link.client.output().is_empty();
            if let Some(status) = self.end
                && (drained || connection.is_err())
            {
                return status;
            }
            if self.reconnect_at.is_some_and(|at| at <= clock::now()) {
                let failed = link.connect(None).is_err();
                self.reconnect_at = failed.then(|| clock::now() + RECONNECT_AFTER);
                continue;
            }
            if connection.is_ok() {
                connection = self.wait(link);
            }
            if connection.is_err() {
                // What came with the end of the connection may say why.
                link.each_event(screen, |screen, client, event| {
                    self.handle(screen, client, event);
                });
                if let Some(status) = self.connection_lost(link, screen) {
                    return status;
                }
            }
        }
    }

    fn wait(&mut self, link: &mut Link) -> io::Result<()> {
        let stdin = io::stdin();
        // What cannot be sent is not read.
        let wants_input = match link.is_connected() {
            true => link.client.is_online() && link.client.has_room(self.options.qos),
            false => self.source.is_empty(),
        };
        let next_at = (!self.done && link.client.is_online()).then_some(self.next_at);
        let ready = link.wait(&Watch {
            input: (wants_input && self.source.wants_input()).then(|| stdin.as_fd()),
            until: next_at
                .filter(|at| *at > clock::now())
                .or(self.reconnect_at),
            ..Watch::default()
        })?;
        if ready.input {
            self.source.read_input(stdin.as_fd());
        }
        Ok(())
    }

    fn handle(&mut self, screen: &mut Screen, client: &mut Client, event: Event<'_>) {
        match event {
            Event::Refused { code } => {
                refused(screen, client.settings().version, code);
                let refusal = match code {
                    1..=5 => "Error: The connection was refused.",
                    _ => PROTOCOL_ERROR,
                };
                screen.error(refusal);
                self.end = Some(code);
            }
            Event::Published { packet_id, code } if code >= 0x80 => {
                let reason = match Reason::from_u8(code) {
                    Some(reason) => reason.text(),
                    None => "Unknown reason",
                };
                screen.error(&format!("Warning: Publish {packet_id} failed: {reason}."));
            }
            Event::Closed(Cause::Protocol(_)) => {
                screen.error(PROTOCOL_ERROR);
                self.end = Some(status::PROTOCOL);
            }
            Event::Closed(Cause::NoConnack | Cause::NoPingresp) => {
                screen.error("Error: The broker did not answer within the keepalive.");
                self.end = Some(status::KEEP_ALIVE);
            }
            Event::Connected { .. }
            | Event::Message(_)
            | Event::Subscribed { .. }
            | Event::Unsubscribed { .. }
            | Event::Published { .. }
            | Event::Disconnected { .. }
            | Event::Closed(Cause::Disconnect) => {}
        }
    }

    /// Publishes as much as there is and as there is room for, and says goodbye behind the last acknowledgement.
    fn publish_some(&mut self, client: &mut Client, screen: &mut Screen) {
        let options = self.options;
        let topic = options.topics.first().map_or("", String::as_str);
        while !self.done
            && client.is_online()
            && client.has_room(options.qos)
            && self.next_at <= clock::now()
        {
            let payload = match self.source.next() {
                Next::Payload(payload) => payload,
                Next::Later => break,
                Next::End => {
                    self.done = true;
                    break;
                }
            };
            let message = Message::new(topic, payload, options.qos, options.retain);
            match client.publish(message) {
                Ok(_) => {
                    self.source.advance();
                    screen.debug(client);
                    screen.flush_if_large();
                }
                Err(Refusal::Full) => break,
                Err(refusal) => {
                    let (status, text) = explain(refusal);
                    screen.error(text);
                    return self.finish(client, status);
                }
            }
            if self.source.is_repeating() && options.repeat_delay > Duration::ZERO {
                self.next_at = clock::now() + options.repeat_delay;
            }
        }
        self.done |= self.source.is_at_end();
        if let Some(error) = self.source.error() {
            screen.error(&format!("Error: {}", words(error)));
            return self.finish(client, status::FAILURE);
        }
        if self.done && client.unfinished() == 0 {
            self.finish(client, 0);
        }
    }

    fn finish(&mut self, client: &mut Client, status: u8) {
        client.disconnect(0);
        self.end = Some(status);
    }

    /// Lines go on over a new connection; one message that is lost is for the caller to send again. Returns the exit
    /// status if this is the end.
    fn connection_lost(&mut self, link: &mut Link, screen: &mut Screen) -> Option<u8> {
        if self.end.is_some() {
            return self.end;
        }
        if !self.source.is_lines() {
            screen.error("Error: The connection was lost.");
            return Some(status::CONNECTION_LOST);
        }
        link.drop_connection();
        self.reconnect_at = Some(clock::now() + RECONNECT_AFTER);
        None
    }
}

/// Why a message cannot be published at all.
fn explain(refusal: Refusal) -> (u8, &'static str) {
    match refusal {
        Refusal::QosNotSupported => (
            status::QOS_NOT_SUPPORTED,
            "Error: Message QoS not supported on broker, try a lower QoS.",
        ),
        Refusal::TooLarge => (
            status::TOO_LARGE,
            "Error: Message is larger than the broker accepts.",
        ),
        Refusal::InvalidTopic => (
            status::FAILURE,
            "Error: Invalid input. Does your topic contain '+' or '#'?",
        ),
        Refusal::NotConnected | Refusal::Full => {
            (status::CONNECTION_LOST, "Error: The connection was lost.")
        }
    }
}

/// Where payloads come from.
enum Source {
    /// The same one, so many times more.
    Same {
        payload: Vec<u8>,
        left: u32,
    },
    Lines(Lines),
}

/// Standard input, cut into lines.
#[derive(Default)]
struct Lines {
    buffer: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// Up to here there is no end of line behind `start`.
    searched: usize,
    ended: bool,
    error: Option<io::Error>,
}

enum Next<'s> {
    Payload(&'s [u8]),
    /// When more input has come.
    Later,
    End,
}

impl Source {
    fn open(options: &Options) -> Result<Self, String> {
        let payload = match &options.message {
            Payload::Lines => return Ok(Self::Lines(Lines::default())),
            Payload::Bytes(bytes) => bytes.clone(),
            Payload::File(path) => load_file(path)?,
            Payload::WholeInput => load_input()?,
            Payload::Missing => Vec::new(),
        };
        if payload.len() > REMAINING_LENGTH_MAX {
            return Err("Error: Message payload is too large.".to_owned());
        }
        Ok(Self::Same {
            payload,
            left: options.repeat,
        })
    }

    fn is_lines(&self) -> bool {
        matches!(self, Self::Lines(_))
    }

    fn is_repeating(&self) -> bool {
        matches!(self, Self::Same { left, .. } if *left > 0)
    }

    fn is_at_end(&self) -> bool {
        match self {
            Self::Same { left, .. } => *left == 0,
            Self::Lines(lines) => lines.ended && lines.start == lines.buffer.len(),
        }
    }

    /// Whether there is nothing to publish before more is read.
    fn is_empty(&mut self) -> bool {
        !matches!(self.next(), Next::Payload(_))
    }

    fn error(&self) -> Option<&io::Error> {
        match self {
            Self::Same { .. } => None,
            Self::Lines(lines) => lines.error.as_ref(),
        }
    }

    fn wants_input(&self) -> bool {
        matches!(self, Self::Lines(lines) if !lines.ended)
    }

    fn read_input(&mut self, stdin: BorrowedFd<'_>) {
        if let Self::Lines(lines) = self {
            lines.read(stdin);
        }
    }

    /// The next payload, which stays the next until [`Source::advance`].
    fn next(&mut self) -> Next<'_> {
        match self {
            Self::Same { left: 0, .. } => Next::End,
            Self::Same { payload, .. } => Next::Payload(payload),
            Self::Lines(lines) => lines.next(),
        }
    }

    fn advance(&mut self) {
        match self {
            Self::Same { left, .. } => *left = left.saturating_sub(1),
            Self::Lines(lines) => lines.start = (lines.searched + 1).min(lines.buffer.len()),
        }
    }
}

impl Lines {
    /// What there is to read now; called when that is something.
    fn read(&mut self, stdin: BorrowedFd<'_>) {
        self.buffer.drain(..self.start);
        self.searched = self.searched.saturating_sub(self.start);
        self.start = 0;
        let filled = self.buffer.len();
        self.buffer.resize(filled + LINES_BYTES_READ, 0);
        let room = self.buffer.get_mut(filled..).unwrap_or_default();
        let read = match nix::unistd::read(stdin, room) {
            Ok(0) => {
                self.ended = true;
                0
            }
            Ok(read) => read,
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => 0,
            Err(error) => {
                self.ended = true;
                self.error = Some(error.into());
                0
            }
        };
        self.buffer.truncate(filled + read);
        if filled + read > REMAINING_LENGTH_MAX + LINES_BYTES_READ {
            self.ended = true;
            self.error = Some(io::Error::other("Line is too long for a message"));
        }
    }

    /// The line without its end. The last one needs none.
    fn next(&mut self) -> Next<'_> {
        let from = self.searched.max(self.start);
        let rest = self.buffer.get(from..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'\n');
        self.searched = from + end.unwrap_or(rest.len());
        match end {
            Some(_) => {}
            None if !self.ended => return Next::Later,
            None if self.start == self.buffer.len() => return Next::End,
            None => {}
        }
        Next::Payload(
            self.buffer
                .get(self.start..self.searched)
                .unwrap_or_default(),
        )
    }
}

fn load_file(path: &Path) -> Result<Vec<u8>, String> {
    let name = path.to_string_lossy();
    let failed = |what: String| format!("{what}\nError loading input file \"{name}\".");
    let open = || {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok::<_, io::Error>((file, length))
    };
    let (file, length) =
        open().map_err(|_| failed(format!("Error: Unable to open file \"{name}\".")))?;
    let too_long = || {
        failed(format!(
            "Error: File must be less than {REMAINING_LENGTH_MAX} bytes.\n"
        ))
    };
    if length > REMAINING_LENGTH_MAX as u64 {
        return Err(too_long());
    }
    read_bounded(file).map_err(|error| match error {
        Some(error) => failed(format!("Error: {}", words(&error))),
        None => too_long(),
    })
}

fn load_input() -> Result<Vec<u8>, String> {
    let bytes = read_bounded(io::stdin().lock()).map_err(|error| match error {
        Some(error) => format!("Error: {}\nError loading input from stdin.", words(&error)),
        None => format!(
            "Error: Input must be less than {REMAINING_LENGTH_MAX} bytes.\nError loading input from stdin."
        ),
    })?;
    if bytes.is_empty() {
        return Err("Error: Zero length input.\nError loading input from stdin.".to_owned());
    }
    Ok(bytes)
}

/// All of it; `Err(None)` if that is more than a message can hold.
fn read_bounded(source: impl Read) -> Result<Vec<u8>, Option<io::Error>> {
    let mut bytes = Vec::new();
    let bound = REMAINING_LENGTH_MAX as u64 + 1;
    source.take(bound).read_to_end(&mut bytes).map_err(Some)?;
    match bytes.len() {
        0..=REMAINING_LENGTH_MAX => Ok(bytes),
        _ => Err(None),
    }
}

pub(super) const PROTOCOL_ERROR: &str =
    "Error: A network protocol error occurred when communicating with the broker.";
/// As in the original.
pub(super) const RECONNECT_AFTER: Duration = Duration::from_secs(1);
const LINES_BYTES_READ: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    /// What a pipe brings in these pieces is published as.
    fn published(pieces: &[&str]) -> Vec<String> {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut writer = Some(&mut writer);
        let mut source = Source::Lines(Lines::default());
        let mut seen = Vec::new();
        let mut take = |source: &mut Source| {
            while let Next::Payload(payload) = source.next() {
                seen.push(String::from_utf8(payload.to_vec()).unwrap());
                source.advance();
            }
        };
        for piece in pieces {
            io::Write::write_all(writer.as_mut().unwrap(), piece.as_bytes()).unwrap();
            source.read_input(reader.as_fd());
            take(&mut source);
        }
        let Source::Lines(lines) = &mut source else {
            unreachable!()
        };
        lines.ended = true;
        take(&mut source);
        assert!(source.is_at_end());
        seen
    }

    #[test]
    fn each_line_is_a_message_and_so_is_an_unended_last_one() {
        assert_eq!(published(&["a\nb\nc"]), ["a", "b", "c"]);
        assert_eq!(published(&["a\n\nb\n"]), ["a", "", "b"]);
        assert_eq!(published(&["a\r\n"]), ["a\r"]);
    }

    #[test]
    fn lines_may_come_in_pieces() {
        assert_eq!(
            published(&["a", "b", "\n", "\nc", "\nd\ne"]),
            ["ab", "", "c", "d", "e"]
        );
    }

    #[test]
    fn no_input_is_no_message() {
        assert_eq!(published(&[]), Vec::<String>::new());
    }
}
