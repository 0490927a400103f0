//! Message: judging one file by itself.
//!
//! # Invariants
//!
//! * A file is read once, front to back, through one reused buffer; digest and findings come from
//!   the same pass.
//! * Findings do not depend on the pieces in which the bytes came.
//! * Odd is not damaged: what real mail does (no header end, 8 bit, a stray NUL) only ever weighs
//!   when two versions of a message disagree.

mod canon;
mod count;
mod dkim;
mod findings;
mod head;
mod packed;
mod rungs;
mod scan;
mod shape;
mod text;
mod zstd;

use std::io::{self, Read};

pub(crate) use findings::{Findings, Seal};
pub use rungs::Rungs;
pub(crate) use scan::Scan;

/// One read; large enough that a system call costs little beside hashing, small enough for many
/// readers at once.
pub(crate) const BUFFER_BYTES: usize = 128 * 1024;

/// How closely a message is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Digest, size, zeros and the beginning, where better evidence than the virtual size is at hand:
    /// line ends are not counted.
    Glance,
    /// Line ends too.
    Quick,
    /// Its own seals and its structure too.
    Deep,
}

/// What a name, list or header promises of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Promise {
    /// Bytes of the message.
    pub(crate) size: Option<u64>,
    /// Bytes of the message if every bare LF were CRLF.
    pub(crate) virtual_size: Option<u64>,
}

/// Reads `source` to its end and judges it against what is promised and its owner's address.
pub(crate) fn judge(
    source: &mut impl Read,
    promise: Promise,
    owner: &str,
    depth: Depth,
    buffer: &mut [u8],
) -> io::Result<Findings> {
    Scan::new(promise, owner, depth).read(source, buffer)
}

/// Fills the buffer as far as the source goes.
pub(crate) fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match source.read(rest) {
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digester;
    use crate::maildir::name::MailName;
    use crate::reason::Reason;

    const OWNER: &str = "anna@example.org";
    const GOOD: &str = "Delivered-To: anna@example.org\nSubject: x\n\nHello\n";

    fn check(name: &str, bytes: &[u8]) -> Findings {
        let mut buffer = vec![0; 1024];
        judge(
            &mut &bytes[..],
            MailName::parse(name.as_bytes()).promise(),
            OWNER,
            Depth::Deep,
            &mut buffer,
        )
        .unwrap()
    }

    fn named(bytes: &[u8]) -> String {
        let bare = bytes.split(|byte| *byte == b'\n').count() - 1;
        format!("1.a,S={},W={}", bytes.len(), bytes.len() + bare)
    }

    #[test]
    fn a_whole_message_has_no_fault_and_its_digest() {
        let findings = check(&named(GOOD.as_bytes()), GOOD.as_bytes());

        assert_eq!(findings.fault(), None);
        assert_eq!(findings.oddities, 0);
        assert_eq!(findings.digest, Some(Digester::of(GOOD.as_bytes())));
    }

    #[test]
    fn a_cut_message_is_truncated_and_an_empty_one_empty() {
        let half = &GOOD.as_bytes()[..20];

        let expected = GOOD.len() as u64;
        assert_eq!(
            check(&named(GOOD.as_bytes()), half).fault(),
            Some(Reason::Truncated { expected, found: 20 })
        );
        assert_eq!(check(&named(GOOD.as_bytes()), b"").fault(), Some(Reason::Empty));
    }

    #[test]
    fn a_zeroed_block_is_found_where_lines_are_crlf_and_sizes_fit() {
        let mut mail = GOOD.replace('\n', "\r\n").into_bytes();
        mail.extend(std::iter::repeat_n(*b"base64\r\n", 512).flatten());
        let name = format!("1.a,S={},W={}", mail.len(), mail.len());
        mail[1000..3000].fill(0);

        let fault = check(&name, &mail).fault();

        assert_eq!(fault, Some(Reason::NulRun { offset: 1000, length: 2000 }));
    }

    #[test]
    fn a_small_message_all_zeros_is_damaged() {
        let zeros = [0_u8; 100];

        let fault = check("1.a,S=100,W=100", &zeros).fault();

        assert_eq!(fault, Some(Reason::NulRun { offset: 0, length: 100 }));
    }

    #[test]
    fn a_few_nuls_inside_are_odd_but_no_fault() {
        let mail = b"Subject: x\n\na\0\0b\n";

        let findings = check("1.a", mail);

        assert_eq!((findings.fault(), findings.oddities), (None, 1));
    }

    #[test]
    fn mail_delivered_to_somebody_else_is_foreign_even_if_sizes_fit() {
        let mail = b"Delivered-To: otto@example.org\nSubject: x\n\n";

        assert_eq!(check(&named(mail), mail).fault(), Some(Reason::ForeignBytes));
    }

    #[test]
    fn forwarded_mail_with_our_address_among_others_is_ours() {
        let mail = b"Delivered-To: <Anna+list@Example.org>\nDelivered-To: o@x.org\n\n";

        assert_eq!(check(&named(mail), mail).fault(), None);
    }

    #[test]
    fn mail_without_header_end_is_odd_but_no_fault() {
        let mail = b"{ \"json\": 1 }";

        assert_eq!(check("1.a", mail).fault(), None);
    }

    #[test]
    fn a_binary_beginning_is_no_header() {
        let mail = b"\x7fELF\x02\x01\x01\nmore";

        assert_eq!(check("1.a", mail).fault(), Some(Reason::NoHeader));
        assert_eq!(check("1.a", mail).fault_though_identical(), None);
    }

    #[test]
    fn findings_do_not_depend_on_the_size_of_the_buffer() {
        let mut mail = GOOD.repeat(40).into_bytes();
        mail[300..900].fill(0);
        let name = MailName::parse(b"1.a,S=2000,W=2160").promise();

        let small =
            judge(&mut &mail[..], name, OWNER, Depth::Deep, &mut [0; 600]).unwrap();
        let large =
            judge(&mut &mail[..], name, OWNER, Depth::Deep, &mut [0; 9000]).unwrap();
        let whole = Scan::new(name, OWNER, Depth::Deep).whole(&mail);

        assert_eq!(small, large);
        assert_eq!(small, whole);
    }
}
