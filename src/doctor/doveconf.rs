//! Doveconf: Dovecot's configuration as `doveconf -n` prints it, in both its editions.
//!
//! # Invariants
//!
//! * Databases are in the order in which Dovecot asks them for a service. 2.3 says so itself,
//!   per service; in 2.4 it is the order of the files.
//! * Secrets are not in it: `doveconf` hides them, and is not asked to show them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// The services whose databases are looked at.
pub(super) const SERVICES: [&str; 6] =
    ["imap", "pop3", "submission", "sieve", "lmtp", "smtp"];

/// What Dovecot is told.
#[derive(Debug)]
pub(super) struct Doveconf {
    /// Like `2.3.19.1`.
    pub(super) version: String,
    all: Block,
    /// As 2.3 shows it for one service.
    of_service: BTreeMap<&'static str, Block>,
}

/// `kind name { .. }`, or the whole.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) kind: String,
    pub(super) name: String,
    settings: Vec<(String, String)>,
    blocks: Vec<Self>,
}

/// The configuration could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum DoveconfError {
    /// There is no `doveconf`.
    #[error("run doveconf")]
    Run(#[source] std::io::Error),
    /// It complains.
    #[error("{0}")]
    Complaint(String),
}

impl Doveconf {
    /// Asks `doveconf` what is in this file, and what is included there.
    ///
    /// # Errors
    ///
    /// It cannot be run, or does not accept the file.
    pub(super) fn read(file: &Path) -> Result<Self, DoveconfError> {
        let ask = |filter: &[&str]| {
            let mut command = Command::new("doveconf");
            let output = command.arg("-n").arg("-c").arg(file).args(filter).output();
            let output = output.map_err(DoveconfError::Run)?;
            if output.status.success() {
                return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
            }
            let said = String::from_utf8_lossy(&output.stderr);
            let last = said.lines().last().unwrap_or("no reason given");
            Err(DoveconfError::Complaint(last.to_owned()))
        };
        let mut conf = Self::of(&ask(&[])?);
        if conf.version.starts_with("2.3") {
            for service in SERVICES {
                let text = ask(&["-f", &format!("service={service}")])?;
                conf.of_service.insert(service, Block::parse(&text));
            }
        }
        Ok(conf)
    }

    fn of(text: &str) -> Self {
        let first = text.lines().next().unwrap_or_default().trim_start_matches("# ");
        let version = first.split(' ').next().unwrap_or_default().to_owned();
        Self { version, all: Block::parse(text), of_service: BTreeMap::new() }
    }

    /// The `passdb` or `userdb` blocks that a log-in to a service meets, in order.
    pub(super) fn databases(&self, kind: &str, service: &str) -> Vec<&Block> {
        if let Some(shown) = self.of_service.get(service) {
            return shown.blocks.iter().filter(|it| it.kind == kind).collect();
        }
        let mut found = Vec::new();
        for block in &self.all.blocks {
            if block.kind == kind {
                found.push(block);
            } else if block.kind == "protocol" && block.is_for(service) {
                found.extend(block.blocks.iter().filter(|it| it.kind == kind));
            }
        }
        found
    }

    /// All blocks of a kind, wherever they are, but not those inside of one.
    pub(super) fn everywhere(&self, kind: &str) -> Vec<&Block> {
        let inside = self.all.blocks.iter().filter(|it| it.kind == "protocol");
        let inside = inside.flat_map(|protocol| &protocol.blocks);
        self.all.blocks.iter().chain(inside).filter(|it| it.kind == kind).collect()
    }

    /// A setting that is not Dovecot's own default.
    pub(super) fn setting(&self, name: &str) -> Option<&str> {
        self.all.setting(name)
    }

    /// Whether this protocol is served.
    pub(super) fn serves(&self, protocol: &str) -> bool {
        let all = self.setting("protocols").unwrap_or("imap pop3 lmtp");
        let called = if protocol == "imap_webmail" { "imap" } else { protocol };
        // Dovecot quotes the list where it begins with a blank, as Debian's files make it.
        all.split_ascii_whitespace().any(|it| it.trim_matches(['"', ',']) == called)
    }

    /// The block `service NAME`.
    pub(super) fn service(&self, name: &str) -> Option<&Block> {
        self.all.blocks.iter().find(|it| it.kind == "service" && it.name == name)
    }
}

impl Block {
    fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        Self::inside(&mut lines)
    }

    /// Everything up to the closing brace.
    fn inside(lines: &mut std::str::Lines<'_>) -> Self {
        let mut block = Self::default();
        while let Some(line) = lines.next() {
            let line = line.trim();
            if line.starts_with(['#', '!']) {
                continue;
            }
            if line == "}" {
                break;
            }
            if let Some(head) = line.strip_suffix('{') {
                let (kind, name) =
                    head.trim().split_once(' ').unwrap_or((head.trim(), ""));
                let inner = Self::inside(lines);
                let (kind, name) = (kind.to_owned(), name.trim().to_owned());
                block.blocks.push(Self { kind, name, ..inner });
            } else if let Some((name, value)) = line.split_once('=') {
                block.settings.push((name.trim().to_owned(), value.trim().to_owned()));
            }
        }
        block
    }

    /// A setting in it.
    pub(super) fn setting(&self, name: &str) -> Option<&str> {
        let found = self.settings.iter().rev().find(|(it, _)| it == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Whether a switch in it is on.
    pub(super) fn is_on(&self, name: &str) -> bool {
        self.setting(name).is_some_and(|it| ["yes", "y", "true", "1"].contains(&it))
    }

    /// The blocks of a kind in it.
    pub(super) fn blocks(&self, kind: &str) -> impl Iterator<Item = &Self> {
        self.blocks.iter().filter(move |it| it.kind == kind)
    }

    /// The words of `args`, or of another such setting.
    pub(super) fn words(&self, name: &str) -> impl Iterator<Item = &str> {
        self.setting(name).unwrap_or_default().split_ascii_whitespace()
    }

    /// Whether a database gives this field to everybody.
    pub(super) fn gives(&self, field: &str) -> bool {
        let named = |word: &str| word.split('=').next() == Some(field);
        ["args", "default_fields", "override_fields"]
            .iter()
            .any(|setting| self.words(setting).any(named))
            || self
                .blocks
                .iter()
                .filter(|it| it.kind.ends_with("fields"))
                .any(|it| it.setting(field).is_some())
    }

    /// What a database calls itself, for people.
    pub(super) fn title(&self) -> String {
        let driver = self.setting("driver").unwrap_or(&self.name);
        format!("{} {driver}", self.kind)
    }

    /// Whether this `protocol` block counts for a service. `!` excludes in 2.3; in 2.4.1 it
    /// does not exclude SASL, so it is taken to include everything.
    fn is_for(&self, service: &str) -> bool {
        let name = self.name.as_str();
        name.starts_with('!') || name.split_ascii_whitespace().any(|it| it == service)
    }
}

#[cfg(test)]
impl Doveconf {
    /// As if `doveconf` had printed it.
    pub(super) fn printed(text: &str) -> Self {
        Self::of(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dovecot_2_4_asks_in_the_order_of_its_files() {
        let conf = Doveconf::of(
            "# 2.4.1-4 (7d8c0e5759): /etc/dovecot/dovecot.conf\nprotocols = imap pop3\n\
             protocol imap {\n  passdb tidegate {\n    driver = lua\n  }\n}\n\
             passdb users {\n  driver = passwd-file\n}\n\
             userdb static {\n  fields {\n    uid = mail\n  }\n}\n",
        );
        let names = |service| {
            conf.databases("passdb", service).iter().map(|it| it.name.as_str()).collect()
        };

        assert_eq!(conf.version, "2.4.1-4");
        let (imap, pop3): (Vec<_>, Vec<_>) = (names("imap"), names("pop3"));
        assert_eq!(imap, ["tidegate", "users"]);
        assert_eq!(pop3, ["users"]);
        assert!(conf.databases("userdb", "lmtp").iter().all(|it| it.gives("uid")));
        assert!(conf.serves("pop3") && !conf.serves("sieve"));
        let debian = Doveconf::of("protocols = \" imap lmtp sieve pop3 submission\"\n");
        assert!(debian.serves("submission") && debian.serves("imap"));
    }

    #[test]
    fn settings_keep_their_equals_signs_and_hidden_secrets_stay_words() {
        let conf = Doveconf::of(
            "# 2.3.19.1 (9b53102964): dovecot.conf\n\
             doveadm_api_key = # hidden, use -P to show it\n\
             passdb {\n  args = nopassword=#hidden_use-P_to_show# allow=x\n  driver = static\n}\n",
        );

        let passdb = conf.everywhere("passdb");
        assert!(passdb.iter().all(|it| it.gives("nopassword") && it.gives("allow")));
        assert!(conf.setting("doveadm_api_key").is_some());
    }
}
