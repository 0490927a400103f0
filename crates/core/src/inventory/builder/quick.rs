//! Quick: most rows are plainly in order, which one look at the bytes of their address shows;
//! everything else of them has been met before.
//!
//! # Invariants
//!
//! * Whatever is not plainly in order is left to the careful way: this one refuses nothing.
//! * Both ways give the same.

use super::super::Row;
use super::super::forms::KnownForm;
use super::{InventoryBuilder, Known, check, index};

/// Most providers have one form, some a few.
const FORMS_KNOWN_MAX: usize = 4;

/// An address that is in lower case already and has only characters that nobody has to look at.
#[derive(Clone, Copy)]
struct PlainAddress<'a> {
    local: &'a str,
    domain: &'a str,
}

/// A byte in each byte of a word.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

impl<'a> PlainAddress<'a> {
    /// Shorter ones may have parts like `..`.
    const HALF_BYTES_MIN: usize = 3;

    fn new(address: &'a str) -> Option<Self> {
        let bytes = address.as_bytes();
        let last = u64::from_le_bytes(*bytes.last_chunk()?);
        let (words, _) = bytes.as_chunks();
        let (mut odd, mut at) = (odd(last), None);
        for (place, word) in words.iter().enumerate() {
            let word = u64::from_le_bytes(*word);
            odd |= self::odd(word);
            at = last_at(word).map(|within| place * 8 + within).or(at);
        }
        at = last_at(last).map(|within| bytes.len() - 8 + within).or(at);
        if odd != 0 || bytes.len() > check::ADDRESS_BYTES_MAX {
            return None;
        }
        let (local, domain) = (address.get(..at?)?, address.get(at? + 1..)?);
        let plain = local.len() >= Self::HALF_BYTES_MIN
            && domain.len() >= Self::HALF_BYTES_MIN
            && local != domain;
        plain.then_some(Self { local, domain })
    }
}

/// Not zero where a byte is no visible ASCII, an upper case letter or a slash.
fn odd(word: u64) -> u64 {
    let high = each(0x80);
    let seven = word & !high;
    let at_least = |byte: u8| seven.wrapping_add(each(0x80 - byte));
    let visible = at_least(0x21) & !at_least(0x7f);
    let upper = at_least(b'A') & !at_least(b'Z' + 1);
    let slash = !(seven ^ each(b'/')).wrapping_add(each(0x7f));
    (word | !visible | upper | slash) & high
}

/// Where the last `@` of eight ASCII characters is.
fn last_at(word: u64) -> Option<usize> {
    let others = (word ^ each(b'@')).wrapping_add(each(0x7f));
    let found = !others & each(0x80);
    let place = found.checked_ilog2()? / 8;
    usize::try_from(place).ok()
}

impl InventoryBuilder {
    /// What is known of a row that is plainly in order.
    pub(super) fn quick(&self, row: &Row<'_>) -> Option<Known> {
        let PlainAddress { local, domain } = PlainAddress::new(row.address)?;
        let fits = row.path.len() <= check::PATH_BYTES_MAX;
        let of = [domain, local, row.address];
        let form = self.forms_known.iter().find(|form| form.is_of(row.path, of));
        let form = form.filter(|_| fits)?.number();
        let same = |((key, _), known): (&(&str, &str), &String)| key == known;
        if row.labels.len() != self.labels_known.len()
            || !row.labels.iter().zip(&self.labels_known).all(same)
        {
            return None;
        }
        Some(Known {
            node: self.nodes.find(row.node)?,
            tier: self.tiers.find(row.tier)?,
            form,
            size: check::values(row.labels).ok()?,
        })
    }

    /// Remembers the form that was just written, which others have too.
    pub(super) fn remember_form(&mut self, number: u32) {
        if self.forms_known.iter().any(|known| known.number() == number) {
            return;
        }
        let known = KnownForm::new(number, &self.form);
        if self.forms_known.len() < FORMS_KNOWN_MAX {
            self.forms_known.push(known);
        } else if let Some(slot) =
            self.forms_known.get_mut(index(number) % FORMS_KNOWN_MAX)
        {
            *slot = known;
        }
    }

    /// Remembers the keys of a row's labels, which can be together.
    pub(super) fn remember_labels(&mut self, row: &Row<'_>) {
        let keys = || row.labels.iter().map(|(key, _)| *key);
        if !keys().eq(self.labels_known.iter().map(String::as_str)) {
            self.labels_known = keys().map(str::to_owned).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_plain_where_no_character_needs_a_look() {
        for (address, halves) in [
            ("anna@example.org", ("anna", "example.org")),
            ("an@a@b.example.org", ("an@a", "b.example.org")),
            ("some.body.long@org", ("some.body.long", "org")),
            ("~!{[`^_9|@:;<=>?", ("~!{[`^_9|", ":;<=>?")),
        ] {
            assert_eq!(plain(address), Some(halves));
        }
        for odd in "\0\u{1f} \u{7f}AMZ/\u{80}\u{e4}\u{2003}".chars() {
            for place in 0..=16 {
                let mut address = String::from("anna@example.org");
                address.insert(place, odd);
                assert_eq!(plain(&address), None, "{address:?}");
            }
        }
        for odd in ["annabel.example", "a@b.org", "an@example.org", "anna.bell@it"] {
            assert_eq!(plain(odd), None, "{odd}");
        }
        assert_eq!(plain("example.org@example.org"), None);
        assert_eq!(plain(&format!("anna@{}.org", "x".repeat(320))), None);
    }

    #[test]
    fn the_quick_way_gives_what_the_careful_one_gives() {
        let forms =
            ["D/L", "D/L/Maildir", "L", "x/A", "D/inbox/L", "L.d/D", "9/L/L", "y"];
        let locals =
            ["anna.bell", "inbox", "..", "Anna", "an na", "a/b", "b\u{e4}r", "x"];
        let labels: [&[(&str, &str)]; 5] = [
            &[("size_bytes", "7")],
            &[("size_bytes", "07"), ("team", "a")],
            &[("size_bytes", "+7"), ("team", "")],
            &[("team", "a"), ("team", "b")],
            &[("size_bytes", "7 GB")],
        ];
        let mut together = InventoryBuilder::new();
        let (mut taken, mut was_quick) = (0, 0);

        for number in 0..8_000 {
            let of = |all: usize, every: usize| number / every % all;
            let domain = ["example.org", "inbox", "Example.org"][of(3, 7)];
            let local = locals[of(8, 5)];
            let address = format!("{local}{}@{domain}", "0".repeat(number / 2_000));
            let (local, domain) = address.rsplit_once('@').unwrap();
            let path = forms[of(8, 3)].replace('D', domain).replace('L', local);
            let path =
                format!("{}{}", path.replace('A', &address), "/".repeat(of(2, 11)));
            let (node, tier) = (["n1", "n2"][of(2, 2)], ["free", ""][number / 7_990]);
            let row = Row {
                address: &address,
                node,
                tier,
                path: &path,
                labels: labels[of(5, 1)],
            };
            let mut alone = InventoryBuilder::new();

            let plain_path = Row { path: path.trim_end_matches('/'), ..row };
            was_quick += usize::from(together.quick(&plain_path).is_some());
            let careful = alone.push(row);
            assert_eq!(together.push(row), careful, "{row:?}");

            let Ok(()) = careful else { continue };
            taken += 1;
            let alone = alone.finish().unwrap();
            let told = alone.rows().next().unwrap();
            let pile = together.piles.iter().find(|pile| {
                pile.mailboxes.last().is_some_and(|last| last.row + 1 == together.len())
            });
            let (pile, at) = pile.map(|pile| (pile, pile.mailboxes.len() - 1)).unwrap();
            let last = &pile.mailboxes[at];
            let mut filled = String::new();
            let form = together.forms.text(last.form);
            super::super::super::forms::fill(form, pile.address(at), &mut filled);
            assert_eq!((pile.address(at), &filled), (told.address, &told.path));
            let size = alone.size_bytes(crate::fleet::MailboxNumber::new(0));
            assert_eq!(Some(last.size).filter(|it| *it != u64::MAX), size);
        }
        assert!(taken > 1_000 && was_quick > 100, "{was_quick} of {taken}");
    }

    fn plain(address: &str) -> Option<(&str, &str)> {
        let halves = |PlainAddress { local, domain }| (local, domain);
        PlainAddress::new(address).map(halves)
    }
}
