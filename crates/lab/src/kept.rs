//! Kept: bytes that a worker put by, looked up only when they are missed.
//!
//! # Invariants
//!
//! * A node's work directory is read at most once, and only when needed.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::provider::{LabError, Provider};
use crate::survey;
use crate::truth::Digest;

/// The work directories of a provider.
pub(crate) struct Kept<'a> {
    nodes: Vec<(&'a Path, Mutex<Option<HashSet<Digest>>>)>,
}

impl<'a> Kept<'a> {
    pub(crate) fn of(provider: &'a Provider) -> Self {
        let nodes = provider.nodes.iter();
        Self {
            nodes: nodes.map(|node| (node.work.as_path(), Mutex::new(None))).collect(),
        }
    }

    /// Whether `node` has put by a file with this digest.
    pub(crate) fn contains(
        &self,
        node: usize,
        digest: &Digest,
    ) -> Result<bool, LabError> {
        let Some((work, known)) = self.nodes.get(node) else { return Ok(false) };
        let mut known = known.lock().map_err(|_| LabError::Thread)?;
        if let Some(known) = known.as_ref() {
            return Ok(known.contains(digest));
        }
        let digests = below(work).map_err(LabError::file("read", work))?;
        Ok(known.insert(digests).contains(digest))
    }
}

fn below(root: &Path) -> io::Result<HashSet<Digest>> {
    let mut digests = HashSet::new();
    let mut waiting: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
            } else if let Some((digest, _)) = survey::digest(&entry.path())? {
                digests.insert(digest);
            }
        }
    }
    Ok(digests)
}
