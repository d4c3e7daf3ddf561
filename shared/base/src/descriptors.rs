//! File descriptors: raises their limit as far as the system allows, and keeps some in reserve for
//! essential work.

use std::os::fd::AsRawFd;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit of open files (RLIMIT_NOFILE) to the maximum that this process may set.
pub fn raise_descriptor_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    // If that fails, the old limit remains: fewer connections fit, and a warning appears once they
    // run out.
    let _ = setrlimit(Resource::Nofile, raised);
}

/// Returns whether this descriptor leaves fewer than `reserve` descriptors free. The system hands
/// out the lowest free number, so a high number means that many are in use.
pub fn is_reserved(descriptor: &impl AsRawFd, reserve: u64) -> bool {
    let Some(limit) = getrlimit(Resource::Nofile).current else {
        return false;
    };
    u64::try_from(descriptor.as_raw_fd()).is_ok_and(|number| number.saturating_add(reserve) >= limit)
}
