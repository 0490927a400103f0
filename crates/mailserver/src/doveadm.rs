//! Doveadm: Dovecot's own administration, over its HTTP API.
//!
//! Formats: <https://doc.dovecot.org/2.3/admin_manual/doveadm_http_api/>. Tried against 2.3.19
//! and 2.4.1, whose habits are noted where they matter.
//!
//! # Invariants
//!
//! * Several commands share one request, and run in order.
//! * A node may have several Dovecots: what is said of sessions and caches is said to all of
//!   them, and holds only when all have answered. Mailboxes are asked of the first alone, for
//!   all of them serve the same mail.
//! * Every request ends by its deadline.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use tidegate_secret::Secret;

/// Commands of one request: a request takes a process of Dovecot's, and its answer must end by
/// the deadline.
const COMMANDS_MAX: usize = 256;

/// Bytes of names in one flush of the auth cache. Dovecot's auth process takes no line longer
/// than 1,024 bytes: of a longer one it does nothing, and `doveadm` reports no error.
const FLUSH_BYTES_MAX: usize = 700;

/// An answer longer than this is none: a hundred thousand sessions take ten megabytes.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// How long connecting may take, on one machine or the next.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// `EX_NOUSER`, `EX_NOTFOUND` (Dovecot's own) and `EX_TEMPFAIL`.
const EXIT_NO_USER: i64 = 67;
const EXIT_NOT_FOUND: i64 = 68;
const EXIT_TEMPORARY: i64 = 75;

/// The way to the Dovecots of one node.
#[derive(Debug)]
pub struct Doveadm {
    instances: Vec<Instance>,
    agent: ureq::Agent,
}

/// What opens the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// `doveadm_api_key`.
    ApiKey(Secret<String>),
    /// `doveadm_password`.
    Password(Secret<String>),
}

/// Where the API is.
#[derive(Clone, Debug)]
pub struct DoveadmSpec {
    /// One per Dovecot, like `http://127.0.0.1:8080`.
    pub urls: Vec<String>,
    /// The same for all.
    pub credential: Credential,
    /// How long one request may take.
    pub deadline: Duration,
}

/// A logged-in connection.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Session {
    /// The user, as Dovecot writes the name.
    pub user: String,
    /// The protocol, like `imap`.
    pub service: String,
}

/// Counters of one folder as Dovecot shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderStatus {
    /// Its name in UTF-8, with the separator of its namespace.
    pub name: String,
    /// How many messages.
    pub messages: u64,
    /// The next UID.
    pub uid_next: u32,
    /// Its UIDVALIDITY.
    pub uid_validity: u32,
}

/// Lower limits for a folder's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AtLeast {
    /// Of the next UID.
    pub uid_next: Option<u32>,
    /// Of the highest mod-sequence.
    pub modseq: Option<u64>,
}

/// Whose entries leave the auth cache.
#[derive(Clone, Copy, Debug)]
pub enum Flush<'a> {
    /// Everybody's.
    All,
    /// Those of these users.
    Users(&'a [&'a str]),
}

/// Dovecot could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum DoveadmError {
    /// No connection, or no answer in time. What was asked may have been done.
    #[error("ask doveadm at {url}")]
    Silent {
        /// Which.
        url: String,
        /// What happened.
        source: Box<ureq::Error>,
    },
    /// It does not accept our key.
    #[error("be let in by doveadm at {url}: HTTP {status}")]
    Refused {
        /// Which.
        url: String,
        /// What it answered.
        status: u16,
    },
    /// It said something else than an answer.
    #[error("understand doveadm at {url}")]
    NotUnderstood {
        /// Which.
        url: String,
        /// Why, if it is no JSON at all.
        source: Option<serde_json::Error>,
    },
    /// A command failed that has to work.
    #[error("have doveadm at {url} carry out `{command}`")]
    Failed {
        /// Which.
        url: String,
        /// The command.
        command: &'static str,
        /// What it said.
        source: CommandError,
    },
}

/// A command was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Dovecot does not know the user.
    #[error("no such user")]
    NoSuchUser,
    /// What was asked for is not there.
    #[error("not found")]
    NotFound,
    /// For now; Dovecot's log says why.
    #[error("a temporary failure, explained in Dovecot's log")]
    Temporary,
    /// The name has a wildcard, which doveadm takes for all users whom it fits. It was not
    /// asked.
    #[error("the name has a wildcard, and would be taken for many users")]
    ManyUsers,
    /// This Dovecot has no such command.
    #[error("unknown command")]
    UnknownCommand,
    /// Anything else; Dovecot's log says why.
    #[error("exit code {0}, explained in Dovecot's log")]
    Exit(i64),
}

impl Doveadm {
    /// Connects to nothing yet.
    pub fn new(spec: &DoveadmSpec) -> Self {
        let authorization = spec.credential.header();
        let instance = |url: &String| Instance {
            url: format!("{}/doveadm/v1", url.trim_end_matches('/')),
            authorization: authorization.clone(),
            edition: Mutex::new(None),
        };
        let agent = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT_MAX))
            .timeout_global(Some(spec.deadline))
            .http_status_as_error(false)
            // An open connection would keep one of few processes.
            .max_idle_connections(0)
            .proxy(None)
            .build();
        Self { instances: spec.urls.iter().map(instance).collect(), agent: agent.into() }
    }

    /// Everybody who is logged in anywhere. LMTP has no log-in, and is not in it.
    ///
    /// # Errors
    ///
    /// [`DoveadmError`]: then nothing is known of anybody.
    pub fn who(&self) -> Result<Vec<Session>, DoveadmError> {
        let mut sessions = Vec::new();
        for instance in &self.instances {
            // Without this, 2.3.19 counts the connections of a user but misplaces a bracket.
            let call = ("who", json!({ "separateConnections": true }));
            let answers = self.ask(instance, &[call])?;
            let [answer] = &answers[..] else { return Err(instance.odd()) };
            for entry in instance.done("who", answer)? {
                let (Some(user), Some(service)) =
                    (text(entry, "username"), text(entry, "service"))
                else {
                    return Err(instance.odd());
                };
                sessions.push(Session { user, service });
            }
        }
        Ok(sessions)
    }

    /// Ends all sessions of these users; a process of 2.3 that serves others too only with
    /// `force`. 2.4 disconnects them alone.
    /// Nobody has been disconnected for sure: [`Doveadm::who`] tells.
    ///
    /// A name with a wildcard fits others too, and there is no way to write it otherwise: such
    /// users are left alone as long as anybody else whom it fits is logged in. How many were
    /// left alone.
    ///
    /// # Errors
    ///
    /// [`DoveadmError`]: some may still be connected.
    pub fn kick(&self, users: &[&str], force: bool) -> Result<usize, DoveadmError> {
        let (masks, mut named): (Vec<&str>, Vec<&str>) =
            users.iter().copied().partition(|user| has_wildcard(user));
        if !masks.is_empty() {
            let present = self.who()?;
            let is_alone = |mask: &&&str| {
                let mut fitting = present.iter().filter(|it| fits(mask, &it.user));
                fitting.all(|it| it.user.eq_ignore_ascii_case(mask))
            };
            named.extend(masks.iter().filter(is_alone));
        }
        if named.is_empty() {
            return Ok(users.len());
        }
        for instance in &self.instances {
            let is_forced = self.edition(instance)? == Edition::Two3;
            let asked = |user| {
                if is_forced {
                    json!({ "mask": [user], "force": force })
                } else {
                    json!({ "mask": [user] })
                }
            };
            // 2.3 takes one name a command.
            let calls: Vec<(&str, Value)> =
                named.iter().map(|user| ("kick", asked(*user))).collect();
            for answer in self.ask(instance, &calls)? {
                match answer {
                    Ok(_) | Err(CommandError::NotFound) => {}
                    Err(error) => return Err(instance.failed("kick", error)),
                }
            }
        }
        Ok(users.len() - named.len())
    }

    /// Makes Dovecot forget what it has been told of these users; how many entries went.
    ///
    /// 2.4.1 is not asked: its interface breaks down at this command, however it is asked (an
    /// assertion in `doveadm_cmd_param_str`). There the gate's answers must not be kept, as the
    /// shipped `use_cache = no` says and the doctor looks for.
    ///
    /// # Errors
    ///
    /// [`DoveadmError`]: some may still be remembered.
    pub fn auth_cache_flush(&self, flush: Flush<'_>) -> Result<u64, DoveadmError> {
        let portions: Vec<&[&str]> = match flush {
            // Dovecot takes an empty list for everybody.
            Flush::All => vec![&[]],
            Flush::Users(users) => portions(users),
        };
        let calls: Vec<(&str, Value)> = portions
            .iter()
            .map(|users| ("authCacheFlush", json!({ "user": users })))
            .collect();
        let mut entries = 0;
        for instance in &self.instances {
            if self.edition(instance)? != Edition::Two3 {
                continue;
            }
            for answer in self.ask(instance, &calls)? {
                for entry in instance.done("authCacheFlush", &answer)? {
                    entries += number(entry, "entries").unwrap_or(0);
                }
            }
        }
        Ok(entries)
    }

    /// The folders of each user with their counters, in the order asked.
    ///
    /// # Errors
    ///
    /// [`DoveadmError`] if nobody could be asked about; what is wrong with one user is in
    /// that user's place.
    pub fn mailbox_status(
        &self,
        users: &[&str],
    ) -> Result<Vec<Result<Vec<FolderStatus>, CommandError>>, DoveadmError> {
        let Some(first) = self.instances.first() else { return Ok(Vec::new()) };
        let fields = ["messages", "uidnext", "uidvalidity"];
        let calls: Vec<(&str, Value)> = users
            .iter()
            .filter(|user| !has_wildcard(user))
            .map(|user| {
                let asked =
                    json!({ "user": user, "field": fields, "mailboxMask": ["*"] });
                ("mailboxStatus", asked)
            })
            .collect();
        let mut answers = self.ask(first, &calls)?.into_iter();
        let mut all = Vec::new();
        for user in users {
            let answer = if has_wildcard(user) {
                Err(CommandError::ManyUsers)
            } else {
                answers.next().ok_or_else(|| first.odd())?
            };
            all.push(match answer {
                Err(error) => Err(error),
                Ok(entries) => {
                    let folders = entries.iter().map(folder).collect::<Option<_>>();
                    Ok(folders.ok_or_else(|| first.odd())?)
                }
            });
        }
        Ok(all)
    }

    /// Raises a folder's counters.
    ///
    /// # Errors
    ///
    /// [`DoveadmError`]: they may have been raised or not.
    pub fn mailbox_update(
        &self,
        user: &str,
        folder: &str,
        least: AtLeast,
    ) -> Result<(), DoveadmError> {
        let Some(first) = self.instances.first() else { return Ok(()) };
        if has_wildcard(user) {
            return Err(first.failed("mailboxUpdate", CommandError::ManyUsers));
        }
        let mut asked = Map::from_iter([
            ("user".to_owned(), user.into()),
            ("mailbox".to_owned(), folder.into()),
        ]);
        if let Some(uid) = least.uid_next {
            asked.insert("minNextUid".to_owned(), uid.to_string().into());
        }
        if let Some(modseq) = least.modseq {
            asked.insert("minHighestModseq".to_owned(), modseq.to_string().into());
        }
        let asked = Value::Object(asked);
        for answer in self.ask(first, &[("mailboxUpdate", asked)])? {
            first.done("mailboxUpdate", &answer)?;
        }
        Ok(())
    }

    /// What Dovecot's userdb says of each user, in the order asked; nothing of a user that it
    /// does not know.
    ///
    /// # Errors
    ///
    /// [`DoveadmError`] if anybody could not be asked about.
    pub fn users(
        &self,
        users: &[&str],
    ) -> Result<Vec<Option<BTreeMap<String, String>>>, DoveadmError> {
        let Some(first) = self.instances.first() else { return Ok(Vec::new()) };
        if users.iter().any(|user| has_wildcard(user)) {
            return Err(first.failed("user", CommandError::ManyUsers));
        }
        let calls: Vec<(&str, Value)> =
            users.iter().map(|user| ("user", json!({ "userMask": [user] }))).collect();
        let mut all = Vec::new();
        for answer in self.ask(first, &calls)? {
            all.push(match answer {
                Err(CommandError::NoSuchUser) => None,
                Err(error) => return Err(first.failed("user", error)),
                Ok(entries) => entries.first().and_then(fields_of_user),
            });
        }
        Ok(all)
    }

    /// Processes of `service` that are busy with a client, where each serves one at a time;
    /// nothing if that cannot be told.
    ///
    /// # Errors
    ///
    /// [`DoveadmError`]: then nothing is known.
    pub fn busy(&self, service: &str) -> Result<Option<u64>, DoveadmError> {
        let mut busy = 0;
        for instance in &self.instances {
            let call = ("serviceStatus", json!({ "service": [service] }));
            let answers = self.ask(instance, &[call])?;
            let [answer] = &answers[..] else { return Err(instance.odd()) };
            let entries = instance.done("serviceStatus", answer)?;
            if entries.is_empty() {
                return Ok(None);
            }
            for entry in entries {
                let field = |name| number(entry, name);
                let (Some(1), Some(all), Some(free)) = (
                    field("client_limit"),
                    field("process_count"),
                    field("process_avail"),
                ) else {
                    return Ok(None);
                };
                busy += all.saturating_sub(free);
            }
        }
        Ok(Some(busy))
    }

    /// What an instance understands. It is asked again after every failure: somebody may have
    /// put another in its place.
    fn edition(&self, instance: &Instance) -> Result<Edition, DoveadmError> {
        let known = || instance.edition.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(edition) = *known() {
            return Ok(edition);
        }
        let request = self.agent.get(&instance.url);
        let request = request.header("Authorization", instance.authorization.expose());
        let commands = Self::answered(instance, request.call())?;
        let commands: Vec<Value> = instance.parsed(&commands)?;
        let kick =
            commands.iter().find(|it| text(it, "command").as_deref() == Some("kick"));
        let parameters = kick.and_then(|it| it.get("parameters")?.as_array());
        let Some(parameters) = parameters else { return Err(instance.odd()) };
        let mut named = parameters.iter().filter_map(|it| text(it, "name"));
        let edition =
            if named.any(|it| it == "force") { Edition::Two3 } else { Edition::Two4 };
        *known() = Some(edition);
        Ok(edition)
    }

    /// The answers to `calls`, in order.
    fn ask(
        &self,
        instance: &Instance,
        calls: &[(&str, Value)],
    ) -> Result<Vec<Answer>, DoveadmError> {
        let mut answers = Vec::with_capacity(calls.len());
        for some in calls.chunks(COMMANDS_MAX) {
            let tagged = some.iter().zip(0..);
            let body: Vec<Value> = tagged
                .map(|((command, asked), tag): (_, u32)| {
                    json!([command, asked, tag.to_string()])
                })
                .collect();
            let said = self.post(instance, &Value::Array(body).to_string())?;
            let said: Vec<Value> = instance.parsed(&said)?;
            if said.len() != some.len() {
                return Err(instance.odd());
            }
            for (entry, tag) in said.iter().zip(0_u32..) {
                answers.push(answer(entry, tag).ok_or_else(|| instance.odd())?);
            }
        }
        Ok(answers)
    }

    fn post(&self, instance: &Instance, body: &str) -> Result<Vec<u8>, DoveadmError> {
        let request = self
            .agent
            .post(&instance.url)
            .header("Authorization", instance.authorization.expose())
            .header("Content-Type", "application/json");
        let said = Self::answered(instance, request.send(body));
        if said.is_err() {
            *instance.edition.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        said
    }

    fn answered(
        instance: &Instance,
        response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Vec<u8>, DoveadmError> {
        let url = &instance.url;
        let silent =
            |source| DoveadmError::Silent { url: url.clone(), source: Box::new(source) };
        let mut response = response.map_err(silent)?;
        let status = response.status().as_u16();
        if status != 200 {
            return Err(DoveadmError::Refused { url: url.clone(), status });
        }
        let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        body.read_to_vec().map_err(silent)
    }
}

/// Whether doveadm takes this name for a pattern.
fn has_wildcard(user: &str) -> bool {
    user.contains(['*', '?'])
}

/// Whether a pattern fits a name, as doveadm sees it: `*` is anything, `?` one byte.
fn fits(mask: &str, name: &str) -> bool {
    let (mask, name) = (mask.as_bytes(), name.as_bytes());
    let (mut at, mut of) = (0, 0);
    // Where the last `*` is, and how much of the name it takes so far.
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = name.get(of) {
        match mask.get(at) {
            Some(b'*') => {
                star = Some((at, of));
                at += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted.eq_ignore_ascii_case(byte) => {
                (at, of) = (at + 1, of + 1);
            }
            Some(_) | None => {
                let Some((place, taken)) = star else { return false };
                star = Some((place, taken + 1));
                (at, of) = (place + 1, taken + 1);
            }
        }
    }
    mask.get(at..).is_some_and(|rest| rest.iter().all(|byte| *byte == b'*'))
}

impl Credential {
    fn header(&self) -> Secret<String> {
        Secret::new(match self {
            Self::ApiKey(key) => {
                let key = Secret::new(STANDARD.encode(key.expose()));
                format!("X-Dovecot-API {}", key.expose())
            }
            Self::Password(password) => {
                let login = Secret::new(format!("doveadm:{}", password.expose()));
                let login = Secret::new(STANDARD.encode(login.expose()));
                format!("Basic {}", login.expose())
            }
        })
    }
}

/// One Dovecot.
struct Instance {
    url: String,
    authorization: Secret<String>,
    /// What it was when it was last asked.
    edition: Mutex<Option<Edition>>,
}

/// Dovecots that understand different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edition {
    /// 2.3.
    Two3,
    /// 2.4: it kicks without `force`.
    Two4,
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// What came of one command.
type Answer = Result<Vec<Value>, CommandError>;

impl Instance {
    fn parsed(&self, said: &[u8]) -> Result<Vec<Value>, DoveadmError> {
        serde_json::from_slice(said).map_err(|source| {
            let url = self.url.clone();
            DoveadmError::NotUnderstood { url, source: Some(source) }
        })
    }

    fn odd(&self) -> DoveadmError {
        DoveadmError::NotUnderstood { url: self.url.clone(), source: None }
    }

    fn failed(&self, command: &'static str, source: CommandError) -> DoveadmError {
        *self.edition.lock().unwrap_or_else(PoisonError::into_inner) = None;
        DoveadmError::Failed { url: self.url.clone(), command, source }
    }

    fn done<'a>(
        &self,
        command: &'static str,
        answer: &'a Answer,
    ) -> Result<&'a [Value], DoveadmError> {
        answer.as_deref().map_err(|error| self.failed(command, *error))
    }
}

/// The answer in `[kind, what, …, tag]`; nothing if it is none, or not the one to `tag`.
fn answer(entry: &Value, tag: u32) -> Option<Answer> {
    let [kind, said @ .., tagged] = entry.as_array()?.as_slice() else { return None };
    if tagged.as_str()? != tag.to_string() {
        return None;
    }
    match kind.as_str()? {
        "doveadmResponse" => {
            // Mostly one list; where a bracket comes too early, what is left of it follows.
            let parts = said.iter().flat_map(|part| match part.as_array() {
                Some(entries) => entries.clone(),
                None => vec![part.clone()],
            });
            Some(Ok(parts.collect()))
        }
        "error" => Some(Err(command_error(said.first()?))),
        _ => None,
    }
}

fn command_error(said: &Value) -> CommandError {
    if text(said, "type").as_deref() == Some("unknownMethod") {
        return CommandError::UnknownCommand;
    }
    match said.get("exitCode").and_then(Value::as_i64) {
        Some(EXIT_NO_USER) => CommandError::NoSuchUser,
        Some(EXIT_NOT_FOUND) => CommandError::NotFound,
        Some(EXIT_TEMPORARY) => CommandError::Temporary,
        code => CommandError::Exit(code.unwrap_or(-1)),
    }
}

fn folder(entry: &Value) -> Option<FolderStatus> {
    Some(FolderStatus {
        name: text(entry, "mailbox")?,
        messages: number(entry, "messages")?,
        uid_next: u32::try_from(number(entry, "uidnext")?).ok()?,
        uid_validity: u32::try_from(number(entry, "uidvalidity")?).ok()?,
    })
}

fn fields_of_user(entry: &Value) -> Option<BTreeMap<String, String>> {
    let fields = entry.as_object()?.values().next()?.as_object()?;
    let fields = fields.iter().map(|(name, value)| {
        (name.clone(), value.as_str().unwrap_or_default().to_owned())
    });
    Some(fields.collect())
}

fn text(entry: &Value, name: &str) -> Option<String> {
    entry.get(name)?.as_str().map(str::to_owned)
}

/// Numbers come as texts.
fn number(entry: &Value, name: &str) -> Option<u64> {
    let value = entry.get(name)?;
    match value.as_str() {
        Some(digits) => digits.parse().ok(),
        None => value.as_u64(),
    }
}

/// `users` in portions that fit a command each.
fn portions<'a>(users: &'a [&'a str]) -> Vec<&'a [&'a str]> {
    let mut portions = Vec::new();
    let mut rest = users;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fitting = rest.iter().take_while(|user| {
            // Each has a separator, and may need escapes.
            bytes += user.len() + 1;
            bytes <= FLUSH_BYTES_MAX
        });
        let (portion, others) = rest.split_at(fitting.count().max(1).min(rest.len()));
        portions.push(portion);
        rest = others;
    }
    portions
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_a_misplaced_bracket_is_whole_all_the_same() {
        let said = r#"["doveadmResponse",[{"username":"a"}],{"username":"b"},{"username":"c"},"4"]"#;

        let answer = answer(&serde_json::from_str(said).unwrap(), 4).unwrap().unwrap();

        let names: Vec<_> = answer.iter().map(|it| text(it, "username")).collect();
        assert_eq!(names, ["a", "b", "c"].map(|name| Some(name.to_owned())));
    }

    #[test]
    fn a_wildcard_fits_whom_dovecot_thinks_it_does() {
        for (mask, name, wanted) in [
            ("a?@x", "ab@x", true),
            ("a?@x", "A?@X", true),
            ("a?@x", "a@x", false),
            ("a*@x", "anna@x", true),
            ("a*@x", "a@x", true),
            ("a*n*@x", "anton@x", true),
            ("a*b@x", "a*bc@x", false),
            ("*", "", true),
        ] {
            assert_eq!(fits(mask, name), wanted, "{mask} {name}");
        }
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let said = json!(["doveadmResponse", [], "1"]);

        assert_eq!(answer(&said, 0), None);
        assert_eq!(answer(&said, 1), Some(Ok(Vec::new())));
    }

    #[test]
    fn a_failure_is_told_by_its_exit_code() {
        let failed = |said: Value| answer(&json!(["error", said, "0"]), 0);

        let no_user = json!({ "type": "exitCode", "exitCode": 67 });
        assert_eq!(failed(no_user), Some(Err(CommandError::NoSuchUser)));
        let unknown = json!({ "type": "unknownMethod", "exitCode": 0 });
        assert_eq!(failed(unknown), Some(Err(CommandError::UnknownCommand)));
    }

    #[test]
    fn names_are_flushed_in_lines_that_dovecot_takes() {
        let names: Vec<String> =
            (0..999).map(|n| format!("user{n}@example.org")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();

        let portions = portions(&names);

        assert_eq!(portions.concat(), names);
        let bytes = |users: &&[&str]| users.iter().map(|it| it.len() + 1).sum::<usize>();
        assert!(portions.iter().all(|users| bytes(users) <= FLUSH_BYTES_MAX));
    }

    #[test]
    fn a_key_is_never_shown() {
        let spec = DoveadmSpec {
            urls: vec!["http://127.0.0.1:1".to_owned()],
            credential: Credential::ApiKey("k3y-0f-d0vec0t".into()),
            deadline: Duration::from_secs(1),
        };

        let shown = format!("{spec:?} {:?}", Doveadm::new(&spec));

        assert!(!shown.contains("k3y-0f-d0vec0t"), "{shown}");
    }
}
