//! `ml-inference usage verify | repair`: compares the journal in a state folder with itself and with the
//! sums, and mends what can be mended.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use router::WallTime;
use router::ledger::{
    Held, Inspection, Shipper, UnsoundDay, UsageStore, home, inspect, journal_name, known_name,
    repair as repair_journal,
};
use router::store::{EmbeddedStore, RedisStore};

use crate::config::{Config, Store};
use crate::ledger::{FOLDER, followers};
use crate::state_folder::{StateFolder, StateFolderError};
use crate::tenancy::{STORE_FILE, open_embedded};

type AnyError = Box<dyn std::error::Error + Send + Sync>;
type AnyResult<T> = Result<T, AnyError>;

/// How long a running server gets to sum what it has written, and how often that is looked at.
const SHIPPING_WAITS: u32 = 40;
const SHIPPING_WAIT: Duration = Duration::from_millis(250);

/// Prints what is in the journal and what is wrong with it. Blocks.
///
/// # Errors
/// Something is wrong, or could not be looked at.
pub fn verify(config: &Config) -> Result<(), AnyError> {
    let state = config.state_dir();
    let folder = state.join(FOLDER);
    if !folder.is_dir() {
        return Err(format!("there is no journal in {}", folder.display()).into());
    }
    let mut notes = Vec::new();
    let lock = StateFolder::take(&state, WallTime::now());
    let holder = match &lock {
        Ok(_) if Held::folder(&folder)?.is_none() => Some("another process".to_owned()),
        Ok(_) => None,
        Err(StateFolderError::InUse { holder, .. }) => Some(holder.clone()),
        // A backup or snapshot, mounted for reading: nobody writes to it there.
        Err(StateFolderError::Io { source, .. }) if is_read_only(source) => {
            notes.push("the state folder cannot be written: it is read without its lock".to_owned());
            None
        }
        Err(_) => None,
    };
    let is_locked = lock.is_ok() || holder.is_some() || !notes.is_empty();
    if !is_locked {
        lock?;
    }
    runtime()?.block_on(async {
        let mut found = inspect(&folder)?;
        if let Some(holder) = &holder {
            notes.push(format!("in use by {holder}: only read"));
        }
        let store = match (&config.tenancy.store, &holder) {
            (Store::Embedded, Some(_)) => {
                notes.push(format!("{STORE_FILE} is open in that process: sums were not compared"));
                None
            }
            (Store::Embedded, None) if is_empty(&state.join(STORE_FILE)) => {
                let problem = format!("{STORE_FILE} is empty or gone: all is summed again at the next start");
                found.problems.push(problem);
                None
            }
            _ if is_elsewhere(config, &folder)? => return Err(elsewhere(config, &folder)),
            (Store::Embedded, None) => Some(open_copy(&state).await?),
            (Store::Redis(_), _) => Some(open_store(config, &state).await?),
        };
        let name = known_name(&folder)?;
        if let Some(store) = store {
            found.compare(&folder, &name, store.as_ref()).await?;
            // What was written just now is being summed.
            for _ in 0..SHIPPING_WAITS {
                if holder.is_none() || found.missing() == 0 && found.unsound.is_empty() {
                    break;
                }
                tokio::time::sleep(SHIPPING_WAIT).await;
                found.compare(&folder, &name, store.as_ref()).await?;
            }
        }
        judge(&found, &notes)
    })
}

/// Mends the journal and sums what is not summed; prints what was done, and what it is like then. Blocks.
///
/// # Errors
/// A server uses the folder, the disk or the store refuses, or something is still wrong.
pub fn repair(config: &Config) -> Result<(), AnyError> {
    let state = config.state_dir();
    let folder = state.join(FOLDER);
    if !folder.is_dir() {
        return Err(format!("there is no journal in {}", folder.display()).into());
    }
    let _lock = StateFolder::take(&state, WallTime::now())?;
    let in_use = || format!("{} is in use by another process, by this path or another one", folder.display());
    let _held = Held::folder(&folder)?.ok_or_else(in_use)?;
    if is_elsewhere(config, &folder)? {
        return Err(elsewhere(config, &folder));
    }
    runtime()?.block_on(async {
        let name = journal_name(&folder)?;
        let store = open_store(config, &state).await?;
        let mut notes = repair_journal(&folder)?;
        let mut found = inspect(&folder)?;
        found.compare(&folder, &name, store.as_ref()).await?;
        let missing = found.missing();
        for day in &found.unsound {
            // Only what can be summed again.
            if day.records == Some(day.in_journal) && store.forget(&day.place, day.in_journal).await? {
                let (tenant, day) = (&day.place.tenant, day.place.day);
                notes.push(format!(
                    "the sums of {tenant} on {day} were changed, and are made anew from the records"
                ));
            }
        }
        let mut shipper = Shipper::new(Arc::clone(&store), name.clone(), followers(config, &folder));
        shipper.check().await?;
        while shipper.ship(u64::MAX).await? > 0 {
            if shipper.is_suspicious() {
                shipper.check().await?;
            }
        }
        shipper.keep().await?;
        if missing > 0 {
            notes.push(format!("{missing} records were added to the sums"));
        }
        if notes.is_empty() {
            notes.push("there was nothing to mend".to_owned());
        }
        let mut found = inspect(&folder)?;
        found.compare(&folder, &name, store.as_ref()).await?;
        judge(&found, &notes)
    })
}

/// Whether the folder's server keeps its sums elsewhere than this configuration says: to sum everything there
/// would bill twice.
fn is_elsewhere(config: &Config, folder: &Path) -> std::io::Result<bool> {
    let here = match &config.tenancy.store {
        Store::Embedded => "embedded",
        Store::Redis(_) => "redis",
    };
    Ok(home(folder)?.is_some_and(|home| home != here))
}

fn elsewhere(config: &Config, folder: &Path) -> AnyError {
    let (here, there) = match &config.tenancy.store {
        Store::Embedded => (STORE_FILE, "Redis"),
        Store::Redis(_) => ("Redis", STORE_FILE),
    };
    format!(
        "the sums of {} are in {there}, and this configuration says {here}: give the server's own (--config). If they moved, \
         start the server once",
        folder.display()
    )
    .into()
}

/// Whether nothing can be written there.
fn is_read_only(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied)
}

/// Opens a copy of the embedded store, so that nothing is written where all is only looked at.
async fn open_copy(state: &Path) -> Result<Arc<dyn UsageStore>, AnyError> {
    let copy = std::env::temp_dir().join(format!("ml-inference-verify-{}", std::process::id()));
    std::fs::DirBuilder::new().mode(0o700).create(&copy)?;
    let opened = async {
        std::fs::copy(state.join(STORE_FILE), copy.join(STORE_FILE))?;
        std::fs::set_permissions(copy.join(STORE_FILE), std::fs::Permissions::from_mode(0o600))?;
        AnyResult::Ok(open_embedded(&copy).await?)
    };
    let opened = opened.await;
    // It stays open without its name.
    let removed = std::fs::remove_dir_all(&copy);
    let store: EmbeddedStore = opened?;
    removed?;
    Ok(Arc::new(store))
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn is_empty(path: &Path) -> bool {
    std::fs::metadata(path).map_or(true, |metadata| metadata.len() == 0)
}

async fn open_store(config: &Config, state: &Path) -> Result<Arc<dyn UsageStore>, AnyError> {
    Ok(match &config.tenancy.store {
        Store::Embedded => Arc::new(open_embedded(state).await?),
        Store::Redis(redis) => Arc::new(RedisStore::connect(redis.to_connect()?).await?),
    })
}

/// Prints it, and is an error if anything is wrong.
fn judge(found: &Inspection, notes: &[String]) -> Result<(), AnyError> {
    let mut out = std::io::stdout();
    out.write_all(render(found, notes).as_bytes())?;
    if found.is_sound() {
        writeln!(out, "nothing is wrong")?;
        return Ok(());
    }
    let missing = found.missing();
    let what = if missing > 0 {
        format!("{missing} records are not in the sums")
    } else if !found.unsound.is_empty() {
        format!("sums of {} days are not what the records add up to", found.unsound.len())
    } else {
        "the journal is not as it should be".to_owned()
    };
    Err(format!("{what}; `ml-inference usage repair` mends what can be mended").into())
}

fn render(found: &Inspection, notes: &[String]) -> String {
    let mut text = String::new();
    let state = |problem: &Option<String>| problem.clone().unwrap_or_else(|| "ok".to_owned());
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut rows = vec![["segment", "from", "to", "records", "state"].map(str::to_owned).to_vec()];
    for segment in &found.segments {
        let (from, to) = segment.numbers;
        let numbers = [from, to, segment.records].map(|number| number.to_string());
        rows.push([vec![name(&segment.file)], numbers.to_vec(), vec![state(&segment.problem)]].concat());
    }
    table(&mut text, &rows);
    let mut rows = vec![["follower", "next", "behind", "state"].map(str::to_owned).to_vec()];
    for follower in &found.followers {
        let numbers = [follower.numbers.0, follower.records].map(|number| number.to_string());
        rows.push([vec![name(&follower.file)], numbers.to_vec(), vec![state(&follower.problem)]].concat());
    }
    table(&mut text, &rows);
    let mut rows = vec![["tenant", "records", "to", "summed", "not summed"].map(str::to_owned).to_vec()];
    for (tenant, finding) in &found.tenants {
        let summed = finding.summed.map_or_else(|| "?".to_owned(), |summed| summed.to_string());
        let missing = finding.summed.map_or_else(|| "?".to_owned(), |_| finding.missing.to_string());
        rows.push(vec![
            tenant.to_string(),
            finding.records.to_string(),
            finding.end.to_string(),
            summed,
            missing,
        ]);
    }
    table(&mut text, &rows);
    for path in &found.set_aside {
        let _ = writeln!(text, "set aside: {}", path.display());
    }
    for UnsoundDay { place, records, in_journal } in &found.unsound {
        let records = records.map_or_else(|| "?".to_owned(), |records| records.to_string());
        let _ = writeln!(
            text,
            "wrong: the sums of {} on {} are not what the records add up to ({records} records summed, {in_journal} of them here)",
            place.tenant, place.day
        );
    }
    for problem in &found.problems {
        let _ = writeln!(text, "wrong: {problem}");
    }
    for note in notes {
        let _ = writeln!(text, "{note}");
    }
    text
}

/// Columns as wide as what is in them; the first row names them.
fn table(text: &mut String, rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use router::ledger::{JournalFinding, TenantFinding};

    use super::*;

    #[test]
    fn what_is_wrong_is_shown_and_said() {
        let finding = |file: &str, problem: Option<&str>| JournalFinding {
            file: PathBuf::from(file),
            numbers: (0, 12),
            records: 12,
            problem: problem.map(str::to_owned),
        };
        let tenant = TenantFinding { records: 12, end: 12, summed: Some(9), missing: 3 };
        let mut found = Inspection::default();
        found.segments = vec![finding("/x/0.ndjson", None), finding("/x/12.ndjson", Some("1 damaged lines"))];
        found.tenants = [(Arc::from("acme"), tenant)].into();
        let text = render(&found, &["a note".to_owned()]);
        let expected = "segment    from  to  records  state\n\
                        0.ndjson   0     12  12       ok\n\
                        12.ndjson  0     12  12       1 damaged lines\n\n\
                        follower  next  behind  state\n\n\
                        tenant  records  to  summed  not summed\n\
                        acme    12       12  9       3\n\n\
                        a note\n";
        assert_eq!(text, expected);
        assert!(
            judge(&found, &[])
                .is_err_and(|error| error.to_string().starts_with("3 records are not in the sums"))
        );
        assert!(judge(&Inspection::default(), &[]).is_ok());
    }
}
