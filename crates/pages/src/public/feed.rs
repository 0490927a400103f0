//! The feed: what the press office says and the state now, as Atom.
//!
//! # Invariants
//!
//! * An entry keeps its name, so that readers see each update once.

use std::fmt::Write as _;

use super::site::Site;
use super::{Status, View, rfc3339};

/// `feed.atom` in the view's language.
pub(super) fn atom(site: &Site, view: &View<'_>, status: &Status) -> String {
    let language = view.texts.language();
    let (code, at) = (language.code(), rfc3339(status.at));
    let url = format!("{}/", site.url.trim_end_matches('/'));
    let mut entries = String::new();
    let state = view.paragraphs.join(" ");
    entry(&mut entries, &format!("{url}{code}/#now"), &view.headline, (&at, &state));
    for (place, update) in site.updates.iter().enumerate().rev() {
        let text = update.text(language);
        let title: String = text.chars().take(TITLE_CHARS).collect();
        let id = format!("{url}{code}/#update-{}", place + 1);
        entry(&mut entries, &id, &title, (&update.time.to_string(), text));
    }
    let title = format!("{}: {}", site.name, view.texts.say("title"));
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n\
         <feed xmlns=\"http://www.w3.org/2005/Atom\" xml:lang=\"{code}\">\n\
         <title>{}</title>\n<id>{}</id>\n<updated>{at}</updated>\n\
         <author><name>{}</name></author>\n\
         <link rel=\"self\" href=\"{}{code}/feed.atom\"/>\n\
         <link href=\"{}{code}/\"/>\n{entries}</feed>\n",
        escape(&title),
        escape(&format!("{url}{code}/")),
        escape(&site.name),
        escape(&url),
        escape(&url),
    )
}

/// A title is a line.
const TITLE_CHARS: usize = 80;

fn entry(out: &mut String, id: &str, title: &str, (at, text): (&str, &str)) {
    // Writing to a string cannot fail.
    let _ = write!(
        out,
        "<entry>\n<id>{}</id>\n<title>{}</title>\n<updated>{at}</updated>\n\
         <link href=\"{}\"/>\n<content type=\"text\">{}</content>\n</entry>\n",
        escape(id),
        escape(title),
        escape(id),
        escape(text),
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
