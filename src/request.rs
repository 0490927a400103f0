//! Requests: a verb is sent again, under one id, until it is known what became of it.
//!
//! # Invariants
//!
//! * Only a request with an id is sent again; the coordinator does it once.
//! * What the coordinator has refused is never sent again by itself, unless it had no room.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use backoff::backoff::Backoff as _;
use backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use tonic::{Code, Response, Status};

use crate::console;

/// How long it is asked what became of a verb: a coordinator that restarts is back by then.
const PATIENCE: Duration = Duration::from_secs(20);

/// How soon it is asked again, at first and at most.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// An id that no other request has: 128 bits of the kernel's randomness.
pub(crate) fn fresh_id() -> String {
    let half = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", half(), half())
}

/// Asks until there is an answer or a refusal.
///
/// # Errors
///
/// The refusal, or what came last when patience has run out: then it is not known whether
/// it was done.
pub(crate) async fn until_known<T>(
    ask: impl AsyncFnMut() -> Result<Response<T>, Status>,
) -> Result<T, Status> {
    let patience = ExponentialBackoffBuilder::new()
        .with_initial_interval(PAUSE_MIN)
        .with_max_interval(PAUSE_MAX)
        .with_max_elapsed_time(Some(PATIENCE))
        .build();
    ask_with(patience, ask).await
}

/// Asks until there is room, and gives whatever else is answered.
///
/// # Errors
///
/// The refusal.
pub(crate) async fn until_there_is_room<T>(
    mut ask: impl AsyncFnMut() -> Result<Response<T>, Status>,
) -> Result<Response<T>, Status> {
    let mut patience = ExponentialBackoffBuilder::new()
        .with_initial_interval(PAUSE_MIN)
        .with_max_interval(PAUSE_MAX)
        .with_max_elapsed_time(Some(PATIENCE))
        .build();
    loop {
        let answer = ask().await;
        let is_full = |status: &Status| status.code() == Code::ResourceExhausted;
        let pause =
            patience.next_backoff().filter(|_| answer.as_ref().is_err_and(is_full));
        let Some(pause) = pause else { return answer };
        tokio::time::sleep(pause).await;
    }
}

async fn ask_with<T>(
    mut patience: ExponentialBackoff,
    mut ask: impl AsyncFnMut() -> Result<Response<T>, Status>,
) -> Result<T, Status> {
    let mut told = false;
    loop {
        let status = match ask().await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) => status,
        };
        let is_full = status.code() == Code::ResourceExhausted;
        let asks_again = is_full || is_unknown(&status);
        let pause = patience.next_backoff().filter(|_| asks_again);
        let Some(pause) = pause else { return Err(status) };
        if !told && is_full {
            console::tell("the coordinator has too much to do; asking again");
        } else if !told {
            console::tell("no answer; asking again, under the same request id");
        }
        told = true;
        tokio::time::sleep(pause).await;
    }
}

/// Whether it is not known what became of a request.
pub(crate) fn is_unknown(status: &Status) -> bool {
    let code = status.metadata().get("tidegate-code");
    match (code.and_then(|code| code.to_str().ok()), status.code()) {
        (Some(code), _) => ["busy", "stopping"].contains(&code),
        // What the coordinator has not said itself comes from the network.
        (None, code) => [
            Code::Unavailable,
            Code::DeadlineExceeded,
            Code::Cancelled,
            Code::Unknown,
            Code::Internal,
        ]
        .contains(&code),
    }
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataValue;

    use super::*;

    fn patience(limit: Duration) -> ExponentialBackoff {
        ExponentialBackoffBuilder::new()
            .with_initial_interval(Duration::from_millis(1))
            .with_max_elapsed_time(Some(limit))
            .build()
    }

    #[tokio::test]
    async fn a_verb_without_an_answer_is_sent_again_until_there_is_one() {
        let mut asked = 0;

        let answer = ask_with(patience(PATIENCE), async || {
            asked += 1;
            if asked < 4 {
                Err(Status::unavailable("gone"))
            } else {
                Ok(Response::new(7))
            }
        });

        assert_eq!(answer.await.ok(), Some(7));
        assert_eq!(asked, 4);
    }

    #[tokio::test]
    async fn a_refusal_is_final_and_patience_ends() {
        let mut asked = 0;

        let refused = ask_with::<()>(patience(PATIENCE), async || {
            asked += 1;
            let mut status = Status::aborted("somebody was first");
            let code = MetadataValue::from_static("conflict");
            status.metadata_mut().insert("tidegate-code", code);
            Err(status)
        });
        assert_eq!(refused.await.unwrap_err().code(), Code::Aborted);
        let lost = ask_with::<()>(patience(Duration::ZERO), async || {
            Err(Status::unknown("cut"))
        });

        assert_eq!(asked, 1);
        assert_eq!(lost.await.unwrap_err().code(), Code::Unknown);
    }

    #[tokio::test]
    async fn whoever_finds_no_room_asks_again_until_there_is_some() {
        let mut asked = 0;

        let answer = ask_with(patience(PATIENCE), async || {
            asked += 1;
            if asked < 3 {
                Err(Status::resource_exhausted("64 stops wait already"))
            } else {
                Ok(Response::new(7))
            }
        });

        assert_eq!(answer.await.ok(), Some(7));
        assert_eq!(asked, 3);
    }

    #[test]
    fn no_two_ids_are_equal() {
        assert_ne!(fresh_id(), fresh_id());
        assert_eq!(fresh_id().len(), 32);
    }
}
