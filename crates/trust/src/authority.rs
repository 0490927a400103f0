//! Authority: makes certificates for a lab, and renews them.
//!
//! # Invariants
//!
//! * Nothing that is there is overwritten; what was begun and failed is taken back by its user,
//!   who finds it in a directory of its own.
//! * Keys are readable by their owner alone from the moment they exist.
//! * The coordinator alone may serve, everybody else may only call.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519,
    SanType,
};

use tidegate_secret::Secret;
use zeroize::Zeroizing;

use crate::identity::{Role, is_name, uri};

/// The files of the authority.
const CA: (&str, &str) = ("ca.pem", "ca.key");

/// The key of the audit log's anchors, and its public part.
const AUDIT: (&str, &str) = ("audit.key", "audit.pub");

/// Clocks of a lab's machines differ by less.
const CLOCKS_DIFFER: Duration = Duration::from_mins(10);

/// How long the authority lasts: a rollout takes weeks, a lab may stand for long.
const CA_LASTS: Duration = Duration::from_hours(24 * 365 * 5);

/// An authority, with its key.
pub struct Authority {
    dir: PathBuf,
    trust_domain: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Somebody who gets a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// What its files are called.
    pub file: String,
    /// Who it is: roles of one name.
    pub roles: Vec<Role>,
    /// That name; nothing for the coordinator.
    pub name: String,
    /// Under which host names and addresses it is called; only the coordinator's.
    pub hosts: Vec<String>,
}

/// A certificate that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// Where it lies.
    pub certificate: PathBuf,
    /// Where its key lies.
    pub key: PathBuf,
    /// The names in it.
    pub uris: Vec<String>,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be read or made.
    #[error("{what} `{}`", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// Why it cannot be.
        source: io::Error,
    },
    /// A name cannot stand in a certificate.
    #[error(
        "`{name}` cannot stand in a certificate: letters, digits and -_.@+, at most 128"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The library refuses.
    #[error("make the certificate")]
    Make(#[from] rcgen::Error),
}

impl Authority {
    /// Makes an authority for `trust_domain` in the new directory `dir`.
    ///
    /// # Errors
    ///
    /// When there is something already, or it cannot be made.
    pub fn create(dir: &Path, trust_domain: &str) -> Result<Self, AuthorityError> {
        check_name(trust_domain)?;
        let file = |source| AuthorityError::File {
            what: "make the directory",
            path: dir.to_owned(),
            source,
        };
        fs::DirBuilder::new().mode(0o700).create(dir).or_else(|error| {
            if is_empty_directory(dir) { Ok(()) } else { Err(file(error)) }
        })?;
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&format!("Tidegate authority {trust_domain}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        lasts(&mut params, CA_LASTS);
        let certificate = params.self_signed(&key)?;
        write_new(&dir.join(CA.1), &private_pem(&key), 0o600)?;
        write_new(&dir.join(CA.0), &certificate.pem(), 0o644)?;
        let (dir, trust_domain) = (dir.to_owned(), trust_domain.to_owned());
        Ok(Self { dir, trust_domain, issuer: Issuer::new(params, key) })
    }

    /// The authority that was made in `dir` earlier.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn open(dir: &Path, trust_domain: &str) -> Result<Self, AuthorityError> {
        check_name(trust_domain)?;
        let read = |name: &str| {
            let path = dir.join(name);
            let text = Secret::read(&path);
            text.map_err(|source| AuthorityError::File { what: "read", path, source })
        };
        let (key, certificate) = (read(CA.1)?, read(CA.0)?);
        // What is no text is no PEM either.
        let pem = |it| std::str::from_utf8(it).unwrap_or_default();
        let key = KeyPair::from_pem(pem(key.expose()))?;
        let issuer = Issuer::from_ca_cert_pem(pem(certificate.expose()), key)?;
        let (dir, trust_domain) = (dir.to_owned(), trust_domain.to_owned());
        Ok(Self { dir, trust_domain, issuer })
    }

    /// Makes the key that the audit log's anchors are signed with, and the public part that
    /// believes them, which belongs elsewhere.
    ///
    /// # Errors
    ///
    /// When there is one already, or it cannot be made.
    pub fn audit_key(&self) -> Result<(PathBuf, PathBuf), AuthorityError> {
        let (key, public) = (self.dir.join(AUDIT.0), self.dir.join(AUDIT.1));
        let made = KeyPair::generate_for(&PKCS_ED25519)?;
        write_new(&key, &private_pem(&made), 0o600)?;
        write_new(&public, &made.public_key_pem(), 0o644)?;
        Ok((key, public))
    }

    /// Where its certificate lies, which everybody believes.
    pub fn certificate(&self) -> PathBuf {
        self.dir.join(CA.0)
    }

    /// Makes a certificate for `holder` that lasts so long.
    ///
    /// # Errors
    ///
    /// When there is one of that name, or it cannot be made.
    pub fn issue(
        &self,
        holder: &Holder,
        lasts_for: Duration,
    ) -> Result<Issued, AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(holder.hosts.clone())?;
        let serves = holder.roles.contains(&Role::Coordinator);
        if !serves {
            check_name(&holder.name)?;
        }
        check_name(&holder.file)?;
        let roles = holder.roles.iter();
        let uris: Vec<String> =
            roles.map(|role| uri(&self.trust_domain, *role, &holder.name)).collect();
        for uri in &uris {
            params
                .subject_alt_names
                .push(SanType::URI(Ia5String::try_from(uri.as_str())?));
        }
        params.distinguished_name = named(&holder.file);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        if serves {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        lasts(&mut params, lasts_for);
        let certificate = params.signed_by(&key, &self.issuer)?;
        let issued = Issued {
            certificate: self.dir.join(format!("{}.pem", holder.file)),
            key: self.dir.join(format!("{}.key", holder.file)),
            uris,
        };
        write_new(&issued.key, &private_pem(&key), 0o600)?;
        write_new(&issued.certificate, &certificate.pem(), 0o644)?;
        Ok(issued)
    }
}

/// The key as its file has it.
fn private_pem(key: &KeyPair) -> Zeroizing<String> {
    Zeroizing::new(key.serialize_pem())
}

fn check_name(name: &str) -> Result<(), AuthorityError> {
    if is_name(name) {
        Ok(())
    } else {
        Err(AuthorityError::Name { name: name.to_owned() })
    }
}

fn is_empty_directory(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none())
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn lasts(params: &mut CertificateParams, how_long: Duration) {
    let now = SystemTime::now();
    params.not_before = (now - CLOCKS_DIFFER).into();
    params.not_after = (now + how_long).into();
}

/// Writes a file that is not there yet.
fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), AuthorityError> {
    let file =
        |source| AuthorityError::File { what: "write", path: path.to_owned(), source };
    let mut new = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(file)?;
    new.write_all(text.as_bytes()).and_then(|()| new.sync_all()).map_err(file)
}
