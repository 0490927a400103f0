//! The public page from an invented rollout.

use expect_test::{Expect, expect};
use tidegate_core::time::Timestamp;
use tidegate_wire::protocol::timestamp;

use super::*;

/// 26 January 2026, 07:10 in Rome.
const NOW: u64 = 1_769_407_800;

const HOUR: u64 = 3_600;

#[test]
fn the_page_says_what_is_open_roughly_and_when_the_rest_is() {
    let text = text_of(&page(&site(), &rollout(), "it/text.html"));

    expect![[r"
        Stato della posta – Esempio Mail
        Ripristino in corso
        Aggiornato: 26 gennaio, ore 07:10
        Prossimo aggiornamento entro: 26 gennaio, ore 07:40
        Tutti gli orari sono di Europe/Rome.
        Abbiamo riaperto 573.000 caselle su 8.996.000 (6 su 100).
        Riapriamo a gruppi, e ci fermiamo se qualcosa non va. Le caselle già riaperte si possono usare.
        Servizi
        Business: Ricezione nuove e-mail aperto; Webmail aperto; App, IMAP e POP aperto; già aperta
        Free: Ricezione nuove e-mail in riapertura; Webmail in riapertura; App, IMAP e POP in riapertura; 26 gennaio, tra le 07:00 e le 20:00
        Che cosa fare
        Non cambi password e non cancelli l&#39;account dall&#39;app.
        Non inviamo SMS né link per «riattivare» la casella: sono truffe.
        Le mie e-mail
        Verificate finora 573.000 caselle e 306.412.000 messaggi, nessuno mancante.
        Messaggi arrivati durante il fermo: i mittenti di solito riprovano per 4 o 5 giorni; oltre, ricevono un avviso di mancata consegna.
        Aggiornamenti
        26 gennaio, ore 04:58: Aperto &#38; pronto.
        Assistenza
        Telefono: 800 000 000 (8–22)
        Versione completa
    "]].assert_eq(&text);
}

#[test]
fn no_count_is_exact_and_no_wave_node_or_small_tier_is_named() {
    let files = build(&site(), &facts(&rollout(), &tiers())).unwrap();

    for file in &files {
        for secret in
            ["573906", "573,906", "573.906", "8996904", "canary-1", "stor-", "vip"]
        {
            assert!(!file.content.contains(secret), "{secret} in {}", file.path);
        }
    }
}

#[test]
fn pages_in_both_languages_name_the_same_files_and_load_nothing_from_elsewhere() {
    let files = build(&site(), &facts(&rollout(), &tiers())).unwrap();

    let names: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(
        names,
        [
            "index.html",
            "it/index.html",
            "en/index.html",
            "it/text.html",
            "it/feed.atom",
            "en/text.html",
            "en/feed.atom",
            "api/v2/summary.json",
            "tidegate.public.v1.json",
            "metrics.txt",
            "assets/status.css",
            "assets/status.js",
        ]
    );
    for file in files.iter().filter(|file| file.content.starts_with("<!DOCTYPE html>")) {
        assert!(!file.content.contains("src=\"http"), "{}", file.path);
        assert!(!file.content.contains("style=\""), "{}", file.path);
        assert!(!file.content.contains("<form"), "{}: nothing is ever sent", file.path);
    }
}

#[test]
fn a_page_that_claims_too_much_is_not_written() {
    let mut site = site();
    site.updates.push(Update {
        time: "2026-01-26T06:00:00Z".parse().unwrap(),
        it: "Nessuna e-mail è andata persa.".to_owned(),
        en: "We go on.".to_owned(),
    });
    let rollout = rollout();
    let mut damaged = rollout.clone();
    damaged.totals.as_mut().unwrap().lost = 5;

    let early = build(&site, &facts(&rollout, &tiers())).unwrap_err();
    let wrong = build(&site, &facts(&damaged, &tiers())).unwrap_err();

    check_refusal(
        &early,
        &expect![[
            r"“Nessuna e-mail è andata persa.” says that nothing is lost, but not every mailbox has been verified; say “so far”"
        ]],
    );
    check_refusal(
        &wrong,
        &expect![[
            r"“Nessuna e-mail è andata persa.” says that nothing is lost, but 5 messages are"
        ]],
    );
}

#[test]
fn our_own_texts_never_claim_too_much_however_the_rollout_stands() {
    let states = [
        v1::RolloutState::Running,
        v1::RolloutState::Paused,
        v1::RolloutState::Halted,
        v1::RolloutState::Aborted,
        v1::RolloutState::Finished,
    ];
    for state in states {
        for lost in [0, 1, 1_000_000] {
            let mut rollout = rollout();
            rollout.set_state(state);
            rollout.totals.as_mut().unwrap().lost = lost;
            let built = build(&site(), &facts(&rollout, &tiers()));
            assert!(built.is_ok(), "{state:?}, {lost} lost: {}", built.unwrap_err());
        }
    }
}

#[test]
fn while_nothing_moves_nothing_is_promised() {
    let mut rollout = rollout();
    rollout.set_state(v1::RolloutState::Halted);

    let text = text_of(&page(&site(), &rollout, "en/text.html"));

    assert!(text.contains("reopening has stopped for a check"), "{text}");
    assert!(text.contains("we cannot give a time yet"), "{text}");
    assert!(!text.contains("between"), "{text}");
}

#[test]
fn every_slot_has_an_answer_for_every_service_and_it_follows_the_wave() {
    let html = page(&site(), &rollout(), "en/index.html");

    let attribute = |name: &str| {
        let (_, rest) = html.split_once(&format!("{name}=\"")).unwrap();
        rest.split_once('"').unwrap().0.replace("&#34;", "\"")
    };
    let answers: Vec<String> = serde_json::from_str(&attribute("data-answers")).unwrap();
    let slots: Vec<&str> = html
        .split("data-at=\"")
        .skip(1)
        .map(|rest| rest.split_once('"').unwrap().0)
        .collect();
    assert_eq!(slots.len(), 2);
    for numbers in &slots {
        assert_eq!(numbers.len(), 1_024);
        let numbers = (0..256).map(|at| &numbers[at * 4..at * 4 + 4]);
        for number in numbers {
            let number = usize::from_str_radix(number, 16).unwrap();
            assert!(answers.get(number).is_some());
        }
    }
    let first = usize::from_str_radix(&slots[1][0..4], 16).unwrap();
    let last = usize::from_str_radix(&slots[1][1_020..1_024], 16).unwrap();
    assert_eq!(answers[first], "open already");
    assert_eq!(answers[last], "26 January, between 08:00 and 20:00");
}

#[test]
fn other_tools_read_the_summary_as_they_read_statuspage() {
    let summary = page(&site(), &rollout(), "api/v2/summary.json");

    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["status"]["indicator"], "major");
    assert_eq!(summary["page"]["name"], "Esempio Mail");
    assert_eq!(summary["components"][0]["name"], "Business");
    assert_eq!(summary["components"][0]["status"], "operational");
    let components = summary["components"].as_array().unwrap();
    let named = |name: &str| {
        components
            .iter()
            .find(|it| it["name"] == name)
            .unwrap_or_else(|| panic!("{name}"))
    };
    assert_eq!(named("Free")["status"], "partial_outage");
    for group in components.iter().filter(|it| it["group"] == true) {
        for member in group["components"].as_array().unwrap() {
            let member = components.iter().find(|it| it["id"] == *member).unwrap();
            assert_eq!(member["group_id"], group["id"]);
        }
    }
    assert_eq!(
        summary["incidents"][0]["incident_updates"][1]["body"],
        "Aperto & pronto."
    );
    assert_eq!(summary["incidents"][0]["incident_updates"][0]["id"], "now");
    assert!(summary["scheduled_maintenances"].is_array());
}

#[test]
fn the_feed_escapes_what_the_press_office_writes() {
    let feed = page(&site(), &rollout(), "it/feed.atom");

    assert!(feed.contains("<title>Aperto &amp; pronto.</title>"), "{feed}");
    assert!(feed.contains("xml:lang=\"it\""), "{feed}");
}

fn check_refusal(refusal: &Refusal, expected: &Expect) {
    let Refusal::Unsupported { source, .. } = refusal else { panic!("{refusal}") };
    expected.assert_eq(&source.to_string());
}

#[test]
fn prometheus_is_told_how_old_the_page_is_and_what_it_promises() {
    let metrics = page(&site(), &rollout(), "metrics.txt");
    let alerts = include_str!("../../../../deploy/prometheus/tidegate-alerts.yml");

    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let asked: Vec<&str> = alerts
        .split(|c| !is_part(c))
        .filter(|word| word.starts_with("tidegate_public_"))
        .collect();
    assert_eq!(asked.len(), 2, "{asked:?}");
    for name in asked {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
        let (_, at) = line.split_once(' ').unwrap();
        assert!(at.parse::<u64>().unwrap() > 1_700_000_000, "{line}");
    }
}

fn page(site: &Site, rollout: &v1::Rollout, path: &str) -> String {
    let files = build(site, &facts(rollout, &tiers())).unwrap();
    files.into_iter().find(|file| file.path == path).unwrap().content
}

/// What stands between the tags, a line each.
fn text_of(html: &str) -> String {
    let body = html.split_once("<body>").unwrap().1;
    let pieces = body.split('<').map(|piece| piece.rsplit('>').next().unwrap().trim());
    let lines: Vec<&str> = pieces.filter(|piece| !piece.is_empty()).collect();
    lines.join("\n") + "\n"
}

fn facts<'a>(rollout: &'a v1::Rollout, tiers: &'a v1::ListTiersResponse) -> Facts<'a> {
    Facts { rollout, tiers }
}

fn site() -> Site {
    let service = |tier: &str, name: &str| Service {
        tier: tier.to_owned(),
        it: name.to_owned(),
        en: name.to_owned(),
    };
    let mut site: Site = serde_json::from_value(serde_json::json!({
        "name": "Esempio Mail", "url": "https://stato.example.org",
        "phone": "800 000 000", "hours": "8–22",
    }))
    .unwrap();
    site.services = vec![service("business", "Business"), service("free", "Free")];
    site.updates = vec![Update {
        time: "2026-01-26T03:58:00Z".parse().unwrap(),
        it: "Aperto & pronto.".to_owned(),
        en: "Open & ready.".to_owned(),
    }];
    site
}

/// Business is open, free is in its second wave of three.
fn rollout() -> v1::Rollout {
    let at = |seconds: u64| Some(timestamp(Timestamp::from_millis(seconds * 1_000)));
    let wave = |number, name: &str, state: v1::WaveState| v1::Wave {
        number,
        name: name.to_owned(),
        state: state.into(),
        ..v1::Wave::default()
    };
    let within = |from: u64, to: u64| {
        Some(v1::Forecast {
            p10_time: at(NOW + from),
            p50_time: at(NOW + u64::midpoint(from, to)),
            p90_time: at(NOW + to),
        })
    };
    let rung = |name: &str, services: &[&str]| v1::Rung {
        name: name.to_owned(),
        services: services.iter().map(|it| (*it).to_owned()).collect(),
        soak_millis: None,
    };
    v1::Rollout {
        state: v1::RolloutState::Running.into(),
        at_time: at(NOW),
        planned: 8_996_904,
        ladder: vec![
            rung("receive", &["lmtp"]),
            rung("webmail", &["webmail"]),
            rung("mail", &["imap"]),
        ],
        notice: Some(v1::Notice {
            language: "it".to_owned(),
            zone: "Europe/Rome".to_owned(),
        }),
        totals: Some(v1::MessageTotals { intact: 306_412_007, ..Default::default() }),
        waves: vec![
            v1::Wave { prepared: 362_386, ..wave(0, "canary-1", v1::WaveState::Passed) },
            v1::Wave {
                prepared: 211_520,
                finish: within(HOUR, 4 * HOUR),
                ..wave(1, "rest-1", v1::WaveState::Opening)
            },
            v1::Wave {
                finish: within(3 * HOUR, 12 * HOUR + 1),
                ..wave(2, "rest-2", v1::WaveState::Waiting)
            },
        ],
        ..v1::Rollout::default()
    }
}

fn tiers() -> v1::ListTiersResponse {
    let span = |from_ppm, to_ppm, wave| v1::SlotSpan { from_ppm, to_ppm, wave };
    v1::ListTiersResponse {
        hash_seed: 7,
        tiers: vec![
            v1::Tier {
                name: "business".to_owned(),
                planned: 48_000,
                reached: vec![48_000; 3],
                quarantined: 0,
                spans: vec![span(0, 1_000_000, 0)],
            },
            v1::Tier {
                name: "free".to_owned(),
                planned: 8_948_894,
                reached: vec![600_000, 525_896, 314_386],
                quarantined: 14,
                spans: vec![
                    span(0, 100_000, 0),
                    span(100_000, 500_000, 1),
                    span(400_000, 1_000_000, 2),
                ],
            },
            v1::Tier {
                name: "vip".to_owned(),
                planned: 10,
                reached: vec![10; 3],
                quarantined: 0,
                spans: vec![span(0, 1_000_000, 0)],
            },
        ],
    }
}
