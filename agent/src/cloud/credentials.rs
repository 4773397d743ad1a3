//! The files that say who we are: the mounted `cloudprovider` Secret, or the Secret itself.
//!
//! They are read as one snapshot, all defects are told at once, and nothing of their content is. Deliberately not
//! here: watching them, and which project wins when the settings name one too.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use decide::retry::{Fault, FaultKind};
use uuid::{Uuid, Version};

use super::federation::{FederatedToken, Federation};
use super::key::ServiceAccountKey;
use super::token::Source;
use crate::host::secret::Secret;

const PROJECT_ID: &str = "project-id";
const KEY: &str = "serviceaccount.json";
const TOKEN: &str = "token";
const CONFIG: &str = "config";

/// Longest message, as everywhere.
const MESSAGE_LIMIT: usize = 500;

/// Who we are at STACKIT.
#[derive(Debug)]
pub struct Credentials {
    /// `project-id`, else what key or configuration say; `None` where the settings have to say it.
    pub project_id: Option<String>,
    /// What tokens are fetched with.
    pub source: Source,
    /// What is odd and still works, to be said once.
    pub warnings: Vec<String>,
}

/// Where the files come from, for messages and for the token that is read again and again.
enum Origin<'a> {
    Directory(&'a Path),
    Secret(&'a str),
}

/// Reads `stackit.credentialsDirectory`. `token_endpoint` is the one of settings or `CloudProfile`.
pub fn read(directory: &Path, token_endpoint: Option<&str>, now: SystemTime) -> Result<Credentials, Fault> {
    let Snapshot { files, mut warnings } = snapshot(directory)?;
    let mut credentials = assemble(&Origin::Directory(directory), &files, token_endpoint, now)?;
    warnings.append(&mut credentials.warnings);
    Ok(Credentials { warnings, ..credentials })
}

/// Takes the data of a Secret; `name` is its namespace and name.
pub fn from_secret(
    name: &str,
    data: &BTreeMap<String, Vec<u8>>,
    token_endpoint: Option<&str>,
    now: SystemTime,
) -> Result<Credentials, Fault> {
    assemble(&Origin::Secret(name), data, token_endpoint, now)
}

fn assemble(
    origin: &Origin<'_>,
    files: &BTreeMap<String, Vec<u8>>,
    token_endpoint: Option<&str>,
    now: SystemTime,
) -> Result<Credentials, Fault> {
    let mut defects = Vec::new();
    let mut warnings = Vec::new();
    let endpoint = token_endpoint.map(str::to_owned);
    let source = match (files.get(KEY), files.get(TOKEN), files.get(CONFIG)) {
        (Some(key), token, _) => {
            if token.is_some() {
                warnings.push(format!("both {KEY} and {TOKEN} are there: the key is used, the token is not"));
            }
            match ServiceAccountKey::parse(key, now) {
                Ok(key) => {
                    warnings.extend(key.warnings.iter().map(|warning| format!("{KEY}: {warning}")));
                    Some(Source::Key { key: Box::new(key), endpoint })
                }
                Err(found) => {
                    defects.extend(found.into_iter().map(|defect| format!("{KEY}: {defect}")));
                    None
                }
            }
        }
        (None, Some(token), Some(config)) => {
            let token = match origin {
                Origin::Directory(directory) => FederatedToken::File(directory.join(TOKEN)),
                Origin::Secret(_) => FederatedToken::Value(Secret::new(String::from_utf8_lossy(token).into_owned())),
            };
            match Federation::parse(config, token) {
                Ok(federation) => Some(Source::Federation { federation, endpoint }),
                Err(found) => {
                    defects.extend(found.into_iter().map(|defect| format!("{CONFIG}: {defect}")));
                    None
                }
            }
        }
        (None, token, config) => return Err(missing(origin, token.is_some(), config.is_some())),
    };
    let own_project = match &source {
        Some(Source::Key { key, .. }) => key.project_id.clone().map(|id| (KEY, "projectId ", id)),
        Some(Source::Federation { federation, .. }) => {
            federation.project_id.clone().map(|id| (CONFIG, "projectID ", id))
        }
        Some(Source::Static(_)) | None => None,
    };
    let project =
        files.get(PROJECT_ID).map(|id| (PROJECT_ID, "", String::from_utf8_lossy(id).trim().to_owned())).or(own_project);
    if let Some((file, member, id)) = &project
        && let Err(problem) = project_id(id)
    {
        defects.push(format!("{file}: {member}{problem}"));
    }
    match source {
        Some(source) if defects.is_empty() => {
            Ok(Credentials { project_id: project.map(|(_, _, id)| id), source, warnings })
        }
        _ => Err(fault(FaultKind::Credentials, &format!("{origin}: {}", defects.join("; ")))),
    }
}

/// A project ID as the API wants it.
fn project_id(id: &str) -> Result<(), &'static str> {
    let uuid = Uuid::parse_str(id).map_err(|_| if id.is_empty() { "is empty" } else { "is not a UUID" })?;
    if uuid.get_version() != Some(Version::Random) || uuid.hyphenated().to_string() != id {
        return Err("is not a version 4 UUID in lower case");
    }
    Ok(())
}

impl std::fmt::Display for Origin<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(directory) => write!(f, "credentials in {}", directory.display()),
            Self::Secret(name) => write!(f, "credentials in Secret {name}"),
        }
    }
}

fn missing(origin: &Origin<'_>, token: bool, config: bool) -> Fault {
    let found = match (token, config) {
        (true, _) => format!("{TOKEN} is there, but not {CONFIG}"),
        (_, true) => format!("{CONFIG} is there, but not {TOKEN}"),
        _ => "none".to_owned(),
    };
    let expected = format!("expected is {KEY}, or {TOKEN} and {CONFIG}, and {PROJECT_ID} beside them");
    fault(FaultKind::CredentialsMissing, &format!("{origin}: {found}; {expected}"))
}

fn fault(kind: FaultKind, message: &str) -> Fault {
    let message = message.chars().take(MESSAGE_LIMIT).collect();
    Fault { kind, http_status: None, message, retry_after: None, outcome_unknown: false }
}

/// All files at one moment, and which of them everybody on this machine can read.
struct Snapshot {
    files: BTreeMap<String, Vec<u8>>,
    warnings: Vec<String>,
}

fn snapshot(directory: &Path) -> Result<Snapshot, Fault> {
    const TRIES: usize = 3;
    let mut outcome = Err(String::new());
    for _ in 0..TRIES {
        let root = current(directory);
        outcome = collect(directory, &root);
        // A mounted Secret is swapped as a whole; what was read across the swap is read again.
        if outcome.is_ok() && current(directory) == root {
            break;
        }
    }
    outcome.map_err(|problem| fault(FaultKind::Credentials, &format!("{}: {problem}", Origin::Directory(directory))))
}

/// Where the files of a mounted Secret are right now: kubelet points `..data` at them.
fn current(directory: &Path) -> PathBuf {
    std::fs::read_link(directory.join("..data")).map_or_else(|_| directory.to_owned(), |data| directory.join(data))
}

fn collect(directory: &Path, root: &Path) -> Result<Snapshot, String> {
    const OTHERS_READ: u32 = 0o004;
    let mut files = BTreeMap::new();
    let mut warnings = Vec::new();
    let mut problems = Vec::new();
    for name in [PROJECT_ID, KEY, TOKEN, CONFIG] {
        let path = root.join(name);
        let content = match std::fs::read(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => {
                problems.push(format!("{name}: {error}"));
                continue;
            }
        };
        let mode = std::fs::metadata(&path).map_or(0, |metadata| metadata.permissions().mode());
        if matches!(name, KEY | TOKEN) && mode & OTHERS_READ != 0 {
            let path = directory.join(name);
            warnings.push(format!("{} can be read by everybody on this machine", path.display()));
        }
        files.insert(name.to_owned(), content);
    }
    if problems.is_empty() { Ok(Snapshot { files, warnings }) } else { Err(problems.join("; ")) }
}

#[cfg(test)]
mod tests;
