//! Patience: how long a call may take until its answer begins.
//!
//! # Invariants
//!
//! * Whoever says how long they wait (`grpc-timeout`) is answered before that is over.
//! * Whoever does not is answered all the same: nothing that hangs keeps a caller, or his place.
//! * What is given up is given up as a whole: what waits for the owner goes with it.

use std::convert::Infallible;
use std::time::Duration;

use tonic::body::Body;
use tonic::codegen::http;

use super::turnstile::refusal;
use crate::refused::Refused;

/// Until a usual call's answer begins: longer than the owner is waited for, so that it is said
/// where a call stayed.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);

/// An answer leaves so long before its caller stops listening; of very short times half.
const MARGIN: Duration = Duration::from_millis(50);

/// Where callers say how long they wait.
const HEADER: &str = "grpc-timeout";

/// More digits than this are no time that the protocol knows.
const DIGITS_MAX: usize = 8;

/// The end of the path of an upload of millions of rows, which has its own limits.
const UPLOAD: &str = "/Apply";

/// How long is waited, and what whoever called is told then.
pub(super) struct Patience {
    ours: Option<Duration>,
    theirs: Option<Duration>,
}

impl Patience {
    /// The patience with `request`.
    pub(super) fn with<B>(request: &http::Request<B>) -> Self {
        let uploads = request.uri().path().ends_with(UPLOAD);
        let theirs = request.headers().get(HEADER).and_then(|it| it.to_str().ok());
        Self {
            ours: (!uploads).then_some(ANSWER_TIME_MAX),
            theirs: theirs.and_then(time),
        }
    }

    /// The answer, or that it did not come in time.
    pub(super) async fn wait_for(
        self,
        answer: impl Future<Output = Result<http::Response<Body>, Infallible>>,
    ) -> Result<http::Response<Body>, Infallible> {
        match self.limit() {
            None => answer.await,
            Some((time, refused)) => {
                let answer = tokio::time::timeout(time, answer).await;
                answer.unwrap_or_else(|_| Ok(refusal(refused)))
            }
        }
    }

    /// The shorter of the two times, and what is said when it is over.
    fn limit(self) -> Option<(Duration, Refused)> {
        let theirs =
            self.theirs.map(|it| (it.saturating_sub(MARGIN.min(it / 2)), Refused::Late));
        let ours = self.ours.map(|it| (it, Refused::Busy));
        theirs.into_iter().chain(ours).min_by_key(|(time, _)| *time)
    }
}

/// A time as the protocol writes it: digits and a unit.
fn time(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > DIGITS_MAX || !digits.bytes().all(|it| it.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3_600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tonic::{Code, Status};

    use super::*;

    #[test]
    fn a_call_has_the_time_that_its_caller_gives_it_and_never_more_than_ours() {
        let cases = [
            ("Resume", None, Some((15_000, "busy"))),
            ("Resume", Some("500m"), Some((450, "deadline-over"))),
            ("Resume", Some("20m"), Some((10, "deadline-over"))),
            ("Resume", Some("1H"), Some((15_000, "busy"))),
            ("Resume", Some("soon"), Some((15_000, "busy"))),
            ("Resume", Some("123456789S"), Some((15_000, "busy"))),
            ("Apply", Some("5M"), Some((299_950, "deadline-over"))),
            ("Apply", None, None),
        ];
        for (method, says, expected) in cases {
            let limit = Patience::with(&request(method, says)).limit();

            let limit = limit.map(|(time, refused)| (time.as_millis(), refused.name()));
            assert_eq!(limit, expected, "{method} {says:?}");
        }
    }

    #[tokio::test]
    async fn whoever_waits_for_an_answer_that_never_comes_is_told_so() {
        let patience = Patience::with(&request("Resume", Some("20m")));

        let answer = patience.wait_for(pending()).await.unwrap();

        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(status.metadata().get("tidegate-code").unwrap(), "deadline-over");
    }

    #[test]
    fn times_are_read_as_the_protocol_writes_them() {
        let read: Vec<_> =
            ["2H", "3M", "4S", "5m", "6u", "7n", "", "S", "-1S", "1", "9x", "1é"]
                .map(|text| time(text).map(|it| it.as_nanos()))
                .into();

        let known =
            [7_200_000_000_000, 180_000_000_000, 4_000_000_000, 5_000_000, 6_000, 7];
        let known = known.map(Some).into_iter();
        assert_eq!(read, known.chain([None; 6]).collect::<Vec<_>>());
    }

    fn request(method: &str, says: Option<&str>) -> http::Request<()> {
        let path = format!("/tidegate.v1.Any/{method}");
        let request = http::Request::builder().uri(path);
        let request = says.into_iter().fold(request, |it, says| it.header(HEADER, says));
        request.body(()).unwrap()
    }
}
