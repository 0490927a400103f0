//! Grounds: all that speaks against going on, under one short name.
//!
//! Whoever gives leave to go on has looked at what went wrong. The name says at what: as soon as
//! anything worse is known it is another one, and leave that was given on the old one is void.
//!
//! # Invariants
//!
//! * It changes with every mailbox of an opened wave that fails or shows damaged mail, with every
//!   node that is taken out, and with every verdict that would stop the rollout.
//! * Time, samples that go well and mailboxes that are prepared ahead change nothing: leave that
//!   was given stays good while nothing gets worse. Leave to override a hold is for that hold.

use std::fmt;
use std::str::FromStr;

use super::{Record, Rollout, Verb};
use crate::fleet::WaveNumber;
use crate::gate::Verdict;
use crate::mailbox::Level;
use crate::time::Timestamp;

/// Bytes of the name: nobody finds other grounds of the same name, and people can copy it.
const BYTES: usize = 12;

/// What speaks against going on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Grounds([u8; BYTES]);

impl fmt::Display for Grounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Grounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that names no evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no name of evidence; `tidegate status` shows the present one")]
pub struct NotGrounds;

impl FromStr for Grounds {
    type Err = NotGrounds;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; BYTES];
        let digits: Option<Vec<u32>> =
            text.chars().map(|digit| digit.to_digit(16)).collect();
        let digits = digits.filter(|it| it.len() == 2 * BYTES).ok_or(NotGrounds)?;
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let value = pair.iter().fold(0, |value, digit| value << 4 | digit);
            *byte = u8::try_from(value).map_err(|_| NotGrounds)?;
        }
        let grounds = Self(bytes);
        // One spelling only, as of etags.
        if grounds.to_string() == text { Ok(grounds) } else { Err(NotGrounds) }
    }
}

impl Rollout {
    /// What speaks against going on at `now`.
    pub fn grounds(&self, now: Timestamp) -> Grounds {
        named(&self.against(now))
    }

    /// What speaks against `verb` at `now`. Whoever overrides a hold is given leave for this
    /// level of this wave, and for these kinds of reasons to hold it: with another one the name
    /// is another one, too.
    pub fn grounds_of(&self, verb: Verb, now: Timestamp) -> Grounds {
        let mut hash = self.against(now);
        if let Verb::Expand(wave) = verb
            && wave.index() < self.waves.len()
        {
            let evidence = self.evidence(wave, now);
            hash.update(b"hold");
            hash.update(&wave.get().to_be_bytes());
            hash.update(&[evidence.level.get()]);
            hash.update(&evidence.epoch.to_be_bytes());
            if let Verdict::Hold(reasons) = self.plan.judge(&evidence, now).verdict {
                for reason in reasons {
                    hash.update(reason.code().as_bytes());
                    hash.update(b";");
                }
            }
        }
        if let Verb::BeginEmergency { wave, lasts } = verb {
            hash.update(b"emergency");
            hash.update(self.plan.digest().bytes());
            hash.update(&wave.map_or(u32::MAX, |it| u32::from(it.get())).to_be_bytes());
            hash.update(&lasts.millis().to_be_bytes());
        }
        named(&hash)
    }

    fn against(&self, now: Timestamp) -> blake3::Hasher {
        let mut hash = blake3::Hasher::new();
        let stop = self.history.iter().rev().find_map(|record| {
            if let Record::Halted { evidence, .. }
            | Record::NodeIsolated { evidence, .. } = record
            {
                Some(evidence)
            } else {
                None
            }
        });
        if let Some(evidence) = stop {
            hash.update(&evidence.to_bytes());
        }
        for node in self.out_of_service() {
            hash.update(&node.get().to_be_bytes());
        }
        let waves = (0..).map(WaveNumber::new).take(self.waves.len());
        for number in waves {
            let wave = self.wave(number);
            let tallies = wave.tallies.iter();
            for tally in tallies.filter(|it| it.failed() + it.integrity_failed() > 0) {
                hash.update(b"failed");
                hash.update(&number.get().to_be_bytes());
                hash.update(&tally.node.get().to_be_bytes());
                hash.update(&tally.failed().to_be_bytes());
                hash.update(&tally.integrity_failed().to_be_bytes());
            }
            if wave.allowed > Level::HELD {
                let verdict = self.plan.judge(&self.evidence(number, now), now).verdict;
                if matches!(verdict, Verdict::Isolate { .. } | Verdict::Halt(_)) {
                    hash.update(b"verdict");
                    hash.update(&number.get().to_be_bytes());
                    hash.update(verdict.to_string().as_bytes());
                }
            }
        }
        hash
    }
}

fn named(hash: &blake3::Hasher) -> Grounds {
    let mut bytes = [0; BYTES];
    hash.finalize_xof().fill(&mut bytes);
    Grounds(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_spelling() {
        let grounds = Grounds([0xa7; BYTES]);

        assert_eq!(grounds.to_string().parse(), Ok(grounds));
        for wrong in ["", "a7", &"A7".repeat(BYTES), &"a7".repeat(BYTES + 1), "a+"] {
            assert_eq!(wrong.parse::<Grounds>(), Err(NotGrounds), "{wrong}");
        }
    }
}
