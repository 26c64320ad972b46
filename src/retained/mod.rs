//! PURE: retained messages by topic, for one topic and for filters.
//!
//! One ordered set and no tree: `/` is ordered before every other byte, so that a topic and all topics below it
//! stand side by side, and a filter is answered by walking from match to match and jumping over the rest. An entry
//! costs little more than its message, and a walk is continued from a topic, whatever has changed since. What a
//! message is, is the caller's: this room asks for its topic and when it expires.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;

use crate::base::clock::Instant;

/// What can be retained.
pub trait Retainable {
    /// The topic that it is kept under.
    fn topic(&self) -> &str;
    /// When it is gone; `None` is never.
    fn expires_at(&self) -> Option<Instant>;
}

/// At most one message per topic.
#[derive(Debug)]
pub struct Retained<V: Retainable> {
    by_topic: BTreeSet<ByTopic<V>>,
    expiring: usize,
    /// Where the search for expired messages goes on.
    swept_to: Option<Box<str>>,
}

impl<V: Retainable> Default for Retained<V> {
    fn default() -> Self {
        Self {
            by_topic: BTreeSet::new(),
            expiring: 0,
            swept_to: None,
        }
    }
}

/// How far a walk came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Walk {
    /// Every match was shown.
    Done,
    /// The caller wanted no more, or the steps were used up: go on after this walk's last topic.
    Paused,
}

/// What the caller of a walk says to one match.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Want {
    /// Go on.
    More,
    /// This was the last for now.
    Enough,
}

impl<V: Retainable> Retained<V> {
    /// Keeps `message` in place of what its topic had.
    pub fn set(&mut self, message: V) {
        self.expiring += usize::from(message.expires_at().is_some());
        if let Some(old) = self.by_topic.replace(ByTopic(message)) {
            self.expiring -= usize::from(old.0.expires_at().is_some());
        }
    }

    /// Keeps nothing for `topic` any more.
    pub fn clear(&mut self, topic: &str) -> Option<V> {
        let old = self.by_topic.take(&topic as &dyn Key)?.0;
        self.expiring -= usize::from(old.expires_at().is_some());
        Some(old)
    }

    /// What `topic` has.
    pub fn get(&self, topic: &str) -> Option<&V> {
        Some(&self.by_topic.get(&topic as &dyn Key)?.0)
    }

    /// How many topics have a message.
    pub fn len(&self) -> usize {
        self.by_topic.len()
    }

    /// Whether no topic has one.
    pub fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    /// Whether some message will expire, so that [`Retained::sweep`] is worth calling.
    pub fn has_expiring(&self) -> bool {
        self.expiring > 0
    }

    /// Shows every message that matches `filter`, in the order of topics, beginning after the topic `after`. Stops
    /// when `steps` topics were looked at (they are counted down), or when `found` has enough; `last` is then the topic
    /// to go on after.
    pub fn walk<'a>(
        &'a self,
        filter: &str,
        after: Option<&str>,
        steps: &mut usize,
        last: &mut Option<&'a str>,
        mut found: impl FnMut(&'a V) -> Want,
    ) -> Walk {
        if !filter.contains(['+', '#']) {
            *steps = steps.saturating_sub(1);
            let one = self.get(filter).filter(|_| after.is_none());
            if let Some(message) = one {
                *last = Some(message.topic());
                found(message);
            }
            return Walk::Done;
        }
        let mut start = match after {
            Some(topic) => Jump::After(topic.to_owned()),
            None => Jump::To(first_candidate(filter).to_owned()),
        };
        loop {
            let mut entries = self.by_topic.range::<dyn Key, _>(start.bounds());
            let jump = loop {
                let Some(ByTopic(message)) = entries.next() else {
                    return Walk::Done;
                };
                if *steps == 0 {
                    return Walk::Paused;
                }
                *steps -= 1;
                *last = Some(message.topic());
                match fit(filter, message.topic()) {
                    Fit::Match => {
                        if found(message) == Want::Enough {
                            return Walk::Paused;
                        }
                    }
                    Fit::Next => {}
                    Fit::Jump(to) => break to,
                    Fit::Done => return Walk::Done,
                }
            };
            start = Jump::To(jump);
        }
    }

    /// Looks at up to `steps` messages, from where it stopped the last time, and drops those that have expired.
    pub fn sweep(&mut self, now: Instant, steps: usize) {
        let start = match self.swept_to.take() {
            Some(topic) => Jump::After(topic.into()),
            None => Jump::To(String::new()),
        };
        let mut expired: Vec<Box<str>> = Vec::new();
        let mut looked_at = 0;
        for ByTopic(message) in self
            .by_topic
            .range::<dyn Key, _>(start.bounds())
            .take(steps)
        {
            looked_at += 1;
            if looked_at == steps {
                self.swept_to = Some(message.topic().into());
            }
            if message.expires_at().is_some_and(|at| at <= now) {
                expired.push(message.topic().into());
            }
        }
        for topic in expired {
            self.clear(&topic);
        }
    }
}

/// Where in the set a walk begins.
enum Jump {
    To(String),
    After(String),
}

impl Jump {
    fn bounds(&self) -> (Bound<&dyn Key>, Bound<&dyn Key>) {
        let from: Bound<&dyn Key> = match self {
            Self::To(topic) => Bound::Included(topic),
            Self::After(topic) => Bound::Excluded(topic),
        };
        (from, Bound::Unbounded)
    }
}

/// How a topic stands to a filter.
enum Fit {
    Match,
    /// No match; the next topic may be one.
    Next,
    /// No match before this.
    Jump(String),
    /// No match here or later.
    Done,
}

/// The part of the filter in front of its first wildcard: nothing that sorts before it can match.
fn first_candidate(filter: &str) -> &str {
    let wildcard = filter.find(['+', '#']).unwrap_or(filter.len());
    let prefix = filter.get(..wildcard).unwrap_or("");
    // `a/#` matches `a` too, so the walk begins there.
    prefix.strip_suffix('/').unwrap_or(prefix)
}

fn fit(filter: &str, topic: &str) -> Fit {
    // A leading wildcard does not match a leading `$` [MQTT-4.7.2-1]; `%` comes right after all of those.
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return Fit::Jump("%".to_owned());
    }
    let mut levels = topic.split('/');
    // Bytes of the topic's levels that fit so far, the separator behind the last of them included.
    let mut fitting = 0;
    for wanted in filter.split('/') {
        if wanted == "#" {
            return Fit::Match;
        }
        let Some(level) = levels.next() else {
            // Shorter than the filter: what matches comes further down, if at all.
            return Fit::Next;
        };
        if wanted != "+" {
            match level.cmp(wanted) {
                Ordering::Equal => {}
                Ordering::Less => {
                    let mut to = before(topic, fitting).to_owned();
                    to.push_str(wanted);
                    return Fit::Jump(to);
                }
                Ordering::Greater => return past(before(topic, fitting).strip_suffix('/')),
            }
        }
        fitting += level.len() + 1;
    }
    match levels.next() {
        None => Fit::Match,
        // Deeper than the filter: so are all of its siblings below the same parent.
        Some(_) => past(before(topic, fitting).strip_suffix('/')),
    }
}

fn before(topic: &str, end: usize) -> &str {
    topic.get(..end).unwrap_or(topic)
}

/// Behind everything below `parent`. No parent: there is nothing left that could match.
fn past(parent: Option<&str>) -> Fit {
    match parent {
        // `/` sorts first, so the smallest character behind it ends the topics below.
        Some(parent) => Fit::Jump(format!("{parent}\u{1}")),
        None => Fit::Done,
    }
}

/// A message, ordered by its topic with `/` before every other byte.
#[derive(Debug)]
struct ByTopic<V>(V);

/// What entries and plain topics have in common, so that the set can be asked with a borrowed topic.
trait Key {
    fn key(&self) -> &str;
}

impl<V: Retainable> Key for ByTopic<V> {
    fn key(&self) -> &str {
        self.0.topic()
    }
}

impl Key for &str {
    fn key(&self) -> &str {
        self
    }
}

impl Key for String {
    fn key(&self) -> &str {
        self
    }
}

impl<'a, V: Retainable + 'a> Borrow<dyn Key + 'a> for ByTopic<V> {
    fn borrow(&self) -> &(dyn Key + 'a) {
        self
    }
}

fn compare(a: &str, b: &str) -> Ordering {
    let rank = |byte: u8| if byte == b'/' { 0 } else { byte };
    let (a, b) = (a.as_bytes(), b.as_bytes());
    match a.iter().zip(b).find(|(x, y)| x != y) {
        Some((x, y)) => rank(*x).cmp(&rank(*y)),
        None => a.len().cmp(&b.len()),
    }
}

impl Ord for dyn Key + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.key(), other.key())
    }
}

impl PartialOrd for dyn Key + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Key + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for dyn Key + '_ {}

impl<V: Retainable> Ord for ByTopic<V> {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.key(), other.key())
    }
}

impl<V: Retainable> PartialOrd for ByTopic<V> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<V: Retainable> PartialEq for ByTopic<V> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<V: Retainable> Eq for ByTopic<V> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, PartialEq)]
    struct Kept(String, Option<Instant>);

    impl Retainable for Kept {
        fn topic(&self) -> &str {
            &self.0
        }
        fn expires_at(&self) -> Option<Instant> {
            self.1
        }
    }

    fn kept(topics: &[&str]) -> Retained<Kept> {
        let mut retained = Retained::default();
        for topic in topics {
            retained.set(Kept((*topic).to_owned(), None));
        }
        retained
    }

    fn matching(retained: &Retained<Kept>, filter: &str) -> Vec<String> {
        let mut topics = Vec::new();
        let walk = retained.walk(filter, None, &mut usize::MAX.clone(), &mut None, |m| {
            topics.push(m.0.clone());
            Want::More
        });
        assert_eq!(walk, Walk::Done);
        topics.sort();
        topics
    }

    #[test]
    fn a_filter_finds_its_topics_and_their_parent() {
        let retained = kept(&[
            "a", "a/b", "a/b/c", "a!", "a!/b", "b/b", "$SYS/b", "/a", "a/",
        ]);
        assert_eq!(matching(&retained, "a/#"), ["a", "a/", "a/b", "a/b/c"]);
        assert_eq!(matching(&retained, "+/b"), ["a!/b", "a/b", "b/b"]);
        assert_eq!(matching(&retained, "a/+"), ["a/", "a/b"]);
        assert_eq!(matching(&retained, "+"), ["a", "a!"]);
        assert_eq!(matching(&retained, "/+"), ["/a"]);
        assert_eq!(matching(&retained, "a/b"), ["a/b"]);
        assert_eq!(matching(&retained, "x"), [""; 0]);
    }

    #[test]
    fn a_leading_wildcard_does_not_find_dollar_topics() {
        let retained = kept(&["$SYS/x", "$", "%", "a/x", "#"]);
        assert_eq!(matching(&retained, "#"), ["#", "%", "a/x"]);
        assert_eq!(matching(&retained, "+/x"), ["a/x"]);
        assert_eq!(matching(&retained, "$SYS/#"), ["$SYS/x"]);
    }

    #[test]
    fn a_newer_message_replaces_and_clearing_leaves_nothing() {
        let mut retained = kept(&["a"]);
        retained.set(Kept("a".to_owned(), Some(Instant(5))));
        assert_eq!((retained.len(), retained.has_expiring()), (1, true));
        assert_eq!(retained.clear("a").unwrap().1, Some(Instant(5)));
        assert_eq!(retained.clear("a"), None);
        assert!(retained.is_empty() && !retained.has_expiring());
    }

    #[test]
    fn expired_messages_are_swept_away_in_small_steps() {
        let mut retained = kept(&["keep"]);
        for n in 0..10 {
            retained.set(Kept(format!("t{n}"), Some(Instant(n))));
        }
        for _ in 0..5 {
            retained.sweep(Instant(6), 3);
        }
        assert_eq!(retained.len(), 4);
        assert!(retained.get("t6").is_none() && retained.get("t7").is_some());
    }

    /// A small random world in which everything collides.
    fn random_topic(random: &mut u64, wildcards: bool) -> String {
        let mut below = |n: u64| {
            *random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (*random >> 33) % n
        };
        let names = ["a", "b", "a!", "$a", "", "ab", "\u{1}", "0", "+", "#"];
        let depth = below(4) + 1;
        let mut levels = Vec::new();
        for _ in 0..depth {
            let n = below(if wildcards { 10 } else { 8 });
            levels.push(names[usize::try_from(n).unwrap()]);
            if n == 9 {
                break;
            }
        }
        if levels == [""] {
            levels = vec!["a"];
        }
        levels.join("/")
    }

    fn naive_match(filter: &str, topic: &str) -> bool {
        if topic.starts_with('$') && filter.starts_with(['+', '#']) {
            return false;
        }
        let f: Vec<_> = filter.split('/').collect();
        let t: Vec<_> = topic.split('/').collect();
        let fits = |n: usize| f[..n].iter().zip(&t).all(|(f, t)| *f == "+" || f == t);
        match f.last() {
            Some(&"#") => t.len() + 1 >= f.len() && fits(f.len() - 1),
            _ => t.len() == f.len() && fits(f.len()),
        }
    }

    #[test]
    fn random_filters_find_what_trying_every_topic_finds() {
        for seed in 0..4000_u64 {
            let mut random = seed;
            let topics: Vec<_> = (0..25).map(|_| random_topic(&mut random, false)).collect();
            let refs: Vec<_> = topics.iter().map(String::as_str).collect();
            let retained = kept(&refs);
            for _ in 0..5 {
                let filter = random_topic(&mut random, true);
                let mut expected: Vec<_> = topics
                    .iter()
                    .filter(|t| naive_match(&filter, t))
                    .cloned()
                    .collect();
                expected.sort();
                expected.dedup();
                assert_eq!(matching(&retained, &filter), expected, "{seed}: {filter}");
                assert_eq!(
                    in_slices(&retained, &filter, 2),
                    expected,
                    "{seed}: {filter}"
                );
            }
        }
    }

    /// The same walk, paused after each match and after every few steps.
    fn in_slices(retained: &Retained<Kept>, filter: &str, steps: usize) -> Vec<String> {
        let mut topics = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut last = None;
            let walk = retained.walk(
                filter,
                after.as_deref(),
                &mut steps.clone(),
                &mut last,
                |m| {
                    topics.push(m.0.clone());
                    Want::Enough
                },
            );
            if walk == Walk::Done {
                topics.sort();
                return topics;
            }
            after = Some(last.unwrap().to_owned());
        }
    }
}
