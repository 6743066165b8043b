//! The model hub, through its own client.
//!
//! Where the hub is says `HF_ENDPOINT`; the token is in `HF_TOKEN`, in the file `HF_TOKEN_PATH` or where the
//! hub's own tools have kept it. It is sent to the endpoint alone: where that sends a request on to another
//! host, the token stays behind.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use hf_hub::{HFClient, HFError, HFRepository, RepoTypeModel};
use models_core::card::Sha256Digest;
use serde::Deserialize;

use super::Fetcher;
use crate::progress::Progress;

/// How long the hub may take to answer at all. A machine that cannot reach it is to find out soon.
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);
/// How long a download that has begun may stand still.
const STALL_PATIENCE: Duration = Duration::from_secs(30);
const RETRIES: usize = 1;
/// How often a file is gone on with in one start, as long as more of it comes each time.
const CONTINUATIONS_MAX: usize = 8;
/// Bytes of a repository's description; that of a few dozen files has some thousands.
const LISTING_BYTES_MAX: usize = 16 << 20;
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";
/// Of a file that has not arrived completely.
const INCOMPLETE_SUFFIX: &str = ".incomplete";

/// One revision of one repository.
pub(super) struct Hub {
    repository: String,
    revision: String,
    /// Bytes of files, where they are known.
    sizes: BTreeMap<String, u64>,
    /// Where the hub is, without a slash at the end.
    endpoint: String,
    token: Option<String>,
    answer_patience: Duration,
}

/// A file of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) path: String,
    /// In bytes.
    pub(super) size: Option<u64>,
    /// As the hub has it; of small files it has none.
    pub(super) sha256: Option<Sha256Digest>,
}

/// A revision, as the hub describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: Vec<Listed>,
}

/// Why a file has not arrived.
enum Broken {
    /// Some of it has; the next request can go on there.
    Off(String),
    /// Going on does not help.
    Useless(String),
}

/// The token, as the hub's own clients look for it.
fn token() -> Option<String> {
    let set = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    if set("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some() {
        return None;
    }
    let kept = || {
        let named = set("HF_TOKEN_PATH").map(PathBuf::from);
        let paths = named.into_iter().chain([hf_hub::hf_home().join("token")]);
        paths.filter_map(|path| fs::read_to_string(path).ok()).find(|token| !token.trim().is_empty())
    };
    set("HF_TOKEN").or_else(kept).map(|token| token.trim().to_owned())
}

/// Whether the environment asks the hub's clients to stay off the network. The client itself does not read
/// it.
pub(super) fn is_switched_off() -> bool {
    std::env::var("HF_HUB_OFFLINE").is_ok_and(|value| is_true(&value))
}

fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str())
}

impl Hub {
    pub(super) fn new(repository: &str, revision: &str) -> Self {
        let endpoint = std::env::var("HF_ENDPOINT").unwrap_or_else(|_| DEFAULT_ENDPOINT.to_owned());
        Self {
            repository: repository.to_owned(),
            revision: revision.to_owned(),
            sizes: BTreeMap::new(),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token: token(),
            answer_patience: ANSWER_PATIENCE,
        }
    }

    /// The same at another hub.
    #[cfg(test)]
    pub(super) fn of(self, endpoint: &str, token: Option<String>) -> Self {
        Self { endpoint: endpoint.to_owned(), token, ..self }
    }

    /// Another revision of the same repository.
    pub(super) fn at(self, revision: &str) -> Self {
        Self { revision: revision.to_owned(), ..self }
    }

    /// The same, knowing how long its files are, so that what has arrived in part can be gone on with.
    pub(super) fn with_sizes(self, listed: &[Listed]) -> Self {
        let sizes = listed.iter().filter_map(|file| Some((file.path.clone(), file.size?))).collect();
        Self { sizes, ..self }
    }

    /// The commit that the revision is now, and all its files.
    ///
    /// # Errors
    /// Says what to do, where something can be done.
    pub(super) fn look_up(&self) -> Result<Listing, String> {
        complete(async {
            let asked = async {
                let client = reqwest::Client::builder().build()?;
                let revision = self.revision.replace('/', "%2F");
                let address = format!("{}/api/models/{}/revision/{revision}", self.endpoint, self.repository);
                // The client's own way to ask leaves out the digests.
                let mut request = client.get(address).query(&[("blobs", "true")]);
                if let Some(token) = &self.token {
                    request = request.bearer_auth(token);
                }
                request.send().await
            };
            let mut response = match tokio::time::timeout(self.answer_patience, asked).await {
                Ok(response) => response.map_err(|error| describe(&error))?,
                Err(_) => return Err(silence(self.answer_patience)),
            };
            let status = response.status();
            if !status.is_success() {
                let code = response.headers().get("x-error-code").and_then(|code| code.to_str().ok());
                let said = self.refusal(status.as_u16(), code.unwrap_or_default(), None);
                return Err(said.unwrap_or_else(|| format!("the hub answered {status}")));
            }
            let mut body = Vec::new();
            loop {
                let next = tokio::time::timeout(STALL_PATIENCE, response.chunk()).await;
                let next = next.map_err(|_| silence(STALL_PATIENCE))?;
                let Some(chunk) = next.map_err(|error| describe(&error))? else { break };
                body.extend_from_slice(&chunk);
                if body.len() > LISTING_BYTES_MAX {
                    return Err(format!("its list of files is longer than {LISTING_BYTES_MAX} bytes"));
                }
            }
            Listing::read(&body)
        })
    }

    fn open(&self) -> Result<HFRepository<RepoTypeModel>, String> {
        let builder = HFClient::builder().cache_enabled(false).retry_max_attempts(RETRIES);
        let mut builder = builder.endpoint(&self.endpoint);
        if let Some(token) = &self.token {
            builder = builder.token(token);
        }
        let client = builder.build().map_err(|error| describe(&error))?;
        let (owner, name) = hf_hub::split_id(&self.repository);
        Ok(client.model(owner, name))
    }

    /// What the hub answers, within the time that it has for that.
    async fn answer<T>(
        &self,
        asked: impl Future<Output = Result<T, HFError>>,
        file: Option<&str>,
    ) -> Result<T, String> {
        match tokio::time::timeout(self.answer_patience, asked).await {
            Ok(answer) => answer.map_err(|error| self.explain(&error, file)),
            Err(_) => Err(silence(self.answer_patience)),
        }
    }

    /// Fetches a file, going on where an earlier try was broken off.
    async fn download(
        &self,
        repository: &HFRepository<RepoTypeModel>,
        file: &str,
        folder: &Path,
        progress: &dyn Progress,
    ) -> Result<(), String> {
        let whole = folder.join(file);
        if whole.is_file() {
            return Ok(());
        }
        if let Some(parent) = whole.parent() {
            fs::create_dir_all(parent).map_err(|error| error.to_string())?;
        }
        let part = folder.join(format!("{file}{INCOMPLETE_SUFFIX}"));
        let mut tries = 0;
        loop {
            let before = length(&part);
            let total = match self.sizes.get(file) {
                Some(size) => Some(*size),
                None if before > 0 => self.size(repository, file).await,
                None => None,
            };
            match self.go_on(repository, file, &part, total, progress).await {
                Ok(()) => break,
                Err(Broken::Off(reason)) => {
                    tries += 1;
                    if tries >= CONTINUATIONS_MAX || total.is_none() || length(&part) <= before {
                        return Err(format!(
                            "{reason}; what has arrived is kept, and the next try goes on there"
                        ));
                    }
                }
                Err(Broken::Useless(reason)) => return Err(reason),
            }
        }
        fs::rename(&part, &whole).map_err(|error| error.to_string())
    }

    async fn size(&self, repository: &HFRepository<RepoTypeModel>, file: &str) -> Option<u64> {
        let asked = repository.get_file_metadata().filepath(file).revision(&self.revision).send();
        self.answer(asked, Some(file)).await.ok().map(|found| found.file_size).filter(|size| *size > 0)
    }

    /// Adds what is missing to a file that has arrived in part; all of it where its length is not known.
    async fn go_on(
        &self,
        repository: &HFRepository<RepoTypeModel>,
        file: &str,
        part: &Path,
        total: Option<u64>,
        progress: &dyn Progress,
    ) -> Result<(), Broken> {
        let failed = |error: std::io::Error| Broken::Useless(error.to_string());
        let begun = length(part);
        if total == Some(begun) && begun > 0 {
            return Ok(());
        }
        let range = total.filter(|total| (1..*total).contains(&begun)).map(|total| begun..total);
        let mut have = if range.is_some() { begun } else { 0 };
        let mut to = match have {
            0 => File::create(part).map_err(failed)?,
            _ => OpenOptions::new().append(true).open(part).map_err(failed)?,
        };
        let asked = repository.download_file_stream().filename(file).revision(self.revision.clone());
        let asked = asked.maybe_range(range).send();
        let (length, mut bytes) = self.answer(asked, Some(file)).await.map_err(Broken::Useless)?;
        // Of a part it is the part's.
        let shown = total.or(length).unwrap_or(0);
        progress.bytes(file, have, shown);
        loop {
            let next = tokio::time::timeout(STALL_PATIENCE, bytes.next()).await;
            let Some(chunk) = next.map_err(|_| Broken::Off(silence(STALL_PATIENCE)))? else { break };
            let chunk = chunk.map_err(|error| Broken::Off(describe(&error)))?;
            have += chunk.len() as u64;
            if total.is_some_and(|total| have > total) {
                // The server has sent all of the file where a part was asked for, or another file.
                drop(to);
                fs::remove_file(part).map_err(failed)?;
                return Err(Broken::Useless(
                    "more bytes came than it has; nothing of it was kept".to_owned(),
                ));
            }
            to.write_all(&chunk).map_err(failed)?;
            progress.bytes(file, have, shown);
        }
        to.sync_all().map_err(failed)?;
        match total.or(length) {
            Some(total) if have < total => Err(Broken::Off(format!("ended after {have} of {total} bytes"))),
            _ => Ok(()),
        }
    }

    /// An error in the words of whoever asked for a model, with what to do.
    fn explain(&self, error: &HFError, file: Option<&str>) -> String {
        let context = match error {
            HFError::AuthRequired { context }
            | HFError::Forbidden { context }
            | HFError::Http { context } => Some(context),
            HFError::RepoNotFound { context, .. }
            | HFError::RevisionNotFound { context, .. }
            | HFError::EntryNotFound { context, .. } => context.as_ref(),
            _ => None,
        };
        let known = context.and_then(|context| {
            let code = context.error_code.as_deref().unwrap_or_default();
            self.refusal(context.status.as_u16(), code, file)
        });
        known.unwrap_or_else(|| describe(error))
    }

    /// What a refusal means, by the hub's status and its own code.
    fn refusal(&self, status: u16, code: &str, file: Option<&str>) -> Option<String> {
        let Self { repository, revision, endpoint, token, .. } = self;
        let page = format!("{endpoint}/{repository}");
        let said = match (status, code) {
            (401 | 403, "GatedRepo") => format!(
                "{repository} is gated: accept its terms at {page}, and set HF_TOKEN (or HF_TOKEN_PATH, a file) to a \
                 token of that account"
            ),
            (401, _) if token.is_some() => {
                format!(
                    "there is no repository {repository} that the token in HF_TOKEN may read, or it has expired"
                )
            }
            // The hub does not tell those who may not know.
            (401, _) | (404, "RepoNotFound") => format!(
                "there is no repository {repository}, or it is private: check the name, or set HF_TOKEN (or \
                 HF_TOKEN_PATH, a file) to a token that may read it"
            ),
            (403, _) => format!("the token in HF_TOKEN may not read {repository}: see {page}"),
            (404, "RevisionNotFound") => format!("{repository} has no revision {revision}"),
            (404, _) => match file {
                Some(file) => format!("{repository}@{revision} has no {file}"),
                None => format!("there is no repository {repository}, or it has no revision {revision}"),
            },
            (429, _) => "the hub asks for fewer requests: try again later, or with HF_TOKEN set".to_owned(),
            _ => return None,
        };
        Some(said)
    }
}

impl Listing {
    fn read(body: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Revision {
            sha: String,
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
            size: Option<u64>,
            lfs: Option<Large>,
        }
        #[derive(Deserialize)]
        struct Large {
            sha256: Option<Sha256Digest>,
        }
        let revision: Revision =
            serde_json::from_slice(body).map_err(|error| format!("its list of files: {error}"))?;
        if !super::reference::is_commit(&revision.sha) {
            return Err("its list of files names no commit".to_owned());
        }
        let file = |sibling: Sibling| Listed {
            path: sibling.rfilename,
            size: sibling.size,
            sha256: sibling.lfs.and_then(|large| large.sha256),
        };
        Ok(Self { commit: revision.sha, files: revision.siblings.into_iter().map(file).collect() })
    }
}

impl Fetcher for Hub {
    fn place(&self) -> String {
        "the model hub".to_owned()
    }

    fn fetch(&self, files: &[&str], folder: &Path, progress: &dyn Progress) -> Result<(), String> {
        complete(async {
            let repository = self.open()?;
            for file in files {
                let fetched = self.download(&repository, file, folder, progress).await;
                fetched.map_err(|reason| format!("{file}: {reason}"))?;
            }
            Ok(())
        })
    }
}

/// Runs what waits for the network. On a thread of its own, since the caller's may belong to a runtime
/// already; a look-up of a name that does not end is left behind.
fn complete<T: Send>(work: impl Future<Output = Result<T, String>> + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| error.to_string())?;
            let result = runtime.block_on(work);
            runtime.shutdown_background();
            result
        });
        worker.join().unwrap_or_else(|_| Err("the hub's client panicked".to_owned()))
    })
}

/// Bytes of a file; none of one that is not there.
fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |found| found.len())
}

fn silence(patience: Duration) -> String {
    format!("no answer within {patience:?}")
}

/// The error with its causes: the outermost one often says only that a request failed.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Mutex;

    use super::*;

    const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";
    const CONTENT: &str = "the content of a file";

    #[derive(Default)]
    struct Kept(Mutex<Vec<(String, u64, u64)>>);

    impl Progress for Kept {
        fn message(&self, _text: &str) {}

        fn bytes(&self, file: &str, completed: u64, total: u64) {
            self.0.lock().unwrap().push((file.to_owned(), completed, total));
        }
    }

    /// A hub on this machine that has one file, `known.txt`, at one revision. Returns where it is.
    fn serve() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || listener.incoming().flatten().for_each(answer));
        endpoint
    }

    fn answer(mut stream: TcpStream) {
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
        let request = lines.next().unwrap_or_default();
        lines.take_while(|line| !line.is_empty()).for_each(drop);
        let known = format!("/owner/name/resolve/{REVISION}/known.txt ");
        let (status, body) =
            if request.contains(&known) { ("200 OK", CONTENT) } else { ("404 Not Found", "") };
        let length = body.len();
        let body = if request.starts_with("HEAD") { "" } else { body };
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
        let _ = stream.write_all((head + body).as_bytes());
    }

    fn fetch(
        endpoint: String,
        file: &str,
        progress: &dyn Progress,
    ) -> (tempfile::TempDir, Result<(), String>) {
        let folder = tempfile::tempdir().unwrap();
        let hub = Hub { endpoint, ..Hub::new("owner/name", REVISION) };
        let result = hub.fetch(&[file], folder.path(), progress);
        (folder, result)
    }

    #[test]
    fn a_file_is_fetched_at_the_pinned_revision() {
        let progress = Kept::default();
        let (folder, result) = fetch(serve(), "known.txt", &progress);
        assert_eq!(result, Ok(()));
        assert_eq!(std::fs::read_to_string(folder.path().join("known.txt")).unwrap(), CONTENT);
        let length = CONTENT.len() as u64;
        assert_eq!(progress.0.lock().unwrap().last(), Some(&("known.txt".to_owned(), length, length)));
    }

    #[test]
    fn a_file_the_hub_does_not_have_is_an_error() {
        let (_folder, result) = fetch(serve(), "unknown.txt", &Kept::default());
        assert!(result.unwrap_err().starts_with("unknown.txt: "));
    }

    #[test]
    fn a_hub_that_is_not_there_is_an_error() {
        // The port is free again once the listener is gone.
        let endpoint = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
        let (_folder, result) = fetch(endpoint, "known.txt", &Kept::default());
        assert!(result.unwrap_err().starts_with("known.txt: "));
    }

    #[test]
    fn a_hub_that_does_not_answer_is_given_up() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let hub = Hub {
            endpoint: format!("http://{}", silent.local_addr().unwrap()),
            answer_patience: Duration::from_millis(50),
            ..Hub::new("owner/name", REVISION)
        };
        let folder = tempfile::tempdir().unwrap();
        let result = hub.fetch(&["known.txt"], folder.path(), &Kept::default());
        assert_eq!(result, Err("known.txt: no answer within 50ms".to_owned()));
    }

    #[test]
    fn the_switch_reads_like_the_hubs_own_clients() {
        for (value, expected) in
            [("1", true), ("ON", true), ("true", true), ("Yes", true), ("0", false), ("", false)]
        {
            assert_eq!(is_true(value), expected, "{value}");
        }
    }
}
