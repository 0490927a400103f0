//! Pseudonyms: what is written instead of an address.
//!
//! # Invariants
//!
//! * The same address has the same pseudonym for as long as the key is there, and nobody tells
//!   one from the other without it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use tidegate_secret::Secret;
use zeroize::Zeroizing;

/// 80 bits: no two of ten million addresses meet.
const DIGITS: usize = 20;

/// Bytes of the key.
const KEY_BYTES: usize = 32;

/// Makes pseudonyms.
#[derive(Clone, Debug)]
pub struct Pseudonyms(Secret<[u8; KEY_BYTES]>);

impl Pseudonyms {
    /// With the key in the file at `path`, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// The file system's.
    pub fn open(path: &Path) -> io::Result<Self> {
        match Secret::read(path) {
            Ok(bytes) => {
                let key = <[u8; KEY_BYTES]>::try_from(bytes.expose().as_slice());
                let key = key.map(Secret::new).map(Self);
                key.map_err(|_| io::Error::other("the key has not 32 bytes"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(path),
            Err(error) => Err(error),
        }
    }

    fn make(path: &Path) -> io::Result<Self> {
        let mut random = Zeroizing::new([0; KEY_BYTES]);
        File::open("/dev/urandom")?.read_exact(random.as_mut_slice())?;
        let key = Secret::new(*random);
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(key.expose())?;
        file.sync_all()?;
        Ok(Self(key))
    }

    /// What is written instead of `address`.
    pub fn of(&self, address: &str) -> String {
        let normal = address.trim().to_lowercase();
        let hash = blake3::keyed_hash(self.0.expose(), normal.as_bytes()).to_hex();
        format!("mbx:{}", hash.get(..DIGITS).unwrap_or_default())
    }
}
