//! Count: sizes, line ends and runs of zeros of a message, many bytes at a time.
//!
//! # Invariants
//!
//! * The same bytes in other pieces give the same counts.

use memchr::memchr;

/// The smallest unit that disks lose or zero.
const SECTOR_BYTES: u64 = 512;

/// A run of zeros to the very end, beginning on a sector's border, is damage from this length on.
const NUL_TAIL_BYTES_MIN: u64 = 4;

/// Pieces whose counts fit a byte, so that the compiler counts them many at a time.
const LANE_BYTES: usize = 240;

const ZEROS: [u8; 256] = [0; 256];

/// What was counted so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) size: u64,
    pub(super) bare_lf: u64,
    /// Line ends are of no interest.
    leaves_out_feeds: bool,
    /// Where the longest run of zeros begins, and its length.
    pub(super) longest_run: (u64, u64),
    /// Zeros fill a whole sector, or the end from a sector's border on.
    pub(super) zeroed_sector: bool,
    after_cr: bool,
    run: u64,
}

impl Count {
    /// Nothing counted yet.
    pub(super) fn new(leaves_out_feeds: bool) -> Self {
        Self { leaves_out_feeds, ..Self::default() }
    }

    /// Takes in the next bytes.
    pub(super) fn add(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        while let Some(at) = memchr(0, rest) {
            let (text, zeros) = rest.split_at(at);
            self.add_text(text);
            rest = self.add_zeros(zeros);
        }
        self.add_text(rest);
    }

    /// Ends the last run.
    pub(super) fn finish(&mut self) {
        let start = self.size - self.run;
        let to_the_end = self.run >= NUL_TAIL_BYTES_MIN.min(self.size.max(1));
        if self.run > 0 && to_the_end && start.is_multiple_of(SECTOR_BYTES) {
            self.zeroed_sector = true;
        }
        self.end_run();
    }

    /// Bytes if every bare LF were CRLF.
    pub(super) fn virtual_size(&self) -> u64 {
        self.size + self.bare_lf
    }

    fn add_text(&mut self, text: &[u8]) {
        let (Some(first), Some(last)) = (text.first(), text.last()) else { return };
        self.end_run();
        self.size += text.len() as u64;
        if self.leaves_out_feeds {
            return;
        }
        self.bare_lf += u64::from(*first == b'\n' && !self.after_cr) + bare_feeds(text);
        self.after_cr = *last == b'\r';
    }

    /// Takes in the zeros that `bytes` begin with; what follows them.
    fn add_zeros<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let mut rest = bytes;
        while let Some(more) = rest.strip_prefix(&ZEROS) {
            rest = more;
        }
        let end = rest.iter().position(|byte| *byte != 0).unwrap_or(rest.len());
        let rest = rest.get(end..).unwrap_or_default();
        let length = (bytes.len() - rest.len()) as u64;
        self.run += length;
        self.size += length;
        self.after_cr = false;
        rest
    }

    fn end_run(&mut self) {
        if self.run == 0 {
            return;
        }
        let start = self.size - self.run;
        let first_whole = start.next_multiple_of(SECTOR_BYTES);
        if first_whole + SECTOR_BYTES <= self.size {
            self.zeroed_sector = true;
        }
        if self.run > self.longest_run.1 {
            self.longest_run = (start, self.run);
        }
        self.run = 0;
    }
}

/// Line feeds in `text` that follow something other than a carriage return; the first byte does
/// not count.
fn bare_feeds(text: &[u8]) -> u64 {
    let after = text.get(1..).unwrap_or_default();
    let lanes = after.chunks(LANE_BYTES).zip(text.chunks(LANE_BYTES));
    let count = |(after, before): (&[u8], &[u8])| {
        // Neither branches nor overflow checks, so that many bytes are compared at once.
        let bare = |(after, before): (&u8, &u8)| {
            u8::from(*after == b'\n') & u8::from(*before != b'\r')
        };
        let pairs = after.iter().zip(before).map(bare);
        u64::from(pairs.fold(0_u8, u8::wrapping_add))
    };
    lanes.map(count).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As the words above say it, one byte after the other.
    fn count_slowly(bytes: &[u8]) -> (u64, (u64, u64)) {
        let before = [b' '].iter().chain(bytes);
        let bare = bytes
            .iter()
            .zip(before)
            .filter(|it| *it.0 == b'\n' && *it.1 != b'\r')
            .count();
        let (mut run, mut longest) = (0, (0, 0));
        for (at, byte) in bytes.iter().enumerate() {
            run = if *byte == 0 { run + 1 } else { 0 };
            if run > longest.1 {
                longest = (at as u64 + 1 - run, run);
            }
        }
        (bare as u64, longest)
    }

    #[test]
    fn zeros_damage_a_sector_only_where_they_fill_it() {
        let check = |(start, length, size), damaged| {
            let mut bytes = vec![b'x'; size];
            bytes[start..start + length].fill(0);
            let mut count = Count::default();
            count.add(&bytes);
            count.finish();
            assert_eq!(count.zeroed_sector, damaged, "{start} {length} {size}");
        };

        check((512, 512, 2000), true);
        check((513, 512, 2000), false);
        check((513, 1023, 2000), true);
        check((1536, 4, 1540), true);
        check((1536, 3, 1539), false);
        check((1500, 40, 1540), false);
    }

    proptest! {
        #[test]
        fn many_bytes_at_a_time_count_like_one_by_one(
            kinds in proptest::collection::vec((0..5_usize, 1..300_usize), 0..20),
            pieces in 1..700_usize,
        ) {
            let kinds: Vec<(u8, usize)> =
                kinds.into_iter().map(|(kind, times)| (b"\0\r\nxy"[kind], times)).collect();
            let bytes: Vec<u8> =
                kinds.iter().flat_map(|(byte, times)| vec![*byte; *times % 3 * *times]).collect();
            let mut count = Count::default();
            bytes.chunks(pieces).for_each(|piece| count.add(piece));
            count.finish();

            let (bare, longest) = count_slowly(&bytes);
            prop_assert_eq!((count.size, count.bare_lf), (bytes.len() as u64, bare));
            prop_assert_eq!(count.longest_run, longest);
        }
    }
}
