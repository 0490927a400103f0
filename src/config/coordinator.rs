//! `coordinator.toml`, and the half of `solo.toml` that is the same.
//!
//! # Invariants
//!
//! * Both files have the same keys for the same things.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::tls::{RawAudit, RawTls, audit, tls};
use super::webhook::{self, RawWebhook};
use super::{Log, Text, compacted, raw_log, traces};
use crate::cli;
use crate::exit::Failure;
use crate::telemetry::LogFormat;

/// Where the pages are if nobody says otherwise.
const PAGES_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7_446);

/// What a coordinator is started with.
#[derive(Clone, Debug)]
pub(crate) struct Coordinator {
    /// Where it keeps its journal.
    pub(crate) data_dir: PathBuf,
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// Where it listens for operators instead.
    pub(crate) operators_listen: Option<SocketAddr>,
    /// Where it listens for readers as well.
    pub(crate) readers_listen: Option<SocketAddr>,
    /// Where it says whether it lives, to everybody.
    pub(crate) probe_listen: Option<SocketAddr>,
    /// The URL of a Prometheus server, for the gate's external questions.
    pub(crate) prometheus: Option<String>,
    /// Its certificate.
    pub(crate) tls: Option<tidegate_trust::Files>,
    /// Where what people do is shown to a second place.
    pub(crate) audit: tidegate_coordinator::AuditConfig,
    /// Who is told what a person should know.
    pub(crate) webhooks: Vec<tidegate_coordinator::WebhookConfig>,
    /// The operations page.
    pub(crate) pages: Option<Pages>,
    /// How many records its journal has when it is compacted.
    pub(crate) compact_after_records: Option<u64>,
}

/// Where the operations page is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pages {
    /// Where it listens.
    pub(crate) listen: SocketAddr,
    /// The names under which browsers reach it, besides those of this machine.
    pub(crate) hosts: Vec<String>,
}

/// `coordinator.toml`.
pub(crate) struct CoordinatorFile {
    /// The coordinator.
    pub(crate) coordinator: Coordinator,
    /// Its log.
    pub(crate) log: Log,
}

impl CoordinatorFile {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    ///
    /// [`crate::exit::Exit::Config`] with a message that shows the place.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        Self::check(&Text::read(path)?)
    }

    pub(super) fn check(text: &Text) -> Result<Self, Failure> {
        let raw: RawCoordinatorFile = text.parse()?;
        let traces = traces(raw.traces, text)?;
        let log = Log { traces, ..raw_log(raw.log, raw.log_format) };
        let RawCoordinatorFile { data_dir, listen, .. } = raw;
        let RawCoordinatorFile { operators_listen, readers_listen, prometheus, .. } = raw;
        let (tls, audit, webhook) = (raw.tls, raw.audit, raw.webhook);
        let (pages, probe_listen) = (raw.pages, raw.probe_listen);
        let compact_after_records = raw.compact_after_records;
        let table = RawCoordinator {
            data_dir,
            listen,
            operators_listen,
            readers_listen,
            probe_listen,
            prometheus,
            tls,
            audit,
            webhook,
            pages,
            compact_after_records,
        };
        Ok(Self { coordinator: table.check(text)?, log })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCoordinatorFile {
    data_dir: PathBuf,
    listen: Option<SocketAddr>,
    operators_listen: Option<SocketAddr>,
    readers_listen: Option<SocketAddr>,
    probe_listen: Option<SocketAddr>,
    prometheus: Option<RawPrometheus>,
    tls: Option<RawTls>,
    audit: Option<RawAudit>,
    webhook: Option<Vec<RawWebhook>>,
    pages: Option<RawPages>,
    compact_after_records: Option<Spanned<u64>>,
    log: Option<String>,
    log_format: Option<LogFormat>,
    traces: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCoordinator {
    data_dir: PathBuf,
    listen: Option<SocketAddr>,
    operators_listen: Option<SocketAddr>,
    readers_listen: Option<SocketAddr>,
    probe_listen: Option<SocketAddr>,
    prometheus: Option<RawPrometheus>,
    tls: Option<RawTls>,
    audit: Option<RawAudit>,
    webhook: Option<Vec<RawWebhook>>,
    pages: Option<RawPages>,
    compact_after_records: Option<Spanned<u64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPages {
    listen: Option<SocketAddr>,
    #[serde(default)]
    hosts: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPrometheus {
    url: Spanned<String>,
}

impl RawCoordinator {
    pub(super) fn check(self, text: &Text) -> Result<Coordinator, Failure> {
        let url = self.prometheus.map(|table| table.url);
        if let Some(url) = &url
            && !url.get_ref().starts_with("http://")
        {
            let title = "the Prometheus server's URL does not begin with `http://`";
            let help =
                "write it as `http://127.0.0.1:9090`; use a tunnel to reach others";
            return Err(text.complain(url.span(), title, help));
        }
        let pages = self.pages.map(RawPages::check);
        Ok(Coordinator {
            pages,
            data_dir: text.beside(&self.data_dir),
            listen: self.listen.unwrap_or(cli::LISTEN),
            operators_listen: self.operators_listen,
            readers_listen: self.readers_listen,
            probe_listen: self.probe_listen,
            prometheus: url.map(Spanned::into_inner),
            tls: tls(self.tls, text)?,
            audit: audit(self.audit, text)?,
            webhooks: webhook::webhooks(self.webhook, text)?,
            compact_after_records: compacted(self.compact_after_records, text)?,
        })
    }
}

impl RawPages {
    fn check(self) -> Pages {
        Pages { listen: self.listen.unwrap_or(PAGES_LISTEN), hosts: self.hosts }
    }
}
