//! Base: the state that `dovecot.index` holds; the log goes on from it.
//!
//! # Invariants
//!
//! * It is read whole or not at all; only keywords may be unreadable by themselves.

use super::state::{
    Extension, HEAD_BYTES, KEYWORDS, KEYWORDS_MAX, Mail, State, UIDS_MAX,
};
use super::words::{half, size, word};

/// The format that indexes have had since Dovecot 1.1; another one is not judged.
pub(super) const MAJOR: u8 = 7;

/// Dovecot has marked it as not to be used.
const CORRUPTED: u32 = 1;

/// Bytes of an extension's words before its name.
const EXTENSION_BYTES: usize = 16;

/// No client gives a keyword so long a name; without a bound, many names could be one long text.
const KEYWORD_BYTES_MAX: usize = 4096;

/// An index file.
pub(super) struct Base {
    pub(super) index_id: u32,
    /// The log that goes on from it, and where.
    pub(super) log_sequence: u32,
    pub(super) log_offset: usize,
    pub(super) state: State,
}

impl Base {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (head_size, record_size) = (size(bytes, 4)?, size(bytes, 8)?);
        let count = size(bytes, 32)?;
        let index_id = word(bytes, 16).filter(|id| *id != 0)?;
        let head = bytes.get(..head_size)?;
        if word(bytes, 20)? & CORRUPTED != 0 {
            return None;
        }
        if head_size < HEAD_BYTES || record_size < 5 || count > UIDS_MAX {
            return None;
        }
        let mut state = State::new();
        state.head = head.get(..HEAD_BYTES)?.try_into().ok()?;
        let layout = Layout::read(head, &mut state);
        state.words = layout.as_ref().and_then(|it| it.words.clone());
        let layout = layout.unwrap_or_default();
        for record in bytes.get(head_size..)?.chunks_exact(record_size).take(count) {
            let mut mail = Mail { flags: *record.get(4)?, ..Mail::default() };
            layout.fill(&mut mail, record, &state.extensions);
            // UIDs rise from 1, and behind each one is a next.
            let (uid, last) = (word(record, 0)?, state.mails.last_key_value());
            if uid == u32::MAX || uid <= last.map_or(0, |(last, _)| *last) {
                return None;
            }
            state.mails.insert(uid, mail);
        }
        (state.mails.len() == count).then_some(())?;
        Some(Self {
            index_id,
            log_sequence: word(bytes, 60)?,
            log_offset: size(bytes, 68)?,
            state,
        })
    }
}

/// Where records have what extensions hold.
#[derive(Default)]
struct Layout {
    /// Place and size, in the order of the extensions.
    places: Vec<(usize, usize)>,
    /// Where bits of keywords are, and their names.
    bits: usize,
    words: Option<Vec<Vec<u8>>>,
}

impl Layout {
    /// Reads the extensions behind the head; nothing if they cannot be read, but then those before
    /// still count.
    fn read(head: &[u8], state: &mut State) -> Option<Self> {
        let mut layout = Self { words: Some(Vec::new()), ..Self::default() };
        let mut at = usize::from(half(head, 2)?).next_multiple_of(8);
        while at < head.len() {
            let head_size = size(head, at)?;
            let place = |from| half(head, at + from).map(usize::from);
            let (offset, record_size, name_size) = (place(8)?, place(10)?, place(14)?);
            let from = at + EXTENSION_BYTES;
            let name = head.get(from..from + name_size)?;
            let from = (from + name_size).next_multiple_of(8);
            let data = head.get(from..from.checked_add(head_size)?)?;
            let reset_id = word(head, at + 4)?;
            if name == KEYWORDS {
                layout.bits = offset;
                layout.words = keyword_names(data);
            }
            let extension =
                Extension { reset_id, head: data.to_vec(), ..Extension::new(name) };
            state.add_extension(extension)?;
            layout.places.push((offset, record_size));
            at = (from + head_size).checked_next_multiple_of(8)?;
        }
        Some(layout)
    }

    fn fill(&self, mail: &mut Mail, record: &[u8], extensions: &[Extension]) {
        for ((offset, size), extension) in self.places.iter().zip(extensions) {
            let data = record.get(*offset..offset + size);
            if let Some((slot, data)) = extension.slot.zip(data) {
                mail.set(slot, data);
            }
        }
        let count = self.words.as_ref().map_or(0, Vec::len);
        let is_set = |number: &u16| {
            let byte = record.get(self.bits + usize::from(number / 8));
            byte.is_some_and(|byte| byte >> (number % 8) & 1 == 1)
        };
        let numbers = 0..u16::try_from(count).unwrap_or(u16::MAX);
        mail.words = numbers.filter(is_set).collect();
    }
}

/// A count, as many pairs of something unused and a name's place, then names that end in zeros.
fn keyword_names(data: &[u8]) -> Option<Vec<Vec<u8>>> {
    if data.is_empty() {
        return Some(Vec::new());
    }
    let count = size(data, 0).filter(|count| *count <= KEYWORDS_MAX)?;
    let places = data.get(4..count.checked_mul(8)?.checked_add(4)?)?;
    let text = data.get(4 + places.len()..)?;
    let name = |place: &[u8]| {
        let name = text.get(size(place, 4)?..)?.split(|byte| *byte == 0).next()?;
        // Dovecot refuses a log that speaks of a keyword without a name.
        (1..=KEYWORD_BYTES_MAX).contains(&name.len()).then(|| name.to_vec())
    };
    places.chunks_exact(8).map(name).collect()
}
