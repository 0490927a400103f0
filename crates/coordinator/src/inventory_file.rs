//! The inventory on disk, beside the journal that names it.
//!
//! ```text
//! "tidegate inventory 1\n"
//! number of mailboxes: u32
//! each mailbox: address, node, tier, path as texts; number of labels: u32;
//!               each label: key, value as texts
//! a text: its length in bytes: u32, then UTF-8; numbers have the lowest byte first
//! ```
//!
//! # Invariants
//!
//! * The file is complete and durable before anything names it.
//! * What is read back has the digest by which it was asked for, or is not used.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use tidegate_core::inventory::{Digest, Inventory, InventoryBuilder, Row, RowError};

const MAGIC: &[u8] = b"tidegate inventory 1\n";

/// No text of an inventory is longer; a larger length is damage.
const TEXT_BYTES_MAX: u32 = 64 << 10;

/// No mailbox has more labels; a larger number is damage.
const LABELS_MAX: u32 = 4_096;

/// The inventory cannot be kept, or cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum InventoryFileError {
    /// The file could not be made durable.
    #[error("write inventory `{}`", .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file cannot be read.
    #[error("read inventory `{}`; put it back from a copy of the data directory", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A row in it is none.
    #[error("read inventory `{}`; put it back from a copy of the data directory", .path.display())]
    Row {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: RowError,
    },
    /// It is another inventory.
    #[error(
        "read inventory `{}`: its content is {found}; \
         put it back from a copy of the data directory",
        .path.display()
    )]
    OtherDigest {
        /// Which file.
        path: PathBuf,
        /// What it is.
        found: Digest,
    },
}

/// Keeps `inventory` in `dir`, under its digest.
///
/// # Errors
///
/// [`InventoryFileError::Write`]; nothing may name the file then.
pub(crate) fn write(dir: &Path, inventory: &Inventory) -> Result<(), InventoryFileError> {
    let path = path_of(dir, inventory.digest());
    write_to(dir, &path, inventory)
        .map_err(|source| InventoryFileError::Write { path, source })
}

/// The inventory called `digest`.
///
/// # Errors
///
/// [`InventoryFileError`] when it is not there, damaged or another one.
pub(crate) fn read(dir: &Path, digest: Digest) -> Result<Inventory, InventoryFileError> {
    let path = path_of(dir, digest);
    let inventory = read_from(&path)?;
    if inventory.digest() != digest {
        let found = inventory.digest();
        return Err(InventoryFileError::OtherDigest { path, found });
    }
    Ok(inventory)
}

fn path_of(dir: &Path, digest: Digest) -> PathBuf {
    dir.join(format!("inventory-{digest}.bin"))
}

fn write_to(dir: &Path, path: &Path, inventory: &Inventory) -> io::Result<()> {
    let staged = path.with_extension("tmp");
    let mut options = OpenOptions::new();
    // Addresses are nobody else's business.
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = BufWriter::new(options.open(&staged)?);
    file.write_all(MAGIC)?;
    file.write_all(&inventory.len().to_le_bytes())?;
    for row in inventory.rows() {
        for text in [row.address, row.node, row.tier, row.path] {
            write_text(&mut file, text)?;
        }
        file.write_all(&length(row.labels.len())?.to_le_bytes())?;
        for (key, value) in &row.labels {
            write_text(&mut file, key)?;
            write_text(&mut file, value)?;
        }
    }
    file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(&staged, path)?;
    File::open(dir)?.sync_all()
}

fn write_text(file: &mut impl Write, text: &str) -> io::Result<()> {
    file.write_all(&length(text.len())?.to_le_bytes())?;
    file.write_all(text.as_bytes())
}

fn length(length: usize) -> io::Result<u32> {
    u32::try_from(length).map_err(|_| damaged("a length beyond 32 bits"))
}

fn read_from(path: &Path) -> Result<Inventory, InventoryFileError> {
    let io_error = |source| InventoryFileError::Read { path: path.to_owned(), source };
    let mut file = BufReader::new(File::open(path).map_err(io_error)?);
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic).map_err(io_error)?;
    if magic != MAGIC {
        return Err(io_error(damaged("it does not begin as an inventory does")));
    }
    let mut builder = InventoryBuilder::new();
    for _ in 0..read_number(&mut file).map_err(io_error)? {
        let row = OwnedRow::read(&mut file).map_err(io_error)?;
        let labels: Vec<(&str, &str)> = row
            .labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        let [address, node, tier, place] = &row.texts;
        builder.push(Row { address, node, tier, path: place, labels: &labels }).map_err(
            |source| InventoryFileError::Row { path: path.to_owned(), source },
        )?;
    }
    if file.read(&mut [0]).map_err(io_error)? > 0 {
        return Err(io_error(damaged("something follows its last mailbox")));
    }
    Ok(builder.finish())
}

struct OwnedRow {
    /// Address, node, tier, path.
    texts: [String; 4],
    labels: Vec<(String, String)>,
}

impl OwnedRow {
    fn read(file: &mut impl Read) -> io::Result<Self> {
        let texts =
            [read_text(file)?, read_text(file)?, read_text(file)?, read_text(file)?];
        let count = read_number(file)?;
        if count > LABELS_MAX {
            return Err(damaged("more labels than any mailbox has"));
        }
        let labels = (0..count).map(|_| Ok((read_text(file)?, read_text(file)?)));
        let labels = labels.collect::<io::Result<_>>()?;
        Ok(Self { texts, labels })
    }
}

fn read_number(file: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    file.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn read_text(file: &mut impl Read) -> io::Result<String> {
    let length = read_number(file)?;
    if length > TEXT_BYTES_MAX {
        return Err(damaged("a text longer than any real one"));
    }
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact(&mut bytes)?;
    String::from_utf8(bytes).map_err(|_| damaged("a text that is not UTF-8"))
}

fn damaged(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inventory_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let inventory = inventory();

        write(dir.path(), &inventory).unwrap();
        let again = read(dir.path(), inventory.digest()).unwrap();

        assert_eq!(again.digest(), inventory.digest());
        assert!(again.rows().eq(inventory.rows()));
    }

    #[test]
    fn a_flipped_byte_anywhere_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let inventory = inventory();
        write(dir.path(), &inventory).unwrap();
        let path = path_of(dir.path(), inventory.digest());
        let whole = fs::read(&path).unwrap();

        for place in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[place] ^= 0x01;
            fs::write(&path, bytes).unwrap();

            assert!(read(dir.path(), inventory.digest()).is_err(), "byte {place}");
        }
    }

    #[test]
    fn a_cut_or_lengthened_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let inventory = inventory();
        write(dir.path(), &inventory).unwrap();
        let path = path_of(dir.path(), inventory.digest());
        let whole = fs::read(&path).unwrap();

        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(read(dir.path(), inventory.digest()).is_err());
        fs::write(&path, [whole, vec![0]].concat()).unwrap();
        assert!(read(dir.path(), inventory.digest()).is_err());
    }

    fn inventory() -> Inventory {
        let mut builder = InventoryBuilder::new();
        for (address, labels) in
            [("ann@a.it", &[("size_bytes", "7")][..]), ("bob@a.it", &[])]
        {
            let path = address;
            let row = Row { address, node: "n1", tier: "free", path, labels };
            builder.push(row).unwrap();
        }
        builder.finish()
    }
}
