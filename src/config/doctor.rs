//! What `tidegate doctor` needs besides what the worker is told: a user to try things with, and
//! where the services are that only users use.
//!
//! # Invariants
//!
//! * The worker itself never looks at it.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use tidegate_secret::Secret;
use toml::Spanned;

use super::Text;
use super::dovecot::secret;
use crate::exit::Failure;

/// Where Debian keeps Dovecot's configuration.
const DOVECOT_CONFIG: &str = "/etc/dovecot/dovecot.conf";

/// The table `[doctor]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDoctor {
    user: Option<Spanned<String>>,
    password_file: Option<Spanned<PathBuf>>,
    webmail: Option<SocketAddr>,
    pop3: Option<SocketAddr>,
    submission: Option<SocketAddr>,
    sieve: Option<SocketAddr>,
    dovecot_config: Option<PathBuf>,
}

/// What the doctor is told.
#[derive(Clone, Debug)]
pub(crate) struct Doctor {
    /// A user of Dovecot's who is in no inventory, so that he is held for ever.
    pub(crate) patient: Option<Patient>,
    /// IMAP for webmail.
    pub(crate) webmail: Option<SocketAddr>,
    /// POP3.
    pub(crate) pop3: Option<SocketAddr>,
    /// Submission.
    pub(crate) submission: Option<SocketAddr>,
    /// `ManageSieve`.
    pub(crate) sieve: Option<SocketAddr>,
    /// Dovecot's configuration file.
    pub(crate) dovecot_config: PathBuf,
}

/// A user to try things with.
#[derive(Clone)]
pub(crate) struct Patient {
    /// His address.
    pub(crate) user: String,
    /// His password.
    pub(crate) password: Secret<String>,
}

impl fmt::Debug for Patient {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Patient({})", self.user)
    }
}

impl Default for Doctor {
    fn default() -> Self {
        Self {
            patient: None,
            webmail: None,
            pop3: None,
            submission: None,
            sieve: None,
            dovecot_config: DOVECOT_CONFIG.into(),
        }
    }
}

/// What the doctor is told, checked.
pub(super) fn doctor(
    raw: Option<&Spanned<RawDoctor>>,
    text: &Text,
) -> Result<Doctor, Failure> {
    let Some(table) = raw else { return Ok(Doctor::default()) };
    let raw = table.get_ref();
    let patient = match (&raw.user, &raw.password_file) {
        (Some(user), Some(file)) => Some(patient(user, file, text)?),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            let title = "a user is tried with his password";
            let help = "write both `user` and `password_file`, or none of them";
            return Err(text.complain(table.span(), title, help));
        }
    };
    let usual = Doctor::default();
    Ok(Doctor {
        patient,
        webmail: raw.webmail,
        pop3: raw.pop3,
        submission: raw.submission,
        sieve: raw.sieve,
        dovecot_config: raw
            .dovecot_config
            .as_ref()
            .map_or(usual.dovecot_config, |path| text.beside(path)),
    })
}

fn patient(
    user: &Spanned<String>,
    file: &Spanned<PathBuf>,
    text: &Text,
) -> Result<Patient, Failure> {
    if !user.get_ref().contains('@') {
        let help = "write an address that Dovecot knows, and no inventory";
        return Err(text.complain(user.span(), "this is no address", help));
    }
    Ok(Patient { user: user.get_ref().clone(), password: secret(file, text)? })
}
