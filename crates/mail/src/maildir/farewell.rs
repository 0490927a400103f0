//! Farewell: the folders that their owner deleted, as `dovecot.mailbox.log` has it.
//!
//! # Invariants
//!
//! * Only a folder that the log names by its GUID was deleted on purpose.

use std::collections::HashSet;

/// Bytes of one record: its kind, three of padding, a GUID, a time.
const RECORD_BYTES: usize = 24;

/// The kind that tells of a deleted folder.
const DELETED: u8 = 1;

/// The GUIDs of deleted folders, in hexadecimal as UID lists have them.
pub(crate) fn deleted_folders(log: &[u8]) -> HashSet<Vec<u8>> {
    let records = log.chunks_exact(RECORD_BYTES);
    let deleted = records.filter(|record| record.first() == Some(&DELETED));
    let guids = deleted.filter_map(|record| record.get(4..20));
    guids.map(|guid| guid.iter().flat_map(|byte| hex(*byte)).collect()).collect()
}

fn hex(byte: u8) -> [u8; 2] {
    [byte >> 4, byte & 15].map(|digit| match digit {
        0..10 => b'0' + digit,
        _ => b'a' + digit - 10,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_records_of_deletions_count() {
        let mut log = Vec::new();
        for (kind, guid) in [(1, 0x0f), (3, 0xa0), (0, 0)] {
            log.extend_from_slice(&[kind, 0, 0, 0]);
            log.extend_from_slice(&[guid; 16]);
            log.extend_from_slice(&[7; 4]);
        }
        log.extend_from_slice(&[1; 20]);

        let deleted = deleted_folders(&log);

        assert_eq!(deleted, HashSet::from(["0f".repeat(16).into_bytes()]));
    }
}
