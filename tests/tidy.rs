//! Rules of the house that no compiler checks: which crate may appear where, which way the layers look,
//! ASCII sources, files of a readable length.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Longest source file in lines. Past 600 it is time to look for the seam.
const LINES_MAX: usize = 700;

/// A crate and the only folder that may know it.
const CRATES_AT_HOME: [(&str, &str); 3] =
    [("fuser", "src/fuse/"), ("aws_", "src/store/s3/"), ("clap", "src/cli/")];

/// A folder (or file) of `src` and the modules of this crate it must not look at. ARCHITECTURE.md shows the
/// picture: arrows point down only.
const ARROWS: [(&str, &[&str]); 11] = [
    ("daemon", &["cli"]),
    ("control", &["cli"]),
    ("fuse", &["cli", "daemon", "control", "config", "commit", "namespace", "content"]),
    ("fs", &["cli", "daemon", "control", "config", "fuse"]),
    ("namespace", &["cli", "daemon", "control", "config", "fuse", "commit", "content"]),
    ("commit", &["cli", "daemon", "control", "config", "fuse"]),
    ("content", &["cli", "daemon", "control", "config", "fuse", "namespace", "commit"]),
    ("store", &["cli", "daemon", "control", "config", "fuse", "fs", "namespace", "commit", "content"]),
    (
        "runtime",
        &["cli", "daemon", "control", "config", "fuse", "fs", "namespace", "commit", "content", "store"],
    ),
    ("telemetry", &["cli", "daemon", "control", "config", "fuse", "fs", "namespace", "commit", "content"]),
    ("config", &["cli", "daemon", "control", "fuse", "namespace", "commit", "content"]),
];

/// Looks upwards that stay until the seam is found, each with its reason: file and module.
const UPWARDS: [(&str, &str); 1] = [
    // A node holds the uncommitted state of its file, so that both are changed under one lock.
    ("src/namespace/node.rs", "commit"),
];

struct Source {
    /// Below the top of the repository, with `/`.
    path: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> =
        ["src", "tests", "benches", "s3server"].iter().map(|folder| top.join(folder)).collect();
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if !path.ends_with("target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(top).unwrap().to_str().unwrap().to_owned();
                let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
                found.push(Source { path: relative, text });
            }
        }
    }
    assert!(found.len() > 10, "the sources were not found");
    found
}

/// Lines of code with their number; comments are free to speak of anything.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.split("//").next().unwrap_or_default()))
        .filter(|(_, line)| !line.trim().is_empty())
}

/// Whether `line` names the crate or module `name`: as a path's beginning, or in a `use`.
fn names(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let starts_word = before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '"' && c != '.');
        let rest = line[at + name.len()..].trim_start_matches(|c: char| c.is_alphanumeric() || c == '_');
        let whole_word = name.ends_with('_') || line[at + name.len()..] == *rest;
        starts_word && whole_word && rest.starts_with("::")
    })
}

fn refuse(rule: &str, offences: Vec<String>) {
    assert!(offences.is_empty(), "{rule}:\n{}", offences.join("\n"));
}

#[test]
fn crates_stay_at_home() {
    let mut offences = Vec::new();
    for source in sources().iter().filter(|source| source.path.starts_with("src/")) {
        for (name, home) in CRATES_AT_HOME {
            if source.path.starts_with(home) || source.path == format!("{}.rs", home.trim_end_matches('/')) {
                continue;
            }
            for (number, line) in code(&source.text).filter(|(_, line)| names(line, name)) {
                offences.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    refuse("fuser only in src/fuse, aws_* only in src/store/s3, clap only in src/cli", offences);
}

#[test]
fn arrows_point_down() {
    let mut offences = Vec::new();
    for source in sources() {
        for (layer, above) in ARROWS {
            let inside =
                source.path.starts_with(&format!("src/{layer}/")) || source.path == format!("src/{layer}.rs");
            if !inside {
                continue;
            }
            for (number, line) in code(&source.text) {
                let known = |module: &str| UPWARDS.contains(&(source.path.as_str(), module));
                if above.iter().any(|module| looks_at(line, module) && !known(module)) {
                    offences.push(format!("{}:{number}: {}", source.path, line.trim()));
                }
            }
        }
    }
    refuse("a layer looks only at those below it", offences);
}

/// `crate::module` or `use crate::{.. module ..}`.
fn looks_at(line: &str, module: &str) -> bool {
    let after = line.split("crate::").skip(1);
    after.flat_map(|rest| rest.trim_start_matches('{').split(',')).any(|path| {
        let first = path.trim().split([':', ';', '}', ' ', ')', '>', '(']).next();
        first == Some(module)
    })
}

#[test]
fn sources_are_ascii() {
    let mut offences = Vec::new();
    for source in sources() {
        for (index, line) in source.text.lines().enumerate().filter(|(_, line)| !line.is_ascii()) {
            offences.push(format!("{}:{}: {line}", source.path, index + 1));
        }
    }
    refuse("sources are ASCII", offences);
}

#[test]
fn files_are_of_a_readable_length() {
    let long = |source: &Source| source.text.lines().count() > LINES_MAX;
    let offences = sources().iter().filter(|s| long(s)).map(|s| s.path.clone()).collect();
    refuse(&format!("no file over {LINES_MAX} lines"), offences);
}

#[test]
fn main_is_short() {
    let sources = sources();
    let main = sources.iter().find(|source| source.path == "src/main.rs").expect("src/main.rs");
    assert!(main.text.lines().count() < 60, "main.rs only hands over");
}

#[test]
fn the_rules_find_offences() {
    assert!(names("use aws_sdk_s3::Client;", "aws_"));
    assert!(names("let x: fuser::FileAttr;", "fuser"));
    assert!(!names("let refuser = 1;", "fuser"));
    assert!(!names("fuser_like::x", "fuser"));
    assert!(looks_at("use crate::fuse::session;", "fuse"));
    assert!(looks_at("use crate::{fs, fuse};", "fuse"));
    assert!(!looks_at("use crate::fs::types;", "fuse"));
    assert_eq!(code("a // fuser::x\n\n// b\n").count(), 1);
}
