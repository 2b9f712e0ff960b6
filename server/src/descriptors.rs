//! File descriptors, of which every connection takes one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Kept for the store, TLS files, the Kubernetes API and the other listener.
const RESERVED_DESCRIPTORS: u64 = 512;
/// Connections at most: an idle one takes some kilobytes.
const MAX_CONNECTIONS: u64 = 16_384;

/// Raises the limit of open files as far as the system allows without privileges, as Go programs do.
pub fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(target: "HTTP", component = "Descriptors", error = %error, "the limit of open files stays low");
    }
}

/// How many connections the main listener may hold.
pub(crate) fn connections() -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(share(limit)).unwrap_or(usize::MAX)
}

fn share(limit: u64) -> u64 {
    limit
        .saturating_sub(RESERVED_DESCRIPTORS)
        .max(limit / 2)
        .clamp(1, MAX_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_the_rest() {
        for (limit, wanted) in [
            (0, 1),
            (256, 128),
            (1024, 512),
            (4096, 3584),
            (20_000, MAX_CONNECTIONS),
            (u64::MAX, MAX_CONNECTIONS),
        ] {
            assert_eq!(share(limit), wanted, "{limit}");
        }
    }
}
