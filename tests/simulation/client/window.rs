//! What the broker has under way towards a client: packet ids and bytes, as they are on the wire.

use std::collections::BTreeMap;

use mosquitto::base::clock::Instant;

/// The Receive Maximum of one connection, from the client's side: an id is free when its last acknowledgement is sent.
#[derive(Debug)]
pub struct Window {
    /// Messages of QoS 1 and 2 that may be unacknowledged.
    pub most: usize,
    /// Bytes of payload in them at which no other may follow.
    pub bytes_most: usize,
    opened: Instant,
    /// Packet ids that this connection has brought and that are not answered to the end, with their bytes.
    under_way: BTreeMap<u16, usize>,
    brought: usize,
    /// When each of them was free again.
    freed: Vec<Instant>,
}

impl Window {
    pub fn new(most: usize) -> Self {
        Self {
            most,
            bytes_most: usize::MAX,
            opened: Instant::default(),
            under_way: BTreeMap::new(),
            brought: 0,
            freed: Vec::new(),
        }
    }

    /// A new connection.
    pub fn open(&mut self, now: Instant) {
        self.opened = now;
        self.under_way.clear();
        self.brought = 0;
        self.freed.clear();
    }

    /// A PUBLISH came. When it was sent at the earliest: as many as there may be before it must have been free.
    pub fn publish(&mut self, id: u16, bytes: usize) -> Result<Instant, String> {
        let before: usize = self.under_way.values().sum();
        if before >= self.bytes_most {
            return Err(format!("{before} bytes were under way already"));
        }
        if self.under_way.insert(id, bytes).is_some() {
            return Err(format!("packet id {id} is under way already"));
        }
        if self.under_way.len() > self.most {
            return Err(format!("more than {} under way", self.most));
        }
        self.brought += 1;
        let place = self.brought.checked_sub(self.most + 1);
        Ok(place.map_or(self.opened, |at| self.freed[at]))
    }

    /// A PUBREL came; it may be for a message of an earlier connection.
    pub fn pubrel(&mut self, id: u16) {
        self.under_way.entry(id).or_insert_with(|| {
            self.brought += 1;
            0
        });
    }

    /// A PUBREC is sent: the payload counts no more.
    pub fn pubrec(&mut self, id: u16) {
        if let Some(bytes) = self.under_way.get_mut(&id) {
            *bytes = 0;
        }
    }

    /// The last acknowledgement is sent.
    pub fn free(&mut self, id: u16, now: Instant) {
        if self.under_way.remove(&id).is_some() {
            self.freed.push(now);
        }
    }
}
