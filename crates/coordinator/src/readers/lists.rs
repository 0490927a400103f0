//! Pages of mailboxes, findings and events.
//!
//! # Invariants
//!
//! * A page token is a place in an order that never changes while the rollout lasts.
//! * One page looks at a bounded number of things. It may be short, even empty, and still have
//!   a successor; only an empty token ends a list.

use tidegate_core::fleet::{JobNumber, MailboxNumber, NodeNumber};
use tidegate_core::mailbox::{Health, MailboxState, Preparation};
use tidegate_core::plan::Plan;
use tidegate_core::rollout::{Finding, FindingKind, Record, Rollout};
use tidegate_wire::limits::{PAGE_DEFAULT, PAGE_MAX};
use tidegate_wire::protocol::{ProtocolError, timestamp};
use tidegate_wire::v1;

use crate::events::{self, Told};
use crate::owner::{find_wave, unknown};
use crate::refused::Refused;
use crate::states::Wanted;
use crate::view::View;

/// Mailboxes looked at for one page: some ten milliseconds of a thread that has nothing else to
/// do.
const SEARCHED_MAX: u32 = 10_000_000;

/// Jobs and findings looked at for one page: far less than a millisecond of the owner's time.
const LOOKED_AT_MAX: u32 = 10_000;

/// Where a page begins and how long it may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    start: u64,
    size: usize,
}

impl Page {
    fn new(size: u32, token: &str) -> Result<Self, ProtocolError> {
        let size = if size == 0 { PAGE_DEFAULT } else { size.min(PAGE_MAX) };
        let start = if token.is_empty() {
            0
        } else {
            token.parse().map_err(|_| ProtocolError::invalid("page_token", token))?
        };
        Ok(Self { start, size: usize::try_from(size).unwrap_or(usize::MAX) })
    }
}

impl TryFrom<v1::ListEventsRequest> for Page {
    type Error = ProtocolError;

    fn try_from(request: v1::ListEventsRequest) -> Result<Self, Self::Error> {
        Self::new(request.page_size, &request.page_token)
    }
}

/// Which mailboxes are wanted.
pub(super) struct WantedMailboxes {
    page: Page,
    preparation: Option<Preparation>,
    node: String,
    wave: String,
    open: Option<bool>,
}

impl TryFrom<v1::ListMailboxesRequest> for WantedMailboxes {
    type Error = ProtocolError;

    fn try_from(request: v1::ListMailboxesRequest) -> Result<Self, Self::Error> {
        let wanted = v1::Preparation::try_from(request.preparation)
            .map_err(|_| ProtocolError::invalid("preparation", &request.preparation))?;
        let preparation = match wanted {
            v1::Preparation::Unspecified => None,
            v1::Preparation::Waiting => Some(Preparation::Waiting),
            v1::Preparation::Prepared => Some(Preparation::Prepared),
            v1::Preparation::Quarantined => Some(Preparation::Quarantined),
        };
        let v1::ListMailboxesRequest { node, wave, open, page_size, page_token, .. } =
            request;
        Ok(Self {
            page: Page::new(page_size, &page_token)?,
            preparation,
            node,
            wave,
            open,
        })
    }
}

impl WantedMailboxes {
    /// Those on the page, as far as one search goes.
    pub(super) fn search(&self, view: &View) -> Result<Found, Refused> {
        let plan = view.plan();
        let inventory = plan.inventory();
        let numbers = match find_node(plan, &self.node)? {
            Some(node) => inventory.on_node(node),
            None => 0..inventory.len(),
        };
        let wave = match self.wave.as_str() {
            "" => None,
            name => plan.waves().get(find_wave(plan, name)?.index()),
        };
        let first = u32::try_from(self.page.start).unwrap_or(u32::MAX).max(numbers.start);
        let end = numbers.end.min(first.saturating_add(SEARCHED_MAX));
        let wanted = Wanted::of(|state| self.wants(state));
        let mut mailboxes = Vec::new();
        let mut next = first;
        while mailboxes.len() < self.page.size
            && let Some(mailbox) = view.states().first(next..end, &wanted)
        {
            if wave.is_none_or(|wave| plan.is_in(wave, mailbox)) {
                mailboxes.push(mailbox);
            }
            next = mailbox.get() + 1;
        }
        if mailboxes.len() < self.page.size {
            next = end.max(first);
        }
        Ok(Found { mailboxes, next: (next < numbers.end).then_some(next) })
    }

    fn wants(&self, state: MailboxState) -> bool {
        self.preparation.is_none_or(|preparation| state.preparation == preparation)
            && self.open.is_none_or(|open| state.is_open() == open)
    }
}

/// A page of mailboxes.
pub(super) struct Found {
    pub(super) mailboxes: Vec<MailboxNumber>,
    /// Where the next page begins; nothing after the last one.
    pub(super) next: Option<u32>,
}

/// Which findings are wanted.
pub(super) struct WantedFindings {
    page: Page,
    kind: Option<FindingKind>,
    node: String,
}

impl TryFrom<v1::ListFindingsRequest> for WantedFindings {
    type Error = ProtocolError;

    fn try_from(request: v1::ListFindingsRequest) -> Result<Self, Self::Error> {
        let kind = match v1::FindingKind::try_from(request.kind) {
            Ok(v1::FindingKind::Unspecified) => None,
            Ok(kind) => Some(FindingKind::try_from(kind)?),
            Err(_) => return Err(ProtocolError::invalid("kind", &request.kind)),
        };
        let page = Page::new(request.page_size, &request.page_token)?;
        Ok(Self { page, kind, node: request.node })
    }
}

/// A place in the list of findings: the job, then the place within it.
const JOB_STRIDE: u64 = 1 << 32;

impl WantedFindings {
    /// Those on the page, as far as one look goes.
    pub(super) fn look(&self, rollout: &Rollout) -> Result<FoundFindings, Refused> {
        let plan = rollout.plan();
        let node = find_node(plan, &self.node)?;
        let mut findings = Vec::new();
        let mut looked_at: u32 = 0;
        let (first_job, mut skip) =
            (self.page.start / JOB_STRIDE, self.page.start % JOB_STRIDE);
        let jobs =
            plan.jobs().iter().skip(usize::try_from(first_job).unwrap_or(usize::MAX));
        for job in jobs {
            let here = node.is_none_or(|node| job.node == node);
            let known = if here { rollout.findings(job.number) } else { &[] };
            let rest =
                (0_u64..).zip(known).skip(usize::try_from(skip).unwrap_or(usize::MAX));
            skip = 0;
            looked_at += 1;
            for (place, finding) in rest {
                if findings.len() == self.page.size || looked_at >= LOOKED_AT_MAX {
                    let next = u64::from(job.number.get()) * JOB_STRIDE + place;
                    return Ok(FoundFindings { findings, next: Some(next) });
                }
                looked_at += 1;
                if self.kind.is_none_or(|kind| finding.kind == kind) {
                    findings.push((job.number, finding.clone()));
                }
            }
        }
        Ok(FoundFindings { findings, next: None })
    }
}

/// A page of findings.
pub(super) struct FoundFindings {
    findings: Vec<(JobNumber, Finding)>,
    next: Option<u64>,
}

impl FoundFindings {
    /// The page as readers get it.
    pub(super) fn told(self, plan: &Plan) -> v1::ListFindingsResponse {
        let findings = self.findings.into_iter();
        let findings = findings.filter_map(|(job, it)| finding_of(plan, job, it));
        v1::ListFindingsResponse {
            findings: findings.collect(),
            next_page_token: self.next.map_or_else(String::new, |next| next.to_string()),
        }
    }
}

fn finding_of(
    plan: &Plan,
    job: JobNumber,
    finding: Finding,
) -> Option<v1::MailboxFinding> {
    let mailbox = *plan.members(job).get(finding.ordinal.index())?;
    let inventory = plan.inventory();
    Some(v1::MailboxFinding {
        address: inventory.address(mailbox).to_owned(),
        node: inventory.node_name(inventory.node(mailbox)).to_owned(),
        finding: Some(finding.into()),
    })
}

/// A page of the rollout's story.
pub(super) struct Story {
    records: Vec<Record>,
    next: Option<usize>,
}

impl Story {
    /// What happened, from where the page begins.
    pub(super) fn of(rollout: &Rollout, page: &Page) -> Self {
        let story = rollout.history();
        let start = usize::try_from(page.start).unwrap_or(usize::MAX);
        let records: Vec<Record> =
            story.iter().skip(start).take(page.size).cloned().collect();
        let next = start.saturating_add(records.len());
        Self { records, next: (next < story.len()).then_some(next) }
    }

    /// The page as readers get it.
    pub(super) fn told(&self, plan: &Plan) -> v1::ListEventsResponse {
        let told = self.records.iter().map(|record| {
            let told = Told::new(record, plan);
            v1::Event {
                time: Some(timestamp(events::at(record))),
                code: told.code().to_owned(),
                text: told.to_string(),
                by: told.by().to_owned(),
            }
        });
        v1::ListEventsResponse {
            events: told.collect(),
            next_page_token: self.next.map_or_else(String::new, |next| next.to_string()),
        }
    }
}

/// The node called so; nothing for all of them.
fn find_node(plan: &Plan, name: &str) -> Result<Option<NodeNumber>, Refused> {
    if name.is_empty() {
        return Ok(None);
    }
    let inventory = plan.inventory();
    let found = inventory.find_node(name);
    found.map(Some).ok_or_else(|| unknown("node", name, inventory.node_names()))
}

/// How far the bytes are, as readers get it.
pub(super) fn preparation(preparation: Preparation) -> v1::Preparation {
    match preparation {
        Preparation::Waiting => v1::Preparation::Waiting,
        Preparation::Prepared => v1::Preparation::Prepared,
        Preparation::Quarantined => v1::Preparation::Quarantined,
    }
}

/// What an opened mailbox has shown, as readers get it.
pub(super) fn health(health: Health) -> v1::Health {
    match health {
        Health::Unproven => v1::Health::Unproven,
        Health::Healthy => v1::Health::Healthy,
        Health::Failed => v1::Health::Failed,
        Health::IntegrityFailed => v1::Health::IntegrityFailed,
    }
}
