//! Dbox: Dovecot's own formats, single (sdbox) and multi (mdbox).
//!
//! # Invariants
//!
//! * A message is its folder and GUID; its flags are in its folder's index.
//! * An index that Dovecot would refuse never stays: one is written anew from what is known.

mod aliases;
mod control;
pub(crate) mod desk;
#[cfg(test)]
pub(crate) mod doveadm;
pub(crate) mod file;
mod folder;
mod judged;
pub(crate) mod known;
#[cfg(test)]
mod mdbox_repairs;
mod memory;
mod multi;
pub(crate) mod probe;
mod record;
#[cfg(test)]
mod sdbox_repairs;
mod single;
pub(crate) mod survey;

use crate::dbox::desk::Desk;
use crate::dbox::folder::Home;
use crate::dbox::record::Recorded;
use crate::dbox::survey::survey;
use crate::doubt::DoubtKind;
use crate::format::Format;
use crate::ledger::Ledger;
use crate::refusal::Refusal;
use crate::stage::Bench;
use crate::store::Past;
use crate::walk::escape;

/// Plans everything for one mailbox: stages bytes and acts on `bench`, outcomes in `ledger`.
pub(crate) fn plan(
    bench: &mut Bench<'_>,
    format: Format,
    past: &Past<'_>,
    ledger: &mut Ledger,
) -> Result<(), Refusal> {
    let path = bench.path(b"");
    let live = survey(&bench.roots().live, &path)?;
    let snapshot = match &bench.roots().snapshot {
        Some(root) => survey(root, &path)?,
        None => None,
    };
    let home = match (&live, &snapshot) {
        (Some(side), _) | (None, Some(side)) => Home { meta: side.meta },
        (None, None) => return Err(Refusal::NotThere { path: escape(&path) }),
    };
    for (folder, name) in live.iter().flat_map(|survey| &survey.odd) {
        ledger.doubt(folder, name, None, DoubtKind::OddItem);
    }
    // A mailbox that is gone was not emptied by its user.
    let served = past.served && live.is_some();
    let recorded = Recorded::new(past.manifest, served);
    let mut desk = Desk::new(bench);
    if live.is_none() {
        folder::make_dirs(&mut desk, b"", home)?;
    }
    match format {
        Format::Sdbox => {
            single::plan(&mut desk, (live, snapshot), (home, &recorded), ledger)
        }
        Format::Maildir | Format::Mdbox => {
            multi::plan(&mut desk, (live, snapshot), (home, &recorded), ledger)
        }
    }
}
