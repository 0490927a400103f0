//! What makes a policy senseless, whatever the inventory.
//!
//! # Invariants
//!
//! * Every error names the key that must change, so that a file can be pointed at.

use super::calendar::CalendarProblem;
use std::fmt;
use std::ops::RangeInclusive;

use thiserror::Error;

use super::{Cohort, Limits, Policy, Selector};
use crate::fleet::JOB_MAILBOXES_MAX;
use crate::gate::GatePolicyError;
use crate::mailbox::Level;
use crate::pace::PacePolicyError;
use crate::share::Ppm;
use crate::time::Span;

/// Two reports may be lost before a lease runs out.
const WHOLE_BEATS_MIN: u64 = 3;
/// Exposure that never grows is a queue; more than this is no steps at all.
const GROWTH: RangeInclusive<u32> = 100..=10_000;
/// More cohorts than anybody can overlook.
const COHORTS_MAX: usize = 1_000;
/// A fleet's reports must not drown the coordinator.
const BEAT_MIN: Span = Span::from_millis(50);

/// A policy makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// No ladder.
    #[error("the ladder has no rung")]
    NoRung,
    /// More rungs than there are levels.
    #[error("the ladder has {have} rungs, at most {max} are possible")]
    TooManyRungs {
        /// How many it has.
        have: usize,
        /// The most there may be.
        max: u8,
    },
    /// A rung without services.
    #[error("the rung `{name}` has no services")]
    EmptyRung {
        /// Its place in the ladder, from 0.
        rung: usize,
        /// Its name.
        name: String,
    },
    /// A service on two rungs.
    #[error("the service `{service}` is on the ladder already")]
    ServiceTwice {
        /// The later rung, from 0.
        rung: usize,
        /// The service.
        service: String,
    },
    /// No cohorts.
    #[error("there is no cohort")]
    NoCohort,
    /// More cohorts than are useful.
    #[error("there are {have} cohorts, at most {max} are possible")]
    TooManyCohorts {
        /// How many there are.
        have: usize,
        /// The most there may be.
        max: usize,
    },
    /// A name is empty.
    #[error("the name is empty")]
    NameEmpty {
        /// What has it.
        of: Named,
    },
    /// Two cohorts or two rungs have one name.
    #[error("the name `{name}` is taken already")]
    NameTwice {
        /// What has it.
        of: Named,
        /// The name.
        name: String,
    },
    /// A selector is senseless.
    #[error("{problem}")]
    Select {
        /// Whose selector it is.
        of: Named,
        /// What is wrong.
        problem: SelectorProblem,
    },
    /// A cohort after one that takes everybody left.
    #[error("the cohort `{name}` takes everybody left, but is not the last")]
    RestNotLast {
        /// Its place, from 0.
        cohort: usize,
        /// Its name.
        name: String,
    },
    /// A canary of nobody.
    #[error("the canary of `{name}` is empty")]
    CanaryEmpty {
        /// The cohort's place, from 0.
        cohort: usize,
        /// Its name.
        name: String,
    },
    /// A cap below the first wave.
    #[error("the largest wave of `{name}` is {wave_max}, its canary is {canary} already")]
    CapBelowCanary {
        /// The cohort's place, from 0.
        cohort: usize,
        /// Its name.
        name: String,
        /// The cap.
        wave_max: u32,
        /// The canary.
        canary: u32,
    },
    /// Growth outside what is sensible.
    #[error("the growth of `{name}` is {growth}, possible is x1 to x100")]
    Growth {
        /// The cohort's place, from 0.
        cohort: usize,
        /// Its name.
        name: String,
        /// The growth.
        growth: super::Growth,
    },
    /// A limit outside what is possible.
    #[error("`{key}` is {have}, possible is {min} to {max}")]
    Limit {
        /// Which limit.
        key: &'static str,
        /// What it is.
        have: u32,
        /// The least possible.
        min: u32,
        /// The most possible.
        max: u32,
    },
    /// Workers would flood the coordinator.
    #[error("the beat is {beat}, must be at least {min}")]
    BeatTooShort {
        /// The beat.
        beat: Span,
        /// The least possible.
        min: Span,
    },
    /// A worker that is only being restarted would count as failed.
    #[error("unknown_after is {unknown_after}, must be longer than the lease of {lease}")]
    UnknownBeforeLease {
        /// When a silent node's mailboxes count as failed.
        unknown_after: Span,
        /// The lease.
        lease: Span,
    },
    /// A single lost report would cost the lease.
    #[error("the lease is {lease}, must be at least {WHOLE_BEATS_MIN} beats of {beat}")]
    LeaseTooShort {
        /// The lease.
        lease: Span,
        /// The beat.
        beat: Span,
    },
    /// A cohort's schedule cannot be kept.
    #[error("{problem}")]
    Schedule {
        /// The cohort's place, from 0.
        cohort: usize,
        /// What is wrong.
        problem: ScheduleProblem,
    },
    /// A rule of the calendar cannot be kept.
    #[error("{problem}")]
    Calendar {
        /// The rule's place, from 0.
        rule: usize,
        /// What is wrong.
        problem: CalendarProblem,
    },
    /// An emergency that hurries nothing, or asks for no soak at all.
    #[error(
        "an emergency's soak is {soak}, must be above zero and below {usual}, the longest there is"
    )]
    EmergencySoak {
        /// The profile's.
        soak: Span,
        /// The longest soak of the usual gates.
        usual: Span,
    },
    /// A chance of erring is nothing, or no better than tossing a coin.
    #[error("an emergency's alpha is {alpha}, must be above 0 % and below 50 %")]
    EmergencyAlpha {
        /// The profile's.
        alpha: Ppm,
    },
    /// The gate makes no sense.
    #[error("the gate cannot judge")]
    Gate {
        /// Why.
        source: GatePolicyError,
    },
    /// The pace makes no sense.
    #[error("nothing can be opened at this pace")]
    Pace {
        /// Why.
        source: PacePolicyError,
    },
}

/// A part of a policy that has a name or a selector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// The policy.
    Policy,
    /// A rung, from 0.
    Rung(usize),
    /// A cohort, from 0.
    Cohort(usize),
    /// An exclusion, from 0.
    Exclude(usize),
}

/// Why a cohort's delays, window or dial tone cannot be meant so.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScheduleProblem {
    /// A delay before a rung that is not on the ladder.
    #[error("there is no rung `{rung}` on the ladder")]
    UnknownRung {
        /// The name.
        rung: String,
    },
    /// A delay before the first rung.
    #[error("`{rung}` is the first rung, there is none before it to count from")]
    FirstRung {
        /// Its name.
        rung: String,
    },
    /// A window that ends before it begins.
    #[error("the window ends at or before its beginning")]
    WindowEnds,
    /// A service that no rung brings back.
    #[error("there is no service `{service}` on the ladder")]
    UnknownService {
        /// The service.
        service: String,
    },
    /// A service that must see the whole mailbox.
    #[error("`pop3` cannot work on an empty store")]
    Pop3OnEmptyStore,
    /// Another dial tone than that of an earlier cohort.
    #[error("the dial tone differs from that of an earlier cohort")]
    DialTonesDiffer,
}

impl ScheduleProblem {
    fn key(&self) -> String {
        match self {
            Self::UnknownRung { rung } | Self::FirstRung { rung } => {
                format!("delay.{rung}")
            }
            Self::WindowEnds => "expected.to".to_owned(),
            Self::UnknownService { .. }
            | Self::Pop3OnEmptyStore
            | Self::DialTonesDiffer => "dial_tone".to_owned(),
        }
    }

    fn help(&self) -> Option<&'static str> {
        match self {
            Self::UnknownRung { .. } => Some("a delay names a rung of a [[ladder]]"),
            Self::FirstRung { .. } => {
                Some("the order of the cohorts says who comes first")
            }
            Self::WindowEnds | Self::UnknownService { .. } => None,
            Self::Pop3OnEmptyStore => Some(
                "a client that sees the old mail vanish downloads all of it again later",
            ),
            Self::DialTonesDiffer => Some(
                "a node has one dial tone; give all cohorts the same services or none",
            ),
        }
    }
}

/// Why a selector cannot be meant so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelectorProblem {
    /// It says nothing.
    Empty,
    /// It says "everybody left" and something else.
    RestWithMore,
    /// Everybody left is excluded.
    RestExcluded,
    /// A label without values.
    LabelEmpty,
    /// A share that is empty or exceeds the whole.
    Share {
        /// Its first slot.
        from: Ppm,
        /// The slot after its last.
        to: Ppm,
    },
}

impl fmt::Display for SelectorProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the selector is empty"),
            Self::RestWithMore => {
                f.write_str("`rest` means everybody left and stands alone")
            }
            Self::RestExcluded => f.write_str("`rest` cannot be excluded"),
            Self::LabelEmpty => f.write_str("a label has no values to choose from"),
            Self::Share { from, to } => {
                write!(f, "the share goes from {from} to {to}, must rise within 100 %")
            }
        }
    }
}

impl Named {
    fn key(self, last: &str) -> String {
        match self {
            Self::Policy => last.to_owned(),
            Self::Rung(place) => format!("ladder.{place}.{last}"),
            Self::Cohort(place) => format!("cohort.{place}.{last}"),
            Self::Exclude(place) => format!("exclude.{place}.{last}"),
        }
    }
}

impl PolicyError {
    /// The key that must change: names and places from 0, separated by dots.
    pub fn key(&self) -> String {
        match self {
            Self::NoRung | Self::TooManyRungs { .. } => "ladder".to_owned(),
            Self::EmptyRung { rung, .. } | Self::ServiceTwice { rung, .. } => {
                Named::Rung(*rung).key("services")
            }
            Self::NoCohort | Self::TooManyCohorts { .. } => "cohort".to_owned(),
            Self::NameEmpty { of } | Self::NameTwice { of, .. } => of.key("name"),
            Self::Select { of, problem } => of.key(match problem {
                SelectorProblem::Share { .. } => "select.share",
                SelectorProblem::RestWithMore | SelectorProblem::RestExcluded => {
                    "select.rest"
                }
                SelectorProblem::LabelEmpty => "select.label",
                SelectorProblem::Empty => "select",
            }),
            Self::RestNotLast { cohort, .. } => Named::Cohort(*cohort).key("select.rest"),
            Self::CanaryEmpty { cohort, .. } => Named::Cohort(*cohort).key("canary"),
            Self::CapBelowCanary { cohort, .. } => Named::Cohort(*cohort).key("wave_max"),
            Self::Growth { cohort, .. } => Named::Cohort(*cohort).key("growth"),
            Self::Limit { key, .. } => format!("limits.{key}"),
            Self::BeatTooShort { .. } => "limits.beat".to_owned(),
            Self::LeaseTooShort { .. } => "limits.lease".to_owned(),
            Self::Pace { source } => format!("limits.{}", source.key()),
            Self::UnknownBeforeLease { .. } => "gate.unknown_after".to_owned(),
            Self::Schedule { cohort, problem } => {
                Named::Cohort(*cohort).key(&problem.key())
            }
            Self::Calendar { rule, problem } => {
                format!("calendar.{rule}.{}", problem.key())
            }
            Self::EmergencySoak { .. } => "emergency.soak".to_owned(),
            Self::EmergencyAlpha { .. } => "emergency.alpha".to_owned(),
            Self::Gate { source } => format!("gate.{}", source.key()),
        }
    }

    /// Whether the key itself is wrong, not its value.
    pub fn is_about_the_key(&self) -> bool {
        let Self::Schedule { problem, .. } = self else { return false };
        matches!(
            problem,
            ScheduleProblem::UnknownRung { .. } | ScheduleProblem::FirstRung { .. }
        )
    }

    /// What to do about it, where the text does not say so itself.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::NoRung => Some("add a [[ladder]] with a name and its services"),
            Self::NoCohort => Some("add a [[cohort]] with `select.rest = true`"),
            Self::ServiceTwice { .. } => Some("a service comes back once, on one rung"),
            Self::Select { problem: SelectorProblem::Empty, .. } => {
                Some("to take everybody left, write `rest = true`")
            }
            Self::RestNotLast { .. } => {
                Some("move it to the end; no mailbox would be left for those behind it")
            }
            Self::LeaseTooShort { .. } => {
                Some("two reports may be lost before a lease runs out")
            }
            Self::UnknownBeforeLease { .. } => Some(
                "a restarted worker joins again when the lease of the old one has ended",
            ),
            Self::Schedule { problem, .. } => problem.help(),
            Self::Calendar { .. }
            | Self::TooManyRungs { .. }
            | Self::EmptyRung { .. }
            | Self::TooManyCohorts { .. }
            | Self::NameEmpty { .. }
            | Self::NameTwice { .. }
            | Self::Select { .. }
            | Self::CanaryEmpty { .. }
            | Self::CapBelowCanary { .. }
            | Self::Growth { .. }
            | Self::Limit { .. }
            | Self::BeatTooShort { .. }
            | Self::EmergencySoak { .. }
            | Self::EmergencyAlpha { .. }
            | Self::Gate { .. }
            | Self::Pace { .. } => None,
        }
    }
}

impl Policy {
    /// Whether it makes sense, whatever the inventory.
    ///
    /// # Errors
    ///
    /// [`PolicyError`] for the first thing that does not.
    pub fn check(&self) -> Result<(), PolicyError> {
        check_name(Named::Policy, &self.name, [].iter())?;
        self.check_ladder()?;
        self.check_cohorts()?;
        for (place, exclude) in self.exclude.iter().enumerate() {
            let of = Named::Exclude(place);
            if exclude.select.rest {
                let problem = SelectorProblem::RestExcluded;
                return Err(PolicyError::Select { of, problem });
            }
            check_selector(of, &exclude.select)?;
        }
        self.check_emergency()?;
        self.limits.check()?;
        self.limits.pace.check().map_err(|source| PolicyError::Pace { source })?;
        self.gate.check().map_err(|source| PolicyError::Gate { source })?;
        let (unknown_after, lease) = (self.gate.unknown_after, self.limits.lease);
        if unknown_after <= lease {
            return Err(PolicyError::UnknownBeforeLease { unknown_after, lease });
        }
        Ok(())
    }

    fn check_ladder(&self) -> Result<(), PolicyError> {
        if self.ladder.is_empty() {
            return Err(PolicyError::NoRung);
        }
        let (have, max) = (self.ladder.len(), Level::MAX.get());
        if have > usize::from(max) {
            return Err(PolicyError::TooManyRungs { have, max });
        }
        let mut services = Vec::new();
        for (place, rung) in self.ladder.iter().enumerate() {
            let earlier = self.ladder.iter().take(place).map(|rung| &rung.name);
            check_name(Named::Rung(place), &rung.name, earlier)?;
            if rung.services.is_empty() {
                let name = rung.name.clone();
                return Err(PolicyError::EmptyRung { rung: place, name });
            }
            for service in &rung.services {
                if services.contains(&service) {
                    let service = service.clone();
                    return Err(PolicyError::ServiceTwice { rung: place, service });
                }
                services.push(service);
            }
        }
        Ok(())
    }

    fn check_cohorts(&self) -> Result<(), PolicyError> {
        if self.cohorts.is_empty() {
            return Err(PolicyError::NoCohort);
        }
        let have = self.cohorts.len();
        if have > COHORTS_MAX {
            return Err(PolicyError::TooManyCohorts { have, max: COHORTS_MAX });
        }
        for (place, cohort) in self.cohorts.iter().enumerate() {
            let earlier = self.cohorts.iter().take(place).map(|cohort| &cohort.name);
            check_name(Named::Cohort(place), &cohort.name, earlier)?;
            check_selector(Named::Cohort(place), &cohort.select)?;
            if cohort.select.rest && place + 1 < have {
                let name = cohort.name.clone();
                return Err(PolicyError::RestNotLast { cohort: place, name });
            }
            check_sizes(place, cohort)?;
            self.check_schedule(cohort)
                .map_err(|problem| PolicyError::Schedule { cohort: place, problem })?;
        }
        super::calendar::check(&self.calendar, &self.cohorts)
            .map_err(|(rule, problem)| PolicyError::Calendar { rule, problem })
    }

    fn check_schedule(&self, cohort: &Cohort) -> Result<(), ScheduleProblem> {
        for name in cohort.delays.keys() {
            let rung = name.clone();
            match self.ladder.iter().position(|rung| rung.name == *name) {
                Some(0) => return Err(ScheduleProblem::FirstRung { rung }),
                Some(_) => {}
                None => return Err(ScheduleProblem::UnknownRung { rung }),
            }
        }
        if cohort.expected.is_some_and(|window| window.to <= window.from) {
            return Err(ScheduleProblem::WindowEnds);
        }
        for service in &cohort.dial_tone {
            if self.level_of(service).is_none() {
                let service = service.clone();
                return Err(ScheduleProblem::UnknownService { service });
            }
            if service == "pop3" {
                return Err(ScheduleProblem::Pop3OnEmptyStore);
            }
        }
        if !cohort.dial_tone.is_empty() && cohort.dial_tone != self.dial_services() {
            return Err(ScheduleProblem::DialTonesDiffer);
        }
        Ok(())
    }
}

impl Limits {
    fn check(&self) -> Result<(), PolicyError> {
        let job_mailboxes_max = u32::from(JOB_MAILBOXES_MAX);
        let within = [
            ("prepare_ahead", self.prepare_ahead, u32::MAX),
            ("prepare_threads", u32::from(self.prepare_threads), 1_024),
            ("open_per_second", self.open_per_second, 1_000_000),
            ("permit_window", u32::from(self.permit_window), job_mailboxes_max),
            ("job_mailboxes", u32::from(self.job_mailboxes), job_mailboxes_max),
        ];
        for (key, have, max) in within {
            if !(1..=max).contains(&have) {
                return Err(PolicyError::Limit { key, have, min: 1, max });
            }
        }
        let Self { lease, beat, .. } = *self;
        if beat < BEAT_MIN {
            return Err(PolicyError::BeatTooShort { beat, min: BEAT_MIN });
        }
        if lease.millis() < beat.millis().saturating_mul(WHOLE_BEATS_MIN) {
            return Err(PolicyError::LeaseTooShort { lease, beat });
        }
        Ok(())
    }
}

fn check_name<'a>(
    of: Named,
    name: &str,
    mut earlier: impl Iterator<Item = &'a String>,
) -> Result<(), PolicyError> {
    if name.trim().is_empty() {
        return Err(PolicyError::NameEmpty { of });
    }
    if earlier.any(|other| other == name) {
        return Err(PolicyError::NameTwice { of, name: name.to_owned() });
    }
    Ok(())
}

fn check_selector(of: Named, select: &Selector) -> Result<(), PolicyError> {
    let more = Selector { rest: false, ..select.clone() };
    let problem = match select.share {
        _ if select.rest && !more.is_empty() => SelectorProblem::RestWithMore,
        _ if select.is_empty() => SelectorProblem::Empty,
        _ if select.labels.values().any(Vec::is_empty) => SelectorProblem::LabelEmpty,
        Some(share) if share.from >= share.to || share.to > Ppm::WHOLE => {
            SelectorProblem::Share { from: share.from, to: share.to }
        }
        Some(_) | None => return Ok(()),
    };
    Err(PolicyError::Select { of, problem })
}

fn check_sizes(place: usize, cohort: &Cohort) -> Result<(), PolicyError> {
    let Cohort { name, canary, growth, wave_max, .. } = cohort;
    let (cohort, name) = (place, name.clone());
    if *canary == 0 {
        return Err(PolicyError::CanaryEmpty { cohort, name });
    }
    if !GROWTH.contains(&growth.hundredths()) {
        return Err(PolicyError::Growth { cohort, name, growth: *growth });
    }
    if wave_max < canary {
        let (wave_max, canary) = (*wave_max, *canary);
        return Err(PolicyError::CapBelowCanary { cohort, name, wave_max, canary });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::GatePolicy;
    use crate::policy::{
        Delays, EmergencyProfile, Exclude, Growth, Notice, Rung, Share, Window,
    };
    use crate::time::Timestamp;

    #[test]
    fn every_error_names_the_key_that_must_change() {
        let good = good();
        let limits = |limits| Policy { limits, ..good.clone() };
        let default = Limits::default();
        let cohort = |cohort| Policy { cohorts: vec![cohort], ..good.clone() };
        let all = good.cohorts[0].clone();
        let select = |select| cohort(Cohort { select, ..all.clone() });
        let whole = Some(Share { from: Ppm::WHOLE, to: Ppm::ZERO });
        let rest = Selector::everybody();

        check(&good, "");
        check(&Policy { name: " ".into(), ..good.clone() }, "name");
        check(&Policy { ladder: vec![], ..good.clone() }, "ladder");
        check(
            &Policy { ladder: vec![good.ladder[0].clone(); 8], ..good.clone() },
            "ladder",
        );
        let twice = vec![good.ladder[0].clone(), rung("apps", &["imap"])];
        check(&Policy { ladder: twice, ..good.clone() }, "ladder.1.services");
        let idle = vec![rung("apps", &[])];
        check(&Policy { ladder: idle, ..good.clone() }, "ladder.0.services");
        check(&Policy { cohorts: vec![], ..good.clone() }, "cohort");
        let late = Cohort { name: "late".into(), ..all.clone() };
        let behind = vec![all.clone(), late];
        check(&Policy { cohorts: behind, ..good.clone() }, "cohort.0.select.rest");
        let exclude = Exclude { reason: "gone".into(), select: rest.clone() };
        let out = Policy { exclude: vec![exclude], ..good.clone() };
        check(&out, "exclude.0.select.rest");
        check(&select(Selector::default()), "cohort.0.select");
        check(&select(Selector { share: whole, ..rest }), "cohort.0.select.rest");
        let upside_down = Selector { share: whole, ..Selector::default() };
        check(&select(upside_down), "cohort.0.select.share");
        check(&cohort(Cohort { canary: 0, ..all.clone() }), "cohort.0.canary");
        check(&cohort(Cohort { wave_max: 9, ..all.clone() }), "cohort.0.wave_max");
        let shrinking = Growth::new(99);
        check(&cohort(Cohort { growth: shrinking, ..all.clone() }), "cohort.0.growth");
        check(&limits(Limits { job_mailboxes: 0, ..default }), "limits.job_mailboxes");
        check(&limits(Limits { beat: Span::ZERO, ..default }), "limits.beat");
        check(&limits(Limits { lease: default.beat, ..default }), "limits.lease");
        let long = good.gate.unknown_after;
        check(&limits(Limits { lease: long, ..default }), "gate.unknown_after");
        let second = vec![rung("receive", &["lmtp"]), rung("mail", &["imap", "pop3"])];
        let scheduled = |change: &dyn Fn(&mut Cohort)| {
            let mut policy = Policy { ladder: second.clone(), ..good.clone() };
            change(&mut policy.cohorts[0]);
            policy
        };
        let delayed = |rung: &str| {
            scheduled(&|cohort| {
                cohort.delays.insert(rung.into(), Span::from_secs(1));
            })
        };
        check(&delayed("mail"), "");
        check(&delayed("mial"), "cohort.0.delay.mial");
        check(&delayed("receive"), "cohort.0.delay.receive");
        let at = Timestamp::from_millis(1);
        let ends = scheduled(&|all| all.expected = Some(Window { from: at, to: at }));
        check(&ends, "cohort.0.expected.to");
        let dial = |service: &str| scheduled(&|all| all.dial_tone = vec![service.into()]);
        check(&dial("lmtp"), "");
        check(&dial("smtp"), "cohort.0.dial_tone");
        check(&dial("pop3"), "cohort.0.dial_tone");
        let mut two = dial("lmtp");
        let first = Selector { tiers: vec!["paid".into()], ..Selector::default() };
        let first = Cohort { name: "first".into(), select: first, ..all.clone() };
        two.cohorts.insert(0, Cohort { dial_tone: vec!["imap".into()], ..first });
        check(&two, "cohort.1.dial_tone");
        let mut gate = GatePolicy::default();
        gate.opening.p_ok = gate.opening.p_bad;
        check(&Policy { gate, ..good.clone() }, "gate.opening.p_ok");
    }

    #[test]
    fn an_emergency_that_hurries_nothing_or_errs_for_ever_is_refused() {
        let good = good();

        for soak in [Span::ZERO, good.gate.soak] {
            let emergency = Some(EmergencyProfile { soak, alpha: None });
            check(&Policy { emergency, ..good.clone() }, "emergency.soak");
        }
        let (soak, alpha) = (Span::from_secs(60), Some(Ppm::new(500_000)));
        let emergency = Some(EmergencyProfile { soak, alpha });
        check(&Policy { emergency, ..good.clone() }, "emergency.alpha");
    }

    #[test]
    fn any_difference_changes_the_digest() {
        let good = good();
        let mut others = vec![good.clone(); 12];
        others[0].hash_seed = "other".into();
        others[1].ladder[0].services.push("pop3".into());
        others[2].cohorts[0].wave_max += 1;
        others[3].gate.soak = Span::ZERO;
        others[4].limits.permit_window += 1;
        others[5].cohorts[0].select.share =
            Some(Share { from: Ppm::ZERO, to: Ppm::WHOLE });
        others[6].ladder[0].soak = Some(Span::ZERO);
        others[7].cohorts[0].delays.insert("mail".into(), Span::ZERO);
        let (from, to) = (Timestamp::default(), Timestamp::from_millis(1));
        others[8].cohorts[0].expected = Some(Window { from, to });
        others[9].cohorts[0].dial_tone.push("imap".into());
        others[10].notice.zone = "Europe/Rome".into();
        let soak = Span::from_secs(60);
        others[11].emergency = Some(EmergencyProfile { soak, alpha: None });

        assert_eq!(good.digest(), good.clone().digest());
        assert!(others.iter().all(|other| other.digest() != good.digest()));
    }

    fn check(policy: &Policy, key: &str) {
        let found = policy.check().map_or_else(|error| error.key(), |()| String::new());

        assert_eq!(found, key, "{:?}", policy.check());
    }

    fn good() -> Policy {
        let all = Cohort {
            name: "all".into(),
            select: Selector::everybody(),
            canary: 10,
            growth: Growth::new(300),
            wave_max: 100,
            delays: Delays::new(),
            expected: None,
            dial_tone: Vec::new(),
        };
        Policy {
            name: "good".into(),
            ladder: vec![rung("mail", &["imap"])],
            cohorts: vec![all],
            exclude: Vec::new(),
            gate: GatePolicy::default(),
            limits: Limits::default(),
            notice: Notice::default(),
            calendar: Vec::new(),
            emergency: None,
            hash_seed: String::new(),
        }
    }

    fn rung(name: &str, services: &[&str]) -> Rung {
        let services = services.iter().map(|service| (*service).to_owned()).collect();
        Rung { name: name.into(), services, soak: None }
    }
}
