//! What the defaults depend on: who runs this and how much there is of memory and disk.

use std::path::{Path, PathBuf};

/// Facts about the machine and the user, gathered once so that everything else can be tested without them.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Memory this process may use, in bytes; a control group may set it below what the machine has.
    pub memory_bytes: Option<u64>,
    /// `$XDG_CACHE_HOME`.
    pub cache_home: Option<PathBuf>,
    /// `$HOME`.
    pub home: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// Directory that relative paths start from.
    pub current_dir: PathBuf,
    /// Endpoint that the AWS variables name, `AWS_ENDPOINT_URL_S3` before `AWS_ENDPOINT_URL`.
    pub aws_endpoint: Option<String>,
}

impl Machine {
    /// Looks around.
    pub fn detect() -> Self {
        let path = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let text = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            memory_bytes: memory_bytes(),
            cache_home: path("XDG_CACHE_HOME").filter(|p| p.is_absolute()),
            home: path("HOME"),
            runtime_dir: path("XDG_RUNTIME_DIR").filter(|p| p.is_absolute()),
            current_dir: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            aws_endpoint: text("AWS_ENDPOINT_URL_S3").or_else(|| text("AWS_ENDPOINT_URL")),
        }
    }

    /// Where the cache goes when nobody says: `/var/cache/pailfs` for root, else below the user's cache
    /// directory; `None` when there is no home.
    pub fn default_cache_dir(&self) -> Option<PathBuf> {
        if self.uid == 0 {
            return Some(PathBuf::from("/var/cache/pailfs"));
        }
        let base = self.cache_home.clone().or_else(|| self.home.as_ref().map(|h| h.join(".cache")))?;
        Some(base.join("pailfs"))
    }

    /// `path` made absolute.
    pub fn absolute(&self, path: impl AsRef<Path>) -> PathBuf {
        self.current_dir.join(path)
    }
}

/// Bytes free for us on the filesystem that holds `path` or will hold it.
pub fn free_bytes(path: &Path) -> Option<u64> {
    let present = path.ancestors().find(|p| p.exists())?;
    let stat = rustix::fs::statvfs(present).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn memory_bytes() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let total = read("/proc/meminfo").and_then(|text| parse_meminfo(&text));
    // v2 says "max" and v1 a number near 2^63 when there is no limit.
    let limit = read("/sys/fs/cgroup/memory.max")
        .or_else(|| read("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
        .and_then(|text| text.trim().parse::<u64>().ok());
    match (total, limit) {
        (Some(total), Some(limit)) => Some(total.min(limit)),
        (total, limit) => total.or(limit),
    }
}

fn parse_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(uid: u32) -> Machine {
        Machine {
            uid,
            gid: uid,
            memory_bytes: None,
            cache_home: None,
            home: Some("/home/u".into()),
            runtime_dir: None,
            current_dir: "/work".into(),
            aws_endpoint: None,
        }
    }

    #[test]
    fn cache_directories() {
        assert_eq!(machine(0).default_cache_dir(), Some("/var/cache/pailfs".into()));
        assert_eq!(machine(5).default_cache_dir(), Some("/home/u/.cache/pailfs".into()));
        let other = Machine { cache_home: Some("/c".into()), ..machine(5) };
        assert_eq!(other.default_cache_dir(), Some("/c/pailfs".into()));
        let homeless = Machine { home: None, ..machine(5) };
        assert_eq!(homeless.default_cache_dir(), None);
    }

    #[test]
    fn meminfo() {
        assert_eq!(parse_meminfo("MemFree: 1 kB\nMemTotal:       16384 kB\n"), Some(16 << 20));
        assert_eq!(parse_meminfo("nothing"), None);
    }

    #[test]
    fn free_space_of_a_directory_to_come() {
        assert!(free_bytes(Path::new("/tmp/not/there/yet")).is_some());
    }
}
