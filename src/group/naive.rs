//! Random histories of one group against lists.

use proptest::prelude::*;

use super::*;

const NAME: &str = "$share/g/t";
const CLIENTS: u32 = 4;
const WINDOW: usize = 2;

/// What may happen.
#[derive(Clone, Copy, Debug)]
enum Step {
    Join(u32, Qos),
    Leave(u32),
    Come(u32),
    /// And what it held at QoS 1 comes back.
    Go(u32),
    Publish(Qos),
    /// The oldest that it holds.
    Acknowledge(u32),
}

/// The group as lists, written without the room's own code. Nothing is searched fast.
#[derive(Default)]
struct Naive {
    /// In the order of their turns: (client, QoS, online).
    members: Vec<(u32, Qos, bool)>,
    /// (number, QoS)
    waiting: Vec<(u32, Qos)>,
    /// (client, number, QoS as published, QoS as sent)
    held: Vec<(u32, u32, Qos, Qos)>,
    published: u32,
}

impl Naive {
    fn held_by(&self, client: u32) -> usize {
        self.held.iter().filter(|h| h.0 == client).count()
    }

    /// Who can take a message of this QoS, first in turn.
    fn taker(&self, published: Qos) -> Option<usize> {
        self.members.iter().position(|(client, qos, online)| {
            let sent = published.min(*qos);
            *online && (sent == Qos::AtMostOnce || self.held_by(*client) < WINDOW)
        })
    }

    fn serve(&mut self) -> Vec<(u32, u32, Qos)> {
        let mut given = Vec::new();
        while let Some((number, published)) = self.waiting.first().copied() {
            let Some(at) = self.taker(published) else {
                break;
            };
            self.waiting.remove(0);
            let member = self.members.remove(at);
            let sent = published.min(member.1);
            self.members.push(member);
            if sent != Qos::AtMostOnce {
                self.held.push((member.0, number, published, sent));
            }
            given.push((member.0, number, sent));
        }
        given
    }

    fn apply(&mut self, step: Step) -> Vec<(u32, u32, Qos)> {
        match step {
            Step::Join(client, qos) => match self.members.iter_mut().find(|m| m.0 == client) {
                Some(member) => member.1 = qos,
                None => self.members.push((client, qos, true)),
            },
            Step::Leave(client) => {
                self.members.retain(|m| m.0 != client);
                if self.members.is_empty() {
                    self.waiting.clear();
                    // What comes back later finds no group.
                    self.held.iter_mut().for_each(|h| h.2 = Qos::AtMostOnce);
                }
            }
            Step::Come(client) => {
                if let Some(at) = self.members.iter().position(|m| m.0 == client && !m.2) {
                    let (_, qos, _) = self.members.remove(at);
                    self.members.push((client, qos, true));
                }
            }
            Step::Go(client) => {
                for member in self.members.iter_mut().filter(|m| m.0 == client) {
                    member.2 = false;
                }
                let back: Vec<_> = self
                    .held
                    .iter()
                    .filter(|h| h.0 == client)
                    .copied()
                    .collect();
                for (_, number, published, _) in
                    back.into_iter().filter(|h| h.3 == Qos::AtLeastOnce)
                {
                    if published != Qos::AtMostOnce {
                        self.waiting.push((number, published));
                    }
                }
                self.waiting.sort_unstable_by_key(|w| w.0);
                self.held.retain(|h| h.0 != client);
            }
            Step::Publish(qos) => {
                self.published += 1;
                if self.members.is_empty() {
                    return Vec::new();
                }
                if qos == Qos::AtMostOnce {
                    return self.publish_qos0();
                }
                self.waiting.push((self.published, qos));
            }
            Step::Acknowledge(client) => {
                if let Some(at) = self.held.iter().position(|h| h.0 == client) {
                    self.held.remove(at);
                }
            }
        }
        self.serve()
    }

    /// It waits for nobody.
    fn publish_qos0(&mut self) -> Vec<(u32, u32, Qos)> {
        let Some(at) = self.members.iter().position(|m| m.2) else {
            return Vec::new();
        };
        let member = self.members.remove(at);
        self.members.push(member);
        vec![(member.0, self.published, Qos::AtMostOnce)]
    }
}

/// The room, driven as the store drives it.
struct Driven {
    groups: Groups<u32>,
    published: u32,
    /// (client, token)
    tokens: Vec<(u32, ShareToken)>,
    given: Vec<(u32, u32, Qos)>,
}

impl Driven {
    fn serve(&mut self, group: GroupId) {
        while let Some(turn) = self.groups.turn(group, Instant(0)) {
            let client = turn.client.0;
            if turn.qos != Qos::AtMostOnce && self.groups.held(turn.client) >= WINDOW {
                self.groups.park(turn);
                continue;
            }
            let given = self.groups.give(turn).unwrap();
            self.given.push((client, given.entry.message, turn.qos));
            if turn.qos != Qos::AtMostOnce {
                let token = self.groups.hold(turn.client, given.hold);
                self.tokens.push((client, token));
            }
        }
    }

    fn serve_due(&mut self) {
        while let Some(group) = self.groups.next_due() {
            self.serve(group);
        }
    }

    fn take_turns(&mut self, client: u32) {
        let number = ClientNumber(client);
        while self.groups.is_parked(number) && self.groups.held(number) < WINDOW {
            let group = self.groups.unpark(number).unwrap();
            self.serve(group);
        }
    }

    fn apply(&mut self, step: Step) -> Vec<(u32, u32, Qos)> {
        match step {
            Step::Join(client, qos) => {
                let asked = Terms {
                    qos,
                    retain_as_published: false,
                    id: 0,
                };
                self.groups
                    .join(ClientNumber(client), Filter::trusted(NAME), asked);
            }
            Step::Leave(client) => {
                self.groups.leave(ClientNumber(client), NAME);
            }
            Step::Come(client) => self.groups.come(ClientNumber(client)),
            Step::Go(client) => {
                let number = ClientNumber(client);
                self.groups.go(number);
                self.groups
                    .take_back(number, |_, hold| hold.qos == Qos::AtLeastOnce);
                let rest: Vec<_> = self.tokens.iter().filter(|t| t.0 == client).collect();
                for (_, token) in rest {
                    self.groups.settle(number, *token);
                }
                self.tokens.retain(|t| t.0 != client);
            }
            Step::Publish(qos) => {
                self.published += 1;
                let mut found = Vec::new();
                self.groups.matching(Topic::trusted("t"), &mut found);
                let entry = Entry {
                    message: self.published,
                    qos,
                    retain: false,
                    subscription_ids: None,
                    expires_at: None,
                    bytes: 1,
                };
                let unlimited = Limits::NONE;
                for group in found {
                    let entry = entry.clone();
                    self.groups.push(group, entry, unlimited, false, Instant(0));
                    self.serve(group);
                }
            }
            Step::Acknowledge(client) => {
                if let Some(at) = self.tokens.iter().position(|t| t.0 == client) {
                    let (_, token) = self.tokens.remove(at);
                    assert!(self.groups.settle(ClientNumber(client), token));
                }
                self.take_turns(client);
            }
        }
        self.serve_due();
        std::mem::take(&mut self.given)
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let qos = prop::sample::select(&[Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][..]);
    let client = 1..=CLIENTS;
    let step = prop_oneof![
        (client.clone(), qos.clone()).prop_map(|(c, qos)| Step::Join(c, qos)),
        client.clone().prop_map(Step::Leave),
        client.clone().prop_map(Step::Come),
        client.clone().prop_map(Step::Go),
        qos.clone().prop_map(Step::Publish),
        qos.prop_map(Step::Publish),
        client.clone().prop_map(Step::Acknowledge),
        client.prop_map(Step::Acknowledge),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn one_group_agrees_with_lists(steps in steps()) {
        let mut naive = Naive::default();
        let mut driven = Driven {
            groups: Groups::new(0),
            published: 0,
            tokens: Vec::new(),
            given: Vec::new(),
        };
        for step in steps {
            let is_away = |c: u32, naive: &Naive| naive.members.iter().any(|m| m.0 == c && !m.2);
            // Only who has a connection subscribes.
            if let Step::Join(client, _) | Step::Leave(client) = step
                && is_away(client, &naive)
            {
                continue;
            }
            prop_assert_eq!(driven.apply(step), naive.apply(step), "{:?}", step);
        }
    }
}
