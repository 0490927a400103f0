//! Claims: what public texts say about mail and mailboxes, held against the evidence.
//!
//! # Invariants
//!
//! * A sentence that says that nothing is lost, that everything is open, or when to the minute, is
//!   published only where the records say so.
//! * It errs on the strict side: a sentence that cannot be told apart from a claim is one.

use crate::texts::Language;

/// What the records say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// Messages that no source holds intact.
    pub messages_missing: u64,
    /// Whether every mailbox has been verified.
    pub all_verified: bool,
    /// Whether every mailbox is open.
    pub all_open: bool,
}

/// A sentence that the evidence does not support.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("“{sentence}” says {claim}, but {evidence}")]
pub struct Unsupported {
    /// The sentence.
    pub sentence: String,
    /// What it claims.
    pub claim: &'static str,
    /// What the records say instead.
    pub evidence: String,
}

/// All sentences of `text` that `evidence` does not support.
pub fn check(text: &str, language: Language, evidence: &Evidence) -> Vec<Unsupported> {
    let sentences = text.split_inclusive(['.', '!', '?', ';', '\n']);
    let mut whole = String::new();
    let mut found = Vec::new();
    for piece in sentences {
        whole.push_str(piece);
        // `9.000.000` and `07.30` go on behind the full stop.
        let digit = piece.trim_end_matches('.').ends_with(|c: char| c.is_ascii_digit());
        if piece.ends_with('.') && digit {
            continue;
        }
        found.extend(check_sentence(whole.trim(), language, evidence));
        whole.clear();
    }
    found.extend(check_sentence(whole.trim(), language, evidence));
    found
}

/// The words by which claims are known.
struct Words {
    no: &'static [&'static str],
    lost: &'static [&'static str],
    so_far: &'static [&'static str],
    all: &'static [&'static str],
    open: &'static [&'static str],
    not: &'static [&'static str],
    promise: &'static [&'static str],
}

const ITALIAN: Words = Words {
    no: &["nessun", "nulla", "niente", "non", "zero", "senza", "0", "né", "mai"],
    lost: &["pers", "perdut", "perdit", "mancant", "manca", "smarrit"],
    so_far: &["finora", "verificat"],
    all: &["tutt", "ogni", "qualsiasi"],
    open: &["apert", "riapert", "ripristinat", "attiv", "funzionant"],
    not: &["non"],
    promise: &["sarà", "saranno", "riapr", "torn", "previst", "entro"],
};

const ENGLISH: Words = Words {
    no: &["no", "none", "nothing", "not", "never", "zero", "without", "0", "nobody"],
    lost: &["lost", "lose", "loses", "losing", "loss", "losses", "missing"],
    so_far: &["far", "verified"],
    all: &["all", "every", "everything", "everybody", "each", "any"],
    open: &["open", "opened", "reopened", "restored", "back", "working"],
    not: &["not"],
    promise: &["will", "shall", "expected", "by", "reopen", "reopens", "back"],
};

fn check_sentence(
    sentence: &str,
    language: Language,
    evidence: &Evidence,
) -> Vec<Unsupported> {
    let lower = sentence.to_lowercase();
    let words: Vec<&str> =
        lower.split(|c: char| !c.is_alphanumeric()).filter(|it| !it.is_empty()).collect();
    let list = match language {
        Language::Italian => &ITALIAN,
        Language::English => &ENGLISH,
    };
    let has = |chosen: &[&str]| {
        words.iter().any(|word| chosen.iter().any(|it| is_form(word, it, language)))
    };
    let mut found = Vec::new();
    let mut add = |claim, evidence: String| {
        found.push(Unsupported { sentence: sentence.to_owned(), claim, evidence });
    };
    if has(list.no) && has(list.lost) {
        let Evidence { messages_missing: missing, all_verified, .. } = *evidence;
        if missing > 0 {
            add("that nothing is lost", format!("{missing} messages are"));
        } else if !all_verified && !has(list.so_far) {
            let why = "not every mailbox has been verified; say “so far”";
            add("that nothing is lost", why.to_owned());
        }
    }
    if has(list.all) && has(list.open) && !has(list.not) && !evidence.all_open {
        add("that everything is open", "not every mailbox is".to_owned());
    }
    if has(list.promise) && names_a_minute(&lower) {
        let why = "forecasts have a band; name whole hours, and two of them";
        add("when, to the minute", why.to_owned());
    }
    found
}

/// Italian words have endings, English ones are listed in full.
fn is_form(word: &str, listed: &str, language: Language) -> bool {
    match language {
        Language::Italian if listed.chars().count() > 3 => word.starts_with(listed),
        Language::Italian | Language::English => word == listed,
    }
}

/// Whether it has a time of day such as `14:37` or `14.37`, but no whole hour.
fn names_a_minute(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.windows(3).enumerate().any(|(at, window)| {
        let [mark, tens, ones] = window else { return false };
        let digit = |at: Option<&u8>| at.is_some_and(u8::is_ascii_digit);
        let hour = at.checked_sub(1).is_some_and(|before| digit(bytes.get(before)));
        let time =
            matches!(mark, b':' | b'.') && tens.is_ascii_digit() && ones.is_ascii_digit();
        time && hour && !digit(bytes.get(at + 3)) && (*tens, *ones) != (b'0', b'0')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLEAN: Evidence =
        Evidence { messages_missing: 0, all_verified: true, all_open: true };

    #[test]
    fn nobody_is_told_that_nothing_is_lost_while_findings_say_otherwise() {
        let some = Evidence { messages_missing: 3, ..CLEAN };
        let early = Evidence { all_verified: false, ..CLEAN };

        for (language, text) in [
            (Language::English, "No mail was lost."),
            (Language::English, "We are glad: nothing has gone missing!"),
            (Language::Italian, "Nessun messaggio è andato perduto."),
            (Language::Italian, "Non abbiamo perso nulla."),
        ] {
            assert_eq!(check(text, language, &some).len(), 1, "{text}");
            assert_eq!(check(text, language, &early).len(), 1, "{text}");
            assert_eq!(check(text, language, &CLEAN), [], "{text}");
        }
    }

    #[test]
    fn what_was_verified_so_far_may_be_told_while_the_rest_is_not() {
        let early = Evidence { all_verified: false, ..CLEAN };
        let text = "Verified so far: 1,000 messages, none of them missing.";

        assert_eq!(check(text, Language::English, &early), []);
        let some = Evidence { messages_missing: 1, ..early };
        assert_eq!(check(text, Language::English, &some).len(), 1);
    }

    #[test]
    fn everything_is_open_only_when_it_is() {
        let partly = Evidence { all_open: false, ..CLEAN };

        for (language, text) in [
            (Language::English, "All mailboxes are open again."),
            (Language::Italian, "Tutte le caselle sono state riaperte."),
        ] {
            assert_eq!(check(text, language, &partly).len(), 1, "{text}");
            assert_eq!(check(text, language, &CLEAN), [], "{text}");
        }
        assert_eq!(check("Not all mailboxes are open.", Language::English, &partly), []);
    }

    #[test]
    fn an_hour_may_be_promised_and_a_minute_never() {
        let at_minute = "Your mailbox will be back at 14:37.";

        assert_eq!(check(at_minute, Language::English, &CLEAN).len(), 1);
        assert_eq!(
            check("It will be back between 14:00 and 18:00.", Language::English, &CLEAN),
            []
        );
        assert_eq!(
            check("Abbiamo riaperto 573.000 caselle.", Language::Italian, &CLEAN),
            []
        );
    }

    #[test]
    fn a_number_with_full_stops_does_not_end_a_sentence() {
        let some = Evidence { messages_missing: 2, ..CLEAN };
        let text = "Su 9.000.000 di messaggi nessuno è perso.";

        let found = check(text, Language::Italian, &some);

        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].to_string(),
            "“Su 9.000.000 di messaggi nessuno è perso.” says that nothing is lost, \
             but 2 messages are"
        );
    }
}
