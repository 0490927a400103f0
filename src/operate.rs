//! Operating: commands that stop a rollout, let it go on, or take something back.
//!
//! # Invariants
//!
//! * Stopping never asks; ending and taking back need a reason.
//! * *Recorded* is never shown as *effective*: until every node obeys, the number of
//!   mailboxes that may still open is on the screen.

use std::io;
use std::iter;
use std::time::Duration;

use tidegate_wire::v1::{self, NodeState, RolloutState, scope};

use crate::cli::{
    self, Abort, Accept, Asked, BeginEmergency, Emergency, EndEmergency, Expand, Freeze,
    PartKind, Pause, QuarantineRetry, Reclose, Resume, Thaw,
};
use crate::client::{Client, Seen, Watcher};
use crate::console::{self, safe, thousands};
use crate::exit::{Exit, Failure, Outcome};
use crate::request::fresh_id;
use crate::screens::diagnosis::{nodes_in, reached, steps};

/// How often a re-closed mailbox is asked for.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// Carries out `tidegate pause`.
pub(crate) async fn pause(args: &Pause) -> Outcome {
    let mut client = Client::connect(&args.coordinator).await?;
    let request = v1::PauseRequest {
        by: args.actor.name(),
        reason: args.reason.clone(),
        request_id: id(&args.asked),
        without: args.without.clone(),
    };
    let recorded = client.pause(request).await?;
    console::data_line("pause requested")?;
    if args.no_wait {
        return Ok(Exit::Done);
    }
    wait_for_stop(client, recorded.orders_version).await
}

/// Carries out `tidegate freeze`.
pub(crate) async fn freeze(args: &Freeze) -> Outcome {
    let mut client = Client::connect(&args.coordinator).await?;
    let request = v1::FreezeRequest {
        by: args.actor.name(),
        reason: args.reason.clone(),
        request_id: id(&args.asked),
    };
    let recorded = client.freeze(request).await?;
    console::data_line("freeze recorded; a second person must thaw it")?;
    if args.no_wait {
        return Ok(Exit::Done);
    }
    wait_for_stop(client, recorded.orders_version).await
}

/// Carries out `tidegate thaw`.
pub(crate) async fn thaw(args: &Thaw) -> Outcome {
    let mut client = Client::connect(&args.coordinator).await?;
    let request = v1::ThawRequest {
        by: args.actor.name(),
        reason: args.reason.clone(),
        request_id: id(&args.asked),
        etag: seen(&mut client, &args.seen).await?,
    };
    client.thaw(request).await?;
    console::data_line("thawed; nothing opens before it is resumed")?;
    next(&steps(&client.rollout().await?, &[]))?;
    Ok(Exit::Done)
}

/// Carries out `tidegate resume`.
pub(crate) async fn resume(args: &Resume) -> Outcome {
    let mut client = Client::connect(&args.coordinator).await?;
    let part = args.part.zip(args.name.as_deref());
    let request = v1::ResumeRequest {
        by: args.actor.name(),
        reason: args.reason.clone(),
        scope: part.map(|(kind, name)| scope_of(kind, name)),
        request_id: id(&args.asked),
        etag: seen(&mut client, &args.seen).await?,
        without: args.without.clone(),
    };
    client.resume(request).await?;
    match part {
        None => {
            let rollout = client.rollout().await?;
            if rollout.state() == RolloutState::Halted {
                return Err(halted(&rollout));
            }
            console::data_line("resumed")?;
        }
        Some((_, name)) => {
            console::data_line(format_args!(
                "{} may open again, once it is verified anew",
                safe(name)
            ))?;
            next(&steps(&client.rollout().await?, &[]))?;
        }
    }
    Ok(Exit::Done)
}

/// What the nodes told was judged before anything could go on.
fn halted(rollout: &v1::Rollout) -> Failure {
    let why = rollout.why.first().map_or_else(String::new, |why| safe(&why.text));
    Failure::text(Exit::Refused, format!("not resumed: {why}"))
}

/// Carries out `tidegate abort`.
pub(crate) async fn abort(args: &Abort) -> Outcome {
    if !args.yes && !console::can_ask() {
        return Err(Failure::text(Exit::Usage, "nobody is there to confirm")
            .help("on a terminal this asks; for scripts add `--yes`; `tidegate pause` never asks"));
    }
    let mut client = Client::connect(&args.coordinator).await?;
    let rollout = client.rollout().await?;
    let name = safe(&rollout.name);
    if !args.yes {
        let question = format!(
            "This ends the rollout at {} for good. Type its name, `{name}`, to end it: ",
            args.coordinator
        );
        if console::ask(question)? != name {
            return Err(Failure::text(
                Exit::Failed,
                "not confirmed; nothing has been changed",
            ));
        }
    }
    let request = v1::AbortRequest {
        by: args.actor.name(),
        reason: args.reason.clone(),
        request_id: id(&args.asked),
        etag: args.seen.if_match.clone().unwrap_or(rollout.etag),
    };
    let recorded = client.abort(request).await?;
    console::data_line("abort recorded")?;
    wait_for_stop(client, recorded.orders_version).await
}

/// Carries out `tidegate accept`.
pub(crate) async fn accept(args: &Accept) -> Outcome {
    let mut client = Client::connect(&args.coordinator).await?;
    let request = v1::AcceptRequest {
        by: args.actor.name(),
        reason: args.reason.clone(),
        node: args.node.clone(),
        request_id: id(&args.asked),
        etag: seen(&mut client, &args.seen).await?,
    };
    client.accept(request).await?;
    console::data_line(format_args!("{} is accepted", safe(&args.node)))?;
    console::data_line("Next   tidegate status")?;
    Ok(Exit::Done)
}

/// Carries out `tidegate expand`.
pub(crate) async fn expand(args: &Expand) -> Outcome {
    let mut client = Client::connect(&args.coordinator).await?;
    let request = v1::ExpandRequest {
        by: args.actor.name(),
        reason: args.reason.clone(),
        wave: args.wave.clone(),
        request_id: id(&args.asked),
        etag: seen(&mut client, &args.seen).await?,
    };
    client.expand(request).await?;
    console::data_line(format_args!(
        "the hold of {} is overridden on its present level",
        safe(&args.wave)
    ))?;
    console::data_line("Next   tidegate status")?;
    Ok(Exit::Done)
}

/// Carries out `tidegate emergency`.
pub(crate) async fn emergency(verb: &Emergency) -> Outcome {
    match verb {
        Emergency::Begin(args) => begin_emergency(args).await,
        Emergency::End(args) => end_emergency(args).await,
    }
}

async fn begin_emergency(args: &BeginEmergency) -> Outcome {
    let mut client = Client::connect(&args.coordinator).await?;
    let request = v1::BeginEmergencyRequest {
        by: args.actor.name(),
        reason: args.reason.clone(),
        wave: args.what.wave.clone().unwrap_or_default(),
        lasts_seconds: args.what.lasts_seconds(),
        request_id: id(&args.asked),
        etag: seen(&mut client, &args.seen).await?,
    };
    client.begin_emergency(request).await?;
    let scope = args.what.wave.as_deref().unwrap_or("all waves");
    console::data_line(format_args!(
        "the emergency profile is in force for {}, for {} min at most; any decision and any \
         stop ends it",
        safe(scope),
        args.what.lasts
    ))?;
    console::data_line("Next   tidegate status")?;
    Ok(Exit::Done)
}

async fn end_emergency(args: &EndEmergency) -> Outcome {
    let mut client = Client::connect(&args.coordinator).await?;
    let request = v1::EndEmergencyRequest {
        by: args.actor.name(),
        reason: args.reason.clone(),
        request_id: id(&args.asked),
    };
    client.end_emergency(request).await?;
    console::data_line(
        "the usual gates judge again; waves that were hurried begin their soak anew",
    )?;
    Ok(Exit::Done)
}

/// Carries out `tidegate quarantine retry`.
pub(crate) async fn retry(args: &QuarantineRetry) -> Outcome {
    let mut client = Client::connect(&args.coordinator).await?;
    let request = v1::RetryRequest {
        by: args.actor.name(),
        reason: args.reason.clone(),
        address: args.address.clone(),
        request_id: id(&args.asked),
        etag: seen(&mut client, &args.seen).await?,
    };
    client.retry(request).await?;
    let address = safe(&args.address);
    console::data_line(format_args!(
        "{address} is verified and repaired anew; it opens with its wave if it is whole"
    ))?;
    console::data_line(format_args!("Next   tidegate mailbox show {address}"))?;
    Ok(Exit::Done)
}

/// Carries out `tidegate reclose`.
pub(crate) async fn reclose(args: &Reclose) -> Outcome {
    let mut client = Client::connect(&args.coordinator).await?;
    let request = v1::RecloseRequest {
        by: args.actor.name(),
        reason: args.reason.clone(),
        scope: Some(scope_of(args.part, &args.name)),
        request_id: id(&args.asked),
        etag: seen(&mut client, &args.seen).await?,
    };
    client.reclose(request).await?;
    console::data_line(format_args!("re-closing {}", safe(&args.name)))?;
    if args.wait {
        wait_for_close(&mut client, args).await?;
    }
    let rollout = client.rollout().await?;
    let this = match args.part {
        PartKind::Wave => format!("wave {}", safe(wave_name(&rollout, &args.name))),
        PartKind::Node => format!("node {}", safe(&args.name)),
        PartKind::Mailbox => format!("mailbox {}", safe(&args.name)),
    };
    next(&steps(&rollout, &[this]))?;
    Ok(Exit::Done)
}

/// The request's id.
pub(crate) fn id(asked: &Asked) -> String {
    asked.request_id.clone().unwrap_or_else(fresh_id)
}

/// The etag that must still be the rollout's: as given, or as it is now.
async fn seen(client: &mut Client, seen: &cli::Seen) -> Result<String, Failure> {
    match &seen.if_match {
        Some(etag) => Ok(etag.clone()),
        None => Ok(client.rollout().await?.etag),
    }
}

/// The name of the wave that is called or numbered so.
fn wave_name<'a>(rollout: &'a v1::Rollout, called: &'a str) -> &'a str {
    let mut waves = rollout.waves.iter();
    let named = rollout.waves.iter().any(|wave| wave.name == called);
    let numbered = waves.find(|wave| !named && wave.number.to_string() == called);
    numbered.map_or(called, |wave| wave.name.as_str())
}

/// Prints what to type, in order.
fn next(steps: &[String]) -> io::Result<()> {
    let leads = iter::once("Next  ").chain(iter::repeat("then  "));
    leads
        .zip(steps)
        .try_for_each(|(lead, step)| console::data_line(format_args!("{lead} {step}")))
}

pub(crate) fn scope_of(kind: PartKind, name: &str) -> v1::Scope {
    let name = name.to_owned();
    v1::Scope {
        part: Some(match kind {
            PartKind::Wave => scope::Part::Wave(name),
            PartKind::Node => scope::Part::Node(name),
            PartKind::Mailbox => scope::Part::Mailbox(name),
        }),
    }
}

/// Waits until every node obeys the stop that these orders carry, and tells how many
/// mailboxes may still open.
async fn wait_for_stop(client: Client, orders_version: u64) -> Outcome {
    let mut watcher = Watcher::new(client);
    let mut told = None;
    loop {
        let rollout = match watcher.next().await? {
            Seen::Rollout(rollout) => rollout,
            Seen::Silence(_) => continue,
            Seen::Over => {
                console::data_line("recorded; the nodes obey when they are heard next")?;
                return Ok(Exit::Done);
            }
        };
        if rollout.orders_version < orders_version {
            // Seen before the stop was recorded.
            continue;
        }
        let Some(stop) = &rollout.stop else {
            // Somebody else has resumed it meanwhile.
            return Err(Failure::text(Exit::Failed, "the rollout goes on again already"));
        };
        if stop.effective {
            let open: u32 = rollout.waves.iter().map(|wave| wave.open).sum();
            console::data_line(format_args!(
                "effective: no mailbox opens any more; {} stay open{}",
                thousands(open),
                lapsed(&stop.lapsed)
            ))?;
            return Ok(Exit::Done);
        }
        let line = reached(stop);
        if told.as_ref() != Some(&line) {
            console::tell(&line);
            told = Some(line);
        }
    }
}

/// What is said of nodes that a stop has not reached.
fn lapsed(nodes: &[String]) -> String {
    if nodes.is_empty() {
        return String::new();
    }
    let names = safe(&nodes.join(", "));
    format!("; not reached: {names}, which stopped when their lease ended")
}

/// Waits until nothing of the part is open.
async fn wait_for_close(client: &mut Client, args: &Reclose) -> Result<(), Failure> {
    let mut told = None;
    loop {
        let open = still_open(client, args).await?;
        if open.mailboxes == 0 {
            let unknown = open.unknown.unwrap_or_default();
            console::data_line(format_args!(
                "effective: nothing of it is open any more{unknown}"
            ))?;
            return Ok(());
        }
        if told.as_ref() != Some(&open) {
            let why =
                open.why.as_ref().map_or_else(String::new, |why| format!("; {why}"));
            let mailboxes = thousands(open.mailboxes);
            let noun = if open.mailboxes == 1 { "mailbox" } else { "mailboxes" };
            console::tell(format_args!("{mailboxes} {noun} still open{why}"));
            told = Some(open);
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// What of a part is still open, and what that waits for.
#[derive(PartialEq, Eq)]
struct StillOpen {
    mailboxes: u32,
    why: Option<String>,
    /// Nodes of which it is not known.
    unknown: Option<String>,
}

async fn still_open(client: &mut Client, args: &Reclose) -> Result<StillOpen, Failure> {
    if args.part == PartKind::Mailbox {
        let mailbox = client.mailbox(&args.name).await?;
        let why = mailbox.why.first().map(|why| safe(&why.text));
        let mailboxes = u32::from(mailbox.closing);
        return Ok(StillOpen { mailboxes, why, unknown: None });
    }
    let rollout = client.rollout().await?;
    let silent = nodes_in(&rollout, NodeState::Silent).map(|nodes| {
        format!("silent: {nodes}; what is open there stays open until it is heard")
    });
    let mailboxes = match args.part {
        PartKind::Wave => rollout
            .waves
            .iter()
            .filter(|wave| wave.name == args.name || wave.number.to_string() == args.name)
            .map(|wave| wave.closing)
            .sum(),
        PartKind::Node | PartKind::Mailbox => rollout
            .nodes
            .iter()
            .filter(|node| node.name == args.name)
            .map(|node| node.closing)
            .sum(),
    };
    let unknown = [NodeState::LeftOut, NodeState::Recounting]
        .map(|state| nodes_in(&rollout, state).filter(|_| args.part == PartKind::Wave));
    let unknown: Vec<String> = unknown.into_iter().flatten().collect();
    let unknown = (!unknown.is_empty()).then(|| {
        let nodes = unknown.join(", ");
        format!(
            "; not known of {nodes}: what is open there is closed once it is accepted"
        )
    });
    Ok(StillOpen { mailboxes, why: silent, unknown })
}
