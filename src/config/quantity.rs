//! Sizes, durations, modes and switches as people write them.

use std::time::Duration;

/// Parses a size in bytes: `4096`, `64K`, `8MiB`, `1.5G`. Units are powers of 1,024 with or without `iB`;
/// `KB`, `MB`, `GB` and `TB` are powers of 1,000.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split_unit(text);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(format!("'{text}' is no size; write for example 64MiB or 1G")),
    };
    scale(number, factor).ok_or_else(|| format!("'{text}' is no size; write for example 64MiB or 1G"))
}

/// Parses a duration: `500ms`, `30s`, `5m`, `2h`, `1d`; a bare number is seconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split_unit(text);
    let unit_ns: u64 = match unit.to_ascii_lowercase().as_str() {
        "ms" => 1_000_000,
        "" | "s" | "sec" => 1_000_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return Err(format!("'{text}' is no duration; write for example 30s or 5m")),
    };
    scale(number, unit_ns)
        .map(Duration::from_nanos)
        .ok_or_else(|| format!("'{text}' is no duration; write for example 30s or 5m"))
}

/// Parses an octal permission mask of at most `0777`.
pub fn parse_mask(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mask) if mask <= 0o777 => Ok(mask),
        _ => Err(format!("'{text}' is no permission mask; write it in octal, for example 022")),
    }
}

/// Parses a switch: yes, true, on, 1 and their opposites.
pub fn parse_switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(format!("'{text}' is neither true nor false")),
    }
}

/// Writes a size for people, in the largest unit that keeps one to four digits: `512 B`, `1.5 MiB`.
pub fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value.fract() == 0.0 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// `number` (digits with at most one point) times `factor`, without the rounding of floating point for
/// whole numbers; `None` when it is no number or does not fit.
fn scale(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || number.ends_with('.') || fraction.contains('.') {
        return None;
    }
    let base = whole.parse::<u64>().ok()?.checked_mul(factor)?;
    if fraction.is_empty() {
        return Some(base);
    }
    let digits = fraction.get(..fraction.len().min(9))?;
    let part = u128::from(digits.parse::<u64>().ok()?) * u128::from(factor);
    let part = part / 10_u128.pow(u32::try_from(digits.len()).ok()?);
    base.checked_add(u64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        let cases = [
            ("0", 0),
            ("4096", 4096),
            ("64K", 64 << 10),
            ("64MiB", 64 << 20),
            ("1g", 1 << 30),
            ("1.5GiB", 3 << 29),
            ("2 TiB", 2 << 40),
            ("100MB", 100_000_000),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        assert!(parse_size("16777216T").is_err(), "2^64 does not fit");
        for text in ["", "x", "M", "-1", "1.2.3", "1.", ".5", "5Q", "1 0", "99999999999999999999", "0x10"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("30"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        for text in ["", "s", "5 parsecs", "-3s", "999999999999d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn masks_and_switches() {
        assert_eq!(parse_mask("022"), Ok(0o22));
        assert_eq!(parse_mask("0777"), Ok(0o777));
        for text in ["", "8", "1000", "-1", "rwx"] {
            assert!(parse_mask(text).is_err(), "{text}");
        }
        assert_eq!(parse_switch("Yes"), Ok(true));
        assert_eq!(parse_switch("0"), Ok(false));
        assert!(parse_switch("maybe").is_err());
    }

    #[test]
    fn sizes_for_people() {
        assert_eq!(show_size(0), "0 B");
        assert_eq!(show_size(1023), "1023 B");
        assert_eq!(show_size(1536), "1.5 KiB");
        assert_eq!(show_size(8 << 20), "8 MiB");
        assert_eq!(show_size(u64::MAX), "16777216 TiB");
    }
}
