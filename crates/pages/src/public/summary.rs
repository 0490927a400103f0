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
pub(super) fn statuspage(site: &Site, texts: &Texts, status: &Status) -> String {
    let at = rfc3339(status.at);
    let mut components = Vec::new();
    for row in &status.rows.shown {
        let state = component_state(row);
        let name = row.name.shown(site, texts);
        components.push(json!({
            "id": format!("service-{}", components.len() + 1),
            "name": name,
            "status": state,
            "position": components.len() + 1,
            "description": null,
            "showcase": true,
            "group": false,
            "group_id": null,
            "page_id": "tidegate",
            "only_show_if_degraded": false,
            "updated_at": at,
        }));
    }
    let (indicator, incident_state) = indicator(status);
    let headline = texts.say(status.headline.text());
    let updates: Vec<Value> = site
        .updates
        .iter()
        .rev()
        .enumerate()
        .map(|(place, update)| {
            json!({
                "id": format!("update-{}", site.updates.len() - place),
                "status": incident_state,
                "body": update.text(texts.language()),
                "incident_id": "restoration",
                "created_at": update.time.to_string(),
                "updated_at": update.time.to_string(),
                "display_at": update.time.to_string(),
            })
        })
        .collect();
    let incident = json!({
        "id": "restoration",
        "name": headline,
        "status": incident_state,
        "impact": indicator,
        "page_id": "tidegate",
        "shortlink": site.url,
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
