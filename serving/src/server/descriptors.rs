//! How many files and sockets the process may open, and how many of them connections get.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For everything that is no connection: weights, the journal, the store, sinks.
const OTHERS: u64 = 128;

/// Raises the soft limit of open files to the hard one, and returns it.
pub(super) fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum.unwrap_or(u64::MAX),
        Err(error) => {
            tracing::warn!(%error, "the limit of open files cannot be raised");
            current.unwrap_or(u64::MAX)
        }
    }
}

/// Connections that the API may have, so that operations and everything else always find a descriptor.
pub(super) fn for_api(limit: u64, configured: usize, operations: usize) -> usize {
    let free = limit.saturating_sub(OTHERS + operations as u64).max(1);
    let granted = usize::try_from(free).unwrap_or(usize::MAX).min(configured);
    if granted < configured {
        tracing::warn!(
            limit,
            configured,
            granted,
            "fewer connections than connections.open_max: the process may not open more files"
        );
    }
    granted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_the_rest() {
        assert_eq!(for_api(1024, 8192, 128), 768);
        assert_eq!(for_api(1 << 20, 8192, 128), 8192);
        assert_eq!(for_api(u64::MAX, 8192, 128), 8192);
        assert_eq!(for_api(64, 8192, 128), 1);
    }
}
