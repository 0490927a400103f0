//! Marks: which levels a wave has passed in another way than by its usual gate.
//!
//! # Invariants
//!
//! * They come from the story alone; what was re-closed since is marked no more.

use super::{Record, Rollout};
use crate::fleet::WaveNumber;
use crate::gate::Evidence;
use crate::mailbox::Level;

/// Levels that people answer for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Passed although the gate held the wave.
    pub overridden: Vec<Level>,
    /// Passed under the emergency profile.
    pub hurried: Vec<Level>,
}

impl Rollout {
    /// Those of each wave.
    pub fn marks(&self) -> Vec<Marks> {
        let mut marks = vec![Marks::default(); self.waves.len()];
        for record in &self.history {
            let overridden = matches!(record, Record::Overridden { .. });
            let (Record::Overridden { evidence, .. } | Record::Expanded { evidence, .. }) =
                record
            else {
                continue;
            };
            let Evidence { wave, level, epoch, hurried, .. } = *evidence;
            if !self.is_of_now(wave, epoch) {
                continue;
            }
            let Some(marks) = marks.get_mut(wave.index()) else { continue };
            if overridden {
                marks.overridden.push(level);
            }
            if hurried {
                marks.hurried.push(level);
            }
        }
        marks
    }

    fn is_of_now(&self, wave: WaveNumber, epoch: u32) -> bool {
        self.waves.get(wave.index()).is_some_and(|wave| wave.epoch == epoch)
    }
}
