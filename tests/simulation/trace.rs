//! What happens, line by line, when a failing seed is replayed with `TRACE=1`.

use std::sync::OnceLock;

use mosquitto::ipc::mesh::{Message, ToStore, ToWorker, announcements, kind};

/// Whether anybody wants to see it.
pub fn is_on() -> bool {
    static ON: OnceLock<bool> = OnceLock::new();
    *ON.get_or_init(|| std::env::var_os("TRACE").is_some())
}

/// One line, after the number of the step.
macro_rules! trace {
    ($step:expr, $($what:tt)*) => {
        if $crate::trace::is_on() {
            println!("{:>6}  {}", $step, format_args!($($what)*));
        }
    };
}
pub(crate) use trace;

/// A record between members, in words.
pub fn record(record_kind: u8, bytes: &[u8]) -> String {
    match record_kind {
        kind::PUBLISH => match Message::decode(bytes) {
            Ok(m) => format!(
                "PUBLISH {} q{} r{} from {:?} id {:?} releases {:?} '{}'",
                m.topic,
                m.qos as u8,
                u8::from(m.retain),
                m.publisher,
                m.packet_id,
                m.releases,
                String::from_utf8_lossy(m.payload)
            ),
            Err(e) => format!("{e:?}"),
        },
        kind::ANNOUNCE => format!("ANNOUNCE {:?}", announcements(bytes).collect::<Vec<_>>()),
        kind::INDEX_END => "INDEX_END".to_owned(),
        _ => match (
            ToStore::decode(record_kind, bytes),
            ToWorker::decode(record_kind, bytes),
        ) {
            (Ok(record), _) => format!("{record:?}"),
            (_, Ok(record)) => format!("{record:?}"),
            (Err(e), _) => format!("{e:?}"),
        },
    }
}
