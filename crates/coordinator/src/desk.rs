//! Serves the support desk: how one mailbox is, as far as its user may be told.
//!
//! # Invariants
//!
//! * Every question is counted for who asks it, and logged under a pseudonym, before it is
//!   answered.
//! * An address that is not part of the rollout, or stays held, is answered in the same shape and
//!   after the same time as any other; nothing is asked of the owner for it, or for any.
//! * No error repeats an address.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_core::fleet::MailboxNumber;
use tidegate_core::mailbox::Preparation;
use tidegate_core::rollout::RungStatus;
use tidegate_wire::protocol::{by_and_reason, timestamp};
use tidegate_wire::v1;
use tidegate_wire::v1::desk_service_server::DeskService;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::auditing::Audit;
use crate::caller::Caller;
use crate::owner::Views;
use crate::readers;
use crate::refused::Refused;
use crate::view::View;

/// Every answer is given so long after its question came: longer than any takes.
const ANSWER_AFTER: Duration = Duration::from_millis(50);

/// How often one agent may ask within [`WITHIN`]: a call a minute.
const ASKED_MAX: u32 = 60;

/// Names under which people ask: those of a whole desk. Whoever comes under yet another one asks
/// in the name of all others.
const NAMES_MAX: usize = 500;

/// What counts as lately.
const WITHIN: Duration = Duration::from_hours(1);

/// How a look-up is called on the audit log, and how it ends.
const LOOK: &str = "desk look-up";
const SHOWN: &str = "shown";

/// The longest ticket.
const TICKET_CHARS_MAX: usize = 64;

/// The longest address that is looked for.
const ADDRESS_BYTES_MAX: usize = 1_024;

/// Serves the desk's contract; cheap to clone, all clones are one.
#[derive(Clone)]
pub struct Desk {
    views: Views,
    audit: Audit,
    asked: Arc<Mutex<BTreeMap<String, VecDeque<Instant>>>>,
}

impl Desk {
    /// The desk that looks at `views`.
    pub(crate) fn new(views: Views, audit: Audit) -> Self {
        Self { views, audit, asked: Arc::default() }
    }

    /// Counts a question, or says that there were too many.
    fn count(&self, by: &str, now: Instant) -> Result<u32, Refused> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.retain(|_, times| {
            times.retain(|at| now.duration_since(*at) < WITHIN);
            !times.is_empty()
        });
        let is_new = !asked.contains_key(by);
        let name = if is_new && asked.len() >= NAMES_MAX { "" } else { by };
        let times = asked.entry(name.to_owned()).or_default();
        let before = u32::try_from(times.len()).unwrap_or(u32::MAX);
        if before >= ASKED_MAX {
            return Err(Refused::AskedTooOften { max: ASKED_MAX });
        }
        times.push_back(now);
        Ok(before + 1)
    }

    fn answer(
        &self,
        address: &str,
        pseudonym: String,
    ) -> Result<v1::LookUpResponse, Refused> {
        let view = self.views.borrow().clone().ok_or(Refused::NoPlan)?;
        let plan = view.plan();
        let found = plan.inventory().find(address.trim());
        // The same work for everybody.
        let number = found.unwrap_or_else(|| MailboxNumber::new(0));
        let mut answer = known(&view, number);
        let in_wave = found.is_some_and(|number| plan.exclusion(number).is_none());
        if !in_wave {
            answer.set_state(v1::DeskState::NoAnswer);
            answer.wave = 0;
            for rung in &mut answer.rungs {
                rung.set_state(v1::RungState::Held);
                rung.time = None;
            }
            answer.notice = Some(readers::default_notice(plan));
        }
        answer.pseudonym = pseudonym;
        Ok(answer)
    }
}

/// What is known of a mailbox of the inventory.
fn known(view: &View, number: MailboxNumber) -> v1::LookUpResponse {
    let seen = view.seen(number);
    let status = view.plain(number, seen.state);
    let mailbox = readers::mailbox(view.plan(), &status);
    let all = status.rungs.iter().all(|rung| matches!(rung, RungStatus::Open(_)));
    let state = if seen.state.preparation == Preparation::Quarantined {
        v1::DeskState::SetAside
    } else if all {
        v1::DeskState::Open
    } else if seen.state.is_open() {
        v1::DeskState::Opening
    } else {
        v1::DeskState::Held
    };
    let mut answer = v1::LookUpResponse {
        wave: status.wave.map_or(0, |wave| u32::from(wave.get())),
        rungs: mailbox.rungs,
        notice: mailbox.notice,
        at_time: Some(timestamp(view.at())),
        asked_max: ASKED_MAX,
        ..v1::LookUpResponse::default()
    };
    answer.set_state(state);
    answer
}

#[tonic::async_trait]
impl DeskService for Desk {
    async fn look_up(
        &self,
        request: Request<v1::LookUpRequest>,
    ) -> Result<Response<v1::LookUpResponse>, Status> {
        let answered = Due::of(Instant::now());
        let caller = Caller::of(&request);
        let v1::LookUpRequest { address, ticket, by } = request.into_inner();
        let (by, _) = by_and_reason(&caller.acts_as(by), "")?;
        check(&address, &ticket)?;
        let asked = self.count(&by, answered.came);
        let pseudonym = self.audit.pseudonym(&address);
        let about = format!("{pseudonym} ticket {ticket} by {by}");
        let asked = asked.inspect_err(|refused| {
            // It was refused, so nothing depends on its being written.
            drop(self.audit.note(&caller, (LOOK, &about), refused.name()));
        })?;
        self.audit.note(&caller, (LOOK, &about), SHOWN)?;
        tracing::info!(
            by,
            ticket,
            mailbox = pseudonym,
            asked,
            "the desk looked somebody up"
        );
        let answer = self.answer(&address, pseudonym);
        let answer = answered.with(answer).await?;
        Ok(Response::new(v1::LookUpResponse { asked, ..answer }))
    }
}

/// When an answer goes out: settled when its question comes, before anything is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    came: Instant,
    at: Instant,
}

impl Due {
    fn of(came: Instant) -> Self {
        Self { came, at: came + ANSWER_AFTER }
    }

    /// Hands `answer` on, whatever it is, when its time has come and not before.
    async fn with<T>(self, answer: T) -> T {
        tokio::time::sleep_until(self.at).await;
        answer
    }
}

/// What is said of a ticket that is none.
pub(crate) const BAD_TICKET: &str =
    "name the ticket of the call: 1 to 64 letters, digits and -_./#";

/// What is said where there is no address.
pub(crate) const BAD_ADDRESS: &str = "give the user's address";

fn check(address: &str, ticket: &str) -> Result<(), Refused> {
    let wrong = |code, text: &str| Refused::Wrong { code, text: text.to_owned() };
    let is_fit = |c: char| c.is_ascii_alphanumeric() || "-_./#".contains(c);
    if ticket.is_empty()
        || ticket.chars().count() > TICKET_CHARS_MAX
        || !ticket.chars().all(is_fit)
    {
        return Err(wrong("bad-ticket", BAD_TICKET));
    }
    if address.trim().is_empty() || address.len() > ADDRESS_BYTES_MAX {
        return Err(wrong("bad-address", BAD_ADDRESS));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tidegate_core::inventory::{InventoryBuilder, Row};
    use tidegate_core::rollout::Rollout;
    use tidegate_core::time::Timestamp;
    use tidegate_wire::policy_file;
    use tokio::sync::watch;

    use super::*;
    use crate::exchangers::Receiving;
    use crate::states::States;

    #[tokio::test]
    async fn an_agent_asks_as_often_as_calls_last_and_others_are_not_kept_waiting() {
        let (desk, _views) = desk();
        let now = Instant::now();

        let counted = (0..=ASKED_MAX).map(|_| desk.count("ann", now).is_ok());
        let refused: Vec<bool> = counted.collect();

        assert_eq!(refused.iter().filter(|taken| !**taken).count(), 1);
        assert_eq!(desk.count("bob", now).ok(), Some(1));
        assert_eq!(desk.count("ann", now + WITHIN).ok(), Some(1));
    }

    #[tokio::test]
    async fn whoever_asks_too_often_is_on_the_audit_log() {
        let dir = tempfile::TempDir::new().unwrap();
        let config = crate::auditing::AuditConfig::default();
        let (_to, views) = watch::channel(None);
        let desk = Desk::new(views, Audit::open(dir.path(), &config).unwrap());
        for _ in 0..ASKED_MAX {
            desk.count("ann", Instant::now()).unwrap();
        }
        let request = v1::LookUpRequest {
            address: "anna@example.org".to_owned(),
            ticket: "T-1".to_owned(),
            by: "ann".to_owned(),
        };

        let refused = desk.look_up(Request::new(request)).await.unwrap_err();

        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        let log = std::fs::read_to_string(dir.path().join("audit.jsonl")).unwrap();
        let last = log.lines().last().unwrap();
        assert!(last.contains("\"outcome\":\"asked-too-often\""), "{log}");
        assert!(last.contains("ticket T-1 by ann") && !log.contains("anna@"), "{log}");
    }

    #[tokio::test]
    async fn no_error_repeats_an_address() {
        let (desk, _views) = desk();
        let ask = |address: &str, ticket: &str| {
            let request = v1::LookUpRequest {
                address: address.to_owned(),
                ticket: ticket.to_owned(),
                by: "ann".to_owned(),
            };
            desk.look_up(Request::new(request))
        };

        let errors = [
            ask("anna@example.org", "").await.unwrap_err(),
            ask("anna@example.org", "anna@example.org").await.unwrap_err(),
            ask("anna@example.org", "T-1").await.unwrap_err(),
        ];

        for error in errors {
            assert!(!format!("{error:?}").contains("anna"), "{error:?}");
        }
    }

    #[test]
    fn when_an_answer_goes_out_is_settled_before_anything_is_known_of_the_question() {
        let came = Instant::now();

        assert_eq!(Due::of(came).at, came + ANSWER_AFTER);
    }

    #[tokio::test]
    async fn nothing_is_handed_on_before_its_time_be_it_an_answer_or_a_refusal() {
        let due = Due::of(Instant::now());
        let answers = [Ok(()), Err(Refused::NoPlan)];

        for answer in answers {
            drop(due.with(answer).await);
            assert!(Instant::now() >= due.at);
        }
    }

    #[tokio::test]
    async fn a_known_an_excluded_and_an_unknown_address_are_answered_in_one_shape() {
        let (desk, views) = desk();
        views.send_replace(Some(Arc::new(view())));
        let ask =
            |address: &str| desk.answer(address, desk.audit.pseudonym(address)).unwrap();

        let known = ask("ann@a.it");
        let excluded = ask("robot@a.it");
        let unknown = ask("nobody@a.it");

        let shape = |answer: &v1::LookUpResponse| {
            let v1::LookUpResponse { rungs, notice, at_time, asked_max, .. } = answer;
            (rungs.len(), notice.is_some(), at_time.is_some(), *asked_max)
        };
        assert_eq!(shape(&known), shape(&unknown));
        assert_eq!(known.state(), v1::DeskState::Held);
        assert_eq!(excluded, unknown, "whoever is left out is as unknown as nobody");
    }

    /// A rollout of two, of which one is left out.
    fn view() -> View {
        const POLICY: &str = "name = \"small\"\ngate.mode = \"every-mailbox\"\n\
            [[exclude]]\nreason = \"no person\"\nselect.label.kind = [\"robot\"]\n\
            [[cohort]]\nname = \"all\"\nselect.rest = true\ncanary = 1\n";
        let mut builder = InventoryBuilder::new();
        let robot = [("kind", "robot")];
        for (address, labels) in [("ann@a.it", &[][..]), ("robot@a.it", &robot)] {
            let row = Row { address, node: "n1", tier: "free", path: address, labels };
            builder.push(row).unwrap();
        }
        let policy = policy_file::parse("policy.toml", POLICY).unwrap();
        let inventory = Arc::new(builder.finish().unwrap());
        let plan = tidegate_core::plan::plan(&inventory, &Arc::new(policy)).unwrap();
        let now = Timestamp::from_millis(1_000);
        let rollout = Rollout::new(Arc::new(plan), now, now);
        let kept = (Receiving::of(&rollout), States::of(&rollout));
        View::of(&rollout, (Arc::new(kept.0), Arc::new(kept.1)), now)
    }

    fn desk() -> (Desk, watch::Sender<Option<Arc<View>>>) {
        let (to, views) = watch::channel(None);
        (Desk::new(views, Audit::none()), to)
    }
}
