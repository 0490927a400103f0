//! What mailboxes are made of: read, judge, compare, repair.
//!
//! A [`Store`] is one node's mail: a live root, a snapshot taken while all was well, and a work
//! directory of our own beside them. [`Store::prepare`] compares both sides of a mailbox (Maildir++,
//! sdbox or mdbox, as Dovecot writes them) and makes the live one whole, durably, without destroying
//! anything.
//!
//! Knows files. No network, no tasks, no rollout.
//!
//! # Invariants
//!
//! * A message is its folder and base name, in dbox its folder and GUID. The same name means the same
//!   bytes; where sides differ, one is damaged, and evidence decides which.
//! * Nothing live is replaced or moved before it is kept in the work directory.
//! * What cannot be made good is listed and not served.
//! * A crash at any point, and the same call again, give the same mailbox.
//! * No path leaves its root; no link is followed; nothing but regular files is read.
//!
//! # The work directory
//!
//! ```text
//! lock                              held while a store is open; the process in it
//! claims/<job>                      generation and holder, with a checksum
//! intents/<number>                  what a batch is about to change; removed when it is done
//! staging/g<generation>-<number>    bytes on their way in; but for what an intent names, removed at the next opening
//! kept/g<generation>/<key>/<folder>/        what was replaced
//! quarantine/g<generation>/<key>/<folder>/  what is not served
//! findings/<key>                    the list of all that was found
//! manifests/<key>                   what the mailbox holds
//! history/, dial/, dialled/         mailboxes that are open, empty, before they are prepared
//! ```
//!
//! `<folder>` is the folder's directory, such as `.Archive.2024`, and none for the inbox; of a dbox it is such as
//! `Archive/2024/dbox-Mails`, `storage` for files of many messages, `.control` for what is beside.
//!
//! # Which version is the message
//!
//! The key is folder and base name; a folder is known by the GUID in its UID list, so that a renamed
//! one is found (Dovecot: `src/lib-storage/index/maildir/maildir-uidlist.c`, header field `G`).
//!
//! | snapshot | live | evidence | result |
//! |---|---|---|---|
//! | any | any | digest in our manifest | the bytes of that digest |
//! | good | good, the same | | stays |
//! | good | good, another | a seal or the structure of one | those bytes, live name |
//! | good | good, another | nothing tells | the snapshot's bytes, live name; the live ones kept, doubt |
//! | good | bad | | the snapshot's bytes, live name |
//! | bad or none | good | | stays |
//! | bad or none | bad | | set aside and listed; from the message it was moved from, if that agrees |
//! | good | missing | list or index still has it | comes back with its UID |
//! | good | missing | list or index has let it go | stays deleted, see below |
//! | good | missing | list and index damaged | comes back with its UID, doubt |
//! | none | missing | list has it | listed as lost |
//! | folder | missing | `dovecot.mailbox.log` has its deletion | stays deleted |
//!
//! Sizes (`S=`, `W=` of the name, as the Maildir++ quota extension and Dovecot write them), runs of
//! zeros, the recipient in `Delivered-To` and the beginning of the header say what is bad. So does the
//! hash of the body in a `DKIM-Signature` (no key is asked for) where the other side has that body; a
//! hash that neither side has says nothing, for mailing lists change bodies. Every verdict names the
//! rungs of evidence it stands on ([`Rungs`]).
//!
//! *A move looks like a deletion.* Where the live mailbox has lost a folder (one of the snapshot's,
//! one subscribed to since, or one that the mail server's list has), or a folder's list cannot tell all
//! that it held, no deletion in
//! another folder is proved; where newer mail is lost that is known by name, no deletion of a message
//! of those sizes is. Such a message comes back as new mail, with a new UID and a doubt, unless its
//! bytes stand good under a name that the snapshot does not know: there it was moved to.
//!
//! *A mailbox that was open since its manifest* is its user's: what is missing was deleted, and
//! nothing comes back but with a mail directory that is gone.
//!
//! # What is other in dbox
//!
//! * UIDs, flags and folder GUIDs are in the indexes alone. What Dovecot would refuse is kept aside, and
//!   a log is written anew: from what its sound beginning says, the snapshot's index, the list of
//!   folders, and the messages that are there.
//! * A message that is not good leaves the index (and the map) in the same run; in mdbox its file is
//!   composed anew from the good messages of both sides, at their old places where that can be.
//! * In mdbox a message is found by its GUID, wherever a purge has put it. The map's counts tell which
//!   messages a folder without an index still held: what no folder holds stays expunged, and newer mail
//!   comes back with a new UID to the folder that it was delivered to.
//! * A map is written anew from the files and the folders' indexes, with its UIDVALIDITY and UIDs.
//!
//! # How well a mailbox came back
//!
//! All that is not served and all that was decided without proof is a [`Finding`], with folder, UID,
//! name or GUID, date, size, cause, source and rungs of evidence. The worst finding makes the
//! mailbox's [`Grade`]:
//!
//! | grade | findings |
//! |---|---|
//! | perfect | none: nothing had to change, or everything came back with proof |
//! | good | doubts that are harmless ([`DoubtKind::grade`]) |
//! | investigate | any other doubt |
//! | poor | a message set aside or lost |
//!
//! Doubts of earlier runs stay listed: a run that is interrupted and one that is repeated end with the
//! same list. A mailbox that is refused as a whole has no list; its [`Refusal`] says why.
//!
//! # Dial tone
//!
//! [`Store::dial_start`] lets a mailbox be open at once, with nothing in it, while its history is prepared
//! beside; [`Store::dial_switch`] makes one mailbox of both: new mail goes behind the history, once,
//! whenever the machine is switched off in between. The page of `dial` tells how.
//!
//! # Recorded before anything broke
//!
//! [`Store::record`] makes the manifest of a healthy mailbox and changes no mail, [`Store::adopt`] takes
//! over digests made elsewhere, [`Store::compare`] holds a mailbox against its manifest. What is recorded
//! is named by the mailbox's path ([`Mailbox::key_of`]), so that any later rollout finds it.
//!
//! # Formats read
//!
//! * Maildir: <https://cr.yp.to/proto/maildir.html>; Maildir++ folders:
//!   <https://www.courier-mta.org/imap/README.maildirquota.html>.
//! * `dovecot-uidlist` version 3, `dovecot-keywords`, `S=` and `W=`:
//!   <https://doc.dovecot.org/2.3/admin_manual/mailbox_formats/maildir/>.
//! * `dovecot.index` 7, `dovecot.index.log` 1 and the `.log.2` before it, with the extensions `dbox-hdr`,
//!   `mdbox-hdr`, `mdbox`, `guid`, `map`, `ref`, `list`, `keywords` and `modseq` (Dovecot:
//!   `src/lib-index/mail-index.h`, `mail-transaction-log.h`, `mail-index-sync-ext.c`;
//!   <https://github.com/dovecot/core/tree/main/src/lib-index>). `dovecot.list.index` is one, and tells
//!   which folders there were (`src/lib-storage/list/mailbox-list-index.h`). `dovecot.index.cache` 1, for
//!   subjects and dates of lost mail (`src/lib-index/mail-cache-private.h`). `dovecot.mailbox.log`
//!   (`src/lib-index/mailbox-log.h`); `subscriptions` 1 and 2 (`src/lib-storage/list/subscription-file.c`).
//! * Files of sdbox (`u.<UID>`) and mdbox (`m.<number>`), version 2
//!   (Dovecot: `src/lib-storage/index/dbox-common/dbox-file.h`;
//!   <https://doc.dovecot.org/2.3/admin_manual/mailbox_formats/dbox/>), and `dovecot.map.index`
//!   (`src/lib-storage/index/dbox-multi/mdbox-map.h`).
//! * Compressed messages, gzip (RFC 1952) and Zstandard (RFC 8878), as Dovecot's `zlib` plugin writes them:
//!   <https://doc.dovecot.org/2.3/configuration_manual/zlib_plugin/>. Digest, `S=` and `W=` are of the
//!   plain message; its own checksum is evidence.
//! * Hashes of bodies in `DKIM-Signature` (RFC 6376 3.4, 3.5, 3.7; SHA-256) and in
//!   `ARC-Message-Signature` (RFC 8617).
//! * Lists that `sha256sum` and `b3sum` wrote ([`Import`]):
//!   <https://www.gnu.org/software/coreutils/manual/html_node/cksum-output-modes.html>.
//!
//! # Formats written
//!
//! All but the last are text; all are replaced as a whole by rename. In folder and name, `%` and every
//! byte that is not a visible ASCII character are `%XX`.
//!
//! * Manifest: `tidegate-manifest 3`; then one line per message, sorted by folder and name, five
//!   fields with one TAB between them: folder (empty is the inbox, no leading dot), UID or `-`, base
//!   name, size in bytes, fingerprint such as `xxh3:` and the XXH3-128 of the bytes in hexadecimal;
//!   last `end`, the number of messages, XXH3-128 of all lines before.
//! * Findings, only where there are any: `tidegate-findings 1`; the owner's address and the mailbox's
//!   path; then one line per finding, twelve fields: cause, two numbers of the cause, folder, UID or
//!   `-`, base name or GUID, second of receipt or `-`, size or `-`, source, rungs of evidence,
//!   subject, and where the bytes are below the work directory.
//! * Claim: generation and holder with a checksum; one that cannot be read fences everybody.
//! * A UID list is written again only where it was damaged, or for mail that comes back as new: same
//!   UIDVALIDITY and GUID, old UIDs, and where it was damaged new ones from 100 000 above all known.
//! * `dovecot.index.log` 1.3, where an index was damaged or lost, and nothing beside it: a log that tells
//!   all by itself (in a Maildir only the count of changes), which begins above all that clients were
//!   told. `dovecot.map.index.log` likewise.
//! * `m.<number>`: messages as they stood in one of both sides, one behind the other.
//! * After a dial tone, a list of UIDs and a log get lines and records at their ends, in copies.
//!
//! # Any bytes
//!
//! Every parser is fuzzed. The tests take the files in `fuzz/seeds` and some thousand others made of
//! them by chance; what fails prints the command that lives it again. More of them, with no other tools:
//!
//! ```text
//! TIDEGATE_FUZZ_RUNS=1000000 cargo test --release -p tidegate-mail --lib any_bytes_are
//! ```
//!
//! Long runs are guided by coverage (`cargo install cargo-fuzz`, and a nightly compiler). In `crates/mail`,
//! for each target that `cargo fuzz list` names:
//!
//! ```text
//! mkdir -p fuzz/corpus/dbox
//! cargo +nightly fuzz run -O -a dbox fuzz/corpus/dbox fuzz/seeds/dbox -- \
//!     -max_total_time=3600 -rss_limit_mb=1024 -timeout=20
//! ```
//!
//! A file that it finds is put among the seeds, where the tests take it from then on.
//!
//! # Not supported
//!
//! * Newer mail does not keep its UID when the list is lost: the index knows UIDs and flags, but no
//!   names ([`DoubtKind::UidlistRebuilt`]).
//! * `HIGHESTMODSEQ` is not carried over when no index on either side can be read: Dovecot counts anew,
//!   and programs that resynchronise by it (RFC 7162) may miss changed flags
//!   ([`DoubtKind::ModseqLost`]).
//! * A folder made after the snapshot leaves no trace when it is lost together with
//!   `dovecot.list.index`; and of mail that arrived in such a folder not even names are left.
//! * Mail of a folder that its owner deleted does not come back, even if it was moved out first and
//!   the place it went to was lost; nor does what was moved while the mailbox was open. Both stand in
//!   the snapshot.
//! * A dial tone where indexes or control files are elsewhere (`INDEX=`, `CONTROL=`); what of subscriptions,
//!   filters and access lists is outside the mailbox is there anyway.
//! * Encrypted mail (`mail_crypt`), and mail compressed with bzip2, xz or LZ4: it cannot be judged.
//! * Maildirs with `LAYOUT=fs`; dbox with `ALT=` storage, `DIRNAME=`, or attachments in other files.
//! * In sdbox, mail that was moved into a folder that is lost passes for deleted where it was. Newer mail
//!   of a lost sdbox folder is lost; the list of findings names the folder.
//! * A dbox file's GUID that differs on both sides, with the same message in it, cannot be judged in
//!   sdbox: the snapshot's is taken.
//! * Digests made elsewhere of dbox files: they are of several messages, or of a message with its
//!   header and trailer.

mod attributes;
mod claim;
#[cfg(test)]
mod crash;
mod crew;
mod dbox;
mod dial;
mod digest;
mod discover;
mod doubt;
mod elsewhere;
mod finding;
mod format;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod grade;
mod index;
mod intent;
mod judge;
mod ledger;
mod maildir;
mod manifest;
mod merge;
mod probe;
mod reason;
mod recall;
mod refusal;
mod roots;
mod spool;
mod stage;
mod stamp;
mod store;
mod validity;
mod walk;

pub use claim::{ClaimError, Claims};
pub use dial::{DialState, LeftOut, Switched};
pub use digest::{Fingerprint, FingerprintKind, Fingerprinter};
pub use discover::Mailboxes;
pub use doubt::DoubtKind;
pub use finding::{Cause, Finding, FindingKind, FindingList, ListError, Source};
pub use format::Format;
pub use grade::Grade;
pub use judge::Rungs;
pub use ledger::MessageCounts;
pub use manifest::{
    Import, ImportError, ImportedLine, Manifest, ManifestEntry, ManifestLineError,
    ManifestReader, ManifestWriter,
};
pub use probe::Probe;
pub use reason::Reason;
pub use refusal::Refusal;
pub use stamp::Stamp;
pub use store::record::{Compared, Recorded};
pub use store::{
    FlushFailed, Mailbox, ManifestError, Nfs, PrepareTask, Prepared, Store, StoreConfig,
    StoreError,
};
