//! The commands and their flags, for clap. The flags of `mount` are those of the table of settings.

use clap::{Arg, ArgAction, Command, ValueHint};

use crate::config::settings::{Kind, SETTINGS, Setting};
use crate::daemon::background::DETACHED_FLAG;
use crate::failure::Exit;

const ABOUT: &str = "Mounts an S3 bucket as a directory: one object is one file, and when close returns the \
                     file is in the bucket.";

const MOUNT_EXAMPLES: &str = "Examples:
  pailfs mount my-bucket /mnt/data
  pailfs mount s3://my-bucket/some/prefix /mnt/data --read-only
  pailfs mount my-bucket /mnt/data --endpoint-url http://localhost:9000
  pailfs mount s3:// /mnt/all

Credentials and region come from the AWS chain: environment, profile, SSO, web identity, ECS, EC2.
Each setting may also be given as -o name=value or as an environment variable, --cache-size as
PAILFS_CACHE_SIZE; a flag wins over -o, and -o over the variable. Sizes are written 64MiB or 1G, times 30s or 5m.";

/// The whole command line.
pub fn command() -> Command {
    Command::new("pailfs")
        .about(ABOUT)
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .after_help(exit_codes())
        .subcommand(mount())
        .subcommand(umount())
}

fn mount() -> Command {
    Command::new("mount")
        .about("Mount a bucket, a prefix of one, or all buckets")
        .override_usage("pailfs mount [OPTIONS] BUCKET[/PREFIX] DIR\n       pailfs mount [OPTIONS] s3:// DIR")
        .after_help(format!("{MOUNT_EXAMPLES}\n\n{}", exit_codes()))
        .arg(
            Arg::new("where")
                .value_names(["BUCKET[/PREFIX]", "DIR"])
                .num_args(1..=2)
                .required(true)
                .value_parser(clap::value_parser!(std::ffi::OsString))
                .help("What to mount, also as s3://BUCKET/PREFIX, and the directory to mount it on"),
        )
        .arg(
            Arg::new("options")
                .short('o')
                .value_name("NAME[=VALUE],...")
                .action(ArgAction::Append)
                .help_heading("Mount")
                .help("Settings in the form of mount(8); its own options such as _netdev and nofail are accepted"),
        )
        .arg(Arg::new(DETACHED_FLAG).long(DETACHED_FLAG).action(ArgAction::SetTrue).hide(true))
        .args(SETTINGS.iter().map(flag))
}

fn umount() -> Command {
    Command::new("umount")
        .visible_alias("unmount")
        .about("Unmount: upload what is left, wait until the daemon has ended")
        .after_help(exit_codes())
        .arg(
            Arg::new("dir")
                .value_name("DIR")
                .required(true)
                .value_hint(ValueHint::DirPath)
                .value_parser(clap::value_parser!(std::path::PathBuf))
                .help("The directory a bucket is mounted on"),
        )
}

fn flag(setting: &Setting) -> Arg {
    let arg = Arg::new(setting.name)
        .long(setting.name)
        .aliases(setting.aliases.iter().copied())
        .help_heading(setting.group.heading())
        .action(ArgAction::Append)
        .help(help(setting));
    let arg = match setting.short {
        Some(letter) => arg.short(letter),
        None => arg,
    };
    match setting.kind {
        Kind::Value(word) => arg.value_name(word),
        Kind::Choice(words) => arg.value_name("WORD").value_parser(words.to_vec()),
        // A switch may be turned off again on the command line: --read-only=false.
        Kind::Switch => arg
            .value_name("BOOL")
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .hide_possible_values(true),
    }
}

fn help(setting: &Setting) -> String {
    match setting.default {
        "" => setting.help.to_owned(),
        default => format!("{} [default: {default}]", setting.help),
    }
}

fn exit_codes() -> String {
    let lines: Vec<String> =
        Exit::TABLE.iter().map(|(code, meaning)| format!("  {code:>2}  {meaning}")).collect();
    format!("Exit codes:\n{}", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_finds_no_fault() {
        command().debug_assert();
    }
}
