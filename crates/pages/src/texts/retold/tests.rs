//! Tests of what is retold: what the core says today is known, to the last reason.
//!
//! What the coordinator itself says stands in files that its own tests hold to the letter
//! (`UPDATE_EXPECT=1 cargo test -p tidegate-coordinator in_the_file` writes them anew).

use std::collections::BTreeSet;

use expect_test::{Expect, expect};
use tidegate_core::fleet::{NodeNumber, TierNumber};
use tidegate_core::gate::{
    Bound, Escalation, HaltReason, HoldReason, IsolateReason, PulseSignal, ShortName,
    Signal,
};
use tidegate_core::rollout::Why;
use tidegate_core::share::Ppm;
use tidegate_core::time::{Span, Timestamp};

use super::*;
use crate::operations::{is_told, nameless};

#[test]
fn every_reason_of_a_gate_to_wait_is_retold() {
    let reasons = holds();
    check(
        &reasons.iter().map(|it| (it.code(), it.to_string())).collect::<Vec<_>>(),
        &expect![[r"
            worker sentiti di recente: 3 su 4
            caselle concluse: 8.000 su 12.000, di cui 10 messe da parte; aperte: 7.990
            osservata per 1 min 5 s su 2 h
            segnale apertura: 12 campioni su 1.500
            caselle aperte guaste: 2 su 40; servono altri 1.300 campioni
            nodi con caselle mature: 1 su 3
            il servizio `free` ha 3 caselle mature su 30
            caselle aperte di cui non si sa nulla: 40 su 2.000, limite 0,5 %
            prove lente: 4 su 60, limite 3
            segnale canarino non ancora misurato sul nodo `stor-03`
            segnale canarino non misurato da 12 minuti sul nodo `stor-03` e su un altro nodo
            segnale canarino non misurato da 12 minuti sul nodo `stor-03` e su altri 3 nodi
            il segnale canarino è richiesto e non misurato sul nodo `stor-03` e su un altro nodo
            `rbl` è 1,25, deve essere al massimo 1; risposte che non lo erano: 3 su 12
            `rbl` non ha ancora avuto risposta
            l'ultima risposta a `rbl` è di 1 min 30 s fa, limite 1 min
            disco libero del nodo `stor-03`: 0,5 %, ne serve almeno il 10 %
            caselle usate dai loro utenti: 0 su 5
            caselle aperte già provate: 18 su 20
            minuti con accessi lenti: 4 su 30, limite 3; il nodo `stor-03` ora è a 1.200 ms, ammesso 800 ms
            minuti con risposte lente: 4 su 30, limite 3; il nodo `stor-03` ora è a 1.200 ms, ammesso 800 ms
            minuti con comandi falliti: 4 su 30, limite 3; il nodo `stor-03` ora è a 0,12 %, ammesso 0,08 %
            minuti con consegne lente: 4 su 30, limite 3; il nodo `stor-03` ora è a 1.200 ms, ammesso 800 ms
            minuti con consegne rifiutate: 4 su 30, limite 3; il nodo `stor-03` ora è a 0,12 %, ammesso 0,08 %
            minuti con errori negli archivi: 4 su 30, limite 3; il nodo `stor-03` ora è a 1.200, ammesso 800
            minuti con il disco lento: 4 su 30, limite 3; il nodo `stor-03` ora è a 1.200 ms, ammesso 800 ms
            minuti in cui tutto attendeva il disco: 4 su 30, limite 3; il nodo `stor-03` ora è a 0,12 %, ammesso 0,08 %
            minuti con troppe connessioni: 4 su 30, limite 3; il nodo `stor-03` ora è a 1.200, ammesso 800
            minuti in cui il canarino ha fallito: 4 su 30, limite 3; il nodo `stor-03` ora è a 1.200, ammesso 800
            minuti con il canarino lento: 4 su 30, limite 3; il nodo `stor-03` ora è a 1.200 ms, ammesso 800 ms
            minuti con posta vecchia in coda: 4 su 30, limite 3; il nodo `stor-03` ora è a 20 min, ammesso 13 min 20 s
            deve decidere una persona: il segnale apertura non decide dopo 9.000 campioni, limite 8.000
            deve decidere una persona: il segnale apertura ha tutti i suoi 20 campioni, ne servirebbero altri 40
            deve decidere una persona: ferma da 2 h, limite 1 h
        "]],
    );
    let codes: BTreeSet<&str> = reasons.iter().map(HoldReason::code).collect();
    // One that is added to the core does not compile here until it has a sample above.
    let kinds = |it: &HoldReason| match it {
        HoldReason::WorkersSilent { .. }
        | HoldReason::WaveUnfinished { .. }
        | HoldReason::SoakRunning { .. }
        | HoldReason::TooFew { .. }
        | HoldReason::Undecided { .. }
        | HoldReason::NodesShort { .. }
        | HoldReason::TierShort { .. }
        | HoldReason::UnknownTooMany { .. }
        | HoldReason::Slow { .. }
        | HoldReason::Busy { .. }
        | HoldReason::NotMeasured { .. }
        | HoldReason::NoSource { .. }
        | HoldReason::OutOfBounds { .. }
        | HoldReason::NoAnswer { .. }
        | HoldReason::DiskLow { .. }
        | HoldReason::OnlySynthetic { .. }
        | HoldReason::Unproven { .. }
        | HoldReason::NeedsPerson(_) => 18,
    };
    assert!(reasons.iter().all(|it| kinds(it) == codes.len()));
}

#[test]
fn every_reason_of_a_gate_to_stop_is_retold() {
    let (signal, node) = (Signal::Opening, NodeNumber::new(3));
    let name = ShortName::new("rbl").unwrap();
    let isolate = [
        IsolateReason::Breaker { failed: 12, opened: 1_200, limit: 10 },
        IsolateReason::Outlier {
            signal: Signal::Preparation,
            failed: 9,
            samples: 40,
            failed_all: 11,
        },
    ];
    let halt = [
        HaltReason::Integrity { node, mailboxes: 1 },
        HaltReason::Integrity { node, mailboxes: 2 },
        HaltReason::Tripped { signal, failed: 30, samples: 12_345, limit: 29 },
        HaltReason::Tripped {
            signal: Signal::External(name),
            failed: 3,
            samples: 12,
            limit: 3,
        },
        HaltReason::TooManyNodesIsolated { node, isolated: 1, limit: 0 },
        HaltReason::TooManyNodesIsolated { node, isolated: 3, limit: 2 },
        HaltReason::TooManyFailures { failed: 1_001, limit: 1_000 },
    ];

    let isolate = isolate.iter().map(|it| (it.code(), it.to_string()));
    let halt = halt.iter().map(|it| (it.code(), it.to_string()));

    check(
        &isolate.chain(halt).collect::<Vec<_>>(),
        &expect![[r"
        caselle aperte guaste: 12 su 1.200, limite 10
        caselle verificate messe da parte: 9 sulle sue 40, di 11 in tutto
        posta alterata, altrui o mancante in una casella aperta, sul nodo `stor-03`
        posta alterata, altrui o mancante in 2 caselle aperte, la prima sul nodo `stor-03`
        caselle aperte guaste: 30 su 12.345, limite 29
        risposte di `rbl` fuori dai limiti: 3 su 12, limite 3
        con il nodo `stor-03` sarebbe isolato 1 nodo, al massimo possono esserlo 0
        con il nodo `stor-03` sarebbero isolati 3 nodi, al massimo possono esserlo 2
        caselle aperte guaste: 1.001, limite 1.000
    "]],
    );
}

#[test]
fn whatever_a_rollout_waits_for_is_retold() {
    let reasons = whys();

    let told = reasons.iter().map(|it| (it.code(), it.to_string()));

    check(
        &told.collect::<Vec<_>>(),
        &expect![[r"
            in pausa; un operatore può riprendere
            bloccato da ann: mail is wrong; deve sbloccare un'altra persona
            bloccato da ann: nessun motivo indicato; deve sbloccare un'altra persona
            fermato dal controllo: minuti con il disco lento: 30 su 300, limite 29; richiudere l'ondata, poi riprendere
            interrotto; ciò che è aperto resta aperto
            concluso
            l'ondata `free-2` è stata richiusa; un operatore può riprenderla
            il nodo `stor-02` è stato richiuso; un operatore può riprenderlo
            il controllo ha isolato il nodo `stor-02`; un operatore può riprenderlo
            il nodo `stor-02` non ha un worker; avviarne uno lì
            il worker del nodo `stor-02` non si fa sentire da 1 min 15 s
            messa da parte; deve guardarla una persona
            non ancora verificata
            caselle ancora da verificare: 12.000
            l'ondata `free-2` non può ancora aprire questo gradino; prima vengono altri passi
            l'ondata `free-2` attende la sua ora: 26 gennaio, ore 14:00 UTC (mail)
            l'ondata `free-2` attende la sua finestra, che si apre il 26 gennaio, ore 14:00 UTC (mail; dura fino a 1 h 30 min e deve starci)
            l'ondata `free-2` attende la sua finestra, che si apre il 26 gennaio, ore 14:00 UTC (mail)
            l'ondata `free-2` attende la sua finestra, ma il calendario non ne conosce una in cui stia (mail)
            il nodo `stor-02` attende la sua finestra, che si apre il 26 gennaio, ore 14:00 UTC
            il nodo `stor-02` attende la sua finestra, ma il calendario non ne conosce una in cui stia
            richiusa; un operatore può riprenderla
            si ricostruisce da ciò che i nodi hanno: 3 hanno detto tutto, mancano: stor-02, stor-03; nulla si apre finché un operatore non riprende
            il nodo `stor-02` deve ancora dire che cosa ha
            il nodo `stor-02` è stato escluso dalla ricostruzione; per proseguire va accettato
            il worker del nodo `stor-02` è tornato a uno stato più vecchio; se lo si accetta, lì tutto è verificato di nuovo
            il nodo `stor-02` conosce ordini o incarichi che questo coordinatore non ha mai dato: se vale per quasi tutti i nodi, è stato rimesso un diario più vecchio e serve il più recente; se vale solo per questo, è il suo worker a sbagliare
        "]],
    );
}

#[test]
fn what_people_did_is_retold_and_what_they_typed_is_left_alone() {
    let lines = include_str!("../../../texts/said/events.txt").lines();

    let told: Vec<(&str, String)> = lines
        .map(|line| line.split('\t').collect::<Vec<_>>())
        .map(|line| <[&str; 3]>::try_from(line).unwrap())
        .filter(|[code, by, _]| is_told(code, by))
        .map(|[code, _, text]| (code, nameless(text)))
        .collect();

    check(
        &told,
        &expect![[r"
        messo in pausa da ann: too many complaints
        messo in pausa da ann
        messo in pausa da ann: more: than 1000; it is said, by all
        bloccato da ann: all waves
        sbloccato da ann: done; approvato da eve: read it: agreed
        ripreso da ann: 1000; approvato da eve: read it: agreed
        interrotto da ann: enough
        l'ondata `all-1` ha superato il gradino 1 (`all`) benché il controllo la trattenesse, per decisione di ann: few users; approvato da eve: read it: agreed
        l'ondata `all-1` con il profilo di emergenza per 240 min, da ann: elections; approvato da eve: read it: agreed
        tutte le ondate con il profilo di emergenza per 240 min, da ann: elections; approvato da eve: read it: agreed
        profilo di emergenza chiuso da ann: over
        nodo `n1` accettato da ann: new disk; approvato da eve: read it: agreed
        ripresa: ondata `all-1`, da ann: it is well; approvato da eve: read it: agreed
        richiusura: ondata `all-1`, da ann: asked
        ripresa: nodo `n1`, da ann: it is well; approvato da eve: read it: agreed
        richiusura: nodo `n1`, da ann: asked
        ripresa: casella …, da ann: it is well; approvato da eve: read it: agreed
        richiusura: casella …, da ann: asked
        nuovo tentativo: casella …, messa da parte, chiesto da ann: its disk is back
        l'ondata `all-1` può aprire il gradino 1 (`all`)
        l'ondata `all-1` ha superato il gradino 1 (`all`)
        l'ondata `all-1` ha superato il gradino 1 (`all`) con il profilo di emergenza
        il nodo `n1` è stato isolato nell'ondata `all-1`: caselle aperte guaste: 3 su 30, limite 2
        il controllo ha fermato tutto all'ondata `all-1`: posta alterata, altrui o mancante in una casella aperta, sul nodo `n1`
        ogni ondata è sull'ultimo gradino
        ricostruzione da ciò che i nodi hanno, da ann: journal lost
        ricostruito da ciò che i nodi hanno, da ann: burnt
        ricostruito da ciò che i nodi hanno, senza n1, da ann: burnt; approvato da eve: read it: agreed
    "]],
    );
}

#[test]
fn whatever_a_page_may_be_refused_is_retold() {
    let lines = include_str!("../../../texts/said/refusals.txt").lines();

    let told: Vec<(&str, String)> = lines
        .map(|it| it.split_once('\t').unwrap())
        .map(|(a, b)| (a, b.to_owned()))
        .collect();

    check(
        &told,
        &expect![[r"
        vera (viewer) non può farlo: serve il ruolo operator, approver
        vera (viewer) non può farlo: la pagina è per altri
        il registro di controllo non si può scrivere, perciò si può soltanto fermare e chiudere
        serve l'approvazione di una seconda persona: `tidegate approve resume wave all-1`; nessuno approva ciò che chiede
        serve l'approvazione di una seconda persona: `tidegate approve resume wave all-1`
        le prove sono cambiate da quando si è guardato: si veda che cosa è andato storto, poi si approvi su ciò che c'è
        nessun piano è stato ancora avviato
        in questo piano non c'è l'ondata `all-9`; ci sono `all-1`, `all-2`
        in questo piano non c'è il nodo `n9`; ci sono `n1`
        in questo piano non c'è il nodo `n9`
        nessuna casella di questo piano ha quell'indirizzo
        indicare il ticket della chiamata: da 1 a 64 tra lettere, cifre e -_./#
        indicare l'indirizzo dell'utente
        60 ricerche in un'ora bastano per le chiamate; riprovare più tardi
        il coordinatore ha troppo da fare: sono già in attesa in 256; riprovare tra 1 s
        il coordinatore ha troppo da fare: sono già in attesa in 64; riprovare tra 1 s
        il coordinatore ha troppo da fare: sono già in attesa in 8; riprovare tra 1 s
        il coordinatore è occupato; non si sa se sia stato eseguito: lo dice lo stato
        il tempo dato alla richiesta è finito; non si sa se sia stato eseguito: lo dice lo stato
        il coordinatore si sta fermando; riprovare quando è di nuovo attivo
        nessun worker del nodo `n1` è stato respinto: non c'è nulla da accettare
        il nodo `n1` ha un worker al lavoro, sentito 1.200 ms fa; chi è stato respinto è un'altra esecuzione: va fermata quella; per avere quella al suo posto, si fermi il worker al lavoro, si attendano 9.000 ms e si accetti di nuovo
        in pausa per `n1`, `n2`, che conosce ordini o incarichi che questo coordinatore non ha mai dato: se vale per quasi tutti i nodi, si rimetta il diario più recente; se vale solo per questi, si fermino i loro worker e si riprenda senza di loro (`--without NODE`, per ciascuno)
        non tutti i nodi hanno detto che cosa hanno; mancano: `n1`, `n2`; li si attenda, o li si escluda con `--without`
        non c'è nulla da riprendere: l'ondata all-1 non è richiusa
        non c'è nulla da riprendere: la parte sul nodo n1 non è richiusa
        non c'è nulla da riprendere: questa casella non è richiusa
        il controllo ora non trattiene all-1; che cosa attende lo dice `tidegate why wave all-1`
        all-1 è trattenuta per un motivo che nessuno può scavalcare; solo la mancanza di campioni lo può essere
        le regole di questo piano non hanno un profilo di emergenza (`[emergency]`); il controllo resta com'è
        un'emergenza di 25 h non è possibile: più di zero e al massimo 24 h
        il profilo di emergenza non è in vigore: non c'è nulla da chiudere
        il ripristino è stato bloccato da ann: prima deve sbloccarlo un'altra persona (`tidegate thaw --reason`), poi si può riprendere
        il ripristino è stato bloccato da ann: deve sbloccarlo una seconda persona
        il ripristino non è bloccato: non c'è nulla da sbloccare
        il controllo ha fermato tutto a all-1: posta alterata, altrui o mancante in 2 caselle aperte, la prima sul nodo `n1`; prima si richiuda quell'ondata (`tidegate reclose wave all-1`), poi si riprenda
        il nodo `n1` è stato isolato dal controllo: prima lo si richiuda (`tidegate reclose node n1`), perché le sue caselle diano nuove prove
        in questo piano non c'è l'ondata
        in questo piano non c'è il nodo
        in questo piano non c'è la casella
        in questo piano non c'è la casella in alcuna ondata
        il ripristino è cambiato da quando si è guardato, e nulla è stato eseguito: che cosa è cambiato lo dice la pagina
        la richiesta `r-1` era un'altra cosa; ogni richiesta ha bisogno di un suo codice
        serve un motivo: il registro deve dire perché
        il ripristino è concluso: si possono ancora richiudere soltanto sue parti
        il ripristino è interrotto: si possono ancora richiudere soltanto sue parti
        il ripristino è già in pausa
        il ripristino è già fermato dal controllo
        il ripristino è già in corso
        il ripristino è già bloccato
        il ripristino è già con il profilo di emergenza
        il ripristino è in pausa: nulla si affretta prima che sia in corso
        il ripristino è fermato dal controllo: nulla si affretta prima che sia in corso
        il ripristino è interrotto: nulla si affretta prima che sia in corso
        il ripristino è concluso: nulla si affretta prima che sia in corso
    "]],
    );
}

#[test]
fn a_sentence_that_nobody_has_put_into_words_is_not_guessed() {
    let italian = Texts::of(Language::Italian);

    assert_eq!(italian.retold("paused", "paused for a reason of its own"), None);
    assert_eq!(italian.retold("no-such-code", "paused by ann"), None);
    assert_eq!(
        italian.retold("halted", "the gate halted the rollout at wave `vip`: so"),
        None
    );
    let english = Texts::of(Language::English);
    assert_eq!(english.retold("paused", "as it is").as_deref(), Some("as it is"));
}

/// Every sentence in Italian, one on a line.
fn check(said: &[(&str, String)], expected: &Expect) {
    let italian = Texts::of(Language::Italian);
    let retold = said.iter().map(|(code, said)| {
        let said = with_quotes(said);
        italian.retold(code, &said).unwrap_or_else(|| format!("NOT KNOWN: {said}"))
    });
    let retold: String = retold.map(|it| it + "\n").collect();
    // Whoever writes the expectation anew does not get past this.
    assert!(!retold.contains("NOT KNOWN"), "{retold}");
    expected.assert_eq(&retold);
}

/// As the coordinator sends it: names in the places of numbers.
fn with_quotes(said: &str) -> String {
    let named = said.replace("node 3", "node `stor-03`");
    named.replace("tier 0", "tier `free`")
}

fn holds() -> Vec<HoldReason> {
    let (opening, node) = (Signal::Opening, NodeNumber::new(3));
    let name = ShortName::new("rbl").unwrap();
    let canary = PulseSignal::Canary;
    let limit = Ppm::new(5_000);
    let minutes = Span::from_secs;
    let unmeasured =
        |nodes, silent| HoldReason::NotMeasured { signal: canary, node, nodes, silent };
    let mut holds = vec![
        HoldReason::WorkersSilent { fresh: 3, expected: 4 },
        HoldReason::WaveUnfinished {
            settled: 8_000,
            opened: 7_990,
            quarantined: 10,
            planned: 12_000,
        },
        HoldReason::SoakRunning { elapsed: minutes(65), soak: minutes(7_200) },
        HoldReason::TooFew { signal: opening, have: 12, need: 1_500 },
        HoldReason::Undecided { signal: opening, failed: 2, samples: 40, missing: 1_300 },
        HoldReason::NodesShort { mature: 1, need: 3 },
        HoldReason::TierShort { tier: TierNumber::new(0), mature: 3, need: 30 },
        HoldReason::UnknownTooMany { unknown: 40, opened: 2_000, limit },
        HoldReason::Slow { slow: 4, probes: 60, limit: 3 },
        unmeasured(1, 0),
        unmeasured(2, 12),
        unmeasured(4, 12),
        HoldReason::NoSource { signal: canary, node, nodes: 2 },
        HoldReason::OutOfBounds {
            name,
            latest: 1_250_000,
            bound: Bound::Max(1_000_000),
            bad: 3,
            answers: 12,
        },
        HoldReason::NoAnswer { name, age: None, limit: minutes(60) },
        HoldReason::NoAnswer { name, age: Some(minutes(90)), limit: minutes(60) },
        HoldReason::DiskLow { node, free: limit, need: Ppm::new(100_000) },
        HoldReason::OnlySynthetic { sessions: 0, need: 5 },
        HoldReason::Unproven { proven: 18, opened: 20 },
    ];
    holds.extend(PulseSignal::ALL.map(|signal| HoldReason::Busy {
        signal,
        bad: 4,
        minutes: 30,
        limit: 3,
        node,
        latest: 1_200,
        bound: 800,
    }));
    let signal = opening;
    let escalations = [
        Escalation::Undecided { signal, samples: 9_000, limit: 8_000 },
        Escalation::Exhausted { signal, samples: 20, missing: 40 },
        Escalation::Overdue { waited: minutes(7_200), limit: minutes(3_600) },
    ];
    holds.extend(escalations.map(HoldReason::NeedsPerson));
    holds
}

fn whys() -> Vec<Why> {
    let (wave, node) = (|| "free-2".to_owned(), || "stor-02".to_owned());
    let (rung, until) = (|| "mail".to_owned(), Timestamp::from_millis(1_769_436_000_000));
    let halted = HaltReason::Tripped {
        signal: Signal::Pulse(PulseSignal::DiskLatency),
        failed: 30,
        samples: 300,
        limit: 29,
    };
    let window = |until, takes| Why::Window { wave: wave(), rung: rung(), until, takes };
    let frozen = |reason: &str| Why::Frozen { by: "ann".into(), reason: reason.into() };
    vec![
        Why::Paused,
        frozen("mail is wrong"),
        frozen(""),
        Why::Halted(halted.to_string()),
        Why::Aborted,
        Why::Finished,
        Why::WaveHeldBack(wave()),
        Why::NodeHeldBack(node()),
        Why::NodeIsolated(node()),
        Why::NoWorker(node()),
        Why::WorkerSilent(node(), Span::from_secs(75)),
        Why::Quarantined,
        Why::Preparing(1),
        Why::Preparing(12_000),
        Why::WaveWaits(wave()),
        Why::Scheduled { wave: wave(), rung: rung(), until },
        window(Some(until), Some(Span::from_secs(5_400))),
        window(Some(until), None),
        window(None, None),
        Why::NodeWindow { node: node(), until: Some(until) },
        Why::NodeWindow { node: node(), until: None },
        Why::MailboxHeldBack,
        Why::Rebuilding { told: 3, missing: "stor-02, stor-03".to_owned() },
        Why::NodeRecounting(node()),
        Why::NodeLeftOut(node()),
        Why::WorkerTooOld(node()),
        Why::JournalTooOld(node()),
    ]
}
