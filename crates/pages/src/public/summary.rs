//! The page for programs: in the shape that Statuspage made common, and in our own.
//!
//! # Invariants
//!
//! * It says what the page says, and no more.

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

/// `tidegate.public.v1.json`.
pub(super) fn own(site: &Site, status: &Status) -> String {
    let services = status.rows.shown.iter().map(|row| {
        let surfaces: Vec<&str> = row.cells().map(Cell::code).collect();
        let window = match row.turn() {
            Turn::Within(window) => json!({
                "from_time": rfc3339(window.from), "to_time": rfc3339(window.to),
            }),
            Turn::Back | Turn::Unknown => Value::Null,
        };
        json!({
            "name": row.name.shown(site, &site.texts(site.language)),
            "surfaces": surfaces,
            "window": window,
        })
    });
    let page = json!({
        "schema": "tidegate.public/v1",
        "generated_at": rfc3339(status.at),
        "next_update_by": rfc3339(status.next),
        "stale_after_seconds": site.stale_seconds(),
        "state": status.headline.text().trim_start_matches("headline-"),
        "mailboxes_open_about": thousands(status.rows.all.reopened()),
        "mailboxes_about": thousands(status.rows.all.planned),
        "services": services.collect::<Vec<_>>(),
    });
    format!("{page:#}\n")
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
