//! Message: judging one file by itself.
//!
//! # Invariants
//!
//! * A file is read once, front to back, through one reused buffer; digest and findings come from
//!   the same pass.
//! * Odd is not damaged: what real mail does (no header end, 8 bit, a stray NUL) only ever weighs
//!   when two versions of a message disagree.

use std::io::{self, Read};

use crate::digest::{Digest, Digester};
use crate::reason::Reason;

/// One read; large enough that a system call costs little beside hashing, small enough for many
/// readers at once.
pub(crate) const BUFFER_BYTES: usize = 128 * 1024;

/// The smallest unit that disks lose or zero.
const SECTOR_BYTES: u64 = 512;

/// A run of zeros to the very end, beginning on a sector's border, is damage from this length on.
const NUL_TAIL_BYTES_MIN: u64 = 4;

/// Bytes of the first line that must look like text.
const HEAD_BYTES: usize = 64;

/// What a name, list or header promises of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Promise {
    /// Bytes of the message.
    pub(crate) size: Option<u64>,
    /// Bytes of the message if every bare LF were CRLF.
    pub(crate) virtual_size: Option<u64>,
}

/// What reading a message once has shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Digest of all bytes; nothing if they could not be read.
    pub(crate) digest: Option<Digest>,
    /// Signs of damage, the most telling first.
    pub(crate) faults: Vec<Reason>,
    /// Signs that are odd but occur in real mail.
    pub(crate) oddities: u32,
    /// Whom it was delivered to last, if to nobody who looks like the owner.
    pub(crate) stranger: Option<Box<[u8]>>,
    /// Of its header, if it was delivered to a stranger: one message under two names, cut to
    /// two sizes, has one.
    pub(crate) header: Option<Digest>,
}

impl Findings {
    /// Findings on a file that cannot be or must not be read.
    pub(crate) fn unread(reason: Reason) -> Self {
        Self { faults: vec![reason], ..Self::default() }
    }

    /// Damaged, as far as this side alone can tell.
    pub(crate) fn fault(&self) -> Option<Reason> {
        self.faults.first().copied()
    }

    /// Damaged although the other side has the very same bytes.
    ///
    /// Two sides do not fall ill alike: a wrong `W=`, a foreign recipient or a strange beginning
    /// that both have was there before the fault. Sizes and zeros are never real.
    pub(crate) fn fault_though_identical(&self) -> Option<Reason> {
        let forgiven = |reason: &Reason| match reason {
            Reason::WrongVirtualSize { .. } => !self.has_foreign_bytes(),
            Reason::ForeignBytes => !self.has_wrong_virtual_size(),
            Reason::NoHeader => true,
            Reason::Empty
            | Reason::Truncated { .. }
            | Reason::TooLong { .. }
            | Reason::NulRun { .. }
            | Reason::TooLarge { .. }
            | Reason::Unreadable
            | Reason::Altered
            | Reason::BothSidesBad
            | Reason::NotRegular
            | Reason::Missing => false,
        };
        self.faults.iter().copied().find(|reason| !forgiven(reason))
    }

    /// Whom it was delivered to, if that is its only fault.
    pub(crate) fn only_stranger(&self) -> Option<&[u8]> {
        let only = self.faults == [Reason::ForeignBytes];
        self.stranger.as_deref().filter(|_| only)
    }

    /// The recipient turned out to be another address of the owner.
    pub(crate) fn forgive_stranger(&mut self) {
        self.faults.retain(|reason| *reason != Reason::ForeignBytes);
    }

    fn has_foreign_bytes(&self) -> bool {
        self.faults.contains(&Reason::ForeignBytes)
    }

    fn has_wrong_virtual_size(&self) -> bool {
        self.faults.iter().any(|reason| matches!(reason, Reason::WrongVirtualSize { .. }))
    }
}

/// Reads `source` to its end and judges it against what is promised and its owner's address.
pub(crate) fn judge(
    source: &mut impl Read,
    promise: Promise,
    owner: &str,
    buffer: &mut [u8],
) -> io::Result<Findings> {
    let mut hasher = Digester::default();
    let mut count = Count::default();
    let mut head = Head::default();
    loop {
        let length = fill(source, buffer)?;
        let chunk = buffer.get(..length).unwrap_or_default();
        if count.size == 0 {
            head = Head::read(chunk, owner);
        }
        hasher.update(chunk);
        count.add(chunk);
        if length < buffer.len() {
            break;
        }
    }
    count.finish();
    let mut findings = weigh(&count, &head, promise);
    findings.digest = Some(hasher.finish());
    Ok(findings)
}

fn weigh(count: &Count, head: &Head, promise: Promise) -> Findings {
    let mut faults = Vec::new();
    let found = count.size;
    match promise.size {
        Some(expected) if found == 0 && expected > 0 => faults.push(Reason::Empty),
        Some(expected) if found < expected => {
            faults.push(Reason::Truncated { expected, found });
        }
        Some(expected) if found > expected => {
            faults.push(Reason::TooLong { expected, found });
        }
        None if found == 0 => faults.push(Reason::Empty),
        Some(_) | None => {}
    }
    if count.zeroed_sector {
        let (offset, length) = count.longest_run;
        faults.push(Reason::NulRun { offset, length });
    }
    if head.stranger.is_some() {
        faults.push(Reason::ForeignBytes);
    }
    let virtual_size = count.size + count.bare_lf;
    if let Some(expected) = promise.virtual_size.filter(|it| *it != virtual_size) {
        faults.push(Reason::WrongVirtualSize { expected, found: virtual_size });
    }
    if head.binary {
        faults.push(Reason::NoHeader);
    }
    let oddities = head.oddities + u32::from(count.longest_run.1 > 0);
    let (stranger, header) = (head.stranger.clone(), head.digest);
    Findings { digest: None, faults, oddities, stranger, header }
}

/// Fills the buffer as far as the source goes.
pub(crate) fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match source.read(rest) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    size: u64,
    bare_lf: u64,
    after_cr: bool,
    run: u64,
    longest_run: (u64, u64),
    zeroed_sector: bool,
}

impl Count {
    /// Counts a chunk; without zeros, as nearly all mail is, many bytes at a time.
    fn add(&mut self, chunk: &[u8]) {
        if chunk.contains(&0) {
            self.add_bytes(chunk);
            return;
        }
        let (Some(first), Some(last)) = (chunk.first(), chunk.last()) else { return };
        if self.run > 0 {
            self.end_run();
        }
        let feeds: u64 = chunk.iter().map(|byte| u64::from(*byte == b'\n')).sum();
        let pairs = chunk.iter().zip(chunk.iter().skip(1));
        let after_cr: u64 = pairs.map(|pair| u64::from(pair == (&b'\r', &b'\n'))).sum();
        let first = u64::from(self.after_cr && *first == b'\n');
        self.bare_lf += feeds.saturating_sub(after_cr + first);
        self.after_cr = *last == b'\r';
        self.size += chunk.len() as u64;
    }

    fn add_bytes(&mut self, chunk: &[u8]) {
        for byte in chunk {
            if *byte == 0 {
                self.run += 1;
            } else if self.run > 0 {
                self.end_run();
            }
            if *byte == b'\n' && !self.after_cr {
                self.bare_lf += 1;
            }
            self.after_cr = *byte == b'\r';
            self.size += 1;
        }
    }

    fn finish(&mut self) {
        let start = self.size - self.run;
        let to_the_end = self.run >= NUL_TAIL_BYTES_MIN.min(self.size.max(1));
        if self.run > 0 && to_the_end && start.is_multiple_of(SECTOR_BYTES) {
            self.zeroed_sector = true;
        }
        self.end_run();
    }

    fn end_run(&mut self) {
        let start = self.size - self.run;
        let first_whole = start.next_multiple_of(SECTOR_BYTES);
        if first_whole + SECTOR_BYTES <= self.size && self.run > 0 {
            self.zeroed_sector = true;
        }
        if self.run > self.longest_run.1 {
            self.longest_run = (start, self.run);
        }
        self.run = 0;
    }
}

#[derive(Default)]
struct Head {
    binary: bool,
    stranger: Option<Box<[u8]>>,
    digest: Option<Digest>,
    oddities: u32,
}

impl Head {
    fn read(chunk: &[u8], owner: &str) -> Self {
        let (mut begins, mut ends) = (false, false);
        let (mut stranger, mut ours) = (None, false);
        let (mut binary, mut hasher) = (false, Digester::default());
        for (index, line) in chunk.split(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if index == 0 {
                begins = is_field(line) || is_mbox_line(line);
                binary = line.iter().take(HEAD_BYTES).copied().any(is_binary);
            }
            if line.is_empty() {
                ends = true;
                break;
            }
            hasher.update(line);
            if let Some(address) = value_of(line, b"delivered-to:") {
                let address = plain_address(address);
                ours |= address == plain_address(owner.as_bytes());
                stranger.get_or_insert(address.into_boxed_slice());
            }
        }
        let oddities = u32::from(!begins) + u32::from(!ends);
        let stranger = stranger.filter(|_| !ours);
        let digest = stranger.as_ref().map(|_| hasher.finish());
        Self { binary, stranger, digest, oddities }
    }
}

fn is_binary(byte: u8) -> bool {
    byte < 0x20 && !matches!(byte, b'\t' | b'\r' | 0x1b | 0x0c)
}

fn is_field(line: &[u8]) -> bool {
    line.iter()
        .position(|byte| *byte == b':')
        .and_then(|colon| line.get(..colon))
        .is_some_and(|name| !name.is_empty() && name.iter().all(u8::is_ascii_graphic))
}

fn is_mbox_line(line: &[u8]) -> bool {
    line.starts_with(b"From ") || line.starts_with(b">From ")
}

fn value_of<'a>(line: &'a [u8], field: &[u8]) -> Option<&'a [u8]> {
    let (name, value) = line.split_at_checked(field.len())?;
    name.eq_ignore_ascii_case(field).then(|| value.trim_ascii())
}

/// The address as it names a person: without brackets, case and `+detail`.
fn plain_address(address: &[u8]) -> Vec<u8> {
    let address = address.strip_prefix(b"<").unwrap_or(address);
    let address = address.strip_suffix(b">").unwrap_or(address);
    let at = address.iter().rposition(|byte| *byte == b'@').unwrap_or(address.len());
    let (local, domain) = address.split_at(at);
    let local = local.split(|byte| *byte == b'+').next().unwrap_or(local);
    [local, domain].concat().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::maildir::name::MailName;

    const OWNER: &str = "anna@example.org";
    const GOOD: &str = "Delivered-To: anna@example.org\nSubject: x\n\nHello\n";

    fn check(name: &str, bytes: &[u8]) -> Findings {
        let mut buffer = vec![0; 1024];
        judge(&mut &bytes[..], MailName::parse(name.as_bytes()).promise(), OWNER, &mut buffer)
            .unwrap()
    }

    fn named(bytes: &[u8]) -> String {
        let bare = bytes.split(|byte| *byte == b'\n').count() - 1;
        format!("1.a,S={},W={}", bytes.len(), bytes.len() + bare)
    }

    #[test]
    fn many_bytes_at_a_time_count_like_one_by_one() {
        let text: &[&[u8]] =
            &[b"a\r", b"\nb\n\r\r\n", b"", b"x\0\0", b"\n\r", b"\r\n\n", b"\0"];
        let (mut fast, mut slow) = (Count::default(), Count::default());

        for chunk in text {
            fast.add(chunk);
            slow.add_bytes(chunk);
        }
        fast.finish();
        slow.finish();

        assert_eq!(fast, slow);
        assert_eq!((fast.bare_lf, fast.size), (3, 17));
    }

    #[test]
    fn a_whole_message_has_no_fault_and_its_digest() {
        let findings = check(&named(GOOD.as_bytes()), GOOD.as_bytes());

        assert_eq!(findings.fault(), None);
        assert_eq!(findings.oddities, 0);
        assert_eq!(findings.digest, Some(Digester::of(GOOD.as_bytes())));
    }

    #[test]
    fn a_cut_message_is_truncated_and_an_empty_one_empty() {
        let half = &GOOD.as_bytes()[..20];

        let expected = GOOD.len() as u64;
        assert_eq!(
            check(&named(GOOD.as_bytes()), half).fault(),
            Some(Reason::Truncated { expected, found: 20 })
        );
        assert_eq!(check(&named(GOOD.as_bytes()), b"").fault(), Some(Reason::Empty));
    }

    #[test]
    fn a_zeroed_block_is_found_where_lines_are_crlf_and_sizes_fit() {
        let mut mail = GOOD.replace('\n', "\r\n").into_bytes();
        mail.extend(std::iter::repeat_n(*b"base64\r\n", 512).flatten());
        let name = format!("1.a,S={},W={}", mail.len(), mail.len());
        mail[1000..3000].fill(0);

        let fault = check(&name, &mail).fault();

        assert_eq!(fault, Some(Reason::NulRun { offset: 1000, length: 2000 }));
    }

    #[test]
    fn a_small_message_all_zeros_is_damaged() {
        let zeros = [0_u8; 100];

        let fault = check("1.a,S=100,W=100", &zeros).fault();

        assert_eq!(fault, Some(Reason::NulRun { offset: 0, length: 100 }));
    }

    #[test]
    fn a_few_nuls_inside_are_odd_but_no_fault() {
        let mail = b"Subject: x\n\na\0\0b\n";

        let findings = check("1.a", mail);

        assert_eq!((findings.fault(), findings.oddities), (None, 1));
    }

    #[test]
    fn mail_delivered_to_somebody_else_is_foreign_even_if_sizes_fit() {
        let mail = b"Delivered-To: otto@example.org\nSubject: x\n\n";

        assert_eq!(check(&named(mail), mail).fault(), Some(Reason::ForeignBytes));
    }

    #[test]
    fn forwarded_mail_with_our_address_among_others_is_ours() {
        let mail = b"Delivered-To: <Anna+list@Example.org>\nDelivered-To: o@x.org\n\n";

        assert_eq!(check(&named(mail), mail).fault(), None);
    }

    #[test]
    fn mail_without_header_end_is_odd_but_no_fault() {
        let mail = b"{ \"json\": 1 }";

        assert_eq!(check("1.a", mail).fault(), None);
    }

    #[test]
    fn a_binary_beginning_is_no_header() {
        let mail = b"\x7fELF\x02\x01\x01\nmore";

        assert_eq!(check("1.a", mail).fault(), Some(Reason::NoHeader));
        assert_eq!(check("1.a", mail).fault_though_identical(), None);
    }

    #[test]
    fn findings_do_not_depend_on_the_size_of_the_buffer() {
        let mut mail = GOOD.repeat(40).into_bytes();
        mail[300..900].fill(0);
        let name = MailName::parse(b"1.a,S=2000,W=2160").promise();

        let small = judge(&mut &mail[..], name, OWNER, &mut [0; 600]).unwrap();
        let large = judge(&mut &mail[..], name, OWNER, &mut [0; 9000]).unwrap();

        assert_eq!(small, large);
    }
}
