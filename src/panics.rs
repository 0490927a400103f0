//! Panics: what is told when a part of the program breaks.
//!
//! # Invariants
//!
//! * Where it broke is told, and what the program's own text says. What it held at that time may
//!   be somebody's address or mail, and is never told.

use std::any::Any;
use std::panic::{self, Location};

/// From now on panics are told so, on the log or, before there is one, on stderr.
pub(crate) fn tell_without_data() {
    panic::set_hook(Box::new(|info| {
        let place = std::thread::current();
        let line = line(info.location(), place.name(), info.payload());
        if tracing::dispatcher::has_been_set() {
            tracing::error!("{line}");
        } else {
            crate::console::tell(&line);
        }
    }));
}

/// Where a test says with which text a program shall break.
#[cfg(debug_assertions)]
const BREAK_WITH: &str = "TIDEGATE_BREAK_WITH";

/// Breaks and ends the program, with what a file holds as soon as it is there, so that tests see
/// what a crash tells. Programs that are built for use cannot do it.
#[cfg(debug_assertions)]
#[expect(clippy::panic, reason = "to break is what it is for")]
pub(crate) fn break_when_told() {
    use std::time::Duration;

    let Some(file) = std::env::var_os(BREAK_WITH) else { return };
    std::thread::spawn(move || {
        let text = loop {
            match std::fs::read_to_string(&file) {
                Ok(text) => break text,
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        };
        let broken = panic::catch_unwind(|| panic::panic_any(text));
        drop(broken);
        std::process::abort();
    });
}

/// Nothing: programs that are built for use break for nobody.
#[cfg(not(debug_assertions))]
pub(crate) const fn break_when_told() {}

fn line(
    location: Option<&Location<'_>>,
    thread: Option<&str>,
    payload: &(dyn Any + Send),
) -> String {
    let place =
        location.map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let thread = thread.unwrap_or("?");
    // A text that was made while the program ran may have anything in it.
    let own = payload.downcast_ref::<&'static str>();
    let text = own.map_or("with a text that may hold data and is not told", |text| text);
    format!("the program broke at {place}, thread {thread}: {text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_program_held_is_not_told_and_where_it_broke_is() {
        let here = Location::caller();
        let held = "anna@example.org is no mailbox".to_owned();

        let told = line(Some(here), Some("owner"), &held);
        let own = line(Some(here), None, &"jobs are the plan's");

        let place = format!("the program broke at {here}, thread owner: ");
        assert_eq!(told, place + "with a text that may hold data and is not told");
        assert!(own.ends_with("thread ?: jobs are the plan's"), "{own}");
    }
}
