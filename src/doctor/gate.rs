//! The gate in Dovecot's configuration: is it there, is it first, and is there a way past it?
//!
//! # Invariants
//!
//! * What the files say is judged alone: what a running Dovecot does is tried in
//!   [`super::replies`].
//! * A gate is a Lua script of ours, wherever it was put.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::chart::{Chart, Trouble};
use super::doveconf::{Block, Doveconf};

/// Where the shipped lines are, for remedies.
const SHIPPED: &str = "05-tidegate.conf (deploy/dovecot)";

/// The services that people log in to.
const LOGINS: [&str; 4] = ["imap", "pop3", "submission", "sieve"];

/// What the shipped configuration counts.
const METRICS: [&str; 8] = [
    "auth_failures",
    "imap_command",
    "imap_command_latency",
    "lmtp_cmd",
    "mail_delivery",
    "passdb",
    "storage_errors",
    "userdb",
];

/// Where Dovecot's packages put what runs Lua scripts.
const PLUGINS: [&str; 3] = [
    "/usr/lib/dovecot/modules/auth/libauthdb_lua.so",
    "/usr/lib64/dovecot/auth/libauthdb_lua.so",
    "/usr/local/lib/dovecot/auth/libauthdb_lua.so",
];

/// Looks at everything that concerns the gate.
pub(super) fn look(chart: &mut Chart, conf: &Doveconf, worker: &Expected<'_>) {
    chart.ok("dovecot.config", format!("Dovecot {}", conf.version));
    for service in LOGINS {
        password_question(chart, conf, service);
    }
    mailbox_question(chart, conf);
    sasl(chart, conf);
    passwordless(chart, conf);
    leftovers(chart, conf);
    cache(chart, conf);
    penalty(chart, conf);
    webmail(chart, conf, worker.webmail_ports);
    script(chart, conf, worker.admission);
    plugin(chart);
    listeners(chart, conf);
    metrics(chart, conf);
    secrets(chart, conf, worker.config_dir);
}

/// What the worker's configuration says that Dovecot's must agree with.
pub(super) struct Expected<'a> {
    /// Where the worker answers.
    pub(super) admission: SocketAddr,
    /// Which of Dovecot's ports are webmail's.
    pub(super) webmail_ports: &'a [u16],
    /// Where Dovecot's configuration is.
    pub(super) config_dir: &'a Path,
}

/// Every log-in asks the gate before anybody else.
fn password_question(chart: &mut Chart, conf: &Doveconf, service: &'static str) {
    let check = format!("gate.{service}");
    if !conf.serves(service) {
        chart.ok(check, "not served");
        return;
    }
    let passdbs = conf.databases("passdb", service);
    let Some(at) = passdbs.iter().position(|it| is_gate(it)) else {
        return chart.fail(
            check,
            Trouble::new(
                format!("no passdb of {service} asks the gate"),
                "whoever knows his password gets into a mailbox that is held",
                format!("put the {service} block of part 1 of {SHIPPED} back"),
            ),
        );
    };
    let (before, gate) = passdbs.split_at(at);
    // Master users are stopped by the gate's userdb, whoever lets them in here.
    let past = before.iter().find(|it| !it.is_on("master") && !it.is_on("deny"));
    if let Some(past) = past {
        return chart.fail(
            check,
            Trouble::new(
                format!("{} is asked before the gate", past.title()),
                "it lets people in whom the gate would have held",
                format!("include {SHIPPED} before every passdb of your own"),
            ),
        );
    }
    if !gate.first().is_some_and(|it| it.is_on("deny")) {
        return chart.fail(
            check,
            Trouble::new(
                "the gate's passdb has no `deny = yes`",
                "its answer for held users would count as a right password",
                format!("take the block as it is in {SHIPPED}"),
            ),
        );
    }
    chart.ok(check, "the gate is asked first, and can only refuse");
}

/// Every way to a mailbox asks the gate first, and ends there when it does not answer.
fn mailbox_question(chart: &mut Chart, conf: &Doveconf) {
    let check = "gate.mailbox";
    let remedy =
        format!("take part 2 of {SHIPPED} as it is, before every userdb of your own");
    for service in LOGINS.into_iter().chain(["lmtp"]).filter(|it| conf.serves(it)) {
        let userdbs = conf.databases("userdb", service);
        let first = match userdbs.first() {
            Some(first) if is_gate(first) => first,
            first => {
                let seen = match first {
                    None => format!("{service} has no userdb at all"),
                    Some(_) if !userdbs.iter().any(|it| is_gate(it)) => {
                        format!("no userdb of {service} asks the gate")
                    }
                    Some(first) => format!("{} is asked before the gate", first.title()),
                };
                let means =
                    "mail is delivered into held mailboxes, and master users get in";
                return chart.fail(check, Trouble::new(seen, means, remedy));
            }
        };
        for name in ["result_internalfail", "result_failure"] {
            let value = first.setting(name).unwrap_or("continue, Dovecot's default");
            if value != "return-fail" {
                let seen = format!("the gate's userdb has {name} = {value}");
                let means = "when the worker does not answer, everybody gets in";
                return chart.fail(check, Trouble::new(seen, means, remedy));
            }
        }
    }
    chart.ok(check, "the gate's userdb is asked first, and fails closed");
}

/// Postfix makes a permanent refusal of a temporary one.
fn sasl(chart: &mut Chart, conf: &Doveconf) {
    if conf.databases("passdb", "smtp").iter().any(|it| is_gate(it)) {
        let trouble = Trouble::new(
            "a passdb of the gate counts for `smtp`, which is Postfix's SASL",
            "held users who send mail are told that their password is wrong (535)",
            format!(
                "one block per protocol, as in part 1 of {SHIPPED}; never one for all"
            ),
        );
        return chart.fail("gate.sasl", trouble);
    }
    chart.ok("gate.sasl", "Postfix's SASL does not ask the gate");
}

/// A database that needs no password is a way around every password.
fn passwordless(chart: &mut Chart, conf: &Doveconf) {
    let found = conf
        .everywhere("passdb")
        .into_iter()
        .find(|it| it.gives("nopassword") && !it.gives("proxy") && !it.is_on("deny"));
    let Some(found) = found else {
        return chart.ok("gate.passwordless", "every passdb wants a password");
    };
    let goes_on = found.setting("result_success") == Some("continue");
    let how = if goes_on { " and goes on (result_success = continue)" } else { "" };
    let trouble = Trouble::new(
        format!("{} gives `nopassword`{how}", found.title()),
        "whoever knows an address gets in: later passdbs do not check a password any more",
        "take it out; hold people by the gate, which is a `deny` passdb",
    );
    chart.fail("gate.passwordless", trouble);
}

/// What people put in by hand when the storage broke keeps users out after their opening.
fn leftovers(chart: &mut Chart, conf: &Doveconf) {
    let all = [conf.everywhere("passdb"), conf.everywhere("userdb")].concat();
    let found = all.iter().find(|it| it.gives("nologin") || it.gives("noauthenticate"));
    let list = all.iter().find(|it| it.is_on("deny") && !is_gate(it));
    let (seen, who) = match (found, list) {
        (Some(found), _) => (format!("{} gives `nologin`", found.title()), "everybody"),
        (None, Some(list)) => (
            format!("{} refuses people besides the gate", list.title()),
            "those on its list",
        ),
        (None, None) => {
            return chart.ok("gate.leftovers", "nothing else keeps people out");
        }
    };
    let means = format!("{who} stay out after their mailbox was opened, some for good");
    let remedy = "take it out when the gate holds, and reload Dovecot";
    chart.warn("gate.leftovers", Trouble::new(seen, means, remedy));
}

/// An answer of the gate's that is remembered is an old one.
fn cache(chart: &mut Chart, conf: &Doveconf) {
    let size = conf.setting("auth_cache_size").unwrap_or("0");
    if size.split(' ').next() == Some("0") {
        return chart.ok("gate.cache", "Dovecot has no auth cache");
    }
    let is_remembered = |it: &&Block| {
        let has_key = it.words("args").any(|word| word.starts_with("cache_key="));
        is_gate(it) && !has_key && it.setting("use_cache") != Some("no")
    };
    let all = [conf.everywhere("passdb"), conf.everywhere("userdb")].concat();
    if let Some(found) = all.iter().find(|it| is_remembered(it)) {
        let trouble = Trouble::new(
            format!(
                "the auth cache ({size}) remembers what the gate's {} says",
                found.kind
            ),
            "who may use webmail gets into IMAP, and who was closed gets in again",
            format!(
                "take `cache_key` (2.3) or `use_cache = no` (2.4) over from {SHIPPED}"
            ),
        );
        return chart.fail("gate.cache", trouble);
    }
    chart.ok(
        "gate.cache",
        format!("the auth cache ({size}) does not keep the gate's answers"),
    );
}

/// Held users make all users behind the same address wait.
fn penalty(chart: &mut Chart, conf: &Doveconf) {
    let anvil = conf.service("anvil");
    let mut sockets = anvil.into_iter().flat_map(|it| it.blocks("unix_listener"));
    let penalty = sockets.find(|it| it.name == "anvil-auth-penalty");
    let mode = penalty.and_then(|it| it.setting("mode"));
    if mode.is_some_and(|it| it.trim_matches('0').is_empty()) {
        return chart
            .ok("gate.penalty", "nobody waits for his neighbours' failed log-ins");
    }
    let trouble = Trouble::new(
        "Dovecot's penalty for failed log-ins is on",
        "held users slow down everybody behind the same webmail server or mobile network",
        format!("switch it off while waves open: part 3 of {SHIPPED}"),
    );
    chart.warn("gate.penalty", trouble);
}

/// Webmail is told by its port, which both sides must know.
fn webmail(chart: &mut Chart, conf: &Doveconf, ports: &[u16]) {
    let logins = conf.service("imap-login");
    let listeners: Vec<&Block> =
        logins.into_iter().flat_map(|it| it.blocks("inet_listener")).collect();
    let port_of =
        |it: &Block| it.setting("port").and_then(|port| port.parse::<u16>().ok());
    let listens = |port: u16| listeners.iter().any(|it| port_of(it) == Some(port));
    if let Some(missing) = ports.iter().find(|port| !listens(**port)) {
        let trouble = Trouble::new(
            format!(
                "worker.toml has {missing} in `webmail_ports`; Dovecot's IMAP does not listen there"
            ),
            "webmail counts as IMAP, and comes back later than planned",
            format!("take part 5 of {SHIPPED}, with this port"),
        );
        return chart.fail("gate.webmail", trouble);
    }
    let unknown = listeners.iter().find(|it| {
        it.name.contains("webmail")
            && port_of(it).is_some_and(|port| port > 0 && !ports.contains(&port))
    });
    if let Some(unknown) = unknown {
        let trouble = Trouble::new(
            format!(
                "Dovecot has a listener `{}` of which the worker does not know",
                unknown.name
            ),
            "webmail counts as IMAP, and comes back later than planned",
            "add its port to `webmail_ports` in [dovecot] of worker.toml",
        );
        return chart.fail("gate.webmail", trouble);
    }
    chart.ok(
        "gate.webmail",
        match ports {
            [] => "webmail is IMAP like any other".to_owned(),
            ports => format!("webmail is told by its port {ports:?}"),
        },
    );
}

/// The script asks our worker, and nobody can change it.
fn script(chart: &mut Chart, conf: &Doveconf, admission: SocketAddr) {
    let all = [conf.everywhere("passdb"), conf.everywhere("userdb")].concat();
    let Some(path) = all.iter().filter(|it| is_gate(it)).find_map(|it| lua_file(it))
    else {
        return;
    };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let trouble = Trouble::new(
                format!("`{path}` cannot be read: {error}"),
                "it is not known whom it asks",
                "run this as root; the file needs mode 644",
            );
            return chart.warn("gate.script", trouble);
        }
    };
    let url = text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == "local GATE").then(|| value.trim().trim_matches('"'))
    });
    let wanted = format!("http://{admission}/gate/");
    if url != Some(wanted.as_str()) {
        let seen = url.unwrap_or("nobody whom this program knows");
        let trouble = Trouble::new(
            format!("`{path}` asks {seen}; the worker answers at {wanted}"),
            "nobody gets in, or the gate of another node is asked",
            "make GATE in the script and `admission_listen` in worker.toml the same",
        );
        return chart.fail("gate.script", trouble);
    }
    let mode = fs::metadata(path).map_or(0, |it| it.permissions().mode());
    if mode & 0o002 != 0 {
        let trouble = Trouble::new(
            format!("`{path}` may be changed by everybody (mode {:o})", mode & 0o7777),
            "whoever has a login on this machine can open all mailboxes",
            format!("chown root:root {path}; chmod 644 {path}"),
        );
        return chart.fail("gate.script", trouble);
    }
    chart.ok("gate.script", format!("`{path}` asks the worker at {admission}"));
}

fn plugin(chart: &mut Chart) {
    match PLUGINS.iter().find(|path| Path::new(path).exists()) {
        Some(path) => chart.ok("gate.plugin", format!("`{path}`")),
        None => chart.warn(
            "gate.plugin",
            Trouble::new(
                "Dovecot's Lua plugin is in none of its usual places",
                "without it Dovecot's auth does not start",
                "apt-get install dovecot-auth-lua",
            ),
        ),
    }
}

/// What opens everything is for this machine alone.
fn listeners(chart: &mut Chart, conf: &Doveconf) {
    let everywhere = conf.setting("listen").unwrap_or("*, ::");
    for service in ["doveadm", "stats"] {
        let block = conf.service(service);
        let listeners = block.into_iter().flat_map(|it| it.blocks("inet_listener"));
        for it in listeners.filter(|it| it.setting("port") != Some("0")) {
            let at = it.setting("address").or_else(|| it.setting("listen"));
            let at = at.unwrap_or(everywhere);
            let mut places = at.split([',', ' ']).filter(|place| !place.is_empty());
            let is_local = |place: &str| {
                place == "localhost"
                    || place.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            };
            if places.all(is_local) {
                continue;
            }
            let trouble = Trouble::new(
                format!(
                    "service {service} listens at {at}, port {}",
                    it.setting("port").unwrap_or("?")
                ),
                "it has no encryption: other machines can try keys, or learn who is here",
                format!("bind it to 127.0.0.1, as in {SHIPPED}"),
            );
            return chart.fail("dovecot.listeners", trouble);
        }
    }
    chart.ok("dovecot.listeners", "doveadm and statistics are for this machine alone");
}

fn metrics(chart: &mut Chart, conf: &Doveconf) {
    let named: Vec<&str> =
        conf.everywhere("metric").iter().map(|it| it.name.as_str()).collect();
    let missing: Vec<&str> =
        METRICS.into_iter().filter(|it| !named.contains(it)).collect();
    if missing.is_empty() {
        return chart.ok("dovecot.metrics", "Dovecot counts what the worker looks at");
    }
    let trouble = Trouble::new(
        format!("Dovecot does not count {}", missing.join(", ")),
        "the pace and the gate of waves do not feel how users fare",
        format!("take part 8 of {SHIPPED}, with its names"),
    );
    chart.warn("dovecot.metrics", trouble);
}

/// Secrets of Dovecot's are for Dovecot alone: the master users' passwords, and doveadm's key.
fn secrets(chart: &mut Chart, conf: &Doveconf, config_dir: &Path) {
    let masters = conf.everywhere("passdb").into_iter().filter(|it| it.is_on("master"));
    let master_file = |it: &Block| {
        let path = it.setting("passwd_file_path");
        let path = path.or_else(|| it.words("args").find(|word| word.starts_with('/')));
        path.map(PathBuf::from)
    };
    let key = config_dir.join("tidegate-secret.conf");
    let files: Vec<PathBuf> = masters.filter_map(master_file).chain([key]).collect();
    for file in files {
        let Ok(found) = fs::metadata(&file) else { continue };
        let (name, mode) = (file.display(), found.permissions().mode() & 0o7777);
        if mode & 0o007 != 0 {
            let trouble = Trouble::new(
                format!("`{name}` is open to everybody (mode {mode:04o})"),
                "with what is in it all open mail can be read, or everything be done",
                format!("chmod 0640 {name}, with the group dovecot; make a new secret"),
            );
            return chart.fail("dovecot.secrets", trouble);
        }
    }
    chart.ok("dovecot.secrets", "no file with a secret is open to everybody");
}

/// Whether a database is the gate.
fn is_gate(block: &Block) -> bool {
    let Some(file) = lua_file(block) else { return false };
    let name = Path::new(file).file_name().unwrap_or_default().to_string_lossy();
    let is_ours = || fs::read_to_string(file).is_ok_and(|text| text.contains("/gate/"));
    name.contains("tidegate") || is_ours()
}

/// The script of a Lua database: `args = file=..` in 2.3, `lua_file = ..` in 2.4.
fn lua_file(block: &Block) -> Option<&str> {
    if block.setting("driver") != Some("lua") {
        return None;
    }
    let old = || block.words("args").find_map(|word| word.strip_prefix("file="));
    block.setting("lua_file").or_else(old)
}

#[cfg(test)]
mod tests;
