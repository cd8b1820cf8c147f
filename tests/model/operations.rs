//! The operations of a sequence, with numbers that the runner turns into what there is.

use pailfs::fs::types::Allocate;
use proptest::collection::vec;
use proptest::prelude::*;

/// A place: a directory by number among those there are, and one of a few names.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub dir: u8,
    pub name: u8,
}

pub const NAMES: [&str; 5] = ["a", "b", "c.txt", "\u{fc}", "d"];

#[derive(Clone, Debug)]
pub enum Op {
    Create { at: Place, mode: u32, exclusive: bool },
    Open { at: Place, write: bool, truncate: bool },
    Write { handle: u8, offset: u32, len: u32, seed: u32 },
    Read { handle: u8, offset: u32, len: u32 },
    Seek { handle: u8, offset: u32, data: bool },
    Truncate { at: Place, size: u32 },
    TruncateHandle { handle: u8, size: u32 },
    Allocate { handle: u8, offset: u32, len: u32, mode: Allocate },
    Copy { from: u8, to: u8, offset: u32, len: u32 },
    Flush { handle: u8 },
    Fsync { handle: u8 },
    Release { handle: u8, flush: bool },
    Unlink { at: Place },
    Mkdir { at: Place, mode: u32 },
    Rmdir { at: Place },
    Rename { from: Place, to: Place, no_replace: bool },
    Symlink { at: Place, seed: u32 },
    Readlink { at: Place },
    Chmod { at: Place, mode: u32 },
    ChmodHandle { handle: u8, mode: u32 },
    Chown { at: Place, uid: u32, gid: u32 },
    Utimes { at: Place, seconds: i64, nanos: u32 },
    SetXattr { at: Place, name: u8, len: u8, create: bool, replace: bool },
    RemoveXattr { at: Place, name: u8 },
    Readdir { dir: u8, plus: bool },
    Getattr { at: Place },
    Forget,
    Drain,
    Check,
}

fn place() -> impl Strategy<Value = Place> {
    (0u8..4, 0u8..NAMES.len() as u8).prop_map(|(dir, name)| Place { dir, name })
}

fn offset() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0u32..64, 3 => 0u32..6_000, 1 => 0u32..400_000]
}

fn len() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 1u32..40, 3 => 1u32..6_000, 1 => 1u32..200_000]
}

fn handle() -> impl Strategy<Value = u8> {
    0u8..4
}

fn allocate() -> impl Strategy<Value = Allocate> {
    prop_oneof![
        Just(Allocate::Extend),
        Just(Allocate::KeepSize),
        Just(Allocate::PunchHole),
        any::<bool>().prop_map(|keep_size| Allocate::ZeroRange { keep_size }),
    ]
}

fn content() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (handle(), offset(), len(), any::<u32>())
            .prop_map(|(handle, offset, len, seed)| Op::Write { handle, offset, len, seed }),
        4 => (handle(), offset(), len()).prop_map(|(handle, offset, len)| Op::Read { handle, offset, len }),
        1 => (handle(), offset(), any::<bool>())
            .prop_map(|(handle, offset, data)| Op::Seek { handle, offset, data }),
        2 => (place(), offset()).prop_map(|(at, size)| Op::Truncate { at, size }),
        2 => (handle(), offset()).prop_map(|(handle, size)| Op::TruncateHandle { handle, size }),
        2 => (handle(), offset(), len(), allocate())
            .prop_map(|(handle, offset, len, mode)| Op::Allocate { handle, offset, len, mode }),
        3 => (handle(), handle(), prop_oneof![3 => Just(0u32), 1 => offset()], len())
            .prop_map(|(from, to, offset, len)| Op::Copy { from, to, offset, len: len * 50 }),
        3 => handle().prop_map(|handle| Op::Flush { handle }),
        2 => handle().prop_map(|handle| Op::Fsync { handle }),
    ]
}

fn names() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (place(), 0u32..0o1000, any::<bool>())
            .prop_map(|(at, mode, exclusive)| Op::Create { at, mode, exclusive }),
        6 => (place(), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(at, write, truncate)| Op::Open { at, write, truncate }),
        6 => (handle(), prop::bool::weighted(0.8)).prop_map(|(handle, flush)| Op::Release { handle, flush }),
        3 => place().prop_map(|at| Op::Unlink { at }),
        3 => (place(), 0u32..0o1000).prop_map(|(at, mode)| Op::Mkdir { at, mode }),
        2 => place().prop_map(|at| Op::Rmdir { at }),
        8 => (place(), place(), prop::bool::weighted(0.2))
            .prop_map(|(from, to, no_replace)| Op::Rename { from, to, no_replace }),
        1 => (place(), any::<u32>()).prop_map(|(at, seed)| Op::Symlink { at, seed }),
        1 => place().prop_map(|at| Op::Readlink { at }),
    ]
}

fn attributes() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (place(), 0u32..0o10000).prop_map(|(at, mode)| Op::Chmod { at, mode }),
        1 => (handle(), 0u32..0o1000).prop_map(|(handle, mode)| Op::ChmodHandle { handle, mode }),
        1 => (place(), 0u32..5, 0u32..5).prop_map(|(at, uid, gid)| Op::Chown { at, uid, gid }),
        2 => (place(), -1_000i64..2_000_000_000, 0u32..1_000_000_000)
            .prop_map(|(at, seconds, nanos)| Op::Utimes { at, seconds, nanos }),
        2 => (place(), 0u8..3, any::<u8>(), any::<bool>(), any::<bool>()).prop_map(
            |(at, name, len, create, replace)| Op::SetXattr {
                at,
                name,
                len,
                create: create && !replace,
                replace: replace && !create
            }
        ),
        1 => (place(), 0u8..3).prop_map(|(at, name)| Op::RemoveXattr { at, name }),
    ]
}

fn looks() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0u8..4, any::<bool>()).prop_map(|(dir, plus)| Op::Readdir { dir, plus }),
        2 => place().prop_map(|at| Op::Getattr { at }),
        2 => Just(Op::Forget),
        1 => Just(Op::Drain),
        1 => Just(Op::Check),
    ]
}

/// Sequences of up to `most` operations.
pub fn sequence(most: usize) -> impl Strategy<Value = Vec<Op>> {
    vec(prop_oneof![5 => content(), 6 => names(), 2 => attributes(), 2 => looks()], 1..most)
}
