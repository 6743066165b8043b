//! The model hub, through its own client.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use hf_hub::progress::{DownloadEvent, ProgressEvent, ProgressHandler};

use super::Fetcher;
use crate::progress::Progress;

/// How long the hub may take to answer at all. A machine that cannot reach it is to find out soon.
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);
/// How long a download that has begun may stand still.
const STALL_PATIENCE: Duration = Duration::from_secs(30);
const RETRIES: usize = 1;

/// One revision of one repository.
pub(super) struct Hub {
    repository: String,
    revision: String,
    /// Where the hub is; by default where its client says, which heeds `HF_ENDPOINT`.
    endpoint: Option<String>,
    answer_patience: Duration,
}

/// What the downloading thread reports.
enum Report {
    Bytes { file: String, completed: u64, total: u64 },
    Done(Result<(), String>),
}

/// Sends the client's events to the thread that waits.
struct Forward {
    file: String,
    reports: Sender<Report>,
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
        Self {
            repository: repository.to_owned(),
            revision: revision.to_owned(),
            endpoint: None,
            answer_patience: ANSWER_PATIENCE,
        }
    }
}

impl Fetcher for Hub {
    fn place(&self) -> String {
        "the model hub".to_owned()
    }

    fn fetch(&self, files: &[&str], folder: &Path, progress: &dyn Progress) -> Result<(), String> {
        let (reports, received) = mpsc::channel();
        // The client has no limit on how long it waits for a connection, so it gets a thread that can be left
        // behind.
        let job = Job {
            repository: self.repository.clone(),
            revision: self.revision.clone(),
            endpoint: self.endpoint.clone(),
            files: files.iter().map(|&file| file.to_owned()).collect(),
            folder: folder.to_path_buf(),
        };
        std::thread::Builder::new()
            .name("hub-download".to_owned())
            .spawn(move || {
                let result = job.run(&reports);
                // Nobody listens any more when the patience ran out.
                let _ = reports.send(Report::Done(result));
            })
            .map_err(|error| error.to_string())?;
        let mut patience = self.answer_patience;
        loop {
            match received.recv_timeout(patience) {
                Ok(Report::Bytes { file, completed, total }) => {
                    patience = STALL_PATIENCE;
                    progress.bytes(&file, completed, total);
                }
                Ok(Report::Done(result)) => return result,
                Err(RecvTimeoutError::Timeout) => return Err(format!("no answer within {patience:?}")),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("the client stopped without a result".to_owned());
                }
            }
        }
    }
}

struct Job {
    repository: String,
    revision: String,
    endpoint: Option<String>,
    files: Vec<String>,
    folder: PathBuf,
}

impl Job {
    fn run(&self, reports: &Sender<Report>) -> Result<(), String> {
        let mut builder = hf_hub::HFClient::builder().cache_enabled(false).retry_max_attempts(RETRIES);
        if let Some(endpoint) = &self.endpoint {
            builder = builder.endpoint(endpoint);
        }
        let client = builder.build_sync().map_err(|error| describe(&error))?;
        let (owner, name) = hf_hub::split_id(&self.repository);
        let repository = client.model(owner, name);
        for file in &self.files {
            repository
                .download_file()
                .filename(file.clone())
                .revision(self.revision.clone())
                .local_dir(self.folder.clone())
                .progress(Forward { file: file.clone(), reports: reports.clone() })
                .send()
                .map_err(|error| format!("{file}: {}", describe(&error)))?;
        }
        Ok(())
    }
}

impl ProgressHandler for Forward {
    fn on_progress(&self, event: &ProgressEvent) {
        let ProgressEvent::Download(event) = event else { return };
        let counts = match event {
            DownloadEvent::Start { total_bytes, .. } => Some((0, *total_bytes)),
            DownloadEvent::Progress { files } => {
                files.last().map(|file| (file.bytes_completed, file.total_bytes))
            }
            DownloadEvent::AggregateProgress { bytes_completed, total_bytes, .. } => {
                Some((*bytes_completed, *total_bytes))
            }
            DownloadEvent::Complete => None,
        };
        if let Some((completed, total)) = counts {
            let _ = self.reports.send(Report::Bytes { file: self.file.clone(), completed, total });
        }
    }
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
        let hub = Hub { endpoint: Some(endpoint), ..Hub::new("owner/name", REVISION) };
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
            endpoint: Some(format!("http://{}", silent.local_addr().unwrap())),
            answer_patience: Duration::from_millis(50),
            ..Hub::new("owner/name", REVISION)
        };
        let folder = tempfile::tempdir().unwrap();
        let result = hub.fetch(&["known.txt"], folder.path(), &Kept::default());
        assert_eq!(result, Err("no answer within 50ms".to_owned()));
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
