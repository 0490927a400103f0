//! Seals: what compressed storage and signatures tell of a mailbox's messages.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

#[expect(dead_code, reason = "shared with tests that need more of it")]
#[path = "support/provider.rs"]
mod provider;

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use provider::{Letter, MAILDIR, OWNER, Provider, letter, named};
use sha2::{Digest as _, Sha256};
use tidegate_mail::{
    Mailbox, PrepareTask, Prepared, Reason, Refusal, Store, StoreConfig,
};

fn try_prepare(provider: &Provider) -> Result<Prepared, Refusal> {
    let store = Store::open(StoreConfig {
        live: provider.root("live"),
        snapshot: Some(provider.root("snapshot")),
        work: provider.root("work"),
        file_size_max: 100_000,
    });
    let store = store.unwrap();
    store.claim(1, 3, "worker").unwrap();
    let mailbox = Mailbox {
        key: 7,
        address: OWNER.to_owned(),
        path: MAILDIR.as_bytes().to_vec(),
        served: false,
    };
    let mailboxes = [mailbox];
    let task =
        PrepareTask { job: 1, generation: 3, holder: "worker", mailboxes: &mailboxes };
    store.prepare(&task).unwrap().pop().unwrap()
}

fn prepare(provider: &Provider) -> Prepared {
    try_prepare(provider).unwrap()
}

/// Both sides hold and list the message as it is stored in `live` and `snapshot`.
fn with(base: &str, live: Option<&[u8]>, snapshot: &[u8]) -> Provider {
    let provider = Provider::empty();
    for (side, bytes) in [("live", live), ("snapshot", Some(snapshot))] {
        let stored = Letter { base: base.to_owned(), bytes: snapshot.to_vec() };
        provider.put(side, ("", "cur"), &stored, ":2,S");
        provider.list_of(side, "", &[(3, base.to_owned())]);
        match bytes {
            Some(bytes) => provider.damage(side, "", &stored, bytes),
            None => provider.lose(side, "", &stored),
        }
    }
    provider
}

fn served(provider: &Provider, base: &str) -> Option<Vec<u8>> {
    provider.served("", &Letter { base: base.to_owned(), bytes: Vec::new() })
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Another bit in the middle, so that the stream breaks or has another checksum.
fn flipped(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes.iter_mut().skip(middle).take(1).for_each(|byte| *byte ^= 4);
    bytes
}

/// A message that its sender signed, and the same with another word in it: the same sizes.
fn signed() -> (Letter, Letter) {
    let body = "Dear Anna,\n\nthe meeting is on Monday.\n";
    let hash = STANDARD.encode(Sha256::digest(body.replace('\n', "\r\n")));
    let header = format!(
        "Delivered-To: {OWNER}\nDKIM-Signature: v=1; a=rsa-sha256; c=relaxed/simple;\n\
         \td=example.org; bh={hash};\n\tb=\nSubject: meeting\n\n"
    );
    let mail = |body: &str| named(9, format!("{header}{body}").into_bytes());
    (mail(body), mail(&body.replace("Monday", "Friday")))
}

#[test]
fn a_compressed_mailbox_is_found_whole_and_left_as_it_is() {
    let mail = letter(3);
    let provider = with(&mail.base, Some(&gzip(&mail.bytes)), &gzip(&mail.bytes));

    let prepared = prepare(&provider);

    assert_eq!((prepared.counts.intact, prepared.doubts.len()), (1, 0));
    assert_eq!(served(&provider, &mail.base), Some(gzip(&mail.bytes)));
}

#[test]
fn a_message_compressed_since_the_snapshot_is_the_same_message() {
    let mail = letter(3);
    let provider = with(&mail.base, Some(&gzip(&mail.bytes)), &mail.bytes);

    let prepared = prepare(&provider);

    assert_eq!((prepared.counts.intact, prepared.doubts.len()), (1, 0));
    assert_eq!(served(&provider, &mail.base), Some(gzip(&mail.bytes)));
}

#[test]
fn a_compressed_message_with_another_bit_comes_from_the_good_side() {
    let mail = letter(3);
    let (good, bad) = (gzip(&mail.bytes), flipped(&gzip(&mail.bytes)));
    let (live, snapshot) =
        (with(&mail.base, Some(&bad), &good), with(&mail.base, Some(&good), &bad));

    let (repaired, intact) = (prepare(&live), prepare(&snapshot));

    assert_eq!((repaired.counts.repaired, repaired.doubts.len()), (1, 0));
    assert_eq!((intact.counts.intact, intact.doubts.len()), (1, 0));
    assert_eq!(served(&live, &mail.base), Some(good.clone()));
    assert_eq!(served(&snapshot, &mail.base), Some(good));
    assert!(live.keeps(&bad));
}

#[test]
fn a_lost_compressed_message_comes_back_as_it_was_stored() {
    let mail = letter(3);
    let provider = with(&mail.base, None, &gzip(&mail.bytes));

    let prepared = prepare(&provider);

    assert_eq!(prepared.counts.returned, 1);
    assert_eq!(served(&provider, &mail.base), Some(gzip(&mail.bytes)));
}

#[test]
fn a_compressed_message_damaged_on_both_sides_is_not_served() {
    let mail = letter(3);
    let packed = gzip(&mail.bytes);
    let provider = with(&mail.base, Some(&flipped(&packed)), &packed[..packed.len() - 9]);

    let prepared = prepare(&provider);

    assert_eq!(prepared.counts.set_aside, 1);
    assert_eq!(served(&provider, &mail.base), None);
}

#[test]
fn a_bomb_is_set_aside_without_being_unpacked_to_its_end() {
    let zeros = named(3, vec![b'a'; 5_000_000]);
    let packed = gzip(&zeros.bytes);
    let provider = with(&zeros.base, Some(&packed), &packed);

    let prepared = prepare(&provider);

    let reason = prepared.set_aside[0].reason();
    assert_eq!(reason, Some(Reason::TooLarge { found: 100_001, limit: 100_000 }));
}

#[test]
fn an_encrypted_mailbox_is_refused_as_a_whole() {
    let bytes = [&b"CRYPTED\x03\x07\x02"[..], &[7; 300]].concat();
    let provider = with("1795000003.M3P1.host", Some(&bytes), &bytes);
    let before = provider.tree("live");

    let refusal = try_prepare(&provider).unwrap_err();

    assert!(matches!(refusal, Refusal::Unsupported { .. }), "{refusal:?}");
    assert_eq!(provider.tree("live"), before);
}

#[test]
fn of_two_versions_of_the_same_sizes_the_one_that_was_signed_is_the_message() {
    let (mail, other) = signed();
    let live = with(&mail.base, Some(&other.bytes), &mail.bytes);
    let snapshot = with(&mail.base, Some(&mail.bytes), &other.bytes);

    let (repaired, intact) = (prepare(&live), prepare(&snapshot));

    assert_eq!((repaired.counts.repaired, repaired.doubts.len()), (1, 0));
    assert_eq!((intact.counts.intact, intact.doubts.len()), (1, 0));
    assert_eq!(served(&live, &mail.base), Some(mail.bytes.clone()));
    assert_eq!(served(&snapshot, &mail.base), Some(mail.bytes));
}

#[test]
fn a_body_that_a_list_has_changed_is_good_where_both_sides_have_it() {
    let (_, other) = signed();
    let provider = with(&other.base, Some(&other.bytes), &other.bytes);

    let prepared = prepare(&provider);

    assert_eq!((prepared.counts.intact, prepared.doubts.len()), (1, 0));
}
