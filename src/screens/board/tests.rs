//! The board as people see it.

use std::time::Duration;

use expect_test::{Expect, expect};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use tidegate_core::time::{Span, Timestamp};
use tidegate_wire::protocol::timestamp as stamp;
use tidegate_wire::v1::{
    Event, Forecast, Gate, Node, NodeState, Pace, Rollout, RolloutState, Rung, Signal,
    Vitals, Wave, WaveState, Why,
};

use super::{Board, Signs, Viewer, Wish};
use crate::console::Paint;

#[test]
fn a_night_at_eighty_columns() {
    let board = watching(&night());

    check(
        &board,
        (80, 24),
        &expect![[r"
            ┌ restore-2026-01 RUNNING ────────────────── 06:14:09 UTC, live, data 1 s old ─┐
            │ open    261,916 of 3,557,816  7.3 %  █···················  12/s ▁█▁▁▆▁▁▁▃▁▁▁ │
            │ done    10:34 UTC, 8 in 10 07:54-14:34    aside 0  failed 0  messages lost 0 │
            │ status  silent: stor-22; open mailboxes there stay open                      │
            │ action  is the worker running there, and can it reach the coordinator?       │
            ├ Waves ───────────────────────────────────────────────────────────────────────┤
            │   = canary        passed        2,400 /     2,400 100.0 %                    │
            │   = business      passed       47,996 /    48,000  99.9 %                    │
            │ ▸ > free-1        opening     211,520 /   877,004  24.1 %  webmail, 10:34    │
            │   - a-wave-with-~ waiting           0 / 2,630,412   0.0 %  ready 90.0 %, 10:3│
            │                                                                              │
            ├ Gate of free-1 at webmail: HOLD ─────────────┬ Nodes stor-* ─────────────────┤
            │ ? open    login-latency 0/212 trip 7 need 188│ ! 22 silent 41 s, 12,000 held │
            │ = passed  opening       1/500 trip 7         │ 01▁ 02▁ 03▁ 04▂ 05▂ 06▂ 07▂   │
            │ = passed  integrity     0/500 trip 7         │ 08▃ 09▃ 10▃ 11▄ 12▄ 13▄ 14▄   │
            │ 212 samples of 400                           │ 15▅ 16▅ 17▅ 18▆ 19▆ 20▆ 21▆   │
            │                                              │ 23▇ 24▇                       │
            ├ Events ──────────────────────────────────────┴───────────────────────────────┤
            │ 03:44:09 applied            plan 4be1d0 applied by giulia                    │
            │ 06:02:29 level-allowed      wave `free-1` may open for webmail               │
            │ 06:13:28 node-silent        `stor-22` is silent; its lease ends in 19 s      │
            ├──────────────────────────────────────────────────────────────────────────────┤
            │ p PAUSE  Enter wave  g gates  n nodes  q aside  e events  ? help  x exit     │
            └ read-only; p always works (--allow-actions allows more) ──────────── giulia ─┘
        "]],
    );
}

#[test]
fn a_wider_terminal_shows_more_of_each_wave() {
    let board = watching(&night());

    check(
        &board,
        (110, 28),
        &expect![[r"
            ┌ restore-2026-01 RUNNING ──────────────────────────────────────────────── 06:14:09 UTC, live, data 1 s old ─┐
            │ open    261,916 of 3,557,816  7.3 %  ███···············································  12/s ▁█▁▁▆▁▁▁▃▁▁▁ │
            │ done    10:34 UTC  p10 07:54 ├───────────●─────────────────┤ 14:34 p90  aside 0  failed 0  messages lost 0 │
            │ status  silent: stor-22; open mailboxes there stay open                                                    │
            │ action  is the worker running there, and can it reach the coordinator?                                     │
            ├ Waves ─────────────────────────────────────────────────────────────────────────────────────────────────────┤
            │   = canary        passed        2,400 /     2,400 100.0 %  failed 0     aside 0                            │
            │   = business      passed       47,996 /    48,000  99.9 %  failed 0     aside 0                            │
            │ ▸ > free-1        opening     211,520 /   877,004  24.1 %  failed 0     aside 0     webmail, 10:34         │
            │   - a-wave-with-~ waiting           0 / 2,630,412   0.0 %  failed 0     aside 0     ready 90.0 %, 10:34    │
            │                                                                                                            │
            ├ Gate of free-1 at webmail: HOLD ──────────────────────────────┬ Nodes stor-* ──────────────────────────────┤
            │ ? open    login-latency 0/212 trip 7 need 188                 │ ! 22 silent 41 s, 12,000 held              │
            │ = passed  opening       1/500 trip 7                          │ 01▁ 02▁ 03▁ 04▂ 05▂ 06▂ 07▂ 08▃ 09▃ 10▃    │
            │ = passed  integrity     0/500 trip 7                          │ 11▄ 12▄ 13▄ 14▄ 15▅ 16▅ 17▅ 18▆ 19▆ 20▆    │
            │ 212 samples of 400                                            │ 21▆ 23▇ 24▇                                │
            │                                                               │                                            │
            │                                                               │                                            │
            │                                                               │                                            │
            │                                                               │                                            │
            ├ Events ───────────────────────────────────────────────────────┴────────────────────────────────────────────┤
            │ 03:44:09 applied            plan 4be1d0 applied by giulia                                                  │
            │ 06:02:29 level-allowed      wave `free-1` may open for webmail                                             │
            │ 06:13:28 node-silent        `stor-22` is silent; its lease ends in 19 s                                    │
            │                                                                                                            │
            ├────────────────────────────────────────────────────────────────────────────────────────────────────────────┤
            │ p PAUSE  Enter wave  g gates  n nodes  q aside  e events  ? help  x exit                                   │
            └ read-only; p always works (--allow-actions allows more) ────────────────────────────────────────── giulia ─┘
        "]],
    );
}

#[test]
fn a_coordinator_that_is_away_leaves_its_last_word_and_its_age() {
    let mut board = watching(&night());

    board.passes(Duration::from_secs(47), false, Duration::from_millis(200));

    check(
        &board,
        (80, 24),
        &expect![[r"
            ┌ restore-2026-01 RUNNING ──────────────── ! RECONNECTING, last data 47 s old ─┐
            ! open    261,916 of 3,557,816  7.3 %  █···················  12/s ▁█▁▁▆▁▁▁▃▁▁▁ !
            ! done    10:34 UTC, 8 in 10 07:54-14:34    aside 0  failed 0  messages lost 0 !
            ! status  silent: stor-22; open mailboxes there stay open                      !
            ! action  is the worker running there, and can it reach the coordinator?       !
            ├ Waves ───────────────────────────────────────────────────────────────────────┤
            !   = canary        passed        2,400 /     2,400 100.0 %                    !
            !   = business      passed       47,996 /    48,000  99.9 %                    !
            ! ▸ > free-1        opening     211,520 /   877,004  24.1 %  webmail, 10:34    !
            !   - a-wave-with-~ waiting           0 / 2,630,412   0.0 %  ready 90.0 %, 10:3!
            !                                                                              !
            ├ Gate of free-1 at webmail: HOLD ─────────────┬ Nodes stor-* ─────────────────┤
            ! ? open    login-latency 0/212 trip 7 need 188! ! 22 silent 41 s, 12,000 held !
            ! = passed  opening       1/500 trip 7         ! 01▁ 02▁ 03▁ 04▂ 05▂ 06▂ 07▂   !
            ! = passed  integrity     0/500 trip 7         ! 08▃ 09▃ 10▃ 11▄ 12▄ 13▄ 14▄   !
            ! 212 samples of 400                           ! 15▅ 16▅ 17▅ 18▆ 19▆ 20▆ 21▆   !
            !                                              ! 23▇ 24▇                       !
            ├ Events ──────────────────────────────────────┴───────────────────────────────┤
            ! 03:44:09 applied            plan 4be1d0 applied by giulia                    !
            ! 06:02:29 level-allowed      wave `free-1` may open for webmail               !
            ! 06:13:28 node-silent        `stor-22` is silent; its lease ends in 19 s      !
            ├──────────────────────────────────────────────────────────────────────────────┤
            ! p PAUSE  Enter wave  g gates  n nodes  q aside  e events  ? help  x exit     !
            └ read-only; p always works (--allow-actions allows more) ──────────── giulia ─┘
        "]],
    );
}

#[test]
fn an_armed_screen_says_so_in_words_and_ascii_is_enough_for_all_of_it() {
    let mut board =
        Board::new(Viewer { may_act: true, ..giulia() }, Signs::Ascii, Paint::PLAIN);
    board.take(Box::new(night()));
    press(&mut board, &[KeyCode::Char('a')]);

    assert!(shown(&board, (80, 24)).is_ascii());
    check(
        &board,
        (80, 24),
        &expect![[r"
            + restore-2026-01 RUNNING ================== 06:14:09 UTC, live, data 0 s old =+
            # open    261,916 of 3,557,816  7.3 %  #..................  rate not known yet #
            # done    10:34 UTC, 8 in 10 07:54-14:34    aside 0  failed 0  messages lost 0 #
            # status  silent: stor-22; open mailboxes there stay open                      #
            # action  is the worker running there, and can it reach the coordinator?       #
            + Waves =======================================================================+
            #   = canary        passed        2,400 /     2,400 100.0 %                    #
            #   = business      passed       47,996 /    48,000  99.9 %                    #
            # * > free-1        opening     211,520 /   877,004  24.1 %  webmail, 10:34    #
            #   - a-wave-with-~ waiting           0 / 2,630,412   0.0 %  ready 90.0 %, 10:3#
            #                                                                              #
            + Gate of free-1 at webmail: HOLD =============+ Nodes stor-* =================+
            # ? open    login-latency 0/212 trip 7 need 188# ! 22 silent 41 s, 12,000 held #
            # = passed  opening       1/500 trip 7         # 01:_ 02:_ 03:_ 04:1 05:1      #
            # = passed  integrity     0/500 trip 7         # 06:1 07:1 08:2 09:2 10:2      #
            # 212 samples of 400                           # 11:3 12:3 13:3 14:3 15:5      #
            #                                              # more: n                       #
            + Events ======================================+===============================+
            #                                                                              #
            #                                                                              #
            #                                                                              #
            +==============================================================================+
            # p PAUSE  r RESUME  c RE-CLOSE  Enter wave  g gates  n nodes  q aside  e event#
            + ARMED for 60 s more; a disarms ===================================== giulia =+
        "]],
    );
}

#[test]
fn a_terminal_too_small_for_a_frame_has_five_lines() {
    let board = watching(&night());

    check(
        &board,
        (79, 12),
        &expect![[r"
            restore-2026-01 RUNNING  06:14:09 UTC  data 1 s old
            261,916 of 3,557,816 open (7.3 %), 3,202,035 prepared, 0 set aside, 0 failed; d
            silent: stor-22; open mailboxes there stay open; do: is the worker running ther
            gate: hold of free-1 at webmail: 212 samples of 400
            nodes: 23 of 24 work; stor-22 silent, heard 41 s ago: 12,000 of its mailboxes a
            p PAUSE  Enter wave  g gates  n nodes  q aside  e events  ? help  x exit






        "]],
    );
}

#[test]
fn nodes_that_do_not_work_stand_first() {
    let mut rollout = night();
    let fastest =
        Pace { why: "at-ceiling".into(), millis_per_second: 37_500, ..Pace::default() };
    rollout.nodes[0].vitals = Some(Vitals { pace: Some(fastest), ..Vitals::default() });
    let mut board = watching(&rollout);
    press(&mut board, &[KeyCode::Char('n')]);

    check(
        &board,
        (80, 24),
        &expect![[r"
            ┌ restore-2026-01 RUNNING ────────────────── 06:14:09 UTC, live, data 1 s old ─┐
            │ open    261,916 of 3,557,816  7.3 %  █···················  12/s ▁█▁▁▆▁▁▁▃▁▁▁ │
            │ done    10:34 UTC, 8 in 10 07:54-14:34    aside 0  failed 0  messages lost 0 │
            │ status  silent: stor-22; open mailboxes there stay open                      │
            │ action  is the worker running there, and can it reach the coordinator?       │
            ├ Nodes ───────────────────────────────────────────────────────────────────────┤
            │ stor-22       silent       88,000/100,000 open failed 0    -                 │
            │ stor-01       working       4,000/100,000 open failed 0    37.5/s at-ceiling │
            │ stor-02       working       8,000/100,000 open failed 0    -                 │
            │ stor-03       working      12,000/100,000 open failed 0    -                 │
            │ stor-04       working      16,000/100,000 open failed 0    -                 │
            │ stor-05       working      20,000/100,000 open failed 0    -                 │
            │ stor-06       working      24,000/100,000 open failed 0    -                 │
            │ stor-07       working      28,000/100,000 open failed 0    -                 │
            │ stor-08       working      32,000/100,000 open failed 0    -                 │
            │ stor-09       working      36,000/100,000 open failed 0    -                 │
            │ stor-10       working      40,000/100,000 open failed 0    -                 │
            │ stor-11       working      44,000/100,000 open failed 0    -                 │
            │ stor-12       working      48,000/100,000 open failed 0    -                 │
            │ stor-13       working      52,000/100,000 open failed 0    -                 │
            │ stor-14       working      56,000/100,000 open failed 0    -                 │
            ├──────────────────────────────────────────────────────────────────────────────┤
            │ p PAUSE  Up Down scroll  / find  Esc back  ? help  x exit                    │
            └ read-only; p always works (--allow-actions allows more) ──────────── giulia ─┘
        "]],
    );
}

#[test]
fn a_wave_is_shown_in_full() {
    let mut board = watching(&night());
    press(&mut board, &[KeyCode::Enter]);

    check(
        &board,
        (80, 24),
        &expect![[r"
            ┌ restore-2026-01 RUNNING ────────────────── 06:14:09 UTC, live, data 1 s old ─┐
            │ open    261,916 of 3,557,816  7.3 %  █···················  12/s ▁█▁▁▆▁▁▁▃▁▁▁ │
            │ done    10:34 UTC, 8 in 10 07:54-14:34    aside 0  failed 0  messages lost 0 │
            │ status  silent: stor-22; open mailboxes there stay open                      │
            │ action  is the worker running there, and can it reach the coordinator?       │
            ├ Wave ────────────────────────────────────────────────────────────────────────┤
            │ 2 free-1 > opening                                                           │
            │ 877,004 planned, 789,304 prepared, 0 set aside, 211,520 open, 0 mature, 0 fai│
            │ allowed: webmail; passed: held                                               │
            │ done, 8 in 10 times: 2026-01-26 07:54-14:34 UTC                              │
            │                                                                              │
            │ Gate of free-1 at webmail: HOLD                                              │
            │   212 samples of 400 (tidegate explain samples-missing)                      │
            │   = integrity    passed   0 failed of 500 mature, 540 opened: passes with at │
            │   = opening      passed   1 failed of 500 mature, 540 opened: passes with at │
            │   ? login-latency open     0 failed of 212 mature, 252 opened: passes with at│
            │                                                                              │
            │ tidegate why wave free-1                                                     │
            │                                                                              │
            │                                                                              │
            │                                                                              │
            ├──────────────────────────────────────────────────────────────────────────────┤
            │ p PAUSE  Up Down other wave  Esc back  ? help  x exit                        │
            └ read-only; p always works (--allow-actions allows more) ──────────── giulia ─┘
        "]],
    );
}

#[test]
fn pausing_asks_why_and_one_more_key_pauses() {
    let mut board = watching(&night());

    let asked = press(&mut board, &[KeyCode::Char('p')]);
    let line = last_but_one(&board);
    let paused =
        press(&mut board, &[KeyCode::Char('h'), KeyCode::Char('m'), KeyCode::Enter]);
    let at_once = press(&mut board, &[KeyCode::Char('P')]);
    let not_at_all = press(&mut board, &[KeyCode::Char('p'), KeyCode::Esc]);

    assert_eq!(asked, None);
    assert!(line.contains("PAUSE, why? (Enter pauses, Esc does not): _"), "{line}");
    assert_eq!(paused, Some(Wish::Pause("hm".to_owned())));
    assert_eq!(at_once, Some(Wish::Pause(String::new())));
    assert_eq!(not_at_all, None);
}

#[test]
fn whoever_types_as_in_an_editor_leaves_and_does_nothing_else() {
    let mut board = watching(&night());
    let typed = |board: &mut Board, word: &str| {
        let keys = word.chars().map(KeyCode::Char).chain([KeyCode::Enter]);
        press(board, &keys.collect::<Vec<_>>())
    };

    assert_eq!(typed(&mut board, ":q"), Some(Wish::Leave));
    assert_eq!(typed(&mut board, ":wq"), None);
    let line = last_but_one(&board);
    assert!(line.contains("`:q` leaves"), "{line}");
    assert_eq!(press(&mut board, &[KeyCode::Char('q')]), Some(Wish::Findings));
}

#[test]
fn nothing_else_acts_on_a_screen_that_only_reads() {
    let mut board = watching(&night());

    let wishes =
        "rac".chars().map(|key| press(&mut board, &[KeyCode::Char(key), KeyCode::Enter]));

    assert!(wishes.collect::<Vec<_>>().iter().all(Option::is_none));
    press(&mut board, &[KeyCode::Char('r')]);
    let line = last_but_one(&board);
    assert!(line.contains("read-only: start with --allow-actions"), "{line}");
}

#[test]
fn what_acts_while_armed_needs_a_reason_and_is_disarmed_after_a_minute() {
    let mut board =
        Board::new(Viewer { may_act: true, ..giulia() }, Signs::Drawn, Paint::PLAIN);
    board.take(Box::new(night()));
    let resume =
        [KeyCode::Char('r'), KeyCode::Char('o'), KeyCode::Char('k'), KeyCode::Enter];

    let early = press(&mut board, &resume);
    press(&mut board, &[KeyCode::Char('a')]);
    let without = press(&mut board, &[KeyCode::Char('c'), KeyCode::Enter]);
    let armed = press(&mut board, &resume);
    board.passes(Duration::ZERO, true, Duration::from_secs(61));
    let late = press(&mut board, &resume);

    assert_eq!((early, without), (None, None));
    assert_eq!(armed, Some(Wish::Resume("ok".to_owned())));
    assert_eq!(late, None);
}

#[test]
fn a_frozen_picture_stands_still_and_says_so() {
    let mut board = watching(&night());
    press(&mut board, &[KeyCode::Char('f')]);

    board.take(Box::new(Rollout { state: RolloutState::Halted.into(), ..night() }));
    board.passes(Duration::ZERO, true, Duration::from_secs(3));

    let top = shown(&board, (80, 24)).lines().next().unwrap().to_owned();
    assert!(top.contains("RUNNING") && top.contains("FROZEN, data 4 s old"), "{top}");
}

#[test]
fn only_rows_with_the_typed_text_are_shown_until_escape() {
    let mut board = watching(&night());
    let mut keys = vec![KeyCode::Char('e'), KeyCode::Char('/')];
    keys.extend("stor-22".chars().map(KeyCode::Char));

    press(&mut board, &keys);
    let few = shown(&board, (80, 24));
    press(&mut board, &[KeyCode::Esc, KeyCode::Char('e'), KeyCode::Char('e')]);
    let all = shown(&board, (80, 24));

    assert!(few.contains("silent") && !few.contains("applied"), "{few}");
    assert!(all.contains("applied"), "{all}");
}

/// 2026-01-26 06:14:09 UTC.
const NOW: Timestamp = Timestamp::from_millis(1_769_408_049_000);

fn night() -> Rollout {
    let at = |minutes: u64| Some(stamp(NOW + Span::from_secs(minutes * 60)));
    let wave =
        |number: u32, name: &str, state: WaveState, (open, planned): (u32, u32)| Wave {
            number,
            name: name.into(),
            state: state.into(),
            open,
            opened: open,
            planned,
            prepared: planned - planned / 10,
            ..Wave::default()
        };
    let signal =
        |name: &str, standing: &str, (failed, mature): (u32, u32), missing| Signal {
            name: name.into(),
            standing: standing.into(),
            failed,
            mature,
            opened: mature + 40,
            pass_at: Some(1),
            trip_at: 7,
            missing,
            ..Signal::default()
        };
    let why = Why { code: "samples-missing".into(), text: "212 samples of 400".into() };
    let gate = Gate {
        verdict: "hold".into(),
        reasons: vec![why.clone()],
        signals: vec![
            signal("integrity", "passed", (0, 500), 0),
            signal("opening", "passed", (1, 500), 0),
            signal("login-latency", "open", (0, 212), 188),
        ],
        unmeasured: Vec::new(),
        overridable: false,
    };
    let finish = Forecast { p10_time: at(100), p50_time: at(260), p90_time: at(500) };
    let third = Wave {
        level: 1,
        gate: Some(gate),
        finish: Some(finish),
        ..wave(2, "free-1", WaveState::Opening, (211_520, 877_004))
    };
    let later = Wave {
        finish: Some(finish),
        ..wave(3, "a-wave-with-a-long-name", WaveState::Waiting, (0, 2_630_412))
    };
    Rollout {
        name: "restore-2026-01".into(),
        state: RolloutState::Running.into(),
        why: vec![why],
        waves: vec![
            Wave {
                level: 1,
                passed: 1,
                ..wave(0, "canary", WaveState::Passed, (2_400, 2_400))
            },
            wave(1, "business", WaveState::Passed, (47_996, 48_000)),
            third,
            later,
        ],
        nodes: nodes(),
        ladder: vec![Rung { name: "webmail".into(), ..Rung::default() }],
        planned: 3_557_816,
        at_time: Some(stamp(NOW)),
        ..Rollout::default()
    }
}

fn nodes() -> Vec<Node> {
    let node = |number: u32, state: NodeState| Node {
        name: format!("stor-{number:02}"),
        state: state.into(),
        heard_time: Some(stamp(NOW - Span::from_secs(41))),
        planned: 100_000,
        open: 4_000 * number,
        ..Node::default()
    };
    let silent = |number| number == 22;
    (1..=24)
        .map(|number| {
            let state =
                if silent(number) { NodeState::Silent } else { NodeState::Working };
            node(number, state)
        })
        .collect()
}

fn giulia() -> Viewer {
    Viewer { name: "giulia".to_owned(), may_act: false }
}

/// A board that has watched a minute of `rollout`.
fn watching(rollout: &Rollout) -> Board {
    let mut board = Board::new(giulia(), Signs::Drawn, Paint::PLAIN);
    for second in (0..=60_u64).rev() {
        let mut before = rollout.clone();
        before.at_time = Some(stamp(NOW - Span::from_secs(second)));
        let opened = u32::try_from(second * (second % 7) * 3).unwrap();
        before.waves[2].open -= opened;
        board.take(Box::new(before));
    }
    let event = |seconds: u64, code: &str, text: &str| Event {
        time: Some(stamp(NOW - Span::from_secs(seconds))),
        code: code.into(),
        text: text.into(),
        ..Event::default()
    };
    board.take_events(&[
        event(9_000, "applied", "plan 4be1d0 applied by giulia"),
        event(700, "level-allowed", "wave `free-1` may open for webmail"),
        event(41, "node-silent", "`stor-22` is silent; its lease ends in 19 s"),
    ]);
    board.passes(Duration::from_secs(1), true, Duration::ZERO);
    board
}

fn press(board: &mut Board, keys: &[KeyCode]) -> Option<Wish> {
    let wishes =
        keys.iter().map(|key| board.key(KeyEvent::new(*key, KeyModifiers::NONE)));
    wishes.last().flatten()
}

fn shown(board: &Board, (columns, rows): (u16, u16)) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| board.draw(frame.buffer_mut())).unwrap();
    let cells = terminal.backend().buffer();
    let row = |y| {
        let row: String = (0..columns).map(|x| cells[(x, y)].symbol()).collect();
        format!("{}\n", row.trim_end())
    };
    (0..rows).map(row).collect()
}

fn last_but_one(board: &Board) -> String {
    shown(board, (80, 24)).lines().nth(22).unwrap().to_owned()
}

fn check(board: &Board, size: (u16, u16), expected: &Expect) {
    expected.assert_eq(&shown(board, size));
}
