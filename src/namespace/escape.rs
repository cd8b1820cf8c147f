//! The reversible escape between components of keys and names of files.
//!
//! A key is cut at every `/`; each piece is a component, and almost every component is a file name as it
//! stands. This module says what name the others get, so that every key is reachable and none hides another.
//! docs/names.md tells it to users.
//!
//! | shown | for |
//! |---|---|
//! | the component itself | every component that is none of those below |
//! | `%!enc:` + the component with `%` as `%25` and NUL as `%00` | the empty component, `.`, `..`, one with a NUL, one that would be read as an escape |
//! | `%!long:` + how it begins (same coding, about 180 bytes) + `~` + 16 hex digits of SHA-256 of all of it | a component whose name would have more than 255 bytes |
//! | `%!dir:` + the name of the component | a common prefix beside an object of the same name (the object keeps the plain name) |
//!
//! Invariants, each held by a property test:
//! * Every result of [`to_name`] and [`dir_beside_file`] is a legal name: not empty, not `.` or `..`, without
//!   `/` and NUL, at most 255 bytes.
//! * `parse(to_name(c))` gives `c` back, for a long `c` what finds it in a listing.
//! * Every legal name means exactly one component (or one way to find it), and that component is shown under
//!   exactly that name. So a name that begins with `%!` but is not precisely what this module produces stands
//!   for itself: a user may create `%!x` or `%!enc:a`, the key gets those very bytes, and it is listed so.
//!
//! Deliberately does not: know whether an object or a prefix exists, or which object has a long name; the
//! caller lists with [`Parsed::Long::visible`] as prefix and asks [`is_long`].

use sha2::{Digest, Sha256};

/// Longest name of a file in bytes (`NAME_MAX` of Linux).
pub const NAME_MAX_BYTES: usize = 255;

const ENCODED: &str = "%!enc:";
const LONG: &str = "%!long:";
const DIRECTORY: &str = "%!dir:";
/// Longest coded beginning that a long name shows. With both tags and the hash it stays below 255.
const VISIBLE_MAX_BYTES: usize = 180;
/// Most bytes one character takes in coded form: four of UTF-8.
const CHAR_MAX_BYTES: usize = 4;
const HASH_DIGITS: usize = 16;

/// What a name means.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Parsed {
    /// This component, as object or as directory.
    Plain(String),
    /// The directory of this component, which stands beside an object of the same name.
    DirBeside(String),
    /// The component that begins with `visible` and for which [`is_long`] holds: list to find it.
    Long {
        /// How the component begins; a prefix for a listing.
        visible: String,
        /// 16 hex digits, lower case.
        hash: String,
    },
    /// The same for a directory that stands beside an object of the same name.
    LongDirBeside {
        /// How the component begins.
        visible: String,
        /// 16 hex digits, lower case.
        hash: String,
    },
}

/// The name under which `component` is shown. `component` holds no `/`.
pub fn to_name(component: &str) -> String {
    let name = if needs_code(component) {
        format!("{ENCODED}{}", encode(component))
    } else if component.len() <= NAME_MAX_BYTES {
        return component.to_owned();
    } else {
        return long_name(component);
    };
    if name.len() <= NAME_MAX_BYTES { name } else { long_name(component) }
}

/// The name of the directory `component` when an object of the same name stands beside it.
pub fn dir_beside_file(component: &str) -> String {
    let name = to_name(component);
    if DIRECTORY.len() + name.len() <= NAME_MAX_BYTES {
        format!("{DIRECTORY}{name}")
    } else {
        format!("{DIRECTORY}{}", long_name(component))
    }
}

/// What the legal name `name` means. Never fails: what is no escape stands for itself.
pub fn parse(name: &str) -> Parsed {
    escape_of(name).unwrap_or_else(|| Parsed::Plain(name.to_owned()))
}

/// Whether `component` is the one that a long name with this `visible` and `hash` stands for.
pub fn is_long(component: &str, visible: &str, hash: &str) -> bool {
    component.starts_with(visible) && visible_part(component) == visible && hash_of(component) == hash
}

/// What `name` means if it is an escape, in the one spelling this module produces.
fn escape_of(name: &str) -> Option<Parsed> {
    if !name.starts_with("%!") || name.len() > NAME_MAX_BYTES {
        return None;
    }
    if let Some(rest) = name.strip_prefix(ENCODED) {
        let component = decode(rest)?;
        return needs_code(&component).then_some(Parsed::Plain(component));
    }
    if let Some(rest) = name.strip_prefix(LONG) {
        let (visible, hash) = long_parts(rest)?;
        return Some(Parsed::Long { visible, hash });
    }
    let rest = name.strip_prefix(DIRECTORY)?;
    if matches!(rest, "" | "." | "..") {
        return None;
    }
    match parse(rest) {
        Parsed::Plain(component) => Some(Parsed::DirBeside(component)),
        Parsed::Long { visible, hash } => Some(Parsed::LongDirBeside { visible, hash }),
        Parsed::DirBeside(_) | Parsed::LongDirBeside { .. } => None,
    }
}

/// Whether a component cannot be shown as it is, its length aside.
fn needs_code(component: &str) -> bool {
    matches!(component, "" | "." | "..") || component.contains('\0') || escape_of(component).is_some()
}

fn long_name(component: &str) -> String {
    format!("{LONG}{}~{}", encode(visible_part(component)), hash_of(component))
}

/// The longest beginning of `component` that has at most [`VISIBLE_MAX_BYTES`] when coded.
fn visible_part(component: &str) -> &str {
    let mut coded_bytes = 0;
    for (at, c) in component.char_indices() {
        coded_bytes += coded_len(c);
        if coded_bytes > VISIBLE_MAX_BYTES {
            return &component[..at];
        }
    }
    component
}

/// Takes `visible~hash` apart; `None` when no component can have led to it.
fn long_parts(rest: &str) -> Option<(String, String)> {
    let (coded, hash) = rest.rsplit_once('~')?;
    let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    let cut = coded.len() <= VISIBLE_MAX_BYTES && coded.len() > VISIBLE_MAX_BYTES - CHAR_MAX_BYTES;
    if hash.len() != HASH_DIGITS || !hash.bytes().all(lower_hex) || !cut {
        return None;
    }
    Some((decode(coded)?, hash.to_owned()))
}

fn hash_of(component: &str) -> String {
    let digest = Sha256::digest(component.as_bytes());
    digest.iter().take(HASH_DIGITS / 2).map(|byte| format!("{byte:02x}")).collect()
}

fn coded_len(c: char) -> usize {
    if matches!(c, '%' | '\0') { 3 } else { c.len_utf8() }
}

fn encode(component: &str) -> String {
    component.replace('%', "%25").replace('\0', "%00")
}

/// Undoes [`encode`]; `None` for what it never produces.
fn decode(coded: &str) -> Option<String> {
    let mut pieces = coded.split('%');
    let mut component = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (c, rest) = match (piece.strip_prefix("25"), piece.strip_prefix("00")) {
            (Some(rest), _) => ('%', rest),
            (_, Some(rest)) => ('\0', rest),
            (None, None) => return None,
        };
        component.push(c);
        component.push_str(rest);
    }
    Some(component)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_legal(name: &str) -> bool {
        !name.is_empty()
            && name != "."
            && name != ".."
            && !name.contains(['/', '\0'])
            && name.len() <= NAME_MAX_BYTES
    }

    /// The name that a parsed name is shown under, when it holds the component.
    fn shown_again(parsed: &Parsed) -> Option<String> {
        match parsed {
            Parsed::Plain(component) => Some(to_name(component)),
            Parsed::DirBeside(component) => Some(dir_beside_file(component)),
            Parsed::Long { .. } | Parsed::LongDirBeside { .. } => None,
        }
    }

    /// Components that meet every rule often: pieces of escapes put together in any order, some of them long.
    fn component() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            Just(String::new()),
            Just(".".to_owned()),
            Just("..".to_owned()),
            Just("%!".to_owned()),
            Just("%!enc:".to_owned()),
            Just("%!dir:".to_owned()),
            Just("%!long:".to_owned()),
            Just("%25".to_owned()),
            Just("%00".to_owned()),
            Just("%".to_owned()),
            Just("~0123456789abcdef".to_owned()),
            Just("\0".to_owned()),
            Just("\n".to_owned()),
            "[^/]{0,6}",
            (
                1..90_usize,
                prop_oneof![Just("x"), Just("\u{e9}"), Just("\u{20ac}"), Just("%"), Just("\u{1f600}")]
            )
                .prop_map(|(n, c)| c.repeat(n)),
            (240..270_usize).prop_map(|n| "y".repeat(n)),
        ];
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4096))]

        #[test]
        fn every_name_is_legal(c in component()) {
            prop_assert!(is_legal(&to_name(&c)), "{:?}", to_name(&c));
            prop_assert!(is_legal(&dir_beside_file(&c)), "{:?}", dir_beside_file(&c));
        }

        #[test]
        fn every_component_comes_back(c in component()) {
            match parse(&to_name(&c)) {
                Parsed::Plain(back) => prop_assert_eq!(&back, &c),
                Parsed::Long { visible, hash } => prop_assert!(is_long(&c, &visible, &hash)),
                other => prop_assert!(false, "{:?}", other),
            }
            match parse(&dir_beside_file(&c)) {
                Parsed::DirBeside(back) => prop_assert_eq!(&back, &c),
                Parsed::LongDirBeside { visible, hash } => prop_assert!(is_long(&c, &visible, &hash)),
                other => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn no_two_components_share_a_name(a in component(), b in component()) {
            let names = [to_name(&a), dir_beside_file(&a), to_name(&b), dir_beside_file(&b)];
            prop_assert_ne!(&names[0], &names[1]);
            prop_assert_ne!(&names[0], &names[3]);
            if a != b {
                prop_assert_ne!(&names[0], &names[2]);
                prop_assert_ne!(&names[1], &names[3]);
            }
        }

        /// Whatever a user calls a file, its name stays what it was.
        #[test]
        fn every_legal_name_is_shown_again(name in component()) {
            let name = if is_legal(&name) { name } else { name.replace('\0', "").chars().take(60).collect() };
            if !is_legal(&name) {
                return Ok(());
            }
            if let Some(again) = shown_again(&parse(&name)) {
                prop_assert_eq!(again, name);
            }
        }
    }

    #[test]
    fn ordinary_names_are_shown_as_they_are() {
        for name in
            ["a", "..a", "a b", "\u{e9}", "a%20b", "%", "%!", "100%", "%!x", "%!dir", "\n", "\x7f", "~"]
        {
            assert_eq!(to_name(name), name);
            assert_eq!(parse(name), Parsed::Plain(name.to_owned()));
        }
        assert_eq!(to_name(&"x".repeat(255)), "x".repeat(255));
    }

    #[test]
    fn what_is_no_name_is_coded() {
        for (component, name) in [
            ("", "%!enc:"),
            (".", "%!enc:."),
            ("..", "%!enc:.."),
            ("a\0b", "%!enc:a%00b"),
            ("%\0", "%!enc:%25%00"),
            ("%!enc:", "%!enc:%25!enc:"),
            ("%!enc:%25!enc:", "%!enc:%25!enc:%2525!enc:"),
            ("%!dir:a", "%!enc:%25!dir:a"),
        ] {
            assert_eq!(to_name(component), name);
            assert_eq!(parse(name), Parsed::Plain(component.to_owned()));
        }
    }

    #[test]
    fn what_only_looks_like_an_escape_stands_for_itself() {
        let long = "v".repeat(180);
        for name in [
            "%!enc:a",
            "%!enc:%",
            "%!enc:%2",
            "%!enc:%41",
            "%!enc:%2e",
            "%!dir:",
            "%!dir:.",
            "%!dir:..",
            "%!dir:%!dir:a",
            "%!long:a~0123456789abcdef",
            &format!("%!long:{long}~0123456789ABCDEF"),
            &format!("%!long:{long}~0123456789abcde"),
            &format!("%!long:{long}"),
        ] {
            assert_eq!(parse(name), Parsed::Plain(name.to_owned()));
            assert_eq!(to_name(name), name);
        }
    }

    #[test]
    fn a_directory_beside_a_file() {
        assert_eq!(dir_beside_file("foo"), "%!dir:foo");
        assert_eq!(parse("%!dir:foo"), Parsed::DirBeside("foo".to_owned()));
        assert_eq!(dir_beside_file(""), "%!dir:%!enc:");
        assert_eq!(parse("%!dir:%!enc:"), Parsed::DirBeside(String::new()));
        assert_eq!(dir_beside_file("%!dir:a"), "%!dir:%!enc:%25!dir:a");
        let component = "y".repeat(252);
        assert_eq!(to_name(&component), component);
        match parse(&dir_beside_file(&component)) {
            Parsed::LongDirBeside { visible, hash } => assert!(is_long(&component, &visible, &hash)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_long_component_shows_how_it_begins() {
        let component = format!("begin-{}", "\u{20ac}".repeat(200));
        let name = to_name(&component);
        assert!(name.starts_with("%!long:begin-\u{20ac}"));
        let Parsed::Long { visible, hash } = parse(&name) else { panic!("{name}") };
        assert_eq!(visible.len(), 180);
        assert!(component.starts_with(&visible));
        assert!(is_long(&component, &visible, &hash));
        assert!(!is_long(&format!("{component}x"), &visible, &hash));
    }
}
