//! Identity: which data directory this is, so that a plan that was saved for one is not started
//! in another.
//!
//! # Invariants
//!
//! * A data directory has one identity from its first start on, and no two have the same.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

use crate::view::View;

/// The file that holds it.
const FILE: &str = "identity";

/// Which data directory this is.
#[derive(Clone, Debug)]
pub(crate) struct Identity(Arc<str>);

impl Identity {
    /// That of `dir`, which gets one if it has none.
    ///
    /// # Errors
    ///
    /// When it can neither be read nor written.
    pub(crate) fn of(dir: &Path) -> io::Result<Self> {
        let path = dir.join(FILE);
        match fs::read_to_string(&path) {
            Ok(text) if is_one(text.trim()) => return Ok(Self(text.trim().into())),
            Ok(_) => {
                let text = format!("`{}` holds no identity", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut random = [0_u8; 16];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let new = format!("{:032x}", u128::from_le_bytes(random));
        let staged = path.with_extension("tmp");
        let mut file = File::create(&staged)?;
        writeln!(file, "{new}")?;
        file.sync_all()?;
        fs::rename(&staged, &path)?;
        File::open(dir)?.sync_all()?;
        Ok(Self(new.into()))
    }

    /// That of a coordinator without a data directory of its own.
    pub(crate) fn none() -> Self {
        Self("".into())
    }

    /// How the data directory stands now, for whoever saves a plan.
    pub(crate) fn seen(&self, view: Option<&View>) -> String {
        match view {
            None => format!("{}.none", self.0),
            Some(view) => format!("{}.{}", self.0, view.etag()),
        }
    }
}

fn is_one(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|it| it.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_keeps_its_identity_and_no_two_have_the_same() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());

        let first = Identity::of(one.path()).unwrap().seen(None);
        let again = Identity::of(one.path()).unwrap().seen(None);
        let another = Identity::of(other.path()).unwrap().seen(None);

        assert_eq!(first, again);
        assert_ne!(first, another);
        assert_eq!(first.split_once('.').map(|(_, state)| state), Some("none"));
    }

    #[test]
    fn an_identity_that_was_cut_is_not_replaced_by_another() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "0123").unwrap();

        assert!(Identity::of(dir.path()).is_err());
    }
}
