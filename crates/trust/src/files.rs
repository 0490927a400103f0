//! Files: a certificate, its key and the authority, read again when they have changed.
//!
//! # Invariants
//!
//! * What was read last and fits together is used until something newer does.
//! * A key is never shown and never logged; only its file's name is.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::RootCertStore;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use tidegate_secret::Secret;

use crate::denied::Denied;
use crate::identity::{IdentityError, trust_domain_of};

/// How often files are looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Where a program's certificate lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Its certificate, and those between it and the authority: PEM.
    pub certificate: PathBuf,
    /// The certificate's key: PEM.
    pub key: PathBuf,
    /// The authorities that everybody else's certificate must come from: PEM.
    pub ca: PathBuf,
    /// Certificates that are believed no more, by fingerprint or serial number.
    pub denied: Option<PathBuf>,
    /// Whom to believe; that of the own certificate if nobody says.
    pub trust_domain: Option<String>,
}

/// What the files say.
pub(crate) struct Material {
    /// The own certificate first.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) authorities: Arc<RootCertStore>,
    pub(crate) trust_domain: String,
    pub(crate) denied: Denied,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file cannot be read.
    #[error("read `{}`", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// There is nothing of it in a file.
    #[error("`{}` has no certificate in it", path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// Others than its owner may read a key.
    #[error(
        "others than its owner may read the key `{}` (mode {mode:03o}); `chmod 600` it",
        path.display()
    )]
    KeyOpen {
        /// Which.
        path: PathBuf,
        /// The mode it has.
        mode: u32,
    },
    /// The own certificate speaks for nobody.
    #[error("use the certificate `{}`", path.display())]
    Certificate {
        /// Which.
        path: PathBuf,
        /// Why.
        source: IdentityError,
    },
    /// Nobody says whom to believe.
    #[error(
        "the certificate `{}` names no role, so nobody says whom to believe; name `trust_domain`",
        path.display()
    )]
    NoTrustDomain {
        /// Which.
        path: PathBuf,
    },
    /// The list of certificates that are believed no more cannot be read.
    #[error("read line {line} of the denied certificates in `{}`", path.display())]
    Denied {
        /// The list.
        path: PathBuf,
        /// Which line is neither a fingerprint nor a serial number; 0 if none could be read.
        line: u32,
        /// Why the file cannot be read.
        source: Option<io::Error>,
    },
    /// The parts do not fit together.
    #[error("use `{}` with its key", path.display())]
    Unfit {
        /// The certificate.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The authorities cannot be used.
    #[error("believe the authorities in `{}`", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::server::VerifierBuilderError,
    },
}

impl Files {
    pub(crate) fn read(&self) -> Result<Material, TrustError> {
        let chain = certificates(&self.certificate)?;
        check_key_mode(&self.key)?;
        let unread = |source| TrustError::Read { path: self.key.clone(), source };
        let key = Secret::read(&self.key).map_err(|it| unread(pem::Error::Io(it)))?;
        let key = PrivateKeyDer::from_pem_slice(key.expose()).map_err(unread)?;
        let mut authorities = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            let path = &self.ca;
            authorities
                .add(certificate)
                .map_err(|source| TrustError::Unfit { path: path.clone(), source })?;
        }
        let trust_domain = match &self.trust_domain {
            Some(named) => named.clone(),
            None => self.own_trust_domain(&chain)?,
        };
        let denied = self.denied.as_deref().map(Denied::read).transpose()?;
        let (authorities, denied) = (Arc::new(authorities), denied.unwrap_or_default());
        Ok(Material { chain, key, authorities, trust_domain, denied })
    }

    fn own_trust_domain(
        &self,
        chain: &[CertificateDer<'static>],
    ) -> Result<String, TrustError> {
        let path = || self.certificate.clone();
        let own = chain.first().ok_or_else(|| TrustError::Empty { path: path() })?;
        let found = trust_domain_of(own)
            .map_err(|source| TrustError::Certificate { path: path(), source })?;
        found.ok_or_else(|| TrustError::NoTrustDomain { path: path() })
    }

    fn stamp(&self) -> Stamp {
        let files = [&self.certificate, &self.key, &self.ca].map(Some);
        let [certificate, key, ca] = files;
        [certificate, key, ca, self.denied.as_ref()].map(|path| {
            // A file that has gone has another stamp, and then cannot be read.
            fs::metadata(path?).ok().map(|found| {
                (found.ino(), found.size(), found.mtime(), found.mtime_nsec())
            })
        })
    }
}

/// What shows that files have changed.
type Stamp = [Option<(u64, u64, i64, i64)>; 4];

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let unread = |source| TrustError::Read { path: path.to_owned(), source };
    let found = CertificateDer::pem_file_iter(path).map_err(unread)?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(unread)?;
    if found.is_empty() {
        return Err(TrustError::Empty { path: path.to_owned() });
    }
    Ok(found)
}

fn check_key_mode(path: &Path) -> Result<(), TrustError> {
    let unread = |source: io::Error| TrustError::Read {
        path: path.to_owned(),
        source: pem::Error::Io(source),
    };
    // Of a group it may be, which is how service managers hand keys over.
    let mode = fs::metadata(path).map_err(unread)?.mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(TrustError::KeyOpen { path: path.to_owned(), mode });
    }
    Ok(())
}

/// Something made of files, and made anew when they have changed.
pub(crate) struct Rotating<T> {
    files: Files,
    make: fn(&Files) -> Result<T, TrustError>,
    newest: Mutex<Newest<T>>,
}

struct Newest<T> {
    made: Arc<T>,
    stamp: Stamp,
    looked: Instant,
    complained: Option<String>,
}

impl<T> Rotating<T> {
    /// What `make` makes of `files`.
    pub(crate) fn new(
        files: Files,
        make: fn(&Files) -> Result<T, TrustError>,
    ) -> Result<Self, TrustError> {
        let stamp = files.stamp();
        let made = Arc::new(make(&files)?);
        let looked = Instant::now();
        let newest = Mutex::new(Newest { made, stamp, looked, complained: None });
        Ok(Self { files, make, newest })
    }

    /// The newest there is. Small files are read here now and then.
    pub(crate) fn get(&self) -> Arc<T> {
        // Whatever a panic has left behind is whole.
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.looked.elapsed() < LOOK_EVERY {
            return Arc::clone(&newest.made);
        }
        newest.looked = Instant::now();
        let stamp = self.files.stamp();
        if stamp == newest.stamp {
            return Arc::clone(&newest.made);
        }
        match (self.make)(&self.files) {
            Ok(made) => {
                newest.made = Arc::new(made);
                newest.stamp = stamp;
                newest.complained = None;
                let certificate = self.files.certificate.display();
                tracing::info!(%certificate, "the certificate was read anew");
            }
            Err(error) => {
                // Tried again at every look: files are replaced one after the other.
                let error = chain(&error);
                if newest.complained.as_ref() != Some(&error) {
                    tracing::warn!(
                        error,
                        "the changed certificate cannot be used; the one before stays"
                    );
                    newest.complained = Some(error);
                }
            }
        }
        Arc::clone(&newest.made)
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
