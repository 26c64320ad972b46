//! The tree of filters with wildcards: a node per level, all in one vector, and one table that leads from a node and a
//! level's name to the node below. A node takes 48 bytes and about 14 of the table, and a name of up to 22 bytes none.

use std::hash::{BuildHasher, Hasher};

use foldhash::quality::RandomState;

use super::table::{Ids, NONE, Slots};

/// What the filters of one node are called by whoever keeps their subscribers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    /// A filter that ends at this node.
    Here(u32),
    /// One that goes on with `#` from here.
    Hash(u32),
}

/// The tree.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: Slots<Node>,
    below: Ids,
    hasher: RandomState,
}

#[derive(Debug)]
struct Node {
    name: Name,
    parent: u32,
    /// Nodes below by name, `+` not counted.
    named: u32,
    plus: u32,
    /// Filters that end here, and that go on with `#`.
    here: u32,
    hash: u32,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.named == 0 && self.plus == NONE && self.here == NONE && self.hash == NONE
    }
}

/// Short names stand in their nodes.
#[derive(Debug)]
enum Name {
    Short { len: u8, bytes: [u8; SHORT_MAX] },
    Long(Box<[u8]>),
}

const SHORT_MAX: usize = 22;

impl Name {
    fn new(name: &[u8]) -> Self {
        let mut bytes = [0; SHORT_MAX];
        match (bytes.get_mut(..name.len()), u8::try_from(name.len())) {
            (Some(short), Ok(len)) => {
                short.copy_from_slice(name);
                Self::Short { len, bytes }
            }
            _ => Self::Long(name.into()),
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or(bytes),
            Self::Long(bytes) => bytes,
        }
    }
}

/// The first level and what follows it; `None` after the last.
fn split(levels: &[u8]) -> (&[u8], Option<&[u8]>) {
    match levels.iter().position(|byte| *byte == b'/') {
        Some(at) => (levels.get(..at).unwrap_or(levels), levels.get(at + 1..)),
        None => (levels, None),
    }
}

impl Tree {
    /// No filter.
    pub fn new() -> Self {
        Self {
            nodes: Slots::default(),
            below: Ids::default(),
            hasher: RandomState::default(),
        }
    }

    /// The node below `parent` by this name.
    fn named(&self, parent: u32, name: &[u8]) -> Option<u32> {
        self.below.find(self.hash(parent, name), |id| {
            let node = self.nodes.get(id);
            node.is_some_and(|node| node.parent == parent && node.name.bytes() == name)
        })
    }

    #[expect(clippy::cast_possible_truncation, reason = "a hash: its low half")]
    fn hash(&self, parent: u32, name: &[u8]) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u32(parent);
        hasher.write(name);
        hasher.finish() as u32
    }

    /// Where `filter` ends, if there are nodes for it.
    pub fn find(&self, filter: &str) -> Option<End> {
        let mut at = ROOT;
        let mut rest = Some(filter.as_bytes());
        self.nodes.get(ROOT)?;
        while let Some(levels) = rest {
            let (level, after) = split(levels);
            rest = after;
            at = match level {
                b"#" => return Some(End::Hash(at)),
                b"+" => self.nodes.get(at)?.plus,
                name => self.named(at, name)?,
            };
        }
        self.nodes.get(at).map(|_| End::Here(at))
    }

    /// Where `filter` ends, with the nodes on the way there.
    pub fn reach(&mut self, filter: &str) -> End {
        if self.nodes.len() == 0 {
            self.add(NONE, b"");
        }
        let mut at = ROOT;
        let mut rest = Some(filter.as_bytes());
        while let Some(levels) = rest {
            let (level, after) = split(levels);
            rest = after;
            at = match level {
                b"#" => return End::Hash(at),
                b"+" => match self.nodes.get(at).map_or(NONE, |node| node.plus) {
                    NONE => {
                        let plus = self.add(at, level);
                        if let Some(node) = self.nodes.get_mut(at) {
                            node.plus = plus;
                        }
                        plus
                    }
                    plus => plus,
                },
                name => match self.named(at, name) {
                    Some(named) => named,
                    None => {
                        let named = self.add(at, name);
                        self.below.insert(self.hash(at, name), named);
                        if let Some(node) = self.nodes.get_mut(at) {
                            node.named += 1;
                        }
                        named
                    }
                },
            };
        }
        End::Here(at)
    }

    fn add(&mut self, parent: u32, name: &[u8]) -> u32 {
        self.nodes.insert(Node {
            name: Name::new(name),
            parent,
            named: 0,
            plus: NONE,
            here: NONE,
            hash: NONE,
        })
    }

    /// What the filter that ends there is called; [`NONE`] is no filter.
    pub fn filter(&self, end: End) -> u32 {
        let (End::Here(at) | End::Hash(at)) = end;
        let node = self.nodes.get(at);
        node.map_or(NONE, |node| match end {
            End::Here(_) => node.here,
            End::Hash(_) => node.hash,
        })
    }

    /// Gives the filter that ends there its name.
    pub fn set_filter(&mut self, end: End, filter: u32) {
        let (End::Here(at) | End::Hash(at)) = end;
        if let Some(node) = self.nodes.get_mut(at) {
            match end {
                End::Here(_) => node.here = filter,
                End::Hash(_) => node.hash = filter,
            }
        }
    }

    /// There is no filter there any more: its nodes go, as far as nobody else needs them.
    pub fn prune(&mut self, end: End) {
        self.set_filter(end, NONE);
        let (End::Here(mut at) | End::Hash(mut at)) = end;
        while self.nodes.get(at).is_some_and(Node::is_empty) {
            let Some(gone) = self.nodes.remove(at) else {
                return;
            };
            let hash = self.hash(gone.parent, gone.name.bytes());
            if let Some(parent) = self.nodes.get_mut(gone.parent) {
                if parent.plus == at {
                    parent.plus = NONE;
                } else {
                    parent.named -= 1;
                    self.below.remove(hash, at);
                }
            }
            at = gone.parent;
        }
    }

    /// Puts the filter that ends there together again.
    pub fn text(&self, end: End, text: &mut String) {
        text.clear();
        let (End::Here(mut at) | End::Hash(mut at)) = end;
        let mut levels = Vec::new();
        while let Some(node) = self.nodes.get(at).filter(|_| at != ROOT) {
            levels.push(node.name.bytes());
            at = node.parent;
        }
        if matches!(end, End::Hash(_)) {
            levels.insert(0, b"#");
        }
        for (nth, level) in levels.iter().rev().enumerate() {
            if nth > 0 {
                text.push('/');
            }
            // Levels were cut out of text at a `/`, so they are text.
            text.push_str(std::str::from_utf8(level).unwrap_or_default());
        }
    }

    /// Calls `found` with each filter that matches.
    pub fn for_each_match(&self, topic: &str, found: &mut impl FnMut(u32)) {
        if let Some(root) = self.nodes.get(ROOT) {
            // A leading wildcard does not match a leading `$` [MQTT-4.7.2-1].
            let wildcards = !topic.starts_with('$');
            self.matches(ROOT, root, Some(topic.as_bytes()), wildcards, found);
        }
    }

    /// `rest` is what follows this node's level; `wildcards` whether the next level may be one.
    fn matches(
        &self,
        at: u32,
        node: &Node,
        rest: Option<&[u8]>,
        wildcards: bool,
        found: &mut impl FnMut(u32),
    ) {
        // `a/#` matches `a` too [MQTT-4.7.1-2].
        if wildcards && node.hash != NONE {
            found(node.hash);
        }
        let Some(levels) = rest else {
            if node.here != NONE {
                found(node.here);
            }
            return;
        };
        if node.named == 0 && node.plus == NONE {
            return;
        }
        let (level, rest) = split(levels);
        let named = (node.named > 0).then(|| self.named(at, level)).flatten();
        let plus = Some(node.plus).filter(|_| wildcards);
        for below in [named, plus].into_iter().flatten() {
            if let Some(node) = self.nodes.get(below) {
                self.matches(below, node, rest, true, found);
            }
        }
    }

    /// Whether no node is left.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.nodes.len() == 0
    }
}

/// The first node that is made: slots that were all given back begin anew.
const ROOT: u32 = 0;
