//! The broker: the supervisor, or the child that it started.

use std::process::ExitCode;

use mosquitto::process::{child, supervisor};
use mosquitto::sys::heap::CountingHeap;

#[global_allocator]
static HEAP: CountingHeap = CountingHeap;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let title = arguments.next().unwrap_or_default();
    if title.to_string_lossy().starts_with(child::TITLE_PREFIX) {
        return child::run();
    }
    supervisor::run(arguments)
}
