//! Many texts in one piece of memory, four bytes each beside their own.

/// Texts by number.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Texts {
    arena: String,
    ends: Vec<u32>,
}

impl Texts {
    /// What all texts may have together: ends have 32 bits.
    pub(super) const BYTES_MAX: usize = 0xffff_ffff;

    pub(super) fn with_capacity(bytes: usize, texts: usize) -> Self {
        Self { arena: String::with_capacity(bytes), ends: Vec::with_capacity(texts) }
    }

    /// The texts of `arena` that end at `ends`, if these are the ends of texts.
    pub(super) fn of(arena: String, ends: Vec<u32>) -> Option<Self> {
        let whole = ends.last().map_or(0, |end| super::index(*end)) == arena.len();
        let each = ends.is_sorted()
            && ends.iter().all(|end| arena.is_char_boundary(super::index(*end)));
        (whole && each).then_some(Self { arena, ends })
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// How many bytes all of them have.
    pub(super) fn bytes(&self) -> usize {
        self.arena.len()
    }

    /// All of them, one after the other.
    pub(super) fn arena(&self) -> &str {
        &self.arena
    }

    /// Where each ends.
    pub(super) fn ends(&self) -> &[u32] {
        &self.ends
    }

    pub(super) fn push(&mut self, text: &str) {
        self.arena.push_str(text);
        self.ends.push(u32::try_from(self.arena.len()).unwrap_or(u32::MAX));
    }

    /// The text with this number; empty for a number there is not.
    pub(super) fn get(&self, place: usize) -> &str {
        let end = |place: usize| self.ends.get(place).map_or(0, |end| super::index(*end));
        let start = place.checked_sub(1).map_or(0, end);
        self.arena.get(start..end(place)).unwrap_or_default()
    }
}
