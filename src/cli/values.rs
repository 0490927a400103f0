//! Values of options: shares, seconds, faults.
//!
//! # Invariants
//!
//! * What is written wrongly is refused with how it is written.

use std::time::Duration;

use tidegate_core::share::Ppm;
use tidegate_core::time::Span;
use tidegate_wire::policy_file;

/// The slowest that a node may be assumed to be: beyond this it is lost.
const TIMES_MAX: f64 = 1_000.0;

/// What is assumed of one node, or of all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Of<T> {
    /// The node; nothing for all of them.
    pub(crate) node: Option<String>,
    /// What.
    pub(crate) what: T,
}

/// What goes wrong in the lab after opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// A share of the mailboxes of one node fails after opening.
    Node {
        /// The node.
        name: String,
        /// The share.
        share: Ppm,
    },
    /// A share of all mailboxes fails after opening.
    All {
        /// The share.
        share: Ppm,
    },
    /// A program is killed and started again, so many times.
    Kill {
        /// How many times.
        times: u32,
    },
}

/// Reads a share: `8%`, `0.5 %`.
pub(super) fn share(text: &str) -> Result<Ppm, String> {
    let wrong = || format!("`{text}` is no share: write it as `8%` or `0.5%`");
    let number = text.trim().strip_suffix('%').ok_or_else(wrong)?.trim_end();
    let (whole, rest) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty()
        || whole.len() > 3
        || rest.len() > 4
        || !digits(whole)
        || !digits(rest)
    {
        return Err(wrong());
    }
    let parts: u32 = format!("{whole}{rest:0<4}").parse().map_err(|_| wrong())?;
    if parts > Ppm::WHOLE.parts() {
        return Err(format!("`{text}` is more than the whole"));
    }
    Ok(Ppm::new(parts))
}

/// Reads a share of one node, or of all.
pub(super) fn of_share(text: &str) -> Result<Of<Ppm>, String> {
    let (node, what) = match text.rsplit_once('=') {
        Some((node, what)) if !node.is_empty() => (Some(node.to_owned()), what),
        Some(_) => return Err(format!("`{text}` names no node: `stor-17=30%` does")),
        None => (None, text),
    };
    Ok(Of { node, what: share(what)? })
}

/// Reads how many times slower one node is.
pub(super) fn of_times(text: &str) -> Result<Of<f64>, String> {
    let (node, what) = of_node(text, "stor-03=4x")?;
    let times = what.trim().trim_end_matches('x').parse().ok();
    let times = times.filter(|times| (1.0..=TIMES_MAX).contains(times));
    let what = times.ok_or_else(|| {
        format!("`{what}` is no number from 1 to {TIMES_MAX}: write it as `4x` or `2.5x`")
    })?;
    Ok(Of { node, what })
}

/// Reads after how long something comes to one node.
pub(super) fn of_span(text: &str) -> Result<Of<Span>, String> {
    let (node, what) = of_node(text, "stor-09=3h")?;
    let what = policy_file::span(what)
        .ok_or_else(|| format!("`{what}` is no time: write it as `3h` or `90 min`"))?;
    Ok(Of { node, what })
}

fn of_node<'a>(
    text: &'a str,
    example: &str,
) -> Result<(Option<String>, &'a str), String> {
    match text.rsplit_once('=') {
        Some((node, what)) if !node.is_empty() => Ok((Some(node.to_owned()), what)),
        Some(_) | None => Err(format!("`{text}` names no node: `{example}` does")),
    }
}

/// Reads a number above zero.
pub(super) fn positive(text: &str) -> Result<f64, String> {
    let number = text.trim().parse().ok();
    let number = number.filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| format!("`{text}` is no number above 0"))
}

/// Reads a fault.
pub(super) fn fault(text: &str) -> Result<Fault, String> {
    if text == "none" {
        return Ok(Fault::None);
    }
    let wrong = || {
        format!(
            "`{text}` is no fault: `none`, `node:stor-01=30%`, `all=30%` and `kill=20` are"
        )
    };
    let (what, value) = text.split_once('=').ok_or_else(wrong)?;
    match what.split_once(':').unwrap_or((what, "")) {
        ("all", "") => Ok(Fault::All { share: share(value)? }),
        ("node", name) if !name.is_empty() => {
            Ok(Fault::Node { name: name.to_owned(), share: share(value)? })
        }
        ("kill", "") => Ok(Fault::Kill { times: value.parse().map_err(|_| wrong())? }),
        _ => Err(wrong()),
    }
}

/// Reads a number of seconds.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.trim().trim_end_matches('s').trim_end();
    let seconds: u64 =
        number.parse().map_err(|_| format!("`{text}` is no number of seconds"))?;
    Ok(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::{Fault, Of, fault, of_share, of_span, of_times, positive, share};
    use tidegate_core::share::Ppm;
    use tidegate_core::time::Span;

    #[test]
    fn a_share_is_read_as_people_write_it() {
        let read = ["8%", "0.5 %", "100%", "101%", "8", "-1%", "1.23456%"].map(share);

        assert_eq!(
            read.map(Result::ok),
            [
                Some(Ppm::new(80_000)),
                Some(Ppm::new(5_000)),
                Some(Ppm::WHOLE),
                None,
                None,
                None,
                None
            ]
        );
    }

    #[test]
    fn what_is_assumed_of_a_node_names_it() {
        let node = |name: &str| Some(name.to_owned());

        assert_eq!(of_share("0.2%"), Ok(Of { node: None, what: Ppm::new(2_000) }));
        assert_eq!(of_times("a=b=2.5x"), Ok(Of { node: node("a=b"), what: 2.5 }));
        let hours = Span::from_secs(3 * 3_600);
        assert_eq!(of_span("n1=3h"), Ok(Of { node: node("n1"), what: hours }));
        assert!(of_times("4x").is_err());
        assert!(of_times("n1=0.5x").is_err());
        assert!(of_span("=3h").is_err());
        assert!(positive("-1").is_err());
    }

    #[test]
    fn a_fault_names_what_fails_and_how_often() {
        let node = Fault::Node { name: "stor-02".to_owned(), share: Ppm::new(300_000) };

        assert_eq!(fault("node:stor-02=30%"), Ok(node));
        assert_eq!(fault("all=5%"), Ok(Fault::All { share: Ppm::new(50_000) }));
        assert_eq!(fault("kill=3"), Ok(Fault::Kill { times: 3 }));
        assert!(fault("node:=30%").is_err());
    }
}
