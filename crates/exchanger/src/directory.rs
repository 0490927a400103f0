//! Directory: who is in the inventory, on which node, in which wave; packed.
//!
//! # Invariants
//!
//! * It never changes once it is whole: another plan has another directory.
//! * It is whole: it has as many mailboxes as its head announced, or there is none.
//! * A mailbox costs its address and some twenty bytes, so that nine million fit into half a
//!   gigabyte.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use tidegate_core::fleet::{MailboxNumber, NodeNumber, WaveNumber};
use tidegate_core::inventory::Digest;
use tidegate_wire::exchanger::DirectoryHead;

/// Written for a mailbox that is in no wave. Plans have fewer waves.
const NO_WAVE: u16 = u16::MAX;

/// No more places are made before the mailboxes have really come.
const PLACES_AHEAD_MAX: u32 = 16 << 20;

/// Who there is.
#[derive(Debug)]
pub(crate) struct Directory {
    plan: Digest,
    waves: Vec<String>,
    nodes: Vec<String>,
    /// The first mailbox of each node, and one more for the end.
    starts: Vec<u32>,
    /// All addresses, one behind the other.
    addresses: Vec<u8>,
    /// Where each address ends.
    ends: Vec<u32>,
    wave_of: Vec<u16>,
    /// Finds a mailbox by its address.
    index: HashTable<u32>,
    hasher: RandomState,
}

/// What was told is no directory.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DirectoryError {
    /// Too many or too few mailboxes came.
    #[error("{came} mailboxes came, {announced} were announced")]
    NotWhole {
        /// How many came.
        came: usize,
        /// How many should have.
        announced: u32,
    },
    /// A mailbox is in a wave that there is not.
    #[error("there is no {wave}")]
    NoSuchWave {
        /// The wave.
        wave: WaveNumber,
    },
    /// More addresses than a directory holds.
    #[error("the addresses have more than 4 GiB together")]
    Full,
}

/// A directory that is being told.
#[derive(Debug)]
pub(crate) struct Builder {
    directory: Directory,
    announced: u32,
}

impl Builder {
    /// Begins with what comes before the mailboxes.
    pub(crate) fn new(head: DirectoryHead) -> Result<Self, DirectoryError> {
        let mut starts = vec![0_u32];
        let mut announced = 0_u32;
        for (_, mailboxes) in &head.nodes {
            announced = announced.checked_add(*mailboxes).ok_or(DirectoryError::Full)?;
            starts.push(announced);
        }
        let ahead = usize::try_from(announced.min(PLACES_AHEAD_MAX)).unwrap_or(0);
        let directory = Directory {
            plan: head.plan,
            waves: head.waves,
            nodes: head.nodes.into_iter().map(|(name, _)| name).collect(),
            starts,
            addresses: Vec::new(),
            ends: Vec::with_capacity(ahead),
            wave_of: Vec::with_capacity(ahead),
            index: HashTable::with_capacity(ahead),
            hasher: RandomState::new(),
        };
        Ok(Self { directory, announced })
    }

    /// Adds the next mailbox, its address in lower case.
    pub(crate) fn push(
        &mut self,
        address: &str,
        wave: Option<WaveNumber>,
    ) -> Result<(), DirectoryError> {
        let directory = &mut self.directory;
        let number = u32::try_from(directory.ends.len()).unwrap_or(u32::MAX);
        if number >= self.announced {
            let (came, announced) = (directory.ends.len() + 1, self.announced);
            return Err(DirectoryError::NotWhole { came, announced });
        }
        if let Some(wave) = wave
            && wave.index() >= directory.waves.len()
        {
            return Err(DirectoryError::NoSuchWave { wave });
        }
        directory.addresses.extend_from_slice(address.as_bytes());
        let end = u32::try_from(directory.addresses.len());
        directory.ends.push(end.map_err(|_| DirectoryError::Full)?);
        directory.wave_of.push(wave.map_or(NO_WAVE, WaveNumber::get));
        let hash = directory.hasher.hash_one(address.as_bytes());
        let Directory { index, addresses, ends, hasher, .. } = directory;
        let again = |at: &u32| hasher.hash_one(slice(addresses, ends, *at));
        index.insert_unique(hash, number, again);
        Ok(())
    }

    /// The directory, if it is whole.
    pub(crate) fn finish(self) -> Result<Directory, DirectoryError> {
        let Self { mut directory, announced } = self;
        let came = directory.ends.len();
        if u32::try_from(came) != Ok(announced) {
            return Err(DirectoryError::NotWhole { came, announced });
        }
        directory.addresses.shrink_to_fit();
        Ok(directory)
    }
}

/// The bytes of an address.
fn slice<'a>(addresses: &'a [u8], ends: &[u32], at: u32) -> &'a [u8] {
    let place = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let end = ends.get(place(at)).copied().unwrap_or_default();
    let before = at.checked_sub(1).and_then(|before| ends.get(place(before)));
    addresses.get(place(before.copied().unwrap_or_default())..place(end)).unwrap_or(&[])
}

impl Directory {
    /// The plan whose directory it is.
    pub(crate) fn plan(&self) -> Digest {
        self.plan
    }

    /// How many mailboxes it has.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The names of the waves.
    pub(crate) fn waves(&self) -> &[String] {
        &self.waves
    }

    /// The names of the nodes.
    pub(crate) fn nodes(&self) -> &[String] {
        &self.nodes
    }

    /// What comes before the mailboxes.
    pub(crate) fn head(&self) -> DirectoryHead {
        let counts = self.starts.iter().zip(self.starts.iter().skip(1));
        let counts = counts.map(|(start, end)| end.saturating_sub(*start));
        DirectoryHead {
            plan: self.plan,
            waves: self.waves.clone(),
            nodes: self.nodes.iter().cloned().zip(counts).collect(),
            follows: true,
        }
    }

    /// The mailbox of an address in lower case.
    pub(crate) fn find(&self, address: &str) -> Option<MailboxNumber> {
        let hash = self.hasher.hash_one(address.as_bytes());
        let is_it =
            |at: &u32| slice(&self.addresses, &self.ends, *at) == address.as_bytes();
        self.index.find(hash, is_it).copied().map(MailboxNumber::new)
    }

    /// The mailbox that mail for an address in lower case goes to: its own, or that of the
    /// address without its extension, `anna@example.org` of `anna+shops@example.org`.
    pub(crate) fn find_recipient(
        &self,
        address: &str,
        delimiters: &str,
    ) -> Option<MailboxNumber> {
        self.find(address).or_else(|| {
            let (local, domain) = address.rsplit_once('@')?;
            let (local, _) = local.split_once(|letter| delimiters.contains(letter))?;
            self.find(&format!("{local}@{domain}"))
        })
    }

    /// The address of a mailbox.
    pub(crate) fn address(&self, mailbox: MailboxNumber) -> &str {
        let bytes = slice(&self.addresses, &self.ends, mailbox.get());
        str::from_utf8(bytes).unwrap_or_default()
    }

    /// The node of a mailbox.
    pub(crate) fn node(&self, mailbox: MailboxNumber) -> NodeNumber {
        let after = self.starts.partition_point(|start| *start <= mailbox.get());
        NodeNumber::new(u16::try_from(after.saturating_sub(1)).unwrap_or(u16::MAX))
    }

    /// The wave of a mailbox, if it is in one.
    pub(crate) fn wave(&self, mailbox: MailboxNumber) -> Option<WaveNumber> {
        let wave = self.wave_of.get(mailbox.index()).copied();
        wave.filter(|wave| *wave != NO_WAVE).map(WaveNumber::new)
    }

    /// Bytes that it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.addresses.capacity()
            + self.ends.capacity() * size_of::<u32>()
            + self.wave_of.capacity() * size_of::<u16>()
            + self.index.allocation_size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_is_found_with_its_node_and_wave() {
        let directory = small();

        let anna = directory.find("anna@example.org").unwrap();
        let carla = directory.find("carla@example.org").unwrap();

        assert_eq!(directory.address(anna), "anna@example.org");
        assert_eq!(directory.node(anna), NodeNumber::new(0));
        assert_eq!(directory.wave(anna), Some(WaveNumber::new(1)));
        assert_eq!(directory.node(carla), NodeNumber::new(2));
        assert_eq!(directory.wave(carla), None);
        assert_eq!(directory.find("nobody@example.org"), None);
        assert_eq!(directory.find("anna@example.orgb"), None);
    }

    #[test]
    fn a_directory_that_is_not_whole_is_none() {
        let mut builder = Builder::new(head()).unwrap();
        builder.push("anna@example.org", None).unwrap();

        assert!(builder.finish().is_err());
        let mut builder = Builder::new(head()).unwrap();
        for number in 0..3 {
            builder.push(&format!("user{number}@example.org"), None).unwrap();
        }
        assert!(builder.push("one-more@example.org", None).is_err());
        assert!(builder.push("lost@example.org", Some(WaveNumber::new(2))).is_err());
    }

    #[test]
    fn a_mailbox_costs_its_address_and_few_bytes_more() {
        let count = 100_000;
        let nodes = vec![("n1".to_owned(), count)];
        let mut builder = Builder::new(DirectoryHead { nodes, ..head() }).unwrap();
        for number in 0..count {
            builder.push(&format!("user{number:07}@example.org"), None).unwrap();
        }
        let directory = builder.finish().unwrap();

        let each = directory.bytes() / directory.len();

        assert!(each < 23 + 20, "{each} bytes each");
    }

    fn small() -> Directory {
        let mut builder = Builder::new(head()).unwrap();
        builder.push("anna@example.org", Some(WaveNumber::new(1))).unwrap();
        builder.push("bob@example.org", Some(WaveNumber::new(0))).unwrap();
        builder.push("carla@example.org", None).unwrap();
        builder.finish().unwrap()
    }

    fn head() -> DirectoryHead {
        let node = |name: &str, mailboxes| (name.to_owned(), mailboxes);
        DirectoryHead {
            plan: Digest::new([7; 32]),
            waves: vec!["canary".to_owned(), "rest".to_owned()],
            nodes: vec![node("n1", 2), node("n2", 0), node("n3", 1)],
            follows: true,
        }
    }
}
