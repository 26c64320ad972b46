//! PURE: groups of shared subscriptions: who is a member, whose turn it is, what waits, who holds what.
//!
//! A group is a share name and a filter. Each message goes to one member: to the one that has gone longest without,
//! among those that are online and, at QoS 1 and 2, have room in their window. What nobody can take waits in the
//! group. What a member has been given and has not acknowledged is a [`Hold`]: its message can come back, to the
//! place in the line where it stood. Whether a member has room, and how a message gets to it, is the caller's.

mod line;
#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

use foldhash::fast::FixedState;

use crate::base::clock::Instant;
use crate::base::ids::{ClientNumber, ShareToken};
use crate::mqtt::{Filter, Qos, Topic};
use crate::queue::{Entry, Limits, Pushed};
use crate::router::Index;

use line::Line;

/// A group; never used for another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GroupId(u64);

/// What a member asked for when it subscribed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Terms {
    pub qos: Qos,
    pub retain_as_published: bool,
    /// The subscription identifier; 0 is none.
    pub id: u32,
}

/// All groups. `M` is a message, cheap to clone.
#[derive(Debug)]
pub struct Groups<M> {
    /// By the whole filter, `$share/NAME/FILTER`.
    by_name: HashMap<Rc<str>, GroupId, FixedState>,
    index: Index<GroupId, ()>,
    groups: BTreeMap<GroupId, Group<M>>,
    clients: BTreeMap<ClientNumber, Client<M>>,
    /// Groups in which something waits that somebody can perhaps take now.
    due: VecDeque<GroupId>,
    last_group: u64,
    /// Counts turns: who has the lowest has gone longest without a message.
    last_turn: u64,
    last_token: u64,
    memberships: usize,
    /// Of all lines.
    bytes_waiting: Rc<Cell<u64>>,
}

#[derive(Debug)]
struct Group<M> {
    name: Rc<str>,
    members: BTreeMap<ClientNumber, Member>,
    /// Members with a connection, by turn.
    online: BTreeMap<u64, ClientNumber>,
    /// Those of them that have not been found without room.
    ready: BTreeMap<u64, ClientNumber>,
    line: Line<M>,
    is_due: bool,
}

#[derive(Debug)]
struct Member {
    terms: Terms,
    /// While it is online.
    turn: Option<u64>,
}

/// What is known of a client besides its memberships' terms.
#[derive(Debug)]
struct Client<M> {
    is_online: bool,
    groups: BTreeSet<GroupId>,
    /// Groups in which it was found without room.
    parked: BTreeSet<GroupId>,
    holds: BTreeMap<ShareToken, Hold<M>>,
}

/// A message that a member was given and may have to give back.
#[derive(Clone, Debug, PartialEq)]
pub struct Hold<M> {
    /// As it goes to the member.
    pub qos: Qos,
    group: GroupId,
    place: u64,
    /// As it was published.
    entry: Entry<M>,
}

/// Whose turn it is for the message that comes first in a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn {
    pub client: ClientNumber,
    /// As the message would go to it. At QoS 0 it needs no room.
    pub qos: Qos,
    group: GroupId,
    /// Which of the group's lines the message stands in.
    of_qos0: bool,
}

/// A message on its way to a member.
#[derive(Clone, Debug, PartialEq)]
pub struct Given<M> {
    /// As it goes on the wire.
    pub entry: Entry<M>,
    pub hold: Hold<M>,
}

/// What a subscription to a group changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Joined {
    /// The client was a member already.
    pub existed: bool,
    /// The group is new.
    pub is_first: bool,
}

impl<M: Clone> Groups<M> {
    /// No group. `seed` keys the hashing of their names, which strangers choose.
    pub fn new(seed: u64) -> Self {
        Self {
            by_name: HashMap::with_hasher(FixedState::with_seed(seed)),
            index: Index::new(),
            groups: BTreeMap::new(),
            clients: BTreeMap::new(),
            due: VecDeque::new(),
            last_group: 0,
            last_turn: 0,
            last_token: 0,
            memberships: 0,
            bytes_waiting: Rc::default(),
        }
    }

    /// Bytes that wait in all groups.
    pub fn bytes_waiting(&self) -> u64 {
        self.bytes_waiting.get()
    }

    /// Members of all groups together.
    pub fn memberships(&self) -> usize {
        self.memberships
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Makes a client that is online a member of a group, or changes what it asks for. `None`: the filter is not
    /// shared.
    pub fn join(
        &mut self,
        client: ClientNumber,
        filter: Filter<'_>,
        terms: Terms,
    ) -> Option<Joined> {
        let (_, inner) = filter.shared()?;
        let (id, is_first) = match self.by_name.get(filter.as_str()) {
            Some(id) => (*id, false),
            None => (self.found(filter.as_str(), inner), true),
        };
        let group = self.groups.get_mut(&id)?;
        let of_client = self.clients.entry(client).or_insert_with(Client::new);
        of_client.is_online = true;
        let existed = !of_client.groups.insert(id);
        self.memberships += usize::from(!existed);
        self.last_turn += 1;
        let member = group.members.entry(client).or_insert(Member {
            terms,
            turn: Some(self.last_turn),
        });
        member.terms = terms;
        // At another QoS it may need no room any more.
        of_client.parked.remove(&id);
        let turn = *member.turn.get_or_insert(self.last_turn);
        group.online.insert(turn, client);
        group.ready.insert(turn, client);
        group.become_due(id, &mut self.due);
        Some(Joined { existed, is_first })
    }

    fn found(&mut self, name: &str, inner: Filter<'_>) -> GroupId {
        self.last_group += 1;
        let id = GroupId(self.last_group);
        let name: Rc<str> = name.into();
        self.by_name.insert(Rc::clone(&name), id);
        self.index.insert(inner, id, ());
        let group = Group {
            name,
            members: BTreeMap::new(),
            online: BTreeMap::new(),
            ready: BTreeMap::new(),
            line: Line::new(&self.bytes_waiting),
            is_due: false,
        };
        self.groups.insert(id, group);
        id
    }

    /// Ends a membership; `None` if there is none. True if that was the last one: the group is gone, and what waited
    /// in it. What the client holds stays with it until it is settled or taken back.
    pub fn leave(&mut self, client: ClientNumber, filter: &str) -> Option<bool> {
        let id = *self.by_name.get(filter)?;
        let was_last = self.remove(client, id)?;
        self.forget_idle(client);
        Some(was_last)
    }

    /// The names of the groups that a client is a member of.
    pub fn memberships_of(&self, client: ClientNumber) -> impl Iterator<Item = &str> {
        let groups = self.clients.get(&client).map(|c| c.groups.iter());
        let groups = groups.into_iter().flatten();
        groups.filter_map(|id| self.groups.get(id).map(|g| &*g.name))
    }

    /// Ends all memberships of a client and forgets what it holds; the names of the groups that are gone with it.
    pub fn leave_all(&mut self, client: ClientNumber) -> Vec<Rc<str>> {
        let Some(of_client) = self.clients.get_mut(&client) else {
            return Vec::new();
        };
        of_client.holds.clear();
        let groups = of_client.groups.clone();
        let mut gone = Vec::new();
        for id in groups {
            let name = self.groups.get(&id).map(|g| Rc::clone(&g.name));
            if self.remove(client, id) == Some(true) {
                gone.extend(name);
            }
        }
        self.forget_idle(client);
        gone
    }

    fn remove(&mut self, client: ClientNumber, id: GroupId) -> Option<bool> {
        let of_client = self.clients.get_mut(&client)?;
        if !of_client.groups.remove(&id) {
            return None;
        }
        of_client.parked.remove(&id);
        let group = self.groups.get_mut(&id)?;
        let member = group.members.remove(&client)?;
        self.memberships -= 1;
        if let Some(turn) = member.turn {
            group.online.remove(&turn);
            group.ready.remove(&turn);
        }
        if !group.members.is_empty() {
            return Some(false);
        }
        if let Some(group) = self.groups.remove(&id) {
            self.by_name.remove(&group.name);
            if let Some((_, inner)) = Filter::trusted(&group.name).shared() {
                self.index.remove(inner, id);
            }
        }
        Some(true)
    }

    fn forget_idle(&mut self, client: ClientNumber) {
        let is_idle = |c: &Client<M>| c.groups.is_empty() && c.holds.is_empty();
        if self.clients.get(&client).is_some_and(is_idle) {
            self.clients.remove(&client);
        }
    }

    /// A member's client has a connection again.
    pub fn come(&mut self, client: ClientNumber) {
        let Some(of_client) = self.clients.get_mut(&client) else {
            return;
        };
        if std::mem::replace(&mut of_client.is_online, true) {
            return;
        }
        for id in &of_client.groups {
            let Some(group) = self.groups.get_mut(id) else {
                continue;
            };
            let Some(member) = group.members.get_mut(&client) else {
                continue;
            };
            self.last_turn += 1;
            member.turn = Some(self.last_turn);
            group.online.insert(self.last_turn, client);
            group.ready.insert(self.last_turn, client);
            group.become_due(*id, &mut self.due);
        }
    }

    /// A client's connection is over: it is given nothing. What it holds it still holds.
    pub fn go(&mut self, client: ClientNumber) {
        let Some(of_client) = self.clients.get_mut(&client) else {
            return;
        };
        of_client.is_online = false;
        of_client.parked.clear();
        for id in &of_client.groups {
            let Some(group) = self.groups.get_mut(id) else {
                continue;
            };
            let member = group.members.get_mut(&client);
            if let Some(turn) = member.and_then(|m| m.turn.take()) {
                group.online.remove(&turn);
                group.ready.remove(&turn);
            }
        }
    }

    /// The groups whose filter matches.
    pub fn matching(&self, topic: Topic<'_>, found: &mut Vec<GroupId>) {
        self.index.for_each_match(topic, |id, ()| found.push(id));
        // In the order of their founding, whatever the index walks first.
        found.sort_unstable();
    }

    /// The whole filter of a group.
    pub fn name(&self, group: GroupId) -> Option<&Rc<str>> {
        self.groups.get(&group).map(|g| &g.name)
    }

    /// Puts a message, as it was published, at the end of a group's line. `each` is what may wait for each member.
    /// A message of QoS 0 waits for members that are online, and for others only with
    /// `keeps_qos0`.
    pub fn push(
        &mut self,
        group: GroupId,
        entry: Entry<M>,
        each: Limits,
        keeps_qos0: bool,
        now: Instant,
    ) -> Pushed {
        let Some(group) = self.groups.get_mut(&group) else {
            return Pushed::Kept;
        };
        if entry.qos == Qos::AtMostOnce && group.online.is_empty() && !keeps_qos0 {
            return Pushed::Kept;
        }
        group.line.push(entry, each, group.members.len(), now)
    }

    /// Whose turn it is for the first message of a group that somebody can take.
    pub fn turn(&mut self, id: GroupId, now: Instant) -> Option<Turn> {
        let group = self.groups.get_mut(&id)?;
        group.line.drop_expired_front(now);
        let turn = |client: &ClientNumber, of_qos0: bool, published: Qos| {
            let terms = group.members.get(client)?.terms;
            Some(Turn {
                client: *client,
                qos: published.min(terms.qos),
                group: id,
                of_qos0,
            })
        };
        // Order is owed within a QoS: messages of QoS 0 do not wait for a window.
        if group.line.has_qos0()
            && let Some((_, client)) = group.online.first_key_value()
        {
            return turn(client, true, Qos::AtMostOnce);
        }
        let published = group.line.first_qos()?;
        let (_, client) = group.ready.first_key_value()?;
        turn(client, false, published)
    }

    /// This client has no room: others are asked until [`Groups::unpark`].
    pub fn park(&mut self, turn: Turn) {
        let Some(group) = self.groups.get_mut(&turn.group) else {
            return;
        };
        let member = group.members.get(&turn.client);
        if let Some(at) = member.and_then(|m| m.turn)
            && group.ready.remove(&at).is_some()
            && let Some(of_client) = self.clients.get_mut(&turn.client)
        {
            of_client.parked.insert(turn.group);
        }
    }

    /// The next group in which this client was found without room; there it may be asked again.
    pub fn unpark(&mut self, client: ClientNumber) -> Option<GroupId> {
        let id = self.clients.get_mut(&client)?.parked.pop_first()?;
        let group = self.groups.get_mut(&id)?;
        if let Some(turn) = group.members.get(&client)?.turn {
            group.ready.insert(turn, client);
        }
        Some(id)
    }

    /// Whether [`Groups::unpark`] has one.
    pub fn is_parked(&self, client: ClientNumber) -> bool {
        self.clients
            .get(&client)
            .is_some_and(|c| !c.parked.is_empty())
    }

    /// Takes the message of this turn out of its line, for its client.
    pub fn give(&mut self, turn: Turn) -> Option<Given<M>> {
        let group = self.groups.get_mut(&turn.group)?;
        let (place, entry) = group.line.pop(turn.of_qos0)?;
        let member = group.members.get_mut(&turn.client)?;
        let terms = member.terms;
        self.last_turn += 1;
        if let Some(before) = member.turn.replace(self.last_turn) {
            group.online.remove(&before);
            group.online.insert(self.last_turn, turn.client);
            if group.ready.remove(&before).is_some() {
                group.ready.insert(self.last_turn, turn.client);
            }
        }
        let on_wire = Entry {
            message: entry.message.clone(),
            qos: turn.qos,
            retain: entry.retain && terms.retain_as_published,
            subscription_ids: (terms.id > 0).then(|| Rc::from([terms.id])),
            ..entry
        };
        let hold = Hold {
            qos: turn.qos,
            group: turn.group,
            place,
            entry,
        };
        Some(Given {
            entry: on_wire,
            hold,
        })
    }

    /// The client holds this from now on, under a new token.
    pub fn hold(&mut self, client: ClientNumber, hold: Hold<M>) -> ShareToken {
        self.last_token += 1;
        let token = ShareToken(self.last_token);
        self.hold_as(client, token, hold);
        token
    }

    /// The client holds this from now on, under a token that the caller chose and nothing else has.
    pub fn hold_as(&mut self, client: ClientNumber, token: ShareToken, hold: Hold<M>) {
        let of_client = self.clients.entry(client).or_insert_with(Client::new);
        of_client.holds.insert(token, hold);
    }

    /// How many messages a client holds.
    pub fn held(&self, client: ClientNumber) -> usize {
        self.clients.get(&client).map_or(0, |c| c.holds.len())
    }

    /// The client holds this no longer: it is done. False if it did not.
    pub fn settle(&mut self, client: ClientNumber, token: ShareToken) -> bool {
        let of_client = self.clients.get_mut(&client);
        let settled = of_client.is_some_and(|c| c.holds.remove(&token).is_some());
        if settled {
            self.forget_idle(client);
        }
        settled
    }

    /// Takes from a client what it holds and `which` says, and puts it back where it stood in its line. The tokens of
    /// what was put back: what has no group any more is forgotten.
    pub fn take_back(
        &mut self,
        client: ClientNumber,
        mut which: impl FnMut(ShareToken, &Hold<M>) -> bool,
    ) -> Vec<ShareToken> {
        let Some(of_client) = self.clients.get_mut(&client) else {
            return Vec::new();
        };
        let mut taken = Vec::new();
        let holds = std::mem::take(&mut of_client.holds);
        for (token, hold) in holds {
            if !which(token, &hold) {
                of_client.holds.insert(token, hold);
                continue;
            }
            if let Some(group) = self.groups.get_mut(&hold.group) {
                taken.push(token);
                group.line.put_back(hold.place, hold.entry);
                group.become_due(hold.group, &mut self.due);
            }
        }
        self.forget_idle(client);
        taken
    }

    /// A group in which something waits and somebody may be able to take it.
    pub fn next_due(&mut self) -> Option<GroupId> {
        loop {
            let id = self.due.pop_front()?;
            if let Some(group) = self.groups.get_mut(&id) {
                group.is_due = false;
                return Some(id);
            }
        }
    }

    /// How many groups [`Groups::next_due`] has at most.
    pub fn due(&self) -> usize {
        self.due.len()
    }

    /// Comes again with [`Groups::next_due`].
    pub fn put_off(&mut self, id: GroupId) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.become_due(id, &mut self.due);
        }
    }
}

impl<M: Clone> Group<M> {
    fn become_due(&mut self, id: GroupId, due: &mut VecDeque<GroupId>) {
        if !self.line.is_empty() && !std::mem::replace(&mut self.is_due, true) {
            due.push_back(id);
        }
    }
}

impl<M> Client<M> {
    fn new() -> Self {
        Self {
            is_online: false,
            groups: BTreeSet::new(),
            parked: BTreeSet::new(),
            holds: BTreeMap::new(),
        }
    }
}
