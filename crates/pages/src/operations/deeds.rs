//! Deeds: what else is done from the operations page: freezing, putting parts back, giving leave.
//!
//! # Invariants
//!
//! * Every deed goes through the operators' contract, in the name of whoever sent the form.
//! * A part is one that the page has shown; an address is never in a form.

use std::sync::Arc;

use axum::extract::{Form, State};
use axum::http::{Extensions, HeaderMap};
use axum::response::Response;
use tidegate_wire::v1;
use tidegate_wire::v1::approve_request::What;
use tidegate_wire::v1::desk_service_server::DeskService;
use tidegate_wire::v1::operator_service_server::OperatorService;
use tidegate_wire::v1::progress_service_server::ProgressService;
use tidegate_wire::v1::scope::Part;

use super::board::Detail;
use super::{Asked, Rooms, acts_as, call, short};

pub(super) async fn freeze<R: ProgressService, O: OperatorService, D: DeskService>(
    State(rooms): State<Arc<Rooms<R, O, D>>>,
    headers: HeaderMap,
    extensions: Extensions,
    Form(asked): Form<Asked>,
) -> Response {
    let texts = match rooms.admitted(&headers, (&asked.lang, &asked.token)) {
        Ok(texts) => texts,
        Err(refused) => return *refused,
    };
    let message = v1::FreezeRequest {
        by: acts_as(&(rooms.house.who_sent)(&extensions), &asked.by),
        reason: short(&asked.reason),
        request_id: asked.request_id,
    };
    let answer = rooms.house.operators.freeze(call(&extensions, message)).await;
    rooms.answered(&texts, &extensions, answer.map(drop), "frozen").await
}

pub(super) async fn reclose<R: ProgressService, O: OperatorService, D: DeskService>(
    State(rooms): State<Arc<Rooms<R, O, D>>>,
    headers: HeaderMap,
    extensions: Extensions,
    Form(asked): Form<Asked>,
) -> Response {
    let texts = match rooms.admitted(&headers, (&asked.lang, &asked.token)) {
        Ok(texts) => texts,
        Err(refused) => return *refused,
    };
    let message = v1::RecloseRequest {
        by: acts_as(&(rooms.house.who_sent)(&extensions), &asked.by),
        reason: short(&asked.reason),
        scope: part(&asked.what),
        request_id: asked.request_id,
        etag: asked.etag,
    };
    let answer = rooms.house.operators.reclose(call(&extensions, message)).await;
    rooms.answered(&texts, &extensions, answer.map(drop), "reclosed").await
}

pub(super) async fn approve<R: ProgressService, O: OperatorService, D: DeskService>(
    State(rooms): State<Arc<Rooms<R, O, D>>>,
    headers: HeaderMap,
    extensions: Extensions,
    Form(asked): Form<Asked>,
) -> Response {
    let texts = match rooms.admitted(&headers, (&asked.lang, &asked.token)) {
        Ok(texts) => texts,
        Err(refused) => return *refused,
    };
    // Each that waits is approved on what speaks against it, which stands before it.
    let chosen = asked.what.split_once(' ');
    let chosen = chosen.and_then(|(evidence, what)| Some((evidence, leave(what)?)));
    let Some((evidence, what)) = chosen else {
        let unchosen = Detail::ours(texts.say("approve-unchosen"), &texts);
        return rooms.page(&texts, &extensions, (None, Some(unchosen))).await;
    };
    let message = v1::ApproveRequest {
        by: acts_as(&(rooms.house.who_sent)(&extensions), &asked.by),
        reason: short(&asked.reason),
        what: Some(what),
        etag: asked.etag,
        evidence: evidence.to_owned(),
        valid_seconds: 0,
    };
    let answer = rooms.house.operators.approve(call(&extensions, message)).await;
    rooms.answered(&texts, &extensions, answer.map(drop), "approved").await
}

/// The part of a rollout that `wave NAME` or `node NAME` means.
fn part(text: &str) -> Option<v1::Scope> {
    let part = match text.split_once(' ')? {
        ("wave", name) => Part::Wave(name.to_owned()),
        ("node", name) => Part::Node(name.to_owned()),
        (_, _) => return None,
    };
    Some(v1::Scope { part: Some(part) })
}

/// What leave is given for, as it waits: `apply PLAN`, `resume`, `resume wave NAME`,
/// `accept NODE`, `expand WAVE`, `emergency --lasts 60 --wave NAME`.
fn leave(waits: &str) -> Option<What> {
    match waits.split_once(' ') {
        None if waits == "resume" => {
            Some(What::Resume(v1::ApproveResume { scope: None }))
        }
        Some(("resume", named)) => {
            let scope = Some(part(named)?);
            Some(What::Resume(v1::ApproveResume { scope }))
        }
        Some(("apply", plan)) => Some(What::Apply(plan.to_owned())),
        Some(("accept", node)) => Some(What::Accept(node.to_owned())),
        Some(("expand", wave)) => Some(What::Expand(wave.to_owned())),
        Some(("emergency", which)) => {
            let lasts = which.strip_prefix("--lasts ")?;
            let (lasts, wave) = lasts.split_once(" --wave ").unwrap_or((lasts, ""));
            let lasts_seconds = lasts.parse::<u32>().ok()?.checked_mul(60)?;
            let wave = wave.to_owned();
            Some(What::Emergency(v1::ApproveEmergency { wave, lasts_seconds }))
        }
        None | Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_understood_and_nothing_else_is() {
        let wave = v1::Scope { part: Some(Part::Wave("rest 1".to_owned())) };
        let resumed = |scope| Some(What::Resume(v1::ApproveResume { scope }));

        assert_eq!(leave("resume"), resumed(None));
        assert_eq!(leave("resume wave rest 1"), resumed(Some(wave)));
        assert_eq!(leave("apply 12ab"), Some(What::Apply("12ab".to_owned())));
        assert_eq!(leave("accept stor-01"), Some(What::Accept("stor-01".to_owned())));
        assert_eq!(leave("expand rest 1"), Some(What::Expand("rest 1".to_owned())));
        let emergency = |wave: &str| {
            let (wave, lasts_seconds) = (wave.to_owned(), 3_600);
            Some(What::Emergency(v1::ApproveEmergency { wave, lasts_seconds }))
        };
        assert_eq!(leave("emergency --lasts 60"), emergency(""));
        assert_eq!(leave("emergency --lasts 60 --wave rest 1"), emergency("rest 1"));
        for other in [
            "",
            "apply",
            "emergency --lasts x",
            "resume mailbox a@b",
            "resume one mailbox",
        ] {
            assert_eq!(leave(other), None, "{other}");
        }
    }
}
