#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;

use tempfile::TempDir;

use super::fake_hub::{COMMIT, FakeHub};
use super::*;
use crate::progress::NoProgress;
use crate::source;

const WEIGHTS: &[u8] = &[7; 100_000];
/// A checkpoint with much beside it that is not needed.
const FILES: &[(&str, &[u8])] = &[
    ("README.md", b"a card"),
    ("config.json", b"{}"),
    ("tokenizer.json", b"{\"a\": 1}"),
    ("tokenizer_config.json", b"{}"),
    ("modules.json", b"[{\"path\": \"\"}, {\"path\": \"1_Pooling\"}, {\"path\": \"2_Dense\"}]"),
    ("1_Pooling/config.json", b"{\"pooling\": 1}"),
    ("2_Dense/config.json", b"{\"dense\": 1}"),
    ("2_Dense/model.safetensors", b"dense"),
    ("2_Dense/pytorch_model.bin", b"pickle"),
    ("model.safetensors", WEIGHTS),
    ("pytorch_model.bin", WEIGHTS),
    ("tf_model.h5", WEIGHTS),
    ("onnx/model.onnx", WEIGHTS),
    ("modeling_own.py", b"code"),
];
const NEEDED: [&str; 8] = [
    "1_Pooling/config.json",
    "2_Dense/config.json",
    "2_Dense/model.safetensors",
    "config.json",
    "model.safetensors",
    "modules.json",
    "tokenizer.json",
    "tokenizer_config.json",
];

struct World {
    data: TempDir,
    hub: FakeHub,
    token: Option<String>,
}

impl World {
    fn new(files: &[(&str, &[u8])]) -> Self {
        Self { data: tempfile::tempdir().unwrap(), hub: FakeHub::new(files), token: None }
    }

    fn store(&self, offline: bool) -> Store {
        Store { data_dir: self.data.path().to_path_buf(), offline }
    }

    fn pull(&self, reference: &str) -> Result<Pin, String> {
        let reference: Reference = reference.parse().unwrap();
        let hub = Hub::new(reference.repository(), reference.revision());
        let hub = hub.of(&self.hub.endpoint, self.token.clone());
        let store = self.store(false);
        let pulled = pull(&reference, hub, &store, &NoProgress).map_err(|error| error.to_string())?;
        pulled.write(&store, &reference).unwrap();
        Ok(pulled)
    }

    fn folder(&self) -> PathBuf {
        self.data.path().join("weights/owner--name").join(COMMIT)
    }
}

#[test]
fn what_is_needed_is_fetched_and_pinned() {
    let world = World::new(FILES);
    let pin = world.pull("owner/name").unwrap();
    assert_eq!(pin.commit, COMMIT);
    assert_eq!(pin.files.keys().map(String::as_str).collect::<Vec<_>>(), NEEDED);
    assert_eq!(pin.files["model.safetensors"].size, WEIGHTS.len() as u64);
    assert_eq!(fs::read(world.folder().join("model.safetensors")).unwrap(), WEIGHTS);
    assert!(!world.folder().join("pytorch_model.bin").exists());
    assert_eq!(world.hub.fetched().len(), NEEDED.len());
    // The same commit by its own name, and by the pin, needs nothing more.
    world.pull(&format!("owner/name@{COMMIT}")).unwrap();
    assert_eq!(world.hub.fetched(), []);
    let kept = pinned(&"owner/name".parse().unwrap(), false, &world.store(true), &NoProgress).unwrap();
    assert_eq!((kept.revision.as_str(), &kept.files), ("main", &pin.files));
    let folder = source::ensure(&kept.source(), Path::new(""), &world.store(true), &NoProgress).unwrap();
    assert_eq!(folder, world.folder());
    // And files are held to the pin.
    fs::write(folder.join("config.json"), "{ }").unwrap();
    let error = source::ensure(&kept.source(), Path::new(""), &world.store(true), &NoProgress).unwrap_err();
    assert!(error.to_string().contains("config.json: SHA-256 is"), "{error}");
    let revisions: Vec<_> = Pin::all(&world.store(true)).into_iter().map(|pin| pin.revision).collect();
    assert_eq!(revisions, [COMMIT, "main"]);
}

#[test]
fn shards_are_fetched_where_there_is_no_single_file() {
    let (first, second) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
    let index =
        format!("{{\"weight_map\": {{\"a\": \"{first}\", \"b\": \"{second}\", \"c\": \"{first}\"}}}}");
    let files: Vec<(&str, &[u8])> = vec![
        ("config.json", b"{}"),
        ("tokenizer.json", b"{}"),
        ("model.safetensors.index.json", index.as_bytes()),
        (first, b"one"),
        (second, b"two"),
        ("other-00001-of-00002.safetensors", b"three"),
    ];
    let pin = World::new(&files).pull("owner/name").unwrap();
    let names: Vec<_> = pin.files.keys().map(String::as_str).collect();
    assert_eq!(names, ["config.json", first, second, "model.safetensors.index.json", "tokenizer.json"]);
    let error = World::new(&files[..4]).pull("owner/name").unwrap_err();
    assert!(error.contains(&format!("{second} is named by its files and is not among them")), "{error}");
}

#[test]
fn a_download_that_is_broken_off_is_gone_on_with() {
    // Within a start, as long as more comes each time.
    let world = World::new(FILES);
    world.hub.change(|hub| hub.cuts = vec![30_000, 40_000]);
    world.pull("owner/name").unwrap();
    assert_eq!(fs::read(world.folder().join("model.safetensors")).unwrap(), WEIGHTS);
    let weights = |hub: &FakeHub| {
        let fetched = hub.fetched().into_iter().filter(|(name, _)| name == "model.safetensors");
        fetched.map(|(_, range)| range).collect::<Vec<_>>()
    };
    let ranges = [None, Some("bytes=40000-99999".to_owned()), Some("bytes=70000-99999".to_owned())];
    assert_eq!(weights(&world.hub), ranges);

    // And in the next one, from where the one before had to give up: what is there is not asked for again.
    let world = World::new(FILES);
    world.hub.change(|hub| hub.cuts = vec![0, 60_000]);
    let error = world.pull("owner/name").unwrap_err();
    assert!(error.contains("what has arrived is kept"), "{error}");
    assert!(!world.folder().exists() && !world.data.path().join("weights/owner--name/pins").exists());
    world.hub.fetched();
    world.pull("owner/name").unwrap();
    assert_eq!(fs::read(world.folder().join("model.safetensors")).unwrap(), WEIGHTS);
    assert_eq!(world.hub.fetched(), [("model.safetensors".to_owned(), Some("bytes=60000-99999".to_owned()))]);

    // A server that sends all of it again spoils nothing.
    let world = World::new(FILES);
    world.hub.change(|hub| (hub.cuts, hub.ignores_ranges) = (vec![60_000], true));
    let error = world.pull("owner/name").unwrap_err();
    assert!(error.contains("more bytes came than it has"), "{error}");
    world.pull("owner/name").unwrap();
    assert_eq!(fs::read(world.folder().join("model.safetensors")).unwrap(), WEIGHTS);
}

#[test]
fn what_is_not_what_the_hub_says_is_not_kept() {
    let world = World::new(FILES);
    let wrong = "0".repeat(64);
    world.hub.change(|hub| _ = hub.digests.insert("model.safetensors".to_owned(), wrong.clone()));
    let error = world.pull("owner/name").unwrap_err();
    assert!(error.contains("model.safetensors: SHA-256 is"), "{error}");
    assert!(error.contains(&format!("the hub says {wrong}; it was not kept")), "{error}");
    assert!(!world.folder().exists());
    world.hub.change(|hub| hub.digests.clear());
    world.hub.fetched();
    world.pull("owner/name").unwrap();
    assert_eq!(world.hub.fetched(), [("model.safetensors".to_owned(), None)]);
}

#[test]
fn errors_say_what_to_do() {
    let check = |reference: &str, files: &[(&str, &[u8])], refusal, token: Option<&str>, parts: &[&str]| {
        let world = World { token: token.map(str::to_owned), ..World::new(files) };
        world.hub.change(|hub| hub.refusal = refusal);
        let error = world.pull(reference).unwrap_err();
        for part in parts {
            assert!(error.contains(part), "{part:?} is not in {error:?}");
        }
        assert!(token.is_none_or(|token| !error.contains(token)), "{error}");
    };
    let gated = ["owner/name@main: ", "owner/name is gated: accept its terms at http://", "set HF_TOKEN"];
    check("owner/name", FILES, Some((401, "GatedRepo")), None, &gated);
    check("owner/name", FILES, Some((403, "GatedRepo")), Some("hf_secret"), &gated);
    let forbidden = ["the token in HF_TOKEN may not read owner/name"];
    check("owner/name", FILES, Some((403, "")), Some("hf_secret"), &forbidden);
    check(
        "owner/other",
        FILES,
        None,
        None,
        &["there is no repository owner/other, or it is private", "HF_TOKEN"],
    );
    check("owner/other", FILES, None, Some("hf_secret"), &["that the token in HF_TOKEN may read"]);
    check("owner/name@v2", FILES, None, None, &["owner/name has no revision v2"]);
    let mut pickled = FILES.to_vec();
    pickled.retain(|(name, _)| *name != "model.safetensors");
    let unread = ["has no model.safetensors, and pytorch_model.bin is not read", "revision=refs/pr/1"];
    check("owner/name", &pickled, None, None, &unread);
    check("owner/name", &FILES[..2], None, None, &["has no model.safetensors: name a revision"]);
    let mut slow = FILES.to_vec();
    slow.retain(|(name, _)| *name != "tokenizer.json");
    check("owner/name", &slow, None, None, &["has no tokenizer.json", "AutoTokenizer"]);
    check("owner/name", &FILES[..1], None, None, &["has no config.json"]);
}

#[test]
fn without_the_network_and_a_pin_it_says_what_to_type() {
    let world = World::new(FILES);
    let reference = "owner/name".parse().unwrap();
    let error = pinned(&reference, false, &world.store(true), &NoProgress).unwrap_err().to_string();
    for part in ["owner/name@main is not in the data folder", "(offline)", "models pull owner/name@main"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_pin_that_cannot_be_meant_is_refused_by_its_file() {
    let world = World::new(FILES);
    let pin = world.pull("owner/name").unwrap();
    let reference: Reference = "owner/name".parse().unwrap();
    let path = Pin::path(&world.store(true), &reference);
    let check = |change: &dyn Fn(&mut serde_json::Value), expected: &str| {
        let mut value = serde_json::to_value(Pin { revision: "main".to_owned(), ..pin.clone() }).unwrap();
        change(&mut value);
        fs::write(&path, value.to_string()).unwrap();
        let error = pinned(&reference, false, &world.store(true), &NoProgress).unwrap_err().to_string();
        assert!(error.contains("pins/main.json: ") && error.contains(expected), "{error}");
    };
    check(&|pin| pin["commit"] = "main".into(), "names no commit");
    check(&|pin| pin["files"] = serde_json::json!({}), "names no commit, or files");
    let outside = serde_json::json!({"../x": {"size": 1, "sha256": "0".repeat(64)}});
    check(&|pin| pin["files"] = outside.clone(), "files that are not in its folder");
    check(&|pin| pin["repository"] = "owner/other".into(), "is of owner/other@main");
    check(&|pin| pin["more"] = 1.into(), "unknown field `more`");
}

#[test]
fn the_token_is_sent_to_the_endpoint_alone() {
    let store = FakeHub::new(FILES);
    let world = World { token: Some("hf_secret".to_owned()), ..World::new(FILES) };
    world.hub.change(|hub| hub.elsewhere = Some(store.endpoint.replace("127.0.0.1", "localhost")));
    world.pull("owner/name").unwrap();
    let at_hub = world.hub.state.lock().unwrap().seen.clone();
    assert!(at_hub.iter().all(|seen| seen.token.as_deref() == Some("Bearer hf_secret")), "{at_hub:?}");
    let elsewhere = store.state.lock().unwrap().seen.clone();
    assert!(elsewhere.iter().any(|seen| seen.path.ends_with("/model.safetensors")), "{elsewhere:?}");
    assert!(elsewhere.iter().all(|seen| seen.token.is_none()), "{elsewhere:?}");
}
