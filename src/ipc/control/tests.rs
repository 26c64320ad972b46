use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};

use super::*;
use crate::base::limits::CONTROL_MESSAGE_BYTES_MAX;
use crate::sys::seqpacket;

fn members() -> impl Strategy<Value = (MemberId, Incarnation)> {
    (0..=WORKERS_MAX, any::<u32>())
        .prop_map(|(slot, n)| (MemberId::new(slot).unwrap(), Incarnation(n)))
}

fn to_child() -> impl Strategy<Value = ToChild<u8>> {
    let hello = (
        members(),
        any::<[u64; 2]>(),
        0u32..32,
        any::<Option<(u32, u32)>>(),
    )
        .prop_map(
            |((member, incarnation), hash_key, shift, user)| ToChild::Hello {
                role: Role::of(member),
                member,
                incarnation,
                hash_key,
                ring_bytes: 1 << shift,
                become_user: user.map(|(uid, gid)| Identity { uid, gid }),
                config: 0,
                outbox: 1,
                cursors: 2,
                doorbell: 3,
            },
        );
    let peer = (members(), 0u32..32).prop_map(|((member, incarnation), shift)| ToChild::Peer {
        member,
        incarnation,
        ring_bytes: 1 << shift,
        outbox: 0,
        cursors: 1,
        doorbell: 2,
    });
    let listener = (any::<u16>(), proptest::option::of(members())).prop_map(|(listener, by)| {
        ToChild::Listener {
            listener,
            lent_by: by.map(|b| b.0),
            socket: 0,
        }
    });
    prop_oneof![
        hello,
        peer,
        listener,
        members().prop_map(|(member, incarnation)| ToChild::PeerGone {
            member,
            incarnation
        }),
        members().prop_map(|(member, incarnation)| ToChild::PeerRemoved {
            member,
            incarnation
        }),
        members().prop_map(|(from, _)| ToChild::TakeBack { from }),
        (members(), any::<u64>(), any::<Option<(u32, u32)>>()).prop_map(
            |((_, incarnation), started, user)| ToChild::HelloControl {
                incarnation,
                started: Instant(started),
                become_user: user.map(|(uid, gid)| Identity { uid, gid }),
                config: 0,
                page: 1,
                ledger: 2,
            }
        ),
        members().prop_map(|(member, incarnation)| ToChild::Page {
            member,
            incarnation,
            page: 0
        }),
        Just(ToChild::Internal { socket: 0 }),
        Just(ToChild::Config { config: 0 }),
        Just(ToChild::Welcome),
        Just(ToChild::Quiesce),
        Just(ToChild::Stop),
    ]
}

fn to_supervisor() -> impl Strategy<Value = ToSupervisor> {
    prop_oneof![
        Just(ToSupervisor::Mapped),
        Just(ToSupervisor::Ready),
        Just(ToSupervisor::Quiet),
        Just(ToSupervisor::Severed),
        members().prop_map(|(member, incarnation)| ToSupervisor::Drained {
            member,
            incarnation
        }),
        (members(), any::<bool>()).prop_map(|((member, incarnation), lies)| ToSupervisor::Stuck {
            member,
            incarnation,
            lies
        }),
    ]
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(message in to_child(), answer in to_supervisor()) {
        let (bytes, fds) = message.clone().encode();
        assert!(bytes.len() <= CONTROL_MESSAGE_BYTES_MAX);
        assert!(fds.len() <= seqpacket::DESCRIPTORS_MAX);
        assert_eq!(ToChild::decode(&bytes, fds), Ok(message));
        assert_eq!(ToSupervisor::decode(&answer.encode()), Ok(answer));
    }

    #[test]
    fn a_byte_or_descriptor_more_or_less_is_refused(message in to_child(), answer in to_supervisor()) {
        let (mut bytes, mut fds) = message.encode();
        for cut in 0..bytes.len() {
            assert!(ToChild::decode(&bytes[..cut], fds.clone()).is_err());
        }
        fds.push(9);
        assert!(ToChild::decode(&bytes, fds.clone()).is_err());
        fds.pop();
        if fds.pop().is_some() {
            assert!(ToChild::decode(&bytes, fds.clone()).is_err());
        }
        bytes.push(0);
        assert!(ToChild::decode(&bytes, fds).is_err());
        let mut bytes = answer.encode();
        for cut in 0..bytes.len() {
            assert!(ToSupervisor::decode(&bytes[..cut]).is_err());
        }
        bytes.push(0);
        assert!(ToSupervisor::decode(&bytes).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_an_error_or_a_message_that_says_the_same(
        tag in 0u8..80,
        rest in proptest::collection::vec(any::<u8>(), 0..48),
        fds in proptest::collection::vec(any::<u8>(), 0..6),
    ) {
        let mut bytes = vec![tag];
        bytes.extend(rest);
        if let Ok(message) = ToSupervisor::decode(&bytes) {
            assert_eq!(message.encode(), bytes);
        }
        if let Ok(message) = ToChild::decode(&bytes, fds) {
            let (again, fds) = message.clone().encode();
            assert_eq!(ToChild::decode(&again, fds), Ok(message));
        }
    }
}
