//! Packed: messages that the mail server stored compressed.
//!
//! Gzip (RFC 1952) and Zstandard (RFC 8878), as Dovecot's `zlib` plugin writes them
//! (<https://doc.dovecot.org/2.3/configuration_manual/zlib_plugin/>).
//!
//! # Invariants
//!
//! * The stream's own checksum is checked; a stream that ends early, is followed by something
//!   else or has another checksum is a fault.
//! * Memory is bounded by what a frame's window may be, whatever the stream says.

use flate2::{Crc, Decompress, FlushDecompress, Status};

use crate::judge::scan::Plain;
use crate::judge::zstd::Zstd;
use crate::reason::Reason;

/// What the first bytes say of how a message is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Magic {
    Gzip,
    Zstd,
    /// Compressed in a way that is not read here.
    Unknown,
    /// By Dovecot's `mail_crypt`.
    Encrypted,
}

impl Magic {
    /// The longest magic.
    pub(super) const BYTES: usize = 15;

    pub(super) fn of(first: &[u8]) -> Option<Self> {
        let is_bzip2 = first.starts_with(b"BZh") && first.get(4..10) == Some(b"1AY&SY");
        let unknown: [&[u8]; 3] =
            [b"\xfd7zXZ\0", b"\x04\x22\x4d\x18", b"Dovecot-LZ4\x0d\x2a\x9b\xc5"];
        if first.starts_with(b"\x1f\x8b\x08") {
            Some(Self::Gzip)
        } else if first.starts_with(b"\x28\xb5\x2f\xfd") {
            Some(Self::Zstd)
        } else if first.starts_with(b"CRYPTED\x03\x07") {
            Some(Self::Encrypted)
        } else if is_bzip2 || unknown.iter().any(|magic| first.starts_with(magic)) {
            Some(Self::Unknown)
        } else {
            None
        }
    }
}

/// What a compressed stream's end says of what came out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checksum {
    /// It has the checksum that was stored with it.
    Sound,
    /// No checksum was stored.
    Absent,
}

/// Why no more comes out of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It is no such stream, or no longer.
    Broken,
    BadChecksum,
    /// More comes out than is allowed.
    TooLarge,
}

/// A compressed stream on its way in.
pub(super) struct Unpacker {
    format: Format,
    trouble: Option<Trouble>,
}

enum Format {
    Gzip(Box<Gzip>),
    Zstd(Box<Zstd>),
}

impl Unpacker {
    pub(super) fn gzip() -> Self {
        Self { format: Format::Gzip(Box::new(Gzip::new())), trouble: None }
    }

    pub(super) fn zstd() -> Self {
        Self { format: Format::Zstd(Box::new(Zstd::new())), trouble: None }
    }

    /// Takes in compressed bytes; what comes out of them goes to `plain`.
    pub(super) fn add(&mut self, bytes: &[u8], plain: &mut Plain<'_, '_>) {
        if self.trouble.is_some() {
            return;
        }
        let result = match &mut self.format {
            Format::Gzip(gzip) => gzip.add(bytes, plain),
            Format::Zstd(zstd) => zstd.add(bytes, plain),
        };
        self.trouble = result.err();
    }

    /// Whether all of it was one sound stream, of which `found` bytes came out.
    pub(super) fn finish(self, found: u64, limit: u64) -> Result<Checksum, Reason> {
        let end = match self.format {
            Format::Gzip(gzip) => gzip.finish(),
            Format::Zstd(zstd) => zstd.finish(),
        };
        self.trouble.map_or(end, Err).map_err(|trouble| match trouble {
            Trouble::Broken => Reason::BrokenCompression { found },
            Trouble::BadChecksum => Reason::BadChecksum,
            Trouble::TooLarge => {
                Reason::TooLarge { found: limit.saturating_add(1), limit }
            }
        })
    }
}

/// What is unpacked at once; more would leave the fastest caches.
const UNPACKED_BYTES: usize = 32 * 1024;

/// A member's header with a longer name or comment is none.
const GZIP_HEADER_BYTES_MAX: usize = 1024;

const GZIP_TRAILER_BYTES: usize = 8;

/// One gzip member after the other.
struct Gzip {
    part: Part,
    /// Bytes of a header or trailer that is not whole yet.
    pending: Vec<u8>,
    inflate: Decompress,
    crc: Crc,
    unpacked: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Header,
    Body,
    Trailer,
    /// A member has ended; another may follow.
    Between,
}

impl Gzip {
    fn new() -> Self {
        Self {
            part: Part::Header,
            pending: Vec::new(),
            inflate: Decompress::new(false),
            crc: Crc::new(),
            unpacked: vec![0; UNPACKED_BYTES],
        }
    }

    fn add(&mut self, bytes: &[u8], plain: &mut Plain<'_, '_>) -> Result<(), Trouble> {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = match self.part {
                Part::Between => {
                    self.part = Part::Header;
                    rest
                }
                Part::Header => self.header(rest)?,
                Part::Body => self.body(rest, plain)?,
                Part::Trailer => self.trailer(rest)?,
            };
        }
        Ok(())
    }

    fn finish(self) -> Result<Checksum, Trouble> {
        if self.part == Part::Between {
            Ok(Checksum::Sound)
        } else {
            Err(Trouble::Broken)
        }
    }

    fn header<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], Trouble> {
        let before = self.pending.len();
        let room = GZIP_HEADER_BYTES_MAX.saturating_sub(before).min(bytes.len());
        self.pending.extend_from_slice(bytes.get(..room).unwrap_or_default());
        let Some(length) = gzip_header(&self.pending)? else {
            let is_full = self.pending.len() >= GZIP_HEADER_BYTES_MAX;
            return if is_full { Err(Trouble::Broken) } else { Ok(&[]) };
        };
        self.pending.clear();
        self.part = Part::Body;
        Ok(bytes.get(length.saturating_sub(before)..).unwrap_or_default())
    }

    fn body<'b>(
        &mut self,
        bytes: &'b [u8],
        plain: &mut Plain<'_, '_>,
    ) -> Result<&'b [u8], Trouble> {
        let mut rest = bytes;
        loop {
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            let flush = FlushDecompress::None;
            let result = self.inflate.decompress(rest, &mut self.unpacked, flush);
            let progress =
                |from: u64, to: u64| usize::try_from(to - from).unwrap_or(usize::MAX);
            let read = progress(read, self.inflate.total_in());
            let written = progress(written, self.inflate.total_out());
            let unpacked = self.unpacked.get(..written).unwrap_or_default();
            self.crc.update(unpacked);
            if !plain.add_unpacked(unpacked) {
                return Err(Trouble::TooLarge);
            }
            rest = rest.get(read..).unwrap_or_default();
            match result {
                Err(_) => return Err(Trouble::Broken),
                Ok(Status::StreamEnd) => {
                    self.part = Part::Trailer;
                    return Ok(rest);
                }
                // Where all output was filled, more may wait inside.
                Ok(_) if written == UNPACKED_BYTES => {}
                Ok(_) if rest.is_empty() => return Ok(rest),
                Ok(_) if read == 0 && written == 0 => return Err(Trouble::Broken),
                Ok(_) => {}
            }
        }
    }

    fn trailer<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], Trouble> {
        let missing = GZIP_TRAILER_BYTES.saturating_sub(self.pending.len());
        let (part, rest) = bytes.split_at(missing.min(bytes.len()));
        self.pending.extend_from_slice(part);
        let Ok(trailer) = <[u8; GZIP_TRAILER_BYTES]>::try_from(&*self.pending) else {
            return Ok(rest);
        };
        let expected = [self.crc.sum().to_le_bytes(), self.crc.amount().to_le_bytes()];
        if trailer != *expected.as_flattened() {
            return Err(Trouble::BadChecksum);
        }
        self.pending.clear();
        self.crc.reset();
        self.inflate.reset(false);
        self.part = Part::Between;
        Ok(rest)
    }
}

/// Length of the gzip header that `bytes` begin with; nothing if it is not whole.
fn gzip_header(bytes: &[u8]) -> Result<Option<usize>, Trouble> {
    let magic = [0x1f, 0x8b, 0x08];
    if bytes.iter().zip(&magic).any(|(byte, expected)| byte != expected) {
        return Err(Trouble::Broken);
    }
    let Some(flags) = bytes.get(3).copied() else { return Ok(None) };
    if flags & 0xe0 != 0 {
        return Err(Trouble::Broken);
    }
    let end = || {
        let mut end = 10;
        if flags & 4 != 0 {
            let length = [*bytes.get(end)?, *bytes.get(end + 1)?];
            end += 2 + usize::from(u16::from_le_bytes(length));
        }
        for flag in [8, 16] {
            if flags & flag != 0 {
                end += bytes.get(end..)?.iter().position(|byte| *byte == 0)? + 1;
            }
        }
        if flags & 2 != 0 {
            end += 2;
        }
        (bytes.len() >= end).then_some(end)
    };
    Ok(end())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::digest::{Digester, Fingerprint, FingerprintKind};
    use crate::judge::{Depth, Findings, Promise, Rungs, Scan};
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use proptest::prelude::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    const OWNER: &str = "anna@example.org";

    fn mail(lines: usize) -> Vec<u8> {
        let mut mail = b"Delivered-To: anna@example.org\nSubject: x\n\n".to_vec();
        for line in 0..lines {
            mail.extend_from_slice(
                format!("{line}: {}\n", line * line * 7919).as_bytes(),
            );
        }
        mail
    }

    fn gzip(mail: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
        encoder.write_all(mail).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(mail: &[u8]) -> Vec<u8> {
        compress_to_vec(mail, CompressionLevel::Fastest)
    }

    fn promise(mail: &[u8]) -> Promise {
        let feeds = memchr::memchr_iter(b'\n', mail).count() as u64;
        let size = mail.len() as u64;
        Promise { size: Some(size), virtual_size: Some(size + feeds) }
    }

    fn check(stored: &[u8], promise: Promise, pieces: usize) -> Findings {
        let mut scan = Scan::new(promise, OWNER, Depth::Deep);
        stored.chunks(pieces).for_each(|piece| scan.add(piece));
        scan.finish()
    }

    #[test]
    fn a_compressed_message_is_judged_by_what_it_unpacks_to() {
        let mail = mail(20_000);

        for stored in [gzip(&mail), zstd(&mail)] {
            let findings = check(&stored, promise(&mail), 5_000);

            assert_eq!(findings.fault(), None);
            assert_eq!(findings.digest, Some(Digester::of(&mail)));
            assert_eq!(findings.raw, Some(Digester::of(&stored)));
            let sizes = (findings.size, findings.raw_size);
            assert_eq!(sizes, (mail.len() as u64, stored.len() as u64));
            let words = "checksum, size, virtual size, structure, recipient";
            assert_eq!(findings.stood.to_string(), words);
        }
    }

    #[test]
    fn a_cut_stream_is_broken_wherever_it_is_cut() {
        let mail = mail(200);

        for stored in [gzip(&mail), zstd(&mail)] {
            for length in Magic::BYTES..stored.len() {
                let fault = check(&stored[..length], promise(&mail), 97).fault();
                let broken = matches!(fault, Some(Reason::BrokenCompression { .. }));
                assert!(broken, "{length} of {}: {fault:?}", stored.len());
            }
        }
    }

    #[test]
    fn a_stream_followed_by_anything_but_another_is_broken() {
        let (mail, more) = (mail(50), mail(3));
        let found = mail.len() as u64;

        for pack in [gzip, zstd] {
            let followed =
                |by: &[u8]| check(&[&pack(&mail), by].concat(), promise(&mail), 10);
            let broken = Some(Reason::BrokenCompression { found });
            assert_eq!(followed(b"x").fault(), broken);
            assert_eq!(followed(&[0; 512]).fault(), broken);
            let both = [&*mail, &*more].concat();
            assert_eq!(followed(&pack(&more)).digest, Some(Digester::of(&both)));
        }
    }

    #[test]
    fn what_unpacks_to_another_checksum_is_a_fault_of_its_own() {
        let mail = mail(50);
        let swap_end = |mut stored: Vec<u8>, from_end: usize| {
            let at = stored.len() - from_end;
            stored[at] ^= 1;
            stored
        };

        for stored in [swap_end(gzip(&mail), 8), swap_end(zstd(&mail), 1)] {
            let findings = check(&stored, promise(&mail), 100);

            assert_eq!(findings.faults, [Reason::BadChecksum]);
            assert_eq!(findings.fell, Rungs::CHECKSUM);
        }
    }

    #[test]
    fn a_bomb_is_unpacked_up_to_the_limit() {
        let zeros = vec![b'a'; 3_000_000];

        for stored in [gzip(&zeros), zstd(&zeros)] {
            let mut scan =
                Scan::new(Promise::default(), OWNER, Depth::Deep).limit(70_000);
            scan.add(&stored);
            let findings = scan.finish();

            let too_large = Reason::TooLarge { found: 70_001, limit: 70_000 };
            assert_eq!((findings.fault(), findings.size), (Some(too_large), 70_000));
        }
    }

    #[test]
    fn a_header_with_name_and_comment_is_skipped() {
        let mail = mail(5);
        let packed = gzip(&mail);
        let header = b"\x1f\x8b\x08\x1e\0\0\0\0\0\x03\x02\0ABname\0comment\0CC";
        let stored = [header, &packed[10..]].concat();

        assert_eq!(check(&stored, promise(&mail), 1).fault(), None);
        assert_eq!(check(&packed, promise(&mail), 1).fault(), None);
    }

    #[test]
    fn what_cannot_be_read_here_is_said_to_be_unsupported() {
        let xz = check(b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4\x46", Promise::default(), 100);
        let bzip2 = check(b"BZh91AY&SY rest of it", Promise::default(), 3);
        let crypt = check(b"CRYPTED\x03\x07\x02 and so on", Promise::default(), 1);
        let lz4 = check(b"Dovecot-LZ4\x0d\x2a\x9b\xc5 rest", Promise::default(), 2);

        let unknown = Some(Reason::UnknownCompression);
        assert_eq!([xz.fault(), bzip2.fault(), lz4.fault()], [unknown; 3]);
        assert_eq!(crypt.fault(), Some(Reason::Encrypted));
        assert!(crypt.is_unsupported() && xz.is_unsupported());
        assert!(
            !check(b"BZh9: a field\n\nmail", Promise::default(), 100).is_unsupported()
        );
    }

    #[test]
    fn fingerprints_of_other_makers_are_of_the_stored_and_the_plain_bytes() {
        let mail = mail(5);
        let made = |stored: &[u8], kind| {
            let mut scan =
                Scan::new(promise(&mail), OWNER, Depth::Quick).fingerprint(kind);
            scan.add(stored);
            scan.finish()
        };
        let blake3 = |bytes: &[u8]| Fingerprint::Blake3(blake3::hash(bytes).into());

        let plain = made(&mail, FingerprintKind::Blake3);
        let packed = made(&gzip(&mail), FingerprintKind::Blake3);
        let sha256 = made(b"abc", FingerprintKind::Sha256);

        assert_eq!(plain.fingerprints, [blake3(&mail)]);
        assert_eq!(packed.fingerprints, [blake3(&gzip(&mail)), blake3(&mail)]);
        assert_eq!(packed.matches(&blake3(&mail)), Some(true));
        assert_eq!(
            sha256.fingerprints[0].to_string(),
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    proptest! {
        #[test]
        fn any_stream_gives_the_same_findings_in_any_pieces(
            lines in 0..300_usize, is_gzip: bool, pieces in 1..400_usize,
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        ) {
            let mail = mail(lines);
            let mut stored = if is_gzip { gzip(&mail) } else { zstd(&mail) };
            for (at, with) in damage {
                let at = at.index(stored.len());
                stored[at] = with;
            }

            let whole = check(&stored, promise(&mail), stored.len());
            prop_assert_eq!(check(&stored, promise(&mail), pieces), whole);
        }

        #[test]
        fn any_bytes_can_be_unpacked(is_gzip: bool, mut bytes: Vec<u8>) {
            let magic: &[u8] = if is_gzip { b"\x1f\x8b\x08" } else { b"\x28\xb5\x2f\xfd" };
            bytes.splice(0..0, magic.iter().copied());
            prop_assert_ne!(check(&bytes, Promise::default(), 50).faults, []);
        }
    }
}
