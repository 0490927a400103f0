//! Recorded: what the manifest of an earlier run says of messages.
//!
//! # Invariants
//!
//! * A message is found by its GUID, which has the same bytes in every folder; by its UID only where
//!   its GUID cannot be read.

use std::collections::HashMap;

use crate::dbox::file::Guid;
use crate::digest::{Digest, Fingerprint, from_hex};
use crate::manifest::Manifest;

/// What was recorded of a mailbox.
#[derive(Debug, Default)]
pub(crate) struct Recorded<'a> {
    digests: HashMap<Guid, Digest>,
    guids: HashMap<(&'a [u8], u32), Guid>,
    /// The mailbox was open since, so that missing mail was deleted by its user.
    pub(crate) served: bool,
}

impl<'a> Recorded<'a> {
    /// Reads a manifest.
    pub(crate) fn new(manifest: Option<&'a Manifest>, served: bool) -> Self {
        let mut recorded = Self { served, ..Self::default() };
        for entry in manifest.into_iter().flat_map(|manifest| &manifest.entries) {
            let Some(guid) = from_hex(&entry.name) else { continue };
            if let Fingerprint::Xxh3(digest) = entry.fingerprint {
                recorded.digests.insert(guid, digest);
            }
            if let Some(uid) = entry.uid {
                recorded.guids.insert((&entry.folder, uid), guid);
            }
        }
        recorded
    }

    pub(crate) fn digest(&self, guid: Guid) -> Option<Digest> {
        self.digests.get(&guid).copied()
    }

    pub(crate) fn guid(&self, folder: &[u8], uid: u32) -> Option<Guid> {
        self.guids.get(&(folder, uid)).copied()
    }
}
