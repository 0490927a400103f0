//! Compaction: a snapshot takes the place of the records that led to it, little by little.
//!
//! ```text
//! write the snapshot ─▶ mark the story ─▶ switch (one batch) ─▶ drop what is covered
//! ```
//!
//! # Invariants
//!
//! * Until the switch nothing of the journal has changed for whoever reads it; after the
//!   switch nothing of it needs what is yet to be dropped. Ending anywhere loses nothing,
//!   and the next start drops what was left.
//! * A step is small: whoever appends waits for one step at most.
//! * What is covered is read and checked once more before it is dropped.

use crate::base::{Base, SNAPSHOTS, Story};
use crate::frame::{self, Digest, Head, Mark, VALUE_BYTES_MAX};
use crate::replay::{self, ReadError, Records};
use crate::store::{Batch, Store, StoreError, quietly};

/// The longest snapshot: a hundred million mailboxes at two bytes, and room to spare.
pub const SNAPSHOT_BYTES_MAX: usize = 512 << 20;

/// Values of a snapshot written in one step, a quarter of a megabyte: milliseconds.
const STEP_VALUES: usize = 64;

/// Records read, or values dropped, in one step.
const STEP_RECORDS: usize = 1_024;

/// When a journal should be compacted. Whichever comes first decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rhythm {
    /// So many records behind the newest snapshot.
    pub records: u64,
    /// So many bytes behind the newest snapshot.
    pub bytes: u64,
}

impl Rhythm {
    /// What a start reads again in some tenths of a second.
    pub const USUAL: Self = Self { records: 65_536, bytes: 8 << 20 };

    /// Whether a tail of so many records and bytes is long enough, if the newest snapshot
    /// was so large. Snapshots must not cost more than what they follow.
    pub(crate) fn is_due(self, records: u64, bytes: u64, snapshot_bytes: u64) -> bool {
        (records >= self.records || bytes >= self.bytes) && bytes >= snapshot_bytes / 2
    }
}

/// What a journal's owner has made of its records.
pub struct Snapshot {
    /// The newest record that it covers.
    pub covers: Head,
    /// The owner's own bytes.
    pub body: Vec<u8>,
    /// Tells the records of the story by their payloads: they are kept for ever.
    pub is_story: fn(&[u8]) -> bool,
}

/// A compaction under way.
pub(crate) struct Compaction {
    stage: Stage,
    /// The first record that may still lie in the store without being of the story.
    dropped_to: u64,
}

enum Stage {
    /// Writes the snapshot from this value on.
    Write { snapshot: Snapshot, next: u32 },
    /// Reads the records after this one and marks those of the story.
    Mark { snapshot: Snapshot, read: Head, story: Story },
    /// Drops what the base covers.
    Drop { base: Option<Base>, next: Vec<u8>, kept: Option<u64> },
}

/// What a step has led to.
pub(crate) enum Stepped {
    /// There is more to do.
    On,
    /// The journal now goes on from this base.
    Switched(Base),
    /// Nothing is left to do.
    Done,
}

impl Compaction {
    /// The compaction of a journal by `snapshot`.
    pub(crate) fn new(snapshot: Snapshot, before: Option<&Base>) -> Self {
        let dropped_to = before.map_or(1, |base| base.head.sequence + 1);
        Self { stage: Stage::Write { snapshot, next: 0 }, dropped_to }
    }

    /// Drops what an earlier run has left; there may be no base yet.
    pub(crate) fn of_leftovers(base: Option<Base>) -> Self {
        Self { stage: Stage::drop(base, 1), dropped_to: 1 }
    }

    /// Does a little.
    pub(crate) fn step(&mut self, store: &Store) -> Result<Stepped, StoreError> {
        let db = store.reader();
        let (stage, stepped) = match std::mem::replace(&mut self.stage, Stage::DONE) {
            Stage::Write { snapshot, next } => {
                (write(store, snapshot, next)?, Stepped::On)
            }
            Stage::Mark { snapshot, read, story } => {
                let header = replay::header(&db).map_err(unreadable)?;
                let header = header.ok_or(StoreError::Changed)?;
                let from = header.base.map(|base| (base.head, base.story));
                let (read, story) = match from {
                    _ if read.sequence > 0 => (read, story),
                    Some(from) => from,
                    None => (header.head, Story::EMPTY),
                };
                let (read, story) = mark(store, &snapshot, read, story)?;
                if read.sequence < snapshot.covers.sequence {
                    (Stage::Mark { snapshot, read, story }, Stepped::On)
                } else if read == snapshot.covers {
                    let base = base_of(&snapshot, story);
                    switch(store, header.head, &header.payload, &base)?;
                    (Stage::drop(Some(base), self.dropped_to), Stepped::Switched(base))
                } else {
                    return Err(StoreError::Changed);
                }
            }
            Stage::Drop { base, next, kept } => match drop_some(store, base, next, kept)?
            {
                Some(stage) => (stage, Stepped::On),
                None => (Stage::DONE, Stepped::Done),
            },
        };
        self.stage = stage;
        Ok(stepped)
    }
}

impl Stage {
    const DONE: Self = Self::Drop { base: None, next: Vec::new(), kept: None };

    fn drop(base: Option<Base>, from: u64) -> Self {
        Self::Drop { base, next: frame::key(from, 0).to_vec(), kept: None }
    }
}

fn base_of(snapshot: &Snapshot, story: Story) -> Base {
    Base {
        head: snapshot.covers,
        story,
        snapshot_bytes: snapshot.body.len() as u64,
        snapshot: Digest(*blake3::hash(&snapshot.body).as_bytes()),
    }
}

fn write(store: &Store, snapshot: Snapshot, next: u32) -> Result<Stage, StoreError> {
    let of_it = SNAPSHOTS | snapshot.covers.sequence;
    let skip = usize::try_from(next).unwrap_or(usize::MAX);
    let mut values =
        (next..).zip(snapshot.body.chunks(VALUE_BYTES_MAX).skip(skip)).peekable();
    let mut batch = Batch::default();
    for (part, value) in values.by_ref().take(STEP_VALUES) {
        batch.put(frame::key(of_it, part), value.to_vec());
    }
    let rest = values.next().map(|(part, _)| part);
    store.write(batch)?;
    Ok(match rest {
        Some(next) => Stage::Write { snapshot, next },
        None => Stage::Mark { snapshot, read: Head::NONE, story: Story::EMPTY },
    })
}

/// Reads some records behind `read` and marks those of the story among them, and no others.
fn mark(
    store: &Store,
    snapshot: &Snapshot,
    mut read: Head,
    mut story: Story,
) -> Result<(Head, Story), StoreError> {
    let mut batch = Batch::default();
    let records = Records::after(&store.reader(), read, snapshot.covers.sequence);
    let (mut bytes, mut marked) = (0, false);
    for found in records.take(STEP_RECORDS) {
        let found = found.map_err(unreadable)?;
        let is_story = (snapshot.is_story)(&found.payload);
        if is_story {
            story = story.after(found.head, &found.payload);
        }
        // A compaction that did not come to its end may have marked others than these.
        let mark = if is_story { Mark::Story } else { Mark::Plain };
        if found.mark != mark {
            batch.record(found.head, mark, &found.payload);
            marked = true;
        }
        read = found.head;
        bytes += found.payload.len();
        if bytes > STEP_VALUES * VALUE_BYTES_MAX {
            break;
        }
    }
    if marked {
        store.write(batch)?;
    }
    Ok((read, story))
}

fn switch(
    store: &Store,
    header: Head,
    payload: &[u8],
    base: &Base,
) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    batch.record(header, Mark::Based, payload);
    batch.put(Base::key(), base.encode(header.digest));
    store.write(batch)
}

/// Drops some of what `base` covers, from the key `next` on; nothing if that was all.
fn drop_some(
    store: &Store,
    base: Option<Base>,
    next: Vec<u8>,
    mut kept: Option<u64>,
) -> Result<Option<Stage>, StoreError> {
    let db = store.reader();
    let covered = base.map_or(0, |base| base.head.sequence);
    let current = base.map(|base| SNAPSHOTS | base.head.sequence);
    let records = db.range(next..frame::key(covered + 1, 0).to_vec());
    let snapshots = db.range(frame::key(SNAPSHOTS, 0)..frame::key(u64::MAX, 0));
    let mut batch = Batch::default();
    let (mut removed, mut last) = (false, None);
    for part in records.take(STEP_RECORDS) {
        let (key, value) = quietly(|| Ok(part?))?;
        let Some((sequence, part)) = frame::parse_key(&key) else {
            return Err(StoreError::Changed);
        };
        if part == 0 && value.first() == Some(&(Mark::Story as u8)) {
            kept = Some(sequence);
        }
        if kept != Some(sequence) {
            batch.remove(&key);
            removed = true;
        }
        last = Some(key);
    }
    if last.is_none() {
        let old = snapshots.keys().filter(|key| {
            let of_it = key.as_ref().ok().and_then(|key| frame::parse_key(key));
            of_it.map(|(of_it, _)| of_it) != current
        });
        for key in old.take(STEP_RECORDS) {
            batch.remove(&quietly(|| Ok(key?))?);
            removed = true;
        }
        if !removed {
            return Ok(None);
        }
    }
    if removed {
        store.write(batch)?;
    }
    // Just behind the last one looked at.
    let next = match last {
        Some(key) => [&key[..], &[0]].concat(),
        None => frame::key(covered + 1, 0).to_vec(),
    };
    Ok(Some(Stage::Drop { base, next, kept }))
}

fn unreadable(error: ReadError) -> StoreError {
    match error {
        ReadError::Store { source, .. } => source,
        ReadError::Corrupt { .. } => StoreError::Engine(Box::new(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;
    use crate::journal::{Journal, Kind, Opened};

    #[test]
    fn a_compaction_that_ends_anywhere_loses_nothing() {
        let mut switched = 0;
        for steps in 0.. {
            let dir = TempDir::new().unwrap();
            let (covers, all) = filled(dir.path());
            let done = compacted_for(dir.path(), covers, steps);

            let (before, after) = (open(dir.path()), all.split_at(300).1);

            let snapshot = before.snapshot().unwrap();
            let replayed: Vec<_> = before.replay().map(payload).collect();
            let story: Vec<_> = before.story().map(payload).collect();
            if let Some(snapshot) = &snapshot {
                switched += 1;
                assert_eq!(snapshot.records, 300);
                assert_eq!(snapshot.snapshot, body());
                assert_eq!(replayed, after, "{steps} steps");
                assert_eq!(
                    story,
                    all[..300].iter().step_by(7).cloned().collect::<Vec<_>>()
                );
            } else {
                assert_eq!(replayed, all, "{steps} steps");
                assert!(story.is_empty());
            }
            assert_eq!(before.head().sequence, 310);
            if done {
                break;
            }
        }
        assert!(switched > 2);
    }

    #[test]
    fn what_an_interrupted_compaction_has_left_is_dropped_by_the_next_start() {
        let dir = TempDir::new().unwrap();
        let (covers, _) = filled(dir.path());
        compacted_for(dir.path(), covers, 5);

        let journal = open(dir.path());
        wait_for(|| !journal.appender().is_compacting());
        drop(journal);

        let opened = Opened::take(dir.path()).unwrap();
        let read = opened.read(dir.path(), &mut |_, _| ()).unwrap().unwrap();
        assert!(read.contents.base.is_some() && !read.contents.leftovers);
        // The header, the story and the tail, one long record in each, the snapshot, the base.
        assert_eq!(opened.store.reader().len(), 1 + (43 + 2) + (10 + 2) + 74 + 1);
    }

    #[test]
    fn what_an_interrupted_compaction_chose_for_the_story_binds_no_later_one() {
        let mut marked = 0;
        for steps in 0..20 {
            let dir = TempDir::new().unwrap();
            let (covers, all) = filled(dir.path());
            if compacted_for(dir.path(), covers, steps) {
                break;
            }
            let journal = open(dir.path());
            wait_for(|| !journal.appender().is_compacting());
            if journal.snapshot().unwrap().is_some() {
                continue;
            }
            // The next version of the program tells another story.
            let is_story: fn(&[u8]) -> bool =
                |payload| payload.get(2).is_some_and(|n| n.is_multiple_of(5));
            let snapshot = Snapshot { covers, body: body(), is_story };
            assert!(journal.appender().compact(snapshot).unwrap());
            wait_for(|| !journal.appender().is_compacting());
            drop(journal);

            let journal = open(dir.path());
            let story: Vec<_> = journal.story().map(payload).collect();

            let chosen = all[..300].iter().filter(|it| is_story(it)).cloned();
            assert_eq!(story, chosen.collect::<Vec<_>>(), "{steps} steps");
            marked += 1;
        }
        assert!(marked > 2);
    }

    #[test]
    fn a_snapshot_that_cannot_be_made_does_not_stay_the_last_attempt() {
        let dir = TempDir::new().unwrap();
        let (covers, _) = filled(dir.path());
        let journal = open(dir.path());
        let appender = journal.appender();

        appender.compact_later(covers, |_| false, Box::new(|| panic!("no memory")));
        wait_for(|| !appender.is_compacting());
        appender.compact_later(covers, |_| false, Box::new(body));
        wait_for(|| !appender.is_compacting());

        assert_eq!(journal.snapshot().unwrap().unwrap().records, 300);
    }

    #[test]
    fn a_second_snapshot_takes_the_place_of_the_first_and_the_chain_goes_on() {
        let dirs = [TempDir::new().unwrap(), TempDir::new().unwrap()];
        let [compacted, plain] = dirs.each_ref().map(|dir| open(dir.path()));
        for round in 0..5_u8 {
            for journal in [&compacted, &plain] {
                journal.append(&vec![vec![round, 1]; 100]).unwrap();
            }
            let snapshot = Snapshot {
                covers: compacted.head(),
                body: vec![round; 10_000],
                is_story: |_| false,
            };
            assert!(compacted.appender().compact(snapshot).unwrap());
            wait_for(|| !compacted.appender().is_compacting());
        }
        compacted.append(&[b"last".to_vec()]).unwrap();
        plain.append(&[b"last".to_vec()]).unwrap();

        assert_eq!(compacted.head(), plain.head());
        assert_eq!(compacted.snapshot().unwrap().unwrap().snapshot, vec![4; 10_000]);
        assert_eq!(compacted.replay().count(), 1);
        assert_eq!(plain.replay().count(), 501);
    }

    /// A journal of 310 records, of which a snapshot shall cover 300.
    fn filled(dir: &Path) -> (Head, Vec<Vec<u8>>) {
        let journal = open(dir);
        let all: Vec<Vec<u8>> = (0..310_u16)
            .map(|n| {
                let length = if n.is_multiple_of(50) { 9_000 } else { 30 };
                let is_story = u8::from(n.is_multiple_of(7));
                std::iter::once(is_story)
                    .chain(n.to_be_bytes())
                    .cycle()
                    .take(length)
                    .collect()
            })
            .collect();
        journal.append(&all[..300]).unwrap();
        let covers = journal.head();
        journal.append(&all[300..]).unwrap();
        (covers, all)
    }

    /// Compacts, but only for so many steps. Says whether it came to its end.
    fn compacted_for(dir: &Path, covers: Head, steps: usize) -> bool {
        let opened = Opened::take(dir).unwrap();
        let is_story = |payload: &[u8]| payload.first() == Some(&1);
        let mut compaction =
            Compaction::new(Snapshot { covers, body: body(), is_story }, None);
        (0..steps)
            .any(|_| matches!(compaction.step(&opened.store).unwrap(), Stepped::Done))
    }

    fn body() -> Vec<u8> {
        (0..=255).cycle().take(300_000).collect()
    }

    fn payload(entry: Result<replay::Entry, ReadError>) -> Vec<u8> {
        entry.unwrap().payload
    }

    fn wait_for(done: impl Fn() -> bool) {
        while !done() {
            std::thread::yield_now();
        }
    }

    fn open(dir: &Path) -> Journal {
        let kind = Kind { name: "compaction".to_owned(), format: 1, id: [0; 16] };
        Journal::open(dir, &kind).unwrap()
    }
}
