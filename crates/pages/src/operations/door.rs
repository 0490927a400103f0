//! The door: whose requests are let in.
//!
//! # Invariants
//!
//! * The page answers under the names it is served under, and under no other that leads here.
//! * Nothing is changed by a form of another page.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// The names of this machine for itself.
const OURS: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Whose requests are let in.
#[derive(Clone, Debug)]
pub struct Door {
    hosts: Arc<[String]>,
    token: Arc<str>,
}

/// Why a form is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotAdmitted {
    /// Its page was made by another run of the program, or by somebody else.
    Token,
    /// It comes from another page.
    Origin,
}

impl NotAdmitted {
    /// Its text's name.
    pub(super) const fn text(self) -> &'static str {
        match self {
            Self::Token => "refused-token",
            Self::Origin => "refused-origin",
        }
    }
}

impl Door {
    /// Served under these names, and on this machine.
    pub fn new(hosts: Vec<String>) -> Self {
        let token = format!("{}{}", random_id(), random_id());
        Self { hosts: hosts.into(), token: token.into() }
    }

    /// What a form must know.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Whether a form with `token` is ours.
    pub(super) fn admits(
        &self,
        headers: &HeaderMap,
        token: &str,
    ) -> Result<(), NotAdmitted> {
        let text = |name| headers.get(name).and_then(|it| it.to_str().ok());
        let site = text("sec-fetch-site");
        if site.is_some_and(|site| site != "same-origin" && site != "none") {
            return Err(NotAdmitted::Origin);
        }
        if let Some(origin) = text("origin") {
            let host = origin.split_once("://").map_or(origin, |(_, host)| host);
            if !self.serves(host) {
                return Err(NotAdmitted::Origin);
            }
        }
        if equal(token.as_bytes(), self.token.as_bytes()) {
            Ok(())
        } else {
            Err(NotAdmitted::Token)
        }
    }

    fn serves(&self, host: &str) -> bool {
        let host = bare(host);
        OURS.contains(&host) || self.hosts.iter().any(|it| it == host)
    }
}

/// Lets in whoever names a host that is served here.
pub(super) async fn only_by_name(
    State(door): State<Door>,
    request: Request,
    next: Next,
) -> Response {
    let host = request.headers().get(header::HOST).and_then(|it| it.to_str().ok());
    let host = host.or_else(|| request.uri().authority().map(Authority::as_str));
    if host.is_some_and(|host| door.serves(host)) {
        return next.run(request).await;
    }
    let text = "this host name is not among `hosts` of [pages] in coordinator.toml\n";
    (StatusCode::MISDIRECTED_REQUEST, text).into_response()
}

/// 128 random bits in hexadecimal digits.
pub(super) fn random_id() -> String {
    let mut bytes = [0; 16];
    // A page without randomness takes no forms: nobody can guess what nobody has.
    if getrandom::fill(&mut bytes).is_err() {
        tracing::error!("the system has no random numbers; the page's forms are useless");
    }
    format!("{:032x}", u128::from_be_bytes(bytes))
}

/// The host without its port.
fn bare(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((bare, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => bare,
        Some(_) | None => host,
    }
}

/// Takes as long whichever byte differs.
fn equal(one: &[u8], other: &[u8]) -> bool {
    let pairs = one.iter().zip(other);
    let differ = pairs.fold(0, |differ, (one, other)| differ | (one ^ other));
    one.len() == other.len() && differ == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_of_another_page_changes_nothing() {
        let door = Door::new(vec!["tidegate.example.org".to_owned()]);
        let token = door.token().to_owned();
        let headers = |pairs: &[(&'static str, &'static str)]| -> HeaderMap {
            pairs
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
                .collect()
        };
        let check = |pairs: &[(&'static str, &'static str)], token: &str| {
            door.admits(&headers(pairs), token)
        };

        let ours = [("host", "localhost:7446"), ("origin", "http://localhost:7446")];
        let proxied =
            [("host", "127.0.0.1:7446"), ("origin", "https://tidegate.example.org")];
        let theirs = [("host", "localhost:7446"), ("origin", "https://evil.example")];
        assert_eq!(check(&ours, &token), Ok(()));
        assert_eq!(check(&proxied, &token), Ok(()));
        assert_eq!(check(&theirs, &token), Err(NotAdmitted::Origin));
        assert_eq!(
            check(&[("sec-fetch-site", "cross-site")], &token),
            Err(NotAdmitted::Origin)
        );
        assert_eq!(check(&ours, "guess"), Err(NotAdmitted::Token));
        assert_eq!(check(&ours, ""), Err(NotAdmitted::Token));
    }

    #[test]
    fn a_name_that_somebody_else_leads_here_is_not_answered() {
        let door = Door::new(vec!["tidegate.example.org".to_owned()]);

        let served = [
            "localhost:7446",
            "127.0.0.1",
            "[::1]:80",
            "tidegate.example.org",
            "evil.example:7446",
        ]
        .map(|host| door.serves(host));

        assert_eq!(served, [true, true, true, true, false]);
    }
}
