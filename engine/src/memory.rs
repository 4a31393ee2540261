//! Memory of the machine, or of the container that this program was put into.

use std::fs;
use std::path::Path;

/// Where Linux shows what a container may use (cgroup v2).
const GROUP: &str = "/sys/fs/cgroup";

/// Returns the bytes of memory of the machine, or those that the container may use where these are fewer.
pub fn total() -> u64 {
    in_meminfo("MemTotal:").min(in_group("memory.max").unwrap_or(u64::MAX))
}

/// Returns the bytes that a program may take now without driving others out.
pub fn free() -> u64 {
    in_meminfo("MemAvailable:").min(free_of_group().unwrap_or(u64::MAX))
}

/// What a container uses counts the files that the system keeps in memory for it, and gives up when asked.
fn free_of_group() -> Option<u64> {
    let stat = fs::read_to_string(Path::new(GROUP).join("memory.stat")).unwrap_or_default();
    let files = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse().ok()).unwrap_or(0);
    Some(in_group("memory.max")?.saturating_sub(in_group("memory.current")?.saturating_sub(files)))
}

/// Returns a line of `/proc/meminfo` in bytes; without one, memory has no end.
fn in_meminfo(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    bytes(&text, name).unwrap_or(u64::MAX)
}

fn bytes(meminfo: &str, name: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Returns a number of the container, none where it says `max` or there is no container.
fn in_group(name: &str) -> Option<u64> {
    fs::read_to_string(Path::new(GROUP).join(name)).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kilobytes() {
        let text = "MemTotal:       24 kB\nMemAvailable:    3 kB\nHugePages_Total:       0\n";
        assert_eq!((bytes(text, "MemTotal:"), bytes(text, "MemAvailable:")), (Some(24576), Some(3072)));
        assert_eq!((bytes(text, "HugePages_Total:"), bytes(text, "Nothing:")), (None, None));
    }

    #[test]
    fn some_of_this_machine_is_free() {
        assert!(free() > 0 && free() <= total());
    }
}
