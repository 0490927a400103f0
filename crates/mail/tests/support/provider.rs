//! Provider: a small real mail store in a temporary directory, to be damaged.
//!
//! # Invariants
//!
//! * Live and snapshot begin with the same bytes in different files.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

pub(crate) const OWNER: &str = "anna@example.org";
pub(crate) const MAILDIR: &str = "example.org/anna/Maildir";
pub(crate) const VALIDITY: u32 = 1_795_293_977;

pub(crate) struct Provider {
    pub(crate) dir: tempfile::TempDir,
}

/// One message: its base name and bytes.
#[derive(Clone)]
pub(crate) struct Letter {
    pub(crate) base: String,
    pub(crate) bytes: Vec<u8>,
}

/// A message with line ends as most mail is stored; its sizes are in its name.
pub(crate) fn letter(number: u32) -> Letter {
    addressed(number, OWNER)
}

/// A message delivered to `owner`.
pub(crate) fn addressed(number: u32, owner: &str) -> Letter {
    let mut text = format!("Delivered-To: {owner}\nSubject: number {number}\n\n");
    for line in 0..40 {
        writeln!(text, "{number}: line {line} of a message that says little").unwrap();
    }
    named(number, text.into_bytes())
}

/// Bytes with a fitting name.
pub(crate) fn named(number: u32, bytes: Vec<u8>) -> Letter {
    let mut bare = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let after_cr = at > 0 && bytes.get(at - 1) == Some(&b'\r');
        bare += usize::from(*byte == b'\n' && !after_cr);
    }
    let (size, virtual_size) = (bytes.len(), bytes.len() + bare);
    let time = 1_795_000_000 + number;
    let base = format!("{time}.M{number}P1.host,S={size},W={virtual_size}");
    Letter { base, bytes }
}

impl Provider {
    /// Five messages in the inbox and three in `Archive.2024`, all listed, on both sides.
    pub(crate) fn healthy() -> Self {
        let provider = Self::empty();
        for side in ["live", "snapshot"] {
            for number in 1..=5 {
                provider.put(side, ("", "cur"), &letter(number), ":2,S");
            }
            for number in 11..=13 {
                provider.put(side, (".Archive.2024", "cur"), &letter(number), ":2,FS");
            }
            provider.list(side, "", &[1, 2, 3, 4, 5]);
            provider.list(side, ".Archive.2024", &[11, 12, 13]);
            provider.write(side, "dovecot-keywords", b"0 $Work\n1 $Junk\n");
            provider.write(side, "subscriptions", b"V\t2\n\nArchive\t2024\n");
            provider.write(side, ".Archive.2024/maildirfolder", b"");
        }
        provider
    }

    pub(crate) fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for root in ["live", "snapshot", "work"] {
            fs::create_dir(dir.path().join(root)).unwrap();
        }
        Self { dir }
    }

    pub(crate) fn root(&self, side: &str) -> PathBuf {
        self.dir.path().join(side)
    }

    pub(crate) fn at(&self, side: &str, rel: &str) -> PathBuf {
        self.root(side).join(MAILDIR).join(rel)
    }

    pub(crate) fn write(&self, side: &str, rel: &str, bytes: &[u8]) {
        let path = self.at(side, rel);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(crate) fn read(&self, side: &str, rel: &str) -> String {
        String::from_utf8(fs::read(self.at(side, rel)).unwrap()).unwrap()
    }

    /// A message in a folder, with the time of its delivery.
    pub(crate) fn put(
        &self,
        side: &str,
        (folder, sub): (&str, &str),
        letter: &Letter,
        info: &str,
    ) {
        for sub in ["cur", "new", "tmp"] {
            fs::create_dir_all(self.at(side, folder).join(sub)).unwrap();
        }
        let path = self.at(side, folder).join(sub).join(letter.base.clone() + info);
        fs::write(&path, &letter.bytes).unwrap();
        let seconds: u64 = letter.base.split('.').next().unwrap().parse().unwrap_or(7);
        set_time(&path, Duration::new(seconds, 123_456_789));
    }

    /// A list of these messages with their numbers as UIDs.
    pub(crate) fn list(&self, side: &str, folder: &str, numbers: &[u32]) {
        let letters: Vec<(u32, String)> =
            numbers.iter().map(|number| (*number, letter(*number).base)).collect();
        self.list_of(side, folder, &letters);
    }

    pub(crate) fn list_of(&self, side: &str, folder: &str, letters: &[(u32, String)]) {
        let next = letters.iter().map(|(uid, _)| uid + 1).max().unwrap_or(1).max(14);
        let mut text = format!("3 V{VALIDITY} N{next} Gf0102b{}\n", folder.len());
        for (uid, base) in letters {
            writeln!(text, "{uid} :{base}").unwrap();
        }
        let rel = Path::new(folder).join("dovecot-uidlist");
        self.write(side, rel.to_str().unwrap(), text.as_bytes());
    }

    /// The path of a message's file, whatever its flags; panics if it is there twice.
    pub(crate) fn find(&self, side: &str, folder: &str, base: &str) -> Option<PathBuf> {
        let mut found = Vec::new();
        for sub in ["cur", "new"] {
            let Ok(entries) = fs::read_dir(self.at(side, folder).join(sub)) else {
                continue;
            };
            for entry in entries {
                let entry = entry.unwrap();
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.split(':').next() == Some(base) {
                    found.push(entry.path());
                }
            }
        }
        assert!(found.len() <= 1, "twice: {found:?}");
        found.pop()
    }

    /// Writes over a message's file.
    pub(crate) fn damage(&self, side: &str, folder: &str, letter: &Letter, bytes: &[u8]) {
        fs::write(self.find(side, folder, &letter.base).unwrap(), bytes).unwrap();
    }

    pub(crate) fn lose(&self, side: &str, folder: &str, letter: &Letter) {
        fs::remove_file(self.find(side, folder, &letter.base).unwrap()).unwrap();
    }

    /// The bytes that a reader gets for a message.
    pub(crate) fn served(&self, folder: &str, letter: &Letter) -> Option<Vec<u8>> {
        Some(fs::read(self.find("live", folder, &letter.base)?).unwrap())
    }

    /// Every file of a tree with its bytes, links as links.
    pub(crate) fn tree(&self, side: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut tree = BTreeMap::new();
        walk(&self.root(side), &self.root(side), &mut tree);
        tree
    }

    /// The bytes kept anywhere in the work directory.
    pub(crate) fn keeps(&self, bytes: &[u8]) -> bool {
        self.tree("work").values().any(|kept| kept == bytes)
    }
}

pub(crate) fn set_time(path: &Path, since_epoch: Duration) {
    let time = UNIX_EPOCH + since_epoch;
    fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
}

fn walk(root: &Path, dir: &Path, tree: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        let rel = path.strip_prefix(root).unwrap().to_owned();
        if kind.is_dir() {
            tree.insert(rel, b"directory".to_vec());
            walk(root, &path, tree);
        } else if kind.is_file() {
            tree.insert(rel, fs::read(&path).unwrap());
        } else {
            tree.insert(rel, b"odd".to_vec());
        }
    }
}
