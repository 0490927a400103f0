//! A plan as bytes: what its digest is of, and what a file of it holds.
//!
//! ```text
//! "tidegate plan 2\n"
//! digest of the inventory: 32 bytes    digest of the policy: 32 bytes
//! waves: their number: u32; each: cohort, step, jobs up to its end: u32 each
//! windows: each wave's expected from and to, in milliseconds: u64 each, all bits set for none
//! jobs: their number: u32; each: node, mailboxes: u32 each
//! members: their number: u32; the mailboxes of all jobs, job after job: u32 each
//! excluded: their number: u32; each: mailbox, exclusion: u32 each, all bits set for no cohort
//! ```
//!
//! Numbers have the lowest byte first.
//!
//! # Invariants
//!
//! * Everything else of a plan follows from these, its inventory and its policy.

use std::io::{self, Read, Write};
use std::sync::Arc;

use super::gates::Gates;
use super::{EXCLUDED, Excluded, Exclusion, Job, Plan, Wave, count, index};
use crate::fleet::{CohortNumber, JobNumber, MailboxNumber, NodeNumber};
use crate::fleet::{TierNumber, WaveNumber};
use crate::inventory::{Digest, Inventory};
use crate::policy::{Policy, Window};
use crate::stored::{Damage, PORTION_BYTES, Source, u32s, u64s};
use crate::time::Timestamp;

const MAGIC: &[u8] = b"tidegate plan 2\n";

/// The exclusion of whom no cohort selects.
const NO_COHORT: u32 = u32::MAX;

/// A wave that is expected at no time.
const NEVER: u64 = u64::MAX;

/// What a plan is made of.
pub(super) struct Parts {
    pub(super) inventory: Arc<Inventory>,
    pub(super) policy: Arc<Policy>,
    pub(super) waves: Vec<Outline>,
    /// Node and size of each job.
    pub(super) jobs: Vec<(NodeNumber, u16)>,
    pub(super) members: Vec<MailboxNumber>,
    pub(super) excluded: Vec<Excluded>,
}

/// What of a wave does not follow from its jobs.
#[derive(Clone, Copy)]
pub(super) struct Outline {
    pub(super) cohort: CohortNumber,
    pub(super) step: u16,
    pub(super) expected: Option<Window>,
    /// Where its jobs end.
    pub(super) jobs_end: u32,
}

impl Plan {
    /// Writes all that does not follow from its inventory and its policy.
    ///
    /// # Errors
    ///
    /// Those of `to`.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let parts = Parts {
            inventory: Arc::clone(&self.inventory),
            policy: Arc::clone(&self.policy),
            waves: self.waves.iter().map(Wave::outline).collect(),
            jobs: self.jobs.iter().map(|job| (job.node, job.size)).collect(),
            members: self.members.clone(),
            excluded: self.excluded.clone(),
        };
        let mut failed = Ok(());
        parts.canonical(&mut |bytes| {
            if failed.is_ok() {
                failed = to.write_all(bytes);
            }
        });
        failed
    }

    /// Reads the plan of an inventory and a policy from `bytes` bytes. Its digest says which
    /// one it is.
    ///
    /// # Errors
    ///
    /// [`Damage`] when it was never written for them.
    pub fn read(
        from: &mut impl Read,
        bytes: u64,
        inventory: &Arc<Inventory>,
        policy: &Arc<Policy>,
    ) -> Result<Self, Damage> {
        PlanRead::read(from, bytes)?.of(inventory, policy)
    }
}

/// A plan that was read, before anybody has looked whether it is of some inventory and policy.
pub struct PlanRead {
    /// The digests of inventory and policy.
    names: [Vec<u8>; 2],
    waves: Vec<Outline>,
    jobs: Vec<(NodeNumber, u16)>,
    members: Vec<MailboxNumber>,
    excluded: Vec<Excluded>,
    places: Vec<u32>,
    digest: Digest,
}

impl PlanRead {
    /// Reads one from `bytes` bytes.
    ///
    /// # Errors
    ///
    /// [`Damage`] when it was never written.
    pub fn read(from: &mut impl Read, bytes: u64) -> Result<Self, Damage> {
        let mut from = Source::new(from, bytes);
        from.magic(MAGIC)?;
        let names = [from.bytes(32)?, from.bytes(32)?];
        let waves = read_waves(&mut from)?;
        let jobs = pairs(&mut from)?.map(|(node, size)| {
            let (node, size) = (u16::try_from(node).ok()?, u16::try_from(size).ok()?);
            Some((NodeNumber::new(node), size))
        });
        let jobs = jobs.collect::<Option<Vec<_>>>();
        let jobs = jobs.ok_or(Damage::Part { part: "jobs" })?;
        let members = from.count()?;
        let members = from.u32s(members)?.into_iter().map(MailboxNumber::new);
        let members: Vec<_> = members.collect();
        let excluded = pairs(&mut from)?.map(|(mailbox, why)| {
            let why = match why {
                NO_COHORT => Exclusion::NoCohort,
                rule => Exclusion::Policy(u16::try_from(rule).ok()?),
            };
            Some(Excluded { mailbox: MailboxNumber::new(mailbox), why })
        });
        let excluded = excluded.collect::<Option<Vec<_>>>();
        let excluded = excluded.ok_or(Damage::Part { part: "exclusions" })?;
        from.end()?;
        let digest = from.digest();
        let places = places(&jobs, &members, &excluded);
        let places = places.ok_or(Damage::Part { part: "members" })?;
        Ok(Self { names, waves, jobs, members, excluded, places, digest })
    }

    /// Its name, if it is of the inventory and the policy that it names.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The plan, if it is of these.
    ///
    /// # Errors
    ///
    /// [`Damage`] when it was never written for them.
    pub fn of(
        self,
        inventory: &Arc<Inventory>,
        policy: &Arc<Policy>,
    ) -> Result<Plan, Damage> {
        let Self { names, waves, jobs, members, excluded, places, digest } = self;
        if names != [inventory.digest().bytes(), policy.digest().bytes()] {
            return Err(Damage::Part { part: "names of inventory and policy" });
        }
        let (inventory, policy) = (Arc::clone(inventory), Arc::clone(policy));
        let parts = Parts { inventory, policy, waves, jobs, members, excluded };
        parts.placed(places, digest)
    }
}

impl Wave {
    fn outline(&self) -> Outline {
        let Self { cohort, step, expected, ref jobs, .. } = *self;
        Outline { cohort, step, expected, jobs_end: jobs.end }
    }
}

impl Parts {
    /// The digest of the canonical bytes.
    pub(super) fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        self.canonical(&mut |bytes| {
            hasher.update(bytes);
        });
        Digest::new(*hasher.finalize().as_bytes())
    }

    /// Hands the canonical bytes to `to`.
    fn canonical(&self, to: &mut impl FnMut(&[u8])) {
        let mut portion = Vec::new();
        let portion = &mut portion;
        to(MAGIC);
        to(self.inventory.digest().bytes());
        to(self.policy.digest().bytes());
        let waves = self.waves.iter().flat_map(|wave| {
            [u32::from(wave.cohort.get()), u32::from(wave.step), wave.jobs_end]
        });
        to(&count(self.waves.len()).to_le_bytes());
        u32s(&waves.collect::<Vec<_>>(), portion, to);
        let windows = self.waves.iter().flat_map(|wave| match wave.expected {
            Some(Window { from, to }) => [from.millis(), to.millis()],
            None => [NEVER, NEVER],
        });
        u64s(&windows.collect::<Vec<_>>(), portion, to);
        to(&count(self.jobs.len()).to_le_bytes());
        let jobs = self.jobs.iter().flat_map(|(node, size)| [node.get(), *size]);
        u32s(&jobs.map(u32::from).collect::<Vec<_>>(), portion, to);
        to(&count(self.members.len()).to_le_bytes());
        for members in self.members.chunks(PORTION_BYTES / 4) {
            let members: Vec<u32> = members.iter().map(|it| it.get()).collect();
            u32s(&members, portion, to);
        }
        let excluded = self.excluded.iter().flat_map(|Excluded { mailbox, why }| {
            let why = match why {
                Exclusion::NoCohort => NO_COHORT,
                Exclusion::Policy(rule) => u32::from(*rule),
            };
            [mailbox.get(), why]
        });
        to(&count(self.excluded.len()).to_le_bytes());
        u32s(&excluded.collect::<Vec<_>>(), portion, to);
    }

    /// The plan of these parts.
    ///
    /// # Errors
    ///
    /// [`Damage`] when they do not fit together.
    pub(super) fn whole(self, digest: Digest) -> Result<Plan, Damage> {
        let places = places(&self.jobs, &self.members, &self.excluded);
        let places = places.ok_or(Damage::Part { part: "members" })?;
        self.placed(places, digest)
    }

    /// The same, where it is known already what place each mailbox has.
    fn placed(self, places: Vec<u32>, digest: Digest) -> Result<Plan, Damage> {
        if places.len() != index(self.inventory.len()) {
            return Err(Damage::Part { part: "members" });
        }
        let jobs_end = self.waves.last().map_or(0, |wave| wave.jobs_end);
        if jobs_end != count(self.jobs.len()) {
            return Err(Damage::Part { part: "waves" });
        }
        let Self { inventory, policy, waves: outlines, jobs: sizes, members, excluded } =
            self;
        let (mut waves, mut jobs) = (Vec::new(), Vec::with_capacity(sizes.len()));
        let (mut sizes, mut start) = (sizes.into_iter(), 0_u32);
        for (number, outline) in (0_u16..).zip(outlines) {
            let (wave, first) = (WaveNumber::new(number), count(jobs.len()));
            let mut by_node: Vec<(NodeNumber, u32)> = Vec::new();
            let mut by_tier = vec![0_u32; inventory.tier_names().len()];
            let all = outline.jobs_end.checked_sub(first).map(index);
            let all = all.ok_or(Damage::Part { part: "waves" })?;
            let before = start;
            for (node, size) in sizes.by_ref().take(all) {
                match by_node.last_mut() {
                    Some((last, mailboxes)) if *last == node => {
                        *mailboxes += u32::from(size);
                    }
                    Some(_) | None => by_node.push((node, u32::from(size))),
                }
                let number = JobNumber::new(count(jobs.len()));
                jobs.push(Job { number, wave, node, size, start });
                start += u32::from(size);
            }
            for member in members.get(index(before)..index(start)).unwrap_or_default() {
                if let Some(mailboxes) = by_tier.get_mut(inventory.tier(*member).index())
                {
                    *mailboxes += 1;
                }
            }
            let Outline { cohort, step, expected, jobs_end } = outline;
            let name = policy.cohorts.get(cohort.index()).map(|it| it.name.as_str());
            let name = name.ok_or(Damage::Part { part: "cohorts" })?;
            waves.push(Wave {
                number: wave,
                cohort,
                step,
                name: format!("{name}-{step}"),
                size: start - before,
                jobs: first..jobs_end,
                by_node,
                by_tier: (0..=u8::MAX)
                    .map(TierNumber::new)
                    .zip(by_tier)
                    .filter(|(_, mailboxes)| *mailboxes > 0)
                    .collect(),
                expected,
            });
        }
        let gates = Gates::of(&policy, waves.len());
        Ok(Plan {
            by_node: by_node(&jobs, inventory.node_names().len()),
            inventory,
            policy,
            waves,
            jobs,
            members,
            places,
            excluded,
            gates,
            digest,
        })
    }
}

/// The jobs of each of so many nodes, in order.
fn by_node(jobs: &[Job], nodes: usize) -> Vec<Vec<JobNumber>> {
    let mut by_node = vec![Vec::new(); nodes];
    for job in jobs {
        by_node.get_mut(job.node.index()).into_iter().for_each(|it| it.push(job.number));
    }
    by_node
}

/// Where each mailbox is among the members; nothing unless every one is a member once or
/// excluded.
fn places(
    jobs: &[(NodeNumber, u16)],
    members: &[MailboxNumber],
    excluded: &[Excluded],
) -> Option<Vec<u32>> {
    let all = members.len() + excluded.len();
    let sizes = jobs.iter().map(|(_, size)| u64::from(*size));
    let fits = sizes.sum::<u64>() == u64::from(count(members.len()))
        && jobs.iter().all(|(_, size)| *size > 0)
        && excluded.is_sorted_by_key(|excluded| excluded.mailbox);
    let mut places = vec![EXCLUDED; all];
    for (place, member) in (0_u32..).zip(members).filter(|_| fits) {
        let slot = places.get_mut(member.index()).filter(|slot| **slot == EXCLUDED)?;
        *slot = place;
    }
    let held = |excluded: &Excluded| {
        places.get(excluded.mailbox.index()).is_some_and(|place| *place == EXCLUDED)
    };
    (fits && excluded.iter().all(held)).then_some(places)
}

fn read_waves(from: &mut Source<'_, impl Read>) -> Result<Vec<Outline>, Damage> {
    let damaged = || Damage::Part { part: "waves" };
    let waves = from.count()?;
    let outlines = from.u32s(waves.saturating_mul(3))?;
    let windows = from.u64s(waves.saturating_mul(2))?;
    let (outlines, _) = outlines.as_chunks();
    let (windows, _) = windows.as_chunks();
    let outline = |([cohort, step, jobs_end], [from, to]): (&[u32; 3], &[u64; 2])| {
        let window = Window {
            from: Timestamp::from_millis(*from),
            to: Timestamp::from_millis(*to),
        };
        Some(Outline {
            cohort: CohortNumber::new(u16::try_from(*cohort).ok()?),
            step: u16::try_from(*step).ok()?,
            expected: ([*from, *to] != [NEVER; 2]).then_some(window),
            jobs_end: *jobs_end,
        })
    };
    outlines.iter().zip(windows).map(outline).collect::<Option<_>>().ok_or_else(damaged)
}

/// Pairs of numbers, and before them how many.
fn pairs(
    from: &mut Source<'_, impl Read>,
) -> Result<impl Iterator<Item = (u32, u32)>, Damage> {
    let pairs = from.count()?;
    let numbers = from.u32s(pairs.saturating_mul(2))?;
    let pairs = (0..pairs).filter_map(move |pair| {
        let number = |place: usize| numbers.get(place).copied();
        Some((number(pair * 2)?, number(pair * 2 + 1)?))
    });
    Ok(pairs)
}
