//! Plan: the immutable answer to an inventory and a policy.
//!
//! # Invariants
//!
//! * Every mailbox is in exactly one job, or excluded with a reason.
//! * The same inventory and policy give the same plan and digest on every machine.
//! * Within a wave each node has its share of the cohort, but for less than one mailbox:
//!   so a failing node and a failing wave can be told apart.
//! * Every wave is large enough to pass its gate.

mod gates;
mod kept;
mod lint;
mod nesting;
mod order;
mod select;
mod spread;
mod summary;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use thiserror::Error;

use crate::fleet::{CohortNumber, JobNumber, MailboxNumber, NodeNumber};
use crate::fleet::{Ordinal, TierNumber, WaveNumber};
use crate::gate::{Evidence, Judgement, judge};
use crate::inventory::{Digest, Inventory};
use crate::mailbox::Level;
use crate::policy::{Cohort, Language, Policy, PolicyError, Window};
use crate::time::{Span, Timestamp};
use gates::Gates;
pub use kept::PlanRead;
use kept::{Outline, Parts};
use select::{Fate, Selection};

pub use lint::{Finding, NameKind};
pub use summary::{Difference, Summary, WaveChange, WaveSummary};

/// Every mailbox in its wave and job, or excluded with a reason.
#[derive(Clone)]
pub struct Plan {
    inventory: Arc<Inventory>,
    policy: Arc<Policy>,
    waves: Vec<Wave>,
    jobs: Vec<Job>,
    /// The jobs of each node, in order.
    by_node: Vec<Vec<JobNumber>>,
    /// The mailboxes of all jobs, job after job.
    members: Vec<MailboxNumber>,
    /// Where each mailbox is in `members`; [`EXCLUDED`] for the others.
    places: Vec<u32>,
    excluded: Vec<Excluded>,
    gates: Gates,
    digest: Digest,
}

/// Waves have numbers of 16 bits, and the last number is kept free.
const WAVES_MAX: usize = 65_535;

/// The place of a mailbox that is in no job.
const EXCLUDED: u32 = u32::MAX;

/// One step of exposure inside a cohort.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wave {
    /// Its number, over all cohorts.
    pub number: WaveNumber,
    /// Its cohort.
    pub cohort: CohortNumber,
    /// Its place within the cohort, from 1: the canary.
    pub step: u16,
    /// The cohort's name and the step: `business-1`.
    pub name: String,
    /// How many mailboxes it has.
    pub size: u32,
    /// The numbers of its jobs.
    pub jobs: Range<u32>,
    /// How many mailboxes on which node, ascending; none with zero.
    pub by_node: Vec<(NodeNumber, u32)>,
    /// How many mailboxes of which tier, ascending; none with zero.
    pub by_tier: Vec<(TierNumber, u32)>,
    /// Its part of the window in which its cohort is expected back.
    pub expected: Option<Window>,
}

/// A wave's mailboxes on one node, or a part of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its number.
    pub number: JobNumber,
    /// Its wave.
    pub wave: WaveNumber,
    /// Its node.
    pub node: NodeNumber,
    /// How many mailboxes it has; never none.
    pub size: u16,
    /// Where its mailboxes begin among those of all jobs.
    start: u32,
}

/// A mailbox that stays held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Excluded {
    /// The mailbox.
    pub mailbox: MailboxNumber,
    /// Why.
    pub why: Exclusion,
}

/// Why a mailbox is in no wave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exclusion {
    /// The policy excludes it, by the rule with this place.
    Policy(u16),
    /// No cohort selects it.
    NoCohort,
}

/// There is no plan for this inventory and this policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PlanRefusal {
    /// The policy makes no sense by itself.
    #[error("the policy `{policy}` makes no sense")]
    Policy {
        /// Its name.
        policy: String,
        /// Why.
        source: PolicyError,
    },
    /// There is nobody to bring back.
    #[error("no cohort selects any of the {mailboxes} mailboxes of the inventory")]
    NobodySelected {
        /// How many mailboxes the inventory has.
        mailboxes: u32,
    },
    /// One mailbox would lie inside another one.
    #[error(
        "on node `{node}`, the path `{inner}` lies inside `{outer}`, another mailbox"
    )]
    NestedPaths {
        /// The node.
        node: String,
        /// The outer mailbox's path.
        outer: String,
        /// The inner mailbox's path.
        inner: String,
    },
    /// A wave could never be followed by another.
    #[error(
        "wave `{wave}` can never pass: its gate needs {need} mailboxes, it has {size}"
    )]
    WaveTooSmall {
        /// Its cohort.
        cohort: CohortNumber,
        /// Its name.
        wave: String,
        /// How many mailboxes it has.
        size: u32,
        /// How many mailboxes the whole cohort has.
        cohort_size: u32,
        /// How many its gate needs.
        need: u32,
    },
    /// More waves than can be numbered.
    #[error("this would be more than {max} waves")]
    TooManyWaves {
        /// The most there may be.
        max: u16,
    },
}

impl PlanRefusal {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            Self::Policy { source, .. } => source.help().unwrap_or_default().to_owned(),
            Self::NobodySelected { .. } => {
                "add a cohort with `select.rest = true`".to_owned()
            }
            Self::WaveTooSmall { need, cohort_size, .. } if cohort_size >= need => {
                format!(
                    "set the cohort's `canary` to {need} or more, \
                     or `gate.mode = \"every-mailbox\"`"
                )
            }
            Self::WaveTooSmall { cohort_size, .. } => format!(
                "the whole cohort has {cohort_size} mailboxes: merge it with another, \
                 or set `gate.mode = \"every-mailbox\"`"
            ),
            Self::NestedPaths { .. } => {
                "correct the inventory: every mailbox needs a directory of its own"
                    .to_owned()
            }
            Self::TooManyWaves { .. } => {
                "raise `wave_max` or `growth` of the largest cohort".to_owned()
            }
        }
    }
}

/// Plans a rollout.
///
/// # Errors
///
/// [`PlanRefusal`] when the policy makes no sense, or not for this inventory.
pub fn plan(
    inventory: &Arc<Inventory>,
    policy: &Arc<Policy>,
) -> Result<Plan, PlanRefusal> {
    policy
        .check()
        .map_err(|source| PlanRefusal::Policy { policy: policy.name.clone(), source })?;
    if let Some((outer, inner)) = nesting::nested(inventory) {
        return Err(PlanRefusal::NestedPaths {
            node: inventory.node_name(inventory.node(outer)).to_owned(),
            outer: inventory.path(outer),
            inner: inventory.path(inner),
        });
    }
    let selection = Selection::new(inventory, policy);
    let mut draft = Draft::new(inventory, policy);
    let mut cohorts = draft.divide(&selection);
    for (number, cohort) in (0_u16..).zip(&policy.cohorts) {
        let nodes = cohorts.remove(&number).unwrap_or_default();
        draft.add_cohort(CohortNumber::new(number), cohort, nodes)?;
    }
    if draft.waves.is_empty() {
        return Err(PlanRefusal::NobodySelected { mailboxes: inventory.len() });
    }
    Ok(draft.finish())
}

impl Plan {
    /// Its name: the same on every machine for the same inventory and policy.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The inventory it answers to.
    pub fn inventory(&self) -> &Arc<Inventory> {
        &self.inventory
    }

    /// The policy it answers to.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// The seed of XXH3-64, under which addresses have their hash slots.
    pub fn hash_seed(&self) -> u64 {
        select::seed(&self.policy.hash_seed)
    }

    /// Its waves, in the order in which they open.
    pub fn waves(&self) -> &[Wave] {
        &self.waves
    }

    /// Its jobs, wave after wave, and within a wave node after node.
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// Those of its jobs that are on `node`, in order.
    pub fn jobs_on(&self, node: NodeNumber) -> impl Iterator<Item = &Job> {
        let numbers = self.by_node.get(node.index()).into_iter().flatten();
        numbers.filter_map(|job| self.jobs.get(job.index()))
    }

    /// The mailboxes of a job, in the order in which they start.
    pub fn members(&self, job: JobNumber) -> &[MailboxNumber] {
        let Some(job) = self.jobs.get(job.index()) else { return &[] };
        let start = index(job.start);
        self.members.get(start..start + usize::from(job.size)).unwrap_or_default()
    }

    /// The job of a mailbox and its place in it; none for an excluded one.
    pub fn place(&self, mailbox: MailboxNumber) -> Option<(JobNumber, Ordinal)> {
        let place = self.places.get(mailbox.index()).copied();
        let place = place.filter(|place| *place != EXCLUDED)?;
        let after = self.jobs.partition_point(|job| job.start <= place);
        let job = self.jobs.get(after.checked_sub(1)?)?;
        let ordinal = u16::try_from(place - job.start).ok()?;
        debug_assert!(ordinal < job.size);
        Some((job.number, Ordinal::new(ordinal)))
    }

    /// Whether `mailbox` is in `wave`.
    pub fn is_in(&self, wave: &Wave, mailbox: MailboxNumber) -> bool {
        let job = |at: u32| self.jobs.get(index(at));
        let (Some(first), Some(last)) =
            (job(wave.jobs.start), wave.jobs.end.checked_sub(1).and_then(job))
        else {
            return false;
        };
        let places = first.start..last.start + u32::from(last.size);
        self.places.get(mailbox.index()).is_some_and(|place| places.contains(place))
    }

    /// How many mailboxes are in waves.
    pub fn planned(&self) -> u32 {
        count(self.members.len())
    }

    /// The mailboxes that stay held, in order.
    pub fn excluded(&self) -> &[Excluded] {
        &self.excluded
    }

    /// Why a mailbox is in no wave; none if it is in one.
    pub fn exclusion(&self, mailbox: MailboxNumber) -> Option<Exclusion> {
        let found =
            self.excluded.binary_search_by_key(&mailbox, |excluded| excluded.mailbox);
        found.ok().and_then(|place| self.excluded.get(place)).map(|found| found.why)
    }

    /// The reasons for exclusion that apply, for people, with how many they hold back.
    pub fn exclusions(&self) -> Vec<(&str, u32)> {
        let mut counts = BTreeMap::new();
        for excluded in &self.excluded {
            *counts.entry(excluded.why).or_insert(0_u32) += 1;
        }
        counts.into_iter().map(|(why, count)| (self.reason(why), count)).collect()
    }

    /// The reason, for people.
    pub fn reason(&self, why: Exclusion) -> &str {
        match why {
            Exclusion::Policy(place) => self
                .policy
                .exclude
                .get(usize::from(place))
                .map_or("", |exclude| exclude.reason.as_str()),
            Exclusion::NoCohort => "no cohort selects it",
        }
    }

    /// The policy's word on the cohort of `wave`.
    pub fn cohort_of(&self, wave: WaveNumber) -> Option<&Cohort> {
        let wave = self.waves.get(wave.index())?;
        self.policy.cohorts.get(wave.cohort.index())
    }

    /// How long after the level below it `wave` may take `level`, at the earliest.
    pub fn delay(&self, wave: WaveNumber, level: Level) -> Span {
        let rung = self.policy.rung(level);
        let cohort = self.cohort_of(wave);
        cohort.zip(rung).map_or(Span::ZERO, |(cohort, rung)| cohort.delay(rung))
    }

    /// Judges what a wave has shown on a level, under the gate of that level.
    pub fn judge(&self, evidence: &Evidence, now: Timestamp) -> Judgement {
        match self.gates.gate(evidence) {
            Some(gate) => gate.judge(evidence, now),
            // No wave of this plan: whoever asks gets what the policy alone says.
            None => judge(evidence, &self.policy.gate_of(evidence), now),
        }
    }

    /// Whether mailboxes of `wave` have a dial tone while they are held.
    pub fn has_dial_tone(&self, wave: WaveNumber) -> bool {
        self.cohort_of(wave).is_some_and(|cohort| !cohort.dial_tone.is_empty())
    }

    /// The language in which the owner of `mailbox` is told to wait, if a label says it.
    pub fn language(&self, mailbox: MailboxNumber) -> Option<Language> {
        let label = &self.policy.notice.language_label;
        let tag = self.inventory.label(mailbox, label)?;
        Language::of_tag(&tag)
    }

    /// What a person should look at before starting; nothing of it makes the plan wrong.
    pub fn lint(&self) -> Vec<Finding> {
        lint::lint(self)
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("waves", &self.waves.len())
            .field("jobs", &self.jobs.len())
            .field("planned", &self.members.len())
            .field("excluded", &self.excluded.len())
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// A cohort's mailboxes on each node, in hash order.
type ByNode = Vec<(NodeNumber, Vec<MailboxNumber>)>;

/// A plan while it grows.
struct Draft<'a> {
    inventory: &'a Arc<Inventory>,
    policy: &'a Arc<Policy>,
    /// How many bytes the largest mailbox has, where that is known of any.
    largest: Option<u64>,
    waves: Vec<Outline>,
    jobs: Vec<(NodeNumber, u16)>,
    members: Vec<MailboxNumber>,
    excluded: Vec<Excluded>,
}

impl<'a> Draft<'a> {
    fn new(inventory: &'a Arc<Inventory>, policy: &'a Arc<Policy>) -> Self {
        Self {
            inventory,
            policy,
            largest: inventory
                .mailboxes()
                .filter_map(|mailbox| inventory.size_bytes(mailbox))
                .max(),
            waves: Vec::new(),
            jobs: Vec::new(),
            members: Vec::with_capacity(index(inventory.len())),
            excluded: Vec::new(),
        }
    }

    /// Gives every mailbox to its cohort, or excludes it.
    fn divide(&mut self, selection: &Selection<'_>) -> BTreeMap<u16, ByNode> {
        let mut cohorts: BTreeMap<u16, ByNode> = BTreeMap::new();
        let nodes =
            0..u16::try_from(self.inventory.node_names().len()).unwrap_or(u16::MAX);
        let seed = select::seed(&self.policy.hash_seed);
        let mut chosen = vec![Vec::new(); self.policy.cohorts.len()];
        for node in nodes.map(NodeNumber::new) {
            let mailboxes = self.inventory.on_node(node);
            let hashes = select::hashes(self.inventory, mailboxes.clone(), seed);
            for (mailbox, hash) in mailboxes.clone().map(MailboxNumber::new).zip(&hashes)
            {
                match selection.fate(self.inventory, mailbox, *hash) {
                    Fate::Cohort(cohort) => {
                        if let Some(chosen) = chosen.get_mut(usize::from(cohort)) {
                            chosen.push(mailbox);
                        }
                    }
                    Fate::Excluded(why) => self.excluded.push(Excluded { mailbox, why }),
                }
            }
            let hash = |mailbox: MailboxNumber| {
                let place = index(mailbox.get() - mailboxes.start);
                hashes.get(place).copied().unwrap_or(0)
            };
            for (cohort, mailboxes) in (0_u16..).zip(&mut chosen) {
                if !mailboxes.is_empty() {
                    let in_order = order::by_hash(mailboxes, hash);
                    cohorts.entry(cohort).or_default().push((node, in_order));
                    mailboxes.clear();
                }
            }
        }
        cohorts
    }

    fn add_cohort(
        &mut self,
        number: CohortNumber,
        cohort: &Cohort,
        nodes: ByNode,
    ) -> Result<(), PlanRefusal> {
        let counts: Vec<u32> = nodes.iter().map(|(_, all)| count(all.len())).collect();
        let cohort_size = counts.iter().sum();
        let need = self.policy.gate.wave_min();
        let sizes = wave_sizes(cohort_size, cohort, need);
        let spread = spread::spread(&sizes, &counts);
        let mut left: Vec<_> =
            nodes.into_iter().map(|(node, all)| (node, all.into_iter())).collect();
        let mut before = 0_u32;

        for ((step, size), row) in (1_usize..).zip(sizes).zip(spread) {
            let name = format!("{}-{step}", cohort.name);
            if size < need {
                let (cohort, wave) = (number, name);
                return Err(PlanRefusal::WaveTooSmall {
                    cohort,
                    wave,
                    size,
                    cohort_size,
                    need,
                });
            }
            if self.waves.len() >= WAVES_MAX {
                return Err(PlanRefusal::TooManyWaves { max: u16::MAX });
            }
            for ((node, left), share) in left.iter_mut().zip(row) {
                let members: Vec<_> = left.take(index(share)).collect();
                debug_assert_eq!(count(members.len()), share);
                if share > 0 {
                    self.add_jobs(*node, members);
                }
            }
            self.waves.push(Outline {
                cohort: number,
                step: u16::try_from(step).unwrap_or(u16::MAX),
                expected: cohort.expected.map(|w| w.slice(before, size, cohort_size)),
                jobs_end: count(self.jobs.len()),
            });
            before = before.saturating_add(size);
        }
        debug_assert!(left.iter().all(|(_, left)| left.len() == 0));
        Ok(())
    }

    /// Adds a wave's mailboxes on one node, in parts of nearly the same size.
    fn add_jobs(&mut self, node: NodeNumber, mut members: Vec<MailboxNumber>) {
        if let Some(largest) = self.largest {
            // Those of one size or none stay in hash order: whole companies must not open at
            // once.
            let size = |mailbox| self.inventory.size_bytes(mailbox);
            members = order::largest_first(&members, largest, size);
        }
        let parts = members.len().div_ceil(usize::from(self.policy.limits.job_mailboxes));
        let mut rest = members.as_slice();
        for part in (1..=parts).rev() {
            let (now, later) = rest.split_at(rest.len().div_ceil(part));
            rest = later;
            self.jobs.push((node, u16::try_from(now.len()).unwrap_or(u16::MAX)));
            self.members.extend_from_slice(now);
        }
    }

    fn finish(self) -> Plan {
        let parts = Parts {
            inventory: Arc::clone(self.inventory),
            policy: Arc::clone(self.policy),
            waves: self.waves,
            jobs: self.jobs,
            members: self.members,
            excluded: self.excluded,
        };
        let digest = parts.digest();
        parts.whole(digest).expect("every mailbox is in exactly one wave or excluded")
    }
}

/// The sizes of a cohort's waves: a canary, then growth up to the cap. A remainder too
/// small to pass its gate joins the wave before it, or shares evenly with it where the
/// cap forbids that and both can pass. A canary too small stays so, to be refused.
fn wave_sizes(total: u32, cohort: &Cohort, need: u32) -> Vec<u32> {
    let mut sizes: Vec<u32> = Vec::new();
    let mut left = total;
    let mut next = cohort.canary;
    while left > 0 {
        let size = next.min(cohort.wave_max).min(left);
        left -= size;
        next = cohort.growth.after(size);
        match sizes.last_mut() {
            Some(before) if left == 0 && size < need && *before >= need => {
                let both = before.saturating_add(size);
                let half = both / 2;
                if both > cohort.wave_max && half >= need {
                    *before = both - half;
                    sizes.push(half);
                } else {
                    *before = both;
                }
            }
            Some(_) | None => sizes.push(size),
        }
    }
    sizes
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
