//! Values of options: shares, seconds, faults.
//!
//! # Invariants
//!
//! * What is written wrongly is refused with how it is written.

use std::time::Duration;

use tidegate_core::share::Ppm;

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
    use super::{Fault, fault, share};
    use tidegate_core::share::Ppm;

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
    fn a_fault_names_what_fails_and_how_often() {
        let node = Fault::Node { name: "stor-02".to_owned(), share: Ppm::new(300_000) };

        assert_eq!(fault("node:stor-02=30%"), Ok(node));
        assert_eq!(fault("all=5%"), Ok(Fault::All { share: Ppm::new(50_000) }));
        assert_eq!(fault("kill=3"), Ok(Fault::Kill { times: 3 }));
        assert!(fault("node:=30%").is_err());
    }
}
