//! The page for programs: in the shape that Statuspage made common, in our own, and for Prometheus.
//!
//! # Invariants
//!
//! * It says what the page says, and no more.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::counts::{Cell, Row, thousands};
use super::site::Site;
use super::{Headline, Status, rfc3339};
use crate::texts::Texts;
use crate::windows::Turn;

/// `api/v2/summary.json`.
pub(super) fn statuspage(
    (site, texts): (&Site, &Texts),
    status: &Status,
    (zone, surfaces): (&str, &[String]),
) -> String {
    let (at, began) = (rfc3339(status.at), rfc3339(status.began));
    let rows = status.rows.shown.iter().enumerate();
    let components: Vec<Value> = rows
        .flat_map(|(place, row)| {
            let name = row.name.shown(site, texts);
            components(row, (place + 1, &name), surfaces, (&began, &at))
        })
        .collect();
    let (indicator, incident_state) = indicator(status);
    let headline = texts.say(status.headline.text());
    let update = |id: String, body: &str, time: &str| {
        json!({
            "id": id,
            "status": incident_state,
            "body": body,
            "incident_id": "restoration",
            "affected_components": null,
            "created_at": time,
            "updated_at": time,
            "display_at": time,
        })
    };
    let said = site.updates.iter().rev().enumerate().map(|(place, it)| {
        let id = format!("update-{}", site.updates.len() - place);
        update(id, it.text(texts.language()), &it.time.to_string())
    });
    // How it is now is the newest of them, also where the press office has said nothing yet.
    let updates: Vec<Value> =
        std::iter::once(update("now".to_owned(), &headline, &at)).chain(said).collect();
    let incident = json!({
        "id": "restoration",
        "name": headline,
        "status": incident_state,
        "impact": indicator,
        "page_id": "tidegate",
        "shortlink": site.url,
        "created_at": began,
        "started_at": began,
        "monitoring_at": null,
        "resolved_at": null,
        "updated_at": at,
        "incident_updates": updates,
        "components": components,
    });
    let incidents =
        if status.headline == Headline::Finished { Vec::new() } else { vec![incident] };
    let summary = json!({
        "page": {
            "id": "tidegate",
            "name": site.name,
            "url": site.url,
            "time_zone": zone,
            "updated_at": at,
        },
        "components": components,
        "incidents": incidents,
        "scheduled_maintenances": [],
        "status": { "indicator": indicator, "description": headline },
        "generated_at": at,
    });
    format!("{summary:#}\n")
}

/// A service, and below it what its users see of it: a group and its members.
fn components(
    row: &Row,
    (place, name): (usize, &str),
    surfaces: &[String],
    (began, at): (&str, &str),
) -> Vec<Value> {
    let group = format!("service-{place}");
    let ids: Vec<String> =
        (1..=surfaces.len()).map(|it| format!("{group}-{it}")).collect();
    let component = |id: &str, name: &str, state: &str, place: usize| {
        json!({
            "id": id,
            "name": name,
            "status": state,
            "position": place,
            "description": null,
            "showcase": true,
            "group": false,
            "group_id": group,
            "page_id": "tidegate",
            "only_show_if_degraded": false,
            "start_date": null,
            "created_at": began,
            "updated_at": at,
        })
    };
    let mut whole = component(&group, name, component_state(row), place);
    if let Value::Object(whole) = &mut whole {
        whole.insert("group".to_owned(), Value::Bool(true));
        whole.insert("group_id".to_owned(), Value::Null);
        whole.insert("components".to_owned(), json!(ids));
    }
    let members = row.cells().zip(surfaces).zip(&ids).enumerate();
    let members = members.map(|(place, ((cell, surface), id))| {
        let state = match cell {
            Cell::Open => "operational",
            Cell::Opening => "partial_outage",
            Cell::Later => "major_outage",
        };
        component(id, surface, state, place + 1)
    });
    std::iter::once(whole).chain(members).collect()
}

/// How far a rollout is, as the public may know it: `tidegate.public.v1.json`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "schema", rename = "tidegate.public/v1")]
pub struct Public {
    /// When it was written, in UTC.
    #[schemars(extend("format" = "date-time"))]
    generated_at: String,
    /// When the next one is there at the latest, in UTC.
    #[schemars(extend("format" = "date-time"))]
    next_update_by: String,
    /// From so many seconds after `generated_at` on nobody should rely on it.
    stale_after_seconds: u32,
    /// How it is.
    state: Headline,
    /// Mailboxes that have been opened, in whole thousands, rounded down; nothing below one.
    mailboxes_open_about: Option<u64>,
    /// Mailboxes that there are, in the same way.
    mailboxes_about: Option<u64>,
    /// The provider's services; small ones are together in one.
    services: Vec<Service>,
}

/// A service of the provider.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Service")]
struct Service {
    /// What it is called.
    name: String,
    /// How far each of the things is that its users see of it, in the page's order.
    surfaces: Vec<Cell>,
    /// When its waves are expected back; nothing if they are, or nobody can tell yet.
    window: Option<Expected>,
}

/// From when to when something is expected.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Window")]
struct Expected {
    /// Its beginning, in UTC.
    #[schemars(extend("format" = "date-time"))]
    from_time: String,
    /// Its end, in UTC.
    #[schemars(extend("format" = "date-time"))]
    to_time: String,
}

/// `tidegate.public.v1.json`.
pub(super) fn own(site: &Site, status: &Status) -> Result<String, serde_json::Error> {
    let services = status.rows.shown.iter().map(|row| {
        let window = match row.turn() {
            Turn::Within(window) => Some(Expected {
                from_time: rfc3339(window.from),
                to_time: rfc3339(window.to),
            }),
            Turn::Back | Turn::Unknown => None,
        };
        let name = row.name.shown(site, &site.texts(site.language));
        Service { name, surfaces: row.cells().collect(), window }
    });
    let page = Public {
        generated_at: rfc3339(status.at),
        next_update_by: rfc3339(status.next),
        stale_after_seconds: site.stale_seconds(),
        state: status.headline,
        mailboxes_open_about: thousands(status.rows.all.reopened()),
        mailboxes_about: thousands(status.rows.all.planned),
        services: services.collect(),
    };
    Ok(format!("{}\n", serde_json::to_string_pretty(&page)?))
}

/// `metrics.txt`: how old the page is, and by when the next one is promised.
pub(super) fn prometheus(status: &Status) -> String {
    let gauges = [
        ("tidegate_public_page_timestamp_seconds", "When the page was made", status.at),
        (
            "tidegate_public_next_update_timestamp_seconds",
            "By when the page promises another one",
            status.next,
        ),
    ];
    let gauges = gauges.map(|(name, help, at)| {
        format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {at}\n")
    });
    gauges.concat()
}

fn component_state(row: &Row) -> &'static str {
    let cells: Vec<Cell> = row.cells().collect();
    if cells.iter().all(|cell| *cell == Cell::Open) {
        "operational"
    } else if cells.iter().all(|cell| *cell == Cell::Later) {
        "major_outage"
    } else {
        "partial_outage"
    }
}

fn indicator(status: &Status) -> (&'static str, &'static str) {
    match status.headline {
        Headline::Finished => ("none", "resolved"),
        Headline::FinishedBut => ("minor", "monitoring"),
        Headline::Running | Headline::Stopped | Headline::Aborted => {
            ("major", "identified")
        }
    }
}
