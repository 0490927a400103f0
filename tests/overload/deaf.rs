//! Deaf clients: they speak just enough HTTP/2 to call, answer pings, and take no byte of any
//! answer.
//!
//! # Invariants
//!
//! * Their windows are shut from the first byte on, and stay so.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tidegate_trust::Files;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes before the payload of every frame.
pub(crate) const HEAD: usize = 9;

pub(crate) const DATA: u8 = 0x0;
pub(crate) const HEADERS: u8 = 0x1;
pub(crate) const SETTINGS: u8 = 0x4;
pub(crate) const PING: u8 = 0x6;

pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;

/// No bytes may be sent on any stream.
const WINDOW_SHUT: [u8; 6] = [0, 4, 0, 0, 0, 0];

/// An empty message, not compressed.
pub(crate) const EMPTY: [u8; 5] = [0; 5];

/// The connection, once the certificate in `files` has been shown over it; whoever is not let in
/// has none.
pub(crate) async fn encrypted(
    tcp: TcpStream,
    files: &Files,
) -> io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.ca).unwrap()).unwrap();
    let own = vec![CertificateDer::from_pem_file(&files.certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(own, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, tcp).await
}

/// Calls `path` so many times over one connection, and waits until it is cut, or until all calls
/// were refused: whoever gets nothing owes nothing.
pub(crate) async fn call(
    mut tcp: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    times: u32,
) {
    let mut opening = PREFACE.to_vec();
    opening.extend(frame(SETTINGS, 0, 0, &WINDOW_SHUT));
    for stream in (1..).step_by(2).take(times as usize) {
        opening.extend(frame(HEADERS, END_HEADERS, stream, &headers(path)));
        opening.extend(frame(DATA, END_STREAM, stream, &EMPTY));
    }
    if tcp.write_all(&opening).await.is_ok() {
        until_cut(&mut tcp, times).await;
    }
}

async fn until_cut(tcp: &mut (impl AsyncRead + AsyncWrite + Unpin), calls: u32) {
    let (mut head, mut refused) = ([0; HEAD], 0);
    while refused < calls && tcp.read_exact(&mut head).await.is_ok() {
        let [a, b, c, kind, flags, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        if tcp.read_exact(&mut payload).await.is_err() {
            return;
        }
        // Refusals have no body, so that shut windows do not keep them.
        refused += u32::from(kind == HEADERS && flags & END_STREAM != 0);
        let answer = match (kind, flags) {
            (PING, 0) => frame(PING, ACK, 0, &payload),
            (SETTINGS, 0) => frame(SETTINGS, ACK, 0, &[]),
            _ => continue,
        };
        if tcp.write_all(&answer).await.is_err() {
            return;
        }
    }
}

/// A frame as it goes over the wire.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// All that a client says before its first call.
pub(crate) fn greeting() -> Vec<u8> {
    let mut greeting = PREFACE.to_vec();
    greeting.extend(frame(SETTINGS, 0, 0, &[]));
    greeting
}

/// How many calls a server takes at once over one connection, among its settings.
pub(crate) const CALLS_MAX: u16 = 3;

/// What a server says of itself in the first frame that it sends.
pub(crate) fn settings(stream: &mut impl Read) -> BTreeMap<u16, u32> {
    let mut head = [0; HEAD];
    stream.read_exact(&mut head).unwrap();
    let [a, b, c, kind, ..] = head;
    assert_eq!(kind, SETTINGS, "a server begins with its settings");
    let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
    stream.read_exact(&mut payload).unwrap();
    let setting = |it: &[u8; 6]| {
        let [name @ .., _, _, _, _] = *it;
        let [_, _, value @ ..] = *it;
        (u16::from_be_bytes(name), u32::from_be_bytes(value))
    };
    payload.as_chunks::<6>().0.iter().map(setting).collect()
}

/// Headers as literals that nobody needs to remember.
pub(crate) fn headers(path: &str) -> Vec<u8> {
    let headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    headers.iter().flat_map(|(name, value)| header(name, value)).collect()
}

/// One of them.
pub(crate) fn header(name: &str, value: &str) -> Vec<u8> {
    let mut literal = vec![0];
    for text in [name, value] {
        literal.push(u8::try_from(text.len()).unwrap());
        literal.extend(text.as_bytes());
    }
    literal
}
