//! Complaint: what is wrong in a configuration file, shown at its place.
//!
//! # Invariants
//!
//! * File, line, a caret, and what to write instead.

use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// Edits after which a word is no likely slip of another any more.
const SLIP_EDITS_MAX: usize = 3;

/// Something wrong in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    /// What is wrong.
    pub(crate) title: String,
    /// Where, as bytes of the text; nothing for the file as a whole.
    pub(crate) span: Option<Range<usize>>,
    /// What to write instead.
    pub(crate) help: Option<String>,
}

impl Complaint {
    /// What the TOML reader found, with a hint where the key is a likely slip.
    pub(crate) fn from_toml(error: &toml::de::Error) -> Self {
        let title = error.message().lines().next().unwrap_or("not TOML").to_owned();
        let help = help_for(&title);
        let span = error.span().filter(|_| !title.starts_with("missing field"));
        Self { title, span, help }
    }

    /// The complaint as text for the file called `name`.
    pub(crate) fn render(&self, name: &str, text: &str) -> String {
        let title = Level::ERROR.primary_title(&self.title);
        let snippet = Snippet::source(text).path(name);
        let mut group = match &self.span {
            Some(span) => title
                .element(snippet.annotation(AnnotationKind::Primary.span(span.clone()))),
            None => {
                Group::with_title(title).element(annotate_snippets::Origin::path(name))
            }
        };
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help));
        }
        Renderer::plain().decor_style(DecorStyle::Ascii).render(&[group])
    }
}

/// Reads the names in `` unknown field `x`, expected one of `a`, `b` ``.
fn help_for(title: &str) -> Option<String> {
    let mut names = title.split('`').skip(1).step_by(2);
    let first = names.next().unwrap_or_default();
    if title.starts_with("missing field") {
        return Some(format!(
            "add a line `{first} = …`; `deploy/config` has commented examples"
        ));
    }
    if title.starts_with("invalid socket address") {
        return Some("write it as `127.0.0.1:7443`".to_owned());
    }
    if !title.starts_with("unknown") {
        return None;
    }
    let known: Vec<&str> = names.collect();
    let nearest = known
        .iter()
        .filter(|name| is_slip(first, name))
        .map(|name| (edits(first, name), *name))
        .min();
    Some(match nearest {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None => format!("known here: {}", known.join(", ")),
    })
}

/// Whether a word may be a slip of another.
pub(crate) fn is_slip(from: &str, to: &str) -> bool {
    edits(from, to) <= SLIP_EDITS_MAX
}

/// How many letters must be added, removed or changed to make `to` from `from`.
pub(crate) fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, letter) in from.chars().enumerate() {
        let mut next = vec![line + 1];
        for (other, pair) in to.iter().zip(row.windows(2)) {
            let [corner, above] = pair else { continue };
            let left = next.last().copied().unwrap_or(0);
            let same = usize::from(letter != *other);
            next.push((corner + same).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{edits, help_for};

    #[test]
    fn a_slip_is_recognised() {
        assert_eq!(edits("lisen", "listen"), 1);
        assert_eq!(
            help_for("unknown field `lisen`, expected one of `data_dir`, `listen`"),
            Some("did you mean `listen`?".to_owned())
        );
    }
}
