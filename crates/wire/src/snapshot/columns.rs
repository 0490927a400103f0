//! Columns: many values of one kind, written so that equal ones cost nearly nothing.
//!
//! # Invariants
//!
//! * A column comes back exactly as long as it must be, or not at all.

use tidegate_core::rollout::{Grades, MessageTotals};

use crate::journal::v1::TotalsColumns;
use crate::protocol::{ProtocolError, narrow};

/// Bytes as runs: a value, and how often it is repeated.
pub(super) fn keep_runs(values: impl Iterator<Item = u8>) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut run: Option<(u8, u64)> = None;
    for value in values {
        run = match run {
            Some((same, repeated)) if same == value => Some((same, repeated + 1)),
            ended => {
                put_run(&mut kept, ended);
                Some((value, 0))
            }
        };
    }
    put_run(&mut kept, run);
    kept
}

fn put_run(kept: &mut Vec<u8>, run: Option<(u8, u64)>) {
    if let Some((value, repeated)) = run {
        kept.push(value);
        prost::encoding::encode_varint(repeated, kept);
    }
}

/// The `length` bytes that these runs stand for.
pub(super) fn runs(
    field: &'static str,
    mut kept: &[u8],
    length: usize,
) -> Result<Vec<u8>, ProtocolError> {
    let mut values = Vec::with_capacity(length);
    while let Some((value, rest)) = kept.split_first() {
        kept = rest;
        let repeated = prost::encoding::decode_varint(&mut kept)
            .map_err(|_| ProtocolError::invalid(field, "a run cut short"))?;
        let room = length - values.len();
        let count = usize::try_from(repeated).ok().and_then(|it| it.checked_add(1));
        let count = count.filter(|count| *count <= room);
        let count = count.ok_or_else(|| ProtocolError::invalid(field, &repeated))?;
        values.resize(values.len() + count, *value);
    }
    if values.len() != length {
        return Err(ProtocolError::invalid(field, &values.len()));
    }
    Ok(values)
}

/// Messages, each kind a column.
pub(super) fn keep_totals(all: impl Iterator<Item = MessageTotals>) -> TotalsColumns {
    let mut kept = TotalsColumns::default();
    for totals in all {
        let MessageTotals {
            intact,
            repaired,
            returned,
            newer,
            deleted,
            set_aside,
            lost,
            bytes_read,
            doubts,
            grades,
        } = totals;
        let Grades { perfect, good, investigate, poor } = grades;
        kept.intact.push(intact);
        kept.repaired.push(repaired);
        kept.returned.push(returned);
        kept.newer.push(newer);
        kept.deleted.push(deleted);
        kept.set_aside.push(set_aside);
        kept.lost.push(lost);
        kept.bytes_read.push(bytes_read);
        kept.doubts.push(doubts);
        kept.perfect.push(u64::from(perfect));
        kept.good.push(u64::from(good));
        kept.investigate.push(u64::from(investigate));
        kept.poor.push(u64::from(poor));
    }
    each(&mut kept, |column| {
        if column.iter().all(|value| *value == 0) {
            column.clear();
        }
    });
    kept
}

/// The messages of `count` mailboxes or jobs.
pub(super) fn totals(
    kept: Option<&TotalsColumns>,
    count: usize,
) -> Result<Vec<MessageTotals>, ProtocolError> {
    let mut kept = kept.cloned().unwrap_or_default();
    let mut wrong = None;
    each(&mut kept, |column| {
        if column.is_empty() {
            column.resize(count, 0);
        } else if column.len() != count {
            wrong = Some(column.len());
        }
    });
    if let Some(wrong) = wrong {
        return Err(ProtocolError::invalid("totals", &wrong));
    }
    let at = |column: &[u64], row: usize| column.get(row).copied().unwrap_or(0);
    let grade = |column: &[u64], row| narrow("totals.grades", at(column, row));
    let row = |row: usize| {
        Ok(MessageTotals {
            intact: at(&kept.intact, row),
            repaired: at(&kept.repaired, row),
            returned: at(&kept.returned, row),
            newer: at(&kept.newer, row),
            deleted: at(&kept.deleted, row),
            set_aside: at(&kept.set_aside, row),
            lost: at(&kept.lost, row),
            bytes_read: at(&kept.bytes_read, row),
            doubts: at(&kept.doubts, row),
            grades: Grades {
                perfect: grade(&kept.perfect, row)?,
                good: grade(&kept.good, row)?,
                investigate: grade(&kept.investigate, row)?,
                poor: grade(&kept.poor, row)?,
            },
        })
    };
    (0..count).map(row).collect()
}

/// Does something with every column.
fn each(columns: &mut TotalsColumns, with: impl FnMut(&mut Vec<u64>)) {
    let TotalsColumns {
        intact,
        repaired,
        returned,
        newer,
        deleted,
        set_aside,
        lost,
        bytes_read,
        doubts,
        perfect,
        good,
        investigate,
        poor,
    } = columns;
    let messages =
        [intact, repaired, returned, newer, deleted, set_aside, lost, bytes_read, doubts];
    let grades = [perfect, good, investigate, poor];
    messages.into_iter().chain(grades).for_each(with);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_come_back_and_no_others_do() {
        let values = [0, 0, 0, 7, 7, 255, 0];
        let kept = keep_runs(values.into_iter());

        assert_eq!(runs("x", &kept, values.len()).unwrap(), values);
        assert_eq!(kept, [0, 2, 7, 1, 255, 0, 0, 0]);
        assert!(runs("x", &kept, values.len() + 1).is_err());
        assert!(runs("x", &kept, values.len() - 1).is_err());
        assert!(
            runs("x", &[0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1], 9).is_err()
        );
        assert_eq!(runs("x", &[], 0).unwrap(), [0_u8; 0]);
    }
}
