//! The mail server beside a worker: Dovecot's interfaces, the node's own mailbox, and what held
//! users are told.
//!
//! # Invariants
//!
//! * Secrets are in files of their own, read once; no configuration has one in it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tidegate_secret::Secret;
use tidegate_worker::{
    Canary, DoveadmKey, Dovecot, Language, Mail, Master, Notices, Zone,
};
use toml::Spanned;

use super::Text;
use crate::exit::Failure;

/// How long a delivery may take that was permitted before doors closed: the slowest seen on
/// struggling storage. It is only waited out while LMTP has clients.
const LMTP_GRACE_SECONDS: u64 = 30;
/// A delivery that takes longer is not a slow one, but stuck.
const LMTP_GRACE_SECONDS_MAX: u64 = 600;

/// All mailboxes are compared before they are let in, if nobody says otherwise.
const OPEN_CHECK_PERCENT: u64 = 100;

/// How often the node's own mailbox is written and read, if nobody says otherwise: often enough
/// to be a signal within a soak.
const CANARY_SECONDS: u64 = 30;
/// A round may take some seconds on a struggling node.
const CANARY_SECONDS_MIN: u64 = 5;
/// More seldom it is no signal.
const CANARY_SECONDS_MAX: u64 = 3_600;

/// Dovecot's `auth_master_user_separator` as in the shipped configuration.
const SEPARATOR: char = '*';

/// How many mailboxes in a hundred are read over IMAP, if nobody says otherwise: a log-in costs
/// the mail server a process, and all mailboxes are read on the disk.
const SAMPLE_PERCENT: u64 = 10;

/// A secret that is longer is some other file.
const SECRET_BYTES_MAX: usize = 1_024;

/// The table `[dovecot]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDovecot {
    doveadm: Spanned<Vec<String>>,
    key_file: Option<Spanned<PathBuf>>,
    password_file: Option<Spanned<PathBuf>>,
    lmtp_grace_seconds: Option<Spanned<u64>>,
    open_check_percent: Option<Spanned<u64>>,
    imap: Option<SocketAddr>,
    lmtp: Option<SocketAddr>,
    master: Option<Spanned<RawMaster>>,
    webmail_ports: Option<Vec<u16>>,
    logs: Option<Vec<PathBuf>>,
    metrics: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMaster {
    user: String,
    password_file: Spanned<PathBuf>,
    separator: Option<char>,
    sample_percent: Option<Spanned<u64>>,
}

/// The table `[notice]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNotice {
    language: Option<Spanned<String>>,
    zone: Option<Spanned<String>>,
}

/// The table `[canary]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCanary {
    mailbox: Spanned<String>,
    password_file: Spanned<PathBuf>,
    every_seconds: Option<Spanned<u64>>,
}

/// Where Dovecot is, checked.
pub(super) fn dovecot(
    raw: Option<&Spanned<RawDovecot>>,
    mail: &Mail,
    text: &Text,
) -> Result<Option<Dovecot>, Failure> {
    let Some(table) = raw else { return Ok(None) };
    if matches!(mail, Mail::Command(_)) {
        let title = "a store behind a program has doors of its own";
        let help =
            "take the table out; the program's `open` and `close` tell the mail system";
        return Err(text.complain(table.span(), title, help));
    }
    let raw = table.get_ref();
    let key = match (&raw.key_file, &raw.password_file) {
        (Some(file), None) => DoveadmKey::ApiKey(secret(file, text)?),
        (None, Some(file)) => DoveadmKey::Password(secret(file, text)?),
        (given, _) => {
            let title = "doveadm is opened by one secret";
            let help = "add `key_file` with Dovecot's doveadm_api_key, or `password_file` \
                        with its doveadm_password";
            let span = given.as_ref().map_or_else(|| table.span(), Spanned::span);
            return Err(text.complain(span, title, help));
        }
    };
    let grace = bounded(
        "lmtp_grace_seconds",
        raw.lmtp_grace_seconds.as_ref(),
        (LMTP_GRACE_SECONDS, 0..=LMTP_GRACE_SECONDS_MAX),
        text,
    )?;
    let percent = bounded(
        "open_check_percent",
        raw.open_check_percent.as_ref(),
        (OPEN_CHECK_PERCENT, 0..=100),
        text,
    )?;
    if let Some(metrics) = &raw.metrics
        && !metrics.get_ref().starts_with("http://")
    {
        let title = "statistics are fetched from a URL that begins with `http://`";
        let help = "write it as `http://127.0.0.1:10490/metrics`";
        return Err(text.complain(metrics.span(), title, help));
    }
    Ok(Some(Dovecot {
        doveadm: doveadm(&raw.doveadm, text)?,
        key,
        lmtp_grace: Duration::from_secs(grace),
        open_check_percent: u8::try_from(percent).unwrap_or(100),
        imap: raw.imap,
        lmtp: raw.lmtp,
        master: raw.master.as_ref().map(|raw| master(raw, text)).transpose()?,
        webmail_ports: raw.webmail_ports.clone().unwrap_or_default(),
        logs: raw.logs.iter().flatten().map(|path| text.beside(path)).collect(),
        metrics: raw.metrics.as_ref().map(|url| url.get_ref().clone()),
    }))
}

fn doveadm(urls: &Spanned<Vec<String>>, text: &Text) -> Result<Vec<String>, Failure> {
    let help = "write `doveadm = [\"http://127.0.0.1:10380\"]`, one for each Dovecot of \
                this node";
    if urls.get_ref().is_empty() {
        return Err(text.complain(urls.span(), "the list is empty", help));
    }
    if urls.get_ref().iter().any(|url| !url.starts_with("http://")) {
        let title = "doveadm is reached by a URL that begins with `http://`";
        return Err(text.complain(urls.span(), title, help));
    }
    Ok(urls.get_ref().clone())
}

fn master(raw: &Spanned<RawMaster>, text: &Text) -> Result<Master, Failure> {
    let (span, raw) = (raw.span(), raw.get_ref());
    let separator = raw.separator.unwrap_or(SEPARATOR);
    if raw.user.is_empty() || raw.user.contains(separator) {
        let title = format!("`{}` is no name of a master user", raw.user);
        let help = "write the name alone, without separator and mailbox";
        return Err(text.complain(span, title, help));
    }
    let password = secret(&raw.password_file, text)?;
    let percent = bounded(
        "sample_percent",
        raw.sample_percent.as_ref(),
        (SAMPLE_PERCENT, 0..=100),
        text,
    )?;
    let sample_percent = u8::try_from(percent).unwrap_or(100);
    Ok(Master { user: raw.user.clone(), password, separator, sample_percent })
}

/// The node's own mailbox, checked.
pub(super) fn canary(
    raw: Option<&Spanned<RawCanary>>,
    dovecot: Option<&Dovecot>,
    text: &Text,
) -> Result<Option<Canary>, Failure> {
    let Some(table) = raw else { return Ok(None) };
    let raw = table.get_ref();
    if dovecot.is_none_or(|it| it.imap.is_none() || it.lmtp.is_none()) {
        let title = "it is not said where mail is delivered and read";
        let help =
            "add `imap` and `lmtp` to [dovecot], such as `imap = \"127.0.0.1:143\"`";
        return Err(text.complain(table.span(), title, help));
    }
    if !raw.mailbox.get_ref().contains('@') {
        let help = "write an address of a mailbox on this node that nobody else uses";
        return Err(text.complain(raw.mailbox.span(), "this is no address", help));
    }
    let seconds = bounded(
        "every_seconds",
        raw.every_seconds.as_ref(),
        (CANARY_SECONDS, CANARY_SECONDS_MIN..=CANARY_SECONDS_MAX),
        text,
    )?;
    Ok(Some(Canary {
        mailbox: raw.mailbox.get_ref().clone(),
        password: secret(&raw.password_file, text)?,
        every: Duration::from_secs(seconds),
    }))
}

/// What held users are told, checked.
pub(super) fn notices(raw: Option<&RawNotice>, text: &Text) -> Result<Notices, Failure> {
    let Some(raw) = raw else { return Ok(Notices::default()) };
    let default_language = match &raw.language {
        None => Language::default(),
        Some(name) => name.get_ref().parse().map_err(|_| {
            let title =
                format!("`{}` is no language in which texts exist", name.get_ref());
            text.complain(name.span(), title, "write `en` or `it`")
        })?,
    };
    let zone = raw.zone.as_ref().map(|name| {
        Zone::named(name.get_ref()).map_err(|_| {
            let title = format!("`{}` is no time zone of this machine", name.get_ref());
            let help = "write it as `Europe/Rome`; Debian's package is tzdata";
            text.complain(name.span(), title, help)
        })
    });
    Ok(Notices { default_language, zone: zone.transpose()? })
}

/// The number given, or the usual one; its name, the usual one and its bounds are known.
fn bounded(
    name: &str,
    given: Option<&Spanned<u64>>,
    (usual, bounds): (u64, std::ops::RangeInclusive<u64>),
    text: &Text,
) -> Result<u64, Failure> {
    let Some(given) = given else { return Ok(usual) };
    if bounds.contains(given.get_ref()) {
        return Ok(*given.get_ref());
    }
    let (least, most) = bounds.into_inner();
    let title = format!("`{name}` is {}, must be {least} to {most}", given.get_ref());
    let help = format!("leave it out for {usual}");
    Err(text.complain(given.span(), title, &help))
}

/// What a file of one secret holds, without the end of its line.
pub(super) fn secret(
    file: &Spanned<PathBuf>,
    text: &Text,
) -> Result<Secret<String>, Failure> {
    let path: &Path = &text.beside(file.get_ref());
    let complain = |title: String, help: &str| text.complain(file.span(), title, help);
    let content = Secret::read(path).map_err(|error| {
        let title = format!("`{}` cannot be read: {error}", path.display());
        complain(title, "make it readable for the worker's user, and for nobody else")
    })?;
    let secret = std::str::from_utf8(content.expose()).unwrap_or_default();
    let secret = secret.trim_end_matches(['\r', '\n']);
    if secret.is_empty() || secret.len() > SECRET_BYTES_MAX || secret.contains('\n') {
        let title = format!("`{}` holds no secret", path.display());
        return Err(complain(title, "write the secret alone, in one line"));
    }
    Ok(secret.into())
}
