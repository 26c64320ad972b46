//! Looking up users.

use std::io;

use nix::unistd::{Uid, User};

/// Who a process runs as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
}

/// The user of this name and its first group, if there is one.
pub fn lookup(name: &str) -> io::Result<Option<Identity>> {
    Ok(User::from_name(name)?.map(|user| Identity {
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
    }))
}

/// Whether this process runs as root.
pub fn am_root() -> bool {
    Uid::effective().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_and_strangers_are_not() {
        assert_eq!(lookup("root").unwrap(), Some(Identity { uid: 0, gid: 0 }));
        assert_eq!(lookup("no-such-user-here").unwrap(), None);
    }
}
