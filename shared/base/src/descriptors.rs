//! File descriptors: as many as the system allows, with some kept back for what must go on.

use std::os::fd::AsRawFd;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of open files (RLIMIT_NOFILE) to the most that this process may set.
pub fn raise_descriptor_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // Without it the old limit holds: fewer connections, and a warning once they run out.
    let _ = setrlimit(Resource::Nofile, raised);
}

/// Whether this descriptor leaves fewer than `reserve` free. The system hands out the lowest free
/// number, so a high one says how many are in use.
pub fn is_reserved(descriptor: &impl AsRawFd, reserve: u64) -> bool {
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return false;
    };
    u64::try_from(descriptor.as_raw_fd()).is_ok_and(|number| number.saturating_add(reserve) >= limit)
}
