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

/// An index and its cache.
#[derive(Debug)]
pub(crate) struct Memory {
    index: Index,
    cache: Vec<u8>,
}

impl Memory {
    /// Nothing if the cache cannot be read or belongs to another index.
    pub(crate) fn new(index: Index, cache: Vec<u8>) -> Option<Self> {
        let fits = Cache::parse(&cache)?.belongs_to(&index);
        fits.then_some(Self { index, cache })
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
        Cache::parse(&self.cache)?.fields(self.index.get(uid)?.cache_offset?)
    }
}

/// A subject as the message has it: bytes that are not text are shown as such.
fn text(subject: &[u8]) -> String {
    let text = String::from_utf8_lossy(subject);
    text.chars().filter(|letter| !letter.is_control()).collect()
}
