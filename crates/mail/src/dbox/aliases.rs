//! Aliases: the owner's other addresses, learnt from whole mail that was delivered to them.
//!
//! # Invariants
//!
//! * One message makes no alias: a storm that swaps bytes one by one does not hit one mailbox twice
//!   with the same neighbour's whole mail.

use std::collections::{HashMap, HashSet};

use crate::dbox::file::Guid;
use crate::digest::Digest;
use crate::judge::Findings;

/// So many different messages to one other address make it the owner's.
const MESSAGES_MIN: usize = 2;

/// Addresses that whole mail was delivered to.
#[derive(Debug, Default)]
pub(crate) struct Aliases {
    seen: HashMap<Box<[u8]>, HashSet<Letter>>,
}

/// A message, and its header.
type Letter = (Guid, Option<Digest>);

impl Aliases {
    /// Takes note of a message.
    pub(crate) fn learn(&mut self, guid: Option<Guid>, findings: &Findings) {
        if let Some((address, guid)) = findings.only_stranger().zip(guid) {
            let seen = self.seen.entry(address.into()).or_default();
            // More than enough are not remembered.
            if seen.len() < MESSAGES_MIN * MESSAGES_MIN {
                seen.insert((guid, findings.header));
            }
        }
    }

    /// Forgives a recipient who is the owner under another address.
    pub(crate) fn forgive(&self, findings: &mut Findings) {
        let address = findings.stranger.as_deref();
        if address.is_some_and(|address| self.knows(address)) {
            findings.forgive_stranger();
        }
    }

    fn knows(&self, address: &[u8]) -> bool {
        self.seen.get(address).is_some_and(|seen| {
            let guids: HashSet<_> = seen.iter().map(|(guid, _)| guid).collect();
            let headers: HashSet<_> = seen.iter().map(|(_, header)| header).collect();
            guids.len().min(headers.len()) >= MESSAGES_MIN
        })
    }
}
