//! Drain: how many messages a second a node gets out of all queues together, beside the mail
//! of the day.
//!
//! # Invariants
//!
//! * What opening brings takes at most half of what a node can deliver.
//! * It never hurries a node that slows its opening: logins and deliveries share the disks.
//! * A node that is not heard or was taken out gets nothing, and so does one that refuses mail
//!   for good: what is handed to it would bounce.

use std::fmt;

use tidegate_core::gate::{Pulse, PulseLimits, PulseSignal};
use tidegate_core::pace::PaceWhy;
use tidegate_core::rollout::{NodeCondition, NodeStatus, Vitals};

/// Messages a second that a node in good health delivers: far below what a disk array takes.
const DELIVERIES_PER_SECOND: u32 = 100;

/// What opening brings may take this part of it: half a million messages in an hour on three
/// nodes.
const OPENING_PART: u32 = 2;

/// How the rate of one node is divided; with the least part some still shows how it fares.
const PARTS: u32 = 16;

/// What a node gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drain {
    /// Messages in a second.
    pub(crate) per_second: u32,
    /// Why not more, unless it is all that may be.
    pub(crate) why: Option<DrainWhy>,
}

/// Why a node gets less than it could, the worst reason last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum DrainWhy {
    /// What should be measured of deliveries or logins is not.
    Blind,
    /// Its opening was slowed down, or its disks are busy.
    Slowed,
    /// Deliveries take more than half of their limit.
    SlowDeliveries,
    /// Deliveries take longer than their limit.
    LateDeliveries,
    /// Its opening is stopped: logins are too late.
    Stopped,
    /// It refuses mail for good.
    Refuses,
    /// It is not heard, or was taken out.
    Out,
}

impl Drain {
    /// What may be delivered into `node`, whose signals have these limits.
    pub(crate) fn into(node: &NodeStatus, limits: &PulseLimits) -> Self {
        let why = match node.condition {
            NodeCondition::Working => slowed_by(&node.vitals, limits),
            NodeCondition::NoWorker
            | NodeCondition::Silent
            | NodeCondition::Isolated
            | NodeCondition::HeldBack
            | NodeCondition::Recounting
            | NodeCondition::LeftOut
            | NodeCondition::TurnedAway
            | NodeCondition::Ahead => Some(DrainWhy::Out),
        };
        let parts = why.map_or(PARTS, DrainWhy::parts);
        let whole = DELIVERIES_PER_SECOND / OPENING_PART;
        Self { per_second: (whole * parts).div_ceil(PARTS), why }
    }
}

/// The worst of what slows deliveries down.
fn slowed_by(vitals: &Vitals, limits: &PulseLimits) -> Option<DrainWhy> {
    let pace = vitals.pace.and_then(|pace| match pace.why {
        PaceWhy::Stopped => Some(DrainWhy::Stopped),
        PaceWhy::Slowed | PaceWhy::Cooling => Some(DrainWhy::Slowed),
        PaceWhy::Blind => Some(DrainWhy::Blind),
        PaceWhy::Unfelt | PaceWhy::Rising | PaceWhy::AtCeiling | PaceWhy::Steady => None,
    });
    let pulses = vitals.pulses.iter().filter_map(|pulse| {
        let Pulse { signal, latest, silent, .. } = pulse;
        let limit = limits.limit(signal);
        let (half, late) = (latest > limit / 2, latest > limit);
        match signal {
            PulseSignal::DeliveryLatency | PulseSignal::DeliveryRefusals
                if silent > 0 =>
            {
                Some(DrainWhy::Blind)
            }
            PulseSignal::DeliveryRefusals if late => Some(DrainWhy::Refuses),
            PulseSignal::DeliveryLatency if late => Some(DrainWhy::LateDeliveries),
            PulseSignal::DeliveryLatency if half => Some(DrainWhy::SlowDeliveries),
            PulseSignal::DiskLatency | PulseSignal::IoPressure if late => {
                Some(DrainWhy::Slowed)
            }
            PulseSignal::DeliveryLatency
            | PulseSignal::DeliveryRefusals
            | PulseSignal::DiskLatency
            | PulseSignal::IoPressure
            | PulseSignal::LoginLatency
            | PulseSignal::CommandLatency
            | PulseSignal::CommandErrors
            | PulseSignal::StorageErrors
            | PulseSignal::Connections
            | PulseSignal::Canary
            | PulseSignal::CanaryLatency
            | PulseSignal::QueueAge => None,
        }
    });
    pulses.chain(pace).max()
}

impl DrainWhy {
    /// How many of [`PARTS`] are left.
    fn parts(self) -> u32 {
        match self {
            Self::Blind | Self::Slowed | Self::SlowDeliveries => PARTS / 2,
            Self::LateDeliveries => PARTS / 4,
            Self::Stopped => 1,
            Self::Refuses | Self::Out => 0,
        }
    }

    /// The stable name.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Blind => "blind",
            Self::Slowed => "slowed",
            Self::SlowDeliveries => "slow-deliveries",
            Self::LateDeliveries => "late-deliveries",
            Self::Stopped => "stopped",
            Self::Refuses => "refuses",
            Self::Out => "out",
        }
    }
}

impl fmt::Display for DrainWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blind => "what should be measured is not",
            Self::Slowed => "its opening was slowed, or its disks are busy",
            Self::SlowDeliveries => "deliveries take more than half of their limit",
            Self::LateDeliveries => "deliveries take longer than their limit",
            Self::Stopped => "logins are too late",
            Self::Refuses => "it refuses mail for good",
            Self::Out => "it is not heard, or was taken out",
        })
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::fleet::NodeNumber;
    use tidegate_core::gate::GatePolicy;
    use tidegate_core::pace::PaceReport;

    use super::*;

    #[test]
    fn a_node_gets_half_of_what_it_delivers_and_less_the_worse_it_feels() {
        let rates = [
            rate(&feels(PaceWhy::Rising)),
            rate(&feels(PaceWhy::Slowed)),
            rate(&feels(PaceWhy::Blind)),
            rate(&feels(PaceWhy::Stopped)),
            rate(&Vitals::default()),
        ];

        let expected = [
            (50, None),
            (25, Some("slowed")),
            (25, Some("blind")),
            (4, Some("stopped")),
            (50, None),
        ];
        assert_eq!(rates, expected);
    }

    #[test]
    fn deliveries_have_a_say_of_their_own_and_the_worst_one_counts() {
        let limit = limits().limit(PulseSignal::DeliveryLatency);
        let shown = |latency: u32, refusals: u32| {
            let mut vitals = feels(PaceWhy::Slowed);
            vitals.pulses.note(PulseSignal::DeliveryLatency, latency, limit);
            vitals.pulses.note(PulseSignal::DeliveryRefusals, refusals, 0);
            rate(&vitals)
        };
        let mut unheard = feels(PaceWhy::Rising);
        unheard.pulses.note(PulseSignal::DeliveryLatency, 0, limit);
        unheard.pulses.miss(PulseSignal::DeliveryLatency);

        assert_eq!(shown(limit / 2, 0), (25, Some("slowed")));
        assert_eq!(shown(limit / 2 + 1, 0), (25, Some("slow-deliveries")));
        assert_eq!(shown(limit + 1, 0), (13, Some("late-deliveries")));
        assert_eq!(shown(0, 1_000_000), (0, Some("refuses")));
        assert_eq!(rate(&unheard), (25, Some("blind")));
    }

    #[test]
    fn a_node_that_is_out_gets_nothing() {
        let node = NodeStatus { condition: NodeCondition::Isolated, ..working() };

        let drain = Drain::into(&node, &limits());

        assert_eq!((drain.per_second, drain.why), (0, Some(DrainWhy::Out)));
    }

    fn rate(vitals: &Vitals) -> (u32, Option<&'static str>) {
        let node = NodeStatus { vitals: *vitals, ..working() };
        let Drain { per_second, why } = Drain::into(&node, &limits());
        (per_second, why.map(DrainWhy::code))
    }

    fn feels(why: PaceWhy) -> Vitals {
        let (millis_per_second, login_p95_millis, basis) = (1_000, 0, None);
        let pace = PaceReport { millis_per_second, why, login_p95_millis, basis };
        Vitals { pace: Some(pace), ..Vitals::default() }
    }

    fn limits() -> PulseLimits {
        GatePolicy::DEFAULT.signals.limits()
    }

    fn working() -> NodeStatus {
        NodeStatus {
            node: NodeNumber::new(0),
            condition: NodeCondition::Working,
            heard_at: None,
            planned: 1,
            prepared: 1,
            quarantined: 0,
            open: 1,
            dial_tones: 0,
            closing: 0,
            failed: 0,
            vitals: Vitals::default(),
            is_outside: false,
            opens_at: None,
        }
    }
}
