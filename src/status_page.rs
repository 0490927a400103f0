//! The public status page: asks the coordinator, and writes static files, or shows what they would
//! say.
//!
//! # Invariants
//!
//! * A page is written whole or not at all, file by file; one that may not be written leaves the
//!   last one as it is, which then shows its age.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, anyhow};
use schemars::JsonSchema;
use serde::Serialize;
use tidegate_pages::public::{self, Facts, File, Refusal, Site, Update};
use tidegate_pages::texts::Language;
use tidegate_wire::v1::{ListTiersResponse, Rollout};

use crate::cli::{Notice, Said, StatusPage, StatusPageBuild, TableOrJson};
use crate::client::Client;
use crate::complaint::Complaint;
use crate::console::{self, safe};
use crate::exit::{Exit, Failure, Outcome};
use crate::screens::json;

/// Carries out `tidegate status-page`.
pub(crate) async fn run(verb: &StatusPage) -> Outcome {
    let StatusPage::Build(args) = verb;
    build(args).await
}

async fn build(args: &StatusPageBuild) -> Outcome {
    let sources = Sources::of(&args.said).await?;
    let files = public::build(&sources.site, &sources.facts()).map_err(refused)?;
    for file in &files {
        write(&args.to, file)
            .with_context(|| format!("write `{}`", args.to.join(&file.path).display()))?;
    }
    console::tell(format_args!("{} files in `{}`", files.len(), args.to.display()));
    Ok(Exit::Done)
}

/// Carries out `tidegate notice`.
pub(crate) async fn notice(verb: &Notice) -> Outcome {
    let (Notice::Preview(args) | Notice::Lint(args)) = verb;
    let sources = Sources::of(&args.said).await?;
    let notices = public::notices(&sources.site, &sources.facts()).map_err(refused)?;
    let lints = matches!(verb, Notice::Lint(_));
    match args.output {
        TableOrJson::Json => {
            let languages = notices.iter().map(ReadIn::of).collect();
            console::data_line(json::value(&WouldRead { languages }))?;
        }
        TableOrJson::Table => notices.iter().try_for_each(|it| tell(it, lints))?,
    }
    let claims_too_much = notices.iter().any(|it| !it.unsupported.is_empty());
    Ok(if lints && claims_too_much { Exit::Failed } else { Exit::Done })
}

fn tell(notice: &public::Notice, lints: bool) -> Result<(), Failure> {
    let code = notice.language.code();
    if !lints {
        console::data_line(format_args!("{code}"))?;
        for line in &notice.lines {
            console::data_line(format_args!("  {}", safe(line)))?;
        }
    } else if notice.unsupported.is_empty() {
        let lines = notice.lines.len();
        console::data_line(format_args!(
            "{code}  ok: no line of {lines} claims more than the records support"
        ))?;
    }
    for claim in &notice.unsupported {
        console::data_line(format_args!("{code}  ! {}", safe(&claim.to_string())))?;
    }
    Ok(())
}

/// What the public would read just now.
#[derive(Serialize, JsonSchema)]
#[serde(tag = "schema", rename = "tidegate.notice/v1")]
pub(crate) struct WouldRead<'a> {
    /// Language by language.
    languages: Vec<ReadIn<'a>>,
}

/// What the public would read in one language.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Language")]
struct ReadIn<'a> {
    /// The language's code.
    language: &'static str,
    /// What is said, in the page's order.
    lines: &'a [String],
    /// Which sentences claim more than the records support, and why; with any the page is not
    /// written.
    unsupported: Vec<String>,
}

impl<'a> ReadIn<'a> {
    fn of(notice: &'a public::Notice) -> Self {
        Self {
            language: notice.language.code(),
            lines: &notice.lines,
            unsupported: notice.unsupported.iter().map(ToString::to_string).collect(),
        }
    }
}

/// What the page is made of, and what it is made from.
struct Sources {
    site: Site,
    rollout: Rollout,
    tiers: ListTiersResponse,
}

impl Sources {
    async fn of(said: &Said) -> Result<Self, Failure> {
        let site = site(said)?;
        let mut client = Client::connect(&said.coordinator).await?;
        let rollout = client.rollout().await?;
        let tiers = client.tiers().await?;
        Ok(Self { site, rollout, tiers })
    }

    fn facts(&self) -> Facts<'_> {
        Facts { rollout: &self.rollout, tiers: &self.tiers }
    }
}

/// What the operator says about the page, with changed texts.
fn site(args: &Said) -> Result<Site, Failure> {
    let mut site = read_site(&args.site)?;
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

fn read_site(path: &Path) -> Result<Site, Failure> {
    let text = read(path)?;
    toml::from_str(&text).map_err(|error| {
        let complaint = Complaint::from_toml(&error);
        Failure::complete(
            Exit::Input,
            complaint.render(&path.display().to_string(), &text),
        )
    })
}

/// What the press office has said, as the site's file has it.
///
/// # Errors
///
/// [`Exit::Input`] when that cannot be read, with the place.
pub(crate) fn updates(site: &Path) -> Result<Vec<Update>, Failure> {
    Ok(read_site(site)?.updates)
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
