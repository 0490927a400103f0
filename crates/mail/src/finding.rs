//! Finding: one thing about a mailbox that a person may want to know, and the list of them.
//!
//! # Invariants
//!
//! * The list is durable before anything leaves the mail tree: what is not served is always named.
//! * A message that is not served leaves the list only when a good one stands again under its name.
//! * The list is complete; only what is told of it elsewhere is capped.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::doubt::DoubtKind;
use crate::grade::Grade;
use crate::judge::Rungs;
use crate::manifest::{number, push_escaped, unescape};
use crate::reason::Reason;
use crate::walk::escape;

const FIRST_LINE: &[u8] = b"tidegate-findings 1";

/// Where the lists are, below the work directory.
const DIR: &str = "findings";

/// A message that is not served, or something that was decided without proof.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// Folder; empty is the inbox, otherwise as in the store without the leading dot (modified
    /// UTF-7 kept). Bytes that are not text are `\xNN`.
    pub folder: String,
    /// What the mail server knows the message by: its base name in a Maildir, its GUID in dbox; the
    /// name of an odd item; empty if the whole folder is meant. Escaped like the folder.
    pub name: String,
    /// UID, if the folder's list has given one.
    pub uid: Option<u32>,
    /// What was found.
    pub cause: Cause,
    /// When the message came, in seconds since 1970.
    pub received: Option<u64>,
    /// Bytes of the message: those kept, or those that its name promises.
    pub size_bytes: Option<u64>,
    /// Whose bytes are served in its place, or why there are none.
    pub source: Source,
    /// The evidence that decided.
    pub rungs: Rungs,
    /// Its subject, if a cache of the mail server still knows it.
    pub subject: Option<String>,
    /// Where bytes that are not served are, below the work directory (escaped).
    pub kept_at: Option<String>,
}

impl Finding {
    /// What is known from a name alone; the rest is added by whoever knows it.
    pub(crate) fn new(
        (folder, name): (&[u8], &[u8]),
        uid: Option<u32>,
        cause: Cause,
    ) -> Self {
        Self {
            folder: escape(folder),
            name: escape(name),
            uid,
            cause,
            received: received(name),
            size_bytes: promised_size(name),
            source: cause.source(),
            rungs: Rungs::NONE,
            subject: None,
            kept_at: None,
        }
    }

    /// What kind of finding it is.
    pub fn kind(&self) -> FindingKind {
        match (self.cause, &self.kept_at) {
            (Cause::Bad(_), Some(_)) => FindingKind::SetAside,
            (Cause::Bad(_), None) => FindingKind::Lost,
            (Cause::Doubt(_), _) => FindingKind::Doubt,
        }
    }

    /// Why it is not served, if that is what the finding says.
    pub fn reason(&self) -> Option<Reason> {
        match self.cause {
            Cause::Bad(reason) => Some(reason),
            Cause::Doubt(_) => None,
        }
    }

    /// What is in doubt, if that is what the finding says.
    pub fn doubt(&self) -> Option<DoubtKind> {
        match self.cause {
            Cause::Bad(_) => None,
            Cause::Doubt(kind) => Some(kind),
        }
    }

    /// The best grade that a mailbox with this finding can have.
    pub fn grade(&self) -> Grade {
        match self.cause {
            Cause::Bad(_) => Grade::Poor,
            Cause::Doubt(kind) => kind.grade(),
        }
    }

    /// Whether both are about the same message, or the same folder.
    pub(crate) fn is_about(&self, other: &Self) -> bool {
        (&self.folder, &self.name) == (&other.folder, &other.name)
    }
}

/// The kinds of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// Not served; its bytes are kept.
    SetAside,
    /// Not served; no good bytes are anywhere.
    Lost,
    /// Decided without proof, or odd; nothing is gone.
    Doubt,
}

impl FindingKind {
    /// A stable word for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::SetAside => "set-aside",
            Self::Lost => "lost",
            Self::Doubt => "doubt",
        }
    }
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The message is not served.
    Bad(Reason),
    /// Something was decided without proof.
    Doubt(DoubtKind),
}

impl Cause {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Bad(reason) => reason.code(),
            Self::Doubt(kind) => kind.code(),
        }
    }

    /// The two numbers of the cause, as [`Reason`] tells them; zeros where it has none.
    pub fn numbers(&self) -> (u64, u64) {
        match self {
            Self::Bad(reason) => reason.numbers(),
            Self::Doubt(_) => (0, 0),
        }
    }

    fn from_code(code: &str, numbers: (u64, u64)) -> Option<Self> {
        let bad = Reason::from_code(code, numbers).map(Self::Bad);
        bad.or_else(|| DoubtKind::from_code(code).map(Self::Doubt))
    }

    /// What usually stands behind it.
    fn source(self) -> Source {
        match self {
            Self::Bad(Reason::BothSidesBad) => Source::CopyDamaged,
            Self::Bad(_) => Source::NoCopy,
            Self::Doubt(kind) => kind.source(),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bad(reason) => reason.fmt(f),
            Self::Doubt(kind) => kind.fmt(f),
        }
    }
}

/// Whose bytes are served, or why none are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The live side's own.
    Live,
    /// The snapshot's.
    Snapshot,
    /// Those of the same message under another name.
    OtherName,
    /// None: no other copy is known.
    NoCopy,
    /// None: the other copy is damaged too.
    CopyDamaged,
}

impl Source {
    const ALL: [Self; 5] =
        [Self::Live, Self::Snapshot, Self::OtherName, Self::NoCopy, Self::CopyDamaged];

    /// A stable word for programs.
    pub fn code(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Snapshot => "snapshot",
            Self::OtherName => "other-name",
            Self::NoCopy => "none-no-copy",
            Self::CopyDamaged => "none-copy-damaged",
        }
    }

    fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.code() == code)
    }
}

/// All findings of one mailbox, with whose they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FindingList {
    /// The owner's address.
    pub address: String,
    /// The mailbox, below the mail root.
    pub path: Vec<u8>,
    /// The findings, sorted.
    pub findings: Vec<Finding>,
}

impl FindingList {
    /// The mailbox's grade.
    pub fn grade(&self) -> Grade {
        Grade::of(&self.findings)
    }

    /// The lists of all mailboxes in a work directory, in a fixed order; no list means that there
    /// was nothing to tell. A worker may be at work meanwhile: each list is whole.
    ///
    /// # Errors
    ///
    /// The directory cannot be read; then each list that cannot be, by its path.
    pub fn all_in(
        work: &Path,
    ) -> io::Result<impl Iterator<Item = Result<Self, ListError>> + use<>> {
        let dir = work.join(DIR);
        let mut names = Vec::new();
        let entries = match fs::read_dir(&dir) {
            // Nothing was ever found, if the work directory itself is there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::metadata(work)?;
                None
            }
            entries => Some(entries?),
        };
        for entry in entries.into_iter().flatten() {
            names.extend(
                entry?.file_name().to_str().and_then(|it| it.parse::<u64>().ok()),
            );
        }
        names.sort_unstable();
        Ok(names.into_iter().map(move |name| Self::open(dir.join(name.to_string()))))
    }

    fn open(path: PathBuf) -> Result<Self, ListError> {
        let list = fs::read(&path).and_then(|bytes| Self::parse(&bytes));
        list.map_err(|source| ListError { path, source })
    }

    /// As it goes to disk.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = FIRST_LINE.to_vec();
        bytes.push(b'\n');
        push_fields(&mut bytes, &[self.address.as_bytes(), &self.path]);
        for finding in &self.findings {
            push(&mut bytes, finding);
        }
        bytes
    }

    /// Reads a list as it was written.
    ///
    /// # Errors
    ///
    /// `InvalidData` if it is not exactly that.
    pub fn parse(bytes: &[u8]) -> io::Result<Self> {
        let refuse =
            || io::Error::new(io::ErrorKind::InvalidData, "not a list of findings");
        let whole = bytes.strip_suffix(b"\n").ok_or_else(refuse)?;
        let mut lines = whole.split(|byte| *byte == b'\n');
        if lines.next() != Some(FIRST_LINE) {
            return Err(refuse());
        }
        let (address, path) = lines.next().and_then(head).ok_or_else(refuse)?;
        let findings = lines.map(finding).collect::<Option<Vec<_>>>();
        Ok(Self { address, path, findings: findings.ok_or_else(refuse)? })
    }
}

/// A list of findings cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("read the findings in `{}`", path.display())]
pub struct ListError {
    /// The list.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

fn push(bytes: &mut Vec<u8>, finding: &Finding) {
    let (first, second) = finding.cause.numbers();
    let text =
        |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |it| it.to_string());
    push_fields(
        bytes,
        &[
            finding.cause.code().as_bytes(),
            first.to_string().as_bytes(),
            second.to_string().as_bytes(),
            finding.folder.as_bytes(),
            text(finding.uid.map(u64::from)).as_bytes(),
            finding.name.as_bytes(),
            text(finding.received).as_bytes(),
            text(finding.size_bytes).as_bytes(),
            finding.source.code().as_bytes(),
            finding.rungs.to_string().as_bytes(),
            finding.subject.as_deref().unwrap_or_default().as_bytes(),
            finding.kept_at.as_deref().unwrap_or_default().as_bytes(),
        ],
    );
}

fn push_fields(bytes: &mut Vec<u8>, fields: &[&[u8]]) {
    for (at, field) in fields.iter().enumerate() {
        if at > 0 {
            bytes.push(b'\t');
        }
        push_escaped(bytes, field);
    }
    bytes.push(b'\n');
}

fn head(line: &[u8]) -> Option<(String, Vec<u8>)> {
    let mut fields = line.split(|byte| *byte == b'\t').map(unescape);
    let address = String::from_utf8(fields.next()??).ok()?;
    let path = fields.next()??;
    fields.next().is_none().then_some((address, path))
}

fn finding(line: &[u8]) -> Option<Finding> {
    let mut fields = line.split(|byte| *byte == b'\t');
    let mut text = || String::from_utf8(unescape(fields.next()?)?).ok();
    let code = text()?;
    let numbers = (number(text()?.as_bytes())?, number(text()?.as_bytes())?);
    let found = Finding {
        cause: Cause::from_code(&code, numbers)?,
        folder: text()?,
        uid: optional(&text()?)?,
        name: text()?,
        received: optional(&text()?)?,
        size_bytes: optional(&text()?)?,
        source: Source::from_code(&text()?)?,
        rungs: rungs(&text()?)?,
        subject: Some(text()?).filter(|subject| !subject.is_empty()),
        kept_at: Some(text()?).filter(|path| !path.is_empty()),
    };
    fields.next().is_none().then_some(found)
}

fn rungs(text: &str) -> Option<Rungs> {
    let words = text.split(", ").filter(|word| !word.is_empty());
    words.map(Rungs::from_word).try_fold(Rungs::NONE, |all, rung| Some(all | rung?))
}

/// A number, or `-` for none; nothing if it is neither.
#[expect(clippy::option_option, reason = "a broken field is not an absent one")]
fn optional<T: std::str::FromStr>(text: &str) -> Option<Option<T>> {
    if text == "-" { Some(None) } else { number(text.as_bytes()).map(Some) }
}

/// The second of delivery at the head of a Maildir name: digits, then a dot.
fn received(name: &[u8]) -> Option<u64> {
    let dot = name.iter().position(|byte| *byte == b'.')?;
    number(name.get(..dot)?)
}

/// The size in a Maildir name: `,S=` and digits.
fn promised_size(name: &[u8]) -> Option<u64> {
    let base = name.split(|byte| *byte == b':').next()?;
    let mut sizes = base.split(|byte| *byte == b',').skip(1);
    sizes.find_map(|field| number(field.strip_prefix(b"S=")?))
}

/// Where the list of a mailbox is.
pub(crate) fn list_path(work: &Path, key: u64) -> PathBuf {
    work.join(DIR).join(key.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lost() -> Finding {
        let name = b"1600000000.M1P2.host,S=300,W=310";
        let cause = Cause::Bad(Reason::Truncated { expected: 300, found: 12 });
        Finding::new((b"Archive.2024", name), Some(7), cause)
    }

    #[test]
    fn what_a_maildir_name_says_is_known_of_a_message_that_is_lost() {
        let lost = lost();

        assert_eq!(lost.kind(), FindingKind::Lost);
        assert_eq!((lost.received, lost.size_bytes), (Some(1_600_000_000), Some(300)));
        assert_eq!(lost.source, Source::NoCopy);
        assert_eq!(lost.grade(), Grade::Poor);
    }

    #[test]
    fn a_list_is_plain_text_with_a_version_and_says_whose_it_is() {
        let mut aside = lost();
        aside.kept_at = Some("quarantine/g3/7/.Archive.2024/x".to_owned());
        aside.rungs = Rungs::SIZE | Rungs::DKIM;
        aside.subject = Some("Re: tea\tor 50 %?\n".to_owned());
        let kind = DoubtKind::UidlistRebuilt;
        let doubt = Finding::new((b"", b""), None, Cause::Doubt(kind));
        let list = FindingList {
            address: "ann@example.org".to_owned(),
            path: b"example.org/ann/Maildir".to_vec(),
            findings: vec![aside, doubt],
        };

        let bytes = list.to_bytes();

        expect_test::expect![[r"
            tidegate-findings 1
            ann@example.org	example.org/ann/Maildir
            truncated	300	12	Archive.2024	7	1600000000.M1P2.host,S=300,W=310	1600000000	300	none-no-copy	dkim,%20size	Re:%20tea%09or%2050%20%25?%0A	quarantine/g3/7/.Archive.2024/x
            uidlist-rebuilt	0	0		-		-	-	live			
        "]]
        .assert_eq(std::str::from_utf8(&bytes).unwrap());
        assert_eq!(FindingList::parse(&bytes).unwrap(), list);
    }

    #[test]
    fn all_lists_of_a_work_directory_are_read_and_a_broken_one_is_named() {
        let work = tempfile::tempdir().unwrap();
        let list = FindingList { findings: vec![lost()], ..FindingList::default() };
        fs::create_dir(work.path().join(DIR)).unwrap();
        fs::write(list_path(work.path(), 10), list.to_bytes()).unwrap();
        fs::write(list_path(work.path(), 9), b"tidegate-findings 1\nx").unwrap();
        fs::write(work.path().join(DIR).join("10.new"), b"").unwrap();

        let mut all = FindingList::all_in(work.path()).unwrap();

        let broken = all.next().unwrap().unwrap_err();
        assert!(broken.to_string().ends_with("findings/9`"), "{broken}");
        assert_eq!(all.next().unwrap().unwrap(), list);
        assert!(all.next().is_none());
        assert!(FindingList::all_in(&work.path().join("nowhere")).is_err());
    }

    proptest! {
        #[test]
        fn any_finding_reads_back(
            (address, path) in any::<(String, Vec<u8>)>(),
            (folder, name) in any::<(String, String)>(),
            (uid, received, size_bytes) in any::<(Option<u32>, Option<u64>, Option<u64>)>(),
            subject in prop::option::of("\\PC{1,20}"),
            kept_at in prop::option::of("[a-z\t\n%/]{1,20}"),
        ) {
            let cause = Cause::Bad(Reason::Truncated { expected: 9, found: 1 });
            let source = Source::CopyDamaged;
            let rungs = Rungs::VIRTUAL_SIZE | Rungs::SNAPSHOT;
            let finding = Finding {
                folder, name, uid, cause, received, size_bytes, source, rungs, subject, kept_at,
            };
            let list = FindingList { address, path, findings: vec![finding] };
            prop_assert_eq!(FindingList::parse(&list.to_bytes()).unwrap(), list);
        }

        #[test]
        fn any_bytes_can_be_parsed(bytes: Vec<u8>) {
            let _ = FindingList::parse(&bytes);
        }
    }
}
