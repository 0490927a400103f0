//! Records: manifests, lists of digests made elsewhere, and findings.
//!
//! # Invariants
//!
//! * What reads is written again as something that reads the same.

use std::io::BufReader;

use super::Chance;
use crate::digest::{Digester, FingerprintKind, to_hex};
use crate::{FindingList, Import, ImportedLine, Manifest, ManifestReader};

/// The lines of a manifest between the first and the last.
pub fn manifest(bytes: &[u8]) {
    let _ = Manifest::parse(bytes);
    let sealed = sealed(bytes);
    let mut chance = Chance::of(bytes);
    let cut = sealed.get(..chance.below(sealed.len())).unwrap_or_default();
    assert_eq!(Manifest::parse(cut), None, "a cut manifest is none");
    let small = BufReader::with_capacity(chance.length(), &*sealed);
    let pieces: Result<Vec<_>, _> = ManifestReader::begin(small).collect();
    let whole = Manifest::parse(&sealed);
    let entries = whole.as_ref().map(|it| &it.entries);
    assert_eq!(pieces.ok().as_ref(), entries, "pieces matter");
    if let Some(whole) = whole {
        assert_eq!(Manifest::parse(&whole.to_bytes()), Some(whole), "it reads back");
    }
}

/// Puts a first and a last line around others that fit them: no change of chance would find the digest.
fn sealed(lines: &[u8]) -> Vec<u8> {
    let empty = Manifest::default().to_bytes();
    let mut sealed =
        empty.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default().to_vec();
    sealed.extend_from_slice(lines);
    if !lines.is_empty() && !lines.ends_with(b"\n") {
        sealed.push(b'\n');
    }
    let count = sealed.split(|byte| *byte == b'\n').count() - 2;
    let last = format!("end\t{count}\t{}\n", to_hex(&Digester::of(&sealed)));
    sealed.extend_from_slice(last.as_bytes());
    sealed
}

/// A list of digests as other programs write it.
pub fn import(bytes: &[u8]) {
    let mut chance = Chance::of(bytes);
    for kind in [FingerprintKind::Xxh3, FingerprintKind::Sha256, FingerprintKind::Blake3]
    {
        let whole = lines(Import::begin(bytes, kind));
        let small = BufReader::with_capacity(chance.length(), bytes);
        assert_eq!(lines(Import::begin(small, kind)), whole, "pieces matter");
        assert!(whole.len() <= bytes.split(|byte| *byte == b'\n').count());
        for line in whole.into_iter().flatten() {
            assert_eq!(line.fingerprint.kind(), kind);
            let mut parts = line.path.split(|byte| *byte == b'/');
            let leads_out =
                line.path.starts_with(b"/") || parts.any(|part| part == b"..");
            assert!(!line.path.is_empty() && !leads_out, "it leads outside");
        }
    }
}

fn lines<R: std::io::BufRead>(list: Import<R>) -> Vec<Result<ImportedLine, String>> {
    list.map(|line| line.map_err(|error| error.to_string())).collect()
}

/// A list of findings.
pub fn findings(bytes: &[u8]) {
    if let Ok(list) = FindingList::parse(bytes) {
        let texts = list.findings.iter().flat_map(|it| [&it.subject, &it.kept_at]);
        assert!(texts.flatten().all(|text| !text.is_empty()), "no text is none");
        let again = FindingList::parse(&list.to_bytes());
        assert_eq!(again.ok(), Some(list), "it reads back");
    }
}
