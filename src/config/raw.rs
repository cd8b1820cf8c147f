//! Settings as they were given: text, and where it came from.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;

use super::settings::{self, Kind, SETTINGS, Setting};

/// Where a value came from; a later variant wins over an earlier one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Origin {
    /// A `PAILFS_*` variable.
    Environment,
    /// `-o name=value`.
    MountOption,
    /// `--name value`.
    Flag,
}

/// One value as given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Given {
    /// Its text.
    pub text: String,
    /// Where it came from.
    pub origin: Origin,
}

/// Options of mount(8) that the kernel acts on, not pailfs; `None` leaves FUSE's default.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct KernelFlags {
    /// `exec`, `noexec`.
    pub exec: Option<bool>,
    /// `suid`, `nosuid`; off by default.
    pub suid: Option<bool>,
    /// `dev`, `nodev`; off by default.
    pub dev: Option<bool>,
    /// `atime`, `noatime`.
    pub atime: Option<bool>,
}

/// All that was given for one mount.
#[derive(Clone, Default, Debug)]
pub struct Raw {
    values: HashMap<&'static str, Given>,
    /// What the kernel is to do.
    pub kernel: KernelFlags,
    /// `PAILFS_*` variables that no setting has.
    pub unknown_variables: Vec<String>,
}

impl Raw {
    /// Takes a value; the one with the stronger origin stays, of two with the same the later one.
    pub fn set(&mut self, setting: &'static Setting, text: impl Into<String>, origin: Origin) {
        let given = Given { text: text.into(), origin };
        match self.values.get(setting.name) {
            Some(present) if present.origin > origin => {}
            _ => {
                self.values.insert(setting.name, given);
            }
        }
    }

    /// What was given for `name`.
    pub fn get(&self, name: &'static str) -> Option<&Given> {
        self.values.get(name)
    }

    /// Takes every `PAILFS_*` variable of `environment`. An empty one counts as absent, as the AWS tools do.
    pub fn take_environment(&mut self, environment: impl Iterator<Item = (OsString, OsString)>) {
        for (name, text) in environment {
            let Some(name) = name.to_str().filter(|n| n.starts_with("PAILFS_")) else { continue };
            match SETTINGS.iter().find(|s| s.variable() == name) {
                _ if text.is_empty() => {}
                Some(setting) => self.set(setting, text.to_string_lossy(), Origin::Environment),
                None => self.unknown_variables.push(name.to_owned()),
            }
        }
    }

    /// Takes the text of one `-o`: `name,name=value,...`; a value with commas stands in double quotes.
    ///
    /// Options that mount(8) and systemd use for themselves are accepted and ignored.
    ///
    /// # Errors
    /// A sentence about the first option that means nothing here.
    pub fn take_mount_options(&mut self, text: &str) -> Result<(), String> {
        for option in split_options(text) {
            let (name, value) = match option.split_once('=') {
                Some((name, value)) => (name, Some(unquote(value))),
                None => (option, None),
            };
            self.take_mount_option(name, value)?;
        }
        Ok(())
    }

    fn take_mount_option(&mut self, name: &str, value: Option<&str>) -> Result<(), String> {
        if name.is_empty() || is_for_mount_itself(name) || self.take_kernel_flag(name) {
            return Ok(());
        }
        let Some(setting) = settings::find(name) else { return Err(unknown_option(name)) };
        match (setting.kind, value) {
            (_, Some(value)) => self.set(setting, value, Origin::MountOption),
            (Kind::Switch, None) => self.set(setting, "true", Origin::MountOption),
            _ => return Err(format!("-o {name} needs a value: -o {name}=...")),
        }
        Ok(())
    }

    fn take_kernel_flag(&mut self, name: &str) -> bool {
        let (flag, on) = match name.strip_prefix("no") {
            Some(flag) => (flag, false),
            None => (name, true),
        };
        let field = match flag {
            "exec" => &mut self.kernel.exec,
            "suid" => &mut self.kernel.suid,
            "dev" => &mut self.kernel.dev,
            "atime" => &mut self.kernel.atime,
            _ => return false,
        };
        *field = Some(on);
        true
    }
}

/// How a value is named when it is wrong.
pub struct NameOf<'a>(pub &'a Setting, pub Origin);

impl fmt::Display for NameOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Origin::Environment => write!(f, "{}", self.0.variable()),
            Origin::MountOption => write!(f, "-o {}", self.0.name),
            Origin::Flag => write!(f, "--{}", self.0.name),
        }
    }
}

/// Options that are about when and by whom to mount, or that name what pailfs does anyway.
/// mount(8), systemd.mount(5), fstab(5).
fn is_for_mount_itself(name: &str) -> bool {
    const NAMES: [&str; 22] = [
        "rw",
        "_netdev",
        "nofail",
        "auto",
        "noauto",
        "user",
        "users",
        "nouser",
        "owner",
        "noowner",
        "group",
        "nogroup",
        "defaults",
        "comment",
        "async",
        "relatime",
        "norelatime",
        "strictatime",
        "nodiratime",
        "diratime",
        "default_permissions",
        "silent",
    ];
    NAMES.contains(&name) || name.starts_with("x-") || name.starts_with("X-")
}

/// What people coming from other S3 filesystems write.
const NAMES_ELSEWHERE: [(&str, &str); 8] = [
    ("url", "endpoint-url"),
    ("endpoint", "endpoint-url or region"),
    ("use_path_request_style", "force-path-style"),
    ("public_bucket", "no-sign-request"),
    ("use_cache", "cache-dir"),
    ("parallel_count", "upload-concurrency"),
    ("multipart_size", "part-size"),
    ("stat_cache_expire", "ttl"),
];

fn unknown_option(name: &str) -> String {
    if matches!(name, "passwd_file" | "ahbe_conf" | "iam_role" | "access_key" | "secret_key") {
        return format!("-o {name} is not known; credentials come from the AWS chain, see profile=");
    }
    let wanted = name.replace('_', "-");
    let elsewhere = NAMES_ELSEWHERE.iter().find(|(other, _)| *other == name).map(|(_, ours)| *ours);
    let nearest = SETTINGS
        .iter()
        .flat_map(|s| std::iter::once(&s.name).chain(s.aliases))
        .map(|candidate| (strsim::jaro_winkler(&wanted, candidate), *candidate))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate);
    match elsewhere.or(nearest) {
        Some(ours) => format!("-o {name} is not known; did you mean {ours}?"),
        None => format!("-o {name} is not known; 'pailfs mount --help' lists what is"),
    }
}

fn split_options(text: &str) -> Vec<&str> {
    let mut options = Vec::new();
    let (mut start, mut quoted) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            ',' if !quoted => {
                options.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    options.push(&text[start..]);
    options
}

fn unquote(value: &str) -> &str {
    value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;

    fn text<'a>(raw: &'a Raw, name: &'static str) -> Option<&'a str> {
        raw.get(name).map(|g| g.text.as_str())
    }

    #[test]
    fn mount_options_reach_their_settings() {
        let mut raw = Raw::default();
        raw.take_mount_options("ro,allow_other,uid=1000,cache-dir=\"/a,b\",region=eu-west-1").unwrap();
        assert_eq!(text(&raw, "read-only"), Some("true"));
        assert_eq!(text(&raw, "allow-other"), Some("true"));
        assert_eq!(text(&raw, "uid"), Some("1000"));
        assert_eq!(text(&raw, "cache-dir"), Some("/a,b"));
        assert_eq!(text(&raw, "region"), Some("eu-west-1"));
    }

    #[test]
    fn what_mount_itself_uses_is_ignored() {
        let mut raw = Raw::default();
        raw.take_mount_options(
            "rw,_netdev,nofail,noauto,user,defaults,x-systemd.automount,X-mount.mkdir=0755,,",
        )
        .unwrap();
        assert!(SETTINGS.iter().all(|s| raw.get(s.name).is_none()));
    }

    #[test]
    fn kernel_flags() {
        let mut raw = Raw::default();
        raw.take_mount_options("noexec,suid,nodev,noatime,dev").unwrap();
        assert_eq!(
            raw.kernel,
            KernelFlags { exec: Some(false), suid: Some(true), dev: Some(true), atime: Some(false) }
        );
    }

    #[test]
    fn unknown_options_are_refused_with_a_suggestion() {
        let refuse = |text: &str| Raw::default().take_mount_options(text).unwrap_err();
        assert!(refuse("cachesize=1G").contains("cache-size"));
        assert!(refuse("url=http://x").contains("endpoint-url"));
        assert!(refuse("passwd_file=/etc/x").contains("AWS chain"));
        assert!(refuse("zzz").contains("--help"));
        assert!(refuse("region").contains("needs a value"));
    }

    #[test]
    fn precedence() {
        let ttl = settings::find("ttl").unwrap();
        let mut raw = Raw::default();
        raw.set(ttl, "1s", Origin::Flag);
        raw.set(ttl, "2s", Origin::MountOption);
        raw.take_environment([("PAILFS_TTL".into(), "3s".into())].into_iter());
        assert_eq!(text(&raw, "ttl"), Some("1s"));
        raw.set(ttl, "4s", Origin::Flag);
        assert_eq!(text(&raw, "ttl"), Some("4s"));
    }

    #[test]
    fn environment() {
        let mut raw = Raw::default();
        let vars = [("PAILFS_CACHE_SIZE", "1G"), ("PAILFS_REGION", ""), ("PAILFS_NOPE", "x"), ("OTHER", "y")];
        raw.take_environment(vars.into_iter().map(|(n, v)| (n.into(), v.into())));
        assert_eq!(text(&raw, "cache-size"), Some("1G"));
        assert_eq!(text(&raw, "region"), None);
        assert_eq!(raw.unknown_variables, ["PAILFS_NOPE"]);
    }
}
