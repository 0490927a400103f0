//! `mx.toml`: what the program beside a mail exchanger is started with.
//!
//! # Invariants
//!
//! * It listens on this machine only: whoever may ask may find out who is a user.
//! * No next hop is ever empty: mail would bounce.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tidegate_exchanger::{Config, DrainConfig, Hops, NODE_PLACE, Postqueue};
use toml::Spanned;

use super::{Log, LogFormat, Text, raw_log, tls};
use crate::exit::Failure;

/// Where Postfix asks for transports if nobody says otherwise.
const SOCKETMAP_LISTEN: SocketAddr =
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10_391);

/// Longer than any restart of a coordinator, shorter than senders wait for an answer.
const SILENCE_MAX_SECONDS: u64 = 3_600;

/// Debian's and most others'.
const POSTQUEUE: &str = "/usr/sbin/postqueue";

/// A share of what a disk array takes, beside the mail of the day.
const PER_SECOND_MAX: u32 = 100;

/// The shipped lines of master.cf: their refusals are never for good.
const DELIVER: &str = "open";
const HOLD: &str = "held";

/// `mx.toml`.
#[derive(Debug)]
pub(crate) struct MxFile {
    /// The exchanger.
    pub(crate) exchanger: Config,
    /// Its log.
    pub(crate) log: Log,
}

impl MxFile {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    ///
    /// [`crate::exit::Exit::Config`] with a message that shows the place.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        Self::check(&Text::read(path)?)
    }

    fn check(text: &Text) -> Result<Self, Failure> {
        let raw: RawMxFile = text.parse()?;
        let tls = tls(raw.tls, text)?;
        let coordinator = tls::url(raw.coordinator, tls.as_ref(), text)?;
        if raw.name.get_ref().trim().is_empty() {
            let help = "give the name that people know this mail exchanger by";
            return Err(text.complain(
                raw.name.span(),
                "the exchanger has no name",
                help,
            ));
        }
        for address in [&raw.socketmap_listen, &raw.policy_listen].into_iter().flatten() {
            if !address.get_ref().ip().is_loopback() {
                let title = "others than Postfix on this machine could ask";
                let help = "use `127.0.0.1`: whoever may ask may find out who is a user";
                return Err(text.complain(address.span(), title, help));
            }
        }
        let silence_max = raw.silence_max_seconds.unwrap_or(SILENCE_MAX_SECONDS);
        let exchanger = Config {
            name: raw.name.into_inner(),
            coordinator,
            tls,
            state_dir: raw.state_dir.map(|dir| text.beside(&dir)),
            socketmap_listen: raw
                .socketmap_listen
                .map_or(SOCKETMAP_LISTEN, Spanned::into_inner),
            policy_listen: raw.policy_listen.map(Spanned::into_inner),
            hops: raw.next_hop.check(text)?,
            delimiters: raw.recipient_delimiter.unwrap_or_else(|| "+".to_owned()),
            silence_max: Duration::from_secs(silence_max),
            drain: raw.drain.map(|drain| drain.check(text)).transpose()?,
        };
        Ok(Self { exchanger, log: raw_log(raw.log, raw.log_format) })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMxFile {
    name: Spanned<String>,
    coordinator: Spanned<String>,
    tls: Option<tls::RawTls>,
    state_dir: Option<PathBuf>,
    socketmap_listen: Option<Spanned<SocketAddr>>,
    policy_listen: Option<Spanned<SocketAddr>>,
    silence_max_seconds: Option<u64>,
    recipient_delimiter: Option<String>,
    next_hop: RawHops,
    drain: Option<RawDrain>,
    log: Option<String>,
    log_format: Option<LogFormat>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHops {
    template: Option<Spanned<String>>,
    #[serde(default)]
    nodes: BTreeMap<String, Spanned<String>>,
    deliver: Option<Spanned<String>>,
    hold: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDrain {
    postqueue: Option<Spanned<PathBuf>>,
    config_dir: Option<Spanned<PathBuf>>,
    per_second_max: Option<u32>,
}

impl RawHops {
    fn check(self, text: &Text) -> Result<Hops, Failure> {
        let hop = |hop: Spanned<String>| {
            let place = ["inet:", "unix:"]
                .iter()
                .find_map(|kind| hop.get_ref().strip_prefix(kind));
            if place.is_some_and(|place| !place.is_empty() && !place.contains(' ')) {
                return Ok(hop.into_inner());
            }
            let help = "write it as `inet:10.0.0.1:24` or `unix:/run/dovecot/lmtp`";
            Err(text.complain(hop.span(), "this is no next hop", help))
        };
        let transport = |name: Option<Spanned<String>>, or: &str| {
            let Some(name) = name else { return Ok(or.to_owned()) };
            let harmful =
                ["retry", "error", "discard"].contains(&name.get_ref().as_str());
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            if !harmful && !name.get_ref().is_empty() && name.get_ref().bytes().all(plain)
            {
                return Ok(name.into_inner());
            }
            let help =
                "name the LMTP client's line in master.cf, such as `lmtp` or `held`";
            Err(text.complain(name.span(), "mail would be lost or refused by this", help))
        };
        if let Some(template) = &self.template
            && !template.get_ref().contains(NODE_PLACE)
        {
            let title = "every node would have the same next hop";
            let help = "write the node's name as `{node}`: `inet:{node}:24`";
            return Err(text.complain(template.span(), title, help));
        }
        let nodes = self.nodes.into_iter().map(|(node, to)| Ok((node, hop(to)?)));
        Ok(Hops {
            nodes: nodes.collect::<Result<_, Failure>>()?,
            template: self.template.map(hop).transpose()?,
            deliver: transport(self.deliver, DELIVER)?,
            hold: transport(self.hold, HOLD)?,
        })
    }
}

impl RawDrain {
    fn check(self, text: &Text) -> Result<DrainConfig, Failure> {
        let program = match self.postqueue {
            Some(program) if program.get_ref().is_absolute() => program.into_inner(),
            Some(program) => {
                let title = format!("`{}` has no directory", program.get_ref().display());
                let help = "write its whole path: programs are not looked for";
                return Err(text.complain(program.span(), title, help));
            }
            None => PathBuf::from(POSTQUEUE),
        };
        let config_dir = self.config_dir.map(|dir| text.directory(&dir)).transpose()?;
        Ok(DrainConfig {
            queue: Postqueue { program, config_dir },
            per_second_max: self.per_second_max.unwrap_or(PER_SECOND_MAX),
        })
    }
}

/// Every setting of the file.
pub(super) fn keys() -> Vec<super::keys::Key> {
    super::keys::keys_of::<RawMxFile>()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use expect_test::{Expect, expect};

    use super::{MxFile, Text};
    use crate::exit::Failure;

    const MX: &str = "name = \"mx1\"\ncoordinator = \"http://127.0.0.1:7443\"\n\
        [next_hop]\ntemplate = \"inet:{node}:24\"\n";

    #[test]
    fn the_example_is_read_and_drains() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/config/mx.toml");
        let text = Text::read(&PathBuf::from(path)).map_err(|e| e.to_string()).unwrap();
        let text = Text { content: text.content.replace("\nconfig_dir", "\n#"), ..text };

        let file = MxFile::check(&text).map_err(|error| error.to_string()).unwrap();

        assert!(file.exchanger.drain.is_some());
        assert!(file.exchanger.state_dir.is_some());
    }

    #[test]
    fn what_is_not_said_is_as_postfix_has_it() {
        let file = read(MX).map_err(|error| error.to_string()).unwrap();

        let hops = &file.exchanger.hops;
        assert_eq!((hops.deliver.as_str(), hops.hold.as_str()), ("open", "held"));
        assert_eq!(file.exchanger.socketmap_listen.to_string(), "127.0.0.1:10391");
        assert!(file.exchanger.drain.is_none());
    }

    #[test]
    fn a_next_hop_that_would_bounce_mail_is_refused() {
        check(
            &MX.replace("inet:{node}:24", "{node}"),
            &expect![[r#"
                error: this is no next hop
                 --> mx.toml:4:12
                  |
                4 | template = "{node}"
                  |            ^^^^^^^^
                  |
                  = help: write it as `inet:10.0.0.1:24` or `unix:/run/dovecot/lmtp`
            "#]],
        );
        check(
            &format!("{MX}hold = \"retry\"\n"),
            &expect![[r#"
                error: mail would be lost or refused by this
                 --> mx.toml:5:8
                  |
                5 | hold = "retry"
                  |        ^^^^^^^
                  |
                  = help: name the LMTP client's line in master.cf, such as `lmtp` or `held`
            "#]],
        );
    }

    #[test]
    fn a_template_without_the_node_is_refused() {
        check(
            &MX.replace("{node}", "stor"),
            &expect![[r#"
                error: every node would have the same next hop
                 --> mx.toml:4:12
                  |
                4 | template = "inet:stor:24"
                  |            ^^^^^^^^^^^^^^
                  |
                  = help: write the node's name as `{node}`: `inet:{node}:24`
            "#]],
        );
    }

    #[test]
    fn only_this_machine_may_ask() {
        check(
            &format!("policy_listen = \"0.0.0.0:10393\"\n{MX}"),
            &expect![[r#"
                error: others than Postfix on this machine could ask
                 --> mx.toml:1:17
                  |
                1 | policy_listen = "0.0.0.0:10393"
                  |                 ^^^^^^^^^^^^^^^
                  |
                  = help: use `127.0.0.1`: whoever may ask may find out who is a user
            "#]],
        );
    }

    fn check(text: &str, expected: &Expect) {
        expected.assert_eq(&format!("{}\n", read(text).unwrap_err()));
    }

    fn read(text: &str) -> Result<MxFile, Failure> {
        let (name, dir) = ("mx.toml".to_owned(), PathBuf::new());
        MxFile::check(&Text { name, dir, content: text.to_owned() })
    }
}
