//! Quarantine: the list of what was set aside or lost, per mailbox.
//!
//! # Invariants
//!
//! * The list is durable before anything leaves the mail tree: what is not served is always named.
//! * An entry goes only when a good message stands again under its name.

use std::io;

use crate::manifest::{push_escaped, unescape};
use crate::manifest::number;
use crate::reason::Reason;

const FIRST_LINE: &[u8] = b"tidegate-quarantine 1";

/// A message that is not served: kept outside the mail tree, or lost.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetAside {
    /// Folder; empty is the inbox, otherwise as in the store without the leading dot (modified
    /// UTF-7 kept). Bytes that are not text are `\xNN`.
    pub folder: String,
    /// UID, if the folder's list has given one.
    pub uid: Option<u32>,
    /// Base name, escaped like the folder.
    pub name: String,
    /// Bytes kept.
    pub size_bytes: u64,
    /// Why.
    pub reason: Reason,
    /// Where its bytes are, below the work directory (escaped); nothing if there are none.
    pub kept_at: Option<String>,
}

pub(crate) fn to_bytes(entries: &[SetAside]) -> Vec<u8> {
    let mut bytes = FIRST_LINE.to_vec();
    bytes.push(b'\n');
    for entry in entries {
        let (first, second) = entry.reason.numbers();
        let uid = entry.uid.map_or_else(|| "-".to_owned(), |uid| uid.to_string());
        push_escaped(&mut bytes, entry.folder.as_bytes());
        bytes.extend_from_slice(format!("\t{uid}\t").as_bytes());
        push_escaped(&mut bytes, entry.name.as_bytes());
        let size = entry.size_bytes;
        let code = entry.reason.code();
        let middle = format!("\t{size}\t{code}\t{first}\t{second}\t");
        bytes.extend_from_slice(middle.as_bytes());
        push_escaped(&mut bytes, entry.kept_at.as_deref().unwrap_or_default().as_bytes());
        bytes.push(b'\n');
    }
    bytes
}

pub(crate) fn parse(bytes: &[u8]) -> io::Result<Vec<SetAside>> {
    let refuse =
        || io::Error::new(io::ErrorKind::InvalidData, "not a list of what was set aside");
    let mut lines =
        bytes.strip_suffix(b"\n").ok_or_else(refuse)?.split(|byte| *byte == b'\n');
    if lines.next() != Some(FIRST_LINE) {
        return Err(refuse());
    }
    lines.map(entry).collect::<Option<Vec<_>>>().ok_or_else(refuse)
}

fn entry(line: &[u8]) -> Option<SetAside> {
    let mut fields = line.split(|byte| *byte == b'\t');
    let mut text = || String::from_utf8(unescape(fields.next()?)?).ok();
    let folder = text()?;
    let uid = match &*text()? {
        "-" => None,
        digits => Some(number(digits.as_bytes())?),
    };
    let name = text()?;
    let size_bytes = number(text()?.as_bytes())?;
    let code = text()?;
    let numbers = (number(text()?.as_bytes())?, number(text()?.as_bytes())?);
    let kept_at = Some(text()?).filter(|path| !path.is_empty());
    let reason = Reason::from_code(&code, numbers)?;
    Some(SetAside { folder, uid, name, size_bytes, reason, kept_at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_entry_reads_back(
            folder: String, name: String, uid: Option<u32>, size_bytes: u64,
            kept_at in prop::option::of("[a-z\t\n%/]{1,20}"),
        ) {
            let reason = Reason::Truncated { expected: 9, found: 1 };
            let entry = SetAside { folder, uid, name, size_bytes, reason, kept_at };
            let list = vec![entry];
            prop_assert_eq!(parse(&to_bytes(&list)).unwrap(), list);
        }

        #[test]
        fn any_bytes_can_be_parsed(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
