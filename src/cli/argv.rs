//! Other ways to be called: as `mount.pailfs` by mount(8), and as `pailfs SOURCE DIR -o OPTIONS` by
//! mount.fuse3(8). Both become `pailfs mount ...`.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// `argv` in the form that the command line is defined for.
pub fn normalised(argv: Vec<OsString>) -> Vec<OsString> {
    let program = argv.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
    if matches!(program.to_str(), Some("mount.pailfs" | "mount.fuse.pailfs")) {
        return as_mount(&argv[1..], true);
    }
    if is_call_of_mount_fuse(&argv) {
        return as_mount(&argv[1..], false);
    }
    argv
}

fn as_mount(arguments: &[OsString], from_mount: bool) -> Vec<OsString> {
    let mut argv: Vec<OsString> = vec!["pailfs".into(), "mount".into()];
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.to_str() {
            // Verbose, no mtab, sloppy: how mount(8) talks to its helpers.
            Some("-v" | "-n" | "-s") if from_mount => {}
            // A type and a namespace, each with a value.
            Some("-t" | "-N") if from_mount => {
                rest.next();
            }
            _ => argv.push(argument.clone()),
        }
    }
    argv
}

/// mount.fuse3 puts source and directory first and always passes `-o`. Anything less strict would take a
/// mistyped command for the name of a bucket.
fn is_call_of_mount_fuse(argv: &[OsString]) -> bool {
    let is_flag = |text: &OsStr| text.to_string_lossy().starts_with('-');
    let [_, source, dir, option, ..] = argv else { return false };
    let known = ["mount", "umount", "unmount", "help"].iter().any(|name| source == name);
    !known && !is_flag(source) && !is_flag(dir) && option.to_string_lossy().starts_with("-o")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(argv: &str, expected: &str) {
        let split = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
        assert_eq!(normalised(split(argv)), split(expected), "{argv}");
    }

    #[test]
    fn calls_of_mount() {
        case("/sbin/mount.pailfs b /m -n -s -o rw,uid=3", "pailfs mount b /m -o rw,uid=3");
        case("mount.pailfs b /m -t fuse.pailfs -v", "pailfs mount b /m");
        case("pailfs b/p /m -o rw,dev,suid", "pailfs mount b/p /m -o rw,dev,suid");
    }

    #[test]
    fn everything_else_stays() {
        for argv in [
            "pailfs",
            "pailfs mount b /m -o ro",
            "pailfs mont b /m",
            "pailfs -h x -o y",
            "pailfs umount /m -o",
        ] {
            case(argv, argv);
        }
    }
}
