//! Every way in which the gate can be missing in Dovecot's files, and the check that finds it.

use super::*;

/// What a site has of its own, after the shipped lines.
const OWN: &str = "
protocols = imap pop3 lmtp submission sieve
passdb users {
  driver = passwd-file
}
userdb users {
  driver = passwd-file
}
";

#[test]
fn the_shipped_files_are_well() {
    for edition in [old(), new()] {
        assert_eq!(troubles(&edition), [] as [&str; 0]);
    }
}

#[test]
fn every_way_past_the_gate_is_found() {
    let gate_of = |edition: &str, service: &str| {
        let start = edition.find(&format!("protocol {service} {{")).unwrap();
        let end = start + edition[start..].find("\n}\n").unwrap() + 3;
        edition[start..end].to_owned()
    };
    for edition in [old(), new()] {
        let without = |part: &str, other: &str| {
            assert!(edition.contains(part), "{part}");
            edition.replacen(part, other, 1)
        };
        let userdb =
            "  result_failure = return-fail\n  result_internalfail = return-fail\n";
        let pop3 = gate_of(&edition, "pop3");
        for (broken, found) in [
            (without(&pop3, ""), "FAIL gate.pop3"),
            (without(&pop3, &pop3.replace("deny = yes", "")), "FAIL gate.pop3"),
            (without(userdb, ""), "FAIL gate.mailbox"),
            (
                without(
                    "result_internalfail = return-fail",
                    "result_internalfail = continue",
                ),
                "FAIL gate.mailbox",
            ),
            (without("mode = 0\n", "mode = 0600\n"), "warn gate.penalty"),
            (without("metric lmtp_cmd {", "metric lmtp {"), "warn dovecot.metrics"),
            (without("port = 10144", "port = 10143"), "FAIL gate.webmail"),
            (
                without("protocol sieve {", "protocol smtp {"),
                "FAIL gate.sieve FAIL gate.sasl",
            ),
            (
                edition.replace("127.0.0.1\n    port = 10380", "*\n    port = 10380"),
                "FAIL dovecot.listeners",
            ),
            (
                format!(
                    "{edition}passdb x {{\n  driver = static\n  args = nopassword=y\n  result_success = continue\n}}\n"
                ),
                "FAIL gate.passwordless",
            ),
            (
                format!(
                    "{edition}passdb x {{\n  driver = static\n  fields {{\n    nologin = y\n  }}\n}}\n"
                ),
                "warn gate.leftovers",
            ),
            (
                format!(
                    "{edition}passdb x {{\n  driver = passwd-file\n  deny = yes\n}}\n"
                ),
                "warn gate.leftovers",
            ),
            (format!("{edition}auth_cache_size = 10 M\n"), ""),
            (
                format!("{edition}auth_cache_size = 10 M\n")
                    .replace("cache_key=", "x=")
                    .replace("use_cache = no", ""),
                "FAIL gate.cache",
            ),
        ] {
            assert_eq!(troubles(&broken).join(" "), found);
        }
    }
}

#[test]
fn a_database_before_the_gate_is_found_and_a_master_user_is_none() {
    let own = "passdb users {\n  driver = passwd-file\n}\n";
    for edition in [old(), new()] {
        let first = format!("{HEAD}{own}{edition}");
        assert_eq!(
            troubles(&first),
            [
                "FAIL gate.imap",
                "FAIL gate.pop3",
                "FAIL gate.submission",
                "FAIL gate.sieve"
            ]
        );
        let first = format!("{HEAD}{}{edition}", own.replace("passdb", "userdb"));
        assert_eq!(troubles(&first), ["FAIL gate.mailbox"]);
        let master = format!("{HEAD}{}{edition}", own.replace('}', "  master = yes\n}"));
        assert_eq!(troubles(&master), [] as [&str; 0]);
    }
}

/// As `doveconf` begins.
const HEAD: &str = "# 2.4.1-4 (7d8c0e5759): /etc/dovecot/dovecot.conf\n";

fn old() -> String {
    let shipped = include_str!("../../../deploy/dovecot/tidegate-2.3.conf");
    format!("{HEAD}{shipped}{OWN}")
}

fn new() -> String {
    let shipped = include_str!("../../../deploy/dovecot/tidegate-2.4.conf");
    format!("{HEAD}{shipped}{OWN}")
}

/// What is not well. Files that are only there where Dovecot is installed do not count.
fn troubles(conf: &str) -> Vec<String> {
    let mut chart = Chart::default();
    let expected = Expected {
        admission: ([127, 0, 0, 1], 10_390).into(),
        webmail_ports: &[10_144],
        config_dir: Path::new("/nonexistent"),
    };
    look(&mut chart, &Doveconf::printed(conf), &expected);
    let mut found = chart.troubles();
    found.retain(|it| !it.ends_with("gate.script") && !it.ends_with("gate.plugin"));
    found
}
