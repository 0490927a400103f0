//! A mail exchanger: Postfix with the lines we ship, and what stands beside it.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use tempfile::TempDir;
use tidegate_exchanger::{Config, DrainConfig, Hops, Postqueue, run};
use tidegate_rig::{FreePorts, Letter, PATIENCE, Postfix, PostfixSpec, Said, wait_until};
use tokio::sync::oneshot;

use crate::coordinator::Coordinator;
use crate::sink::Sink;

/// Lines for main.cf that we ship.
pub(crate) const MAIN: &str = include_str!("../../../../deploy/postfix/main.cf");

/// The other way, that we ship too.
const MAIN_DEFER: &str = include_str!("../../../../deploy/postfix/main-defer.cf");

/// Lines for master.cf that we ship.
pub(crate) const MASTER: &str = include_str!("../../../../deploy/postfix/master.cf");

/// The port of the shipped socketmap, and of the shipped policy service.
const SHIPPED_PORTS: [&str; 2] = ["10391", "10393"];

/// A mail exchanger with its coordinator and its node.
pub(crate) struct Site {
    pub(crate) postfix: Postfix,
    pub(crate) coordinator: Coordinator,
    pub(crate) sink: Sink,
    pub(crate) exchanger: Option<Exchanger>,
    pub(crate) config: Config,
    _state: TempDir,
}

/// What stands beside Postfix, on a thread of its own.
pub(crate) struct Exchanger {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Site {
    /// Mail waits here.
    pub(crate) fn start() -> Self {
        Self::with(MAIN, |_, _| {})
    }

    /// Mail waits here, and what stands beside Postfix keeps what it was told.
    pub(crate) fn that_keeps() -> Self {
        Self::with(MAIN, |config, dir| config.state_dir = Some(dir.to_owned()))
    }

    /// Mail is left with its senders.
    pub(crate) fn that_defers() -> Self {
        Self::with(MAIN_DEFER, |_, _| {})
    }

    /// A site with these lines for main.cf, of which `change` changes how it is started; it
    /// may use a directory.
    pub(crate) fn with(main: &str, change: impl FnOnce(&mut Config, &Path)) -> Self {
        let sink = Sink::start();
        let hop = format!("inet:127.0.0.1:{}", sink.port());
        let ports: [u16; 2] = FreePorts::take(2).hand_over();
        let here = SHIPPED_PORTS.iter().zip(ports);
        let main = here.fold(main.to_owned(), |main, (shipped, port)| {
            main.replace(shipped, &port.to_string())
        });
        let postfix = Postfix::start(&PostfixSpec {
            domains: vec!["example.org".to_owned()],
            transport: format!("lmtp:{hop}"),
            main,
            master: MASTER.to_owned(),
        });
        let coordinator = Coordinator::start();
        let state = tempfile::tempdir().unwrap();
        let mut config = Config {
            name: "mx1".to_owned(),
            coordinator: coordinator.url(),
            tls: None,
            state_dir: None,
            socketmap_listen: ([127, 0, 0, 1], ports[0]).into(),
            policy_listen: Some(([127, 0, 0, 1], ports[1]).into()),
            hops: Hops {
                deliver: "open".to_owned(),
                hold: "held".to_owned(),
                template: None,
                nodes: BTreeMap::from([("n1".to_owned(), hop)]),
            },
            delimiters: "+".to_owned(),
            silence_max: Duration::from_hours(1),
            drain: Some(drain(&postfix.config_dir())),
        };
        change(&mut config, state.path());
        let mut site =
            Self { postfix, coordinator, sink, exchanger: None, config, _state: state };
        site.begin();
        site
    }

    /// Starts what stands beside Postfix.
    pub(crate) fn begin(&mut self) {
        self.exchanger = Some(Exchanger::start(self.config.clone()));
    }

    /// Waits until it has been told everything: it answers, and Postfix, which remembers older
    /// answers, takes mail for a held mailbox.
    pub(crate) fn ready(&self) -> &Self {
        let ready = wait_until(PATIENCE, || {
            if TcpStream::connect(self.config.socketmap_listen).is_err()
                || self.lookup("dora@example.org").starts_with("TEMP ")
            {
                return false;
            }
            let said = self.postfix.smtp().ask("RCPT TO:<dora@example.org>");
            said.starts_with("250 ") || said.starts_with("450 ")
        });
        assert!(ready, "{}", self.postfix.log());
        self
    }

    /// What the socketmap says of an address.
    pub(crate) fn lookup(&self, address: &str) -> String {
        let mut stream = TcpStream::connect(self.config.socketmap_listen).unwrap();
        let question = format!("transport {address}");
        stream.write_all(format!("{}:{question},", question.len()).as_bytes()).unwrap();
        let mut length = Vec::new();
        let mut answer = BufReader::new(stream);
        answer.read_until(b':', &mut length).unwrap();
        length.pop();
        let length: usize = String::from_utf8(length).unwrap().parse().unwrap();
        let mut text = vec![0; length];
        answer.read_exact(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    /// Opens a mailbox everywhere.
    pub(crate) fn open(&self, address: &str) {
        self.sink.open(address);
        self.coordinator.open(address);
    }

    /// Waits until so many messages wait because their mailboxes are held, and have been put back:
    /// a flush does not move what is still on its way.
    pub(crate) fn waiting(&self, messages: usize) {
        let held = |it: &String| {
            let is_back = it.contains(r#""queue_name": "deferred""#);
            is_back && it.contains("deferred transport")
        };
        self.postfix
            .wait_for_queue(|queue| queue.len() == messages && queue.iter().all(held));
    }

    pub(crate) fn send(&self, to: &[&str], subject: &str) -> Said {
        let message = format!("Subject: {subject}\n\nbody\n");
        self.postfix.send(Letter { to, message: message.as_bytes() })
    }

    /// Waits until somebody has got exactly these, within some seconds.
    pub(crate) fn wait_delivered(&self, address: &str, subjects: &[&str]) {
        let got = || self.sink.delivered(address);
        let all = wait_until(Duration::from_secs(20), || got().len() >= subjects.len());
        assert!(all, "{:?}\n{}", got(), self.postfix.log());
        let mut got = got();
        got.sort();
        assert_eq!(got, subjects);
    }

    /// Nothing has ever been bounced, and no notice was sent.
    pub(crate) fn nothing_bounced(&self) {
        for words in ["status=bounced", "non-delivery notification", "status=expired"] {
            assert_eq!(self.postfix.logged(words), Vec::<String>::new());
        }
    }
}

impl Exchanger {
    fn start(config: Config) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new()?;
            let ended = runtime.block_on(run(config, async { drop(stopped.await) }));
            runtime.shutdown_background();
            ended
        });
        Self { stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Exchanger {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && let Ok(ended) = thread.join()
            && !std::thread::panicking()
        {
            ended.unwrap();
        }
    }
}

fn drain(config_dir: &Path) -> DrainConfig {
    let program = "/usr/sbin/postqueue".into();
    let queue = Postqueue { program, config_dir: Some(config_dir.to_owned()) };
    DrainConfig { queue, per_second_max: 100 }
}
