//! What workers reported, as bytes and back.
//!
//! # Invariants
//!
//! * The bytes of a record read back are the record.

use tidegate_core::rollout::{JobReport, Record};
use tidegate_core::time::Timestamp;

use super::{Kept, RecordError};
use crate::journal::v1 as past;
use crate::protocol::present;

pub(super) fn facts_reported(kept: past::FactsReported) -> Result<Record, RecordError> {
    let report = JobReport::try_from(present("report", kept.report)?)?;
    let JobReport { job, generation, facts, totals, findings } = report;
    Ok(Record::FactsReported {
        job,
        generation,
        sequence: kept.sequence,
        journaled: kept.journaled,
        facts,
        totals,
        findings,
        at: Timestamp::from_millis(kept.at_millis),
    })
}

pub(super) fn keep_facts(record: &Record, sequence: u64, journaled: u64) -> Kept {
    let report = report_of(record);
    let at_millis = report.as_ref().map_or(0, |(_, at)| at.millis());
    let report = report.map(|(report, _)| report.into());
    Kept::FactsReported(past::FactsReported { report, at_millis, sequence, journaled })
}

/// The report of facts, as it came, and when.
fn report_of(record: &Record) -> Option<(JobReport, Timestamp)> {
    let Record::FactsReported { job, generation, facts, totals, findings, at, .. } =
        record
    else {
        return None;
    };
    let (facts, findings) = (facts.clone(), findings.clone());
    let (job, generation, totals) = (*job, *generation, *totals);
    Some((JobReport { job, generation, facts, totals, findings }, *at))
}
