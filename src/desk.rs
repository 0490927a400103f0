//! The desk: what the user on the telephone may be told.
//!
//! # Invariants
//!
//! * Nothing here changes anything; the coordinator counts and logs who asked.

use schemars::JsonSchema;
use serde::Serialize;
use tidegate_pages::desk::Answer;
use tidegate_pages::texts::{Language, Texts};
use tidegate_wire::v1;

use crate::cli::{Desk, DeskLookup, TableOrJson};
use crate::client::Client;
use crate::console::{self, safe};
use crate::exit::{Exit, Outcome};
use crate::screens::{json, say};

/// Carries out `tidegate desk`.
pub(crate) async fn run(verb: &Desk) -> Outcome {
    let Desk::Lookup(args) = verb;
    look_up(args).await
}

async fn look_up(args: &DeskLookup) -> Outcome {
    let mut client = Client::connect(&args.coordinator).await?;
    let request = v1::LookUpRequest {
        address: args.address.clone(),
        ticket: args.ticket.clone(),
        by: args.actor.name(),
    };
    let found = client.look_up(request).await?;
    let rollout = client.rollout().await?;
    let [italian, english] =
        Language::ALL.map(|it| Answer::of(&found, &rollout, &Texts::of(it)));
    match args.output {
        TableOrJson::Json => {
            console::data_line(json::value(&LookUp {
                pseudonym: &found.pseudonym,
                state: english.code.into(),
                say: Say { it: italian.say, en: english.say },
                do_not_say: english.do_not_say,
                window: english.window,
                asked: found.asked,
                asked_max: found.asked_max,
            }))?;
        }
        TableOrJson::Table => {
            console::data(screen(&found, &args.ticket, &italian, &english))?;
        }
    }
    Ok(Exit::Done)
}

/// What a user on the telephone may be told.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "schema", rename = "tidegate.desk/v1")]
pub(crate) struct LookUp<'a> {
    /// The mailbox under another name, as the audit log has it.
    pseudonym: &'a str,
    /// How it is, as a stable word.
    #[schemars(extend("enum" = json::words(Answer::word)))]
    state: String,
    /// The sentence, in each language.
    say: Say,
    /// What is not to be said.
    do_not_say: String,
    /// When it has its turn, in words.
    window: String,
    /// Look-ups of this agent in this hour.
    asked: u32,
    /// The most of them.
    asked_max: u32,
}

/// A sentence in each language.
#[derive(Serialize, JsonSchema)]
struct Say {
    /// Italian.
    it: String,
    /// English.
    en: String,
}

fn screen(
    found: &v1::LookUpResponse,
    ticket: &str,
    italian: &Answer,
    english: &Answer,
) -> String {
    let mut out = String::new();
    say!(out, "Verify first   {}\n\n", english.verify);
    say!(out, "Mailbox        {}\n", safe(&found.pseudonym));
    say!(out, "State          {}\n", english.state);
    say!(out, "Turn           {}\n", english.window);
    say!(out, "Services       {}\n\n", safe(&english.services));
    say!(out, "Say (it)       {}\n", italian.say);
    say!(out, "Say (en)       {}\n", english.say);
    say!(out, "Do not say     {}\n", english.do_not_say);
    say!(out, "Escalate       {}\n", english.escalate);
    let (asked, max) = (found.asked, found.asked_max);
    say!(out, "Logged         {}: {asked} of {max} look-ups this hour\n", safe(ticket));
    out
}
