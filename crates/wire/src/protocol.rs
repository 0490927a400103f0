//! What is wrong with a message, and the checks that several messages share.
//!
//! # Invariants
//!
//! * An error names the field and never repeats more than a short part of what it held.

use tidegate_core::inventory::Digest;
use tidegate_core::rollout::{Etag, Grounds, RequestId};
use tidegate_core::time::Timestamp;

use crate::limits::{BY_BYTES_MAX, REASON_BYTES_MAX};

/// A message breaks its contract. Its sender is to blame; sending it again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The other side was built for another contract.
    #[error(
        "the worker speaks contract {theirs}, the coordinator {ours}: \
         install the same version of tidegate on both"
    )]
    OtherContract {
        /// The worker's.
        theirs: u32,
        /// The coordinator's.
        ours: u32,
    },
    /// A field that is required is absent or unspecified.
    #[error("field `{field}` is missing")]
    Missing {
        /// The field.
        field: &'static str,
    },
    /// A field holds what it cannot mean.
    #[error("field `{field}` cannot be `{value}`")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What it holds, shortened.
        value: String,
    },
    /// A list or text is longer than any real one.
    #[error("field `{field}` has a length of {length}, at most {max} is possible")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length.
        length: usize,
        /// The most possible.
        max: usize,
    },
}

/// Characters of a wrong value that are worth repeating.
const VALUE_SHOWN_MAX: usize = 64;

impl ProtocolError {
    /// The field is missing.
    pub fn missing(field: &'static str) -> Self {
        Self::Missing { field }
    }

    /// The field holds `value`.
    pub fn invalid(field: &'static str, value: &(impl ToString + ?Sized)) -> Self {
        let value = value.to_string().chars().take(VALUE_SHOWN_MAX).collect();
        Self::Invalid { field, value }
    }
}

impl From<ProtocolError> for tonic::Status {
    fn from(error: ProtocolError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

/// An instant as contracts write it.
pub fn timestamp(at: Timestamp) -> prost_types::Timestamp {
    let millis = at.millis();
    prost_types::Timestamp {
        seconds: i64::try_from(millis / 1_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(millis % 1_000 * 1_000_000).unwrap_or(0),
    }
}

/// The instant that a contract writes; nothing for one before 1970.
pub fn instant(written: &prost_types::Timestamp) -> Option<Timestamp> {
    let seconds = u64::try_from(written.seconds).ok()?;
    let millis = u64::try_from(written.nanos / 1_000_000).ok()?;
    Some(Timestamp::from_millis(seconds.checked_mul(1_000)?.checked_add(millis)?))
}

/// The digest written as 64 hexadecimal digits.
///
/// # Errors
///
/// [`ProtocolError::Missing`] when it is empty, [`ProtocolError::Invalid`] when it is none.
pub fn digest(field: &'static str, text: &str) -> Result<Digest, ProtocolError> {
    if text.is_empty() {
        return Err(ProtocolError::missing(field));
    }
    Digest::from_hex(text).ok_or_else(|| ProtocolError::invalid(field, text))
}

/// Who acts and why, trimmed and not too long; the reason may be empty.
///
/// # Errors
///
/// [`ProtocolError::Missing`] without a name, [`ProtocolError::TooLong`] for a novel.
pub fn by_and_reason(by: &str, reason: &str) -> Result<(String, String), ProtocolError> {
    let by = by.trim();
    if by.is_empty() {
        return Err(ProtocolError::missing("by"));
    }
    bounded("by", by.len(), BY_BYTES_MAX)?;
    let reason = reason.trim();
    bounded("reason", reason.len(), REASON_BYTES_MAX)?;
    Ok((by.to_owned(), reason.to_owned()))
}

/// What the client calls its request; nothing if it does not.
///
/// # Errors
///
/// [`ProtocolError::Invalid`] when it is too long or not printable.
pub fn request_id(text: &str) -> Result<Option<RequestId>, ProtocolError> {
    if text.is_empty() {
        return Ok(None);
    }
    let id = RequestId::new(text);
    id.map(Some).ok_or_else(|| ProtocolError::invalid("request_id", text))
}

/// The etag of the rollout that an operator saw; nothing if they do not say.
///
/// # Errors
///
/// [`ProtocolError::Invalid`] when it is none.
pub fn etag(text: &str) -> Result<Option<Etag>, ProtocolError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| ProtocolError::invalid("etag", text))
}

/// The name of the evidence that an approver saw; nothing if they do not say.
///
/// # Errors
///
/// [`ProtocolError::Invalid`] when it is none.
pub fn grounds(text: &str) -> Result<Option<Grounds>, ProtocolError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| ProtocolError::invalid("evidence", text))
}

/// Refuses a list or text longer than `max`.
pub(crate) fn bounded(
    field: &'static str,
    length: usize,
    max: usize,
) -> Result<(), ProtocolError> {
    if length > max {
        return Err(ProtocolError::TooLong { field, length, max });
    }
    Ok(())
}

/// A number that must fit a smaller type.
pub(crate) fn narrow<T, U>(field: &'static str, number: T) -> Result<U, ProtocolError>
where
    T: Copy + ToString,
    U: TryFrom<T>,
{
    U::try_from(number).map_err(|_| ProtocolError::invalid(field, &number))
}

/// A field that must be there.
pub(crate) fn present<T>(
    field: &'static str,
    value: Option<T>,
) -> Result<T, ProtocolError> {
    value.ok_or(ProtocolError::Missing { field })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_survives_its_writing() {
        let at = Timestamp::from_millis(1_795_302_123_456);

        assert_eq!(instant(&timestamp(at)), Some(at));
        assert_eq!(instant(&prost_types::Timestamp { seconds: -1, nanos: 0 }), None);
    }

    #[test]
    fn nobody_acts_without_a_name() {
        let refused = by_and_reason(" ", "why");

        assert_eq!(refused, Err(ProtocolError::missing("by")));
    }
}
