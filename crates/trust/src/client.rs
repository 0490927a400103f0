//! Client: makes sure that it is the coordinator at the other end, and shows a certificate.
//!
//! # Invariants
//!
//! * A certificate that names roles of ours is the coordinator's only if it names that one,
//!   whatever host it is for; one that names none must be for the host that was called.
//! * Without encryption nothing is sent beyond this machine.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};

use crate::denied::{Denied, Marks};
use crate::files::{Files, Rotating, TrustError};
use crate::identity::{Identity, IdentityError, Role};
use crate::provider;
use crate::stream::Stream;

/// What begins the URL of a coordinator that is reached over TLS.
const SECURE: &str = "https";

/// Ports of URLs that name none.
const PORT: u16 = 7443;

/// Why a coordinator cannot be called under a URL.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// It is no URL.
    #[error("`{url}` is no address of a coordinator; write it as `https://HOST:7443`")]
    NoUrl {
        /// What was given.
        url: String,
    },
    /// A certificate is needed for it.
    #[error(
        "`{url}` asks for TLS, and no certificate, key and ca were named to show and to check with"
    )]
    NoCertificate {
        /// What was given.
        url: String,
    },
    /// It leads over a network without encryption.
    #[error(
        "`{url}` leads beyond this machine without TLS; write `https://` and name a certificate, key and ca"
    )]
    NotSecure {
        /// What was given.
        url: String,
    },
}

/// Whether a coordinator may be called under this URL, with a certificate or without one.
///
/// # Errors
///
/// [`UrlError`] says what is missing.
pub fn check_url(url: &str, has_certificate: bool) -> Result<(), UrlError> {
    let url = || url.to_owned();
    let uri: Uri = url().parse().map_err(|_| UrlError::NoUrl { url: url() })?;
    let host = uri.host().ok_or_else(|| UrlError::NoUrl { url: url() })?;
    match uri.scheme_str() {
        Some(SECURE) if has_certificate => Ok(()),
        Some(SECURE) => Err(UrlError::NoCertificate { url: url() }),
        Some("http") if is_here(host) => Ok(()),
        Some("http") => Err(UrlError::NotSecure { url: url() }),
        Some(_) | None => Err(UrlError::NoUrl { url: url() }),
    }
}

/// Whether the host is this machine.
fn is_here(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The road to a coordinator.
#[derive(Clone)]
pub struct Road {
    newest: Option<Arc<Rotating<ClientConfig>>>,
}

impl Road {
    /// With the certificate in `files`, or without any to coordinators on this machine.
    ///
    /// # Errors
    ///
    /// When they cannot be used.
    pub fn new(files: Option<Files>) -> Result<Self, TrustError> {
        let newest = files.map(|files| Rotating::new(files, newest)).transpose()?;
        Ok(Self { newest: newest.map(Arc::new) })
    }

    /// A channel that connects when it is first used.
    pub fn channel(&self, endpoint: &Endpoint) -> Channel {
        endpoint.connect_with_connector_lazy(self.clone())
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// When nobody answers, or not the coordinator.
    pub async fn connect(
        &self,
        endpoint: &Endpoint,
    ) -> Result<Channel, tonic::transport::Error> {
        endpoint.connect_with_connector(self.clone()).await
    }

    async fn reach(self, uri: Uri) -> io::Result<TokioIo<Stream>> {
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let tcp = TcpStream::connect((host, uri.port_u16().unwrap_or(PORT))).await?;
        // It works without, only slower.
        drop(tcp.set_nodelay(true));
        if uri.scheme_str() != Some(SECURE) {
            return Ok(TokioIo::new(Stream::Plain(tcp)));
        }
        let no_certificate = || io::Error::other("no certificate was named");
        let config = self.newest.as_ref().ok_or_else(no_certificate)?.get();
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(config);
        let tls = connector.connect(name, tcp).await?;
        Ok(TokioIo::new(Stream::Secure(Box::new(tls.into()))))
    }
}

impl Service<Uri> for Road {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Stream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().reach(uri))
    }
}

fn newest(files: &Files) -> Result<ClientConfig, TrustError> {
    let material = files.read()?;
    let unfit = |source| TrustError::Unfit { path: files.certificate.clone(), source };
    let verifier = OnlyTheCoordinator {
        authorities: material.authorities,
        trust_domain: material.trust_domain,
        denied: material.denied,
        provider: provider(),
    };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(unfit)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(material.chain, material.key)
        .map_err(unfit)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Believes only the coordinator.
#[derive(Debug)]
struct OnlyTheCoordinator {
    authorities: Arc<RootCertStore>,
    trust_domain: String,
    denied: Denied,
    provider: Arc<CryptoProvider>,
}

impl OnlyTheCoordinator {
    fn check_who(
        &self,
        certificate: &CertificateDer<'_>,
        parsed: &ParsedCertificate<'_>,
        called: &ServerName<'_>,
    ) -> Result<(), rustls::Error> {
        if self.denied.has(&Marks::of(certificate)) {
            return Err(CertificateError::Revoked.into());
        }
        match Identity::of_certificate(certificate, &self.trust_domain) {
            Ok(identity) if identity.has(Role::Coordinator) => Ok(()),
            Err(IdentityError::NoRole { .. }) => verify_server_name(parsed, called),
            Ok(_) | Err(_) => {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
        }
    }
}

impl ServerCertVerifier for OnlyTheCoordinator {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.authorities,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        self.check_who(end_entity, &parsed, server_name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_connections_end_at_this_machine() {
        for here in ["http://127.0.0.1:7443", "http://localhost:1", "http://[::1]:7443"] {
            assert!(check_url(here, false).is_ok(), "{here}");
        }
        assert!(check_url("https://coordinator.example:7443", true).is_ok());
        for (url, has_certificate) in [
            ("http://10.0.0.1:7443", true),
            ("http://localhost.example:7443", false),
            ("https://coordinator.example:7443", false),
            ("ftp://127.0.0.1", true),
            ("127.0.0.1:7443", true),
            ("", true),
        ] {
            assert!(check_url(url, has_certificate).is_err(), "{url}");
        }
    }
}
