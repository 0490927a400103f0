//! Restores practice providers and counts what came back:
//! `practice_runs DIR SEEDS [MAILBOXES [FIRST_SEED]]`.
//!
//! # Invariants
//!
//! * Each seed has its own amount of damage, from 8 % to 60 %.
//! * It ends with 1 if any recount is not clean.

#![expect(clippy::print_stdout, reason = "its output is its purpose")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tidegate_lab::{
    LabSpec, Listed, MailboxEnd, Provider, Recount, Told, build, recount,
};
use tidegate_mail::{Mailbox, PrepareTask, Prepared, Store, StoreConfig};

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let root: PathBuf = arguments.next().ok_or("which directory?")?.into();
    let mut number = |default: u64| {
        arguments.next().map_or(Ok(default), |number| number.parse::<u64>())
    };
    let (seeds, mailboxes, first) = (number(20)?, number(300)?, number(1)?);
    let mailboxes = u32::try_from(mailboxes)?;
    let mut clean = true;
    for seed in first..first + seeds {
        let percent = u32::try_from(8 + seed * 13 % 53)?;
        let damage = percent * 10_000;
        let spec = LabSpec { mailboxes, seed, damage, ..LabSpec::default() };
        let dir = root.join(format!("seed-{seed}"));
        let recount = restore(&dir, &spec)?;
        fs::remove_dir_all(&dir)?;
        clean &= recount.is_clean();
        println!(
            "seed {seed:3} damage {percent:2} %: {} expected, {} found, {} listed, \
             {} beyond all trace, {} back in doubt",
            recount.messages_expected,
            recount.messages_found,
            recount.messages_listed,
            recount.messages_untraceable,
            recount.returned_in_doubt,
        );
        if !recount.is_clean() {
            println!("{recount}");
        }
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn restore(dir: &Path, spec: &LabSpec) -> Result<Recount, Box<dyn Error>> {
    let provider = build(dir, spec, &mut |_| {})?;
    let mut told = Told::default();
    for node in 0..provider.nodes.len() {
        for (address, prepared) in prepare(&provider, node)? {
            let end = if prepared.is_some() {
                MailboxEnd::Restored
            } else {
                MailboxEnd::SetAside
            };
            for aside in prepared.into_iter().flat_map(|prepared| prepared.set_aside) {
                told.set_aside.push(Listed {
                    address: address.clone(),
                    folder: aside.folder,
                    name: aside.name,
                    reason: aside.cause.to_string(),
                });
            }
            told.states.insert(address, end);
        }
    }
    Ok(recount(&provider, &told)?)
}

type Outcomes = Vec<(String, Option<Prepared>)>;

/// Prepares a node's mailboxes twice: the second time nothing may be left to do.
fn prepare(provider: &Provider, node: usize) -> Result<Outcomes, Box<dyn Error>> {
    let home = provider.nodes.get(node).ok_or("no such node")?;
    let work = home.live.with_extension("work");
    fs::create_dir_all(&work)?;
    let (live, snapshot) = (home.live.clone(), Some(home.snapshot.clone()));
    let store =
        Store::open(StoreConfig { live, snapshot, work, file_size_max: 1 << 30 })?;
    store.claim(1, 1, "practice")?;
    let of_node = provider.truth.mailboxes.iter().filter(|mailbox| mailbox.node == node);
    let mailboxes: Vec<Mailbox> = (1..)
        .zip(of_node)
        .map(|(key, mailbox)| Mailbox {
            key,
            address: mailbox.address.clone(),
            path: mailbox.path.clone().into_bytes(),
            served: false,
        })
        .collect();
    let task =
        PrepareTask { job: 1, generation: 1, holder: "practice", mailboxes: &mailboxes };
    let first = store.prepare(&task)?;
    for (once, again) in first.iter().zip(store.prepare(&task)?) {
        let (Ok(once), Ok(again)) = (once, again) else { continue };
        let same = (once.stamp, &once.set_aside, once.manifest_digest)
            == (again.stamp, &again.set_aside, again.manifest_digest);
        if !same || again.counts.repaired + again.counts.returned > 0 {
            return Err(format!("not the same twice: {once:?}\n{again:?}").into());
        }
    }
    let addresses = mailboxes.into_iter().map(|mailbox| mailbox.address);
    Ok(addresses.zip(first.into_iter().map(Result::ok)).collect())
}
