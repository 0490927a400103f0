//! Init: makes an authority and certificates for a lab.
//!
//! # Invariants
//!
//! * Nothing that is there is overwritten.
//! * Whoever is named under several roles gets one certificate with all of them.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tidegate_trust::{Authority, AuthorityError, Holder, Issued, Role};

use crate::cli::Init;
use crate::console;
use crate::exit::{Exit, Failure, Outcome};

/// What the coordinator's files are called.
const COORDINATOR: &str = "coordinator";

/// Carries out `tidegate init`.
pub(crate) fn run(args: &Init) -> Outcome {
    let make = if args.add { Authority::open } else { Authority::create };
    let authority =
        make(&args.dir, &args.trust_domain).map_err(|error| refused(args, error))?;
    let lasts = Duration::from_hours(24 * u64::from(args.days));
    let mut made = Vec::new();
    for holder in holders(args) {
        let issued =
            authority.issue(&holder, lasts).map_err(|error| refused(args, error))?;
        made.push((holder, issued));
    }
    if !args.add {
        console::data_line(format_args!(
            "authority    {}, for {}; whoever has ca.key can be anybody: keep it offline",
            authority.certificate().display(),
            args.trust_domain
        ))?;
        let (key, public) =
            authority.audit_key().map_err(|error| refused(args, error))?;
        console::data_line(format_args!(
            "audit key    {}, for `key` in [audit] of the coordinator; {} verifies, keep it \
             elsewhere",
            key.display(),
            public.display()
        ))?;
    }
    for (_, issued) in &made {
        console::data_line(format_args!(
            "certificate  {}  {}",
            issued.certificate.display(),
            issued.uris.join(" ")
        ))?;
    }
    console::data_line(format_args!("\nThey last {} days. Next:", args.days))?;
    for (holder, issued) in &made {
        next(args, holder, issued, &authority.certificate())?;
    }
    Ok(Exit::Done)
}

/// Everybody who gets a certificate, each once.
fn holders(args: &Init) -> Vec<Holder> {
    let mut holders = Vec::new();
    // Whoever renews the coordinator's has put the old one away.
    let is_there = args.dir.join(format!("{COORDINATOR}.pem")).exists();
    if !args.add || !is_there {
        holders.push(Holder {
            file: COORDINATOR.to_owned(),
            roles: vec![Role::Coordinator],
            name: String::new(),
            hosts: args.host.clone(),
        });
    }
    let programs = [(Role::Worker, &args.node), (Role::Exchanger, &args.exchanger)];
    for (role, names) in programs {
        holders.extend(names.iter().map(|name| Holder {
            file: format!("{role}-{name}"),
            roles: vec![role],
            name: name.clone(),
            hosts: Vec::new(),
        }));
    }
    let mut people: BTreeMap<&str, Vec<Role>> = BTreeMap::new();
    let roles = [
        (Role::Viewer, &args.viewer),
        (Role::Desk, &args.desk),
        (Role::Operator, &args.operator),
        (Role::Approver, &args.approver),
    ];
    for (role, names) in roles {
        for name in names {
            people.entry(name).or_default().push(role);
        }
    }
    holders.extend(people.into_iter().map(|(name, roles)| Holder {
        file: name.to_owned(),
        roles,
        name: name.to_owned(),
        hosts: Vec::new(),
    }));
    holders
}

/// What its holder does with a certificate.
fn next(args: &Init, holder: &Holder, issued: &Issued, ca: &Path) -> anyhow::Result<()> {
    let (certificate, key) = (issued.certificate.display(), issued.key.display());
    let ca = ca.display();
    let host = args.host.first().map_or("HOST", String::as_str);
    let is_person = holder.roles.iter().all(|role| role.is_a_persons());
    if is_person {
        return console::data_line(format_args!(
            "  {}: export TIDEGATE_COORDINATOR=https://{host}:7443 \
             TIDEGATE_CERTIFICATE={certificate} TIDEGATE_KEY={key} TIDEGATE_CA={ca}",
            holder.file
        ))
        .context("print");
    }
    let file = match holder.roles.first() {
        Some(Role::Coordinator) => "coordinator.toml",
        Some(Role::Exchanger) => "mx.toml",
        Some(_) | None => "worker.toml",
    };
    console::data_line(format_args!(
        "  {}: copy its two files and ca.pem there, and write into {file}:\n    \
         [tls]\n    certificate = \"{certificate}\"\n    key = \"{key}\"\n    ca = \"{ca}\"",
        holder.file
    ))
    .context("print")
}

fn refused(args: &Init, error: AuthorityError) -> Failure {
    let exit = match &error {
        AuthorityError::Name { .. } => Exit::Input,
        AuthorityError::File { .. } => Exit::Refused,
        AuthorityError::Make(_) => Exit::Failed,
    };
    let failure = Failure::new(exit, anyhow::Error::new(error));
    if exit == Exit::Refused {
        return failure.help(format!(
            "nothing is overwritten: name a new directory, or `--add` certificates to the \
             authority in `{}`",
            args.dir.display()
        ));
    }
    failure
}
