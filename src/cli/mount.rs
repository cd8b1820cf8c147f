//! `pailfs mount`.

use std::ffi::OsString;
use std::path::Path;

use clap::ArgMatches;

use crate::config::machine::Machine;
use crate::config::raw::{Origin, Raw};
use crate::config::resolve::Settings;
use crate::config::settings::SETTINGS;
use crate::daemon::{self, Role, background};
use crate::failure::{Exit, Failure};

/// Resolves the settings, then runs the daemon here or in the background.
pub fn run(argv: &[OsString], matches: &ArgMatches) -> Result<u8, Failure> {
    let machine = Machine::detect();
    let settings = settings(matches, &machine)?;
    if matches.get_flag(background::DETACHED_FLAG) {
        return daemon::run(settings, &machine, Role::Background);
    }
    if settings.foreground {
        return daemon::run(settings, &machine, Role::Foreground);
    }
    let (program, arguments) = argv.split_first().unwrap_or((&EMPTY, &[]));
    // The first argument is the command itself.
    background::launch(program, arguments.get(1..).unwrap_or_default())
}

static EMPTY: OsString = OsString::new();

fn settings(matches: &ArgMatches, machine: &Machine) -> Result<Settings, Failure> {
    let raw = raw(matches)?;
    let places: Vec<&OsString> = matches.get_many("where").unwrap_or_default().collect();
    let (target, dir) = match places.as_slice() {
        [target, dir] => {
            let target = target.to_str().ok_or_else(|| usage("the bucket's name is not UTF-8"))?;
            (Some(target), Path::new(dir))
        }
        [dir] if raw.get("all-buckets").is_some() => (None, Path::new(*dir)),
        _ => return Err(usage("a bucket and a directory are needed: pailfs mount BUCKET[/PREFIX] DIR")),
    };
    Settings::resolve(&raw, target, dir, machine)
}

fn raw(matches: &ArgMatches) -> Result<Raw, Failure> {
    let mut raw = Raw::default();
    raw.take_environment(std::env::vars_os());
    for options in matches.get_many::<String>("options").unwrap_or_default() {
        raw.take_mount_options(options).map_err(usage)?;
    }
    for setting in SETTINGS {
        for text in matches.get_many::<String>(setting.name).unwrap_or_default() {
            raw.set(setting, text, Origin::Flag);
        }
    }
    Ok(raw)
}

fn usage(what: impl Into<String>) -> Failure {
    Failure::new(Exit::Usage, what).advise("'pailfs mount --help' describes every setting")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::*;
    use crate::cli::command::command;
    use crate::config::target::Target;

    fn parse(line: &str) -> Result<Settings, Failure> {
        let matches = command().try_get_matches_from(line.split(' ')).expect("clap takes it");
        let (_, matches) = matches.subcommand().expect("a command");
        settings(matches, &Machine::detect())
    }

    #[test]
    fn flags_and_options() {
        let s =
            parse("pailfs mount s3://b/p /m -f --ttl 5m --ro --anonymous -o uid=7,_netdev -o gid=8").unwrap();
        assert_eq!(s.target, Target::Bucket { bucket: "b".into(), prefix: "p/".into() });
        assert!(s.foreground && s.access.read_only && s.connection.anonymous);
        assert_eq!((s.access.uid, s.access.gid, s.ttl.as_secs()), (7, 8, 300));
        let s = parse("pailfs mount b /m --ttl 1s --ttl=2s --read-only=false -o ro").unwrap();
        assert_eq!((s.ttl.as_secs(), s.access.read_only), (2, false));
    }

    #[test]
    fn all_buckets() {
        assert_eq!(parse("pailfs mount --all-buckets /m").unwrap().target, Target::AllBuckets);
        assert_eq!(parse("pailfs mount s3:// /m").unwrap().target, Target::AllBuckets);
        assert!(parse("pailfs mount /m").is_err());
    }

    #[test]
    fn unknown_mount_options_are_refused() {
        assert!(parse("pailfs mount b /m -o cache_siz=1G").unwrap_err().what.contains("cache-size"));
    }
}
