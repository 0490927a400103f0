//! Orders: which mailbox comes before which one.

use crate::fleet::MailboxNumber;
use crate::inventory::in_order_of_tags;

/// Mailboxes in the order of their hashes, those with the same as they were.
pub(super) fn by_hash(
    mailboxes: &[MailboxNumber],
    hash: impl Fn(MailboxNumber) -> u64,
) -> Vec<MailboxNumber> {
    let upper_half = |hash: u64| u32::try_from(hash >> 32).unwrap_or(0);
    let tags = || mailboxes.iter().map(|mailbox| upper_half(hash(*mailbox)));
    let mut tagged = in_order_of_tags(mailboxes.len(), tags);
    let mailbox = |word: u64| mailboxes.get(low(word, 32)).copied();
    for run in tagged.chunk_by_mut(|left, right| left >> 32 == right >> 32) {
        if run.len() > 1 {
            run.sort_unstable_by_key(|word| (mailbox(*word).map(&hash), *word));
        }
    }
    tagged.into_iter().filter_map(mailbox).collect()
}

/// Mailboxes by size, of which none is above `largest`, and the unknown last; those of one size
/// as they were.
pub(super) fn largest_first(
    mailboxes: &[MailboxNumber],
    largest: u64,
    size: impl Fn(MailboxNumber) -> Option<u64>,
) -> Vec<MailboxNumber> {
    let smaller = |size: Option<u64>| match size {
        Some(size) => largest.saturating_sub(size),
        None => largest.saturating_add(1),
    };
    let bits = usize::BITS - mailboxes.len().leading_zeros();
    if largest.saturating_add(1).leading_zeros() < bits {
        // Nobody has mailboxes this large, but somebody may say so.
        let mut mailboxes = mailboxes.to_vec();
        mailboxes.sort_by_cached_key(|mailbox| smaller(size(*mailbox)));
        return mailboxes;
    }
    let keys = (0_u64..).zip(mailboxes);
    let keys = keys.map(|(place, mailbox)| smaller(size(*mailbox)) << bits | place);
    let mut keys: Vec<u64> = keys.collect();
    keys.sort_unstable();
    keys.into_iter().filter_map(|key| mailboxes.get(low(key, bits)).copied()).collect()
}

/// The lowest bits of a word as an index.
fn low(word: u64, bits: u32) -> usize {
    usize::try_from(word & !(u64::MAX << bits)).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mailboxes_with_the_same_upper_half_of_a_hash_are_in_order() {
        let hashes = [5 << 32, (3 << 32) + 9, (3 << 32) + 2, u64::MAX, (3 << 32) + 9, 0];
        let hash = |mailbox: MailboxNumber| hashes[mailbox.index() - 10];

        let in_order = by_hash(&numbers(10..16), hash);

        assert_eq!(in_order, [15, 12, 11, 14, 10, 13].map(MailboxNumber::new));
    }

    #[test]
    fn the_largest_come_first_and_the_unknown_last_whatever_is_said() {
        for largest in [9, u64::MAX >> 4, u64::MAX >> 3, u64::MAX - 1] {
            let sizes = [None, Some(0), Some(7), Some(largest), None, Some(7), Some(0)];
            let size = |mailbox: MailboxNumber| sizes[mailbox.index() - 10];

            let in_order = largest_first(&numbers(10..17), largest, size);

            let expected = [13, 12, 15, 11, 16, 10, 14].map(MailboxNumber::new);
            assert_eq!(in_order, expected, "{largest}");
        }
    }

    #[test]
    fn nobody_is_in_order() {
        assert_eq!(by_hash(&[], |_| 0), []);
        assert_eq!(largest_first(&[], 0, |_| None), []);
    }

    fn numbers(range: std::ops::Range<u32>) -> Vec<MailboxNumber> {
        range.map(MailboxNumber::new).collect()
    }
}
