#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

//! A model hub on this machine: the few requests of its interface that matter here
//! (<https://huggingface.co/docs/hub/api>), and ways for it to go wrong.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use models_core::files;

pub(super) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A request, as the hub saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) range: Option<String>,
    pub(super) token: Option<String>,
}

/// What the hub has, and how it behaves.
#[derive(Default)]
pub(super) struct State {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// What it says a file's digest is, where that is not so.
    pub(super) digests: BTreeMap<String, String>,
    /// Bytes of a body after which it hangs up, once for each.
    pub(super) cuts: Vec<usize>,
    /// Whether it sends all of a file where a part is asked for.
    pub(super) ignores_ranges: bool,
    /// Status and code of its answers for files.
    pub(super) refusal: Option<(u16, &'static str)>,
    /// Where else it sends those who ask for weights.
    pub(super) elsewhere: Option<String>,
    pub(super) seen: Vec<Seen>,
}

/// A hub with one repository, `owner/name`, whose branch `main` is [`COMMIT`].
#[derive(Clone)]
pub(super) struct FakeHub {
    pub(super) endpoint: String,
    pub(super) state: Arc<Mutex<State>>,
}

impl FakeHub {
    pub(super) fn new(files: &[(&str, &[u8])]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        let state = Arc::new(Mutex::new(State { files, ..State::default() }));
        let served = Arc::clone(&state);
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| answer(stream, &served)));
        Self { endpoint, state }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }

    /// Requests for files' contents since the last time.
    pub(super) fn fetched(&self) -> Vec<(String, Option<String>)> {
        let seen = std::mem::take(&mut self.state.lock().unwrap().seen);
        let gets = seen.into_iter().filter(|seen| seen.method == "GET" && seen.path.contains("/resolve/"));
        let name =
            |path: &str| path.split(COMMIT).nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
        gets.map(|seen| (name(&seen.path), seen.range)).collect()
    }
}

fn answer(mut stream: TcpStream, state: &Mutex<State>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    let mut words = request.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (mut range, mut token) = (None, None);
    for line in lines.take_while(|line| !line.is_empty()) {
        match line.split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("range") => range = Some(value.to_owned()),
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                token = Some(value.to_owned());
            }
            _ => {}
        }
    }
    let mut state = state.lock().unwrap();
    state.seen.push(Seen { method: method.clone(), path: path.clone(), range: range.clone(), token });
    let (head, body) = reply(&state, &path, range.as_deref());
    let body = if method == "HEAD" { Vec::new() } else { body };
    let _ = stream.write_all(head.as_bytes());
    let cut = state.cuts.last().copied().filter(|cut| body.len() > *cut);
    if cut.is_some() {
        state.cuts.pop();
    }
    let _ = stream.write_all(&body[..cut.unwrap_or(body.len())]);
}

/// Head and body of an answer.
fn reply(state: &State, path: &str, range: Option<&str>) -> (String, Vec<u8>) {
    let simple = |status: &str, more: &str, body: Vec<u8>| {
        let length = body.len();
        let head =
            format!("HTTP/1.1 {status}\r\n{more}content-length: {length}\r\nconnection: close\r\n\r\n");
        (head, body)
    };
    for revision in ["main", COMMIT] {
        if path.starts_with(&format!("/api/models/owner/name/revision/{revision}?")) {
            return simple("200 OK", "content-type: application/json\r\n", listing(state).into_bytes());
        }
    }
    if path.starts_with("/api/models/owner/name/") {
        return simple("404 Not Found", "x-error-code: RevisionNotFound\r\n", Vec::new());
    }
    let file = path.strip_prefix(&format!("/owner/name/resolve/{COMMIT}/"));
    let Some((name, bytes)) = file.and_then(|file| state.files.get_key_value(file)) else {
        return simple("401 Unauthorized", "x-error-code: RepoNotFound\r\n", Vec::new());
    };
    if let Some((status, code)) = state.refusal {
        return simple(&format!("{status} Refused"), &format!("x-error-code: {code}\r\n"), Vec::new());
    }
    if let Some(elsewhere) = state.elsewhere.as_ref().filter(|_| name.ends_with(".safetensors")) {
        return simple("302 Found", &format!("location: {elsewhere}{path}\r\n"), Vec::new());
    }
    let more = format!("x-repo-commit: {COMMIT}\r\netag: \"{}\"\r\n", files::digest_of(bytes));
    let begin =
        range.and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse::<usize>().ok());
    match begin.filter(|_| !state.ignores_ranges) {
        Some(begin) => {
            let total = bytes.len();
            let more = format!("{more}content-range: bytes {begin}-{}/{total}\r\n", total - 1);
            simple("206 Partial Content", &more, bytes[begin..].to_vec())
        }
        None => simple("200 OK", &more, bytes.clone()),
    }
}

fn listing(state: &State) -> String {
    let siblings: Vec<_> = state
        .files
        .iter()
        .map(|(name, bytes)| {
            let digest = state.digests.get(name).cloned();
            let digest = digest.unwrap_or_else(|| files::digest_of(bytes).to_string());
            let mut sibling = serde_json::json!({ "rfilename": name, "size": bytes.len(), "blobId": "0" });
            if name.ends_with(".safetensors") || name.ends_with(".bin") {
                sibling["lfs"] =
                    serde_json::json!({ "sha256": digest, "size": bytes.len(), "pointerSize": 130 });
            }
            sibling
        })
        .collect();
    serde_json::json!({ "id": "owner/name", "sha": COMMIT, "siblings": siblings }).to_string()
}
