//! Message: what judging one shows, plain or compressed.
//!
//! # Invariants
//!
//! * What is counted and hashed many bytes at a time is counted here once more, slowly.

use std::io::{Read as _, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use sha2::{Digest as _, Sha256};

use super::{Chance, pieces};
use crate::digest::{Digester, Fingerprint, FingerprintKind};
use crate::judge::{Depth, Findings, Promise, Rungs, Scan, Seal};
use crate::reason::Reason;

const OWNER: &str = "anna@example.org";

/// What is unpacked at most: bombs are to be defused, not waited for.
const UNPACKED_BYTES_MAX: u64 = 1 << 20;

/// What disks lose or zero at once.
const SECTOR_BYTES: usize = 512;

/// A message as it is stored.
pub fn message(bytes: &[u8]) {
    let whole = judged(bytes, Depth::Deep, &[bytes]);
    let in_pieces = pieces(bytes, &mut Chance::of(bytes));
    assert_eq!(judged(bytes, Depth::Deep, &in_pieces), whole, "pieces matter");
    let quick = judged(bytes, Depth::Quick, &[bytes]);
    assert_eq!((quick.digest, &quick.faults), (whole.digest, &whole.faults));

    assert_eq!(whole.raw, Some(Digester::of(bytes)));
    assert_eq!(whole.raw_size, bytes.len() as u64);
    assert!(whole.stood.without(whole.fell) == whole.stood, "a rung stands and falls");
    if whole.is_unsupported() || whole.raw != whole.digest {
        assert!(whole.size <= UNPACKED_BYTES_MAX.max(whole.raw_size));
        return;
    }
    let sha256 = Fingerprint::Sha256(Sha256::digest(bytes).into());
    assert_eq!(whole.fingerprints, [sha256]);
    assert_eq!(whole.size, bytes.len() as u64);
    assert_eq!(whole.virtual_size, whole.size + bare_feeds(bytes));
    let is_run = |fault: &&Reason| matches!(fault, Reason::NulRun { .. });
    assert_eq!(whole.faults.iter().find(is_run).copied(), zeros(bytes));
    let is_size = |fault: &Reason| {
        matches!(fault, Reason::Truncated { .. } | Reason::TooLong { .. } | Reason::Empty)
            || matches!(fault, Reason::WrongVirtualSize { .. })
    };
    assert!(!whole.faults.iter().any(is_size), "it is as long as it is");
}

fn judged(bytes: &[u8], depth: Depth, pieces: &[&[u8]]) -> Findings {
    let size = bytes.len() as u64;
    let virtual_size = Some(size + bare_feeds(bytes));
    let promise = Promise { size: Some(size), virtual_size };
    let scan = Scan::new(promise, OWNER, depth).limit(UNPACKED_BYTES_MAX);
    let mut scan = scan.fingerprint(FingerprintKind::Sha256);
    for piece in pieces {
        scan.add(piece);
    }
    scan.finish()
}

fn bare_feeds(bytes: &[u8]) -> u64 {
    let before = [b'\0'].into_iter().chain(bytes.iter().copied());
    let bare = |pair: &(u8, &u8)| *pair.1 == b'\n' && pair.0 != b'\r';
    before.zip(bytes).filter(bare).count() as u64
}

/// The longest run of zeros, if a run fills a sector or the end from a sector's border on.
fn zeros(bytes: &[u8]) -> Option<Reason> {
    let (mut longest, mut is_fault, mut at) = ((0, 0), false, 0);
    for run in bytes.chunk_by(|one, other| (*one == 0) == (*other == 0)) {
        let (start, end) = (at, at + run.len());
        at = end;
        if run.first() != Some(&0) {
            continue;
        }
        let sector = start.next_multiple_of(SECTOR_BYTES);
        let ends = end == bytes.len() && sector == start && run.len() >= 4.min(end);
        is_fault |= ends || sector + SECTOR_BYTES <= end;
        if run.len() > longest.1 {
            longest = (start, run.len());
        }
    }
    let (offset, length) = (longest.0 as u64, longest.1 as u64);
    is_fault.then_some(Reason::NulRun { offset, length })
}

/// A compressed message; and the same bytes as a message that is compressed first.
pub fn packed(bytes: &[u8]) {
    message(bytes);
    let limit = Chance::of(bytes).below(4096) as u64;
    let mut scan = Scan::new(Promise::default(), OWNER, Depth::Quick).limit(limit);
    scan.add(bytes);
    let bounded = scan.finish();
    let is_packed = bounded.raw != bounded.digest;
    assert!(!is_packed || bounded.size <= limit, "more came out than is allowed");
    check_against_another_decoder(bytes);

    for stored in [gzip(bytes), compress_to_vec(bytes, CompressionLevel::Fastest)] {
        let findings = judged(&stored, Depth::Deep, &[&stored]);
        assert_eq!(
            findings.digest,
            Some(Digester::of(bytes)),
            "it comes out as it went in"
        );
        assert_eq!(findings.size, bytes.len() as u64);
        assert!(findings.stood.contains(Rungs::CHECKSUM));
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes all")
}

/// What another decoder of gzip takes is taken, and gives the same bytes.
fn check_against_another_decoder(bytes: &[u8]) {
    if !bytes.starts_with(b"\x1f\x8b\x08\0") || bytes.len() < 15 {
        return;
    }
    let (mut plain, ours) = (Vec::new(), judged(bytes, Depth::Quick, &[bytes]));
    let theirs =
        MultiGzDecoder::new(bytes).take(UNPACKED_BYTES_MAX).read_to_end(&mut plain);
    if plain.len() as u64 == UNPACKED_BYTES_MAX {
        return;
    }
    if ours.stood.contains(Rungs::CHECKSUM) {
        assert!(theirs.is_ok(), "another decoder refuses it");
        assert_eq!(ours.digest, Some(Digester::of(&plain)));
    }
}

/// A body, under signatures that are true of it and one that is not.
pub fn dkim(body: &[u8]) {
    let mut chance = Chance::of(body);
    let (mut header, mut expected) = (Vec::new(), Vec::new());
    for (kind, canonical) in [("simple", simple(body)), ("relaxed", relaxed(body))] {
        let length = chance.below(canonical.len() + 1);
        let beyond = canonical.len() + 1 + chance.below(99);
        for signed in [None, Some(length), Some(beyond)] {
            let there = canonical.get(..signed.unwrap_or(canonical.len()));
            let hash = Sha256::digest(there.unwrap_or_default()).into();
            let tag = signed.map_or_else(String::new, |length| format!(" l={length};"));
            let text = STANDARD.encode(hash);
            let field = format!(
                "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/{kind};{tag}\n bh={text}\n"
            );
            header.extend_from_slice(field.as_bytes());
            let whole = signed.is_none_or(|length| length >= canonical.len());
            expected.push(Seal { hash, holds: there.is_some(), whole });
        }
    }
    let false_hash = STANDARD.encode([0; 32]);
    let field = format!("ARC-Message-Signature: a=x-sha256; bh={false_hash}\n");
    header.extend_from_slice(field.as_bytes());
    expected.push(Seal { hash: [0; 32], holds: false, whole: true });
    let mail = [&*header, b"\n", body].concat();

    for pieces in [vec![&*mail], pieces(&mail, &mut chance)] {
        assert_eq!(judged(&mail, Depth::Deep, &pieces).seals, expected);
    }
}

/// RFC 6376 3.4.3: without the empty lines at the end, every line with its end.
fn simple(body: &[u8]) -> Vec<u8> {
    let body = joined(lines(body));
    if body.is_empty() { b"\r\n".to_vec() } else { body }
}

/// RFC 6376 3.4.4: also with one blank for many, and none at the end of a line.
fn relaxed(body: &[u8]) -> Vec<u8> {
    let relax = |line: Vec<u8>| {
        let mut out: Vec<u8> = Vec::new();
        for byte in line {
            let byte = if byte == b'\t' { b' ' } else { byte };
            if byte != b' ' || out.last() != Some(&b' ') {
                out.push(byte);
            }
        }
        out.pop_if(|byte| *byte == b' ');
        out
    };
    joined(lines(body).into_iter().map(relax).collect())
}

/// Lines without their ends, as they were on their way: LF alone is how some stores keep CRLF.
fn lines(body: &[u8]) -> Vec<Vec<u8>> {
    let mut lines: Vec<Vec<u8>> =
        body.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let last = lines.pop();
    for line in &mut lines {
        line.pop_if(|byte| *byte == b'\r');
    }
    lines.extend(last);
    lines
}

fn joined(mut lines: Vec<Vec<u8>>) -> Vec<u8> {
    while lines.pop_if(|line| line.is_empty()).is_some() {}
    lines.into_iter().flat_map(|line| [&*line, b"\r\n"].concat()).collect()
}

/// A boundary, and behind the first line a body of several parts.
pub fn mime(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (first, body) = bytes.split_at(end);
    let is_plain = |byte: &u8| matches!(*byte, b' '..=b'~') && *byte != b'"';
    let mut boundary: Vec<u8> = first.iter().copied().filter(is_plain).take(70).collect();
    if boundary.is_empty() {
        boundary.push(b'b');
    }
    let body = body.get(1..).unwrap_or_default();
    let header = [
        b"Subject: x\nContent-Type: multipart/mixed;\n\tboundary=\"",
        &*boundary,
        b"\"\n\n",
    ];
    let mail = [&header.concat(), body].concat();

    let last = [b"\n--", &*boundary, b"--"].concat();
    let lines = [b"\n", body].concat();
    let is_open = !lines.windows(last.len()).any(|window| window == last);
    let is_control =
        |byte: &u8| matches!(*byte, 1..=7 | 0x10..=0x1a | 0x1c..=0x1f | 0x7f);
    let has_controls = body.iter().any(is_control);
    let signs = [is_open, has_controls, body.contains(&0)];
    let expected: u32 = signs.into_iter().map(u32::from).sum();
    for pieces in [vec![&*mail], pieces(&mail, &mut Chance::of(bytes))] {
        let found = judged(&mail, Depth::Deep, &pieces).oddities;
        assert_eq!(found, expected, "{signs:?}");
    }
}
