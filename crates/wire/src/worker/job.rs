//! The description of a job: its mailboxes, and when they are expected back.
//!
//! # Invariants
//!
//! * A mailbox has a number, an address and a path; nothing else is required of it.

use tidegate_core::fleet::MailboxNumber;
use tidegate_core::policy::{Language, Window};

use super::window;
use crate::limits::JOB_MAILBOXES_PER_MESSAGE;
use crate::protocol::{ProtocolError, bounded};
use crate::v1;

/// One mailbox of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobMailbox {
    /// Its number in the inventory.
    pub number: MailboxNumber,
    /// Its owner's address.
    pub address: String,
    /// Its store below the node's mail root.
    pub path: String,
    /// The language in which its owner is told to wait; nothing for the default.
    pub language: Option<Language>,
}

/// A part of a job's description, or all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobPart {
    /// The next mailboxes, in order of their ordinals.
    pub mailboxes: Vec<JobMailbox>,
    /// When the mailboxes of the job are expected back; the same in every part.
    pub expected: Option<Window>,
}

impl From<JobMailbox> for v1::JobMailbox {
    fn from(JobMailbox { number, address, path, language }: JobMailbox) -> Self {
        let language = language.map_or_else(String::new, |it| it.code().to_owned());
        Self { number: number.get(), address, path, language }
    }
}

impl TryFrom<v1::JobMailbox> for JobMailbox {
    type Error = ProtocolError;

    fn try_from(message: v1::JobMailbox) -> Result<Self, Self::Error> {
        for (field, text) in [("address", &message.address), ("path", &message.path)] {
            if text.is_empty() {
                return Err(ProtocolError::missing(field));
            }
        }
        let v1::JobMailbox { number, address, path, language } = message;
        let language = Language::of_tag(&language);
        Ok(Self { number: MailboxNumber::new(number), address, path, language })
    }
}

impl From<JobPart> for v1::FetchJobResponse {
    fn from(JobPart { mailboxes, expected }: JobPart) -> Self {
        Self {
            mailboxes: mailboxes.into_iter().map(v1::JobMailbox::from).collect(),
            expected: expected.map(v1::Window::from),
        }
    }
}

impl JobPart {
    /// One message of a description.
    ///
    /// # Errors
    ///
    /// [`ProtocolError`] when the part is too long or one of its mailboxes is incomplete.
    pub fn received(message: v1::FetchJobResponse) -> Result<Self, ProtocolError> {
        bounded("mailboxes", message.mailboxes.len(), JOB_MAILBOXES_PER_MESSAGE)?;
        Self::whole(message)
    }

    /// A description of any length, as it is kept in a file.
    pub(crate) fn whole(message: v1::FetchJobResponse) -> Result<Self, ProtocolError> {
        let expected = window(message.expected);
        let mailboxes = message.mailboxes.into_iter().map(JobMailbox::try_from);
        Ok(Self { mailboxes: mailboxes.collect::<Result<_, _>>()?, expected })
    }

    /// Adds the part that follows.
    pub fn append(&mut self, next: Self) {
        self.mailboxes.extend(next.mailboxes);
        self.expected = self.expected.or(next.expected);
    }
}
