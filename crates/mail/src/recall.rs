//! Recall: what the mail server's caches still know of messages that are not served.
//!
//! # Invariants
//!
//! * Only findings are told of it; nothing is decided by it.
//! * What contradicts the finding is not said of it.

use crate::finding::Finding;
use crate::index::Index;
use crate::index::cache::{Cache, Cached};
use crate::walk::escape;

/// A larger cache is of a folder with a million messages; subjects are not worth that much memory.
pub(crate) const CACHE_BYTES_MAX: u64 = 128 * 1024 * 1024;

/// An index and its cache.
pub(crate) struct Memory<'a> {
    index: &'a Index,
    cache: Cache<'a>,
}

impl<'a> Memory<'a> {
    /// Nothing if the cache cannot be read or belongs to another index.
    pub(crate) fn new(index: &'a Index, cache: &'a [u8]) -> Option<Self> {
        let cache = Cache::parse(cache).filter(|cache| cache.belongs_to(index))?;
        Some(Self { index, cache })
    }

    /// Adds what is known of the message that the finding has the UID of.
    pub(crate) fn tell(&self, finding: &mut Finding) {
        let known = finding.uid.and_then(|uid| self.of(uid));
        let same = |known: &Cached| match &known.guid {
            Some(guid) => escape(guid) == finding.name,
            None => true,
        };
        let Some(known) = known.filter(same) else { return };
        let received = known.received.or(known.saved).map(u64::from);
        finding.received = finding.received.or(received);
        finding.size_bytes = finding.size_bytes.or(known.size);
        if finding.subject.is_none() {
            finding.subject = known.subject.map(|subject| text(&subject));
        }
    }

    fn of(&self, uid: u32) -> Option<Cached> {
        self.cache.fields(self.index.get(uid)?.cache_offset?)
    }
}

/// A subject as the message has it: bytes that are not text are shown as such.
fn text(subject: &[u8]) -> String {
    let text = String::from_utf8_lossy(subject);
    text.chars().filter(|letter| !letter.is_control()).collect()
}
