//! Text: the plain message, piece by piece.
//!
//! # Invariants
//!
//! * Memory does not grow with the message, but with its header up to a limit.

use crate::digest::{Digest, Digester};
use crate::judge::count::Count;
use crate::judge::dkim::Seals;
use crate::judge::head::{Head, Header, fields};
use crate::judge::shape::Shape;
use crate::judge::{Depth, Findings, Promise};
use crate::reason::Reason;

/// Bytes that go through every count while they are in the fastest cache.
const STRIDE_BYTES: usize = 16 * 1024;

/// A plain message that is being judged.
pub(super) struct Text<'a> {
    promise: Promise,
    owner: &'a str,
    /// Of what came in pieces.
    hasher: Option<Digester>,
    count: Count,
    header: Header<'a>,
    depth: Depth,
    /// What is looked at deeply, once the header is whole.
    body: Option<Body>,
}

struct Body {
    seals: Seals,
    shape: Shape,
}

impl<'a> Text<'a> {
    /// Nothing read yet.
    pub(super) fn new(promise: Promise, owner: &'a str, depth: Depth) -> Self {
        let leaves_out_feeds = depth == Depth::Glance;
        let virtual_size = promise.virtual_size.filter(|_| !leaves_out_feeds);
        Self {
            promise: Promise { virtual_size, ..promise },
            owner,
            hasher: None,
            count: Count::new(leaves_out_feeds),
            header: Header::default(),
            depth,
            body: None,
        }
    }

    /// Takes in the next bytes.
    pub(super) fn add(&mut self, chunk: &[u8]) {
        self.look(chunk);
        let hasher = self.hasher.get_or_insert_default();
        for stride in chunk.chunks(STRIDE_BYTES) {
            hasher.update(stride);
            self.count.add(stride);
        }
    }

    /// Looks at header and structure.
    fn look(&mut self, chunk: &[u8]) {
        let mut body = chunk;
        if !self.header.is_done() {
            body = self.header.add(chunk);
            self.begin_body();
        }
        self.look_into(body);
    }

    /// Begins to look deeply, if that is wished, once the header is whole.
    fn begin_body(&mut self) {
        if self.header.ended && self.depth == Depth::Deep {
            let header = &*self.header.bytes;
            let (seals, shape) = (Seals::of(header), Shape::of(header));
            self.body = Some(Body { seals, shape });
        }
    }

    fn look_into(&mut self, more: &[u8]) {
        if let Some(Body { seals, shape }) = &mut self.body {
            seals.add(more);
            shape.add(more);
        }
    }

    /// Bytes taken in.
    pub(super) fn size(&self) -> u64 {
        self.count.size
    }

    /// What all bytes together show.
    pub(super) fn finish(self) -> Findings {
        let digest = self.hasher.as_ref().map(Digester::finish);
        let digest = digest.unwrap_or_else(|| Digester::of(b""));
        self.conclude(digest)
    }

    /// What `bytes` show, which are all there are. Most mail is read in one piece, and a digest of that
    /// needs no state of its own.
    pub(super) fn whole(self, bytes: &[u8]) -> Findings {
        debug_assert_eq!(self.count, Count::new(self.depth == Depth::Glance));
        let (header, body) = Header::of(bytes);
        let mut text = Text { header, ..self };
        text.begin_body();
        text.look_into(body);
        text.count.add(bytes);
        text.conclude(Digester::of(bytes))
    }

    fn conclude(mut self, digest: Digest) -> Findings {
        self.count.finish();
        let head = Head::read(&self.header, self.owner);
        let mut findings = weigh(&self.count, &head, self.promise);
        if let Some(Body { seals, shape }) = self.body {
            findings.seals = seals.finish();
            findings.message_id = message_id(&self.header.bytes);
            findings.oddities += shape.oddities();
        }
        findings.climb(self.promise, head.ours);
        (findings.stranger, findings.header) = (head.stranger, head.digest);
        findings.digest = Some(digest);
        findings
    }
}

/// Digest of the first `Message-ID`.
fn message_id(header: &[u8]) -> Option<Digest> {
    let mut fields = fields(header);
    let id = fields.find(|(name, _)| name.eq_ignore_ascii_case(b"message-id"))?.1;
    Some(Digester::of(id.trim_ascii()))
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
    let virtual_size = count.virtual_size();
    if let Some(expected) = promise.virtual_size.filter(|it| *it != virtual_size) {
        faults.push(Reason::WrongVirtualSize { expected, found: virtual_size });
    }
    if head.binary {
        faults.push(Reason::NoHeader);
    }
    let odd = [!head.begins, !head.ends, count.longest_run.1 > 0];
    let oddities = odd.into_iter().map(u32::from).sum();
    Findings { size: found, virtual_size, faults, oddities, ..Findings::default() }
}
