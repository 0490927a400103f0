//! Trouble: what goes wrong in the lab after opening, as it would outside.
//!
//! # Invariants
//!
//! * Trouble is made with files and signals only; the programs know nothing of it.
//! * What sabotage broke is put back before anything is counted.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use tidegate_core::share::Ppm;
use tidegate_lab::{Provider, Saboteur};
use tidegate_wire::v1::ListMailboxesRequest;

use super::fleet::Fleet;
use crate::cli::{Fault, Lab};
use crate::client::Client;
use crate::console;
use crate::exit::{Exit, Failure};

/// How often the lab looks after its programs and for newly opened mailboxes: several
/// times within the shortest soak.
const LOOK_EVERY: Duration = Duration::from_millis(150);
/// The shortest time between two kills.
const KILL_PAUSE_MIN_MILLIS: u64 = 200;
/// What chance may add to it: more than a lease, so that some kills meet a fresh start and
/// some a running one.
const KILL_PAUSE_SPREAD_MILLIS: u64 = 4_000;

/// The trouble of one run.
pub(super) struct Trouble {
    saboteurs: Vec<(String, Saboteur)>,
    seen: BTreeSet<String>,
    /// How many mailboxes were broken.
    pub(super) broken: u64,
    kills_left: u32,
    /// How many programs were killed.
    pub(super) kills: u32,
    rolls: u64,
}

impl Trouble {
    /// The trouble that `args` ask for.
    pub(super) fn new(args: &Lab, provider: &Provider) -> Self {
        let saboteur = |name: &str, share: Ppm| {
            (name.to_owned(), Saboteur::new(provider, name, share.parts(), args.seed))
        };
        let saboteurs = match &args.fault {
            Fault::None | Fault::Kill { .. } => Vec::new(),
            Fault::Node { name, share } => vec![saboteur(name, *share)],
            Fault::All { share } => {
                provider.nodes.iter().map(|node| saboteur(&node.name, *share)).collect()
            }
        };
        let kills_left = match args.fault {
            Fault::Kill { times } => times,
            Fault::None | Fault::Node { .. } | Fault::All { .. } => 0,
        };
        Self {
            saboteurs,
            seen: BTreeSet::new(),
            broken: 0,
            kills_left,
            kills: 0,
            rolls: args.seed,
        }
    }

    /// Looks after the programs and makes trouble, until a program fails.
    pub(super) async fn tend(
        &mut self,
        mut client: Client,
        fleet: &mut Fleet,
    ) -> Failure {
        let mut next_kill = Instant::now() + self.pause();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            if let Err(failure) = fleet.check() {
                return failure;
            }
            if self.kills_left > 0 && Instant::now() >= next_kill {
                if let Err(failure) = self.kill(fleet) {
                    return failure;
                }
                next_kill = Instant::now() + self.pause();
            }
            if let Err(failure) = self.sabotage(&mut client).await {
                return failure;
            }
        }
    }

    /// Puts back what sabotage broke.
    ///
    /// # Errors
    ///
    /// Whatever kept a directory from being put back.
    pub(super) fn undo(&mut self) -> io::Result<()> {
        self.saboteurs.iter_mut().try_for_each(|(_, saboteur)| saboteur.undo())
    }

    async fn sabotage(&mut self, client: &mut Client) -> Result<(), Failure> {
        for (node, saboteur) in &mut self.saboteurs {
            let filter = ListMailboxesRequest {
                node: node.clone(),
                open: Some(true),
                ..ListMailboxesRequest::default()
            };
            let mut opened = Vec::new();
            let mut take = |mailbox: tidegate_wire::v1::Mailbox| -> Result<(), Failure> {
                opened.push(mailbox.address);
                Ok(())
            };
            client.mailboxes(filter, &mut take).await?;
            for address in opened {
                if !self.seen.insert(address.clone()) {
                    continue;
                }
                if saboteur.on_open(&address)? {
                    self.broken += 1;
                }
            }
        }
        Ok(())
    }

    fn kill(&mut self, fleet: &mut Fleet) -> Result<(), Failure> {
        let programs = u64::try_from(fleet.len()).unwrap_or(1).max(1);
        let place = usize::try_from(self.roll() % programs).unwrap_or(0);
        let name = fleet.kill_and_restart(place)?;
        self.kills += 1;
        self.kills_left -= 1;
        if !console::can_redraw() {
            console::tell(format_args!("kill -9 {}: {name}", self.kills));
        }
        Ok(())
    }

    fn pause(&mut self) -> Duration {
        let spread = self.roll() % KILL_PAUSE_SPREAD_MILLIS;
        Duration::from_millis(KILL_PAUSE_MIN_MILLIS + spread)
    }

    /// The next number of a fixed sequence (splitmix64): a seed replays a run's trouble.
    fn roll(&mut self) -> u64 {
        self.rolls = self.rolls.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut roll = self.rolls;
        roll = (roll ^ (roll >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        roll = (roll ^ (roll >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        roll ^ (roll >> 31)
    }
}

/// Fails if the fault never happened: a run that proves nothing must not look like one
/// that does.
///
/// # Errors
///
/// Says what did not happen.
pub(super) fn check_happened(fault: &Fault, trouble: &Trouble) -> Result<(), Failure> {
    let nothing = match fault {
        Fault::None => false,
        Fault::Node { .. } | Fault::All { .. } => trouble.broken == 0,
        Fault::Kill { times } => *times > 0 && trouble.kills == 0,
    };
    if nothing {
        return Err(Failure::text(
            Exit::Failed,
            "the fault that was asked for did not happen",
        )
        .help("ask for a larger share or more mailboxes"));
    }
    Ok(())
}
