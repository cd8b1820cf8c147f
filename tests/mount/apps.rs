//! Ordinary programs at work: the scripts in `apps/`, one test each. They need nothing but a directory and
//! can be run by hand: `tests/mount/apps/run DIR`.

use std::process::Command;

use crate::support::{place, run};

fn script(name: &str) {
    let place = place();
    let script = format!("{}/tests/mount/apps/{name}.sh", env!("CARGO_MANIFEST_DIR"));
    let output = run(Command::new("bash").arg(script).arg(place.dir()));
    assert_eq!(output.lines().last(), Some(format!("ok {name}").as_str()), "{output}");
}

#[test]
fn git() {
    script("git");
}

#[test]
fn rsync() {
    script("rsync");
}

#[test]
fn tar() {
    script("tar");
}

#[test]
fn editors() {
    script("editors");
}

#[test]
fn copy_move_remove() {
    script("copy-move-remove");
}

#[test]
fn sqlite() {
    script("sqlite");
}

#[test]
fn dd() {
    script("dd");
}

#[test]
fn venv() {
    script("venv");
}

#[test]
fn coreutils() {
    script("coreutils");
}
