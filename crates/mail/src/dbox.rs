//! Dbox: Dovecot's own formats, single (sdbox) and multi (mdbox).

mod file;

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
    _past: &Past<'_>,
    _ledger: &mut Ledger,
) -> Result<(), Refusal> {
    let what = match format {
        Format::Maildir => "a Maildir here",
        Format::Sdbox => "sdbox",
        Format::Mdbox => "mdbox",
    };
    Err(Refusal::Unsupported { path: escape(&bench.path(b"")), what })
}
