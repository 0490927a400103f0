//! What a node can do, and what its users are like.

use crate::inventory::Canon;
use crate::share::Ppm;
use crate::time::Span;

/// What the pace of a node is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PacePolicy {
    /// How long a mail program waits for its login before it gives up and comes again.
    pub patience: Span,
    /// How soon a program that was told to wait looks again: so long it takes until an
    /// opening is felt.
    pub retry: Span,
    /// The share of a node's capacity that opening may use.
    pub load: Ppm,
    /// Warm logins that a node serves in a second with half of the patience to spare, if
    /// somebody has measured it.
    pub capacity: Option<u32>,
    /// What its users are like.
    pub population: Population,
}

/// What users do when they are let in. Where it is not known it is supposed to be bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Population {
    /// The share of mailboxes of which a program waits to log in.
    pub active: Ppm,
    /// The connections that each of these opens.
    pub connections: u16,
    /// How many warm logins the first one costs, with its folders cold.
    pub cold_cost: u16,
}

/// A pace that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PacePolicyError {
    /// Nobody waits for so short a time.
    #[error("pace.patience is {patience}, must be at least {min}")]
    Patience {
        /// The value.
        patience: Span,
        /// The least possible.
        min: Span,
    },
    /// A share that is nothing, or more than the whole.
    #[error("pace.{name} is {value}, must be above 0 % and at most {max}")]
    Share {
        /// The key.
        name: &'static str,
        /// Its value.
        value: Ppm,
        /// The most possible.
        max: Ppm,
    },
    /// A number that must not be nothing.
    #[error("pace.{name} must be above 0")]
    Nothing {
        /// The key.
        name: &'static str,
    },
}

impl PacePolicyError {
    /// The key that must change, below the limits'.
    pub fn key(&self) -> String {
        match self {
            Self::Patience { .. } => "pace.patience".to_owned(),
            Self::Share { name, .. } | Self::Nothing { name } => format!("pace.{name}"),
        }
    }
}

/// Anything shorter is no patience.
const PATIENCE_MIN: Span = Span::from_millis(100);

/// Without a tenth to spare every queue grows for ever.
const LOAD_MAX: Ppm = Ppm::new(900_000);

impl PacePolicy {
    /// What to start from before anything was measured.
    pub const DEFAULT: Self = Self {
        // What mail programs wait for; phones give up earlier, desktops later.
        patience: Span::from_secs(10),
        // Phones look every five to fifteen minutes, desktops sooner.
        retry: Span::from_secs(5 * 60),
        // With more than seven tenths in use a queue doubles its waiting times.
        load: Ppm::new(700_000),
        capacity: None,
        population: Population::UNKNOWN,
    };

    /// Looks for values with which nothing would ever open, or everything at once.
    ///
    /// # Errors
    ///
    /// The first such value.
    pub fn check(&self) -> Result<(), PacePolicyError> {
        let Self { patience, load, capacity, population, .. } = *self;
        let Population { active, connections, cold_cost } = population;
        if patience < PATIENCE_MIN {
            return Err(PacePolicyError::Patience { patience, min: PATIENCE_MIN });
        }
        for (name, value, max) in
            [("load", load, LOAD_MAX), ("active", active, Ppm::WHOLE)]
        {
            if value == Ppm::ZERO || value > max {
                return Err(PacePolicyError::Share { name, value, max });
            }
        }
        let numbers = [
            ("capacity", capacity.unwrap_or(1)),
            ("connections", u32::from(connections)),
            ("cold_cost", u32::from(cold_cost)),
        ];
        match numbers.into_iter().find(|(_, number)| *number == 0) {
            Some((name, _)) => Err(PacePolicyError::Nothing { name }),
            None => Ok(()),
        }
    }

    /// Adds itself to a policy's name, if it is not what everybody starts from: a policy that
    /// does not mention it keeps the name that it always had.
    pub(crate) fn write(&self, canon: &mut Canon) {
        if *self == Self::DEFAULT {
            return;
        }
        let Self { patience, retry, load, capacity, population } = *self;
        canon.text("pace");
        canon.number(patience.millis());
        canon.number(retry.millis());
        canon.number(load.parts());
        canon.number(capacity.unwrap_or(0));
        canon.number(population.active.parts());
        canon.number(population.connections);
        canon.number(population.cold_cost);
    }
}

impl Default for PacePolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl Population {
    /// Everybody waits, with four connections, and everything is cold.
    pub const UNKNOWN: Self = Self { active: Ppm::WHOLE, connections: 4, cold_cost: 10 };

    /// What a soaked wave has shown: of `opened` mailboxes `users` came, and they made
    /// `connections` connections. The share of active ones is its upper 95 % bound, so that
    /// few samples leave it high; nothing is learned from fewer than a hundred mailboxes.
    ///
    /// Count after the slowest programs have polled: who has not come yet is no proof.
    pub fn measured(opened: u32, users: u32, connections: u32, cold_cost: u16) -> Self {
        if opened < SAMPLES_MIN || users > opened {
            return Self { cold_cost: cold_cost.max(1), ..Self::UNKNOWN };
        }
        let (n, k) = (u128::from(opened), u128::from(users));
        // Wilson's upper bound in millionths, z² = 2.706.
        let z2: u128 = 2_706_000;
        let million: u128 = 1_000_000;
        let spread = (z2 * (4 * k * (n - k) * million / n + z2)).isqrt();
        let upper = (2 * k * million + z2 + spread) * million / (2 * (n * million + z2));
        let active =
            u32::try_from(upper).unwrap_or(u32::MAX).clamp(1, Ppm::WHOLE.parts());
        let each = connections.div_ceil(users.max(1)).max(1);
        Self {
            active: Ppm::new(active),
            connections: u16::try_from(each).unwrap_or(u16::MAX),
            cold_cost: cold_cost.max(1),
        }
    }
}

/// Fewer mailboxes say nothing about the others.
const SAMPLES_MIN: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_measured_keeps_a_margin_that_shrinks_with_samples() {
        let active = |opened, users| {
            Population::measured(opened, users, users * 3, 4).active.to_string()
        };

        assert_eq!(active(50, 10), "100 %");
        assert!(active(100, 35).starts_with("43.") || active(100, 35).starts_with("42."));
        assert!(active(10_000, 3_500).starts_with("35."));
        assert_eq!(Population::measured(1_000, 350, 1_050, 4).connections, 3);
    }

    #[test]
    fn a_pace_that_cannot_be_is_refused() {
        let default = PacePolicy::DEFAULT;
        let nobody = Population { active: Ppm::ZERO, ..Population::UNKNOWN };
        let refused = [
            PacePolicy { patience: Span::ZERO, ..default },
            PacePolicy { load: Ppm::WHOLE, ..default },
            PacePolicy { capacity: Some(0), ..default },
            PacePolicy { population: nobody, ..default },
        ]
        .map(|policy| policy.check().unwrap_err().to_string());

        assert_eq!(default.check(), Ok(()));
        assert_eq!(
            refused,
            [
                "pace.patience is 0 ms, must be at least 100 ms",
                "pace.load is 100 %, must be above 0 % and at most 90 %",
                "pace.capacity must be above 0",
                "pace.active is 0 %, must be above 0 % and at most 100 %",
            ]
        );
    }
}
