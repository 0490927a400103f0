//! Canary: a message that goes the whole way, into a mailbox kept for it and out again.
//!
//! # Invariants
//!
//! * A round is good only when the very bytes that were delivered came back, once.
//! * What a killed round left behind is removed by the next one with the same name; nothing
//!   else in the mailbox is touched.

use std::fmt;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io::Read as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tidegate_secret::Secret;

use crate::conversation::ConversationError;
use crate::imap::{Imap, Login};
use crate::lmtp::{Delivery, Letter, deliver};

/// Bytes of noise in a message, in hexadecimal: more than one line, less than one block.
const NOISE_WORDS: usize = 64;

/// What delivery may put in front of a message.
const ADDED_BYTES_MAX: u64 = 64 * 1024;

/// A mailbox kept for rounds, and the way to it.
#[derive(Clone)]
pub struct Canary {
    /// Where mail is delivered.
    pub lmtp: SocketAddr,
    /// Where mail is read.
    pub imap: SocketAddr,
    /// The mailbox.
    pub user: String,
    /// Who logs in to it: the user himself, or a master user like `user*master`.
    pub login: String,
    /// The password.
    pub password: Secret<String>,
    /// Whose rounds these are, in letters, digits and hyphens. Two that share a mailbox need
    /// two names.
    pub name: String,
    /// How long one round may take.
    pub patience: Duration,
}

/// What came of a round.
#[derive(Debug)]
pub struct Round {
    /// How long each step took that was done to its end.
    pub timings: Vec<(Step, Duration)>,
    /// How many messages of killed rounds were removed.
    pub swept: usize,
    /// Whether the message came back.
    pub end: Result<(), CanaryError>,
}

/// A step of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Deliver the message.
    Deliver,
    /// Connect and log in.
    Login,
    /// Open the inbox.
    Select,
    /// Find the message.
    Search,
    /// Fetch and compare it.
    Fetch,
    /// Remove it.
    Remove,
}

/// Why a round was not good.
#[derive(Debug, thiserror::Error)]
pub enum CanaryError {
    /// A server did not play along.
    #[error("the round did not come to its end")]
    Conversation(#[from] ConversationError),
    /// Mail is not taken now.
    #[error("mail is put off: {code} {text}")]
    PutOff {
        /// Like 451.
        code: u16,
        /// The server's words.
        text: String,
    },
    /// Mail is not taken at all.
    #[error("mail is refused: {code} {text}")]
    Refused {
        /// Like 550.
        code: u16,
        /// The server's words.
        text: String,
    },
    /// The message was delivered and is not in the inbox.
    #[error("a delivered message is not in the inbox")]
    Lost,
    /// The message is in the inbox more than once.
    #[error("a message that was delivered once is there {count} times")]
    Doubled {
        /// How often.
        count: usize,
    },
    /// Other bytes came back.
    #[error("a message came back with other bytes")]
    Differs,
}

impl Round {
    /// How long all steps took that were done to their end.
    pub fn total(&self) -> Duration {
        self.timings.iter().map(|(_, took)| *took).sum()
    }

    /// How long a step took, if it was done to its end.
    pub fn took(&self, step: Step) -> Option<Duration> {
        self.timings.iter().find(|(it, _)| *it == step).map(|(_, took)| *took)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deliver => "deliver",
            Self::Login => "log in",
            Self::Select => "open the inbox",
            Self::Search => "search",
            Self::Fetch => "fetch",
            Self::Remove => "remove",
        })
    }
}

impl Canary {
    /// Sends a message around.
    pub fn round(&self) -> Round {
        let mut round = Round { timings: Vec::new(), swept: 0, end: Ok(()) };
        round.end = self.go(&mut round);
        round
    }

    fn go(&self, round: &mut Round) -> Result<(), CanaryError> {
        let deadline = Instant::now() + self.patience;
        let (id, message) = self.message();
        let mut clock = Instant::now();
        let mut done = |step| {
            let end = Instant::now();
            round.timings.push((step, end - clock));
            clock = end;
        };
        let letter =
            Letter { sender: "", recipient: &self.user, message: message.as_bytes() };
        match deliver(self.lmtp, letter, deadline)? {
            Delivery::Delivered { .. } => done(Step::Deliver),
            Delivery::Temporary { code, text } => {
                return Err(CanaryError::PutOff { code, text });
            }
            Delivery::Refused { code, text } => {
                return Err(CanaryError::Refused { code, text });
            }
        }
        let login = Login { user: &self.login, password: self.password.expose() };
        let mut imap = Imap::login(self.imap, login, deadline)?;
        done(Step::Login);
        imap.select("INBOX")?;
        done(Step::Select);
        let mine = imap.find(&id)?;
        let mut all = imap.find(&self.mark())?;
        done(Step::Search);
        let came_back = match mine.as_slice() {
            [] => Err(CanaryError::Lost),
            [uid] => compare(&mut imap, *uid, message.as_bytes()),
            _ => Err(CanaryError::Doubled { count: mine.len() }),
        };
        done(Step::Fetch);
        all.extend(&mine);
        all.sort_unstable();
        all.dedup();
        imap.remove(&all)?;
        done(Step::Remove);
        imap.logout()?;
        round.swept = all.len() - mine.len();
        came_back
    }

    /// How a message of ours is known: the end of its Message-ID.
    fn mark(&self) -> String {
        format!(".{}@canary.invalid>", self.name)
    }

    /// A Message-ID that was never used, and a message with it.
    fn message(&self) -> (String, String) {
        let (mut id, mut noise) = (String::new(), String::new());
        for word in 0..NOISE_WORDS {
            // The standard library seeds its hashers by chance.
            let random = format!("{:016x}", RandomState::new().build_hasher().finish());
            if word < 2 {
                id.push_str(&random);
            }
            noise.push_str(&random);
            noise.push_str(if word % 4 == 3 { "\r\n" } else { "" });
        }
        let id = format!("<{id}{}", self.mark());
        let message = format!(
            "From: <canary@canary.invalid>\r\nTo: <{}>\r\nSubject: canary\r\n\
             Message-ID: {id}\r\nAuto-Submitted: auto-generated\r\n\r\n{noise}",
            self.user
        );
        (id, message)
    }
}

/// Whether the message ends in what was delivered; servers put lines in front.
fn compare(imap: &mut Imap, uid: u32, sent: &[u8]) -> Result<(), CanaryError> {
    let mut came = Vec::new();
    let there = imap.fetch(uid, &mut |_, from| {
        let limit = ADDED_BYTES_MAX + sent.len() as u64;
        from.take(limit).read_to_end(&mut came).map(|_| ())
    })?;
    if !there {
        return Err(CanaryError::Lost);
    }
    if came.ends_with(sent) { Ok(()) } else { Err(CanaryError::Differs) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_rounds_have_the_same_message() {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let canary = Canary {
            lmtp: nowhere,
            imap: nowhere,
            user: "canary@example.org".to_owned(),
            login: "canary@example.org".to_owned(),
            password: "pw".into(),
            name: "stor-01".to_owned(),
            patience: Duration::from_secs(1),
        };

        let (id, message) = canary.message();
        let (other_id, other) = canary.message();

        assert_ne!(id, other_id);
        assert_ne!(message, other);
        assert!(id.ends_with(".stor-01@canary.invalid>"), "{id}");
        assert!(message.lines().all(|line| line.len() < 100), "{message}");
        assert!(message.ends_with("\r\n"));
    }
}
