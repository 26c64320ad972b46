//! A topic name and a filter, parted by a line feed: what is accepted keeps the rules, and matching agrees with a
//! naive model.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mosquitto::mqtt::{Filter, Topic};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (name, filter) = text.split_once('\n').unwrap_or((text, text));
    // Whatever stands there, a record of our own ring may say that it was checked.
    let _ = Filter::trusted(filter).matches(Topic::trusted(name));
    let topic = Topic::new(name);
    if topic.is_some() {
        assert!(!name.is_empty() && !name.contains(['+', '#', '\0']));
    }
    let Some(filter) = Filter::new(filter) else {
        return;
    };
    let inner = filter.shared().map_or(filter, |(group, inner)| {
        assert!(!group.is_empty() && !group.contains(['/', '+', '#']));
        assert_eq!(
            Some(inner.as_str()),
            Filter::new(inner.as_str()).map(Filter::as_str)
        );
        inner
    });
    check_wildcards(inner.as_str());
    if let Some(topic) = topic {
        assert_eq!(filter.matches(topic), model(inner.as_str(), name));
    }
});

fn check_wildcards(filter: &str) {
    let levels: Vec<&str> = filter.split('/').collect();
    for (at, level) in levels.iter().enumerate() {
        assert!(!level.contains('+') || *level == "+");
        assert!(!level.contains('#') || (*level == "#" && at + 1 == levels.len()));
    }
}

fn model(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    let fixed = filter.strip_suffix(&["#"]).unwrap_or(&filter);
    let is_open = fixed.len() < filter.len();
    (topic.len() == fixed.len() || (is_open && topic.len() > fixed.len()))
        && fixed
            .iter()
            .zip(&topic)
            .all(|(wanted, level)| *wanted == "+" || wanted == level)
}
