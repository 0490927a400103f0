//! Conditions: what a script waits for.
//!
//! # Invariants
//!
//! * A wait ends: when it is so, when that cannot come any more, or when the gate has stopped the
//!   rollout and a person is needed first.
//! * A name that the plan does not have is refused at once, with those it has.

use std::ops::ControlFlow;
use std::str::FromStr;

use tidegate_wire::v1::{NodeState, Rollout, RolloutState, WaveState};

use crate::client::is_over;
use crate::exit::{Exit, Failure};
use crate::look::ending;
use crate::screens::status::{node_word, state_word, wave_word};

/// Of a wave: a mailbox of it is open.
const OPEN: &str = "open";

/// What the gate may say.
const VERDICTS: [&str; 4] = ["expand", "hold", "isolate", "halt"];

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// The rollout is in this state.
    Rollout(String),
    /// The wave is in this state, or open.
    Wave { name: String, is: String },
    /// The node is in this state.
    Node { name: String, is: String },
    /// The wave's gate says this.
    Gate { wave: String, says: String },
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((what, rest)) = text.split_once('=') else {
            let is = one_of(text, &rollout_words())?;
            return Ok(Self::Rollout(is));
        };
        let (name, is) = rest
            .rsplit_once(':')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| format!("write it as `{what}=NAME:STATE`"))?;
        let name = name.to_owned();
        match what {
            "wave" => Ok(Self::Wave { name, is: one_of(is, &wave_words())? }),
            "node" => Ok(Self::Node { name, is: one_of(is, &node_words())? }),
            "gate" => {
                let verdicts = VERDICTS.map(str::to_owned);
                Ok(Self::Gate { wave: name, says: one_of(is, &verdicts)? })
            }
            _ => Err(format!(
                "`{what}` is none of `wave`, `node`, `gate`; a state of the rollout is written \
                 alone, such as `finished`"
            )),
        }
    }
}

impl Condition {
    /// Whether the wait for it goes on.
    ///
    /// # Errors
    ///
    /// [`Exit::Input`] when the plan has no such part.
    pub(crate) fn check(&self, rollout: &Rollout) -> Result<ControlFlow<Exit>, Failure> {
        if let Some(exit) = self.is_so(rollout)? {
            return Ok(ControlFlow::Break(exit));
        }
        Ok(match rollout.state() {
            RolloutState::Halted => ControlFlow::Break(Exit::Changes),
            RolloutState::Aborted => ControlFlow::Break(Exit::Failed),
            _ if is_over(rollout) && !self.may_still_come() => {
                ControlFlow::Break(Exit::Failed)
            }
            RolloutState::Unspecified
            | RolloutState::Running
            | RolloutState::Paused
            | RolloutState::Finished => ControlFlow::Continue(()),
        })
    }

    /// How it ends if it is so.
    fn is_so(&self, rollout: &Rollout) -> Result<Option<Exit>, Failure> {
        let so = match self {
            Self::Rollout(is) => {
                let so = state_word(rollout.state()).0.eq_ignore_ascii_case(is);
                return Ok(so.then(|| ending(rollout)));
            }
            Self::Wave { name, is } => {
                let waves = rollout.waves.iter().map(|wave| wave.name.as_str());
                let wave = rollout.waves.iter().find(|wave| wave.name == *name);
                let wave = wave.ok_or_else(|| Failure::unknown("wave", name, waves))?;
                if is == OPEN { wave.open > 0 } else { wave_word(wave.state()).1 == is }
            }
            Self::Node { name, is } => {
                let nodes = rollout.nodes.iter().map(|node| node.name.as_str());
                let node = rollout.nodes.iter().find(|node| node.name == *name);
                let node = node.ok_or_else(|| Failure::unknown("node", name, nodes))?;
                node_word(node.state()).0 == is
            }
            Self::Gate { wave: name, says } => {
                let waves = rollout.waves.iter().map(|wave| wave.name.as_str());
                let wave = rollout.waves.iter().find(|wave| wave.name == *name);
                let wave = wave.ok_or_else(|| Failure::unknown("wave", name, waves))?;
                wave.gate.as_ref().is_some_and(|gate| gate.verdict == *says)
            }
        };
        Ok(so.then_some(Exit::Done))
    }

    /// Whether it may come although the rollout has finished: nodes come and go, and what is
    /// finished may be paused or halt.
    fn may_still_come(&self) -> bool {
        match self {
            Self::Node { .. } => true,
            Self::Rollout(is) => is == "paused",
            Self::Wave { .. } | Self::Gate { .. } => false,
        }
    }
}

fn one_of(word: &str, words: &[String]) -> Result<String, String> {
    if words.iter().any(|known| known == word) {
        return Ok(word.to_owned());
    }
    Err(format!("`{word}` is none of `{}`", words.join("`, `")))
}

fn rollout_words() -> Vec<String> {
    let all = (1..).map_while(|number| RolloutState::try_from(number).ok());
    all.map(|state| state_word(state).0.to_lowercase()).collect()
}

fn wave_words() -> Vec<String> {
    let all = (1..).map_while(|number| WaveState::try_from(number).ok());
    let words = all.map(|state| wave_word(state).1.to_owned());
    words.chain([OPEN.to_owned()]).collect()
}

fn node_words() -> Vec<String> {
    let all = (1..).map_while(|number| NodeState::try_from(number).ok());
    all.map(|state| node_word(state).0.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_wire::v1::{Gate, Node, Wave};

    fn rollout(state: RolloutState) -> Rollout {
        let gate = Some(Gate { verdict: "hold".to_owned(), ..Gate::default() });
        let wave = Wave {
            name: "first".to_owned(),
            state: WaveState::Opening.into(),
            open: 1,
            gate,
            ..Wave::default()
        };
        let node = Node {
            name: "stor:01".to_owned(),
            state: NodeState::Working.into(),
            ..Node::default()
        };
        let (waves, nodes) = (vec![wave], vec![node]);
        Rollout { state: state.into(), waves, nodes, ..Rollout::default() }
    }

    fn check(condition: &str, state: RolloutState) -> ControlFlow<Exit> {
        let condition: Condition = condition.parse().unwrap();
        condition.check(&rollout(state)).unwrap()
    }

    #[test]
    fn what_is_so_ends_the_wait_with_0() {
        for so in [
            "running",
            "wave=first:opening",
            "wave=first:open",
            "node=stor:01:working",
            "gate=first:hold",
        ] {
            assert_eq!(
                check(so, RolloutState::Running),
                ControlFlow::Break(Exit::Done),
                "{so}"
            );
        }
        for not_yet in
            ["finished", "wave=first:passed", "node=stor:01:silent", "gate=first:expand"]
        {
            assert_eq!(
                check(not_yet, RolloutState::Running),
                ControlFlow::Continue(()),
                "{not_yet}"
            );
        }
    }

    #[test]
    fn a_wait_for_what_cannot_come_by_itself_ends() {
        for never in ["wave=first:passed", "finished", "node=stor:01:silent"] {
            assert_eq!(
                check(never, RolloutState::Halted),
                ControlFlow::Break(Exit::Changes)
            );
            assert_eq!(
                check(never, RolloutState::Aborted),
                ControlFlow::Break(Exit::Failed)
            );
        }
        let over = check("wave=first:passed", RolloutState::Finished);
        assert_eq!(over, ControlFlow::Break(Exit::Failed));
        let node = check("node=stor:01:silent", RolloutState::Finished);
        assert_eq!(node, ControlFlow::Continue(()));
    }

    #[test]
    fn a_wrong_condition_says_what_there_is() {
        let wrong = |text: &str| text.parse::<Condition>().unwrap_err();

        assert!(wrong("done").contains("`finished`"));
        assert!(wrong("wave=first").contains("`wave=NAME:STATE`"));
        assert!(wrong("gate=first:maybe").contains("`hold`"));
        assert!(wrong("cohort=a:b").contains("`node`"));
        let nobody: Condition = "wave=last:open".parse().unwrap();
        let refused = nobody.check(&rollout(RolloutState::Running)).unwrap_err();
        assert_eq!(refused.exit(), Exit::Input);
        assert!(refused.to_string().contains("it has `first`"));
    }
}
