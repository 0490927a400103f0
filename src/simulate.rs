//! Simulating: `simulate` plays whole rollouts of a plan in virtual time.
//!
//! # Invariants
//!
//! * It reads two files and talks to nobody; what decides is the code of the real rollout.
//! * The same files, assumptions and seed give the same rollouts, however many threads play.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use tidegate_core::fleet::NodeNumber;
use tidegate_core::plan::Plan;
use tidegate_core::share::Ppm;
use tidegate_rehearsal::{Assumptions, Ending, rehearse};

use crate::cli::{self, Of, TableOrJson};
use crate::console;
use crate::exit::{Exit, Failure, Outcome};
use crate::planning;
use crate::progress::Progress;
use crate::screens::simulated::{self, Simulated};

/// Carries out `tidegate simulate`.
pub(crate) fn run(args: &cli::Simulate) -> Outcome {
    let (plan, _) = planning::make(&args.inputs)?;
    let assumptions = assume(args, &plan)?;
    let plan = Arc::new(plan);
    let began = Instant::now();
    let endings = play(args, &plan, &assumptions);
    let simulated = Simulated {
        plan: &plan,
        assumptions: &assumptions,
        seed: args.seed,
        asked: args.runs,
        endings: &endings,
    };
    match args.output {
        TableOrJson::Json => console::data_line(simulated::value(&simulated))?,
        TableOrJson::Table => console::data(simulated::text(&simulated))?,
    }
    let seconds = began.elapsed().as_secs_f64();
    console::tell(format_args!("played {} rollouts in {seconds:.1} s", endings.len()));
    Ok(Exit::Done)
}

fn assume(args: &cli::Simulate, plan: &Plan) -> Result<Assumptions, Failure> {
    let part = |share: Ppm| f64::from(share.parts()) / 1e6;
    let mut assumptions = Assumptions {
        spread: part(args.spread),
        drift: part(args.drift),
        sets_aside: args.set_aside,
        ..Assumptions::healthy(args.prepare_rate)
    };
    for Of { node, what } in &args.fails {
        match node {
            Some(node) => assumptions.of(number(plan, node)?).fails = Some(*what),
            None => assumptions.fails = *what,
        }
    }
    let named = |node: &Option<String>| number(plan, node.as_deref().unwrap_or_default());
    for Of { node, what } in &args.slow {
        assumptions.of(named(node)?).slower = Some(*what);
    }
    for Of { node, what } in &args.lost {
        assumptions.of(named(node)?).lost_after = Some(*what);
    }
    Ok(assumptions)
}

fn number(plan: &Plan, name: &str) -> Result<NodeNumber, Failure> {
    let names = plan.inventory().node_names();
    let found = names.iter().zip(0..).find(|(known, _)| *known == name);
    let unknown = || Failure::unknown("node", name, names.iter().map(String::as_str));
    found.map(|(_, number)| NodeNumber::new(number)).ok_or_else(unknown)
}

/// Plays as many rollouts as were asked for, as far as there is time; always one.
fn play(
    args: &cli::Simulate,
    plan: &Arc<Plan>,
    assumptions: &Assumptions,
) -> Vec<Ending> {
    let until = Instant::now() + args.within;
    let next = AtomicU32::new(0);
    let form = args.inputs.progress.form;
    let progress = Progress::begin(form, "Playing", (Some(args.runs.into()), "rollouts"));
    let endings = Mutex::new(Vec::new());
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let run = next.fetch_add(1, Ordering::Relaxed);
                    if run >= args.runs || run > 0 && Instant::now() >= until {
                        return;
                    }
                    let seed = args.seed.wrapping_add(u64::from(run));
                    let ending = rehearse(plan, assumptions, seed);
                    let mut endings =
                        endings.lock().unwrap_or_else(PoisonError::into_inner);
                    endings.push((run, ending));
                    progress.add(1);
                }
            });
        }
    });
    let mut endings = endings.into_inner().unwrap_or_else(PoisonError::into_inner);
    endings.sort_by_key(|(run, _)| *run);
    endings.into_iter().map(|(_, ending)| ending).collect()
}
