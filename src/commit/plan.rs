//! How a large file becomes the parts of a multipart upload: what S3 has already is copied on the server,
//! the rest is uploaded.
//!
//! Limits: <https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html>: parts of 5 MiB to 5 GiB but
//! the last, which may be smaller; at most 10,000 of them.

use std::ops::Range;

use super::extents::Source;
use crate::store::types::{COPY_MAX_BYTES, PART_MIN_BYTES, PARTS_MAX};

/// A stretch of the base that is shorter than this is uploaded again: an upload beside it may take up to one
/// smallest part from either end, and what is left has to be a part itself.
const COPY_WORTH_BYTES: u64 = 3 * PART_MIN_BYTES;

/// Parts are numbered from 1 to this.
const PARTS: usize = PARTS_MAX as usize;

/// One part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlannedPart {
    /// 1 to 10,000.
    pub number: u32,
    /// Bytes of the object.
    pub range: Range<u64>,
    /// Whether the base has them at the same offset and the server copies them.
    pub copy: bool,
}

/// Bytes of a part so that `size` bytes need no more than 10,000, some of them spare for copies.
pub fn part_size_bytes(configured: u64, size: u64) -> u64 {
    let spare = u64::from(PARTS_MAX) - 100;
    configured.max(PART_MIN_BYTES).max(size.div_ceil(spare).next_multiple_of(1 << 20))
}

/// Bytes of a capture that the server can copy.
pub fn copyable_bytes(sources: &[(Range<u64>, Source)]) -> u64 {
    sources.iter().filter(|(_, s)| copyable(s)).map(|(r, _)| r.end - r.start).sum()
}

fn copyable(source: &Source) -> bool {
    matches!(source, Source::Base | Source::Staged { dirty: false })
}

/// Plans the parts of an object whose bytes come from `sources`, which cover it without gaps. Many scattered
/// changes make many parts: then longer stretches are uploaded again, in larger parts, until they are few enough.
pub fn plan(sources: &[(Range<u64>, Source)], has_base: bool, part_size: u64) -> Vec<PlannedPart> {
    let (mut part_size, mut copy_worth) = (part_size.max(PART_MIN_BYTES), COPY_WORTH_BYTES);
    loop {
        let parts = cut(sources, has_base, part_size, copy_worth);
        if parts.len() <= PARTS {
            return parts;
        }
        part_size *= 2;
        copy_worth *= 2;
    }
}

fn cut(
    sources: &[(Range<u64>, Source)],
    has_base: bool,
    part_size: u64,
    copy_worth: u64,
) -> Vec<PlannedPart> {
    let mut runs: Vec<(Range<u64>, bool)> = Vec::new();
    let push = |runs: &mut Vec<(Range<u64>, bool)>, range: Range<u64>, copy: bool| match runs.last_mut() {
        Some((last, c)) if *c == copy => last.end = range.end,
        _ => runs.push((range, copy)),
    };
    for (range, source) in sources {
        push(&mut runs, range.clone(), has_base && copyable(source));
    }
    let mut merged: Vec<(Range<u64>, bool)> = Vec::new();
    for (range, copy) in runs {
        let worth = copy && range.end - range.start >= copy_worth;
        push(&mut merged, range, worth);
    }
    lend(&mut merged);
    let mut parts = Vec::new();
    let last = merged.len().saturating_sub(1);
    for (i, (range, copy)) in merged.into_iter().enumerate() {
        let pieces =
            if copy { split_evenly(&range, COPY_MAX_BYTES) } else { split(&range, part_size, i == last) };
        for range in pieces {
            parts.push(PlannedPart { number: parts.len() as u32 + 1, range, copy });
        }
    }
    parts
}

/// Uploads that are too short to be a part take bytes from the copy behind them.
fn lend(runs: &mut [(Range<u64>, bool)]) {
    for i in 1..runs.len() {
        let (head, tail) = runs.split_at_mut(i);
        let (Some((upload, false)), Some((copy, true))) = (head.last_mut(), tail.first_mut()) else {
            continue;
        };
        let short = PART_MIN_BYTES.saturating_sub(upload.end - upload.start);
        upload.end += short;
        copy.start += short;
    }
}

fn split_evenly(range: &Range<u64>, largest: u64) -> Vec<Range<u64>> {
    let len = range.end - range.start;
    let piece = len.div_ceil(len.div_ceil(largest).max(1)).max(1);
    (range.start..range.end).step_by(piece as usize).map(|s| s..(s + piece).min(range.end)).collect()
}

fn split(range: &Range<u64>, part_size: u64, last_run: bool) -> Vec<Range<u64>> {
    let mut pieces: Vec<Range<u64>> = (range.start..range.end)
        .step_by(part_size as usize)
        .map(|start| start..(start + part_size).min(range.end))
        .collect();
    if !last_run
        && pieces.len() > 1
        && pieces.last().is_some_and(|p| p.end - p.start < PART_MIN_BYTES)
        && let Some(short) = pieces.pop()
        && let Some(before) = pieces.last_mut()
    {
        before.end = short.end;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    #[test]
    fn a_new_file_is_uploaded_in_parts_of_the_size() {
        let parts = plan(&[(0..20 * MIB, Source::Staged { dirty: true })], false, 8 * MIB);
        let sizes: Vec<_> = parts.iter().map(|p| (p.range.end - p.range.start) / MIB).collect();
        assert_eq!(sizes, [8, 8, 4]);
    }

    #[test]
    fn one_byte_in_10_gib_is_four_parts() {
        let at = 5 * GIB + 1;
        let sources = [
            (0..at, Source::Base),
            (at..at + 1, Source::Staged { dirty: true }),
            (at + 1..10 * GIB, Source::Base),
        ];
        let parts = plan(&sources, true, 8 * MIB);
        assert_eq!(parts.iter().filter(|p| p.copy).count(), 3);
        assert_eq!(parts.iter().filter(|p| !p.copy).count(), 1);
    }

    #[test]
    fn part_size_grows_with_the_file() {
        assert_eq!(part_size_bytes(8 * MIB, GIB), 8 * MIB);
        let size: u64 = 5 << 40;
        assert!(size.div_euclid(part_size_bytes(8 * MIB, size)) < u64::from(PARTS_MAX));
    }

    #[test]
    fn scattered_changes_stay_within_the_number_of_parts() {
        let mut sources = Vec::new();
        for at in (0..200 * GIB).step_by(16 << 20) {
            sources.push((at..at + 1, Source::Staged { dirty: true }));
            sources.push((at + 1..at + (16 << 20), Source::Base));
        }
        let parts = plan(&sources, true, part_size_bytes(8 * MIB, 200 * GIB));
        assert!(parts.len() <= PARTS);
    }

    proptest! {
        /// Parts cover the object in order, and all but the last are long enough.
        #[test]
        fn parts_are_legal(cuts in prop::collection::vec((1u64..40 * MIB, any::<bool>()), 1..20)) {
            let mut at = 0;
            let mut sources = Vec::new();
            for (len, dirty) in cuts {
                let source = if dirty { Source::Staged { dirty: true } } else { Source::Base };
                sources.push((at..at + len, source));
                at += len;
            }
            let parts = plan(&sources, true, 8 * MIB);
            let mut end = 0;
            for (i, part) in parts.iter().enumerate() {
                prop_assert_eq!(part.number as usize, i + 1);
                prop_assert_eq!(part.range.start, end);
                let len = part.range.end - part.range.start;
                prop_assert!(len > 0 && (len >= PART_MIN_BYTES || i + 1 == parts.len()));
                prop_assert!(len <= COPY_MAX_BYTES);
                end = part.range.end;
                if part.copy {
                    for (range, source) in &sources {
                        let overlaps = range.start < part.range.end && part.range.start < range.end;
                        prop_assert!(!overlaps || *source == Source::Base);
                    }
                }
            }
            prop_assert_eq!(end, at);
        }
    }
}
