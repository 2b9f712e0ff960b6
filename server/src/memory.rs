//! How much memory this process may use: the least of its cgroups' limits, its own limit, and what the machine has.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

/// The limit, bytes; `None` when nothing says.
pub fn limit() -> Option<usize> {
    let address_space = getrlimit(Resource::As).current;
    limit_below(Path::new("/"))
        .into_iter()
        .chain(address_space)
        .min()
        .and_then(|bytes| usize::try_from(bytes).ok())
}

fn limit_below(root: &Path) -> Option<u64> {
    let text = |path: &Path| fs::read_to_string(path).ok();
    let cgroups = text(&root.join("proc/self/cgroup")).unwrap_or_default();
    let of_cgroups = cgroups
        .lines()
        .flat_map(|line| limit_files(root, line))
        // "max" (version 2) is no number; version 1 gives a number of about 2^63.
        .filter_map(|file| text(&file)?.trim().parse::<u64>().ok());
    let of_machine = text(&root.join("proc/meminfo")).and_then(|text| total(&text));
    of_cgroups.chain(of_machine).min()
}

/// The files that may limit the cgroup of one line of /proc/self/cgroup (cgroups(7)), and those of its parents: inside
/// a container the path is that of the host, and the files stand at the mount's root.
fn limit_files(root: &Path, line: &str) -> Vec<PathBuf> {
    let mut parts = line.splitn(3, ':');
    let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
        return Vec::new();
    };
    let (mount, file) = if controllers.is_empty() {
        ("sys/fs/cgroup", "memory.max")
    } else if controllers.split(',').any(|controller| controller == "memory") {
        ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
    } else {
        return Vec::new();
    };
    let mount = root.join(mount);
    Path::new(path.trim_start_matches('/'))
        .ancestors()
        .map(|folder| mount.join(folder).join(file))
        .collect()
}

/// `MemTotal` of /proc/meminfo, bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        limit_below(root.path())
    }

    const MEMINFO: (&str, &str) = ("proc/meminfo", "MemTotal:       24594452 kB\nMemFree: 1 kB\n");

    #[test]
    fn the_least_of_all_limits_counts() {
        assert_eq!(machine(&[]), None);
        assert_eq!(machine(&[MEMINFO]), Some(24_594_452 * 1024));
        let version_2 = ("proc/self/cgroup", "0::/kubepods/pod1/abc\n");
        let leaf = ("sys/fs/cgroup/kubepods/pod1/abc/memory.max", "max\n");
        let pod = ("sys/fs/cgroup/kubepods/pod1/memory.max", "268435456\n");
        assert_eq!(machine(&[MEMINFO, version_2, leaf, pod]), Some(268_435_456));
        let inside = ("sys/fs/cgroup/memory.max", "134217728\n");
        assert_eq!(machine(&[MEMINFO, version_2, inside]), Some(134_217_728));
        let version_1 = ("proc/self/cgroup", "3:cpu,cpuacct:/x\n2:memory:/docker/abc\n");
        let limited = ("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "201326592\n");
        assert_eq!(machine(&[MEMINFO, version_1, limited]), Some(201_326_592));
        let unlimited = ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(machine(&[MEMINFO, version_1, unlimited]), Some(24_594_452 * 1024));
    }

    #[test]
    fn this_machine_says_something() {
        assert!(limit().is_some_and(|bytes| bytes > 1024 * 1024));
    }
}
