//! What must hold whenever the world has come to rest: nobody waits for an answer, and nobody is in twice.

use std::collections::BTreeMap;

use crate::client::Link;
use crate::world::World;

impl World {
    /// Everything that was said has been heard, and everybody has had time.
    pub fn come_to_rest(&mut self) -> Result<(), String> {
        let clients = &self.clients;
        self.pipes.retain(|key, pipe| {
            let is_left = |c: usize| clients[c].link.pipe() != Some(*key);
            !(pipe.broker_closed && pipe.client.is_some_and(is_left))
        });
        let mut pipes: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (key, pipe) in &self.pipes {
            if let Some(client) = pipe.client {
                pipes.entry(client).or_default().push(*key);
            }
        }
        let now = self.now;
        for client in &mut self.clients {
            let index = client.index;
            let pipes = pipes.get(&index).map_or(&[][..], Vec::as_slice);
            // The newest claim has the id, and all others have been sent away.
            if pipes.len() > 1 {
                return Err(format!("client {index} is connected by {pipes:?}"));
            }
            if let Link::Opening(pipe) = client.link {
                return Err(format!("client {index} has no answer on {pipe}"));
            }
            if client.link == Link::Down && pipes.is_empty() {
                let is_first = client.is_gone(now);
                let session = client.session.map(|s| &mut self.book.sessions[s]);
                match session {
                    Some(session) if is_first => session.away.push((self.step, self.step)),
                    Some(session) => session.away.last_mut().unwrap().1 = self.step,
                    None => {}
                }
            }
            client.check_answers(&self.book)?;
            client.has_rivals = pipes.iter().any(|key| client.link.pipe() != Some(*key));
        }
        let pipes = &self.pipes;
        self.standing
            .retain(|key, _| pipes.get(key).is_some_and(|p| !p.broker_closed));
        self.book.rests.push(self.step);
        self.check_clients()
    }
}
