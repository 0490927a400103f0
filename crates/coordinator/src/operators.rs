//! Serves operators: apply a plan, pause, resume, abort, reclose.
//!
//! # Invariants
//!
//! * What is applied is the very plan that the operator saw, or nothing.
//! * One upload at a time; nothing of a refused one is kept.
//! * Whoever shows a certificate acts under its name, whatever name they give.
//! * Stopping needs no reason; everything else says why.

use std::sync::Arc;
use std::time::Duration;

use tidegate_core::inventory::{Clash, Digest, Inventory, InventoryBuilder, Row};
use tidegate_core::plan;
use tidegate_core::rollout::{Approval, Etag, Refusal, RequestId};
use tidegate_core::time::Span;
use tidegate_wire::limits::{
    BAD_ROWS_SHOWN_MAX, INVENTORY_ROWS_PER_MESSAGE, POLICY_BYTES_MAX,
};
use tidegate_wire::protocol::{
    ProtocolError, by_and_reason, digest, etag, grounds, request_id,
};
use tidegate_wire::scope::ScopeName;
use tidegate_wire::v1::approve_request::What;
use tidegate_wire::v1::operator_service_server::OperatorService;
use tidegate_wire::{policy_file, v1};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use crate::auditing::{Audit, Effect};
use crate::caller::Caller;
use crate::identity::Identity;
use crate::owner::{
    Applied, Assent, EmergencyName, Inbox, Intent, Named, NamedVerb, Proposal, Views,
};
use crate::refused::{Refused, chain};

/// What errors call the policy that came in.
const POLICY_NAME: &str = "policy";

/// An upload that pauses for longer has been left; others want its place.
const PART_WAIT_MAX: Duration = Duration::from_secs(30);

/// Serves the operators' contract.
pub struct Operators {
    inbox: Inbox,
    views: Views,
    audit: Audit,
    identity: Identity,
    /// The place for the one upload.
    upload: Semaphore,
}

impl Operators {
    /// The service that hands everything to `inbox`.
    pub(crate) fn new(inbox: Inbox, views: Views, audit: Audit) -> Self {
        let identity = Identity::none();
        Self { inbox, views, audit, identity, upload: Semaphore::new(1) }
    }

    /// The same in the data directory that is told apart so.
    pub(crate) fn of(self, identity: Identity) -> Self {
        Self { identity, ..self }
    }

    async fn act(
        &self,
        who: Who,
        verb: NamedVerb,
    ) -> Result<Response<v1::ActionResponse>, Status> {
        self.act_without(who, verb, Vec::new()).await
    }

    async fn act_without(
        &self,
        who: Who,
        verb: NamedVerb,
        without: Vec<String>,
    ) -> Result<Response<v1::ActionResponse>, Status> {
        let Who { caller, by, reason, request, seen } = who;
        let needs_second = caller.needs_second();
        let (call, effect, about) = self.on_record(&verb);
        let about = self.because(about, &reason);
        let intent = Intent { by, reason, verb, request, seen, without, needs_second };
        let act = async { Ok(self.inbox.operate(intent).await?) };
        let answer = self.audit.around(&caller, (call, &about), effect, act).await?;
        self.inbox.origin.note(answer.orders_version);
        Ok(Response::new(v1::ActionResponse {
            orders_version: answer.orders_version,
            etag: answer.etag.to_string(),
        }))
    }

    /// What a verb is called on the audit log, what it does, and to what.
    fn on_record(&self, verb: &NamedVerb) -> (&'static str, Effect, String) {
        let scope = |scope: &ScopeName| match scope {
            ScopeName::Wave(name) => format!("wave {name}"),
            ScopeName::Node(name) => format!("node {name}"),
            ScopeName::Mailbox(address) => self.audit.pseudonym(address),
        };
        match verb {
            NamedVerb::Pause => ("pause", Effect::Stops, String::new()),
            NamedVerb::Freeze => ("freeze", Effect::Stops, String::new()),
            NamedVerb::Thaw => ("thaw", Effect::Other, String::new()),
            NamedVerb::Abort => ("abort", Effect::Stops, String::new()),
            NamedVerb::Reclose(it) => ("reclose", Effect::Stops, scope(it)),
            NamedVerb::Retry(address) => {
                ("retry", Effect::Other, self.audit.pseudonym(address))
            }
            NamedVerb::Resume(None) => ("resume", Effect::Other, String::new()),
            NamedVerb::Resume(Some(it)) => ("resume", Effect::Other, scope(it)),
            NamedVerb::Accept(node) => ("accept", Effect::Other, format!("node {node}")),
            NamedVerb::Expand(wave) => ("expand", Effect::Other, format!("wave {wave}")),
            NamedVerb::BeginEmergency(it) => {
                ("begin-emergency", Effect::Other, it.to_string())
            }
            NamedVerb::EndEmergency => ("end-emergency", Effect::Other, String::new()),
        }
    }

    /// The same with what somebody says about it; an address in it becomes a pseudonym.
    fn because(&self, about: String, reason: &str) -> String {
        if reason.is_empty() {
            return about;
        }
        let word = |word: &str| {
            if !word.contains('@') {
                return word.to_owned();
            }
            let is_beside = |it: char| !it.is_alphanumeric();
            self.audit.pseudonym(word.trim_matches(is_beside))
        };
        let words: Vec<String> = reason.split(' ').map(word).collect();
        let space = if about.is_empty() { "" } else { " " };
        format!("{about}{space}because: {}", words.join(" "))
    }

    /// Answers before the upload what would be answered after it.
    fn answer_early(&self, header: &Header) -> Result<Option<Applied>, Refused> {
        let view = self.views.borrow();
        let Some(view) = view.as_ref() else {
            let here = self.identity.seen(None);
            let fits = header.saved_for.as_ref().is_none_or(|seen| *seen == here);
            return if fits { Ok(None) } else { Err(Refused::SavedElsewhere) };
        };
        let ours = view.plan().digest();
        let at = view.started_at();
        if ours != header.seen {
            return Err(match header.saved_for {
                Some(_) => Refused::Overtook { ours, at },
                None => Refused::AnotherPlan { ours },
            });
        }
        if let Some(request) = &header.request
            && view.applied_under() == Some(request)
        {
            if view.was_rebuilt() == header.rebuild.is_some() {
                return Ok(Some(Applied::of(view.plan())));
            }
            return Err(Refusal::RequestReused { request: request.clone() }.into());
        }
        Err(match header.saved_for {
            Some(_) => Refused::Spent { at },
            None => Refused::AppliedBefore { at },
        })
    }
}

#[tonic::async_trait]
impl OperatorService for Operators {
    async fn apply(
        &self,
        request: Request<Streaming<v1::ApplyRequest>>,
    ) -> Result<Response<v1::ApplyResponse>, Status> {
        let _place = self.upload.try_acquire().map_err(|_| Refused::ApplyUnderWay)?;
        let caller = Caller::of(&request);
        let mut parts = request.into_inner();
        let header = Header::receive(&caller, &mut parts).await?;
        let call = if header.rebuild.is_some() { "rebuild" } else { "apply" };
        let about = format!("plan {}", header.seen);
        let act = async {
            if let Some(applied) = self.answer_early(&header)? {
                return Ok(applied);
            }
            let builder = receive_rows(&mut parts).await?;
            let planned =
                tokio::task::spawn_blocking(move || plan_again(header, builder));
            let proposal = planned.await.map_err(|_| Refused::Stopping)??;
            Ok(self.inbox.apply(proposal).await?)
        };
        let applied =
            self.audit.around(&caller, (call, &about), Effect::Other, act).await?;
        Ok(Response::new(told(applied)))
    }

    async fn pause(
        &self,
        request: Request<v1::PauseRequest>,
    ) -> Result<Response<v1::ActionResponse>, Status> {
        let caller = Caller::of(&request);
        let v1::PauseRequest { by, reason, request_id, without } = request.into_inner();
        check_without(&without)?;
        // Stopping is right however the rollout stands, so nobody says what they saw.
        let who = Who::of((&caller, by), &reason, (&request_id, ""))?;
        self.act_without(who, NamedVerb::Pause, without).await
    }

    async fn freeze(
        &self,
        request: Request<v1::FreezeRequest>,
    ) -> Result<Response<v1::ActionResponse>, Status> {
        let caller = Caller::of(&request);
        let v1::FreezeRequest { by, reason, request_id } = request.into_inner();
        // Stopping is right however the rollout stands, so nobody says what they saw.
        let who = Who::of((&caller, by), &reason, (&request_id, ""))?;
        self.act(who, NamedVerb::Freeze).await
    }

    async fn thaw(
        &self,
        request: Request<v1::ThawRequest>,
    ) -> Result<Response<v1::ActionResponse>, Status> {
        let caller = Caller::of(&request);
        let v1::ThawRequest { by, reason, request_id, etag } = request.into_inner();
        let who = Who::of((&caller, by), &reason, (&request_id, &etag))?;
        self.act(who, NamedVerb::Thaw).await
    }

    async fn resume(
        &self,
        request: Request<v1::ResumeRequest>,
    ) -> Result<Response<v1::ActionResponse>, Status> {
        let caller = Caller::of(&request);
        let v1::ResumeRequest { by, reason, scope, request_id, etag, without } =
            request.into_inner();
        check_without(&without)?;
        let scope = scope.map(ScopeName::try_from).transpose()?;
        let who = Who::of((&caller, by), &reason, (&request_id, &etag))?;
        self.act_without(who, NamedVerb::Resume(scope), without).await
    }

    async fn abort(
        &self,
        request: Request<v1::AbortRequest>,
    ) -> Result<Response<v1::ActionResponse>, Status> {
        let caller = Caller::of(&request);
        let v1::AbortRequest { by, reason, request_id, etag } = request.into_inner();
        let who = Who::of((&caller, by), &reason, (&request_id, &etag))?;
        self.act(who, NamedVerb::Abort).await
    }

    async fn reclose(
        &self,
        request: Request<v1::RecloseRequest>,
    ) -> Result<Response<v1::ActionResponse>, Status> {
        let caller = Caller::of(&request);
        let v1::RecloseRequest { by, reason, scope, request_id, etag } =
            request.into_inner();
        let scope = scope.ok_or(ProtocolError::Missing { field: "scope" })?;
        let verb = NamedVerb::Reclose(scope.try_into()?);
        self.act(Who::of((&caller, by), &reason, (&request_id, &etag))?, verb).await
    }

    async fn retry(
        &self,
        request: Request<v1::RetryRequest>,
    ) -> Result<Response<v1::ActionResponse>, Status> {
        let caller = Caller::of(&request);
        let v1::RetryRequest { by, reason, address, request_id, etag } =
            request.into_inner();
        let who = Who::of((&caller, by), &reason, (&request_id, &etag))?;
        self.act(who, NamedVerb::Retry(address)).await
    }

    async fn accept(
        &self,
        request: Request<v1::AcceptRequest>,
    ) -> Result<Response<v1::ActionResponse>, Status> {
        let caller = Caller::of(&request);
        let v1::AcceptRequest { by, reason, node, request_id, etag } =
            request.into_inner();
        let who = Who::of((&caller, by), &reason, (&request_id, &etag))?;
        self.act(who, NamedVerb::Accept(node)).await
    }

    async fn expand(
        &self,
        request: Request<v1::ExpandRequest>,
    ) -> Result<Response<v1::ActionResponse>, Status> {
        let caller = Caller::of(&request);
        let v1::ExpandRequest { by, reason, wave, request_id, etag } =
            request.into_inner();
        let who = Who::of((&caller, by), &reason, (&request_id, &etag))?;
        self.act(who, NamedVerb::Expand(wave)).await
    }

    async fn begin_emergency(
        &self,
        request: Request<v1::BeginEmergencyRequest>,
    ) -> Result<Response<v1::ActionResponse>, Status> {
        let caller = Caller::of(&request);
        let v1::BeginEmergencyRequest {
            by,
            reason,
            wave,
            lasts_seconds,
            request_id,
            etag,
        } = request.into_inner();
        let who = Who::of((&caller, by), &reason, (&request_id, &etag))?;
        let name = emergency(wave, lasts_seconds)?;
        self.act(who, NamedVerb::BeginEmergency(name)).await
    }

    async fn end_emergency(
        &self,
        request: Request<v1::EndEmergencyRequest>,
    ) -> Result<Response<v1::ActionResponse>, Status> {
        let caller = Caller::of(&request);
        let v1::EndEmergencyRequest { by, reason, request_id } = request.into_inner();
        // Going back to the usual gates is right however the rollout stands.
        let who = Who::of((&caller, by), &reason, (&request_id, ""))?;
        self.act(who, NamedVerb::EndEmergency).await
    }

    async fn approve(
        &self,
        request: Request<v1::ApproveRequest>,
    ) -> Result<Response<v1::ApproveResponse>, Status> {
        let caller = Caller::of(&request);
        let v1::ApproveRequest { by, reason, what, etag: seen, valid_seconds, evidence } =
            request.into_inner();
        let (by, reason) = by_and_reason(&caller.acts_as(by), &reason)?;
        let what = match what.ok_or(ProtocolError::Missing { field: "what" })? {
            What::Apply(plan) => Named::Apply(digest("apply", &plan)?),
            What::Resume(v1::ApproveResume { scope }) => {
                let scope = scope.map(ScopeName::try_from).transpose()?;
                Named::Verb(NamedVerb::Resume(scope))
            }
            What::Accept(node) => Named::Verb(NamedVerb::Accept(node)),
            What::Expand(wave) => Named::Verb(NamedVerb::Expand(wave)),
            What::Emergency(v1::ApproveEmergency { wave, lasts_seconds }) => {
                let name = emergency(wave, lasts_seconds)?;
                Named::Verb(NamedVerb::BeginEmergency(name))
            }
        };
        let (seen, grounds) = (etag(&seen)?, grounds(&evidence)?);
        if matches!(what, Named::Verb(_)) {
            let missing = |field| ProtocolError::Missing { field };
            seen.ok_or_else(|| missing("etag"))?;
            grounds.ok_or_else(|| missing("evidence"))?;
        }
        let lasts =
            (valid_seconds > 0).then(|| Span::from_secs(u64::from(valid_seconds)));
        let about = match &what {
            Named::Apply(plan) => format!("apply plan {plan}"),
            Named::Verb(verb) => {
                let (call, _, about) = self.on_record(verb);
                let space = if about.is_empty() { "" } else { " " };
                format!("{call} {about}{space}on evidence {evidence}")
            }
        };
        let about = match valid_seconds {
            0 => about,
            seconds => format!("{about} for {seconds} s"),
        };
        let about = self.because(about, &reason);
        let approval = Approval { by, reason };
        let assent = Assent { approval, what, seen, grounds, lasts };
        let act = async { Ok(self.inbox.approve(assent).await?) };
        let call = ("approve", &*about);
        let lasts = self.audit.around(&caller, call, Effect::Other, act).await?;
        let valid_seconds = u32::try_from(lasts.millis() / 1_000).unwrap_or(u32::MAX);
        Ok(Response::new(v1::ApproveResponse { valid_seconds }))
    }
}

/// The emergency for `wave`, or for all if it is empty. Of whole minutes, so that the line
/// that an approver types means the same.
fn emergency(wave: String, lasts_seconds: u32) -> Result<EmergencyName, ProtocolError> {
    if !lasts_seconds.is_multiple_of(60) {
        let lasts = lasts_seconds.to_string();
        return Err(ProtocolError::invalid("lasts_seconds", &lasts));
    }
    let lasts = Span::from_secs(u64::from(lasts_seconds));
    Ok(EmergencyName { wave: Some(wave).filter(|it| !it.is_empty()), lasts })
}

/// The most nodes that a rebuild does not wait for: a fleet of which more are missing is
/// not rebuilt but repaired.
const WITHOUT_MAX: usize = 1_024;

fn check_without(without: &[String]) -> Result<(), ProtocolError> {
    if without.len() > WITHOUT_MAX {
        let (field, length, max) = ("without", without.len(), WITHOUT_MAX);
        return Err(ProtocolError::TooLong { field, length, max });
    }
    Ok(())
}

/// Who wants something, why, under which request, and what they knew of.
struct Who {
    caller: Caller,
    by: String,
    reason: String,
    request: Option<RequestId>,
    seen: Option<Etag>,
}

impl Who {
    fn of(
        (caller, by): (&Caller, String),
        reason: &str,
        (request, seen): (&str, &str),
    ) -> Result<Self, ProtocolError> {
        let (by, reason) = by_and_reason(&caller.acts_as(by), reason)?;
        let (request, seen) = (request_id(request)?, etag(seen)?);
        Ok(Self { caller: caller.clone(), by, reason, request, seen })
    }
}

/// What is told of a plan that is being carried out.
fn told(applied: Applied) -> v1::ApplyResponse {
    v1::ApplyResponse {
        plan_digest: applied.plan.to_string(),
        mailboxes: applied.mailboxes,
        waves: applied.waves,
    }
}

/// An upload's first part, checked.
struct Header {
    needs_second: bool,
    rebuild: Option<String>,
    request: Option<RequestId>,
    by: String,
    seen: Digest,
    /// How the data directory stood when the plan was saved; nothing if it was not.
    saved_for: Option<String>,
    policy_toml: String,
}

impl Header {
    async fn receive(
        caller: &Caller,
        parts: &mut Streaming<v1::ApplyRequest>,
    ) -> Result<Self, Status> {
        let first = next_part(parts).await?.and_then(|request| request.part);
        let Some(v1::apply_request::Part::Header(header)) = first else {
            return Err(ProtocolError::Missing { field: "header" }.into());
        };
        let by = caller.acts_as(header.by);
        let (by, reason) = by_and_reason(&by, &header.reason)?;
        if header.rebuild && reason.is_empty() {
            return Err(Refused::from(Refusal::ReasonMissing).into());
        }
        let rebuild = header.rebuild.then_some(reason);
        if header.policy_toml.len() > POLICY_BYTES_MAX {
            let length = header.policy_toml.len();
            let (field, max) = ("policy_toml", POLICY_BYTES_MAX);
            return Err(ProtocolError::TooLong { field, length, max }.into());
        }
        let seen = digest("plan_digest", &header.plan_digest)?;
        let request = request_id(&header.request_id)?;
        let needs_second = caller.needs_second();
        let policy_toml = header.policy_toml;
        let saved_for = Some(header.seen).filter(|it| !it.is_empty());
        Ok(Self { needs_second, rebuild, request, by, seen, saved_for, policy_toml })
    }
}

/// The next part of an upload, or the end of it.
async fn next_part(
    parts: &mut Streaming<v1::ApplyRequest>,
) -> Result<Option<v1::ApplyRequest>, Status> {
    match tokio::time::timeout(PART_WAIT_MAX, parts.message()).await {
        Ok(part) => part,
        Err(_) => Err(Refused::UploadStalled { waited: PART_WAIT_MAX }.into()),
    }
}

/// All rows, or which of them cannot be part of an inventory.
async fn receive_rows(
    parts: &mut Streaming<v1::ApplyRequest>,
) -> Result<InventoryBuilder, Status> {
    let mut builder = InventoryBuilder::new();
    let mut bad = BadRows::default();
    let mut row_number: u64 = 0;
    while let Some(request) = next_part(parts).await? {
        let Some(v1::apply_request::Part::Rows(rows)) = request.part else {
            return Err(ProtocolError::Missing { field: "rows" }.into());
        };
        if rows.rows.len() > INVENTORY_ROWS_PER_MESSAGE {
            let (length, max) = (rows.rows.len(), INVENTORY_ROWS_PER_MESSAGE);
            return Err(ProtocolError::TooLong { field: "rows", length, max }.into());
        }
        for row in &rows.rows {
            row_number += 1;
            if let Err(error) = push(&mut builder, row) {
                bad.add(row_number, &error.to_string());
            }
        }
    }
    bad.refuse()?;
    Ok(builder)
}

/// The inventory of all rows, or which of them cannot be together.
fn inventory_of(builder: InventoryBuilder) -> Result<Inventory, Refused> {
    builder.finish().map_err(|clashes| {
        let mut bad = BadRows::default();
        for Clash { row, error } in clashes.iter() {
            bad.add(u64::from(*row) + 1, &error.to_string());
        }
        bad.refused()
    })
}

fn push(
    builder: &mut InventoryBuilder,
    row: &v1::InventoryRow,
) -> Result<(), tidegate_core::inventory::RowError> {
    let mut labels: Vec<(&str, &str)> =
        row.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    labels.sort_unstable();
    builder.push(Row {
        address: &row.address,
        node: &row.node,
        tier: &row.tier,
        path: &row.path,
        labels: &labels,
    })
}

/// Rows that cannot be taken: the first of them word for word, all of them counted.
#[derive(Default)]
struct BadRows {
    shown: Vec<String>,
    count: usize,
}

impl BadRows {
    fn add(&mut self, row: u64, why: &str) {
        self.count += 1;
        if self.shown.len() < BAD_ROWS_SHOWN_MAX {
            self.shown.push(format!("row {row}: {why}"));
        }
    }

    fn refuse(self) -> Result<(), Refused> {
        if self.count == 0 { Ok(()) } else { Err(self.refused()) }
    }

    fn refused(self) -> Refused {
        let more = match self.count - self.shown.len() {
            0 => String::new(),
            more => format!("\nand {more} more"),
        };
        let text = format!(
            "{} rows of the inventory cannot be taken; nothing was applied\n{}{more}",
            self.count,
            self.shown.join("\n")
        );
        Refused::Wrong { code: "bad-rows", text }
    }
}

/// Plans what came in and compares it with what the operator saw.
fn plan_again(header: Header, builder: InventoryBuilder) -> Result<Proposal, Refused> {
    let Header { needs_second, rebuild, request, by, seen, policy_toml, .. } = header;
    let policy = policy_file::parse(POLICY_NAME, &policy_toml)
        .map_err(|error| wrong("bad-policy", &error))?;
    let inventory = inventory_of(builder)?;
    let plan = plan::plan(&Arc::new(inventory), &Arc::new(policy))
        .map_err(|refusal| wrong("no-plan-possible", &refusal))?;
    let found = plan.digest();
    if found != seen {
        return Err(Refused::Stale { seen, found });
    }
    Ok(Proposal { by, plan: Arc::new(plan), policy_toml, request, rebuild, needs_second })
}

fn wrong(code: &'static str, error: &dyn std::error::Error) -> Refused {
    Refused::Wrong { code, text: chain(error) }
}
