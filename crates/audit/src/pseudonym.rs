//! Pseudonyms: what is written instead of an address.
//!
//! # Invariants
//!
//! * The same address has the same pseudonym for as long as the key is there, and nobody tells
//!   one from the other without it.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// 80 bits: no two of ten million addresses meet.
const DIGITS: usize = 20;

/// Makes pseudonyms.
#[derive(Clone)]
pub struct Pseudonyms([u8; 32]);

impl Pseudonyms {
    /// With the key in the file at `path`, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// The file system's.
    pub fn open(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(bytes) => {
                let key = <[u8; 32]>::try_from(bytes.as_slice());
                key.map(Self).map_err(|_| io::Error::other("the key has not 32 bytes"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(path),
            Err(error) => Err(error),
        }
    }

    fn make(path: &Path) -> io::Result<Self> {
        let mut key = [0; 32];
        fs::File::open("/dev/urandom")?.read_exact(&mut key)?;
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(&key)?;
        file.sync_all()?;
        Ok(Self(key))
    }

    /// What is written instead of `address`.
    pub fn of(&self, address: &str) -> String {
        let normal = address.trim().to_lowercase();
        let hash = blake3::keyed_hash(&self.0, normal.as_bytes()).to_hex();
        format!("mbx:{}", hash.get(..DIGITS).unwrap_or_default())
    }
}
