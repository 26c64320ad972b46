//! Members of a mesh within one process, wired up as the supervisor does it.

use std::os::fd::{AsFd, OwnedFd};

use mosquitto::base::ids::{Incarnation, MemberId, MemberMask};
use mosquitto::ring::{
    Received, Seal, SharedMesh, create_cursors, create_doorbell, create_outbox, seal,
};

/// What the supervisor keeps of a member.
pub struct Ports {
    pub member: MemberId,
    pub incarnation: Incarnation,
    pub ring_bytes: u32,
    pub outbox: OwnedFd,
    pub cursors: OwnedFd,
    pub doorbell: OwnedFd,
}

impl Ports {
    pub fn new(slot: usize, incarnation: u32, ring_bytes: u32) -> Self {
        Self {
            member: MemberId::new(slot).unwrap(),
            incarnation: Incarnation(incarnation),
            ring_bytes,
            outbox: create_outbox(ring_bytes).unwrap(),
            cursors: create_cursors().unwrap(),
            doorbell: create_doorbell().unwrap(),
        }
    }

    /// The owner's mesh; sealed afterwards.
    pub fn own(&self) -> SharedMesh {
        let mesh = SharedMesh::new(
            self.member,
            self.incarnation,
            copy(&self.outbox),
            copy(&self.cursors),
            copy(&self.doorbell),
            self.ring_bytes,
        )
        .unwrap();
        self.seal();
        mesh
    }

    pub fn seal(&self) {
        assert_eq!(seal(self.outbox.as_fd()).unwrap(), Seal::Whole);
        assert_eq!(seal(self.cursors.as_fd()).unwrap(), Seal::Whole);
    }

    /// Tells `mesh` of this member.
    pub fn introduce_to(&self, mesh: &mut SharedMesh) {
        mesh.add_peer(
            self.member,
            self.incarnation,
            copy(&self.outbox),
            copy(&self.cursors),
            copy(&self.doorbell),
            self.ring_bytes,
        )
        .unwrap();
    }
}

pub fn copy(fd: &OwnedFd) -> OwnedFd {
    fd.try_clone().unwrap()
}

/// So many members that all know and have joined each other.
pub fn mesh_of(members: usize, ring_bytes: u32) -> Vec<SharedMesh> {
    let ports: Vec<_> = (0..members)
        .map(|slot| Ports::new(slot, slot as u32 + 1, ring_bytes))
        .collect();
    let mut meshes: Vec<_> = ports.iter().map(Ports::own).collect();
    for (i, mesh) in meshes.iter_mut().enumerate() {
        for (j, ports) in ports.iter().enumerate() {
            if i != j {
                ports.introduce_to(mesh);
            }
        }
    }
    for mesh in &mut meshes {
        assert!(mesh.joined());
        mesh.flush();
    }
    meshes
}

/// The mask of these slots.
pub fn to(slots: &[usize]) -> MemberMask {
    slots.iter().fold(MemberMask::NONE, |mask, slot| {
        mask.with(MemberId::new(*slot).unwrap())
    })
}

/// All that there is to read in this turn.
pub fn read_all(mesh: &mut SharedMesh) -> Vec<(Received, Vec<u8>)> {
    let mut buffer = Vec::new();
    let mut all = Vec::new();
    while let Some(received) = mesh.next(&mut buffer) {
        all.push((received, buffer.clone()));
    }
    all
}

/// Whether somebody has rung.
pub fn has_rung(mesh: &SharedMesh) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let doorbell = mesh.doorbell();
    let mut fds = [PollFd::new(doorbell, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).unwrap() > 0
}
