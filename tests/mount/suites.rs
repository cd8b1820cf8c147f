//! The outside suites, at the versions named here: pjdfstest and fsx from crates.io, built once below
//! `target/suites`. Ignored by default because building them and running them takes minutes:
//! `scripts/suites` runs them, and so does `scripts/test nightly`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::support::{Mount, World, run};

const OPERATIONS: &str = "20000";

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The program of a suite, built when it is not there.
fn suite(name: &str, version: &str) -> PathBuf {
    static ONE_BUILD: Mutex<()> = Mutex::new(());
    let _guard = ONE_BUILD.lock().unwrap_or_else(|e| e.into_inner());
    // A folder for each version: another version is built anew.
    let root = here("target/suites").join(format!("{name}-{version}"));
    let program = root.join("bin").join(name);
    if !program.exists() {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["install", "--quiet", "--locked", "--root"]).arg(&root).args([
            name,
            "--version",
            version,
        ]);
        run(cargo.env("CARGO_TARGET_DIR", here("target/suites/build")));
    }
    program
}

/// A directory to run a suite in: a mount, or a local one when the suite itself is tried.
struct Ground {
    dir: PathBuf,
    mount: Option<Mount>,
    world: Option<World>,
}

fn ground(flags: &[&str]) -> Ground {
    let Some(dir) = std::env::var_os("PAILFS_TEST_ON") else {
        let world = World::new();
        // Other users have to get through to the mountpoint.
        fs::set_permissions(world.tmp.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let dir = world.tmp.path().join("mnt");
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        let mount = world.mounter().dir(&dir).flags(flags).start();
        return Ground { dir: mount.dir().to_owned(), mount: Some(mount), world: Some(world) };
    };
    let local = tempfile::Builder::new().prefix("suite.").tempdir_in(dir).unwrap().keep();
    fs::set_permissions(&local, fs::Permissions::from_mode(0o755)).unwrap();
    Ground { dir: local, mount: None, world: None }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if self.mount.take().is_none() {
            // A local directory that is left over does no harm.
            let _ = fs::remove_dir_all(&self.dir);
        }
        self.world = None;
    }
}

/// All of it, against the checked-in list of what has to fail and why. `PAILFS_PJDFSTEST` narrows it down to
/// cases whose name has this in it.
#[test]
#[ignore = "minutes: scripts/suites"]
fn pjdfstest() {
    assert!(rustix::process::geteuid().is_root(), "pjdfstest changes users: it has to run as root");
    let ground = ground(&["--allow-other", "-o", "suid,dev"]);
    let mut expectations = fs::read_to_string(here("tests/expectations/pjdfstest.toml")).unwrap();
    if ground.mount.is_none() {
        // A local filesystem has hard links.
        expectations =
            expectations.lines().filter(|line| !line.starts_with("  \"")).collect::<Vec<_>>().join("\n");
    }
    let settings = tempfile::NamedTempFile::new().unwrap();
    fs::write(settings.path(), expectations).unwrap();
    let mut command = Command::new(suite("pjdfstest", "0.2.2"));
    command.arg("-c").arg(settings.path()).arg("-p").arg(&ground.dir);
    command.args(std::env::var("PAILFS_PJDFSTEST").ok()).env("NO_COLOR", "1").env("RUST_BACKTRACE", "0");
    let output = run(&mut command);
    println!("{}", output.lines().last().unwrap_or_default());
}

fn fsx(settings: &str, operations: &str, seed: &str, flags: &[&str]) {
    let ground = ground(flags);
    let artifacts = tempfile::tempdir().unwrap();
    let mut command = Command::new(suite("fsx", "0.3.2"));
    command.arg("-f").arg(here("tests/expectations").join(settings)).args(["-N", operations, "-S", seed]);
    command.arg("-P").arg(artifacts.path()).arg(ground.dir.join("fsx"));
    run(&mut command);
    if let (Some(mount), Some(world)) = (&ground.mount, &ground.world) {
        // What S3 has in the end is what the file was.
        let file = fs::read(mount.path("fsx")).unwrap();
        assert!(world.bucket().get("fsx") == file, "the object differs from the file");
    }
}

#[test]
#[ignore = "minutes: scripts/suites"]
fn fsx_with_maps() {
    fsx("fsx-maps.toml", OPERATIONS, "4242", &[]);
}

#[test]
#[ignore = "minutes: scripts/suites"]
fn fsx_without_maps() {
    fsx("fsx-no-maps.toml", OPERATIONS, "77", &[]);
}

#[test]
#[ignore = "minutes: scripts/suites"]
fn fsx_in_parts() {
    fsx("fsx-parts.toml", "2000", "5", &["--part-size", "5MiB", "--multipart-threshold", "5MiB"]);
}

/// Scripts of the kind in `apps/` from any directory: `PAILFS_APP_SCRIPTS=DIR`.
#[test]
#[ignore = "needs PAILFS_APP_SCRIPTS: scripts/suites apps DIR"]
fn app_scripts() {
    let Some(scripts) = std::env::var_os("PAILFS_APP_SCRIPTS") else { return };
    let ground = ground(&[]);
    let output = run(Command::new(here("tests/mount/apps/run")).arg(&ground.dir).arg(scripts));
    println!("{output}");
}
