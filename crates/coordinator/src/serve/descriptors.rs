//! File descriptors: as many as this program may have.
//!
//! # Invariants
//!
//! * What is refused changes nothing: then there is room for fewer connections.

use std::fs;

use rustix::process::{Resource, Rlimit, setrlimit};

/// What is enough for every connection of three full listeners.
const ENOUGH: u64 = 16_384;

/// What a program has if nobody says otherwise.
const USUAL: u64 = 1_024;

/// Asks for enough descriptors, and says how many there are.
pub(super) fn most() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let (now, most) = parse(&limits).unwrap_or((USUAL, USUAL));
    let wanted = ENOUGH.min(most);
    let got = if wanted <= now {
        now
    } else {
        let limit = Rlimit { current: Some(wanted), maximum: Some(most) };
        setrlimit(Resource::Nofile, limit).map_or(now, |()| wanted)
    };
    usize::try_from(got).unwrap_or(usize::MAX)
}

/// The limit in force and the highest one that may be asked for.
fn parse(limits: &str) -> Option<(u64, u64)> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    let mut numbers = line.split_whitespace();
    let mut next = || {
        let word = numbers.next()?;
        if word == "unlimited" { Some(u64::MAX) } else { word.parse().ok() }
    };
    Some((next()?, next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_for_limits_are_understood() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max processes             unlimited            unlimited            processes\n\
                      Max open files            1024                 524288               files\n";

        assert_eq!(parse(limits), Some((1_024, 524_288)));
        assert_eq!(
            parse("Max open files unlimited unlimited files"),
            Some((u64::MAX, u64::MAX))
        );
        assert_eq!(parse(""), None);
    }
}
