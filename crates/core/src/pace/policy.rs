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

    /// Warm logins that a million mailboxes are worth when they come in.
    pub(super) fn work_of_a_million(self) -> u64 {
        let Self { active, connections, cold_cost } = self;
        let per_active = u64::from(cold_cost) + u64::from(connections.max(1)) - 1;
        (u64::from(active.parts()) * per_active).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
