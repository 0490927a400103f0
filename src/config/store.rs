//! What a node's mail is kept in: files, or anything behind a program.
//!
//! # Invariants
//!
//! * A key that means nothing for the chosen kind of store is refused, not ignored.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tidegate_worker::{Command, Files, Limits, Mail};
use toml::Spanned;

use super::{RawWorker, Text};
use crate::exit::Failure;

/// A message larger than this is not read: twice what large providers accept.
const FILE_SIZE_MAX_BYTES: u64 = 256 << 20;
/// Below this, ordinary mail with an attachment would be set aside.
const FILE_SIZE_MAX_BYTES_MIN: u64 = 1 << 20;
/// The format that older configurations name. Mailboxes tell their format themselves.
const FORMAT: &str = "maildir";

/// The most mailboxes of one call if nobody says otherwise: enough to share the start of an
/// interpreter, few enough that one call is over soon.
const BATCH: u64 = 32;
/// More are never handed out at once.
const BATCH_MAX: u64 = 1_000;
/// A call that takes longer than a day is lost.
const TIMEOUT_SECONDS_MAX: u64 = 86_400;

/// The variable that the worker sets itself.
const OWN_VARIABLE: &str = "TIDEGATE_NODE";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    file_size_max_bytes: Option<Spanned<u64>>,
}

/// The table `[store]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawStore {
    kind: RawKind,
    program: Option<Spanned<Vec<String>>>,
    batch: Option<Spanned<u64>>,
    environment: Option<Spanned<BTreeMap<String, String>>>,
    timeout_seconds: Option<Spanned<RawTimeouts>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawKind {
    Files,
    Command,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawTimeouts {
    verify: u64,
    repair: u64,
    look: u64,
    open: u64,
    close: u64,
    probe: u64,
    stats: u64,
}

impl Default for RawTimeouts {
    fn default() -> Self {
        // Reading and repairing may wait for slow disks; everything else has a user
        // waiting, or an operator.
        Self {
            verify: 600,
            repair: 1_800,
            look: 60,
            open: 20,
            close: 60,
            probe: 60,
            stats: 20,
        }
    }
}

/// What the mail is kept in, checked.
pub(super) fn mail(raw: &RawWorker, text: &Text) -> Result<Mail, Failure> {
    match &raw.store {
        Some(store) if store.get_ref().kind == RawKind::Command => {
            command(raw, store, text).map(Mail::Command)
        }
        Some(_) | None => files(raw, text).map(Mail::Files),
    }
}

fn files(raw: &RawWorker, text: &Text) -> Result<Files, Failure> {
    if let Some(store) = &raw.store {
        let store = store.get_ref();
        let first = [
            store.program.as_ref().map(Spanned::span),
            store.batch.as_ref().map(Spanned::span),
            store.environment.as_ref().map(Spanned::span),
            store.timeout_seconds.as_ref().map(Spanned::span),
        ];
        if let Some(span) = first.into_iter().flatten().next() {
            let help = "write `kind = \"command\"`, or take the line out";
            return Err(text.complain(span, "files are read without a program", help));
        }
    }
    if let Some(format) = &raw.format
        && format.get_ref() != FORMAT
    {
        let title = format!("`{}` cannot be chosen", format.get_ref());
        let help = "take the line out: the format of each mailbox is told by its files";
        return Err(text.complain(format.span(), title, help));
    }
    let Some(live) = &raw.live else {
        let help = "add a line `live = …` with the mail root, or a table `[store]` with \
                    `kind = \"command\"`";
        return Err(text.complain(
            raw.node.span(),
            "it is not said where the mail is",
            help,
        ));
    };
    let live = text.directory(live)?;
    let snapshot = raw.snapshot.as_ref().map(|path| text.directory(path)).transpose()?;
    let work = text.beside(raw.work.get_ref());
    if work.starts_with(&live) || live.starts_with(&work) {
        let title = "the work directory and the mail root lie in each other";
        let help = "give it a place of its own on the same file system, never served";
        return Err(text.complain(raw.work.span(), title, help));
    }
    let size = raw.limits.as_ref().and_then(|limits| limits.file_size_max_bytes.as_ref());
    let file_size_max = match size {
        None => FILE_SIZE_MAX_BYTES,
        Some(size) if *size.get_ref() < FILE_SIZE_MAX_BYTES_MIN => {
            let title = format!(
                "`file_size_max_bytes` is {}, must be at least {FILE_SIZE_MAX_BYTES_MIN}",
                size.get_ref()
            );
            let help = "every message above it is set aside";
            return Err(text.complain(size.span(), title, help));
        }
        Some(size) => *size.get_ref(),
    };
    let nfs_is_fenced = raw.nfs_is_fenced == Some(true);
    Ok(Files { live, snapshot, file_size_max, nfs_is_fenced })
}

fn command(
    raw: &RawWorker,
    store: &Spanned<RawStore>,
    text: &Text,
) -> Result<Command, Failure> {
    let first = [
        raw.live.as_ref().map(Spanned::span),
        raw.snapshot.as_ref().map(Spanned::span),
        raw.format.as_ref().map(Spanned::span),
    ];
    if let Some(span) = first.into_iter().flatten().next() {
        let help = "take the line out; the program of [store] knows where its mail is";
        return Err(text.complain(span, "only a store of files has this", help));
    }
    let span = store.span();
    let store = store.get_ref();
    let Some(program) = &store.program else {
        let help = "add `program = [\"/usr/local/lib/tidegate/mbox-store\"]`";
        return Err(text.complain(span, "the store has no program", help));
    };
    let (file, arguments) = executable(program, text)?;
    let environment = store.environment.as_ref();
    if let Some(table) = environment
        && table.get_ref().contains_key(OWN_VARIABLE)
    {
        let title = format!("`{OWN_VARIABLE}` is set by the worker itself");
        return Err(text.complain(table.span(), title, "take it out"));
    }
    let batch = match &store.batch {
        None => BATCH,
        Some(batch) if (1..=BATCH_MAX).contains(batch.get_ref()) => *batch.get_ref(),
        Some(batch) => {
            let title =
                format!("`batch` is {}, must be 1 to {BATCH_MAX}", batch.get_ref());
            let help = "so many mailboxes are asked about in one call";
            return Err(text.complain(batch.span(), title, help));
        }
    };
    Ok(Command {
        program: file,
        arguments,
        environment: environment.map(|it| it.get_ref().clone()).unwrap_or_default(),
        batch: usize::try_from(batch).unwrap_or(1),
        limits: limits(store.timeout_seconds.as_ref(), text)?,
    })
}

/// The program's file and its arguments.
fn executable(
    program: &Spanned<Vec<String>>,
    text: &Text,
) -> Result<(PathBuf, Vec<String>), Failure> {
    let refuse = |title: String, help: &str| text.complain(program.span(), title, help);
    let Some((file, arguments)) = program.get_ref().split_first() else {
        let help = "name the program and its arguments; the verb is added as the last";
        return Err(refuse("the list is empty".to_owned(), help));
    };
    if !file.contains('/') {
        let title = format!("`{file}` has no directory");
        let help = "write its whole path: programs are not looked for, and no shell runs";
        return Err(refuse(title, help));
    }
    let found = text.beside(Path::new(file));
    match std::fs::metadata(&found) {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => {
            let title = format!("`{}` is not a file", found.display());
            return Err(refuse(title, "name the program"));
        }
        Err(error) => {
            let title = format!("`{}` cannot be used: {error}", found.display());
            return Err(refuse(title, "is it installed, and may this user read it?"));
        }
    }
    // Calls are made from the root directory.
    let file = std::path::absolute(&found).unwrap_or(found);
    Ok((file, arguments.to_vec()))
}

fn limits(raw: Option<&Spanned<RawTimeouts>>, text: &Text) -> Result<Limits, Failure> {
    let usual = RawTimeouts::default();
    let seconds = raw.map_or(&usual, Spanned::get_ref);
    let all = [
        ("verify", seconds.verify),
        ("repair", seconds.repair),
        ("look", seconds.look),
        ("open", seconds.open),
        ("close", seconds.close),
        ("probe", seconds.probe),
        ("stats", seconds.stats),
    ];
    let wrong = all.iter().find(|(_, it)| !(1..=TIMEOUT_SECONDS_MAX).contains(it));
    if let (Some((verb, seconds)), Some(raw)) = (wrong, raw) {
        let title =
            format!("`{verb}` is {seconds} seconds, must be 1 to {TIMEOUT_SECONDS_MAX}");
        let help = "a call that takes longer is killed and made again";
        return Err(text.complain(raw.span(), title, help));
    }
    Ok(Limits {
        verify: Duration::from_secs(seconds.verify),
        repair: Duration::from_secs(seconds.repair),
        look: Duration::from_secs(seconds.look),
        open: Duration::from_secs(seconds.open),
        close: Duration::from_secs(seconds.close),
        probe: Duration::from_secs(seconds.probe),
        stats: Duration::from_secs(seconds.stats),
    })
}
