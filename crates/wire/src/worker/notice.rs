//! How held users are told to wait, as a node gets it.
//!
//! # Invariants
//!
//! * A language that this program does not know becomes the default: somebody is told to
//!   wait in another language rather than not at all.
//! * A window that ends before it begins is no window.

use tidegate_core::policy::{Language, Notice, Window};

use crate::protocol::{instant, timestamp};
use crate::v1;

/// How held users are told to wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeNotice {
    /// The language of users of whom no other is known.
    pub language: Language,
    /// The time zone in which windows are told; empty if nobody has said it.
    pub zone: String,
}

impl NodeNotice {
    /// What nodes must know of the policy's word.
    pub fn of(notice: &Notice) -> Self {
        Self { language: notice.language, zone: notice.zone.clone() }
    }
}

impl From<NodeNotice> for v1::Notice {
    fn from(NodeNotice { language, zone }: NodeNotice) -> Self {
        Self { language: language.code().to_owned(), zone }
    }
}

impl From<v1::Notice> for NodeNotice {
    fn from(v1::Notice { language, zone }: v1::Notice) -> Self {
        Self { language: Language::of_tag(&language).unwrap_or_default(), zone }
    }
}

impl From<Window> for v1::Window {
    fn from(Window { from, to }: Window) -> Self {
        Self { from_time: Some(timestamp(from)), to_time: Some(timestamp(to)) }
    }
}

/// The window of a message, if it is one.
pub(crate) fn window(message: Option<v1::Window>) -> Option<Window> {
    let message = message?;
    let from = instant(message.from_time.as_ref()?)?;
    let to = instant(message.to_time.as_ref()?)?;
    (from < to).then_some(Window { from, to })
}
