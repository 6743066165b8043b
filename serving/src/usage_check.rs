//! `ml-inference usage verify | repair`: compares the journal in a state folder with itself and with the sums, and mends what
//! can be mended.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use router::WallTime;
use router::ledger::{
    Inspection, Shipper, UsageStore, inspect, journal_name, known_name, repair as repair_journal,
};
use router::store::RedisStore;

use crate::config::{Config, Store};
use crate::ledger::{FOLDER, followers};
use crate::state_folder::{StateFolder, StateFolderError};
use crate::tenancy::{STORE_FILE, open_embedded};

type AnyError = Box<dyn std::error::Error + Send + Sync>;

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
    let (_lock, holder) = match StateFolder::take(&state, WallTime::now()) {
        Ok(lock) => (Some(lock), None),
        Err(StateFolderError::InUse { holder, .. }) => (None, Some(holder)),
        Err(error) => return Err(error.into()),
    };
    runtime()?.block_on(async {
        let mut found = inspect(&folder)?;
        let mut notes = Vec::new();
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
            _ => Some(open_store(config, &state).await?),
        };
        match (store, known_name(&folder)?) {
            (_, None) => found.problems.push("the journal's name is lost".to_owned()),
            (None, _) => {}
            (Some(store), Some(name)) => {
                found.compare(&folder, &name, store.as_ref()).await?;
                // What was written just now is being summed.
                for _ in 0..SHIPPING_WAITS {
                    if found.missing() == 0 || holder.is_none() {
                        break;
                    }
                    tokio::time::sleep(SHIPPING_WAIT).await;
                    found.compare(&folder, &name, store.as_ref()).await?;
                }
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
    runtime()?.block_on(async {
        let name = journal_name(&folder)?;
        let store = open_store(config, &state).await?;
        let mut notes = repair_journal(&folder, store.end(&name).await?)?;
        let mut shipper = Shipper::new(Arc::clone(&store), name.clone(), followers(config, &folder));
        let mut found = inspect(&folder)?;
        found.compare(&folder, &name, store.as_ref()).await?;
        let missing = found.missing();
        shipper.check().await?;
        while shipper.ship(u64::MAX).await? > 0 {
            if shipper.is_suspicious() {
                shipper.check().await?;
            }
        }
        shipper.keep()?;
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
    let mut rows = vec![["tenant", "records", "to", "summed to", "not summed"].map(str::to_owned).to_vec()];
    for (tenant, finding) in &found.tenants {
        let contained = finding.contained.map_or_else(|| "?".to_owned(), |at| at.to_string());
        let missing = finding.contained.map_or_else(|| "?".to_owned(), |_| finding.missing.to_string());
        rows.push(vec![
            tenant.to_string(),
            finding.records.to_string(),
            finding.end.to_string(),
            contained,
            missing,
        ]);
    }
    table(&mut text, &rows);
    for path in &found.set_aside {
        let _ = writeln!(text, "set aside: {}", path.display());
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
        let tenant = TenantFinding { records: 12, end: 12, contained: Some(9), missing: 3 };
        let found = Inspection {
            segments: vec![finding("/x/0.ndjson", None), finding("/x/12.ndjson", Some("1 damaged lines"))],
            tenants: [(Arc::from("acme"), tenant)].into(),
            ..Inspection::default()
        };
        let text = render(&found, &["a note".to_owned()]);
        let expected = "segment    from  to  records  state\n\
                        0.ndjson   0     12  12       ok\n\
                        12.ndjson  0     12  12       1 damaged lines\n\n\
                        follower  next  behind  state\n\n\
                        tenant  records  to  summed to  not summed\n\
                        acme    12       12  9          3\n\n\
                        a note\n";
        assert_eq!(text, expected);
        assert!(
            judge(&found, &[])
                .is_err_and(|error| error.to_string().starts_with("3 records are not in the sums"))
        );
        assert!(judge(&Inspection::default(), &[]).is_ok());
    }
}
