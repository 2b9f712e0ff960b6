//! Where a mount path is, seen from a directory of ours, in whatever spelling.

/// Deep enough for every directory of ours.
const MAX_DEPTH: usize = 8;

/// A place seen from a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    At,
    /// Within it.
    Below,
    Elsewhere,
}

/// Where `path` is, seen from `directory`. `//`, `.`, `..` and a trailing slash are resolved by the text alone, as the
/// container runtime does; the kubelet takes a relative path from `/`.
///
/// A mount above the directory hides nothing: containerd (`orderedMounts`) and CRI-O mount paths with fewer parts first.
pub(crate) fn place(path: &str, directory: &str) -> Place {
    let (path, directory) = (Parts::of(path), Parts::of(directory));
    let within = path.depth >= directory.depth
        && path
            .kept
            .iter()
            .zip(directory.kept.iter())
            .take(directory.depth)
            .all(|(path, directory)| path == directory);
    match within {
        true if path.depth == directory.depth => Place::At,
        true => Place::Below,
        false => Place::Elsewhere,
    }
}

/// The first parts of a path, and how many there are: what a long path costs is bounded.
struct Parts<'a> {
    kept: [&'a str; MAX_DEPTH],
    depth: usize,
}

impl<'a> Parts<'a> {
    fn of(path: &'a str) -> Self {
        let mut parts = Self {
            kept: [""; MAX_DEPTH],
            depth: 0,
        };
        for part in path.split('/') {
            match part {
                "" | "." => {}
                ".." => parts.depth = parts.depth.saturating_sub(1),
                part => {
                    if let Some(place) = parts.kept.get_mut(parts.depth) {
                        *place = part;
                    }
                    parts.depth = parts.depth.saturating_add(1);
                }
            }
        }
        // In most images /var/run is a link to /run, and the runtime follows it.
        if parts.depth >= 2 && matches!(parts.kept, ["var", "run", ..]) {
            parts.kept.rotate_left(1);
            parts.depth = parts.depth.saturating_sub(1);
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentwrit_protocol::inject::{IDENTITY_DIR, TOKEN_DIR};

    #[test]
    fn every_spelling_of_a_path_is_recognised() {
        let table = [
            ("/var/run/secrets/agentwrit.io/token", Place::At),
            ("/var/run/secrets/agentwrit.io/token/", Place::At),
            ("//var//run/secrets///agentwrit.io/token//", Place::At),
            ("/var/run/./secrets/agentwrit.io/token/.", Place::At),
            ("/var/run/secrets/agentwrit.io/identity/../token", Place::At),
            ("/../../var/run/secrets/agentwrit.io/token", Place::At),
            ("var/run/secrets/agentwrit.io/token", Place::At),
            ("/run/secrets/agentwrit.io/token", Place::At),
            (
                "/a/b/c/d/e/f/g/h/i/j/../../../../../../../../../../run/secrets/agentwrit.io/token",
                Place::At,
            ),
            ("/var/run/secrets/agentwrit.io/token/token", Place::Below),
            ("/run/secrets/agentwrit.io/token/a/../b", Place::Below),
            ("/var/run/secrets/agentwrit.io/token/a/b/c/d/e/f/g/h", Place::Below),
            ("/var/run/secrets/agentwrit.io/tokens", Place::Elsewhere),
            ("/var/run/secrets/agentwrit.io/token/..", Place::Elsewhere),
            ("/var/run/secrets/agentwrit.io", Place::Elsewhere),
            ("/var/run/secrets/agentwrit.io/identity", Place::Elsewhere),
            ("/var/secrets/agentwrit.io/token", Place::Elsewhere),
            ("/var/run/secrets/kubernetes.io/serviceaccount", Place::Elsewhere),
            ("/VAR/run/secrets/agentwrit.io/token", Place::Elsewhere),
            ("/var/run", Place::Elsewhere),
            ("/", Place::Elsewhere),
            ("", Place::Elsewhere),
        ];
        for (path, expected) in table {
            assert_eq!(place(path, TOKEN_DIR), expected, "{path}");
        }
        assert_eq!(
            place("/run/secrets/agentwrit.io/identity/x", IDENTITY_DIR),
            Place::Below
        );
    }
}
