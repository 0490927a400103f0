//! What is held of one mailbox, and of all mailboxes of a job close together: a node has a million
//! of them.
//!
//! ```text
//! about   48 bits since │ stamped read refused dial dial served │ state (8 bits)
//! found   nothing 0 │ perfect: messages (23 bits), bytes read (40 bits), one more │ elsewhere
//! ```
//!
//! # Invariants
//!
//! * What is put in comes out again, whichever way it is kept.
//! * Stamps take memory only while some mailbox of the job has one: none that is open does.

use std::collections::BTreeMap;

use super::{Dial, Found, Stamp};
use crate::fleet::Ordinal;
use crate::mailbox::MailboxState;
use crate::rollout::{Finding, MessageTotals};
use crate::time::Timestamp;

/// One mailbox, but for what was found of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct HeldMailbox {
    pub(super) state: MailboxState,
    /// The stamp it was last verified at; kept across generations for a cheap re-check. One that
    /// is open has none: before it is looked at again it is closed, and then verified anew.
    pub(super) stamp: Option<Stamp>,
    /// Whether it has ever been open since its first verification.
    pub(super) served: bool,
    pub(super) dial: Dial,
    /// The store will not have an empty mailbox here; since it started.
    pub(super) dial_refused: bool,
    /// When it was last read on its level; while it is unproven, since when it has stood there. As
    /// far as this program has seen.
    pub(super) since: Timestamp,
    /// Whether it was read on its level.
    pub(super) was_read: bool,
}

/// All mailboxes of a job.
#[derive(Clone, Debug, Default)]
pub(super) struct Mailboxes {
    rows: Box<[Row]>,
    /// As long as the rows, or empty as long as none has a stamp.
    stamps: Box<[Stamp]>,
    stamped: usize,
    /// What was found where that does not fit a row.
    elsewhere: BTreeMap<Ordinal, Found>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Row {
    about: u64,
    found: u64,
}

const STATE_BITS: u32 = 8;
const SERVED: u64 = 1 << STATE_BITS;
const DIAL_SHIFT: u32 = STATE_BITS + 1;
const DIAL_MASK: u64 = 0b11;
const REFUSED: u64 = 1 << (STATE_BITS + 3);
const READ: u64 = 1 << (STATE_BITS + 4);
const STAMPED: u64 = 1 << (STATE_BITS + 5);
/// Milliseconds of nine thousand years.
const SINCE_SHIFT: u32 = 16;

/// Bytes read that fit a row: a terabyte.
const BYTES_READ_BITS: u32 = 40;
/// Messages that fit a row: eight millions.
const MESSAGES_BITS: u32 = 23;

/// What was found is not in the row.
const ELSEWHERE: u64 = u64::MAX;

impl Mailboxes {
    /// So many of which nothing is known.
    pub(super) fn new(count: usize) -> Self {
        Self { rows: vec![Row::default(); count].into(), ..Self::default() }
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// One of them.
    pub(super) fn get(&self, ordinal: Ordinal) -> Option<HeldMailbox> {
        let row = self.rows.get(ordinal.index())?;
        Some(self.unpack(ordinal, *row))
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Ordinal, HeldMailbox)> + '_ {
        let rows = (0..).map(Ordinal::new).zip(&self.rows);
        rows.map(|(ordinal, row)| (ordinal, self.unpack(ordinal, *row)))
    }

    /// Replaces one of them.
    pub(super) fn set(&mut self, ordinal: Ordinal, mailbox: HeldMailbox) {
        let all = self.rows.len();
        let Some(row) = self.rows.get_mut(ordinal.index()) else { return };
        let was_stamped = row.about & STAMPED != 0;
        row.about = mailbox.pack();
        if let Some(stamp) = mailbox.stamp {
            if self.stamps.is_empty() {
                self.stamps = vec![Stamp::default(); all].into();
            }
            if let Some(place) = self.stamps.get_mut(ordinal.index()) {
                *place = stamp;
            }
        }
        self.stamped += usize::from(mailbox.stamp.is_some());
        self.stamped -= usize::from(was_stamped);
        if self.stamped == 0 {
            self.stamps = Box::default();
        }
    }

    /// Changes each of them.
    pub(super) fn each(&mut self, change: impl Fn(&mut HeldMailbox)) {
        for ordinal in (0..).map(Ordinal::new).take(self.len()) {
            let Some(mut mailbox) = self.get(ordinal) else { continue };
            change(&mut mailbox);
            self.set(ordinal, mailbox);
        }
    }

    /// What was found of one.
    pub(super) fn found(&self, ordinal: Ordinal) -> Found {
        match self.rows.get(ordinal.index()).map_or(0, |row| row.found) {
            ELSEWHERE => self.elsewhere.get(&ordinal).cloned().unwrap_or_default(),
            packed => unpack_found(packed),
        }
    }

    /// The messages of one.
    pub(super) fn totals(&self, ordinal: Ordinal) -> MessageTotals {
        match self.rows.get(ordinal.index()).map_or(0, |row| row.found) {
            ELSEWHERE => self.elsewhere.get(&ordinal).map(Found::totals),
            packed => Some(unpack_found(packed).totals()),
        }
        .unwrap_or_default()
    }

    /// What a person should know of one.
    pub(super) fn findings(&self, ordinal: Ordinal) -> &[Finding] {
        // Hardly any has some.
        if self.elsewhere.is_empty() {
            return &[];
        }
        self.elsewhere.get(&ordinal).map_or(&[], Found::findings)
    }

    /// Replaces what was found of one.
    pub(super) fn set_found(&mut self, ordinal: Ordinal, found: Found) {
        let Some(row) = self.rows.get_mut(ordinal.index()) else { return };
        let packed = pack_found(&found);
        if packed == ELSEWHERE {
            self.elsewhere.insert(ordinal, found);
        } else if row.found == ELSEWHERE {
            self.elsewhere.remove(&ordinal);
        }
        row.found = packed;
    }

    fn unpack(&self, ordinal: Ordinal, Row { about, .. }: Row) -> HeldMailbox {
        let [state, ..] = about.to_le_bytes();
        let stamp = || self.stamps.get(ordinal.index()).copied();
        HeldMailbox {
            state: MailboxState::of_packed(state),
            stamp: if about & STAMPED == 0 { None } else { stamp() },
            served: about & SERVED != 0,
            dial: match about >> DIAL_SHIFT & DIAL_MASK {
                0 => Dial::None,
                1 => Dial::Off,
                _ => Dial::On,
            },
            dial_refused: about & REFUSED != 0,
            since: Timestamp::from_millis(about >> SINCE_SHIFT),
            was_read: about & READ != 0,
        }
    }
}

impl HeldMailbox {
    /// All but the stamp.
    fn pack(self) -> u64 {
        let mark = |is: bool, bit: u64| if is { bit } else { 0 };
        let dial = match self.dial {
            Dial::None => 0,
            Dial::Off => 1,
            Dial::On => 2,
        };
        u64::from(self.state.pack())
            | mark(self.served, SERVED)
            | dial << DIAL_SHIFT
            | mark(self.dial_refused, REFUSED)
            | mark(self.was_read, READ)
            | mark(self.stamp.is_some(), STAMPED)
            | self.since.millis() << SINCE_SHIFT
    }
}

fn pack_found(found: &Found) -> u64 {
    match found {
        Found::Nothing => 0,
        Found::Perfect { messages, bytes_read }
            if messages >> MESSAGES_BITS == 0 && bytes_read >> BYTES_READ_BITS == 0 =>
        {
            (u64::from(*messages) << BYTES_READ_BITS | bytes_read) + 1
        }
        Found::Perfect { .. } | Found::More(_) => ELSEWHERE,
    }
}

/// What was packed into a row.
fn unpack_found(packed: u64) -> Found {
    let Some(perfect) = packed.checked_sub(1) else { return Found::Nothing };
    let messages = u32::try_from(perfect >> BYTES_READ_BITS).unwrap_or(u32::MAX);
    Found::Perfect { messages, bytes_read: perfect & ((1 << BYTES_READ_BITS) - 1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::{Health, Level, Preparation};
    use crate::rollout::{Grade, Grades};

    #[test]
    fn what_is_put_in_comes_out_again() {
        let open = MailboxState {
            preparation: Preparation::Prepared,
            level: Level::MAX,
            health: Health::IntegrityFailed,
            dial_tone: false,
        };
        let quarantined =
            MailboxState { preparation: Preparation::Quarantined, ..MailboxState::HELD };
        let all = [MailboxState::HELD, quarantined, open].into_iter().flat_map(|state| {
            [Dial::None, Dial::Off, Dial::On].into_iter().flat_map(move |dial| {
                (0_u8..16).map(move |bits| HeldMailbox {
                    state,
                    stamp: (bits & 1 != 0).then_some([bits; 16]),
                    served: bits & 2 != 0,
                    dial,
                    dial_refused: bits & 4 != 0,
                    since: Timestamp::from_millis(1_769_436_840_123),
                    was_read: bits & 8 != 0,
                })
            })
        });
        let all: Vec<HeldMailbox> = all.collect();

        let mut kept = Mailboxes::new(all.len());
        for (ordinal, mailbox) in (0..).map(Ordinal::new).zip(&all) {
            kept.set(ordinal, *mailbox);
        }

        assert!(kept.iter().map(|(_, mailbox)| mailbox).eq(all));
        assert_eq!(kept.get(Ordinal::new(1_000)), None);
        kept.each(|mailbox| mailbox.stamp = None);
        assert_eq!((kept.stamps.len(), kept.stamped), (0, 0));
    }

    #[test]
    fn what_was_found_comes_out_again_however_much_it_is() {
        let perfect = |messages: u64, bytes_read: u64| {
            let grades = Grades::one(Grade::Perfect);
            let totals = MessageTotals {
                intact: messages,
                bytes_read,
                grades,
                ..MessageTotals::default()
            };
            Found::of(totals, Vec::new())
        };
        let mut repaired = perfect(1, 1).totals();
        repaired.repaired = 1;
        let all = [
            Found::Nothing,
            perfect(0, 0),
            perfect((1 << MESSAGES_BITS) - 1, (1 << BYTES_READ_BITS) - 1),
            perfect(1 << MESSAGES_BITS, 0),
            perfect(0, 1 << BYTES_READ_BITS),
            perfect(u64::from(u32::MAX), u64::MAX),
            Found::of(repaired, Vec::new()),
        ];
        let mut kept = Mailboxes::new(2);

        for before in &all {
            for found in &all {
                kept.set_found(Ordinal::new(1), before.clone());
                kept.set_found(Ordinal::new(1), found.clone());

                assert_eq!(kept.found(Ordinal::new(1)), *found);
                assert_eq!(kept.totals(Ordinal::new(1)), found.totals());
                assert_eq!(kept.found(Ordinal::new(0)), Found::Nothing);
                let fits = pack_found(found) != ELSEWHERE;
                assert_eq!(kept.elsewhere.is_empty(), fits);
            }
        }
    }

    #[test]
    fn a_mailbox_takes_two_words() {
        assert_eq!(size_of::<Row>(), 16);
    }
}
