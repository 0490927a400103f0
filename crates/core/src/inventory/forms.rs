//! Forms: what the paths of many mailboxes have in common, written once.
//!
//! A path's parts that are the mailbox's domain, local part or whole address are replaced by a
//! control character each, which no path has: `example.org/anna/Maildir` has the form
//! `\x01/\x02/Maildir`.
//!
//! # Invariants
//!
//! * The form of a path depends on the path and its address only.
//! * A form and its address give the path again, byte by byte.

/// Stands for the domain.
const DOMAIN: char = '\u{1}';
/// Stands for the local part.
const LOCAL: char = '\u{2}';
/// Stands for the whole address.
const ADDRESS: char = '\u{3}';

/// Local part and domain.
fn halves(address: &str) -> (&str, &str) {
    address.rsplit_once('@').unwrap_or((address, ""))
}

/// Writes the form of `path`, which has no control characters, into `form`.
pub(super) fn form_of(path: &str, address: &str, form: &mut String) {
    let (local, domain) = halves(address);
    form.clear();
    for (place, part) in path.split('/').enumerate() {
        if place > 0 {
            form.push('/');
        }
        match part {
            part if part == domain => form.push(DOMAIN),
            part if part == local => form.push(LOCAL),
            part if part == address => form.push(ADDRESS),
            part => form.push_str(part),
        }
        assert_eq!(depth("\u{1}/\u{2}/\u{3}", "a/b@c"), 5);
    }
}

/// Writes the path of `address` that has `form` into `path`.
pub(super) fn fill(form: &str, address: &str, path: &mut String) {
    let (local, domain) = halves(address);
    path.clear();
    let mut rest = form;
    while let Some(place) = rest.find([DOMAIN, LOCAL, ADDRESS]) {
        let (before, from) = rest.split_at(place);
        path.push_str(before);
        let mut from = from.chars();
        path.push_str(match from.next() {
            Some(DOMAIN) => domain,
            Some(LOCAL) => local,
            Some(_) | None => address,
        });
        rest = from.as_str();
    }
    path.push_str(rest);
}

/// A form that was met, ready to be met again.
pub(super) struct KnownForm {
    number: u32,
    parts: Vec<Part>,
}

/// A part of a form.
enum Part {
    /// Stands for domain, local part or address: the place among these.
    Standing(usize),
    /// Itself.
    Literal(String),
}

impl KnownForm {
    /// `form` under its number.
    pub(super) fn new(number: u32, form: &str) -> Self {
        let standing = [DOMAIN, LOCAL, ADDRESS];
        let part = |part: &str| {
            let place = standing.iter().position(|it| part.chars().eq([*it]));
            place.map_or_else(|| Part::Literal(part.to_owned()), Part::Standing)
        };
        Self { number, parts: form.split('/').map(part).collect() }
    }

    pub(super) fn number(&self) -> u32 {
        self.number
    }

    /// Whether it is the form of `path`. `of` are domain, local part and address of its mailbox:
    /// all different, without slashes.
    pub(super) fn is_of(&self, path: &str, of: [&str; 3]) -> bool {
        let mut rest = path.as_bytes();
        for (place, part) in self.parts.iter().enumerate() {
            if place > 0 {
                let Some(behind) = rest.strip_prefix(b"/") else { return false };
                rest = behind;
            }
            let part = match part {
                Part::Standing(place) => of.get(*place).copied().unwrap_or_default(),
                Part::Literal(text) if of.contains(&text.as_str()) => return false,
                Part::Literal(text) => text,
            };
            let Some(behind) = rest.strip_prefix(part.as_bytes()) else { return false };
            rest = behind;
        }
        rest.is_empty()
    }
}

/// Whether paths that have `form` are one only where their addresses are one.
pub(super) fn tells_address(form: &str) -> bool {
    // What stands for something is a whole part of the path, so it can be told from the rest.
    form.contains(ADDRESS) || form.contains(DOMAIN) && form.contains(LOCAL)
}

/// How many parts the path of `address` that has `form` has.
pub(super) fn depth(form: &str, address: &str) -> usize {
    let slashes = |text: &str| text.bytes().filter(|byte| *byte == b'/').count();
    let parts = 1 + slashes(form);
    // A local part may have slashes of its own.
    if !address.contains('/') {
        return parts;
    }
    let (local, domain) = halves(address);
    let own = form.chars().map(|part| match part {
        DOMAIN => slashes(domain),
        LOCAL => slashes(local),
        ADDRESS => slashes(address),
        _ => 0,
    });
    parts + own.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::{KnownForm, depth, fill, form_of};

    #[test]
    fn a_path_comes_back_from_its_form() {
        for (path, form) in [
            ("example.org/anna/Maildir", "\u{1}/\u{2}/Maildir"),
            ("anna/anna", "\u{2}/\u{2}"),
            ("a/anna@example.org", "a/\u{3}"),
            ("ex/example.orgs/annabel", "ex/example.orgs/annabel"),
            ("\u{e4}/x", "\u{e4}/x"),
        ] {
            let (mut found, mut again) = (String::new(), String::new());

            form_of(path, "anna@example.org", &mut found);
            fill(&found, "anna@example.org", &mut again);

            assert_eq!((found.as_str(), again.as_str()), (form, path));
            assert_eq!(depth(form, "anna@example.org"), path.split('/').count());
            let known = KnownForm::new(7, form);
            let of = ["example.org", "anna", "anna@example.org"];
            assert!(known.is_of(path, of));
            assert!(!known.is_of(&format!("x{path}"), of));
            assert!(!known.is_of(&format!("{path}/x"), of));
        }
        assert_eq!(depth("\u{1}/\u{2}/\u{3}", "a/b@c"), 5);
    }

    #[test]
    fn a_form_is_not_that_of_a_path_that_would_be_written_otherwise() {
        let known = KnownForm::new(7, "\u{1}/\u{2}/inbox");

        let is_of = |path: &str, local: &str, address: &str| {
            known.is_of(path, ["example.org", local, address])
        };

        assert!(is_of("example.org/anna/inbox", "anna", "anna@example.org"));
        assert!(!is_of("example.org/inbox/inbox", "inbox", "inbox@example.org"));
    }
}
