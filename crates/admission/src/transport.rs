//! Transport: where the mail of a recipient goes now, as Postfix shall hear it.
//!
//! # Invariants
//!
//! * Only whole mailbox addresses are asked for. For all else that Postfix looks up, such
//!   as `*` and bare domains, there is no opinion.
//! * What would lose or refuse mail is never passed on: the transports `retry`, `error` and
//!   `discard`, and a transport without next hop (a flush would ask DNS for the
//!   recipient's domain and bounce).

use std::borrow::Cow;
use std::sync::Arc;

/// Knows where mail goes.
pub trait Transport: Send + Sync + 'static {
    /// Where the mail of `recipient` goes now: an address in lower case, perhaps of a sender
    /// or of a stranger. It is asked on every delivery, and must not wait for anything.
    fn transport(&self, recipient: &str) -> Next;

    /// The same of several that were asked for together.
    fn transports(&self, recipients: &[Cow<'_, str>]) -> Vec<Next> {
        recipients.iter().map(|recipient| self.transport(recipient)).collect()
    }
}

/// What Postfix shall do with mail for a recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Deliver it, for example by `lmtp:inet:node7.example.net:24`.
    Deliver(Arc<str>),
    /// Keep it in the queue under this transport, for example
    /// `held:inet:node7.example.net:24`; the next hop must hold it back as well.
    Hold(Arc<str>),
    /// What it always does: the recipient is none of ours.
    NotOurs,
    /// Try again later: it cannot be said now.
    Unknown,
}

/// Whether Postfix may be given `value` as transport and next hop.
pub(crate) fn is_safe(value: &str) -> bool {
    let Some((transport, hop)) = value.split_once(':') else { return false };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let harmful = matches!(transport, "retry" | "error" | "discard");
    let named = !transport.is_empty() && transport.bytes().all(plain) && !harmful;
    let place = ["inet:", "unix:"].iter().find_map(|kind| hop.strip_prefix(kind));
    let place = place.unwrap_or(hop);
    named && !place.is_empty() && place.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The address of a mailbox that Postfix may mean by `key`.
pub(crate) fn mailbox_address(key: &str) -> Option<Cow<'_, str>> {
    let at = key.bytes().rposition(|byte| byte == b'@')?;
    let whole = at > 0 && at + 1 < key.len();
    let (mut graphic, mut upper) = (true, false);
    for byte in key.bytes() {
        graphic &= byte.is_ascii_graphic();
        upper |= byte.is_ascii_uppercase();
    }
    let odd = |letter: char| letter.is_control() || letter == ' ';
    let plain = graphic || !key.is_ascii() && !key.contains(odd);
    (whole && plain).then(|| {
        if upper { Cow::Owned(key.to_ascii_lowercase()) } else { Cow::Borrowed(key) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transports_that_lose_or_refuse_mail_are_not_safe() {
        for harmful in [
            "retry:4.2.1 wait",
            "error:5.1.1 gone",
            "discard:",
            "held:",
            "held:inet:",
            "held",
            "",
            ":inet:127.0.0.1:24",
            "lmtp:unix:",
            "lmtp:inet:a b",
            "lmtp:inet:a\n200",
        ] {
            assert!(!is_safe(harmful), "{harmful}");
        }
    }

    #[test]
    fn transports_with_a_next_hop_are_safe() {
        for safe in [
            "lmtp:inet:127.0.0.1:24",
            "held:inet:node7:24",
            "lmtp:unix:/run/lmtp",
            "lmtp:inet:[::1]:24",
            "smtp:[relay.example.net]:25",
        ] {
            assert!(is_safe(safe), "{safe}");
        }
    }

    #[test]
    fn only_whole_addresses_are_mailboxes() {
        let anna = Some(Cow::Borrowed("anna@example.org"));
        assert_eq!(mailbox_address("Anna@Example.org"), anna);
        assert_eq!(
            mailbox_address("grüße@example.org"),
            Some("grüße@example.org".into())
        );
        for other in [
            "*",
            "example.org",
            "@example.org",
            "anna@",
            "a b@c",
            "a\u{85}ä@c",
            "a\nb@c",
            "",
        ] {
            assert_eq!(mailbox_address(other), None, "{other}");
        }
    }
}
