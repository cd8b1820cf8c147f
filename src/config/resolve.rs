//! From what was given to what holds: parsed, defaulted, validated. All mistakes are told at once.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::machine::{self, Machine};
use super::quantity::{parse_duration, parse_mask, parse_size, parse_switch, show_size};
use super::raw::{KernelFlags, NameOf, Raw};
use super::settings::{self, Kind};
use super::target::Target;
use crate::failure::{Exit, Failure};
use crate::store::types::{PART_MAX_BYTES, PART_MIN_BYTES};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Everything a mount needs to know.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// What to show.
    pub target: Target,
    /// Where; absolute, not otherwise looked at yet.
    pub mountpoint: PathBuf,
    /// Stay in the foreground.
    pub foreground: bool,
    /// How the directory looks and who may use it.
    pub access: Access,
    /// How S3 is reached.
    pub connection: Connection,
    /// What is kept on this machine.
    pub local: Local,
    /// How long names and attributes are believed.
    pub ttl: Duration,
    /// How long an open may rely on what was learnt before it.
    pub open_window: Duration,
    /// Whether attributes kept in S3 are honoured (`posix`), or never asked for (`list`).
    pub attrs_posix: bool,
    /// How files reach S3.
    pub writing: Writing,
    /// What is told.
    pub logging: Logging,
    /// Things to say in the log that are no errors.
    pub warnings: Vec<String>,
}

/// How the directory looks and who may use it.
#[derive(Clone, PartialEq, Debug)]
pub struct Access {
    /// Every change is EROFS.
    pub read_only: bool,
    /// Users other than the one who mounts may enter.
    pub allow_other: bool,
    /// Owner of what has none in S3.
    pub uid: u32,
    /// Group of what has none in S3.
    pub gid: u32,
    /// Permission bits of files that have none in S3.
    pub file_mode: u32,
    /// Permission bits of directories that have none in S3.
    pub dir_mode: u32,
    /// Mount flags for the kernel.
    pub kernel: KernelFlags,
}

/// How S3 is reached.
#[derive(Clone, PartialEq, Debug)]
pub struct Connection {
    /// Server other than AWS.
    pub endpoint_url: Option<String>,
    /// Region; `None` asks the AWS chain.
    pub region: Option<String>,
    /// Profile of the AWS files.
    pub profile: Option<String>,
    /// Requests go unsigned.
    pub anonymous: bool,
    /// Bucket in the path; `None` decides by the endpoint.
    pub force_path_style: Option<bool>,
    /// Requests in flight.
    pub max_connections: usize,
    /// Tries of a request, the first included.
    pub max_attempts: u32,
    /// Retries also slow the whole client down.
    pub retry_adaptive: bool,
    /// Bound of one connect.
    pub connect_timeout: Duration,
    /// Bound of the wait for an answer to begin.
    pub read_timeout: Duration,
    /// Bound of one transfer.
    pub transfer_timeout: Duration,
}

/// What is kept on this machine.
#[derive(Clone, PartialEq, Debug)]
pub struct Local {
    /// Directory above those of all mounts.
    pub cache_root: PathBuf,
    /// Directory of this mount, below `cache_root`.
    pub mount_dir: PathBuf,
    /// Most bytes of cached objects.
    pub cache_size_bytes: u64,
    /// Most bytes of transfers in memory.
    pub memory_limit_bytes: u64,
}

/// How files reach S3.
#[derive(Clone, PartialEq, Debug)]
pub struct Writing {
    /// A changed object is overwritten instead of failing the close.
    pub overwrite_on_conflict: bool,
    /// Bytes of a part.
    pub part_size_bytes: u64,
    /// Files above this go up in parts.
    pub multipart_threshold_bytes: u64,
    /// Parts of one file in flight.
    pub upload_concurrency: usize,
    /// Storage class of new objects.
    pub storage_class: Option<String>,
}

/// What is told.
#[derive(Clone, PartialEq, Debug)]
pub struct Logging {
    /// Filter in the form of `tracing_subscriber::EnvFilter`.
    pub filter: String,
    /// Where to; `None` is the terminal in the foreground, else the default below the mount's directory.
    pub file: Option<PathBuf>,
}

impl Settings {
    /// Resolves `raw` for a target and a mountpoint as given. With `--all-buckets` the target may be absent.
    ///
    /// # Errors
    /// One [`Failure`] that names every mistake.
    pub fn resolve(
        raw: &Raw,
        target: Option<&str>,
        mountpoint: &Path,
        machine: &Machine,
    ) -> Result<Self, Failure> {
        let mut r = Resolver { raw, errors: Vec::new() };
        let all = r.switch("all-buckets");
        let target = match (target, all) {
            (None | Some("s3://"), true) => Target::AllBuckets,
            (Some(text), false) => r.keep(Target::parse(text)).unwrap_or(Target::AllBuckets),
            (Some(_), true) => {
                r.errors.push("--all-buckets shows every bucket: leave the target out".into());
                Target::AllBuckets
            }
            (None, false) => {
                r.errors.push("no target: name a BUCKET[/PREFIX], or --all-buckets".into());
                Target::AllBuckets
            }
        };
        let access = r.access(machine);
        let connection = r.connection();
        let mut warnings = Vec::new();
        let local = r.local(&target, connection.endpoint_url.as_deref(), machine, &mut warnings);
        let settings = Self {
            target,
            mountpoint: machine.absolute(mountpoint),
            foreground: r.switch("foreground"),
            access,
            connection,
            local,
            ttl: r.duration("ttl", Duration::from_secs(30)),
            open_window: r.duration("open-window", Duration::from_secs(1)),
            attrs_posix: r.choice("attrs") == "posix",
            writing: r.writing(),
            logging: r.logging(machine),
            warnings,
        };
        r.finish(settings)
    }
}

/// Reads values and collects what is wrong with them.
struct Resolver<'a> {
    raw: &'a Raw,
    errors: Vec<String>,
}

impl Resolver<'_> {
    fn finish(self, mut settings: Settings) -> Result<Settings, Failure> {
        for name in &self.raw.unknown_variables {
            settings.warnings.push(format!("the variable {name} means nothing to pailfs"));
        }
        let mut errors = self.errors.into_iter();
        let Some(first) = errors.next() else { return Ok(settings) };
        let failure =
            Failure::new(Exit::Usage, first).advise("'pailfs mount --help' describes every setting");
        Err(errors.fold(failure, |failure, error| failure.detail(format!("also: {error}"))))
    }

    fn keep<T>(&mut self, result: Result<T, String>) -> Option<T> {
        result.map_err(|error| self.errors.push(error)).ok()
    }

    fn parsed<T>(&mut self, name: &'static str, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        let given = self.raw.get(name)?;
        let setting = settings::find(name)?;
        match parse(given.text.trim()) {
            Ok(value) => Some(value),
            Err(why) => {
                self.errors.push(format!("{}: {why}", NameOf(setting, given.origin)));
                None
            }
        }
    }

    fn text(&mut self, name: &'static str) -> Option<String> {
        self.parsed(name, |text| if text.is_empty() { Err("is empty".into()) } else { Ok(text.to_owned()) })
    }

    fn switch(&mut self, name: &'static str) -> bool {
        self.parsed(name, parse_switch).unwrap_or(false)
    }

    fn duration(&mut self, name: &'static str, default: Duration) -> Duration {
        self.parsed(name, parse_duration).unwrap_or(default)
    }

    /// A timeout: a duration that is not zero.
    fn timeout(&mut self, name: &'static str, default: Duration) -> Duration {
        let parse = |text: &str| match parse_duration(text)? {
            Duration::ZERO => Err("must be longer than 0".into()),
            time => Ok(time),
        };
        self.parsed(name, parse).unwrap_or(default)
    }

    fn number(&mut self, name: &'static str, default: u32, range: RangeInclusive<u32>) -> u32 {
        let parse = |text: &str| match text.parse::<u32>() {
            Ok(number) if range.contains(&number) => Ok(number),
            _ => Err(format!("'{text}' is no number from {} to {}", range.start(), range.end())),
        };
        self.parsed(name, parse).unwrap_or(default)
    }

    fn size(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.parsed(name, |text| {
            let bytes = parse_size(text)?;
            if range.contains(&bytes) {
                return Ok(bytes);
            }
            Err(format!("'{text}' is not from {} to {}", show_size(*range.start()), show_size(*range.end())))
        })
    }

    /// One of the words of the table; the first is the default.
    fn choice(&mut self, name: &'static str) -> &'static str {
        let Some(Kind::Choice(words)) = settings::find(name).map(|s| s.kind) else { return "" };
        let parse = |text: &str| {
            let found = words.iter().copied().find(|w| w.eq_ignore_ascii_case(text));
            found.ok_or_else(|| format!("'{text}' is none of: {}", words.join(", ")))
        };
        self.parsed(name, parse).unwrap_or(words[0])
    }

    fn access(&mut self, machine: &Machine) -> Access {
        let umask = self.parsed("umask", parse_mask).unwrap_or(0o022);
        let fmask = self.parsed("fmask", parse_mask).unwrap_or(0o111 | umask);
        let dmask = self.parsed("dmask", parse_mask).unwrap_or(umask);
        Access {
            read_only: self.switch("read-only"),
            allow_other: self.switch("allow-other"),
            // The largest number means "nobody in particular" to chown(2).
            uid: self.number("uid", machine.uid, 0..=u32::MAX - 1),
            gid: self.number("gid", machine.gid, 0..=u32::MAX - 1),
            file_mode: 0o777 & !fmask,
            dir_mode: 0o777 & !dmask,
            kernel: self.raw.kernel,
        }
    }

    fn connection(&mut self) -> Connection {
        let endpoint_url = self.parsed("endpoint-url", |text| {
            if text.starts_with("http://") || text.starts_with("https://") {
                return Ok(text.trim_end_matches('/').to_owned());
            }
            Err(format!("'{text}' must begin with http:// or https://"))
        });
        let anonymous = self.switch("no-sign-request");
        let profile = self.text("profile");
        if anonymous && profile.is_some() {
            self.errors.push("a profile is of no use with --no-sign-request: requests go unsigned".into());
        }
        Connection {
            endpoint_url,
            region: self.text("region"),
            profile,
            anonymous,
            force_path_style: self.parsed("force-path-style", parse_switch),
            max_connections: self.number("max-connections", 50, 1..=10_000) as usize,
            max_attempts: self.number("max-attempts", 3, 1..=100),
            retry_adaptive: self.choice("retry-mode") == "adaptive",
            connect_timeout: self.timeout("connect-timeout", Duration::from_secs(5)),
            read_timeout: self.timeout("read-timeout", Duration::from_secs(30)),
            transfer_timeout: self.timeout("transfer-timeout", Duration::from_secs(300)),
        }
    }

    fn local(
        &mut self,
        target: &Target,
        endpoint: Option<&str>,
        machine: &Machine,
        warnings: &mut Vec<String>,
    ) -> Local {
        let given = self.text("cache-dir").map(|dir| machine.absolute(dir));
        let cache_root = given.or_else(|| machine.default_cache_dir()).unwrap_or_else(|| {
            self.errors.push("no cache directory: HOME is not set, so name one with --cache-dir".into());
            PathBuf::new()
        });
        let cache_size_bytes = self.size("cache-size", 64 * MIB..=u64::MAX).unwrap_or_else(|| {
            let wanted = 10 * GIB;
            match machine::free_bytes(&cache_root).map(|free| free / 2) {
                Some(half) if half < wanted => {
                    let size = half.max(64 * MIB);
                    warnings.push(format!(
                        "the disk of {} is short of space: the cache is held to {}",
                        cache_root.display(),
                        show_size(size)
                    ));
                    size
                }
                _ => wanted,
            }
        });
        let memory_limit_bytes = self.size("memory-limit", 64 * MIB..=u64::MAX).unwrap_or_else(|| {
            machine.memory_bytes.map_or(512 * MIB, |bytes| (bytes / 8).clamp(64 * MIB, 512 * MIB))
        });
        let identity = target.identity(endpoint.or(machine.aws_endpoint.as_deref()));
        Local { mount_dir: cache_root.join(identity), cache_root, cache_size_bytes, memory_limit_bytes }
    }

    fn writing(&mut self) -> Writing {
        Writing {
            overwrite_on_conflict: self.choice("on-conflict") == "overwrite",
            part_size_bytes: self.size("part-size", PART_MIN_BYTES..=PART_MAX_BYTES).unwrap_or(8 * MIB),
            // One PutObject takes 5 GiB, as one part does.
            multipart_threshold_bytes: self
                .size("multipart-threshold", PART_MIN_BYTES..=PART_MAX_BYTES)
                .unwrap_or(16 * MIB),
            upload_concurrency: self.number("upload-concurrency", 10, 1..=1_000) as usize,
            storage_class: self.text("storage-class"),
        }
    }

    fn logging(&mut self, machine: &Machine) -> Logging {
        Logging {
            filter: self.text("log-level").unwrap_or_else(|| "info".into()),
            file: self.text("log-file").map(|file| machine.absolute(file)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::super::raw::Origin;
    use super::*;

    fn machine() -> Machine {
        Machine {
            uid: 1000,
            gid: 100,
            memory_bytes: Some(2 * GIB),
            cache_home: None,
            home: Some("/home/u".into()),
            runtime_dir: None,
            current_dir: "/work".into(),
            aws_endpoint: None,
        }
    }

    fn raw(values: &[(&'static str, &str)]) -> Raw {
        let mut raw = Raw::default();
        for (name, text) in values {
            raw.set(settings::find(name).unwrap(), *text, Origin::Flag);
        }
        raw
    }

    fn resolve(values: &[(&'static str, &str)]) -> Result<Settings, Failure> {
        Settings::resolve(&raw(values), Some("data/a"), Path::new("mnt"), &machine())
    }

    #[test]
    fn defaults() {
        let s = resolve(&[]).unwrap();
        assert_eq!(s.mountpoint, Path::new("/work/mnt"));
        assert_eq!((s.access.uid, s.access.gid), (1000, 100));
        assert_eq!((s.access.file_mode, s.access.dir_mode), (0o644, 0o755));
        assert_eq!(s.connection.max_connections, 50);
        assert_eq!(s.connection.transfer_timeout, Duration::from_secs(300));
        assert_eq!(s.local.memory_limit_bytes, 256 * MIB);
        assert!(s.local.mount_dir.starts_with("/home/u/.cache/pailfs"));
        assert_eq!(s.writing.part_size_bytes, 8 * MIB);
        assert!(s.attrs_posix && !s.writing.overwrite_on_conflict && !s.foreground);
    }

    #[test]
    fn shown_defaults_are_the_ones_that_hold() {
        let values: Vec<_> = settings::SETTINGS
            .iter()
            .filter(|s| !s.default.is_empty())
            .map(|s| (s.name, s.default))
            .collect();
        let implied = resolve(&[]).unwrap();
        assert_eq!(resolve(&values).unwrap(), implied);
    }

    #[test]
    fn masks() {
        let s = resolve(&[("umask", "027"), ("dmask", "077")]).unwrap();
        assert_eq!((s.access.file_mode, s.access.dir_mode), (0o640, 0o700));
        let s = resolve(&[("fmask", "0022")]).unwrap();
        assert_eq!(s.access.file_mode, 0o755);
    }

    #[test]
    fn all_mistakes_are_told_at_once() {
        let failure = resolve(&[("ttl", "soon"), ("part-size", "1M"), ("uid", "me"), ("attrs", "x")])
            .expect_err("four mistakes");
        let screen = failure.to_string();
        for word in ["--ttl", "--part-size", "5 MiB to 5 GiB", "--uid", "--attrs", "posix, list"] {
            assert!(screen.contains(word), "{word} in {screen}");
        }
        assert_eq!(failure.exit, Exit::Usage);
    }

    #[test]
    fn targets() {
        let all = raw(&[("all-buckets", "true")]);
        let mnt = Path::new("/mnt");
        assert_eq!(Settings::resolve(&all, None, mnt, &machine()).unwrap().target, Target::AllBuckets);
        assert!(Settings::resolve(&all, Some("data"), mnt, &machine()).is_err());
        assert!(Settings::resolve(&Raw::default(), None, mnt, &machine()).is_err());
        let s3 = Settings::resolve(&Raw::default(), Some("s3://"), mnt, &machine()).unwrap();
        assert_eq!(s3.target, Target::AllBuckets);
    }

    #[test]
    fn bounds() {
        for (name, text) in [
            ("max-connections", "0"),
            ("connect-timeout", "0s"),
            ("endpoint-url", "host:9000"),
            ("cache-size", "1K"),
            ("memory-limit", "1M"),
            ("multipart-threshold", "6G"),
            ("region", " "),
            ("umask", "999"),
        ] {
            assert!(resolve(&[(name, text)]).is_err(), "{name} {text}");
        }
        assert!(resolve(&[("no-sign-request", "true"), ("profile", "x")]).is_err());
    }

    #[test]
    fn without_a_home_a_cache_directory_is_needed() {
        let machine = Machine { home: None, ..machine() };
        let failure = Settings::resolve(&Raw::default(), Some("b"), Path::new("/m"), &machine).unwrap_err();
        assert!(failure.what.contains("--cache-dir"));
        let given = raw(&[("cache-dir", "/c")]);
        let s = Settings::resolve(&given, Some("b"), Path::new("/m"), &machine).unwrap();
        assert_eq!(s.local.cache_root, Path::new("/c"));
    }

    #[test]
    fn the_aws_endpoint_is_part_of_the_identity() {
        let aws = Machine { aws_endpoint: Some("http://h:1".into()), ..machine() };
        let by_env = Settings::resolve(&Raw::default(), Some("b"), Path::new("/m"), &aws).unwrap();
        let by_flag = Settings::resolve(
            &raw(&[("endpoint-url", "http://h:1")]),
            Some("b"),
            Path::new("/m"),
            &machine(),
        );
        assert_eq!(by_env.local.mount_dir, by_flag.unwrap().local.mount_dir);
    }
}
