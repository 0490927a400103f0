//! Sender: who says that a report is theirs, read from its first bytes.
//!
//! A report may have a megabyte, and reading one costs a processor. Its node and its run come
//! first in it, so that a stranger's is refused before the rest is received.
//!
//! # Invariants
//!
//! * Nobody is let in by what is read here; whoever cannot be told from it is read in full.
//! * Whoever is let pass has lost no byte.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Body as _, Frame, SizeHint};
use tidegate_core::fleet::{Incarnation, NodeNumber};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Bytes, http};

use crate::owner::Inbox;
use crate::refused::Refused;

/// Before a message: whether it is compressed, and how long it is.
const PREFIX_BYTES: usize = 5;

/// The keys of the first two fields of a report, numbers both.
const NODE_KEY: u8 = 1 << 3;
const INCARNATION_KEY: u8 = 2 << 3;

/// Bytes of the longest number.
const NUMBER_BYTES_MAX: usize = 10;

/// The request, unless it is the report of somebody who is not the worker of its node.
///
/// # Errors
///
/// As [`Inbox::sync`] refuses it.
pub(super) async fn only_of_workers(
    request: http::Request<Body>,
    inbox: &Inbox,
) -> Result<http::Request<Body>, Refused> {
    let (head, mut rest) = request.into_parts();
    let first = std::future::poll_fn(|cx| Pin::new(&mut rest).poll_frame(cx)).await;
    let data = first.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
    if let Some((node, incarnation)) = data.and_then(|bytes| sender(bytes)) {
        inbox.check(node, incarnation)?;
    }
    Ok(http::Request::from_parts(head, Body::new(Whole { first, rest })))
}

/// The node and the run that a report names; nothing if they do not come first, or if it is
/// compressed.
fn sender(bytes: &[u8]) -> Option<(NodeNumber, Incarnation)> {
    let (prefix, message) = bytes.split_at_checked(PREFIX_BYTES)?;
    if *prefix.first()? != 0 {
        return None;
    }
    // Node 0 is not written.
    let (node, message) = field(NODE_KEY, message).unwrap_or((0, message));
    let (incarnation, _) = field(INCARNATION_KEY, message)?;
    Some((NodeNumber::new(u16::try_from(node).ok()?), Incarnation::new(incarnation)))
}

/// The number of this field, if it comes first, and what is behind it.
fn field(key: u8, bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, bytes) = bytes.split_first()?;
    if *first != key {
        return None;
    }
    let end = bytes.iter().take(NUMBER_BYTES_MAX).position(|byte| byte & 0x80 == 0)?;
    let (number, rest) = bytes.split_at_checked(end + 1)?;
    let number = number.iter().rev().try_fold(0_u64, |sum, byte| {
        sum.checked_mul(0x80)?.checked_add(u64::from(byte & 0x7f))
    });
    Some((number?, rest))
}

/// A body whose first part was taken already.
struct Whole {
    first: Option<Result<Frame<Bytes>, Status>>,
    rest: Body,
}

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.first.take() {
            Some(first) => Poll::Ready(Some(first)),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let first = self.first.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
        let first = first.map_or(0, |data| data.len() as u64);
        let rest = self.rest.size_hint();
        let mut all = SizeHint::new();
        if let Some(upper) = rest.upper() {
            all.set_upper(upper.saturating_add(first));
        }
        all.set_lower(rest.lower().saturating_add(first));
        all
    }
}

#[cfg(test)]
mod tests {
    use tidegate_wire::hop::to_bytes;
    use tidegate_wire::v1;

    use super::*;

    #[test]
    fn the_sender_of_a_report_is_told_by_its_first_bytes() {
        for (node, run) in [(0, 1), (1, u64::MAX), (300, 1 << 40), (65_535, 127)] {
            let incarnation = run;
            let report = v1::SyncRequest {
                node_number: node,
                incarnation,
                orders_obeyed: 9,
                ..v1::SyncRequest::default()
            };
            let all = [vec![0; PREFIX_BYTES], to_bytes(&report)].concat();
            let told = sender(&all).map(|(node, run)| (u32::from(node.get()), run.get()));

            assert_eq!(told, Some((node, run)));
            // The next field ends the number; whoever was cut off before it is not told.
            let cut = (0..all.len() - 2).filter_map(|end| sender(&all[..end]));
            let wrong = cut.filter(|(_, told)| told.get() != run);
            assert_eq!(wrong.count(), 0);
        }
    }

    #[test]
    fn whoever_cannot_be_told_is_read_in_full() {
        let cases: [&[u8]; 6] = [
            &[],
            &[0, 0, 0, 0],
            &[1, 0, 0, 0, 4, NODE_KEY, 1, INCARNATION_KEY, 1],
            &[0, 0, 0, 0, 2, NODE_KEY, 1],
            &[0, 0, 0, 0, 4, INCARNATION_KEY, 0xff, 0xff, 0xff],
            &[0, 0, 0, 0, 6, NODE_KEY, 0xff, 0xff, 0x7f, INCARNATION_KEY, 1],
        ];
        for bytes in cases {
            assert_eq!(sender(bytes), None, "{bytes:?}");
        }
    }
}
