//! The public status page: asks the coordinator, and writes static files.
//!
//! # Invariants
//!
//! * A page is written whole or not at all, file by file; one that may not be written leaves the
//!   last one as it is, which then shows its age.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use tidegate_pages::public::{self, Facts, File, Refusal, Site};
use tidegate_pages::texts::Language;

use crate::cli::{StatusPage, StatusPageBuild};
use crate::client::Client;
use crate::complaint::Complaint;
use crate::console;
use crate::exit::{Exit, Failure, Outcome};

/// Carries out `tidegate status-page`.
pub(crate) async fn run(verb: &StatusPage) -> Outcome {
    let StatusPage::Build(args) = verb;
    build(args).await
}

async fn build(args: &StatusPageBuild) -> Outcome {
    let site = site(args)?;
    let mut client = Client::connect(&args.coordinator).await?;
    let rollout = client.rollout().await?;
    let tiers = client.tiers().await?;
    let facts = Facts { rollout: &rollout, tiers: &tiers };
    let files = public::build(&site, &facts).map_err(refused)?;
    for file in &files {
        write(&args.to, file)
            .with_context(|| format!("write `{}`", args.to.join(&file.path).display()))?;
    }
    console::tell(format_args!("{} files in `{}`", files.len(), args.to.display()));
    Ok(Exit::Done)
}

/// What the operator says about the page, with changed texts.
fn site(args: &StatusPageBuild) -> Result<Site, Failure> {
    let name = args.site.display().to_string();
    let text = read(&args.site)?;
    let mut site: Site = toml::from_str(&text).map_err(|error| {
        let complaint = Complaint::from_toml(&error);
        Failure::complete(Exit::Input, complaint.render(&name, &text))
    })?;
    for language in Language::ALL {
        let Some(dir) = &args.texts else { break };
        let path = dir.join(format!("{}.ftl", language.code()));
        if path.exists() {
            site.change(language, &read(&path)?).map_err(|error| {
                let text = format!("read texts `{}`", path.display());
                Failure::new(Exit::Input, anyhow::Error::new(error).context(text))
            })?;
        }
    }
    Ok(site)
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| {
        let text = format!("read `{}`", path.display());
        Failure::new(Exit::Input, anyhow::Error::new(error).context(text))
    })
}

fn refused(refusal: Refusal) -> Failure {
    match &refusal {
        Refusal::Unsupported { source, language } => {
            let text = format!("the page was not written: {}: {source}", language.code());
            Failure::new(Exit::Refused, anyhow!(text))
                .help("change the sentence, in the site's file or in the changed texts")
        }
        Refusal::Zone(_) => Failure::new(Exit::Input, refusal),
        Refusal::Template(_) | Refusal::Json(_) => Failure::new(Exit::Bug, refusal),
    }
}

/// Writes a file so that a reader sees all of it or none.
fn write(to: &Path, file: &File) -> io::Result<()> {
    let path = to.join(&file.path);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut staged = path.clone().into_os_string();
    staged.push(".tmp");
    fs::write(&staged, &file.content)?;
    fs::rename(&staged, &path)
}
