//! The desk's page: a form, and what may be told.
//!
//! # Invariants
//!
//! * An address is sent in a form's body, never in a path that somebody logs.
//! * Nothing is shown before the agent has said that the caller was verified.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Form, Query, State};
use axum::http::{Extensions, HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use tidegate_wire::v1;
use tidegate_wire::v1::desk_service_server::DeskService;
use tidegate_wire::v1::operator_service_server::OperatorService;
use tidegate_wire::v1::progress_service_server::ProgressService;
use tonic::Status;

use super::board::Detail;
use super::{Look, Rooms, acts_as, call, code, language, shown};
use crate::desk::Answer;
use crate::texts::{Language, Texts};
use crate::visitor::Visitor;

/// The page.
#[derive(Template)]
#[template(path = "desk.html")]
struct Page<'a> {
    texts: &'a Texts,
    visitor: Visitor,
    token: &'a str,
    found: Option<Found>,
    refused: Option<Detail>,
}

/// What was found.
struct Found {
    pseudonym: String,
    own: Answer,
    italian: String,
    english: String,
    counted: String,
}

/// What the form sends.
#[derive(Deserialize)]
pub(super) struct Asked {
    token: String,
    #[serde(default)]
    by: String,
    ticket: String,
    address: String,
    #[serde(default)]
    verified: String,
    #[serde(default)]
    lang: String,
}

/// The empty form.
pub(super) async fn form<R: ProgressService, O: OperatorService, D: DeskService>(
    State(rooms): State<Arc<Rooms<R, O, D>>>,
    Query(query): Query<Look>,
    headers: HeaderMap,
    extensions: Extensions,
) -> Response {
    let texts = Texts::of(language(query.lang.as_deref(), &headers));
    rooms.desk_page(&texts, &extensions, (None, None))
}

/// The form with its answer.
pub(super) async fn look_up<R: ProgressService, O: OperatorService, D: DeskService>(
    State(rooms): State<Arc<Rooms<R, O, D>>>,
    headers: HeaderMap,
    extensions: Extensions,
    Form(asked): Form<Asked>,
) -> Response {
    let texts = match rooms.admitted(&headers, (&asked.lang, &asked.token)) {
        Ok(texts) => texts,
        Err(refused) => return *refused,
    };
    if asked.verified != "yes" {
        let refused = Detail::ours(texts.say("desk-verify-first"), &texts);
        return rooms.desk_page(&texts, &extensions, (None, Some(refused)));
    }
    match rooms.find(&texts, &extensions, asked).await {
        Ok(found) => rooms.desk_page(&texts, &extensions, (Some(found), None)),
        Err(status) => {
            let refused = Detail::of(code(&status), status.message(), &texts);
            rooms.desk_page(&texts, &extensions, (None, Some(refused)))
        }
    }
}

impl<R: ProgressService, O: OperatorService, D: DeskService> Rooms<R, O, D> {
    async fn find(
        &self,
        texts: &Texts,
        sender: &Extensions,
        asked: Asked,
    ) -> Result<Found, Status> {
        let by = acts_as(&(self.house.who_sent)(sender), &asked.by);
        let Asked { ticket, address, .. } = asked;
        let message = v1::LookUpRequest { address, ticket, by };
        let found = self.house.desk.look_up(call(sender, message)).await?.into_inner();
        let rollout = call(sender, v1::GetRolloutRequest {});
        let rollout = self.house.readers.get_rollout(rollout).await?.into_inner();
        let said = |language| Answer::of(&found, &rollout, &Texts::of(language)).say;
        let asked = [
            ("asked", &*found.asked.to_string()),
            ("max", &*found.asked_max.to_string()),
        ];
        Ok(Found {
            own: Answer::of(&found, &rollout, texts),
            italian: said(Language::Italian),
            english: said(Language::English),
            counted: texts.say_with("desk-logged", &asked),
            pseudonym: found.pseudonym.clone(),
        })
    }

    fn desk_page(
        &self,
        texts: &Texts,
        sender: &Extensions,
        (found, refused): (Option<Found>, Option<Detail>),
    ) -> Response {
        let code = if refused.is_some() { StatusCode::CONFLICT } else { StatusCode::OK };
        let visitor = (self.house.who_sent)(sender);
        let token = self.house.door.token();
        shown(&Page { texts, visitor, token, found, refused }, code)
    }
}
