//! Shelve: writes one side of a mailbox to disk, as Dovecot lays out a Maildir++.
//!
//! # Invariants
//!
//! * Files are new: nothing is linked, opened twice or overwritten.
//! * A message's mtime is its time of delivery, damaged or not.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, Timespec, Timestamps};

use crate::life::{Folder, Life, ListState, Shelf, Side};
use crate::provider::LabError;
use crate::truth::Damage;

/// Mail is its owner's alone.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// Delivery times are finer than a second on disk.
const NANOSECONDS: i64 = 123_456_789;

/// Writes `life`'s mailbox below `root`.
pub(crate) fn write(life: &Life, root: &Path, side: Side) -> Result<(), LabError> {
    let maildir = root.join(life.person.path());
    let home = maildir.parent().unwrap_or(root);
    make_dirs(home)?;
    if side == Side::Live && !life.maildir {
        return Ok(());
    }
    make_dir(&maildir)?;
    write_owner_files(life, &maildir)?;
    let mut places = Vec::with_capacity(life.folders.len());
    for (number, folder) in life.folders.iter().enumerate() {
        let path = if number == 0 {
            maildir.clone()
        } else {
            maildir.join(format!(".{}", folder.name))
        };
        if let Some(shelf) = folder.shelf(side).filter(|shelf| shelf.exists) {
            write_folder(folder, shelf, &path, number != 0)?;
        }
        places.push(path);
    }
    for message in &life.messages {
        let Some(leaf) = message.leaf(side) else { continue };
        let Some(path) = places.get(message.folder) else { continue };
        let shelf = life.folders.get(message.folder).and_then(|it| it.shelf(side));
        let (Some(shelf), Some(letter)) = (shelf, life.letters.get(message.letter))
        else {
            continue;
        };
        let name = format!("{}{}", message.name, leaf.suffix(shelf));
        let path = path.join(if leaf.in_new { "new" } else { "cur" }).join(name);
        let bytes = leaf.damage.as_ref().map_or(letter, |(_, bytes)| bytes);
        write_mail(&path, bytes, message.mtime)?;
    }
    Ok(())
}

/// Puts something that is no mail among the mail; false when there is no place for it.
pub(crate) fn plant(
    maildir: &Path,
    what: Damage,
    target: Option<&Path>,
) -> Result<bool, LabError> {
    let directory = maildir.join(if what == Damage::Fifo { "new" } else { "cur" });
    if !directory.is_dir() {
        return Ok(false);
    }
    let path = directory.join("1795150000.M1P1.stor-00,S=100,W=104:2,S");
    let planted = match (what, target) {
        (Damage::Link, Some(target)) => std::os::unix::fs::symlink(target, &path),
        (Damage::Fifo, _) => {
            let mode = Mode::from_raw_mode(FILE_MODE);
            rustix::fs::mknodat(CWD, &path, FileType::Fifo, mode, 0)
                .map_err(io::Error::from)
        }
        (Damage::Directory, _) => fs::create_dir(&path),
        _ => return Ok(false),
    };
    planted.map_err(LabError::file("create", &path))?;
    Ok(true)
}

impl Folder {
    fn shelf(&self, side: Side) -> Option<&Shelf> {
        match side {
            Side::Live => Some(&self.live),
            Side::Snapshot => self.snapshot.as_ref(),
        }
    }
}

/// What belongs to the mailbox, not to one folder.
fn write_owner_files(life: &Life, maildir: &Path) -> Result<(), LabError> {
    let mut subscriptions = String::from("V\t2\n\n");
    for folder in life.folders.iter().skip(1) {
        subscriptions.push_str(&folder.name.replace('.', "\t"));
        subscriptions.push('\n');
    }
    write_file(&maildir.join("subscriptions"), subscriptions.as_bytes())?;
    let last = life.folders.iter().map(|folder| folder.uid_validity).max().unwrap_or(1);
    let last = format!("{last:08x}");
    write_file(&maildir.join("dovecot-uidvalidity"), last.as_bytes())?;
    write_file(&maildir.join(format!("dovecot-uidvalidity.{last}")), b"")
}

fn write_folder(
    folder: &Folder,
    shelf: &Shelf,
    path: &Path,
    nested: bool,
) -> Result<(), LabError> {
    if nested {
        make_dir(path)?;
        write_file(&path.join("maildirfolder"), b"")?;
    }
    for name in ["cur", "new", "tmp"] {
        if shelf.without != Some(name) {
            make_dir(&path.join(name))?;
        }
    }
    let mut list = shelf.list_text(folder.uid_validity, &folder.guid).into_bytes();
    match shelf.list {
        ListState::Whole | ListState::Lost => {}
        ListState::Zeroed => list.fill(0),
        ListState::Cut(left) => list.truncate(left),
    }
    if shelf.list != ListState::Lost {
        write_file(&path.join("dovecot-uidlist"), &list)?;
    }
    if !shelf.keywords.is_empty() && !shelf.keywords_lost {
        let mut lines = String::new();
        for (number, word) in shelf.keywords.iter().enumerate() {
            lines.extend([&number.to_string(), " ", word, "\n"]);
        }
        write_file(&path.join("dovecot-keywords"), lines.as_bytes())?;
    }
    Ok(())
}

fn write_mail(path: &Path, bytes: &[u8], mtime: i64) -> Result<(), LabError> {
    let write = || -> io::Result<()> {
        let file = create(path)?;
        (&file).write_all(bytes)?;
        let moment = Timespec { tv_sec: mtime, tv_nsec: NANOSECONDS };
        let times = Timestamps { last_access: moment, last_modification: moment };
        Ok(rustix::fs::futimens(&file, &times)?)
    };
    write().map_err(LabError::file("write", path))
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), LabError> {
    let write = || create(path)?.write_all(bytes);
    write().map_err(LabError::file("write", path))
}

fn create(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)
}

fn make_dir(path: &Path) -> Result<(), LabError> {
    let made = fs::DirBuilder::new().mode(DIRECTORY_MODE).create(path);
    made.map_err(LabError::file("create", path))
}

fn make_dirs(path: &Path) -> Result<(), LabError> {
    let made = fs::DirBuilder::new().mode(DIRECTORY_MODE).recursive(true).create(path);
    made.map_err(LabError::file("create", path))
}
