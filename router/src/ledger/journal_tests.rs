//! Tests of the journal.

#![allow(clippy::unwrap_used)]

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::config::{Flush, JournalConfig};
use super::error::JournalError;
use super::follower::Followers;
use super::journal::Journal;
use super::reader::Reader;
use super::segments;
use crate::ledger::tests::record;

fn config(folder: &Path) -> JournalConfig {
    JournalConfig {
        folder: folder.to_owned(),
        flush: Flush::EveryMs(10),
        segment_bytes_max: 2_000,
        pending_max: 16,
        is_on: true,
    }
}

fn append(journal: &Journal, inputs: Range<u64>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for number in inputs {
        runtime.block_on(journal.append(record("acme", number))).unwrap();
    }
}

fn read(folder: &Path, from: u64) -> Vec<u64> {
    let mut reader = Reader::new(folder, from);
    reader.read(u64::MAX, usize::MAX).unwrap().iter().map(|entry| entry.record.inputs).collect()
}

fn numbers(folder: &Path) -> Vec<u64> {
    let mut reader = Reader::new(folder, 0);
    reader.read(u64::MAX, usize::MAX).unwrap().iter().map(|entry| entry.number).collect()
}

fn set_position(folder: &Path, number: u64) -> Arc<Followers> {
    std::fs::write(folder.join("sink-x"), number.to_string()).unwrap();
    let followers = Followers::new(folder, 100);
    let _ = crate::ledger::follower::Follower::new(Arc::clone(&followers), "sink-x");
    followers
}

fn flip(path: &Path, place: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[place] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn what_is_written_is_read_over_segments_and_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut starts = Vec::new();
    for start in [0, 20, 40] {
        let journal = Journal::open(config(folder)).unwrap();
        starts.push(journal.written());
        append(&journal, start..start + 20);
        assert_eq!((journal.records(), journal.records_from(0)), (20, start + 20));
        assert_eq!(journal.records_from(starts[0] + 5), start + 15);
        assert_eq!(journal.newest(23).unwrap().len() as u64, 23.min(start + 20));
    }
    assert!(segments::list(folder).unwrap().len() > 3);
    assert_eq!(read(folder, 0), (0..60).collect::<Vec<_>>());
    assert_eq!(read(folder, 13), (13..60).collect::<Vec<_>>());
    // From within a gap, and from the last start.
    assert_eq!(read(folder, 25), (20..60).collect::<Vec<_>>());
    assert_eq!(read(folder, starts[2] + 3), (43..60).collect::<Vec<_>>());
    segments::remove_read(folder, starts[2] + 5, 0, 0).unwrap();
    let left = read(folder, 0);
    assert!(left[0] > 20 && left[0] <= 45 && left.last() == Some(&59), "{left:?}");
    let modes = segments::list(folder).unwrap();
    for path in modes.iter().map(|segment| &segment.path).chain([&folder.join("reserved")]) {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn no_number_is_given_out_twice_whatever_is_lost_of_the_end() {
    for (lost, is_reserved) in [(1, true), (15, true), (20, true), (15, false)] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        append(&Journal::open(config(folder)).unwrap(), 0..20);
        let all = numbers(folder);
        // Power fails: the last lines are lost, after a follower had read them.
        for _ in 0..lost {
            let last = segments::list(folder).unwrap().pop().unwrap().path;
            let text = std::fs::read_to_string(&last).unwrap();
            match text.trim_end().rfind('\n') {
                Some(end) => std::fs::write(&last, &text[..=end]).unwrap(),
                None => std::fs::remove_file(&last).unwrap(),
            }
        }
        std::fs::write(folder.join("shipped"), "20").unwrap();
        if !is_reserved {
            std::fs::remove_file(folder.join("reserved")).unwrap();
        }
        let journal = Journal::open(config(folder)).unwrap();
        assert!(journal.written() > all[19], "{lost}");
        append(&journal, 20..22);
        let expected: Vec<u64> = (0..20 - lost).chain(20..22).collect();
        assert_eq!(read(folder, 0), expected, "{lost}");
    }
}

#[test]
fn a_cut_off_end_is_mended() {
    for cut in 1..40 {
        let folder = tempfile::tempdir().unwrap();
        append(&Journal::open(config(folder.path())).unwrap(), 0..3);
        let path = segments::path(folder.path(), 0);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - cut]).unwrap();
        let journal = Journal::open(config(folder.path())).unwrap();
        assert_eq!(journal.records_from(0), 2, "cut by {cut}");
        append(&journal, 2..4);
        drop(journal);
        assert_eq!(read(folder.path(), 0), [0, 1, 2, 3], "cut by {cut}");
    }
}

#[test]
fn damage_is_set_aside_where_nobody_needs_the_record_and_an_error_where_somebody_does() {
    let damaged = |position: u64| {
        let folder = tempfile::tempdir().unwrap();
        append(&Journal::open(config(folder.path())).unwrap(), 0..4);
        flip(&segments::path(folder.path(), 0), 30);
        let followers = set_position(folder.path(), position);
        (folder, followers)
    };
    // A follower has not read it.
    let (folder, followers) = damaged(0);
    let journal = Journal::open(config(folder.path())).unwrap();
    let error = journal.check(&followers).unwrap_err();
    assert!(matches!(error, JournalError::Damaged { number: 0, .. }), "{error}");
    assert!(error.to_string().contains("ml-inference usage repair"));
    // All have read it: found at the start if there is more in the segment, and else beside the work.
    for (position, is_scrubbed) in [(2, false), (4, true)] {
        let (folder, followers) = damaged(position);
        let folder = folder.path();
        let journal = Journal::open(config(folder)).unwrap();
        journal.check(&followers).unwrap();
        if is_scrubbed {
            assert_eq!(journal.damaged_segments(), 0);
            // It is no reason not to read the others.
            assert_eq!(journal.newest(100).unwrap().len(), 3);
            journal.scrub(&followers, || false).unwrap();
        }
        assert_eq!(journal.damaged_segments(), 1);
        append(&journal, 4..6);
        assert_eq!(read(folder, 0), [1, 2, 3, 4, 5]);
        assert_eq!(segments::set_aside(folder).unwrap().len(), 1);
        drop(journal);
        assert_eq!(
            Journal::open(config(folder)).unwrap().damaged_segments(),
            1,
            "until somebody takes it away"
        );
    }
}

#[test]
fn a_journal_of_an_older_version_is_read_on() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for numbers in [0..3, 3..5] {
        let mut text = Vec::new();
        let start = numbers.start;
        for number in numbers {
            let json = serde_json::to_string(&record("acme", number)).unwrap();
            let sum = crc32fast::hash(json.as_bytes());
            text.extend_from_slice(format!("{sum:08x} {json}\n").as_bytes());
        }
        std::fs::write(segments::path(folder, start), text).unwrap();
    }
    let journal = Journal::open(config(folder)).unwrap();
    assert_eq!(journal.records_from(0), 5);
    append(&journal, 5..7);
    assert_eq!(read(folder, 0), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(read(folder, 4), [4, 5, 6]);
    assert_eq!(numbers(folder)[..5], [0, 1, 2, 3, 4]);
    assert!(journal.written() > 5);
}

#[test]
fn a_damaged_old_line_keeps_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    append(&Journal::open(config(folder)).unwrap(), 0..4);
    // Not even the line's end is left.
    let path = segments::path(folder, 0);
    let bytes = std::fs::read(&path).unwrap();
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap();
    flip(&path, end);
    let mut reader = Reader::new(folder, 0).pass_damage_below(2);
    let found: Vec<u64> = reader.read(u64::MAX, 10).unwrap().into_iter().map(|entry| entry.number).collect();
    assert_eq!((found, reader.take_passed()), (vec![2, 3], 1));
}

#[test]
fn a_journal_that_cannot_be_written_says_so_and_recovers() {
    let place = tempfile::tempdir().unwrap();
    let (folder, elsewhere) = (place.path().join("usage"), place.path().join("elsewhere"));
    append(&Journal::open(config(&folder)).unwrap(), 0..1);
    let journal = Journal::open(config(&folder)).unwrap();
    assert_eq!(journal.health(), Ok(()));
    std::fs::rename(&folder, &elsewhere).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(runtime.block_on(journal.append(record("acme", 1))).is_err());
    assert!(journal.health().is_err());
    std::fs::rename(&elsewhere, &folder).unwrap();
    // Without a record that would try it.
    while journal.health().is_err() {
        std::thread::sleep(Duration::from_millis(10));
    }
    append(&journal, 1..2);
    assert_eq!(read(&folder, 0), [0, 1]);
}

#[test]
fn what_a_failed_write_left_behind_is_no_damage() {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let journal = Journal::open(config(folder)).unwrap();
    append(&journal, 0..2);
    let path = segments::path(folder, 0);
    let whole = std::fs::read(&path).unwrap();
    std::fs::File::options().append(true).open(&path).unwrap().write_all(&whole[..100]).unwrap();
    let mut reader = Reader::new(folder, 0);
    // With it comes, read ahead, what was half written.
    assert_eq!(reader.read(journal.written(), 10).unwrap().len(), 2);
    // As the writer does before it writes the next group.
    std::fs::File::options().write(true).open(&path).unwrap().set_len(whole.len() as u64).unwrap();
    append(&journal, 2..4);
    let found: Vec<u64> =
        reader.read(journal.written(), 10).unwrap().iter().map(|entry| entry.record.inputs).collect();
    assert_eq!((found, reader.take_passed()), (vec![2, 3], 0));
}

#[test]
fn what_is_missing_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    append(&Journal::open(config(folder)).unwrap(), 0..40);
    append(&Journal::open(config(folder)).unwrap(), 40..50);
    let listed = segments::list(folder).unwrap();
    let gap = listed[1].first..listed[3].first;
    assert_eq!(Journal::open(config(folder)).unwrap().missing(), 0);
    // One is gone, one empty.
    std::fs::remove_file(&listed[1].path).unwrap();
    std::fs::write(&listed[2].path, "").unwrap();
    assert_eq!(Journal::open(config(folder)).unwrap().missing(), gap.end - gap.start);
    let mut reader = Reader::new(folder, 0);
    let found = reader.read(u64::MAX, 100).unwrap().len() as u64;
    assert_eq!((found, reader.take_passed()), (50 - (gap.end - gap.start), gap.end - gap.start));
}

/// Nothing else remembers these records: no follower was there, and no checkpoint.
#[test]
fn ends_that_are_lost_are_told_until_they_would_have_been_removed() {
    let check = |lose: &dyn Fn(&[std::path::PathBuf]), expected: u64| {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for start in 0..3 {
            append(&Journal::open(config(folder)).unwrap(), start * 20..start * 20 + 20);
        }
        assert_eq!(Journal::open(config(folder)).unwrap().missing(), 0);
        let paths: Vec<_> = segments::list(folder).unwrap().into_iter().map(|segment| segment.path).collect();
        lose(&paths);
        for _ in 0..2 {
            let found = crate::ledger::inspect(folder).unwrap();
            let told =
                found.problems.iter().chain(found.segments.iter().filter_map(|found| found.problem.as_ref()));
            assert_eq!(told.filter(|told| told.contains("missing")).count() > 0, expected > 0);
            let journal = Journal::open(config(folder)).unwrap();
            assert_eq!(journal.missing(), expected);
            // That there are newer ones hides nothing.
            append(&journal, 60..61);
        }
        segments::remove_read(folder, u64::MAX, 0, 0).unwrap();
        assert_eq!(Journal::open(config(folder)).unwrap().missing(), 0);
    };
    let remove = |path: &std::path::PathBuf| std::fs::remove_file(path).unwrap();
    let records = |path: &std::path::PathBuf| std::fs::read_to_string(path).unwrap().lines().count();
    let lost = std::cell::Cell::new(0);
    check(&|_| {}, 0);
    check(&|paths| paths.iter().for_each(remove), 60);
    // A start that is gone from the midst, and the last segment of the last start.
    let lines = |path: &std::path::PathBuf| lost.set(lost.get() + records(path) as u64);
    let folder = tempfile::tempdir().unwrap();
    append(&Journal::open(config(folder.path())).unwrap(), 0..20);
    let first = segments::list(folder.path()).unwrap();
    lines(&first.last().unwrap().path);
    check(&|paths| remove(&paths[first.len() - 1]), lost.get());
    check(
        &|paths| {
            let text = std::fs::read_to_string(paths.last().unwrap()).unwrap();
            let cut = text.trim_end().rfind('\n').map_or(0, |end| end + 1);
            std::fs::write(paths.last().unwrap(), &text[..cut]).unwrap();
        },
        1,
    );
    // What is damaged is there.
    check(&|paths| flip(&paths[0], 40), 0);
}

#[test]
fn a_segment_that_is_taken_away_is_followed_by_another() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let journal = Journal::open(config(folder)).unwrap();
    append(&journal, 0..2);
    std::fs::remove_file(segments::path(folder, 0)).unwrap();
    append(&journal, 2..4);
    assert_eq!(read(folder, 0), [2, 3]);
}

#[test]
fn closed_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(config(folder.path())).unwrap();
    journal.close();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(matches!(runtime.block_on(journal.append(record("acme", 1))), Err(JournalError::Closed)));
}

/// Lines that somebody else wrote behind the records, or between them, are set aside: nobody stops at them.
#[test]
fn rubbish_is_in_nobodys_way() {
    let noise: Vec<u8> =
        (0..4096u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let noise = [noise, b"\n".to_vec()].concat();
    for rubbish in [b"\x01\x02garbage\n".as_slice(), b"\n", b"\n\n{}\n", &noise] {
        for (position, between, has_gone_on) in [(30, false, false), (30, true, true), (5, false, true)] {
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path();
            append(&Journal::open(config(folder)).unwrap(), 0..30);
            let path = segments::list(folder).unwrap().last().unwrap().path.clone();
            let mut text = std::fs::read(&path).unwrap();
            let end = text.iter().position(|byte| *byte == b'\n').unwrap() + 1;
            let at = if between { end } else { text.len() };
            text.splice(at..at, rubbish.iter().copied());
            std::fs::write(&path, text).unwrap();
            if has_gone_on {
                append(&Journal::open(config(folder)).unwrap(), 30..33);
            }
            let journal = Journal::open(config(folder)).unwrap();
            let followers = set_position(folder, position);
            journal.check(&followers).unwrap();
            let case = (&rubbish[..rubbish.len().min(9)], position, between, has_gone_on);
            assert_eq!(
                read(folder, position),
                (position..30 + 3 * u64::from(has_gone_on)).collect::<Vec<_>>(),
                "{case:?}"
            );
            journal.scrub(&followers, || false).unwrap();
            // Where it ends in what may have been a record that was being written, it is cut off.
            assert!(journal.damaged_segments() == 1 || rubbish == noise, "{case:?}");
            journal.check(&followers).unwrap();
        }
    }
}

#[test]
fn segments_have_the_names_that_are_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    append(&Journal::open(config(folder)).unwrap(), 0..40);
    let paths: Vec<_> = segments::list(folder).unwrap().into_iter().map(|segment| segment.path).collect();
    std::fs::rename(&paths[1], folder.join("09999999999999999999.ndjson")).unwrap();
    std::fs::rename(&paths[2], folder.join("00000000000000000001.ndjson")).unwrap();
    std::fs::copy(&paths[0], folder.join("00000000000000000002.ndjson")).unwrap();
    std::fs::create_dir(folder.join("00000000000000000003.ndjson")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.join("00000000000000000004.ndjson")).unwrap();
    let journal = Journal::open(config(folder)).unwrap();
    assert_eq!((read(folder, 0), journal.missing()), ((0..40).collect::<Vec<_>>(), 0));
    assert!(paths.iter().all(|path| path.is_file()));
    // The copy.
    assert_eq!(journal.damaged_segments(), 1);
}

#[tokio::test]
async fn a_record_is_found_where_it_was_to_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let first = Journal::open(config(folder)).unwrap();
    let epoch = first.epoch().to_owned();
    for number in 0..30 {
        first.append(record("acme", number)).await.unwrap();
    }
    let has = async |journal: &Journal, epoch: &str, from: u64, inputs: u64| {
        journal.has(epoch, from, &record("acme", inputs)).await.unwrap()
    };
    assert!(has(&first, &epoch, 3, 20).await && has(&first, &epoch, 20, 20).await);
    assert!(!has(&first, &epoch, 21, 20).await && !has(&first, &epoch, 30, 30).await);
    first.close();
    let second = Journal::open(config(folder)).unwrap();
    let from = second.written();
    second.append(record("acme", 77)).await.unwrap();
    // By another start, though from that number on.
    assert!(!has(&second, &epoch, 25, 77).await && has(&second, second.epoch(), from, 77).await);
    assert!(has(&second, &epoch, 25, 29).await);
    // What was removed was written.
    segments::remove_read(folder, 12, 0, 0).unwrap();
    assert!(has(&second, &epoch, 2, 99).await);
    // So was what may be damaged.
    let path = segments::list(folder).unwrap()[1].path.clone();
    flip(&path, 40);
    let from = segments::list(folder).unwrap()[0].first;
    assert!(has(&second, &epoch, from, 99).await);
}
