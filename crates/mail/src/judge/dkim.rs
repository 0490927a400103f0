//! Dkim: hashes of a message's body that its senders signed.
//!
//! A signature carries the hash of the body beside what is signed (RFC 6376 3.7, `bh=`), so that
//! the body can be compared without any key and without asking anybody. The same field stands in
//! ARC's `ARC-Message-Signature` (RFC 8617 4.1.2) and in `X-Google-DKIM-Signature`.
//!
//! # Invariants
//!
//! * A body is hashed as it was on its way: every line end is CRLF, however it is stored.
//! * One pass, whatever the number of signatures; the same for any pieces.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use crate::judge::Seal;
use crate::judge::canon::{Canon, Kind};
use crate::judge::head::fields;

/// Signatures looked at; mail that went through several lists and forwarders has five.
const SEALS_MAX: usize = 16;

/// Names of the fields that carry a body's hash.
const NAMES: [&[u8]; 3] =
    [b"dkim-signature", b"arc-message-signature", b"x-google-dkim-signature"];

/// The signed hashes of one body that is coming in.
#[derive(Default)]
pub(super) struct Seals {
    signed: Vec<Signed>,
    simple: Option<Body>,
    relaxed: Option<Body>,
}

/// What one signature says of the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Signed {
    kind: Kind,
    /// Bytes of the canonical body that are signed; all, if it does not say.
    length: Option<u64>,
    hash: [u8; 32],
}

impl Seals {
    /// Finds the signatures in a header.
    pub(super) fn of(header: &[u8]) -> Self {
        let is_one = |name: &[u8]| NAMES.iter().any(|it| name.eq_ignore_ascii_case(it));
        let fields = fields(header).filter(|(name, _)| is_one(name));
        let mut seals = Self::default();
        for signed in fields.filter_map(|(_, value)| signed(value)).take(SEALS_MAX) {
            let body = match signed.kind {
                Kind::Simple => &mut seals.simple,
                Kind::Relaxed => &mut seals.relaxed,
            };
            body.get_or_insert_with(|| Body::new(signed.kind)).want(signed.length);
            seals.signed.push(signed);
        }
        seals
    }

    /// Takes in the next bytes of the body.
    pub(super) fn add(&mut self, chunk: &[u8]) {
        for body in [&mut self.simple, &mut self.relaxed].into_iter().flatten() {
            let Body { canon, hashes } = body;
            canon.add(chunk, &mut |bytes| hashes.iter_mut().for_each(|it| it.add(bytes)));
        }
    }

    /// Which of the signed hashes the body has.
    pub(super) fn finish(self) -> Vec<Seal> {
        let [simple, relaxed] = [self.simple, self.relaxed]
            .map(|body| body.map(Body::finish).unwrap_or_default());
        let seal = |signed: Signed| {
            let ends = match signed.kind {
                Kind::Simple => &simple,
                Kind::Relaxed => &relaxed,
            };
            let end = ends.iter().find(|it| it.length == signed.length);
            let holds = end.is_some_and(|it| it.hash == Some(signed.hash));
            Seal { hash: signed.hash, holds, whole: end.is_some_and(|it| it.whole) }
        };
        self.signed.into_iter().map(seal).collect()
    }
}

/// A body in one canonical form, hashed up to every length that is asked for.
struct Body {
    canon: Canon,
    hashes: Vec<Hash>,
}

impl Body {
    fn new(kind: Kind) -> Self {
        Self { canon: Canon::new(kind), hashes: Vec::new() }
    }

    fn want(&mut self, length: Option<u64>) {
        if self.hashes.iter().all(|it| it.length != length) {
            self.hashes.push(Hash {
                length,
                missing: length,
                beyond: false,
                hasher: Sha256::new(),
            });
        }
    }

    fn finish(self) -> Vec<End> {
        let Self { canon, mut hashes } = self;
        canon.finish(&mut |bytes| hashes.iter_mut().for_each(|it| it.add(bytes)));
        hashes.into_iter().map(Hash::finish).collect()
    }
}

/// What became of a [`Hash`].
struct End {
    length: Option<u64>,
    /// Nothing where the body is shorter.
    hash: Option<[u8; 32]>,
    whole: bool,
}

struct Hash {
    length: Option<u64>,
    missing: Option<u64>,
    /// The body goes on behind it.
    beyond: bool,
    hasher: Sha256,
}

impl Hash {
    fn add(&mut self, bytes: &[u8]) {
        let Some(missing) = &mut self.missing else { return self.hasher.update(bytes) };
        let length = usize::try_from(*missing).unwrap_or(usize::MAX).min(bytes.len());
        self.hasher.update(bytes.get(..length).unwrap_or_default());
        *missing -= length as u64;
        self.beyond |= length < bytes.len();
    }

    fn finish(self) -> End {
        let is_enough = self.missing.is_none_or(|missing| missing == 0);
        let hash = is_enough.then(|| self.hasher.finalize().into());
        End { length: self.length, hash, whole: !self.beyond }
    }
}

/// What a signature's tags say (RFC 6376 3.2, 3.5); nothing if its hash is not SHA-256, or it is
/// none.
fn signed(value: &[u8]) -> Option<Signed> {
    let (mut algorithm, mut canon, mut length, mut hash) = (None, None, None, None);
    for tag in value.split(|byte| *byte == b';') {
        let Some(equals) = tag.iter().position(|byte| *byte == b'=') else { continue };
        let (name, value) = (tag.get(..equals)?, tag.get(equals + 1..)?);
        let value = || value.iter().copied().filter(|byte| !byte.is_ascii_whitespace());
        match name.trim_ascii() {
            b"a" => algorithm = Some(value().collect::<Vec<u8>>()),
            b"c" => canon = Some(value().collect::<Vec<u8>>()),
            b"l" => {
                length = Some(String::from_utf8(value().collect()).ok()?.parse().ok()?);
            }
            b"bh" => hash = Some(value().collect::<Vec<u8>>()),
            _ => {}
        }
    }
    if !algorithm?.ends_with(b"-sha256") {
        return None;
    }
    let canon = canon.unwrap_or_default();
    let body = canon.splitn(2, |byte| *byte == b'/').nth(1).unwrap_or(b"simple");
    let kind = match body {
        b"simple" => Kind::Simple,
        b"relaxed" => Kind::Relaxed,
        _ => return None,
    };
    let hash = STANDARD.decode(hash?).ok()?.try_into().ok()?;
    Some(Signed { kind, length, hash })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example of RFC 6376 A.2 and RFC 8463 A.3 as a mail server stores it.
    const EXAMPLE: &str = "\
DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;
 d=football.example.com; i=@football.example.com;
 q=dns/txt; s=brisbane; t=1528637909; h=from : to :
 subject : date : message-id : from : subject : date;
 bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
 b=/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus
 Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==
DKIM-Signature: v=1; a=rsa-sha256; s=brisbane; d=example.com;
      c=simple/simple; q=dns/txt; i=joe@football.example.com;
      h=Received : From : To : Subject : Date : Message-ID;
      bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;
      b=AuUoFEfDxTDkHlLXSZEpZj79LICEps6eda7W3deTVFOk4yAUoqOB
From: Joe SixPack <joe@football.example.com>
To: Suzie Q <suzie@shopping.example.net>
Subject: Is dinner ready?

Hi.

We lost the game. Are you hungry yet?

Joe.
";

    fn holds(mail: &[u8], pieces: usize) -> Vec<bool> {
        let at = mail.windows(2).position(|pair| pair == b"\n\n").unwrap() + 2;
        let (header, body) = mail.split_at(at);
        let mut seals = Seals::of(header);
        body.chunks(pieces).for_each(|piece| seals.add(piece));
        seals.finish().into_iter().map(|seal| seal.holds).collect()
    }

    fn check(tags: &str, body: &str, expected: &[bool]) {
        let hash = |body: &[u8]| STANDARD.encode(Sha256::digest(body));
        let tags = tags
            .replace("{empty}", &hash(b""))
            .replace("{abc}", &hash(b"abc\r\n"))
            .replace("{ab}", &hash(b"ab"));
        let mail = format!("DKIM-Signature: {tags}\nSubject: x\n\n{body}");
        assert_eq!(holds(mail.as_bytes(), 1000), expected, "{tags} {body:?}");
    }

    #[test]
    fn the_examples_of_the_rfcs_hold_stored_with_either_line_end() {
        let (header, body) = EXAMPLE.split_at(EXAMPLE.find("\n\n").unwrap() + 2);
        let crlf = [header, &*body.replace('\n', "\r\n")].concat();

        assert_eq!(holds(EXAMPLE.as_bytes(), 7), [true, true]);
        assert_eq!(holds(crlf.as_bytes(), 7), [true, true]);
        let other = EXAMPLE.replace("hungry yet", "hungry jet");
        assert_eq!(holds(other.as_bytes(), 7), [false, false]);
    }

    #[test]
    fn relaxed_forgives_blanks_and_simple_does_not() {
        let spaced =
            EXAMPLE.replace("lost the", "lost \t the").replace("Joe.\n", "Joe.  \n\n");

        assert_eq!(holds(spaced.as_bytes(), 3), [true, false]);
    }

    #[test]
    fn a_length_signs_the_beginning_alone() {
        check("a=rsa-sha256; l=2; bh={ab}", "abc and more\n", &[true]);
        check("a=rsa-sha256; l=2; bh={ab}", "ax", &[false]);
        check("a=rsa-sha256; l=5; bh={abc}", "abc", &[true]);
        check("a=rsa-sha256; l=6; bh={abc}", "abc", &[false]);
        check("a=rsa-sha256; l=0; bh={empty}", "abc", &[true]);
    }

    #[test]
    fn a_length_that_leaves_something_out_proves_nothing_of_the_whole() {
        let whole = |length: u64, body: &[u8]| {
            let hash = STANDARD.encode([0; 32]);
            let header = format!("DKIM-Signature: a=rsa-sha256; l={length}; bh={hash}\n");
            let mut seals = Seals::of(header.as_bytes());
            seals.add(body);
            seals.finish()[0].whole
        };

        assert_eq!([whole(2, b"abc"), whole(4, b"abc")], [false, false]);
        assert_eq!([whole(5, b"abc"), whole(6, b"abc")], [true, true]);
    }

    #[test]
    fn tags_are_folded_padded_and_default_to_simple() {
        check("a = rsa-sha256 ;\n\tbh = {abc} ; c=relaxed", "abc\n\n", &[true]);
        check("a=rsa-sha256; c=relaxed; bh={abc}", "abc \n", &[false]);
        check("a=rsa-sha256; c=simple/relaxed; bh={abc}", "abc \n", &[true]);
    }

    #[test]
    fn what_is_not_understood_is_no_seal() {
        check("a=rsa-sha1; bh={abc}", "abc\n", &[]);
        check("a=rsa-sha256; bh=AAAA", "abc\n", &[]);
        check("a=rsa-sha256; l=-1; bh={abc}", "abc\n", &[]);
        check("a=rsa-sha256; c=simple/nofws; bh={abc}", "abc\n", &[]);
        check("a=rsa-sha256", "abc\n", &[]);
    }

    #[test]
    fn forwarders_and_gateways_seal_bodies_too() {
        let mail = EXAMPLE
            .replacen("DKIM-Signature:", "ARC-Message-Signature: i=1;", 1)
            .replacen("\nDKIM-Signature:", "\nX-Google-DKIM-Signature:", 1);

        assert_eq!(holds(mail.as_bytes(), 100), [true, true]);
    }

    #[test]
    fn a_header_full_of_signatures_costs_a_bounded_number_of_hashes() {
        let tags: Vec<String> = (0..1000)
            .map(|l| format!("DKIM-Signature: a=a-sha256; l={l}; bh="))
            .collect();
        let header = tags.join(&format!("{}\n", STANDARD.encode([0; 32])));

        assert_eq!(Seals::of(header.as_bytes()).signed.len(), SEALS_MAX);
    }

    proptest! {
        #[test]
        fn any_header_can_be_looked_at(header: Vec<u8>) {
            Seals::of(&[b"DKIM-Signature: a=rsa-sha256;", &*header].concat()).finish();
        }
    }
}
