//! Roles at a running coordinator, with real certificates: who may call what, and who may not
//! even come in. Run with `--nocapture` to see the table.
//!
//! # Invariants
//!
//! * Every certificate is made anew by the authority that `tidegate init` uses.
//! * Nothing is waited for by the clock alone.
#![expect(clippy::unwrap_used, reason = "a test may say no more than that it failed")]
#![expect(clippy::print_stdout, reason = "the table is shown to whoever asks")]

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tidegate_coordinator::{Config, address_file, run};
use tidegate_rig::FreePorts;
use tidegate_trust::{Authority, Files, Holder, METHODS, Road, Role};
use tidegate_wire::v1;
use tidegate_wire::v1::exchanger_service_client::ExchangerServiceClient;
use tidegate_wire::v1::progress_service_client::ProgressServiceClient;
use tidegate_wire::v1::worker_service_client::WorkerServiceClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::codegen::{Service as _, http};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

const DOMAIN: &str = "mail.example";
const PATIENCE: Duration = Duration::from_secs(30);
const LASTS: Duration = Duration::from_hours(1);

#[tokio::test]
async fn each_role_may_call_what_the_table_says_and_nothing_else() {
    let site = Site::start().await;
    let mut table = format!("{:62}", "method");
    for role in Role::ALL {
        write!(table, " {role:>11}").unwrap();
    }
    let mut wrong = Vec::new();
    let mut channels = Vec::new();
    for role in Role::ALL {
        let files = site.certificate(&format!("some-{role}"), &[role], "some");
        channels.push((role, site.connect(&files).await.unwrap()));
    }
    for (path, roles) in METHODS {
        write!(table, "\n{path:62}").unwrap();
        for (role, channel) in &channels {
            let code = ask(channel.clone(), path).await;
            let (may, is_let) =
                (roles.contains(role), code != Some(Code::PermissionDenied));
            write!(table, " {:>11}", if is_let { "yes" } else { "-" }).unwrap();
            if may != is_let {
                wrong.push(format!("{role} {path}: {code:?}"));
            }
        }
    }
    println!("{table}");

    assert!(wrong.is_empty(), "{wrong:?}");
}

#[tokio::test]
async fn a_worker_speaks_for_its_own_node_and_an_exchanger_for_itself() {
    let site = Site::start().await;
    let worker = site.certificate("w1", &[Role::Worker], "stor-01");
    let exchanger = site.certificate("x1", &[Role::Exchanger], "mx1");

    let mut at_worker = WorkerServiceClient::new(site.connect(&worker).await.unwrap());
    let join = |node: &str| v1::JoinRequest {
        node: node.to_owned(),
        incarnation: 7,
        contract: tidegate_wire::worker::CONTRACT,
        ..v1::JoinRequest::default()
    };
    let other = at_worker.join(join("stor-02")).await.unwrap_err();
    let own = at_worker.join(join("stor-01")).await.unwrap_err();
    let mut at_exchanger =
        ExchangerServiceClient::new(site.connect(&exchanger).await.unwrap());
    let watch = |name: &str| v1::WatchRequest {
        exchanger: name.to_owned(),
        contract: tidegate_wire::exchanger::CONTRACT,
        ..v1::WatchRequest::default()
    };
    let another = at_exchanger.watch(watch("mx2")).await.unwrap_err();
    let itself = at_exchanger.watch(watch("mx1")).await.unwrap_err();

    assert_eq!(refused(&other), (Code::PermissionDenied, "not-allowed"));
    assert!(other.message().contains("stor-01 (worker)"), "{}", other.message());
    assert_eq!(refused(&own), (Code::FailedPrecondition, "no-plan"));
    assert_eq!(refused(&another), (Code::PermissionDenied, "not-allowed"));
    assert_eq!(refused(&itself), (Code::FailedPrecondition, "no-plan"));
}

#[tokio::test]
async fn without_a_certificate_of_the_authority_nobody_comes_in() {
    let site = Site::start().await;
    let stranger = Authority::create(&site.dir.path().join("foreign"), DOMAIN).unwrap();
    let foreign = issue(&stranger, "anna", &[Role::Operator], "anna", LASTS);
    let ended = issue(&site.authority, "late", &[Role::Operator], "late", Duration::ZERO);
    // They believe our coordinator; it does not believe them.
    let foreign = Files { ca: site.authority.certificate(), ..foreign };

    let plain = Endpoint::from_shared(format!("http://{}", site.address)).unwrap();
    let plain = plain.connect().await;
    let foreign = rollout(site.connect(&foreign).await).await;
    let ended = until(async || {
        // In its last second it may still be let in.
        rollout(site.connect(&ended).await).await.err().filter(|it| *it != Code::NotFound)
    });
    let ended = ended.await;

    if let Ok(channel) = plain {
        assert!(rollout(Ok(channel)).await.is_err());
    }
    assert_eq!(foreign.unwrap_err(), Code::Unavailable);
    assert_eq!(ended, Code::Unavailable);
}

#[tokio::test]
async fn whoever_restarts_it_needs_no_certificate_and_learns_only_that_it_lives() {
    let site = Site::start().await;

    let get = async |path: &str| {
        let mut stream = TcpStream::connect(site.probes).await.unwrap();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let (alive, ready) = (get("/livez").await, get("/readyz").await);
    let metrics = get("/metrics").await;
    let plain = Endpoint::from_shared(format!("http://{}", site.probes)).unwrap();
    let call = rollout(plain.connect().await).await;

    assert!(alive.starts_with("HTTP/1.1 200") && alive.ends_with("alive\n"), "{alive}");
    assert!(ready.starts_with("HTTP/1.1 200") && ready.ends_with("ready\n"), "{ready}");
    assert!(metrics.starts_with("HTTP/1.1 404"), "{metrics}");
    assert_eq!(call.unwrap_err(), Code::Unimplemented);
}

#[tokio::test]
async fn a_connection_ends_with_its_certificate() {
    let site = Site::start().await;
    let lasts = Duration::from_secs(2);
    let short = issue(&site.authority, "short", &[Role::Viewer], "vera", lasts);
    let channel = site.connect(&short).await.unwrap();
    let first = rollout(Ok(channel.clone())).await;

    let last = until(async || {
        rollout(Ok(channel.clone())).await.err().filter(|it| *it != Code::NotFound)
    });

    assert_eq!(first, Err(Code::NotFound), "it is let in and told that there is no plan");
    assert_eq!(last.await, Code::Unavailable);
}

#[tokio::test]
async fn whoever_begins_to_show_a_certificate_and_stops_is_cut_and_keeps_nobody_out() {
    let site = Site::start().await;
    let viewer = site.certificate("v1", &[Role::Viewer], "vera");
    let mut slow = Vec::new();
    for _ in 0..200 {
        let mut tcp = TcpStream::connect(&site.address).await.unwrap();
        // A handshake's first byte.
        tcp.write_all(&[22]).await.unwrap();
        slow.push(tcp);
    }

    let served = rollout(site.connect(&viewer).await).await;
    for mut tcp in slow {
        let end = tokio::time::timeout(PATIENCE, tcp.read(&mut [0; 16])).await.unwrap();
        assert!(matches!(end, Ok(0) | Err(_)), "it is cut, and told nothing");
    }

    assert_eq!(served, Err(Code::NotFound));
}

#[tokio::test]
async fn a_certificate_that_names_no_role_is_told_so() {
    let site = Site::start().await;
    let elsewhere =
        Authority::open(&site.dir.path().join("ca"), "other.example").unwrap();
    let files = issue(&elsewhere, "else", &[Role::Operator], "anna", LASTS);
    let files = Files { trust_domain: Some(DOMAIN.to_owned()), ..files };

    let mut client = ProgressServiceClient::new(site.connect(&files).await.unwrap());
    let status = client.get_rollout(v1::GetRolloutRequest {}).await.unwrap_err();

    assert_eq!(refused(&status), (Code::PermissionDenied, "not-allowed"));
    assert!(status.message().contains("names no role"), "{}", status.message());
}

#[tokio::test]
async fn nobody_but_the_coordinator_is_taken_for_it() {
    let site = Site::start().await;
    let worker = site.certificate("w1", &[Role::Worker], "stor-01");
    let viewer = site.certificate("v1", &[Role::Viewer], "vera");
    let impostor = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = impostor.local_addr().unwrap();
    let entrance = tidegate_trust::Entrance::new(worker).unwrap();
    let taken_in = tokio::spawn(async move {
        let (tcp, _) = impostor.accept().await.unwrap();
        entrance.let_in(tcp).await.is_ok()
    });

    let road = Road::new(Some(viewer)).unwrap();
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
    let connected = road.connect(&endpoint).await;

    assert!(connected.is_err());
    assert!(!taken_in.await.unwrap());
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let site = Site::start().await;
    let operator = site.certificate("anna", &[Role::Operator], "anna");
    let before = shown(&site, &operator).await;
    let renewed =
        issue(&site.authority, "coordinator-2", &[Role::Coordinator], "", LASTS);
    fs::rename(&renewed.key, site.dir.path().join("ca/coordinator.key")).unwrap();
    fs::rename(&renewed.certificate, site.dir.path().join("ca/coordinator.pem")).unwrap();

    let now =
        until(async || Some(shown(&site, &operator).await).filter(|it| *it != before));

    assert_ne!(now.await, before);
    assert_eq!(rollout(site.connect(&operator).await).await, Err(Code::NotFound));
}

#[tokio::test]
async fn whoever_is_denied_may_do_nothing_more_also_over_what_is_open() {
    let site = Site::start().await;
    let anna = site.certificate("anna", &[Role::Operator], "anna");
    let berta = site.certificate("berta", &[Role::Operator], "berta");
    let (channel, hers) =
        (site.connect(&anna).await.unwrap(), site.connect(&berta).await.unwrap());
    let before = rollout(Ok(channel.clone())).await;
    let watch = HealthCheckRequest { service: String::new() };
    let mut watched =
        HealthClient::new(channel.clone()).watch(watch).await.unwrap().into_inner();
    watched.message().await.unwrap();

    site.deny(&anna);
    let denied = until(async || {
        rollout(Ok(channel.clone()))
            .await
            .err()
            .filter(|code| *code != before.unwrap_err())
    });
    let denied = denied.await;
    let cut = tokio::time::timeout(PATIENCE, watched.message()).await.unwrap();
    let mut again = ProgressServiceClient::new(site.connect(&anna).await.unwrap());
    let told = again.get_rollout(v1::GetRolloutRequest {}).await.unwrap_err();
    let others = rollout(Ok(hers)).await;

    assert_eq!(before, Err(Code::NotFound));
    assert!([Code::PermissionDenied, Code::Unavailable].contains(&denied), "{denied}");
    assert!(cut.is_err(), "{cut:?}");
    assert_eq!(refused(&told), (Code::PermissionDenied, "not-allowed"));
    assert!(told.message().contains("was revoked"), "{}", told.message());
    assert_eq!(others, Err(Code::NotFound), "everybody else goes on");
}

#[tokio::test]
async fn beyond_this_machine_it_does_not_listen_without_certificates() {
    let dir = TempDir::new().unwrap();
    let config = config(&dir.path().join("data"), "0.0.0.0:0", None);

    let refused = run(config, std::future::pending()).await.unwrap_err();

    assert!(refused.to_string().contains("without certificates"), "{refused}");
}

/// A coordinator with certificates.
struct Site {
    dir: TempDir,
    authority: Authority,
    address: String,
    /// Where it says to everybody whether it lives.
    probes: SocketAddr,
    _stop: oneshot::Sender<()>,
    _task: JoinHandle<anyhow::Result<()>>,
}

impl Site {
    async fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let authority = Authority::create(&dir.path().join("ca"), DOMAIN).unwrap();
        let tls = issue(&authority, "coordinator", &[Role::Coordinator], "", LASTS);
        let denied = dir.path().join("denied.txt");
        fs::write(&denied, "# nobody yet\n").unwrap();
        let tls = Files { denied: Some(denied), ..tls };
        let data = dir.path().join("data");
        // All addresses: that it may is the point.
        let [port] = FreePorts::take(1).hand_over();
        let probes = SocketAddr::from(([127, 0, 0, 1], port));
        let config = Config {
            probe_listen: Some(probes),
            ..config(&data, "0.0.0.0:0", Some(tls))
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(run(config, async { drop(stopped.await) }));
        let address = until(async || {
            assert!(!task.is_finished(), "the coordinator did not start");
            fs::read_to_string(address_file(&data)).ok()
        });
        let address = address.await.trim().replace("0.0.0.0", "127.0.0.1");
        Self { dir, authority, address, probes, _stop: stop, _task: task }
    }

    fn certificate(&self, file: &str, roles: &[Role], name: &str) -> Files {
        issue(&self.authority, file, roles, name, LASTS)
    }

    /// Puts the certificate in `files` on the list, as an administrator would.
    fn deny(&self, files: &Files) {
        use rustls::pki_types::CertificateDer;
        use rustls::pki_types::pem::PemObject as _;
        let der = CertificateDer::from_pem_file(&files.certificate).unwrap();
        let digest = ring::digest::digest(&ring::digest::SHA256, &der);
        let marks: Vec<String> =
            digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
        let staged = self.dir.path().join("denied.new");
        fs::write(&staged, format!("{} # stolen\n", marks.join(":"))).unwrap();
        fs::rename(staged, self.dir.path().join("denied.txt")).unwrap();
    }

    async fn connect(&self, files: &Files) -> Result<Channel, tonic::transport::Error> {
        let road = Road::new(Some(files.clone())).unwrap();
        let url = format!("https://{}", self.address);
        road.connect(&Endpoint::from_shared(url).unwrap().timeout(PATIENCE)).await
    }
}

/// Asks until there is an answer.
async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap()
}

fn config(data_dir: &Path, listen: &str, tls: Option<Files>) -> Config {
    Config {
        data_dir: data_dir.to_owned(),
        listen: listen.parse().unwrap(),
        operators_listen: None,
        readers_listen: None,
        probe_listen: None,
        prometheus: None,
        tls,
        audit: tidegate_coordinator::AuditConfig::default(),
        webhooks: Vec::new(),
        compact_after_records: None,
    }
}

fn issue(
    authority: &Authority,
    file: &str,
    roles: &[Role],
    name: &str,
    lasts: Duration,
) -> Files {
    let holder = Holder {
        file: file.to_owned(),
        roles: roles.to_vec(),
        name: name.to_owned(),
        hosts: vec!["localhost".to_owned()],
    };
    let issued = authority.issue(&holder, lasts).unwrap();
    let ca = authority.certificate();
    let (certificate, key) = (issued.certificate, issued.key);
    Files { certificate, key, ca, trust_domain: None, denied: None }
}

/// What a call without any content is answered; nothing if it does not end.
async fn ask(mut channel: Channel, path: &str) -> Option<Code> {
    const EMPTY_MESSAGE: &[u8] = &[0; 5];
    let request = http::Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(http_body_of(EMPTY_MESSAGE)))
        .unwrap();
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
    let answer = tokio::time::timeout(PATIENCE, channel.call(request)).await.ok()?;
    Status::from_header_map(answer.unwrap().headers()).map(|status| status.code())
}

fn http_body_of(
    bytes: &'static [u8],
) -> impl http_body::Body<Data = tonic::codegen::Bytes, Error = Status> {
    Once(Some(tonic::codegen::Bytes::from_static(bytes)))
}

/// A body of one piece.
struct Once(Option<tonic::codegen::Bytes>);

impl http_body::Body for Once {
    type Data = tonic::codegen::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Status>>> {
        std::task::Poll::Ready(
            self.0.take().map(|bytes| Ok(http_body::Frame::data(bytes))),
        )
    }
}

async fn rollout(channel: Result<Channel, tonic::transport::Error>) -> Result<(), Code> {
    let channel = channel.map_err(|_| Code::Unavailable)?;
    let mut client = ProgressServiceClient::new(channel);
    let answer = client.get_rollout(v1::GetRolloutRequest {}).await;
    // Whoever is cut while the answer is read may be told so in either way.
    let cut = [Code::Unknown, Code::Cancelled, Code::Internal];
    let code = |code| if cut.contains(&code) { Code::Unavailable } else { code };
    answer.map(drop).map_err(|status| code(status.code()))
}

fn refused(status: &Status) -> (Code, &str) {
    let code = status.metadata().get("tidegate-code");
    (status.code(), code.and_then(|code| code.to_str().ok()).unwrap_or_default())
}

/// The certificate that the coordinator shows now.
async fn shown(site: &Site, files: &Files) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.ca).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_file(&files.certificate).unwrap()],
            PrivateKeyDer::from_pem_file(&files.key).unwrap(),
        )
        .unwrap();
    let tcp = TcpStream::connect(&site.address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let name = ServerName::try_from("localhost").unwrap();
    let tls = connector.connect(name, tcp).await.unwrap();
    tls.get_ref().1.peer_certificates().unwrap().first().unwrap().to_vec()
}
