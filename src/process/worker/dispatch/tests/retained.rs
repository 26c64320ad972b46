use super::*;

impl World {
    /// Two messages, and there are more.
    fn retained_slice(&mut self, id: ConnId, request: u32, payload: &[u8]) {
        let of = |topic| Message {
            qos: Qos::AtMostOnce,
            retain: true,
            publisher: ClientNumber(0),
            packet_id: None,
            releases: None,
            expires_at: None,
            topic,
            properties: &[],
            payload,
        };
        self.store_says(&ToWorker::RetainedSlice {
            claim: id.claim(),
            request,
            last: false,
            positions: vec![],
            messages: vec![of("f0/a"), of("f0/b")],
        });
    }

    /// All that there is for it.
    fn client_reads(&mut self, id: ConnId) {
        let output = self.worker.output(id).unwrap();
        output.consume(output.len());
        self.step(|worker, cx| worker.wrote(id, cx));
    }
}

/// A subscriber to `#` that read more slowly than the store sent got a part of what is retained.
#[test]
fn what_is_retained_comes_as_fast_as_it_is_read_and_whole() {
    let mut world = World::new();
    let id = world.connect(0, false);
    world.subscribe(id, 1);
    let request = world.retained_requests()[0];
    let payload = vec![0; 3 << 20];
    world.retained_slice(id, request, &payload);
    let unsent = world.worker.conns[id].unsent();
    assert!(unsent > 2 * payload.len(), "{unsent}: nothing is dropped");
    assert!(world.retained_requests().is_empty(), "nor asked for");
    assert_eq!(world.worker.requests_waiting(), 0);

    world.client_reads(id);
    let said = std::mem::take(&mut world.mesh.said);
    let after = said
        .iter()
        .find_map(|(kind, bytes)| match ToStore::decode(*kind, bytes) {
            Ok(ToStore::RetainedRequest { after, .. }) => Some(after.to_owned()),
            _ => None,
        });
    assert_eq!(after.as_deref(), Some("f0/b"));
}

/// A million of them came behind UNSUBACK.
#[test]
fn what_is_retained_comes_no_more_after_unsubscribe() {
    let mut world = World::new();
    let id = world.connect(0, false);
    world.subscribe(id, 1);
    let request = world.retained_requests()[0];
    world.input(id, &[0xa2, 6, 0, 9, 0, 2, b'f', b'0']);
    world.client_reads(id);
    world.retained_slice(id, request, &[0; 1000]);
    assert_eq!(world.worker.conns[id].unsent(), 0);
    assert!(world.retained_requests().is_empty());
    assert_eq!(world.worker.conns[id].client.retained_requested, 0);
}
