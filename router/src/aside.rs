//! Files that are read or written beside requests while a server runs. Behind a path may be a mount that
//! hangs, so it is done on a thread that may block, one attempt at a time, and nobody waits longer than a
//! bound: everything else goes on, with what was known before.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinHandle;

/// How long an attempt is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is the matter with files, by what they are for. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct FileFaults(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl FileFaults {
    /// What is the matter with a file now. Says whether that is new.
    pub fn tell(&self, name: &'static str, fault: Option<String>) -> bool {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = all.remove(name) != fault;
        if let Some(fault) = fault {
            all.insert(name, fault);
        }
        is_new
    }

    /// All of them.
    pub fn all(&self) -> BTreeMap<&'static str, String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One kind of such work.
pub struct Aside<T> {
    name: &'static str,
    faults: FileFaults,
    patience: Duration,
    running: Option<JoinHandle<T>>,
    is_late: bool,
}

impl<T> fmt::Debug for Aside<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aside")
            .field("name", &self.name)
            .field("is_late", &self.is_late)
            .finish_non_exhaustive()
    }
}

impl<T: Send + 'static> Aside<T> {
    /// Work on the file that is for `name`; what is the matter with it is told to `faults`.
    pub fn new(name: &'static str, faults: FileFaults) -> Self {
        Self { name, faults, patience: PATIENCE, running: None, is_late: false }
    }

    /// Does `work`, unless what was begun earlier is not done yet: then that is waited for instead. None: it
    /// was not done in time, and the next call will find out what became of it.
    pub async fn run(&mut self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let running = self.running.get_or_insert_with(|| tokio::task::spawn_blocking(work));
        let Ok(done) = tokio::time::timeout(self.patience, running).await else {
            if !self.is_late {
                self.is_late = true;
                self.faults.tell(self.name, Some("its file system does not answer".to_owned()));
                tracing::error!(
                    file = self.name,
                    "the file system of this file does not answer; what was known stays"
                );
            }
            return None;
        };
        self.running = None;
        if std::mem::take(&mut self.is_late) {
            self.faults.tell(self.name, None);
            tracing::info!(file = self.name, "the file system of this file answers again");
        }
        done.ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;

    use super::*;

    /// However often it is asked, one attempt hangs, and the first after it is a new one.
    #[tokio::test]
    async fn one_attempt_at_a_time_and_nobody_waits_for_it() {
        let faults = FileFaults::default();
        let mut aside = Aside::new("token", faults.clone());
        aside.patience = Duration::from_millis(1);
        let (answer, hanging) = mpsc::channel::<u32>();
        let hanging = Arc::new(Mutex::new(hanging));
        let begun = Arc::new(AtomicU32::new(0));
        for _ in 0..5 {
            let (hanging, begun) = (Arc::clone(&hanging), Arc::clone(&begun));
            let work = move || {
                begun.fetch_add(1, Ordering::SeqCst);
                hanging.lock().unwrap().recv().unwrap()
            };
            assert_eq!(aside.run(work).await, None);
            assert!(faults.all()["token"].contains("does not answer"));
        }
        assert!(begun.load(Ordering::SeqCst) <= 1);
        answer.send(7).unwrap();
        aside.patience = Duration::from_secs(60);
        assert_eq!(aside.run(|| 8).await, Some(7));
        assert_eq!((aside.run(|| 8).await, faults.all().len()), (Some(8), 0));
    }
}
