//! Postfix, and the program beside it: does mail for held mailboxes wait, and never bounce?
//!
//! # Invariants
//!
//! * Postfix is asked through its own tools; nothing is queued, and no recipient gets mail.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use tidegate_exchanger::{Config, Hops};
use tidegate_mailserver::reception::{self, Delivery};
use tidegate_mailserver::socketmap::{self, Reply};

use super::chart::{Chart, Trouble};
use super::hops::{self, Lookup, Nodes};
use super::place::{self, Kept};
use crate::cli;
use crate::telemetry::Chain;

/// What Postfix is asked for.
const SETTINGS: [&str; 13] = [
    "transport_maps",
    "defer_transports",
    "maximal_queue_lifetime",
    "bounce_queue_lifetime",
    "delay_warning_time",
    "queue_minfree",
    "message_size_limit",
    "queue_directory",
    "smtpd_recipient_restrictions",
    "smtpd_relay_restrictions",
    "lmtp_host_lookup",
    "lmtp_dns_resolver_options",
    "soft_bounce",
];

/// Postfix's own default: after it, what waits goes back to its senders.
const DEFAULT_LIFETIME: Duration = Duration::from_hours(5 * 24);

/// Below this, a full disk is met before Postfix refuses mail.
const MINFREE_MIN: u64 = 100_000_000;

/// Both answer within milliseconds; smtpd may have to ask others first.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long listing the queue may take: hundreds of thousands of messages a second are read.
const LISTING: Duration = Duration::from_mins(2);

/// Looks at a mail exchanger.
pub(super) fn look(
    chart: &mut Chart,
    exchanger: &Config,
    nodes: &Nodes,
    args: &cli::Doctor,
) {
    if let Some(dir) = &exchanger.state_dir {
        place::directory(chart, Kept { check: "mx.state", path: dir, is_private: true });
    }
    let queue = exchanger.drain.as_ref().map(|it| &it.queue);
    let config_dir = queue.and_then(|it| it.config_dir.as_deref());
    match Settings::ask(config_dir) {
        Ok(settings) => {
            postfix(chart, exchanger, &settings);
            let lookup = Lookup::of(
                settings.get("lmtp_host_lookup"),
                settings.get("lmtp_dns_resolver_options"),
            );
            hops::look(chart, &exchanger.hops, nodes, lookup);
        }
        Err(said) => {
            let trouble = Trouble::new(
                format!("postconf: {said}"),
                "what Postfix does with mail for held mailboxes is not known",
                "name its directory in `config_dir` of [drain]; apt-get install postfix",
            );
            chart.fail("postfix.config", trouble);
        }
    }
    if let Some(queue) = queue {
        let mut waiting = 0_u64;
        let listed = queue.list(LISTING, &mut |_| {
            waiting += 1;
            true
        });
        match listed {
            Ok(_) => chart.ok("postfix.queue", format!("{waiting} messages wait")),
            Err(error) => {
                let trouble = Trouble::new(
                    Chain(&error).to_string(),
                    "what waits is not found when its mailbox opens",
                    "start Postfix; let this program's user run postqueue",
                );
                chart.fail("postfix.queue", trouble);
            }
        }
    }
    answers(chart, exchanger, nodes, args);
}

fn postfix(chart: &mut Chart, exchanger: &Config, settings: &Settings) {
    transport_map(chart, exchanger, settings);
    held_transport(chart, &exchanger.hops, settings);
    soft_bounce(chart, &exchanger.hops, settings);
    lifetimes(chart, settings);
    let warning = settings.get("delay_warning_time");
    if seconds(warning).is_some_and(|it| it.is_zero()) {
        chart.ok("postfix.delay_warning", "senders are not told that their mail waits");
    } else {
        let trouble = Trouble::new(
            format!("delay_warning_time = {warning}"),
            "everybody who wrote to a held mailbox gets a notice, millions of them",
            "postconf -e delay_warning_time=0; postfix reload",
        );
        chart.warn("postfix.delay_warning", trouble);
    }
    minfree(chart, settings);
}

fn transport_map(chart: &mut Chart, exchanger: &Config, settings: &Settings) {
    let maps = settings.get("transport_maps");
    let address = exchanger.socketmap_listen;
    let wanted = format!("socketmap:inet:{address}:");
    let named = format!("socketmap:inet:localhost:{}:", address.port());
    if exchanger.policy_listen.is_some() && !maps.contains("socketmap:") {
        let trouble = Trouble::new(
            "transport_maps does not ask this program; it may be asked by policy",
            "mail for held mailboxes is refused for now, and its senders keep it",
            format!("to keep it yourself: transport_maps = {wanted}transport"),
        );
        return chart.warn("postfix.transport", trouble);
    }
    if maps.contains(&wanted) || maps.contains(&named) {
        return chart.ok("postfix.transport", format!("transport_maps = {maps}"));
    }
    let trouble = Trouble::new(
        format!("transport_maps = {maps}"),
        "Postfix does not ask where mail goes now, and tries held mailboxes all the time",
        format!("transport_maps = {wanted}transport (deploy/postfix/main.cf, part 2)"),
    );
    chart.fail("postfix.transport", trouble);
}

fn held_transport(chart: &mut Chart, hops: &Hops, settings: &Settings) {
    let hold = hops.hold.as_str();
    let deferred = settings.get("defer_transports");
    if deferred.split([',', ' ']).any(|it| it == hold) {
        chart.ok("postfix.defer", format!("defer_transports = {deferred}"));
    } else {
        let trouble = Trouble::new(
            format!("defer_transports = {deferred}"),
            "every queue run tries every message for a held mailbox",
            format!("postconf -e defer_transports={hold}; postfix reload"),
        );
        chart.fail("postfix.defer", trouble);
    }
    let Some(line) = settings.service(hold) else {
        let trouble = Trouble::new(
            format!("master.cf has no transport `{hold}`"),
            "mail for held mailboxes waits, but cannot be delivered when they open",
            "add the line of deploy/postfix/master.cf; postfix reload",
        );
        return chart.fail("postfix.held", trouble);
    };
    let command = line.split_ascii_whitespace().nth(7).unwrap_or_default();
    if ["lmtp", "smtp"].contains(&command) {
        return chart
            .ok("postfix.held", format!("`{hold}` is Postfix's {command} client"));
    }
    let trouble = Trouble::new(
        format!("the transport `{hold}` is {command}"),
        "mail for held mailboxes is refused or thrown away",
        "take the line of deploy/postfix/master.cf: the lmtp client under another name",
    );
    chart.fail("postfix.held", trouble);
}

/// What a node or the DNS refuses for good waits all the same: while a storage is repaired,
/// such a refusal is more often a mistake than meant.
fn soft_bounce(chart: &mut Chart, hops: &Hops, settings: &Settings) {
    let check = "postfix.soft_bounce";
    let everywhere = settings.get("soft_bounce") == "yes";
    let is_soft = |name: &str| {
        let line = settings.service(name).unwrap_or_default();
        let mut words = line.split_ascii_whitespace();
        everywhere || words.any(|word| word == "soft_bounce=yes")
    };
    let Hops { deliver, hold, .. } = hops;
    if settings.service(deliver).is_none() {
        let trouble = Trouble::new(
            format!("master.cf has no transport `{deliver}`"),
            "mail for open mailboxes waits: Postfix has nothing to deliver it with",
            "add the lines of deploy/postfix/master.cf; postfix reload",
        );
        return chart.fail(check, trouble);
    }
    if let Some(hard) = [deliver, hold].into_iter().find(|name| !is_soft(name)) {
        let trouble = Trouble::new(
            format!("the transport `{hard}` has no soft_bounce=yes"),
            "a node that is not in the DNS, or a Dovecot that has lost a user, sends mail back \
             to its senders",
            format!("postconf -P {hard}/unix/soft_bounce=yes; postfix reload"),
        );
        return chart.warn(check, trouble);
    }
    chart.ok(check, format!("what `{deliver}` and `{hold}` are refused waits"));
}

fn lifetimes(chart: &mut Chart, settings: &Settings) {
    let [queue, bounce] =
        ["maximal_queue_lifetime", "bounce_queue_lifetime"].map(|it| settings.get(it));
    let is_short = |text: &str| seconds(text).is_none_or(|it| it <= DEFAULT_LIFETIME);
    if is_short(queue) || is_short(bounce) {
        let trouble = Trouble::new(
            format!("maximal_queue_lifetime = {queue}, bounce_queue_lifetime = {bounce}"),
            "mail that waits for longer goes back to its sender, and is lost for the user",
            "postconf -e maximal_queue_lifetime=30d bounce_queue_lifetime=30d; postfix reload",
        );
        return chart.warn("postfix.lifetime", trouble);
    }
    chart.ok("postfix.lifetime", format!("mail waits for {queue}, notices for {bounce}"));
}

fn minfree(chart: &mut Chart, settings: &Settings) {
    let number = |name| settings.get(name).parse::<u64>().unwrap_or(0);
    let (minfree, size) = (number("queue_minfree"), number("message_size_limit"));
    if minfree < MINFREE_MIN.max(size.saturating_mul(3) / 2) {
        let trouble = Trouble::new(
            format!("queue_minfree = {minfree}, message_size_limit = {size}"),
            "when the queue's disk is full, mail may be lost instead of refused for now",
            "postconf -e queue_minfree=2000000000; postfix reload",
        );
        chart.warn("postfix.minfree", trouble);
    } else {
        chart.ok("postfix.minfree", format!("queue_minfree = {minfree}"));
    }
    let dir = settings.get("queue_directory");
    if !dir.is_empty() {
        place::room(chart, "postfix.room", Path::new(dir));
    }
}

/// What the program beside Postfix answers, and what Postfix makes of it.
fn answers(chart: &mut Chart, exchanger: &Config, nodes: &Nodes, args: &cli::Doctor) {
    let address = exchanger.socketmap_listen;
    let deadline = Instant::now() + PATIENCE;
    // Postfix asks for this itself, and nobody has it.
    match socketmap::ask(address, "transport", "*", deadline) {
        Ok(_) if matches!(nodes, Nodes::NoPlan) => {
            let trouble = Trouble::new(
                "no plan is applied yet, so every address is told to come later",
                "all mail of this Postfix waits, also what goes out to the world",
                "apply the plan now; or take transport_maps out of main.cf until you do",
            );
            return chart.fail("mx.answers", trouble);
        }
        Ok(Reply::NotFound) => chart.ok("mx.answers", format!("answers at {address}")),
        Ok(odd) => {
            let trouble = Trouble::new(
                format!("{address} answers {odd:?} for `*`"),
                "all mail takes this way, or all mail waits",
                "is the coordinator reachable? then see the log of tidegate-mx",
            );
            chart.warn("mx.answers", trouble);
        }
        Err(error) => {
            let trouble = Trouble::new(
                Chain(&error).to_string(),
                "all mail waits: Postfix takes no answer for a temporary failure",
                "systemctl start tidegate-mx",
            );
            return chart.fail("mx.answers", trouble);
        }
    }
    let Some(held) = &args.held else {
        let trouble = Trouble::new(
            "there is no held mailbox to try it with",
            "where its mail would go was not tried",
            "run it again with --held ADDRESS, of a mailbox that is not open yet",
        );
        return chart.warn("mx.held", trouble);
    };
    next_hop(chart, exchanger, held);
    recipient(chart, args, held);
}

fn next_hop(chart: &mut Chart, exchanger: &Config, held: &str) {
    let deadline = Instant::now() + PATIENCE;
    let said = socketmap::ask(exchanger.socketmap_listen, "transport", held, deadline);
    let hold = exchanger.hops.hold.as_str();
    match said {
        Ok(Reply::Found(next)) => {
            let hop = next.split_once(':').map_or("", |(_, hop)| hop);
            let seen = format!("{held} goes to `{next}`");
            if hop.is_empty() {
                let means =
                    "a flush would ask DNS for the recipient's domain, and bounce";
                let remedy = "give every node a next hop in [next_hop]";
                chart.fail("mx.held", Trouble::new(seen, means, remedy));
            } else if next.starts_with(&format!("{hold}:")) {
                chart.ok("mx.held", seen);
            } else {
                let means = "this mailbox receives: it is no held one";
                let remedy = "give another one with --held";
                chart.warn("mx.held", Trouble::new(seen, means, remedy));
            }
        }
        Ok(Reply::Later(why)) => {
            let means = "nothing is known of it: mail waits, and is tried again";
            let remedy = "wait for the first copy of the coordinator's view";
            let seen = format!("{held}: not now, {why}");
            chart.warn("mx.held", Trouble::new(seen, means, remedy));
        }
        Ok(answer) => {
            let seen = format!("{held}: {answer:?}");
            let means = "it is in no plan: its mail goes where it always went";
            let remedy = "give an address of the inventory with --held";
            chart.fail("mx.held", Trouble::new(seen, means, remedy));
        }
        Err(error) => {
            let remedy = "systemctl restart tidegate-mx";
            let means = "all mail waits";
            chart.fail("mx.held", Trouble::new(Chain(&error).to_string(), means, remedy));
        }
    }
}

/// Postfix takes mail for a held mailbox in.
fn recipient(chart: &mut Chart, args: &cli::Doctor, held: &str) {
    let deadline = Instant::now() + PATIENCE;
    let means = "mail for held mailboxes is refused: its senders keep it, or give up";
    match reception::recipient(Delivery::Smtp, args.smtp, held, deadline) {
        Ok(said) if said.starts_with("250") => {
            chart.ok("postfix.accepts", format!("`{said}`"));
        }
        Ok(said) => {
            let remedy = "see deploy/postfix/main.cf, parts 2 and 4, and Postfix's log";
            chart.fail(
                "postfix.accepts",
                Trouble::new(format!("`{said}`"), means, remedy),
            );
        }
        Err(error) => {
            let remedy = format!("is Postfix at {}? say where with --smtp", args.smtp);
            let seen = Chain(&error).to_string();
            chart.fail("postfix.accepts", Trouble::new(seen, means, remedy));
        }
    }
}

/// What Postfix is told.
#[derive(Debug, Default)]
struct Settings {
    values: BTreeMap<String, String>,
    services: Vec<String>,
}

impl Settings {
    fn ask(config_dir: Option<&Path>) -> Result<Self, String> {
        let run = |arguments: &[&str]| {
            let mut command = Command::new("postconf");
            if let Some(dir) = config_dir {
                command.arg("-c").arg(dir);
            }
            let output = command.args(arguments).output();
            let output = output.map_err(|error| error.to_string())?;
            if output.status.success() {
                return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
            }
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        };
        let mut arguments = vec!["-x"];
        arguments.extend(SETTINGS);
        let values = run(&arguments)?;
        let values = values.lines().filter_map(|line| line.split_once('='));
        let values =
            values.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()));
        let services = run(&["-M"])?.lines().map(str::to_owned).collect();
        Ok(Self { values: values.collect(), services })
    }

    /// The line of master.cf.
    fn service(&self, name: &str) -> Option<&str> {
        let named = |line: &&String| line.split_ascii_whitespace().next() == Some(name);
        self.services.iter().find(named).map(String::as_str)
    }

    fn get(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }
}

/// `30d`, `4h`, `0`: Postfix's times. A bare number is of seconds or days, by the setting;
/// only zero is written so in practice, and everything else is taken for days.
fn seconds(text: &str) -> Option<Duration> {
    let end = text.find(|it: char| !it.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(end)?;
    let number: u64 = number.parse().ok()?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "w" => 7 * 86_400,
        "d" | "" => 86_400,
        _ => return None,
    };
    Some(Duration::from_secs(number.saturating_mul(unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_postfix_writes_them() {
        let hours = |text| seconds(text).map(|it| it.as_secs() / 3_600);

        assert_eq!(
            ["5d", "4h", "30", "0h", "x"].map(hours),
            [Some(120), Some(4), Some(720), Some(0), None]
        );
    }
}
