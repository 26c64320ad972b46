//! Giving up what a process does not need, and taking the descriptors that it may have.

use std::ffi::CStr;
use std::io;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

use super::users::Identity;

/// The name that `ps -o comm`, `top` and `killall` show.
pub fn set_comm(name: &CStr) -> io::Result<()> {
    Ok(prctl::set_name(name)?)
}

/// Descriptors: as many as the administrator allows.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    #[allow(
        clippy::useless_conversion,
        reason = "rlim_t has 32 bits on some machines"
    )]
    Ok(u64::from(hard))
}

/// Descriptors that this process may have.
pub fn descriptor_limit() -> io::Result<u64> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    #[allow(
        clippy::useless_conversion,
        reason = "rlim_t has 32 bits on some machines"
    )]
    Ok(u64::from(soft))
}

/// Becomes `user`, for good, with no other groups. Only root may ask for it.
pub fn become_user(user: Identity) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    Ok(())
}

/// Capabilities that no later program may regain. Needs one of them, so it comes before the others go; without it
/// there is nothing to take away that `no_new_privs` would not.
pub fn drop_bounding_set() {
    for capability in 0..CAPABILITIES_MAX {
        // SAFETY: this call takes numbers only.
        let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        if done != 0 {
            // Past the last capability that this kernel knows, or not allowed.
            return;
        }
    }
}

/// No capability at all, in no set. Always allowed.
pub fn drop_capabilities() -> io::Result<()> {
    let header = CapabilityHeader {
        version: CAPABILITY_VERSION_3,
        pid: 0,
    };
    let none = [CapabilityData::default(); 2];
    // SAFETY: both structures are laid out as the kernel's version 3 says, live until the call returns, and are only
    // read.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, none.as_ptr()) };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// No program that this process starts can have more than it has (setuid bits count for nothing).
pub fn set_no_new_privs() -> io::Result<()> {
    Ok(prctl::set_no_new_privs()?)
}

/// No core file, no ptrace and no look into its memory by others of the same user.
pub fn hide_memory() -> io::Result<()> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    prctl::set_dumpable(false)?;
    Ok(())
}

/// More than any kernel has.
const CAPABILITIES_MAX: libc::c_ulong = 64;
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}
