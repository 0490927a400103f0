//! Serve: Dovecot's questions over HTTP, answered from the doors.
//!
//! `GET /gate/passdb/<service>/<user>` and `GET /gate/userdb/<service>/<user>` give 200 and
//! the mailbox's state; `?lport=` behind them is the port that the user came to, which tells
//! webmail. `GET /livez` gives 200. Everything else is an error status, which the mail
//! server takes for a temporary failure.
//!
//! Two users are never real: at any domain, [`ALWAYS_DOWN`] is answered 503, and
//! [`ALWAYS_SLOW`] later than any mail server waits. With them an operator can see what people
//! would meet with if the gate failed, while it works for everybody else.
//!
//! # Invariants
//!
//! * The endpoint exists on the loopback only: whoever may ask may find out who is a user.
//! * There are two answers, online and held. An unknown address is held with the default
//!   text; only a language or a window of their own tell known ones from it.
//! * One question at a time is answered late, so that nobody can tie up the mail server with
//!   the name for that.

use std::borrow::Cow;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::connection::{Connection, Limits, each_caller, on_own_thread};
use crate::doors::{Answer, Doors, is_session};

/// Admission cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Other machines could ask who is a user here.
    #[error("serve admission at {address}: choose a loopback address such as 127.0.0.1")]
    NotLoopback {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The listener cannot be used.
    #[error("serve admission")]
    Listen(#[source] io::Error),
}

/// The local part of users for whom the gate is always out of order.
pub const ALWAYS_DOWN: &str = "tidegate-doctor-down";

/// The local part of users for whom the gate is always too late.
pub const ALWAYS_SLOW: &str = "tidegate-doctor-slow";

/// What both begin with, so that all other questions cost one comparison.
const REHEARSED: &str = "tidegate-doctor-";

/// A little longer than the two seconds that the shipped script waits. Whoever asks next on the
/// same connection waits for the rest of it.
const TOO_LATE: Duration = Duration::from_millis(2_200);

const ONLINE: &str = r#"{"state":"online"}"#;

/// Answers on `listener` until `stop` is done, and then hangs up. It has a thread of its own: an
/// answer takes less than handing it from one thread to another.
///
/// # Errors
///
/// [`ServeError`] before the first connection is accepted; never later.
pub async fn serve(
    listener: TcpListener,
    doors: Doors,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    serve_within(Limits::DEFAULT, listener, doors, stop).await
}

async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    doors: Doors,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let gate = Arc::new(Gate { doors, late: Semaphore::new(1) });
    on_own_thread("gate", listener, stop, move |listener, stopped| {
        each_caller(limits, listener, stopped, move |connection| {
            talk(connection, Arc::clone(&gate))
        })
    })
    .await
}

async fn talk(connection: Connection, gate: Arc<Gate>) -> io::Result<()> {
    let service = service_fn(move |request| {
        let gate = Arc::clone(&gate);
        async move { Ok::<_, Infallible>(gate.respond(&request).await) }
    });
    let connection = TokioIo::new(connection);
    let talk = http1::Builder::new().serve_connection(connection, service);
    talk.await.map_err(io::Error::other)
}

/// What questions are answered from.
struct Gate {
    doors: Doors,
    /// For whoever is answered too late.
    late: Semaphore,
}

/// What is answered.
type Response = hyper::Response<Full<Bytes>>;

impl Gate {
    async fn respond(&self, request: &Request<Incoming>) -> Response {
        let Some(asked) = Asked::at(request.uri().path()) else {
            return status(StatusCode::NOT_FOUND);
        };
        // HEAD does not count as GET.
        if request.method() != Method::GET {
            let allowed = HeaderValue::from_static("GET");
            return with(status(StatusCode::METHOD_NOT_ALLOWED), header::ALLOW, allowed);
        }
        match asked {
            Asked::Lives => status(StatusCode::OK),
            Asked::Question(question) => match rehearsed(&question.user) {
                Some(failure) => self.fail(failure).await,
                None => self.answer(&question, request.uri().query()),
            },
        }
    }

    async fn fail(&self, failure: &str) -> Response {
        let failed = status(StatusCode::SERVICE_UNAVAILABLE);
        if failure == ALWAYS_SLOW
            && let Ok(_alone) = self.late.try_acquire()
        {
            sleep(TOO_LATE).await;
            // Nobody listens any more: whoever asks next does so on another connection, and
            // does not take this for his answer.
            return with(failed, header::CONNECTION, HeaderValue::from_static("close"));
        }
        failed
    }

    fn answer(&self, question: &Question<'_>, query: Option<&str>) -> Response {
        let Question { is_login, service, user } = question;
        let doors = &self.doors;
        let service = doors.service_at(service, query.and_then(local_port));
        let answer = doors.answer(service, user);
        match answer {
            Answer::Held if *is_login => doors.visits().asked(user, false),
            // Who is let in counts once his password was right: this is asked after it.
            Answer::Online if !is_login && is_session(service) => {
                doors.visits().asked(user, true);
            }
            Answer::Held | Answer::Online => {}
        }
        let body = match answer {
            Answer::Online => Bytes::from_static(ONLINE.as_bytes()),
            Answer::Held => doors.held(user, now_unix()),
        };
        let json = HeaderValue::from_static("application/json");
        with(Response::new(Full::new(body)), header::CONTENT_TYPE, json)
    }
}

fn status(status: StatusCode) -> Response {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

fn with(mut response: Response, name: HeaderName, value: HeaderValue) -> Response {
    response.headers_mut().insert(name, value);
    response
}

/// What a path asks for.
enum Asked<'a> {
    /// Whether the server lives.
    Lives,
    /// Whether a user may use a service.
    Question(Question<'a>),
}

/// The question for one user.
struct Question<'a> {
    /// Whether it is asked before Dovecot looks at a password, and not before it looks where the
    /// mailbox lies.
    is_login: bool,
    service: Cow<'a, str>,
    user: Cow<'a, str>,
}

impl<'a> Asked<'a> {
    /// Nothing for a path that is no question.
    fn at(path: &'a str) -> Option<Self> {
        let Some(question) = path.strip_prefix("/gate/") else {
            return (path == "/livez").then_some(Self::Lives);
        };
        let (database, question) = question.split_once('/')?;
        let is_login = match database {
            "passdb" => true,
            "userdb" => false,
            _ => return None,
        };
        let (service, user) = question.split_once('/')?;
        if service.is_empty() || user.is_empty() || user.contains('/') {
            return None;
        }
        let text = |part: &'a str| percent_decode_str(part).decode_utf8().ok();
        let (service, user) = (text(service)?, text(user)?);
        Some(Self::Question(Question { is_login, service, user }))
    }
}

/// Which failure is to be seen, if this user is one for that.
fn rehearsed(user: &str) -> Option<&'static str> {
    let start = user.get(..REHEARSED.len())?;
    if !start.eq_ignore_ascii_case(REHEARSED) {
        return None;
    }
    let local = user.split('@').next().unwrap_or(user);
    [ALWAYS_DOWN, ALWAYS_SLOW].into_iter().find(|it| local.eq_ignore_ascii_case(it))
}

/// The port that the user came to; nothing where the mail server does not know it, as for
/// deliveries.
fn local_port(query: &str) -> Option<u16> {
    query.split('&').find_map(|pair| pair.strip_prefix("lport="))?.parse().ok()
}

fn now_unix() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // A clock before 1970 shows windows that may be over, nothing worse.
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpStream;
    use std::thread::JoinHandle;

    use expect_test::{Expect, expect};
    use tokio::sync::oneshot;

    use super::*;
    use crate::doors::{Ladder, Rung, Standing};
    use crate::notice::{Language, Notice, Notices, Window, Zone};

    #[test]
    fn an_open_mailbox_is_online_for_both_questions() {
        let server = Server::start();
        let online = expect![[r#"200 {"state":"online"}"#]];
        server.check("GET /gate/passdb/imap/anna@example.org", &online);
        server.check("GET /gate/userdb/imap/anna@example.org", &online);
        server.check("GET /gate/userdb/imap/Anna%40Example.ORG", &online);
        server.check("GET /gate/userdb/doveadm/held@example.org", &online);
    }

    #[test]
    fn whatever_is_not_open_is_held_and_never_gone() {
        let server = Server::start();
        let held = expect![[
            r#"200 {"state":"held","reason":"[UNAVAILABLE] Your mailbox is being restored and will be back soon. Your password has not changed."}"#
        ]];
        server.check("GET /gate/passdb/imap/held@example.org", &held);
        server.check("GET /gate/userdb/lmtp/nobody@example.org", &held);
        server.check("GET /gate/passdb/sieve/anna@example.org", &held);
        server.check("GET /gate/passdb/imap/..%2F..%2Fetc%2Fpasswd", &held);
    }

    #[test]
    fn the_port_of_webmail_is_asked_for_webmail() {
        let server = Server::start();
        server.doors.set_webmail_ports(vec![10_144]);
        let online = expect![[r#"200 {"state":"online"}"#]];
        let mut caller = server.connect();
        let mut held = |request: &str| caller.ask(request).contains("held");
        server.check("GET /gate/passdb/imap/anna@example.org?lport=143", &online);
        server.check("GET /gate/userdb/imap/anna@example.org?lport=", &online);
        assert!(held("GET /gate/passdb/imap/anna@example.org?lport=10144"));
        assert!(held("GET /gate/userdb/imap/anna@example.org?lip=::1&lport=10144"));
    }

    #[test]
    fn a_user_is_told_his_hours_in_his_language() {
        let server = Server::start();
        server.doors.set_notices(Notices {
            default_language: Language::English,
            zone: Some(Zone::named("Europe/Rome").unwrap()),
        });
        // Far ahead, as the server goes by the real clock.
        let back = Window { from_unix: 4_924_926_000, to_unix: 4_924_940_400 };
        let notice = Notice { language: Some(Language::Italian), back: Some(back) };

        server.doors.describe([("held@example.org", None, notice)]);

        server.check("GET /gate/passdb/pop3/Held@example.org", &expect![[r#"200 {"state":"held","reason":"[UNAVAILABLE] Stiamo ripristinando la casella di posta: il ritorno in servizio si prevede tra le ore 12:00 e le 16:00 del 24 gennaio. La password resta la stessa."}"#]]);
    }

    #[test]
    fn a_path_that_is_no_question_is_not_found() {
        let server = Server::start();
        let not_found = expect!["404 "];
        server.check("GET /", &not_found);
        server.check("GET /gate/passdb/imap", &not_found);
        server.check("GET /gate/passdb/imap/", &not_found);
        server.check("GET /gate/passdb/imap/anna@example.org/more", &not_found);
        server.check("GET /gate/elsewhere/imap/anna@example.org", &not_found);
        server.check("GET /gate/passdb/imap/%FF%FE", &not_found);
    }

    #[test]
    fn other_methods_are_not_allowed() {
        let server = Server::start();
        let refused = expect!["405 "];
        for method in ["POST", "PUT", "DELETE", "HEAD"] {
            server
                .check(&format!("{method} /gate/passdb/imap/anna@example.org"), &refused);
        }
        server.check("HEAD /livez", &refused);
    }

    #[test]
    fn only_users_whose_password_was_right_are_visits() {
        let server = Server::start();
        server.doors.visits().opened(["anna@example.org"], 2);
        let mut caller = server.connect();
        let guesses = ["passdb/imap"; 9];
        let others = ["userdb/lmtp", "userdb/lda", "userdb/doveadm", "userdb/pop3"];
        for question in guesses.iter().chain(&others).chain(&["userdb/imap"; 2]) {
            caller.ask(&format!("GET /gate/{question}/Anna@example.org"));
        }

        let counted = server.doors.visits().count(2);

        // POP3 is on no rung here.
        assert_eq!((counted.first, counted.again), (1, 1));
    }

    #[test]
    fn a_living_server_says_so() {
        Server::start().check("GET /livez", &expect!["200 "]);
    }

    #[test]
    fn a_failure_can_be_seen_while_the_gate_works_for_everybody_else() {
        let server = Server::start();
        let failed = expect!["503 "];
        let names =
            [ALWAYS_DOWN, "Tidegate-Doctor-DOWN@example.org"].map(ToOwned::to_owned);
        for name in names {
            server.doors.set([(name.as_str(), Standing::Level(2))]);
            server.check(&format!("GET /gate/passdb/imap/{name}"), &failed);
            server.check(&format!("GET /gate/userdb/lmtp/{name}"), &failed);
        }

        // One of two waits, whichever was heard first; the other one is told at once.
        let mut callers = [server.connect(), server.connect()];
        for caller in &mut callers {
            caller.send("GET /gate/userdb/lmtp/tidegate-doctor-slow@example.org");
            caller.stream.get_mut().set_nonblocking(true).unwrap();
        }
        let mut is_answered =
            || callers.each_mut().map(|caller| caller.stream.fill_buf().is_ok());
        while is_answered() == [false, false] {
            std::thread::yield_now();
        }
        assert_ne!(is_answered(), [true, true]);
        server.check(
            "GET /gate/passdb/imap/anna@example.org",
            &expect![[r#"200 {"state":"online"}"#]],
        );
    }

    #[test]
    fn names_that_only_begin_like_a_rehearsal_are_users() {
        let server = Server::start();
        let held = |name: &str| {
            server
                .connect()
                .ask(&format!("GET /gate/passdb/imap/{name}"))
                .contains("held")
        };

        assert!(held("tidegate-doctor-downtown@example.org"));
        assert!(held("tidegate-doctor@example.org"));
        assert!(held("tidegate-doct%C3%B6r-down@example.org"));
    }

    #[test]
    fn one_connection_carries_many_questions_and_sees_every_change() {
        let server = Server::start();
        let mut caller = server.connect();
        for level in [2, 0, 2, 1] {
            server.doors.set([("anna@example.org", Standing::Level(level))]);

            let answer = caller.ask("GET /gate/passdb/imap/anna@example.org");

            assert_eq!(answer.contains("online"), level == 2, "{answer}");
        }
    }

    #[test]
    fn an_idle_caller_is_let_go() {
        let server =
            Server::within(Limits { idle: Duration::from_millis(50), ..Limits::DEFAULT });
        let mut silent = server.connect();
        let mut slow = server.connect();
        slow.stream.get_mut().write_all(b"GET /livez HTT").unwrap();

        assert!(silent.is_closed());
        assert!(slow.is_closed());
    }

    #[test]
    fn a_caller_in_the_middle_of_a_request_does_not_hold_up_the_stop() {
        let server = Server::start();
        let mut slow = server.connect();
        slow.send("GET /livez");
        slow.answer();
        slow.stream.get_mut().write_all(b"GET /livez HTT").unwrap();

        drop(server);

        assert!(slow.is_closed());
    }

    #[test]
    fn an_endless_request_is_cut_off() {
        let server = Server::start();
        let mut caller = server.connect();
        let endless = format!("GET /{}", "a".repeat(1 << 20));

        // The server may hang up in the middle of it.
        let _ = caller.stream.get_mut().write_all(endless.as_bytes());

        assert!(caller.is_closed());
        server.check("GET /livez", &expect!["200 "]);
    }

    #[test]
    fn callers_beyond_the_limit_wait_for_one_to_leave() {
        let server = Server::within(Limits { connections: 1, ..Limits::DEFAULT });
        let mut first = server.connect();
        assert_eq!(first.ask("GET /livez"), "200 ");

        let mut second = server.connect();
        second.send("GET /livez");
        assert_eq!(first.ask("GET /livez"), "200 ");
        drop(first);

        assert_eq!(second.answer(), "200 ");
    }

    #[test]
    fn an_address_that_others_can_reach_is_refused() {
        let runtime = runtime();
        let refused = runtime.block_on(async {
            let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
            let doors = Doors::new(Ladder::default());
            serve(listener, doors, std::future::pending()).await
        });

        assert!(matches!(refused, Err(ServeError::NotLoopback { .. })), "{refused:?}");
    }

    /// A server on a thread of its own, stopped and joined when dropped.
    struct Server {
        address: SocketAddr,
        doors: Doors,
        stop: Option<oneshot::Sender<()>>,
        thread: Option<JoinHandle<()>>,
    }

    impl Server {
        fn start() -> Self {
            Self::within(Limits::DEFAULT)
        }

        fn within(limits: Limits) -> Self {
            let rung = |name: &str, service: &str| Rung {
                name: name.to_owned(),
                services: vec![service.to_owned()],
            };
            let rungs = vec![rung("receive", "lmtp"), rung("read", "imap")];
            let doors = Doors::new(Ladder { rungs });
            doors.set([
                ("anna@example.org", Standing::Level(2)),
                ("held@example.org", Standing::Level(0)),
            ]);
            let runtime = runtime();
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
            let address = listener.local_addr().unwrap();
            let (stop, stopped) = oneshot::channel::<()>();
            let served = serve_within(limits, listener, doors.clone(), async {
                let _ = stopped.await;
            });
            let thread = std::thread::spawn(move || runtime.block_on(served).unwrap());
            Self { address, doors, stop: Some(stop), thread: Some(thread) }
        }

        fn check(&self, request: &str, expected: &Expect) {
            expected.assert_eq(&self.connect().ask(request));
        }

        fn connect(&self) -> Caller {
            let stream = TcpStream::connect(self.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            Caller { stream: BufReader::new(stream) }
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            drop(self.stop.take());
            let _ = self.thread.take().map(JoinHandle::join);
        }
    }

    /// A caller that keeps its connection, as Dovecot does.
    struct Caller {
        stream: BufReader<TcpStream>,
    }

    impl Caller {
        fn ask(&mut self, request: &str) -> String {
            self.send(request);
            self.answer()
        }

        fn send(&mut self, request: &str) {
            let request = format!("{request} HTTP/1.1\r\nHost: gate\r\n\r\n");
            self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        }

        /// The status and the body.
        fn answer(&mut self) -> String {
            let mut lines = Vec::new();
            while lines.last().is_none_or(|line: &String| line != "\r\n") {
                let mut line = String::new();
                assert!(self.stream.read_line(&mut line).unwrap() > 0, "{lines:?}");
                lines.push(line);
            }
            let length = |line: &String| {
                line.strip_prefix("content-length: ")?.trim().parse().ok()
            };
            let mut body = vec![0; lines.iter().find_map(length).unwrap_or(0)];
            self.stream.read_exact(&mut body).unwrap();
            let status = lines[0].split(' ').nth(1).unwrap();
            format!("{status} {}", String::from_utf8(body).unwrap())
        }

        /// Waits until the server has hung up; it may say why first.
        fn is_closed(&mut self) -> bool {
            let mut rest = Vec::new();
            match self.stream.read_to_end(&mut rest) {
                Ok(_) => true,
                Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
            }
        }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }
}
