//! The tables `[tls]`: a certificate, its key, and whom to believe; and `[audit]`.
//!
//! # Invariants
//!
//! * A key is a file's name, never the key itself.

use std::path::PathBuf;

use serde::Deserialize;
use tidegate_coordinator::AuditConfig;
use tidegate_trust::{Files, check_url, is_name};
use toml::Spanned;

use super::Text;
use crate::exit::Failure;

/// What begins the name of a file that systemd hands over, see `LoadCredential=`.
const CREDENTIAL: &str = "credential:";

/// Where systemd says that it is.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTls {
    certificate: Spanned<PathBuf>,
    key: Spanned<PathBuf>,
    ca: Spanned<PathBuf>,
    trust_domain: Option<Spanned<String>>,
    denied: Option<Spanned<PathBuf>>,
}

impl RawTls {
    pub(super) fn check(self, text: &Text) -> Result<Files, Failure> {
        if let Some(named) = &self.trust_domain
            && !is_name(named.get_ref())
        {
            let help = "it is what stands in certificates after `spiffe://`, like `mail.example`";
            return Err(text.complain(named.span(), "this is no trust domain", help));
        }
        Ok(Files {
            certificate: file(&self.certificate, text)?,
            key: file(&self.key, text)?,
            ca: file(&self.ca, text)?,
            denied: self.denied.map(|denied| file(&denied, text)).transpose()?,
            trust_domain: self.trust_domain.map(Spanned::into_inner),
        })
    }
}

/// The table in `text`, if it is there.
pub(super) fn tls(raw: Option<RawTls>, text: &Text) -> Result<Option<Files>, Failure> {
    raw.map(|raw| raw.check(text)).transpose()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawAudit {
    anchors: Option<PathBuf>,
    syslog: Option<PathBuf>,
    key: Option<Spanned<PathBuf>>,
}

/// Where the audit log is anchored.
pub(super) fn audit(raw: Option<RawAudit>, text: &Text) -> Result<AuditConfig, Failure> {
    let Some(RawAudit { anchors, syslog, key }) = raw else {
        return Ok(AuditConfig::default());
    };
    let beside = |path: PathBuf| text.beside(&path);
    let key = key.map(|key| file(&key, text)).transpose()?;
    Ok(AuditConfig { anchors: anchors.map(beside), syslog: syslog.map(beside), key })
}

/// The coordinator's URL, which must fit whether there is a certificate.
pub(super) fn url(
    url: Spanned<String>,
    tls: Option<&Files>,
    text: &Text,
) -> Result<String, Failure> {
    match check_url(url.get_ref(), tls.is_some()) {
        Ok(()) => Ok(url.into_inner()),
        Err(error) => {
            let help = "`http://127.0.0.1:7443` on the coordinator's own machine; \
                        `https://HOST:7443` and the table [tls] from everywhere else";
            Err(text.complain(url.span(), error.to_string(), help))
        }
    }
}

/// The file that is meant: beside the configuration, or what systemd hands over.
pub(super) fn file(path: &Spanned<PathBuf>, text: &Text) -> Result<PathBuf, Failure> {
    let credential = path.get_ref().to_str().and_then(|it| it.strip_prefix(CREDENTIAL));
    let Some(name) = credential else { return Ok(text.beside(path.get_ref())) };
    match std::env::var_os(CREDENTIALS_DIRECTORY) {
        Some(dir) if !name.contains('/') && !name.is_empty() => {
            Ok(PathBuf::from(dir).join(name))
        }
        Some(_) | None => {
            let title = format!("there is no credential `{name}`");
            let help = "systemd hands it over by `LoadCredential=` in the unit; else name a file";
            Err(text.complain(path.span(), title, help))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CoordinatorFile, Text, WorkerFile};
    use std::path::{Path, PathBuf};

    fn text(content: &str) -> Text {
        let (name, dir) = ("worker.toml".to_owned(), PathBuf::from("/etc/tidegate"));
        Text { name, dir, content: content.to_owned() }
    }

    #[test]
    fn relative_names_are_meant_from_the_file_and_others_stay() {
        let file = CoordinatorFile::check(&text(
            "data_dir = \"/var/lib/tidegate\"\n[tls]\ncertificate = \"tls/own.pem\"\n\
             key = \"/run/own.key\"\nca = \"ca.pem\"\n",
        ))
        .map_err(|error| error.to_string())
        .unwrap();

        let tls = file.coordinator.tls.unwrap();
        assert_eq!(tls.certificate, Path::new("/etc/tidegate/tls/own.pem"));
        assert_eq!(tls.key, Path::new("/run/own.key"));
    }

    #[test]
    fn a_worker_calls_other_machines_only_with_a_certificate() {
        let worker = |url: &str| {
            let content = format!(
                "node = \"stor-01\"\ncoordinator = \"{url}\"\nstate_dir = \"s\"\n\
                 live = \"l\"\nsnapshot = \"s\"\nwork = \"w\"\n"
            );
            WorkerFile::check(&text(&content)).unwrap_err().to_string()
        };

        assert!(
            worker("http://10.0.0.1:7443").contains("beyond this machine without TLS")
        );
        assert!(worker("https://10.0.0.1:7443").contains("no certificate, key and ca"));
    }
}
