//! Every setting once: its name, what it takes, its default as shown, its help.
//!
//! The command line (`--name`), the `-o` options (`name` or `na_me`) and the environment (`PAILFS_NA_ME`)
//! are all made from this table, so a setting is added here and in [`resolve`](super::resolve), nowhere
//! else.

/// Heading of `--help` under which a setting stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// How the directory looks and who may use it.
    Mount,
    /// How S3 is reached.
    Connection,
    /// What is kept on this machine.
    Local,
    /// Names and attributes.
    Attributes,
    /// How files reach S3.
    Writing,
    /// What is told.
    Logging,
}

impl Group {
    /// The heading.
    pub fn heading(self) -> &'static str {
        match self {
            Self::Mount => "Mount",
            Self::Connection => "Connection",
            Self::Local => "Local data",
            Self::Attributes => "Names and attributes",
            Self::Writing => "Writing",
            Self::Logging => "Logging",
        }
    }
}

/// What a setting takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Nothing, or `true` and `false`.
    Switch,
    /// A value; the word that stands for it in the help.
    Value(&'static str),
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Long name, words joined by `-`.
    pub name: &'static str,
    /// Other names, accepted on the command line and with `-o`.
    pub aliases: &'static [&'static str],
    /// One-letter flag.
    pub short: Option<char>,
    /// Heading.
    pub group: Group,
    /// What it takes.
    pub kind: Kind,
    /// One line of help.
    pub help: &'static str,
    /// Default as shown in the help; empty when the help says it or there is none.
    pub default: &'static str,
}

impl Setting {
    /// The environment variable of this setting.
    pub fn variable(&self) -> String {
        format!("PAILFS_{}", self.name.to_ascii_uppercase().replace('-', "_"))
    }
}

/// The setting called `name`, by its name or an alias, with `_` for `-` allowed.
pub fn find(name: &str) -> Option<&'static Setting> {
    let name = name.replace('_', "-");
    SETTINGS.iter().find(|s| s.name == name || s.aliases.contains(&name.as_str()))
}

const fn value(name: &'static str, group: Group, takes: &'static str, help: &'static str) -> Setting {
    Setting { name, aliases: &[], short: None, group, kind: Kind::Value(takes), help, default: "" }
}

const fn switch(name: &'static str, group: Group, help: &'static str) -> Setting {
    Setting { name, aliases: &[], short: None, group, kind: Kind::Switch, help, default: "" }
}

const fn choice(
    name: &'static str,
    group: Group,
    words: &'static [&'static str],
    help: &'static str,
) -> Setting {
    Setting { name, aliases: &[], short: None, group, kind: Kind::Choice(words), help, default: words[0] }
}

impl Setting {
    const fn by_default(mut self, shown: &'static str) -> Self {
        self.default = shown;
        self
    }

    const fn also(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn letter(mut self, short: char) -> Self {
        self.short = Some(short);
        self
    }
}

/// Every setting of a mount, in the order of the help.
pub static SETTINGS: &[Setting] = &[
    switch("foreground", Group::Mount, "Stay in the foreground and log to the terminal").letter('f'),
    switch("all-buckets", Group::Mount, "Show every bucket as a directory, like the target s3://"),
    switch("read-only", Group::Mount, "Refuse every change with EROFS").also(&["ro"]),
    switch("allow-other", Group::Mount, "Let other users in; permissions are checked by the kernel"),
    value("uid", Group::Mount, "UID", "Owner of what has no owner in S3 [default: yours]"),
    value("gid", Group::Mount, "GID", "Group of what has no group in S3 [default: yours]"),
    value("umask", Group::Mount, "MASK", "Bits missing in modes of what has no mode in S3, octal")
        .by_default("022"),
    value(
        "fmask",
        Group::Mount,
        "MASK",
        "The same for files only, taken from 0777 [default: 0111 and umask]",
    ),
    value("dmask", Group::Mount, "MASK", "The same for directories only [default: umask]"),
    value("endpoint-url", Group::Connection, "URL", "S3 server other than AWS, for example http://host:9000"),
    value("region", Group::Connection, "REGION", "Region of the bucket [default: from the AWS chain]"),
    value("profile", Group::Connection, "NAME", "Profile in the AWS configuration files"),
    switch("no-sign-request", Group::Connection, "Send requests unsigned, for public buckets")
        .also(&["anonymous"]),
    switch(
        "force-path-style",
        Group::Connection,
        "Put the bucket in the path, not in the host name [default: on for IP addresses and localhost]",
    ),
    value("max-connections", Group::Connection, "N", "Requests in flight at once").by_default("50"),
    value("max-attempts", Group::Connection, "N", "Tries of a request, the first included").by_default("3"),
    choice("retry-mode", Group::Connection, &["standard", "adaptive"], "How retries are spaced"),
    value("connect-timeout", Group::Connection, "TIME", "Wait for a connection").by_default("5s"),
    value("read-timeout", Group::Connection, "TIME", "Wait for the first byte of an answer")
        .by_default("30s"),
    value("transfer-timeout", Group::Connection, "TIME", "Wait for a whole upload or download of a part")
        .by_default("300s"),
    value(
        "cache-dir",
        Group::Local,
        "DIR",
        "Where cached and not yet uploaded bytes are kept [default: /var/cache/pailfs as root, else \
         ~/.cache/pailfs]",
    ),
    value(
        "cache-size",
        Group::Local,
        "SIZE",
        "Most bytes of cached objects on disk [default: 10GiB, or half of the free space]",
    ),
    value(
        "memory-limit",
        Group::Local,
        "SIZE",
        "Most bytes of transfers held in memory [default: 1/8 of the memory, at most 512MiB]",
    ),
    value("ttl", Group::Attributes, "TIME", "How long names and attributes are believed without asking S3")
        .by_default("30s"),
    value(
        "open-window",
        Group::Attributes,
        "TIME",
        "How long an open relies on what was learnt before it; then it asks S3 whether the file is still the same",
    )
    .by_default("1s"),
    choice(
        "attrs",
        Group::Attributes,
        &["posix", "list"],
        "posix honours modes, owners and times kept in S3; list sends no HEAD and shows defaults",
    ),
    choice(
        "on-conflict",
        Group::Writing,
        &["fail", "overwrite"],
        "When another client changed the object meanwhile: fail the close, or overwrite",
    ),
    value("part-size", Group::Writing, "SIZE", "Size of the parts of a large upload").by_default("8MiB"),
    value("multipart-threshold", Group::Writing, "SIZE", "Files above this go up in parallel parts")
        .by_default("16MiB"),
    value("upload-concurrency", Group::Writing, "N", "Parts of one file in flight at once").by_default("10"),
    value("storage-class", Group::Writing, "CLASS", "Storage class of new objects [default: the bucket's]"),
    value(
        "log-level",
        Group::Logging,
        "LEVEL",
        "error, warn, info, debug or trace, or filters like pailfs::store=debug",
    )
    .by_default("info"),
    value(
        "log-file",
        Group::Logging,
        "FILE",
        "Where the log goes [default: the terminal in the foreground, else pailfs.log below the cache directory]",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let mut seen = HashSet::new();
        for setting in SETTINGS {
            for name in std::iter::once(&setting.name).chain(setting.aliases) {
                assert!(seen.insert(*name), "{name} twice");
            }
        }
    }

    #[test]
    fn found_by_name_alias_and_underscore() {
        assert_eq!(find("cache_size").map(|s| s.name), Some("cache-size"));
        assert_eq!(find("anonymous").map(|s| s.name), Some("no-sign-request"));
        assert_eq!(find("ro").map(|s| s.name), Some("read-only"));
        assert!(find("nonsense").is_none());
        assert_eq!(find("cache-size").map(Setting::variable), Some("PAILFS_CACHE_SIZE".into()));
    }
}
