//! Webhooks: tells receivers what a person should know, in the form of Alertmanager's second API
//! (`POST /api/v2/alerts`), signed.
//!
//! ```text
//! views ─▶ facts that are so now ─▶ board: began, still so, over ─▶ letter, signed ─▶ receiver
//!                                     ▲                                        │
//!                                     └───────── not taken: again, later ◀─────┘
//! ```
//!
//! # Invariants
//!
//! * Letters state facts at a time, never deltas: a lost or repeated one does no harm.
//! * Everything is read from views: whoever does not answer slows no decision, and no other
//!   receiver.
//! * What waits for a receiver is bounded, whatever happens meanwhile.
//! * No letter names a mailbox, or repeats what people typed.

mod board;
mod facts;
mod letter;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use backoff::backoff::Backoff as _;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use tokio::task::JoinSet;

use crate::owner::Views;
use crate::refused::chain;
use board::Board;
pub use facts::{FACTS, Severity};
use letter::{Key, Letter};
use tidegate_clock::Clock;
use tidegate_secret::Secret;

/// Between two looks at how the rollout is.
const LOOK: Duration = Duration::from_millis(250);

/// How long a receiver may take; then its answer is worth nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// How soon a letter that was not taken is sent again, at first and at most.
const AGAIN_MIN: Duration = Duration::from_millis(500);
const AGAIN_MAX: Duration = Duration::from_mins(5);

/// A shorter key would be guessed.
const KEY_BYTES_MIN: usize = 16;

/// What is told to whom.
#[derive(Clone, Debug)]
pub struct WebhookConfig {
    /// Where alerts are posted, `http://HOST:PORT/PATH`.
    pub url: String,
    /// The file of the secret that letters are signed with.
    pub key: PathBuf,
    /// How often what is still so is told again.
    pub repeat: Duration,
    /// The page that a letter's alerts lead to; empty for none.
    pub link: String,
    /// What to do about a code, as the runbook says.
    pub advice: fn(&str) -> Option<String>,
}

/// Tells receivers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Webhooks(Vec<Receiver>);

impl Webhooks {
    /// Those who are told.
    ///
    /// # Errors
    ///
    /// When a key cannot be read or is too short.
    pub(crate) fn open(
        configs: Vec<WebhookConfig>,
        clock: &Clock,
    ) -> anyhow::Result<Self> {
        let open = |config| Receiver::open(config, clock.clone());
        Ok(Self(configs.into_iter().map(open).collect::<anyhow::Result<_>>()?))
    }

    /// Tells all of them, for ever; each on its own.
    pub(crate) async fn keep_telling(self, views: Views) {
        let mut telling = JoinSet::new();
        for receiver in self.0 {
            telling.spawn(receiver.keep_telling(views.clone()));
        }
        while telling.join_next().await.is_some() {}
    }
}

/// One receiver.
#[derive(Clone, Debug)]
struct Receiver {
    agent: ureq::Agent,
    key: Arc<Key>,
    config: WebhookConfig,
    clock: Clock,
}

/// Why a letter was not taken.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    /// Nobody answered, or with a refusal.
    #[error("post alerts to `{url}`")]
    Post {
        /// To whom.
        url: String,
        /// Why.
        source: Box<ureq::Error>,
    },
    /// The task that posts has ended.
    #[error("wait for the receiver")]
    Gone(#[from] tokio::task::JoinError),
}

impl Receiver {
    fn open(config: WebhookConfig, clock: Clock) -> anyhow::Result<Self> {
        let name = || format!("read the webhook's key `{}`", config.key.display());
        let secret = Secret::read(&config.key).with_context(name)?;
        let secret = secret.expose().trim_ascii();
        let path = config.key.display();
        ensure!(
            secret.len() >= KEY_BYTES_MIN,
            "the webhook's key `{path}` is shorter than {KEY_BYTES_MIN} bytes"
        );
        let key = Arc::new(Key::new(secret));
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .max_redirects(0)
            .build();
        Ok(Self { agent: agent.into(), key, config, clock })
    }

    async fn keep_telling(self, views: Views) {
        let mut board = Board::new(self.config.link.clone(), self.config.advice);
        let mut patience = patience();
        let mut told_at: Option<Instant> = None;
        let mut warned = false;
        loop {
            let view = views.borrow().clone();
            if let Some(view) = view {
                board.look(&view.message(), self.clock.now());
            }
            let is_due = told_at.is_none_or(|at| at.elapsed() >= self.config.repeat);
            if !board.has_news() && (!is_due || board.is_empty()) {
                tokio::time::sleep(LOOK).await;
                continue;
            }
            let letter = board.letter();
            match self.post(&letter).await {
                Ok(()) => {
                    if warned {
                        tracing::info!(
                            url = self.config.url,
                            "a webhook takes alerts again"
                        );
                    }
                    board.was_taken(&letter);
                    (warned, told_at) = (false, Some(Instant::now()));
                    patience.reset();
                    tokio::time::sleep(LOOK).await;
                }
                Err(error) => {
                    if !warned {
                        let error = chain(&error);
                        tracing::warn!(error, "a webhook does not take alerts");
                    }
                    warned = true;
                    // It never gives up: what is so now is told when somebody listens.
                    tokio::time::sleep(patience.next_backoff().unwrap_or(AGAIN_MAX))
                        .await;
                }
            }
        }
    }

    /// Posts on a thread that serves nobody else.
    async fn post(&self, letter: &Letter) -> Result<(), NotTaken> {
        let body = letter.body();
        let signature = self.key.sign(self.clock.now(), &body);
        let (agent, url) = (self.agent.clone(), self.config.url.clone());
        let post = move || {
            let post = agent.post(&url);
            let post = post.header("Content-Type", "application/json");
            let sent = post.header(letter::SIGNATURE, &signature).send(&body[..]);
            sent.map(drop).map_err(|source| {
                let source = Box::new(source);
                NotTaken::Post { url, source }
            })
        };
        tokio::task::spawn_blocking(post).await?
    }
}

fn patience() -> ExponentialBackoff {
    ExponentialBackoffBuilder::new()
        .with_initial_interval(AGAIN_MIN)
        .with_max_interval(AGAIN_MAX)
        .with_max_elapsed_time(None)
        .build()
}
