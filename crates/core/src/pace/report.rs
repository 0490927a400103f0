//! What a pace says about itself.

use std::fmt;

use super::learn::PaceBasis;
use super::policy::Population;
use crate::share::Ppm;

/// How fast a node opens mailboxes now, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PaceReport {
    /// Thousandths of a mailbox in a second.
    pub millis_per_second: u32,
    /// Why not faster or slower.
    pub why: PaceWhy,
    /// The newest 95th percentile of logins, milliseconds; 0 if none is known.
    pub login_p95_millis: u32,
    /// What it is made from; nothing from workers that do not say it.
    pub basis: Option<PaceBasis>,
}

/// Why a node is as fast as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PaceWhy {
    /// Nothing is measured: it keeps to what the policy says.
    Unfelt,
    /// Logins are quick: it becomes faster.
    Rising,
    /// Logins are quick, and faster than this it may not be.
    AtCeiling,
    /// Logins are neither quick nor slow, or too little is opened to tell.
    Steady,
    /// It was slowed a moment ago and waits what comes of it.
    Cooling,
    /// Logins were slow, or some were turned away: it became half as fast.
    Slowed,
    /// Logins are too late: nothing opens until they are quicker.
    Stopped,
    /// What should be measured is not: it becomes slower.
    Blind,
}

impl PaceWhy {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Unfelt,
        Self::Rising,
        Self::AtCeiling,
        Self::Steady,
        Self::Cooling,
        Self::Slowed,
        Self::Stopped,
        Self::Blind,
    ];

    /// The stable name.
    pub fn code(self) -> &'static str {
        match self {
            Self::Unfelt => "unfelt",
            Self::Rising => "rising",
            Self::AtCeiling => "at-ceiling",
            Self::Steady => "steady",
            Self::Cooling => "cooling",
            Self::Slowed => "slowed",
            Self::Stopped => "stopped",
            Self::Blind => "blind",
        }
    }
}

impl fmt::Display for PaceWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unfelt => "as the policy says; nothing is measured",
            Self::Rising => "logins are quick, becoming faster",
            Self::AtCeiling => "logins are quick, as fast as may be",
            Self::Steady => "logins are neither quick nor slow, or little is opened",
            Self::Cooling => "slowed a moment ago",
            Self::Slowed => "logins are slow, half as fast",
            Self::Stopped => "logins are too late, nothing opens",
            Self::Blind => "what should be measured is not, becoming slower",
        })
    }
}

impl fmt::Display for PaceReport {
    /// As people say it: `12.5 mailboxes a second: logins are quick, becoming faster (95 % within 400 ms)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) =
            (self.millis_per_second / 1_000, self.millis_per_second % 1_000);
        write!(f, "{whole}")?;
        if rest > 0 {
            write!(f, ".{}", format!("{rest:03}").trim_end_matches('0'))?;
        }
        write!(f, " mailboxes a second: {}", self.why)?;
        match self.login_p95_millis {
            0 => Ok(()),
            millis => write!(f, " (95 % within {millis} ms)"),
        }
    }
}

impl fmt::Display for PaceBasis {
    /// As people say it, and whether that was measured or assumed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = |measured| if measured { "measured" } else { "assumed" };
        let Population { active, connections, cold_cost } = self.population;
        // Bounds have tenths, and stay bounds.
        let active = Ppm::new(active.parts().div_ceil(1_000) * 1_000);
        match self.counted {
            0 => write!(f, "{active} come, {connections} connections each (assumed)")?,
            of => write!(
                f,
                "at most {active} come, {connections} connections each (counted of {of})"
            )?,
        }
        let cold = source(self.is_cold_cost_measured);
        write!(f, "; a first login costs {cold_cost} ({cold})")?;
        let retry = source(self.is_retry_measured);
        write!(f, "; programs look every {} ({retry})", self.retry)?;
        match self.capacity {
            Some(capacity) => {
                let source = source(self.is_capacity_measured);
                write!(f, "; {capacity} logins a second ({source})")
            }
            None => f.write_str("; capacity unknown"),
        }
    }
}
