//! The system's journal: what is logged, field by field, for `journalctl` to find.
//!
//! ```text
//! MESSAGE=record applied: code=node-isolated …     PRIORITY=6
//! MESSAGE_ID=…   TIDEGATE_CODE=node-isolated   TIDEGATE_NODE=stor-02   TIDEGATE_WAVE=rest-1   …
//! ```
//!
//! The format is systemd's own (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).
//!
//! # Invariants
//!
//! * A field of an event or of a span around it is a field of the entry, under one name each.
//! * Whatever has a code has a `MESSAGE_ID`, and the same code always the same one.
//! * What the journal does not take is written to stderr: nothing is lost for its form.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Where journald listens.
const SOCKET: &str = "/run/systemd/journal/socket";

/// Where systemd says what stderr is connected to, as `DEVICE:INODE`.
const STREAM: &str = "JOURNAL_STREAM";

/// Longer values are cut: a datagram is taken whole or not at all.
const VALUE_BYTES_MAX: usize = 16 << 10;

/// What every `MESSAGE_ID` is made from, so that no other program has the same.
const MESSAGE_OF: &str = "tidegate message 1";

/// Whether what is written to stderr goes to systemd's journal.
pub(crate) fn is_stderr() -> bool {
    let Ok(stream) = std::env::var(STREAM) else { return false };
    let Ok(stderr) = std::fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", stderr.dev(), stderr.ino())
}

/// The `MESSAGE_ID` of all entries with this code.
pub(crate) fn message_id(code: &str) -> String {
    let digest = blake3::hash(format!("{MESSAGE_OF}\n{code}").as_bytes()).to_hex();
    digest.chars().take(32).collect()
}

/// Hands events to the journal.
pub(crate) struct Journal(UnixDatagram);

impl Journal {
    /// The journal of this system.
    ///
    /// # Errors
    ///
    /// When nobody listens there.
    pub(crate) fn connect() -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(SOCKET)?;
        Ok(Self(socket))
    }

    fn write(&self, entry: &Entry) {
        let sent = self.0.send(&entry.bytes);
        // It may have been started anew.
        let sent = sent.or_else(|_| self.0.send_to(&entry.bytes, SOCKET));
        if sent.is_err() {
            // Nobody is left to tell.
            drop(writeln!(io::stderr(), "{}", entry.text));
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Journal {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut all = Fields::default();
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<Fields>() {
                // What stands nearer to the event counts.
                let new: Vec<_> =
                    fields.0.iter().filter(|(name, _)| !all.has(name)).cloned().collect();
                all.0.extend(new);
            }
        }
        let mut own = Fields::default();
        event.record(&mut own);
        all.0.retain(|(name, _)| !own.has(name));
        self.write(&Entry::of(event.metadata(), &own, &all));
    }
}

/// Fields with their values, in order.
#[derive(Default)]
struct Fields(Vec<(&'static str, String)>);

impl Fields {
    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    fn set(&mut self, field: &Field, value: String) {
        self.0.retain(|(known, _)| *known != field.name());
        self.0.push((field.name(), value));
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.set(field, super::Chain(value).to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, format!("{value:?}"));
    }
}

/// An entry of the journal.
struct Entry {
    bytes: Vec<u8>,
    /// The same on one line.
    text: String,
}

impl Entry {
    fn of(metadata: &tracing::Metadata<'_>, own: &Fields, around: &Fields) -> Self {
        let mut text = own.get("message").unwrap_or_default().to_owned();
        for (name, value) in own.0.iter().filter(|(name, _)| *name != "message") {
            // Writing to a string cannot fail.
            let _ = write!(text, " {name}={value}");
        }
        let mut entry = Self { bytes: Vec::new(), text };
        let text = entry.text.clone();
        entry.put("MESSAGE", &text);
        entry.put("PRIORITY", priority(*metadata.level()));
        entry.put("SYSLOG_IDENTIFIER", "tidegate");
        entry.put("TARGET", metadata.target());
        if let Some(code) = own.get("code") {
            entry.put("MESSAGE_ID", &message_id(code));
        }
        for (name, value) in own.0.iter().chain(&around.0) {
            if *name != "message" {
                entry.put(&field_name(name), value);
            }
        }
        entry
    }

    fn put(&mut self, name: &str, value: &str) {
        let value =
            value.get(..value.floor_char_boundary(VALUE_BYTES_MAX)).unwrap_or(value);
        self.bytes.extend(name.as_bytes());
        if value.contains('\n') {
            // Only this form takes more than one line.
            self.bytes.push(b'\n');
            let length = u64::try_from(value.len()).unwrap_or(u64::MAX);
            self.bytes.extend(length.to_le_bytes());
        } else {
            self.bytes.push(b'=');
        }
        self.bytes.extend(value.as_bytes());
        self.bytes.push(b'\n');
    }
}

/// As syslog counts.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// What a field is called in the journal: `node` is `TIDEGATE_NODE`, and a rollout is named by
/// its plan.
fn field_name(name: &str) -> String {
    let name = if name == "rollout_id" { "plan" } else { name };
    let letters = name.chars().map(|letter| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' => letter.to_ascii_uppercase(),
        _ => '_',
    });
    format!("TIDEGATE_{}", letters.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_the_same_message_id_for_ever() {
        assert_eq!(message_id("halted"), "b2450c23eda7c41bbdabb6af6a75702a");
        assert_eq!(message_id("node-isolated"), "73fe307e09af4558c801fa1c749cc313");
    }

    #[test]
    fn a_value_of_several_lines_is_told_with_its_length() {
        let mut entry = Entry { bytes: Vec::new(), text: String::new() };

        entry.put("MESSAGE", "one");
        entry.put("TIDEGATE_ERROR", "two\nlines");

        assert_eq!(
            entry.bytes,
            b"MESSAGE=one\nTIDEGATE_ERROR\n\x09\0\0\0\0\0\0\0two\nlines\n"
        );
    }

    #[test]
    fn a_long_value_is_cut_between_two_letters() {
        let mut entry = Entry { bytes: Vec::new(), text: String::new() };

        entry.put("A", &format!("x{}", "ü".repeat(VALUE_BYTES_MAX)));

        assert_eq!(entry.bytes.len(), "A=\n".len() + VALUE_BYTES_MAX - 1);
        assert!(std::str::from_utf8(&entry.bytes).is_ok());
    }
}
