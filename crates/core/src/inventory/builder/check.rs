//! What can be said of a row without knowing the others.

use super::super::{LongField, Row, RowError, SIZE_BYTES, SIZE_UNKNOWN};

/// Local part 64, `@`, domain 255: the longest address mail can carry.
pub(super) const ADDRESS_BYTES_MAX: usize = 320;
/// A quarter of what Linux accepts, so that folders and file names still fit below it.
pub(super) const PATH_BYTES_MAX: usize = 1_024;
/// A host name's length.
const NODE_BYTES_MAX: usize = 253;
/// Tiers head columns on a screen.
const TIER_BYTES_MAX: usize = 64;
/// Label keys are column names.
const KEY_BYTES_MAX: usize = 64;
/// Labels are for selecting, not for documents.
const VALUE_BYTES_MAX: usize = 256;

/// The size in bytes, if the row says it.
///
/// # Errors
///
/// [`RowError`] when the row can be part of no inventory.
pub(super) fn row(row: &Row<'_>) -> Result<Option<u64>, RowError> {
    field(LongField::Address, row.address, ADDRESS_BYTES_MAX)?;
    field(LongField::Node, row.node, NODE_BYTES_MAX)?;
    field(LongField::Tier, row.tier, TIER_BYTES_MAX)?;
    field(LongField::Path, row.path, PATH_BYTES_MAX)?;
    match row.address.rsplit_once('@') {
        None | Some(("", _) | (_, "")) => return Err(RowError::NoAt),
        Some(_) if has_space(row.address) => {
            return Err(RowError::SpaceInAddress);
        }
        Some(_) => {}
    }
    path(row.path)?;
    let mut size = None;
    for (place, label) in row.labels.iter().enumerate() {
        let key = label.0;
        field(LongField::LabelKey, key, KEY_BYTES_MAX)?;
        if row.labels.iter().take(place).any(|(earlier, _)| *earlier == key) {
            return Err(RowError::LabelTwice { key: key.to_owned() });
        }
        size = value(label)?.or(size);
    }
    Ok(size)
}

/// The size in bytes, if these labels say it, whose keys can be together.
///
/// # Errors
///
/// [`RowError`] when a value cannot be.
pub(super) fn values(labels: &[(&str, &str)]) -> Result<Option<u64>, RowError> {
    labels.iter().try_fold(None, |size, label| Ok(value(label)?.or(size)))
}

fn value(&(key, value): &(&str, &str)) -> Result<Option<u64>, RowError> {
    if value.is_empty() {
        return Ok(None);
    }
    // What is a number has no control characters.
    if key == SIZE_BYTES
        && value.len() <= VALUE_BYTES_MAX
        && let Ok(size) = size_bytes(value)
    {
        return Ok(Some(size));
    }
    field(LongField::LabelValue, value, VALUE_BYTES_MAX)?;
    if key == SIZE_BYTES { size_bytes(value).map(Some) } else { Ok(None) }
}

fn size_bytes(value: &str) -> Result<u64, RowError> {
    let size = value.parse().ok().filter(|size| *size != SIZE_UNKNOWN);
    size.ok_or_else(|| RowError::SizeNotANumber { value: value.to_owned() })
}

fn field(field: LongField, text: &str, max: usize) -> Result<(), RowError> {
    if text.is_empty() {
        return Err(match field {
            LongField::Address => RowError::EmptyAddress,
            LongField::Node => RowError::EmptyNode,
            LongField::Tier => RowError::EmptyTier,
            LongField::Path => RowError::EmptyPath,
            LongField::LabelKey | LongField::LabelValue => RowError::EmptyLabel,
        });
    }
    if text.len() > max {
        return Err(RowError::TooLong { field, bytes: text.len(), max });
    }
    // Without leaving early, many bytes are looked at together.
    let control = |found: bool, byte: u8| found | byte.is_ascii_control();
    if text.bytes().fold(false, control) {
        return Err(RowError::ControlCharacter { field });
    }
    Ok(())
}

/// Whether there is white space in a text without control characters.
fn has_space(text: &str) -> bool {
    if text.is_ascii() {
        return text.as_bytes().contains(&b' ');
    }
    text.contains(char::is_whitespace)
}

fn path(path: &str) -> Result<(), RowError> {
    if path.starts_with('/') {
        return Err(RowError::PathLeavesRoot);
    }
    let mut plain = true;
    for part in path.as_bytes().split(|byte| *byte == b'/') {
        match part {
            b".." => return Err(RowError::PathLeavesRoot),
            b"" | b"." => plain = false,
            _ => {}
        }
    }
    if plain { Ok(()) } else { Err(RowError::PathNotPlain) }
}
