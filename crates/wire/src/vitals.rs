//! How a node feels, and what it should feel for, checked.
//!
//! # Invariants
//!
//! * Of a signal there are never more bad minutes than minutes.
//! * A signal, or a reason for a pace, that only a newer side knows is left out: it is not
//!   judged, and nothing else is lost for it.

use tidegate_core::gate::{GatePolicy, Pulse, PulseLimits, PulseSignal, Pulses};
use tidegate_core::pace::{PaceBasis, PacePolicy, PaceReport, PaceWhy, Population};
use tidegate_core::rollout::Vitals;
use tidegate_core::share::Ppm;
use tidegate_core::time::Span;

use crate::protocol::{ProtocolError, bounded, narrow};
use crate::v1;
use crate::worker::ppm;

/// More signals than any version has; an older side bounds what it reads of a newer one.
const PULSES_MAX: usize = 64;

impl From<Vitals> for v1::Vitals {
    fn from(vitals: Vitals) -> Self {
        let Vitals { probes, probes_slow, disk_free, probe_micros, read_errors, .. } =
            vitals;
        Self {
            probes,
            probes_slow,
            disk_free_ppm: disk_free.map(Ppm::parts),
            probe_micros,
            read_errors,
            fenced: vitals.fenced,
            pulses: tell_pulses(&vitals.pulses),
            pace: vitals.pace.map(v1::Pace::from),
        }
    }
}

impl TryFrom<v1::Vitals> for Vitals {
    type Error = ProtocolError;

    fn try_from(message: v1::Vitals) -> Result<Self, Self::Error> {
        if message.probes_slow > message.probes {
            return Err(ProtocolError::invalid(
                "vitals.probes_slow",
                &message.probes_slow,
            ));
        }
        Ok(Self {
            probes: message.probes,
            probes_slow: message.probes_slow,
            disk_free: message.disk_free_ppm.map(ppm).transpose()?,
            probe_micros: message.probe_micros,
            read_errors: message.read_errors,
            fenced: message.fenced,
            pulses: pulses(message.pulses)?,
            pace: message.pace.and_then(|pace| pace.try_into().ok()),
        })
    }
}

pub(crate) fn tell_pulses(pulses: &Pulses) -> Vec<v1::Pulse> {
    let told = pulses.iter().map(|pulse| {
        let Pulse { signal, minutes, minutes_bad, latest, silent } = pulse;
        let signal = signal.code().to_owned();
        v1::Pulse { signal, minutes, minutes_bad, latest, silent }
    });
    told.collect()
}

pub(crate) fn pulses(told: Vec<v1::Pulse>) -> Result<Pulses, ProtocolError> {
    bounded("pulses", told.len(), PULSES_MAX)?;
    let mut pulses = Pulses::default();
    for pulse in told {
        let v1::Pulse { signal, minutes, minutes_bad, latest, silent } = pulse;
        if minutes_bad > minutes {
            return Err(ProtocolError::invalid("pulses.minutes_bad", &minutes_bad));
        }
        if let Some(signal) = PulseSignal::named(&signal) {
            pulses.set(Pulse { signal, minutes, minutes_bad, latest, silent });
        }
    }
    Ok(pulses)
}

impl From<PaceReport> for v1::Pace {
    fn from(report: PaceReport) -> Self {
        let PaceReport { millis_per_second, why, login_p95_millis, basis } = report;
        let (why, basis) = (why.code().to_owned(), basis.map(tell_basis));
        Self { millis_per_second, why, login_p95_millis, basis }
    }
}

impl TryFrom<v1::Pace> for PaceReport {
    type Error = ProtocolError;

    fn try_from(told: v1::Pace) -> Result<Self, Self::Error> {
        let v1::Pace { millis_per_second, why, login_p95_millis, basis } = told;
        let known = PaceWhy::ALL.into_iter().find(|known| known.code() == why);
        let why = known.ok_or_else(|| ProtocolError::invalid("pace.why", &why))?;
        let basis = basis.and_then(pace_basis);
        Ok(Self { millis_per_second, why, login_p95_millis, basis })
    }
}

fn tell_basis(basis: PaceBasis) -> v1::PaceBasis {
    let Population { active, connections, cold_cost } = basis.population;
    v1::PaceBasis {
        active_ppm: active.parts(),
        connections: u32::from(connections),
        counted: basis.counted,
        cold_cost: u32::from(cold_cost),
        cold_cost_measured: basis.is_cold_cost_measured,
        retry_millis: basis.retry.millis(),
        retry_measured: basis.is_retry_measured,
        capacity: basis.capacity,
        capacity_measured: basis.is_capacity_measured,
        work_of_a_million: basis.work_of_a_million,
    }
}

/// What a pace is made from; nothing if the numbers cannot be: it is only shown.
fn pace_basis(told: v1::PaceBasis) -> Option<PaceBasis> {
    Some(PaceBasis {
        population: Population {
            active: ppm(told.active_ppm).ok()?,
            connections: u16::try_from(told.connections).ok()?,
            cold_cost: u16::try_from(told.cold_cost).ok()?,
        },
        counted: told.counted,
        is_cold_cost_measured: told.cold_cost_measured,
        retry: Span::from_millis(told.retry_millis),
        is_retry_measured: told.retry_measured,
        capacity: told.capacity,
        is_capacity_measured: told.capacity_measured,
        work_of_a_million: told.work_of_a_million,
    })
}

pub(crate) fn tell_pulse_limits(limits: &PulseLimits) -> v1::PulseLimits {
    let each = PulseSignal::ALL.map(|signal| v1::PulseLimit {
        signal: signal.code().to_owned(),
        limit: limits.limit(signal),
    });
    v1::PulseLimits { every_millis: limits.every.millis(), limits: each.into() }
}

/// The limits that were told; what was not told has its default.
pub(crate) fn pulse_limits(
    told: Option<v1::PulseLimits>,
) -> Result<PulseLimits, ProtocolError> {
    let mut limits = GatePolicy::DEFAULT.signals.limits();
    let Some(told) = told else { return Ok(limits) };
    bounded("pulse_limits.limits", told.limits.len(), PULSES_MAX)?;
    if told.every_millis == 0 {
        return Err(ProtocolError::missing("pulse_limits.every_millis"));
    }
    limits.every = Span::from_millis(told.every_millis);
    for v1::PulseLimit { signal, limit } in told.limits {
        let place = PulseSignal::named(&signal).map(PulseSignal::index);
        if let Some(known) = place.and_then(|place| limits.limits.get_mut(place)) {
            *known = limit;
        }
    }
    Ok(limits)
}

pub(crate) fn tell_pace(policy: &PacePolicy) -> v1::PaceSettings {
    let PacePolicy { patience, retry, load, capacity, population } = *policy;
    v1::PaceSettings {
        patience_millis: patience.millis(),
        retry_millis: retry.millis(),
        load_ppm: load.parts(),
        capacity,
        active_ppm: population.active.parts(),
        connections: u32::from(population.connections),
        cold_cost: u32::from(population.cold_cost),
    }
}

/// The pace that was told, or the default.
pub(crate) fn pace_policy(
    told: Option<v1::PaceSettings>,
) -> Result<PacePolicy, ProtocolError> {
    let Some(told) = told else { return Ok(PacePolicy::DEFAULT) };
    let policy = PacePolicy {
        patience: Span::from_millis(told.patience_millis),
        retry: Span::from_millis(told.retry_millis),
        load: Ppm::new(told.load_ppm),
        capacity: told.capacity,
        population: Population {
            active: Ppm::new(told.active_ppm),
            connections: narrow("pace.connections", told.connections)?,
            cold_cost: narrow("pace.cold_cost", told.cold_cost)?,
        },
    };
    policy.check().map_err(|wrong| ProtocolError::invalid("settings.pace", &wrong))?;
    Ok(policy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vitals_survive_the_way() {
        let mut vitals = Vitals { probes: 3, probes_slow: 1, ..Vitals::default() };
        vitals.pulses.note(PulseSignal::LoginLatency, 900, 800);
        vitals.pulses.miss(PulseSignal::Canary);
        vitals.pace = Some(PaceReport {
            millis_per_second: 12_500,
            why: PaceWhy::Rising,
            login_p95_millis: 900,
            basis: Some(PaceBasis {
                population: Population::UNKNOWN,
                counted: 250,
                is_cold_cost_measured: true,
                retry: Span::from_secs(90),
                is_retry_measured: false,
                capacity: Some(60),
                is_capacity_measured: true,
                work_of_a_million: 4_200_000,
            }),
        });

        assert_eq!(Vitals::try_from(v1::Vitals::from(vitals)), Ok(vitals));
    }

    #[test]
    fn what_only_a_newer_side_knows_is_left_out() {
        let told = vec![v1::Pulse { signal: "moon".to_owned(), ..v1::Pulse::default() }];
        let far = v1::Pace { why: "tired".to_owned(), ..v1::Pace::default() };

        assert_eq!(pulses(told), Ok(Pulses::default()));
        assert!(PaceReport::try_from(far).is_err());
    }

    #[test]
    fn more_bad_minutes_than_minutes_are_refused() {
        let signal = PulseSignal::Canary.code().to_owned();
        let told = v1::Pulse { signal, minutes_bad: 1, ..v1::Pulse::default() };

        let refused = pulses(vec![told]).unwrap_err().to_string();

        assert_eq!(refused, "field `pulses.minutes_bad` cannot be `1`");
    }

    #[test]
    fn settings_survive_the_way_and_old_coordinators_mean_the_defaults() {
        let mut limits = GatePolicy::DEFAULT.signals.limits();
        limits.every = Span::from_secs(1);
        limits.limits[3] = 77;
        let pace = PacePolicy { capacity: Some(60), ..PacePolicy::DEFAULT };

        assert_eq!(pulse_limits(Some(tell_pulse_limits(&limits))), Ok(limits));
        assert_eq!(pace_policy(Some(tell_pace(&pace))), Ok(pace));
        assert_eq!(pulse_limits(None), Ok(GatePolicy::DEFAULT.signals.limits()));
        assert_eq!(pace_policy(None), Ok(PacePolicy::DEFAULT));
    }
}
