//! Counters: whether Dovecot shows the folders that were verified.
//!
//! Dovecot may look elsewhere than where we have verified, or have lost an index since; whoever
//! were let in then would find mail missing, or his mail program would fetch all of it again.
//!
//! # Invariants
//!
//! * A UIDVALIDITY is compared only where the mail store's own list of the folder tells it.
//! * Names are compared without regard to the separator: Dovecot shows the one of its namespace.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_mail::Manifest;
use tidegate_mailserver::doveadm::FolderStatus;

/// What another UIDVALIDITY is called.
pub(crate) const UID_VALIDITY_DIFFERS: &str = "uid-validity-differs";

/// What differs between a mailbox as verified and as shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    /// A folder that held mail is not shown.
    FolderMissing { folder: String, messages: u64 },
    /// A folder shows another number of messages.
    Messages { folder: String, verified: u64, shown: u64 },
    /// A folder has another UIDVALIDITY: mail programs would fetch all of it again.
    UidValidity { folder: String, stored: u32, shown: u32 },
    /// A folder would give out UIDs again.
    NextUid { folder: String, used: u32, next: u32 },
}

/// The first difference, in order of the folders' names.
///
/// `validities`: what the mail store's own lists said before Dovecot was asked, by the folders'
/// names in manifests. Dovecot, asked first, might have begun such lists anew.
pub(crate) fn difference(
    manifest: &Manifest,
    validities: &BTreeMap<Vec<u8>, u32>,
    shown: &[FolderStatus],
) -> Option<Difference> {
    let mut verified: BTreeMap<String, (u64, u32)> = BTreeMap::new();
    for entry in &manifest.entries {
        let (messages, used) = verified.entry(stored_name(&entry.folder)).or_default();
        *messages += 1;
        *used = (*used).max(entry.uid.unwrap_or(0));
    }
    let mut stored: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
    for (folder, validity) in validities {
        stored.entry(stored_name(folder)).or_default().insert(*validity);
    }
    let shown: BTreeMap<String, &FolderStatus> =
        shown.iter().map(|folder| (shown_name(&folder.name), folder)).collect();
    verified.into_iter().find_map(|(name, (messages, used))| {
        let Some(shown) = shown.get(&name) else {
            return Some(Difference::FolderMissing { folder: name, messages });
        };
        let folder = shown.name.clone();
        // Two directories can have one name: then either may be the one that is shown.
        let stored = stored.get(&name).filter(|it| !it.contains(&shown.uid_validity));
        if let Some(stored) = stored.and_then(BTreeSet::first).copied() {
            let shown = shown.uid_validity;
            return Some(Difference::UidValidity { folder, stored, shown });
        }
        if shown.messages != messages {
            let (verified, shown) = (messages, shown.messages);
            return Some(Difference::Messages { folder, verified, shown });
        }
        let next = shown.uid_next;
        (next <= used).then_some(Difference::NextUid { folder, used, next })
    })
}

impl Difference {
    /// A stable word for programs.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::FolderMissing { .. } => "folder-not-shown",
            Self::Messages { .. } => "messages-not-shown",
            Self::UidValidity { .. } => UID_VALIDITY_DIFFERS,
            Self::NextUid { .. } => "next-uid-too-low",
        }
    }

    /// Whether another verification may explain it: something has come in since.
    pub(crate) fn may_be_news(&self) -> bool {
        matches!(self, Self::Messages { verified, shown, .. } if shown > verified)
    }
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::FolderMissing { folder, messages } => write!(
                f,
                "the mail server does not show the folder `{folder}` with {messages} \
                 verified messages; does it look where the mail lies?"
            ),
            Self::Messages { folder, verified, shown } => write!(
                f,
                "the mail server shows {shown} messages in `{folder}`, {verified} were \
                 verified"
            ),
            Self::UidValidity { folder, stored, shown } => write!(
                f,
                "the mail server shows UIDVALIDITY {shown} for `{folder}`, its stored list \
                 has {stored}: mail programs would fetch all of it again; does it look \
                 where the mail lies?"
            ),
            Self::NextUid { folder, used, next } => write!(
                f,
                "the mail server would give out UID {next} in `{folder}`, UID {used} is \
                 taken"
            ),
        }
    }
}

/// A folder as it is stored: what the manifest calls it, in UTF-8 and with dots. The inbox is
/// empty.
pub(crate) fn stored_name(folder: &[u8]) -> String {
    let text = utf7_decoded(&String::from_utf8_lossy(folder)).replace('/', ".");
    without_inbox(text)
}

/// A folder as Dovecot shows it, in the same words.
pub(crate) fn shown_name(folder: &str) -> String {
    without_inbox(folder.replace('/', "."))
}

/// The inbox may have a name, and be the prefix of all others.
fn without_inbox(name: String) -> String {
    if name.eq_ignore_ascii_case("INBOX") {
        return String::new();
    }
    match name.strip_prefix("INBOX.") {
        Some(below) => below.to_owned(),
        None => name,
    }
}

/// Decodes IMAP's modified UTF-7 (RFC 3501 5.1.3); what is none stays as it is.
fn utf7_decoded(text: &str) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD_NO_PAD;

    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, shifted)) = rest.split_once('&') {
        decoded.push_str(plain);
        let Some((code, after)) = shifted.split_once('-') else {
            decoded.push('&');
            rest = shifted;
            continue;
        };
        let bytes = STANDARD_NO_PAD.decode(code.replace(',', "/")).ok();
        let units = bytes.filter(|it| it.len() % 2 == 0).map(|bytes| {
            let pairs = bytes.chunks_exact(2);
            pairs
                .filter_map(|it| it.first_chunk().copied().map(u16::from_be_bytes))
                .collect()
        });
        match units.and_then(|units: Vec<u16>| String::from_utf16(&units).ok()) {
            Some(_) if code.is_empty() => decoded.push('&'),
            Some(text) => decoded.push_str(&text),
            None => {
                decoded.push('&');
                rest = shifted;
                continue;
            }
        }
        rest = after;
    }
    decoded.push_str(rest);
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_that_shows_what_was_verified_has_no_difference() {
        let manifest =
            manifest(&[("", 1), ("", 9), ("Archive.2024", 4), ("&AMQ-mter", 2)]);
        let shown = [
            status("INBOX", 2, 10),
            status("INBOX/Archive/2024", 1, 5),
            status("INBOX/Ämter", 1, 3),
            status("INBOX/Trash", 0, 1),
        ];

        let known =
            BTreeMap::from([(b"Archive.2024".to_vec(), 1), (b"Trash".to_vec(), 8)]);
        assert_eq!(difference(&manifest, &BTreeMap::new(), &shown), None);
        assert_eq!(
            difference(&manifest, &known, &shown),
            None,
            "nothing is lost in Trash"
        );
    }

    #[test]
    fn what_would_be_missed_is_named() {
        let manifest = manifest(&[("", 1), ("", 9), ("Sent", 4)]);
        let said = |shown: &[FolderStatus]| {
            difference(&manifest, &BTreeMap::new(), shown)
                .map(|it| (it.code(), it.may_be_news()))
        };

        let (sent, inbox) = (status("Sent", 1, 5), status("INBOX", 2, 10));
        assert_eq!(said(std::slice::from_ref(&inbox)), Some(("folder-not-shown", false)));
        assert_eq!(said(std::slice::from_ref(&sent)), Some(("folder-not-shown", false)));
        let few = status("INBOX", 1, 10);
        assert_eq!(said(&[few, sent.clone()]), Some(("messages-not-shown", false)));
        let more = status("INBOX", 3, 11);
        assert_eq!(said(&[more, sent.clone()]), Some(("messages-not-shown", true)));
        let low = status("INBOX", 2, 9);
        assert_eq!(said(&[low, sent]), Some(("next-uid-too-low", false)));
    }

    #[test]
    fn a_folder_that_mail_programs_would_fetch_again_is_named() {
        let manifest = manifest(&[("", 1), ("Sent", 4)]);
        let shown = [status("INBOX", 2, 3), status("INBOX/Sent", 1, 5)];
        let said = |known: &[(&str, u32)]| {
            let known =
                known.iter().map(|(folder, it)| (folder.as_bytes().to_vec(), *it));
            difference(&manifest, &known.collect(), &shown).map(|it| it.code())
        };

        assert_eq!(said(&[("", 2)]), Some("uid-validity-differs"), "more than new mail");
        assert_eq!(said(&[("Sent", 1), ("", 1)]), Some("messages-not-shown"));
        let two = [("", 2), ("INBOX", 1), ("Sent", 2), ("INBOX.Sent", 1)];
        assert_eq!(said(&two), Some("messages-not-shown"), "one of two may be shown");
    }

    #[test]
    fn names_in_modified_utf_7_are_read() {
        let decoded =
            ["&AMQ-mter", "Q&-A", "&ZeVnLIqe-.x", "a&b", "&!!-"].map(utf7_decoded);

        assert_eq!(decoded, ["Ämter", "Q&A", "日本語.x", "a&b", "&!!-"]);
    }

    fn manifest(entries: &[(&str, u32)]) -> Manifest {
        let entries = entries.iter().map(|(folder, uid)| tidegate_mail::ManifestEntry {
            folder: folder.as_bytes().to_vec(),
            name: uid.to_string().into_bytes(),
            uid: Some(*uid),
            size_bytes: 1,
            fingerprint: tidegate_mail::Fingerprint::Xxh3([0; 16]),
        });
        Manifest { entries: entries.collect() }
    }

    fn status(name: &str, messages: u64, uid_next: u32) -> FolderStatus {
        FolderStatus { name: name.to_owned(), messages, uid_next, uid_validity: 1 }
    }
}
