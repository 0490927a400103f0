//! Zstd: one Zstandard frame after the other, block by block.
//!
//! # Invariants
//!
//! * A block is unpacked when all of it is there, so that what comes out does not depend on the
//!   pieces in which it came.

use std::io::{self, Write};

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use crate::judge::packed::{Checksum, Trouble};
use crate::judge::scan::Plain;

/// The window up to which `zstd` itself unpacks unless told otherwise.
const WINDOW_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// No block is larger (RFC 8878 3.1.1.2).
const BLOCK_BYTES_MAX: usize = 128 * 1024;

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Frames on their way in.
pub(super) struct Zstd {
    part: Part,
    /// Bytes that are not a whole header or block yet.
    pending: Vec<u8>,
    decoder: FrameDecoder,
    /// Every frame had a checksum so far.
    checked: bool,
    /// Bytes that came out of this frame.
    unpacked: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Header,
    Blocks {
        checked: bool,
    },
    /// A frame has ended; another may follow.
    Between,
}

impl Zstd {
    pub(super) fn new() -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(WINDOW_BYTES_MAX);
        let (part, pending) = (Part::Header, Vec::new());
        Self { part, pending, decoder, checked: true, unpacked: 0 }
    }

    /// Takes in compressed bytes; what comes out of them goes to `plain`.
    pub(super) fn add(
        &mut self,
        bytes: &[u8],
        plain: &mut Plain<'_, '_>,
    ) -> Result<(), Trouble> {
        let mut pending = std::mem::take(&mut self.pending);
        pending.extend_from_slice(bytes);
        let mut rest = &*pending;
        while !rest.is_empty() {
            let taken = match self.part {
                Part::Between => {
                    self.part = Part::Header;
                    Some(0)
                }
                Part::Header => self.header(rest)?,
                Part::Blocks { checked } => self.block(rest, checked, plain)?,
            };
            match taken {
                Some(taken) => rest = rest.get(taken..).unwrap_or_default(),
                None => break,
            }
        }
        let taken = pending.len() - rest.len();
        pending.drain(..taken);
        self.pending = pending;
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Checksum, Trouble> {
        match self.part {
            Part::Between if self.checked => Ok(Checksum::Sound),
            Part::Between => Ok(Checksum::Absent),
            Part::Header | Part::Blocks { .. } => Err(Trouble::Broken),
        }
    }

    /// Length of the frame header; nothing if it is not whole.
    fn header(&mut self, bytes: &[u8]) -> Result<Option<usize>, Trouble> {
        if bytes.iter().zip(&MAGIC).any(|(byte, expected)| byte != expected) {
            return Err(Trouble::Broken);
        }
        let Some(descriptor) = bytes.get(4).copied() else { return Ok(None) };
        let single = descriptor & 0x20 != 0;
        let dictionary = [0, 1, 2, 4].get(usize::from(descriptor & 3)).unwrap_or(&0);
        let size = match descriptor >> 6 {
            0 => usize::from(single),
            flag => 1 << flag,
        };
        let length = 5 + usize::from(!single) + dictionary + size;
        let Some(header) = bytes.get(..length) else { return Ok(None) };
        self.decoder.reset(header).map_err(|_| Trouble::Broken)?;
        let checked = descriptor & 4 != 0;
        self.checked &= checked;
        self.unpacked = 0;
        self.part = Part::Blocks { checked };
        Ok(Some(length))
    }

    /// Length of the block; nothing if it is not whole.
    fn block(
        &mut self,
        bytes: &[u8],
        checked: bool,
        plain: &mut Plain<'_, '_>,
    ) -> Result<Option<usize>, Trouble> {
        let [low, middle, high, ..] = *bytes else { return Ok(None) };
        let header = u32::from_le_bytes([low, middle, high, 0]);
        let (last, kind) = (header & 1 != 0, (header >> 1) & 3);
        let size = usize::try_from(header >> 3).unwrap_or(usize::MAX);
        if kind == 3 || size > BLOCK_BYTES_MAX {
            return Err(Trouble::Broken);
        }
        let content = if kind == 1 { 1 } else { size };
        let length = 3 + content + if last && checked { 4 } else { 0 };
        let Some(block) = bytes.get(..length) else { return Ok(None) };
        let one = BlockDecodingStrategy::UptoBlocks(1);
        self.decoder.decode_blocks(block, one).map_err(|_| Trouble::Broken)?;
        let mut counted = Counted { plain, count: 0 };
        let collected = self.decoder.collect_to_writer(&mut counted);
        self.unpacked += counted.count;
        collected.map_err(|_| Trouble::TooLarge)?;
        if last {
            self.end()?;
        }
        Ok(Some(length))
    }

    fn end(&mut self) -> Result<(), Trouble> {
        let size = self.decoder.content_size();
        if size != 0 && size != self.unpacked {
            return Err(Trouble::Broken);
        }
        let stored = self.decoder.get_checksum_from_data();
        if stored.is_some() && stored != self.decoder.get_calculated_checksum() {
            return Err(Trouble::BadChecksum);
        }
        self.part = Part::Between;
        Ok(())
    }
}

struct Counted<'p, 's, 'a> {
    plain: &'p mut Plain<'s, 'a>,
    count: u64,
}

impl Write for Counted<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.plain.add_unpacked(bytes) {
            return Err(io::Error::other("more comes out than is allowed"));
        }
        self.count += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
