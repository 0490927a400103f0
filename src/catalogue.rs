//! Catalogue: what `journalctl -x` says beside each entry that has a code.
//!
//! # Invariants
//!
//! * It says what the runbook of this version says, and has the ids that entries are written with.
//! * An entry that has no text in a language has none there: `journalctl` shows the English one.

use tidegate_pages::texts::{Language, Texts};

use crate::explain;
use crate::screens::say;
use crate::telemetry::message_id;

/// The file of each language, by systemd's names, and what is in it.
pub(crate) fn files() -> [(&'static str, String); 2] {
    [("tidegate.catalog", english()), ("tidegate.it.catalog", italian())]
}

fn english() -> String {
    let mut out = String::new();
    for code in explain::codes() {
        let mut lines = explain::lines(code);
        if lines.is_empty() {
            continue;
        }
        begin(&mut out, code, &format!("Tidegate: {code}"));
        lines.push(format!("More: tidegate explain {code}"));
        body(&mut out, &lines);
    }
    out
}

fn italian() -> String {
    let texts = Texts::of(Language::Italian);
    let mut out = String::new();
    for code in explain::codes() {
        let name = format!("why-{code}");
        if !texts.has(&name) {
            continue;
        }
        let said = texts.say(&name);
        begin(&mut out, code, &format!("Tidegate: {said}"));
        let lines =
            [said, format!("Che cosa fare (in inglese): tidegate explain {code}")];
        body(&mut out, &lines);
    }
    out
}

fn begin(out: &mut String, code: &str, subject: &str) {
    say!(out, "-- {}\nSubject: {subject}\n", message_id(code));
    out.push_str("Defined-By: Tidegate\nDocumentation: man:tidegate(1)\n");
    out.push_str("Documentation: file:///usr/share/doc/tidegate/runbook.md\n\n");
}

fn body(out: &mut String, lines: &[String]) {
    for line in lines {
        // A line that begins so would begin another entry.
        let line = line.trim_start_matches("-- ");
        say!(out, "{line}\n");
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_has_what_people_are_paged_for_in_both_languages() {
        for (file, text) in files() {
            for code in ["halted", "node-isolated", "worker-silent", "frozen", "too-few"]
            {
                let id = message_id(code);
                assert_eq!(
                    text.matches(&format!("-- {id}\n")).count(),
                    1,
                    "{code}: {file}"
                );
            }
        }
        assert!(english().contains("do: "), "it says what to do");
    }
}
