//! View: which mailboxes take mail now, as the coordinator last told.
//!
//! # Invariants
//!
//! * There is no view before everything has been told once: half of it is none.
//! * Whoever asks waits for nobody, and nobody waits for them.
//! * What is open stays known as open while the coordinator is silent; what is not becomes
//!   unknown when the silence has lasted.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tidegate_core::fleet::{MailboxNumber, NodeNumber};
use tidegate_wire::exchanger::Storage;

use crate::directory::Directory;

/// Mailboxes in one word.
const WORD: usize = 64;

/// All mailboxes of a directory, each open or not.
#[derive(Debug)]
pub(crate) struct View {
    directory: Arc<Directory>,
    words: Box<[AtomicU64]>,
    /// Rises with every door that changes.
    version: AtomicU64,
    storages: RwLock<Vec<Storage>>,
}

impl View {
    /// A view of `directory` in which everybody is held.
    pub(crate) fn held(directory: Arc<Directory>) -> Self {
        let words = directory.len().div_ceil(WORD);
        let words = (0..words).map(|_| AtomicU64::new(0)).collect();
        let (version, storages) = (AtomicU64::new(0), RwLock::default());
        Self { directory, words, version, storages }
    }

    /// Who there is.
    pub(crate) fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Whether mail may be handed to `mailbox` now.
    pub(crate) fn receives(&self, mailbox: MailboxNumber) -> bool {
        let word = self.words.get(mailbox.index() / WORD);
        let word = word.map_or(0, |word| word.load(Ordering::Relaxed));
        word >> (mailbox.index() % WORD) & 1 == 1
    }

    /// Opens or holds a mailbox; whether that is news.
    pub(crate) fn set(&self, mailbox: MailboxNumber, receives: bool) -> bool {
        let Some(word) = self.words.get(mailbox.index() / WORD) else { return false };
        if mailbox.index() >= self.directory.len() {
            return false;
        }
        let bit = 1 << (mailbox.index() % WORD);
        let before = if receives {
            word.fetch_or(bit, Ordering::Relaxed)
        } else {
            word.fetch_and(!bit, Ordering::Relaxed)
        };
        let is_news = (before & bit != 0) != receives;
        self.version.fetch_add(u64::from(is_news), Ordering::Relaxed);
        is_news
    }

    /// A number that is another one when doors have changed.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// Opens and holds a run of mailboxes by their bits; gives those that were opened by it.
    pub(crate) fn set_run(
        &self,
        first: MailboxNumber,
        bits: &[u8],
    ) -> Vec<MailboxNumber> {
        let bits = bits.iter().flat_map(|byte| (0..8).map(move |at| byte >> at & 1 == 1));
        let numbers = (first.get()..).map(MailboxNumber::new);
        let news = numbers.zip(bits).filter(|(mailbox, open)| self.set(*mailbox, *open));
        news.filter(|(_, open)| *open).map(|(mailbox, _)| mailbox).collect()
    }

    /// All bits, eight mailboxes in a byte, the lowest first.
    pub(crate) fn bits(&self) -> Vec<u8> {
        let words = self.words.iter().map(|word| word.load(Ordering::Relaxed));
        words.flat_map(u64::to_le_bytes).collect()
    }

    /// Remembers how the nodes are.
    pub(crate) fn set_storages(&self, storages: Vec<Storage>) {
        *self.storages.write().unwrap_or_else(PoisonError::into_inner) = storages;
    }

    /// How a node is; not healthy before that was told.
    pub(crate) fn storage(&self, node: NodeNumber) -> Storage {
        let storages = self.storages.read().unwrap_or_else(PoisonError::into_inner);
        storages.get(node.index()).copied().unwrap_or_default()
    }
}

/// The newest view, for everybody; all clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Newest(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    view: RwLock<Option<Arc<View>>>,
    /// When the coordinator was last heard, milliseconds after `base`; far below zero for
    /// what an earlier run of the program has kept.
    heard: AtomicI64,
    base: Instant,
}

impl Newest {
    /// Nothing is known.
    pub(crate) fn nothing() -> Self {
        let heard = AtomicI64::new(i64::MIN);
        Self(Arc::new(Inner { view: RwLock::default(), heard, base: Instant::now() }))
    }

    /// The view, once there is one.
    pub(crate) fn view(&self) -> Option<Arc<View>> {
        self.0.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces the view by one that is complete.
    pub(crate) fn replace(&self, view: Arc<View>) {
        *self.0.view.write().unwrap_or_else(PoisonError::into_inner) = Some(view);
    }

    /// The coordinator said something about the view `ago`.
    pub(crate) fn heard(&self, ago: Duration) {
        let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        let at = millis(self.0.base.elapsed()).saturating_sub(millis(ago));
        self.0.heard.fetch_max(at, Ordering::Relaxed);
    }

    /// How long the coordinator has been silent; nothing if it was never heard.
    pub(crate) fn silence(&self) -> Option<Duration> {
        let heard = self.0.heard.load(Ordering::Relaxed);
        if heard == i64::MIN {
            return None;
        }
        let now = i64::try_from(self.0.base.elapsed().as_millis()).unwrap_or(i64::MAX);
        let silence = now.saturating_sub(heard);
        Some(Duration::from_millis(u64::try_from(silence).unwrap_or_default()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::directory::Builder;
    use tidegate_core::fleet::WaveNumber;
    use tidegate_core::inventory::Digest;
    use tidegate_wire::exchanger::DirectoryHead;

    /// A view of `count` mailboxes, `user0@example.org` and so on, on two nodes in turn of
    /// halves, the even ones in wave 0, the odd ones in wave 1; all held.
    pub(crate) fn view(count: u32) -> Arc<View> {
        let nodes =
            vec![("n1".to_owned(), count / 2), ("n2".to_owned(), count.div_ceil(2))];
        let waves = vec!["canary".to_owned(), "rest".to_owned()];
        let plan = Digest::new([7; 32]);
        let head = DirectoryHead { plan, waves, nodes, follows: true };
        let mut builder = Builder::new(head).unwrap();
        for number in 0..count {
            let wave = WaveNumber::new(u16::try_from(number % 2).unwrap());
            builder.push(&format!("user{number}@example.org"), Some(wave)).unwrap();
        }
        let view = View::held(Arc::new(builder.finish().unwrap()));
        let healthy = Storage { healthy: true, deliveries_per_second: 10 };
        view.set_storages(vec![healthy; 2]);
        Arc::new(view)
    }

    #[test]
    fn a_run_of_doors_tells_which_were_opened_by_it() {
        let view = view(100);
        view.set(MailboxNumber::new(70), true);

        let opened =
            view.set_run(MailboxNumber::new(64), &[0b0100_0001, 0, 0, 0, 0b1111_0000]);

        assert_eq!(
            opened,
            [MailboxNumber::new(64)],
            "70 was open, 100 to 103 are not there"
        );
        assert!(view.receives(MailboxNumber::new(70)));
        let held = view.set_run(MailboxNumber::new(64), &[0]);
        assert!(held.is_empty() && !view.receives(MailboxNumber::new(70)));
    }

    #[test]
    fn silence_counts_from_what_was_kept_or_heard() {
        let newest = Newest::nothing();
        assert_eq!(newest.silence(), None);

        newest.heard(Duration::from_hours(3));
        assert!(newest.silence() >= Some(Duration::from_hours(3)));
        newest.heard(Duration::ZERO);
        newest.heard(Duration::from_hours(9));

        assert!(newest.silence() < Some(Duration::from_hours(1)));
    }
}
