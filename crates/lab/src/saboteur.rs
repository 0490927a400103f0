//! Saboteur: an outside fault that shows itself only once users are back.
//!
//! # Invariants
//!
//! * Nothing is destroyed: a broken mailbox has its `cur` directories under another name.
//! * Whom it strikes depends on the address and the seed, not on the order of opening.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::chance::Chance;
use crate::provider::Provider;

/// The name that a broken `cur` goes by.
const GONE: &str = "cur.gone";

/// Breaks a share of one node's mailboxes as they open, as a sick node would.
#[derive(Debug)]
pub struct Saboteur {
    mailboxes: BTreeMap<String, PathBuf>,
    share_ppm: u32,
    seed: u64,
    /// `cur` directories that were renamed.
    broken: Vec<PathBuf>,
}

impl Saboteur {
    /// One for `share_ppm` of the mailboxes of `node`.
    pub fn new(provider: &Provider, node: &str, share_ppm: u32, seed: u64) -> Self {
        let mailboxes = provider
            .truth
            .mailboxes
            .iter()
            .filter_map(|mailbox| {
                let home = provider.nodes.get(mailbox.node)?;
                (home.name == node)
                    .then(|| (mailbox.address.clone(), home.live.join(&mailbox.path)))
            })
            .collect();
        Self { mailboxes, share_ppm, seed, broken: Vec::new() }
    }

    /// Breaks the mailbox of `address` when it is one of the chosen: every `cur` goes by
    /// another name, so that reading it fails. Says whether it did.
    ///
    /// # Errors
    ///
    /// Whatever kept a directory from being renamed; [`Saboteur::undo`] still puts back
    /// those that were.
    pub fn on_open(&mut self, address: &str) -> io::Result<bool> {
        let Some(maildir) = self.mailboxes.get(address) else { return Ok(false) };
        if !maildir.is_dir() {
            return Ok(false);
        }
        let subject = blake3::hash(address.as_bytes());
        let number = subject
            .as_bytes()
            .iter()
            .take(8)
            .fold(0_u64, |number, byte| (number << 8) | u64::from(*byte));
        if !Chance::new(self.seed, "sabotage", number).hits(self.share_ppm) {
            return Ok(false);
        }
        let mut broke = false;
        for folder in folders(maildir)? {
            let (cur, gone) = (folder.join("cur"), folder.join(GONE));
            if cur.is_dir() && !gone.exists() {
                fs::rename(&cur, &gone)?;
                self.broken.push(cur);
                broke = true;
            }
        }
        Ok(broke)
    }

    /// Puts everything back. Mail that was delivered meanwhile stays; of mail that was
    /// restored meanwhile, one copy does, under the name that was taken away.
    ///
    /// # Errors
    ///
    /// Whatever kept a directory from being put back; calling it again continues.
    pub fn undo(&mut self) -> io::Result<()> {
        while let Some(cur) = self.broken.last() {
            put_back(cur)?;
            self.broken.pop();
        }
        Ok(())
    }
}

fn folders(maildir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut folders = vec![maildir.to_owned()];
    for entry in fs::read_dir(maildir)? {
        let entry = entry?;
        let nested = entry.file_name().as_encoded_bytes().starts_with(b".");
        if nested && entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

fn put_back(cur: &Path) -> io::Result<()> {
    let gone = cur.with_file_name(GONE);
    if !gone.exists() {
        return Ok(());
    }
    if !cur.exists() {
        return fs::rename(&gone, cur);
    }
    let mut present: BTreeMap<Vec<u8>, PathBuf> = BTreeMap::new();
    for directory in [cur.to_owned(), cur.with_file_name("new")] {
        let Ok(entries) = fs::read_dir(directory) else { continue };
        for entry in entries {
            let entry = entry?;
            present.insert(base(&entry.file_name()), entry.path());
        }
    }
    for entry in fs::read_dir(&gone)? {
        let entry = entry?;
        match present.get(&base(&entry.file_name())) {
            None => fs::rename(entry.path(), cur.join(entry.file_name()))?,
            // It came back another way. The same bytes need not be there twice, and the
            // name with the latest flags is the one that was taken away.
            Some(other) if fs::read(other)? == fs::read(entry.path())? => {
                fs::remove_file(other)?;
                fs::rename(entry.path(), cur.join(entry.file_name()))?;
            }
            Some(_) => {}
        }
    }
    fs::remove_dir(&gone)
}

fn base(name: &OsStr) -> Vec<u8> {
    let bytes = name.as_encoded_bytes();
    bytes.split(|byte| *byte == b':').next().unwrap_or(bytes).to_vec()
}
