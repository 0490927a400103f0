//! Scan: one message, piece by piece, without touching a disk.
//!
//! # Invariants
//!
//! * Whoever has the bytes can judge them: nothing here reads or waits, and memory does not grow
//!   with the message.
//! * Findings do not depend on the pieces in which the bytes came.
//! * A compressed message is judged by what it unpacks to, up to a limit.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use crate::digest::{Digester, Fingerprint, FingerprintKind};
use crate::judge::packed::{Checksum, Magic, Unpacker};
use crate::judge::text::Text;
use crate::judge::{Depth, Findings, Promise, Rungs, fill};
use crate::reason::Reason;

/// A message that is being judged.
pub(crate) struct Scan<'a> {
    stored: Stored,
    text: Text<'a>,
    /// Plain bytes that are looked at, at most.
    limit: u64,
    /// Fingerprints asked for: of the stored bytes, and of the plain ones.
    others: Option<(Other, Other)>,
}

/// How the message is stored.
enum Stored {
    /// Not enough bytes to tell.
    Unknown(Vec<u8>),
    Plain,
    Packed(Raw, Unpacker),
    /// In a way that cannot be read here.
    Opaque(Raw, Reason),
}

/// Bytes as they are stored, where they are not the message.
#[derive(Default)]
struct Raw {
    hasher: Digester,
    size: u64,
}

impl<'a> Scan<'a> {
    /// Nothing read yet.
    pub(crate) fn new(promise: Promise, owner: &'a str, depth: Depth) -> Self {
        Self {
            stored: Stored::Unknown(Vec::new()),
            text: Text::new(promise, owner, depth),
            limit: u64::MAX,
            others: None,
        }
    }

    /// Unpacks no more than `limit` bytes: a compressed file may hold a thousand times its size.
    pub(crate) fn limit(self, limit: u64) -> Self {
        Self { limit, ..self }
    }

    /// Makes the fingerprint that another maker's manifest has, too.
    pub(crate) fn fingerprint(self, kind: FingerprintKind) -> Self {
        Self { others: Other::new(kind).zip(Other::new(kind)), ..self }
    }

    /// Reads `source` to its end.
    pub(crate) fn read(
        mut self,
        source: &mut impl Read,
        buffer: &mut [u8],
    ) -> io::Result<Findings> {
        loop {
            let length = fill(source, buffer)?;
            self.add(buffer.get(..length).unwrap_or_default());
            if length < buffer.len() {
                return Ok(self.finish());
            }
        }
    }

    /// Takes in the next bytes as they are stored.
    pub(crate) fn add(&mut self, chunk: &[u8]) {
        if let Stored::Unknown(first) = &mut self.stored {
            if first.is_empty() && chunk.len() >= Magic::BYTES {
                self.begin(chunk);
            } else {
                first.extend_from_slice(chunk);
                if first.len() < Magic::BYTES {
                    return;
                }
                let first = std::mem::take(first);
                self.begin(&first);
                return self.take(&first);
            }
        }
        self.take(chunk);
    }

    /// What all bytes together show.
    pub(crate) fn finish(mut self) -> Findings {
        if let Stored::Unknown(first) = &mut self.stored {
            let first = std::mem::take(first);
            self.begin(&first);
            self.take(&first);
        }
        let fingerprints = self.others.map(|(raw, plain)| [raw.finish(), plain.finish()]);
        let mut findings = self.text.finish();
        match self.stored {
            Stored::Unknown(_) | Stored::Plain => {
                findings.raw = findings.digest;
                findings.raw_size = findings.size;
            }
            Stored::Packed(raw, unpacker) => {
                let end = unpacker.finish(findings.size, self.limit);
                findings.raw = Some(raw.hasher.finish());
                findings.raw_size = raw.size;
                findings.stood |= Rungs::CHECKSUM.when(end == Ok(Checksum::Sound));
                findings.fell |= Rungs::CHECKSUM.when(end == Err(Reason::BadChecksum));
                findings.faults.splice(0..0, end.err());
            }
            Stored::Opaque(raw, reason) => {
                findings = Findings::unread(reason);
                findings.digest = Some(raw.hasher.finish());
                findings.raw = findings.digest;
                (findings.size, findings.raw_size) = (raw.size, raw.size);
            }
        }
        let mut fingerprints: Vec<Fingerprint> =
            fingerprints.into_iter().flatten().collect();
        fingerprints.dedup();
        Findings { fingerprints, ..findings }
    }

    /// What `bytes` show, which are all there are; nothing was taken in before.
    pub(crate) fn whole(mut self, bytes: &[u8]) -> Findings {
        if self.others.is_some() || Magic::of(bytes).is_some() {
            self.add(bytes);
            return self.finish();
        }
        let mut findings = self.text.whole(bytes);
        findings.raw = findings.digest;
        findings.raw_size = findings.size;
        findings
    }

    fn begin(&mut self, first: &[u8]) {
        let raw = Raw::default();
        self.stored = match Magic::of(first) {
            None => Stored::Plain,
            Some(Magic::Gzip) => Stored::Packed(raw, Unpacker::gzip()),
            Some(Magic::Zstd) => Stored::Packed(raw, Unpacker::zstd()),
            Some(Magic::Unknown) => Stored::Opaque(raw, Reason::UnknownCompression),
            Some(Magic::Encrypted) => Stored::Opaque(raw, Reason::Encrypted),
        };
    }

    fn take(&mut self, chunk: &[u8]) {
        if let Some((raw, _)) = &mut self.others {
            raw.update(chunk);
        }
        let mut plain = Plain {
            text: &mut self.text,
            other: self.others.as_mut().map(|(_, plain)| plain),
            limit: self.limit,
        };
        match &mut self.stored {
            Stored::Unknown(_) | Stored::Plain => plain.add(chunk),
            Stored::Packed(raw, unpacker) => {
                raw.add(chunk);
                unpacker.add(chunk, &mut plain);
            }
            Stored::Opaque(raw, _) => raw.add(chunk),
        }
    }
}

impl Raw {
    fn add(&mut self, chunk: &[u8]) {
        self.hasher.update(chunk);
        self.size += chunk.len() as u64;
    }
}

/// Where plain bytes go.
pub(super) struct Plain<'s, 'a> {
    text: &'s mut Text<'a>,
    other: Option<&'s mut Other>,
    limit: u64,
}

impl Plain<'_, '_> {
    /// Takes in plain bytes that were stored so.
    fn add(&mut self, bytes: &[u8]) {
        self.text.add(bytes);
        if let Some(other) = &mut self.other {
            other.update(bytes);
        }
    }

    /// Takes in unpacked bytes up to the limit; whether all had room.
    pub(super) fn add_unpacked(&mut self, bytes: &[u8]) -> bool {
        let room = usize::try_from(self.limit - self.text.size()).unwrap_or(usize::MAX);
        match bytes.get(..room) {
            Some(fitting) if room < bytes.len() => {
                self.add(fitting);
                false
            }
            Some(_) | None => {
                self.add(bytes);
                true
            }
        }
    }
}

/// A fingerprint in the making.
enum Other {
    Sha256(Box<Sha256>),
    Blake3(Box<blake3::Hasher>),
}

impl Other {
    /// Nothing for our own, which is always made.
    fn new(kind: FingerprintKind) -> Option<Self> {
        match kind {
            FingerprintKind::Xxh3 => None,
            FingerprintKind::Sha256 => Some(Self::Sha256(Box::default())),
            FingerprintKind::Blake3 => Some(Self::Blake3(Box::default())),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Blake3(hasher) => {
                hasher.update(bytes);
            }
        }
    }

    fn finish(self) -> Fingerprint {
        match self {
            Self::Sha256(hasher) => Fingerprint::Sha256(hasher.finalize().into()),
            Self::Blake3(hasher) => Fingerprint::Blake3(hasher.finalize().into()),
        }
    }
}
