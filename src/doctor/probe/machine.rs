//! The machine, as Linux tells of it. Where nobody tells, the fact is absent.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::gpu::{self, BUILD};
use super::{blocking, printed};
use crate::config::Settings;
use crate::doctor::judge::machine::{GpuFacts, MachineFacts};

/// How long another program may take to tell of the clock.
const CLOCK_LIMIT: Duration = Duration::from_secs(3);
/// Where groups of processes stand.
const GROUPS: &str = "/sys/fs/cgroup";

/// Looks at memory, cores, GPUs, limits and the clock.
pub async fn look(settings: &Settings, limit: Duration) -> MachineFacts {
    let (library, visible) = (settings.gpu.library.clone(), std::env::var("CUDA_VISIBLE_DEVICES").ok());
    let gpus = move || gpu::look(&library, visible.as_deref());
    let (files, seen, is_clock_kept) =
        tokio::join!(blocking(limit, files), blocking(limit, gpus), is_clock_kept());
    let seen = seen.unwrap_or_else(|| Err("the driver's library does not answer in time".to_owned()));
    MachineFacts { is_clock_kept, gpus: GpuFacts { build: BUILD, seen }, ..files.unwrap_or_default() }
}

/// What stands in files of the kernel.
fn files() -> MachineFacts {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let memory = read("/proc/meminfo");
    MachineFacts {
        // Takes the group's quota of time into account.
        cores: std::thread::available_parallelism().ok().and_then(|cores| u32::try_from(cores.get()).ok()),
        memory: of_meminfo(&memory, "MemTotal"),
        memory_free: of_meminfo(&memory, "MemAvailable"),
        memory_bound: memory_bound(Path::new(GROUPS), &read("/proc/self/cgroup")),
        open_files: open_files(&read("/proc/self/limits")),
        ..MachineFacts::default()
    }
}

/// Bytes of a line such as `MemTotal:       16384 kB`.
fn of_meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The first number of a line such as `Max open files  1024  4096  files`: the limit that counts.
fn open_files(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let limit = line.split_whitespace().next()?;
    if limit == "unlimited" { Some(u64::MAX) } else { limit.parse().ok() }
}

/// The tightest bound on memory over this process' group and those around it, and what that group has. `groups` is the
/// root of the tree, `own` what the kernel says of this process.
fn memory_bound(groups: &Path, own: &str) -> Option<(u64, u64)> {
    let number = |path: PathBuf| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let bound = |folder: &Path, most: &str, used: &str| {
        Some((number(folder.join(most))?, number(folder.join(used)).unwrap_or(0)))
    };
    // Of version 2 there is one tree; inside a container its root is the container's group.
    let path = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let folder = groups.join(path);
    let around = folder.ancestors().take_while(|folder| folder.starts_with(groups));
    let unified = around.filter_map(|folder| bound(folder, "memory.max", "memory.current"));
    // Of version 1 each resource has a tree; "no bound" is a number near the largest.
    let single = bound(&groups.join("memory"), "memory.limit_in_bytes", "memory.usage_in_bytes");
    let single = single.filter(|(most, _)| *most < 1 << 60);
    unified.chain(single).min()
}

/// Whether the system's own service says that the clock is synchronised.
async fn is_clock_kept() -> Option<bool> {
    let arguments = ["show", "--property=NTPSynchronized", "--value"].map(OsStr::new);
    match printed(CLOCK_LIMIT, "timedatectl", &arguments).await?.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, write};

    #[test]
    fn files_of_the_kernel_are_read_and_what_they_lack_is_absent() {
        let memory = "MemTotal:       16384 kB\nMemFree:          1 kB\nMemAvailable:    8192 kB\n";
        assert_eq!(of_meminfo(memory, "MemTotal"), Some(16 << 20));
        assert_eq!(of_meminfo(memory, "MemAvailable"), Some(8 << 20));
        assert_eq!(of_meminfo(memory, "Mem"), None);
        let limits = "Limit      Soft Limit  Hard Limit  Units\nMax open files            1024                 524288               files\n";
        assert_eq!(open_files(limits), Some(1024));
        assert_eq!(open_files("Max open files unlimited unlimited files"), Some(u64::MAX));
        assert_eq!(open_files(""), None);
    }

    #[test]
    fn the_tightest_group_around_a_process_is_its_bound() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("outer/inner");
        create_dir_all(&own).unwrap();
        assert_eq!(memory_bound(root.path(), "0::/outer/inner\n"), None);
        write(own.join("memory.max"), "max\n").unwrap();
        assert_eq!(memory_bound(root.path(), "0::/outer/inner\n"), None, "no bound at all");
        write(root.path().join("outer/memory.max"), "1000\n").unwrap();
        write(root.path().join("outer/memory.current"), "400\n").unwrap();
        assert_eq!(memory_bound(root.path(), "0::/outer/inner\n"), Some((1000, 400)));
        write(own.join("memory.max"), "500\n").unwrap();
        assert_eq!(memory_bound(root.path(), "0::/outer/inner\n"), Some((500, 0)));
    }

    #[test]
    fn the_old_tree_of_groups_counts_too() {
        let root = tempfile::tempdir().unwrap();
        let old = root.path().join("memory");
        create_dir_all(&old).unwrap();
        write(old.join("memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        assert_eq!(memory_bound(root.path(), "4:memory:/x\n"), None);
        write(old.join("memory.limit_in_bytes"), "2048\n").unwrap();
        write(old.join("memory.usage_in_bytes"), "1024\n").unwrap();
        assert_eq!(memory_bound(root.path(), "4:memory:/x\n"), Some((2048, 1024)));
    }
}
