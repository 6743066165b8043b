#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::progress::NoProgress;

const REVISION: &str = "0123456789abcdef0123456789abcdef01234567";

/// A place with these files, which counts how often it was asked.
struct Fake {
    name: &'static str,
    files: Vec<(&'static str, &'static str)>,
    asked: Arc<AtomicUsize>,
}

impl Fetcher for Fake {
    fn place(&self) -> String {
        self.name.to_owned()
    }

    fn fetch(&self, names: &[&str], folder: &Path, _progress: &dyn Progress) -> Result<(), String> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        fs::create_dir_all(folder.join(".cache")).unwrap();
        for &name in names {
            let content = self.files.iter().find(|(file, _)| *file == name).ok_or("has no such file")?.1;
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        Ok(())
    }
}

struct World {
    data: tempfile::TempDir,
    source: Source,
    asked: Vec<Arc<AtomicUsize>>,
}

impl World {
    fn new() -> Self {
        let files = [("a.txt", "alpha"), ("inside/b.txt", "beta")];
        let files: BTreeMap<_, _> = files
            .into_iter()
            .map(|(name, text)| (name.to_owned(), files::digest_of(text.as_bytes())))
            .collect();
        let origin = Origin::Repository {
            repository: "owner/name".to_owned(),
            revision: REVISION.to_owned(),
            package: None,
        };
        Self { data: tempfile::tempdir().unwrap(), source: Source { origin, files }, asked: Vec::new() }
    }

    fn folder(&self) -> PathBuf {
        self.data.path().join("weights/owner--name").join(REVISION)
    }

    fn ensure(
        &mut self,
        places: &[&[(&'static str, &'static str)]],
        offline: bool,
    ) -> Result<PathBuf, SourceError> {
        let store = Store { data_dir: self.data.path().to_path_buf(), offline };
        self.asked = places.iter().map(|_| Arc::default()).collect();
        let fetchers: Vec<Box<dyn Fetcher>> = places
            .iter()
            .zip(["first place", "second place"])
            .zip(&self.asked)
            .map(|((files, name), asked)| {
                Box::new(Fake { name, files: files.to_vec(), asked: Arc::clone(asked) }) as Box<dyn Fetcher>
            })
            .collect();
        ensure_repository(
            &self.source,
            &weights_folder(&store, "owner/name").join(REVISION),
            &store,
            &fetchers,
            &NoProgress,
        )
    }

    fn asked(&self) -> Vec<usize> {
        self.asked.iter().map(|asked| asked.load(Ordering::SeqCst)).collect()
    }

    /// What lies beside the folder, the lock aside.
    fn left(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.data.path().join("weights/owner--name")) else {
            return Vec::new();
        };
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.ends_with(".lock"))
            .collect();
        names.sort();
        names
    }
}

const GOOD: &[(&str, &str)] = &[("a.txt", "alpha"), ("inside/b.txt", "beta")];
const WRONG: &[(&str, &str)] = &[("a.txt", "alpha"), ("inside/b.txt", "gamma")];
const INCOMPLETE: &[(&str, &str)] = &[("a.txt", "alpha")];

#[test]
fn files_are_fetched_once_and_nothing_else_is_kept() {
    let mut world = World::new();
    assert_eq!(world.ensure(&[GOOD], false).unwrap(), world.folder());
    assert_eq!(world.asked(), [1]);
    assert_eq!(fs::read_to_string(world.folder().join("inside/b.txt")).unwrap(), "beta");
    assert!(!world.folder().join(".cache").exists());
    for offline in [false, true] {
        world.ensure(&[GOOD], offline).unwrap();
        assert_eq!(world.asked(), [0]);
    }
    assert_eq!(world.left(), [REVISION]);
}

#[test]
fn places_are_tried_in_order() {
    for first in [WRONG, INCOMPLETE, &[]] {
        let mut world = World::new();
        world.ensure(&[first, GOOD], false).unwrap();
        assert_eq!(world.asked(), [1, 1]);
        assert_eq!(world.left(), [REVISION]);
    }
    let mut world = World::new();
    world.ensure(&[GOOD, GOOD], false).unwrap();
    assert_eq!(world.asked(), [1, 0]);
}

#[test]
fn a_file_with_a_wrong_digest_is_an_error_and_is_not_kept() {
    let mut world = World::new();
    let error = world.ensure(&[WRONG, INCOMPLETE], false).unwrap_err();
    assert!(matches!(&error, SourceError::Unreachable { attempts, .. } if attempts.len() == 2));
    let text = error.to_string();
    for part in [
        "owner/name",
        "first place",
        "second place",
        "b.txt: SHA-256 is",
        "has no such file",
        "copy the files",
    ] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
    // What is right of it is kept for the next try, what is wrong is not.
    assert_eq!(world.left(), [format!("{REVISION}.part0"), format!("{REVISION}.part1")]);
    let staging = world.folder().with_extension("part0");
    assert!(staging.join("a.txt").exists() && !staging.join("inside/b.txt").exists());
    world.ensure(&[GOOD], false).unwrap();
}

#[test]
fn a_damaged_file_is_fetched_again() {
    let mut world = World::new();
    world.ensure(&[GOOD], false).unwrap();
    fs::write(world.folder().join("a.txt"), "damaged").unwrap();
    let error = world.ensure(&[GOOD], true).unwrap_err();
    assert!(matches!(&error, SourceError::Offline { fault, .. } if fault.file.ends_with("a.txt")));
    assert_eq!(world.asked(), [0]);
    world.ensure(&[GOOD], false).unwrap();
    assert_eq!(fs::read_to_string(world.folder().join("a.txt")).unwrap(), "alpha");
}

#[test]
fn leftovers_of_a_broken_off_fetch_do_no_harm() {
    let mut world = World::new();
    let staging = world.folder().with_extension("part0");
    fs::create_dir_all(&staging).unwrap();
    fs::write(staging.join("a.txt"), "half").unwrap();
    world.ensure(&[GOOD], false).unwrap();
    assert_eq!(world.left(), [REVISION]);
}

#[test]
fn without_a_place_the_error_says_so() {
    let error = World::new().ensure(&[], false).unwrap_err();
    assert!(error.to_string().contains("tried nothing, because the hub is switched off"), "{error}");
}

#[test]
fn a_second_process_waits_and_fetches_nothing() {
    let mut world = World::new();
    let folder = world.folder();
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    let held = lock(&folder.with_extension("lock"), &NoProgress).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            world.ensure(&[GOOD], false).unwrap();
            world.asked()
        });
        // What the process that holds the lock does: the folder appears complete.
        for (name, text) in GOOD {
            let path = folder.with_extension("other").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::rename(folder.with_extension("other"), &folder).unwrap();
        drop(held);
        assert_eq!(waiting.join().unwrap(), [0]);
    });
}

#[test]
fn a_folder_beside_the_card_is_checked_too() {
    let card_folder = tempfile::tempdir().unwrap();
    let source = Source { origin: Origin::Folder("weights".into()), files: World::new().source.files };
    let store = Store { data_dir: card_folder.path().join("data"), offline: false };
    let check = || ensure(&source, card_folder.path(), &store, &NoProgress);
    assert!(matches!(check(), Err(SourceError::Folder(fault)) if fault.file.ends_with("a.txt")));
    for (name, text) in GOOD {
        let path = card_folder.path().join("weights").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    assert_eq!(check().unwrap(), card_folder.path().join("weights"));
}
