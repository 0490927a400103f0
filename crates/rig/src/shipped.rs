//! Shipped: the gate's files for Dovecot, put in front of one as its operator would.
//!
//! # Invariants
//!
//! * Of the shipped files only addresses of things are changed: ports and directories.
//! * Secrets have the modes that the runbook gives them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::dovecot::{API_KEY, DovecotPorts};
use crate::keeper::hand_over;

/// The probes' master user in the shipped lines.
pub const PROBE: &str = "tidegate-probe";

/// His password.
pub const PROBE_PASSWORD: &str = "probe-secret";

/// Ports in the shipped files: the worker's, webmail's, doveadm's and the counters'.
const ADMISSION: &str = "10390";
const WEBMAIL: &str = "10144";
const DOVEADM: &str = "10380";
const METRICS: &str = "10490";

/// A Dovecot that files are put in front of.
pub(crate) struct Place<'a> {
    /// The shipped lines for its edition.
    pub(crate) lines: &'static str,
    /// Its directory.
    pub(crate) dir: &'a Path,
    /// Its directory, as it sees it itself.
    pub(crate) inside: &'a str,
    /// Where it listens.
    pub(crate) ports: DovecotPorts,
}

impl Place<'_> {
    /// Writes the files that the shipped lines name, and returns the lines.
    pub(crate) fn install(&self, admission: u16) -> String {
        let script = shipped("tidegate.lua").replace(ADMISSION, &admission.to_string());
        let secret = format!("doveadm_api_key = {API_KEY}\n");
        let probe = format!(
            "{PROBE}:{{PLAIN}}{PROBE_PASSWORD}::::::allow_nets=127.0.0.1/32,::1/128\n"
        );
        for (name, text, mode) in [
            ("tidegate.lua", script, 0o644),
            ("tidegate-secret.conf", secret, 0o600),
            ("tidegate-probe", probe, 0o640),
        ] {
            let path = self.dir.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        hand_over(self.dir);
        shipped(self.lines)
            .replace("/etc/dovecot/", &format!("{}/", self.inside))
            .replace(WEBMAIL, &self.ports.imap_webmail.to_string())
            .replace(DOVEADM, &self.ports.doveadm_http.to_string())
            .replace(METRICS, &self.ports.metrics.to_string())
            + "\n"
    }
}

fn shipped(name: &str) -> String {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/dovecot");
    fs::read_to_string(dir.join(name)).unwrap()
}
