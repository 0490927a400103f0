//! Secrets: what keys and passwords are kept in.
//!
//! # Invariants
//!
//! * Whoever prints one sees that there is one, and nothing of it.
//! * Its memory is overwritten when it is let go, copies of it and what a file was read into
//!   alike. What a library makes of it for its own use is beyond this.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use zeroize::{Zeroize, Zeroizing};

/// Files of keys and passwords have less.
const FILE_BYTES_MAX: usize = 64 << 10;

/// Something that nobody may see.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret<T: Zeroize>(Zeroizing<T>);

impl<T: Zeroize> Secret<T> {
    /// Keeps `it`.
    pub fn new(it: T) -> Self {
        Self(Zeroizing::new(it))
    }

    /// What it is, for whoever uses it now and keeps nothing of it.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl From<&str> for Secret<String> {
    fn from(text: &str) -> Self {
        Self::new(text.to_owned())
    }
}

impl Secret<Vec<u8>> {
    /// The whole file at `path`.
    ///
    /// # Errors
    ///
    /// The file system's; [`io::ErrorKind::FileTooLarge`] for what can be no secret.
    pub fn read(path: &Path) -> io::Result<Self> {
        // A buffer that grows would leave copies behind: it has room for all there may be.
        let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX + 1));
        let mut file = File::open(path)?.take(FILE_BYTES_MAX as u64 + 1);
        let mut part = Zeroizing::new([0; 512]);
        loop {
            let length = file.read(part.as_mut_slice())?;
            if length == 0 {
                return Ok(Self(bytes));
            }
            if bytes.len() + length > FILE_BYTES_MAX {
                return Err(io::ErrorKind::FileTooLarge.into());
            }
            bytes.extend(part.iter().take(length));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_secret_is_never_shown_however_it_is_printed() {
        let password = Secret::from("tr0ub4dor");
        let key = Secret::new([7_u8; 32]);

        for shown in [format!("{password:?} {key:?}"), format!("{password:#?} {key:#?}")]
        {
            assert_eq!(shown, "(secret) (secret)");
        }
        assert_eq!(password.expose(), "tr0ub4dor");
    }

    #[test]
    fn a_secret_is_wiped_when_it_is_let_go_and_so_is_every_copy() {
        let wiped = Arc::new(AtomicUsize::new(0));

        let one = Secret::new(Witness(Arc::clone(&wiped)));
        let copy = one.clone();
        drop(one);
        let first = wiped.load(Ordering::Relaxed);
        drop(copy);

        assert_eq!((first, wiped.load(Ordering::Relaxed)), (1, 2));
    }

    #[test]
    fn a_file_is_read_whole_and_one_that_can_be_no_secret_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, vec![b'k'; 3_000]).unwrap();
        let whole = Secret::read(&path).unwrap();
        std::fs::write(&path, vec![b'k'; FILE_BYTES_MAX + 1]).unwrap();
        let refused = Secret::read(&path).unwrap_err();

        assert_eq!(whole.expose(), &vec![b'k'; 3_000]);
        assert_eq!(refused.kind(), io::ErrorKind::FileTooLarge);
    }

    /// Counts how often it was wiped.
    #[derive(Clone)]
    struct Witness(Arc<AtomicUsize>);

    impl Zeroize for Witness {
        fn zeroize(&mut self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}
