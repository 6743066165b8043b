//! Lines of logs, of stack traces and of what programs print, as they look by themselves.

use super::is_grammatical;
use crate::segment::is_stamped;

/// `ValueError: The value is bad.`, `java.lang.NullPointerException: null`.
pub(super) fn is_error(line: &str) -> bool {
    // "E   AssertionError: …"
    let line = line.strip_prefix("E  ").map_or(line, str::trim_start);
    let name = line.split([':', ' ']).next().unwrap_or("");
    let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'$'));
    is_name
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && line[name.len()..].starts_with(':')
        && ["Error", "Exception", "Warning"].iter().any(|end| name.ends_with(end) && name.len() > end.len())
}

const LEVELS: [&str; 12] = [
    "TRACE", "DEBUG", "INFO", "NOTICE", "WARN", "WARNING", "ERROR", "ERR", "FATAL", "CRITICAL", "SEVERE",
    "PANIC",
];

fn is_level(word: &str) -> bool {
    LEVELS.contains(&word.trim_matches(|c: char| !c.is_alphanumeric()))
}

/// Whether a line begins with a level, whatever it says: `ERROR: …`, `WARN[0003] …`, `INFO:root:…`; in small
/// letters only with a mark, `info: …`.
pub(super) fn begins_with_level(line: &str) -> bool {
    let first = line.split_whitespace().next().unwrap_or("");
    let is_small = || {
        let word = first.trim_end_matches(':').trim_matches(['[', ']']);
        word.len() < first.len()
            && word.bytes().all(|b| b.is_ascii_lowercase())
            && is_level(&word.to_uppercase())
    };
    is_level(first) || first.split_once(['[', ':']).is_some_and(|(word, _)| is_level(word)) || is_small()
}

/// A level and what a sentence does not have behind it: brackets, keys with values, the name of a logger. A
/// word that warns makes no log: "WARNING: the bridge is slippery."
pub(super) fn is_leveled(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let first = words.next().unwrap_or("");
    let Some(next) = words.next() else { return first.ends_with(':') && is_level(first) };
    if !begins_with_level(line) {
        return false;
    }
    // "info: the road is closed" says more than a level in capitals.
    let is_small = first.starts_with(|c: char| c.is_ascii_lowercase());
    let is_name = |word: &str| {
        let name = word.trim_end_matches([':', ']']).trim_start_matches('[');
        let is_of_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':');
        // `com.acme.Main`, `pool-1`, `net::http`
        name.bytes().all(is_of_name)
            && (name.contains("::") || name.contains('_') || name.trim_end_matches('.').contains('.'))
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
    };
    let is_bracketed =
        first.contains('[') || next.starts_with('[') || matches!(next, "-" | "---" | "|" | "--");
    // "INFO:root:Starting server"
    let is_of_logger = first.matches(':').count() > 1 || first.trim_end_matches(':').contains(':');
    // `Microsoft.Hosting.Lifetime[0]`
    let is_numbered = next.ends_with(']') && next.split_once('[').is_some_and(|(name, _)| is_name(name));
    let is_named = is_numbered
        || (is_name(next) && (next.ends_with(':') || !first.ends_with(':')))
        || next.ends_with("]:");
    let is_telling = line.ends_with(['.', '!', '?']) || line.split_whitespace().skip(1).any(is_grammatical);
    is_of_logger
        || is_bracketed
        || is_named
        || pairs(line) > 0
        || is_stamped(next)
        || !(is_telling || is_small)
}

/// How many words of a line are keys with values: `level=info`.
fn pairs(line: &str) -> usize {
    let is_pair = |word: &&str| {
        word.split_once('=').is_some_and(|(key, value)| {
            let is_of_key = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
            key.starts_with(|c: char| c.is_ascii_alphabetic())
                && key.bytes().all(is_of_key)
                && !value.is_empty()
        })
    };
    line.split_whitespace().filter(is_pair).count()
}

/// A time and a level, or what else lines of logs begin with.
pub(super) fn is_log(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let first = words.next().unwrap_or("");
    // "12 CRITICAL patients" begins with no time.
    let bare = first.trim_start_matches(['[', '(', '<']);
    let digits = bare.bytes().filter(u8::is_ascii_digit).count();
    let begins_with_time = bare.starts_with(|c: char| c.is_ascii_digit())
        && (digits >= 9 || (digits >= 4 && bare.contains([':', '-', '/', '.'])) || bare.len() < first.len());
    let has_level = words.clone().take(5).any(is_level);
    let is_address = first.split('.').count() == 4 && first.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let is_request = line.contains("\"GET /")
        || line.contains("\"POST /")
        || is_address && words.clone().next().is_some_and(|next| next.starts_with(['-', '[', '"']));
    let is_cause = |cause: &str| {
        is_error(cause)
            || cause.split([':', ' ']).next().is_some_and(|name| name.trim_end_matches('.').contains('.'))
    };
    let is_trace = line.starts_with("Traceback (")
        || line.starts_with("Exception in thread")
        || line.strip_prefix("Caused by: ").is_some_and(is_cause)
        || (line.starts_with("thread '") && line.contains(" panicked at "))
        || (line.starts_with("File \"") && line.contains(", line "))
        || line.starts_with("panic: ")
        || line.starts_with("fatal error: ")
        || (line.starts_with("goroutine ") && line.ends_with("]:"))
        || (line.starts_with("... ") && line.ends_with(" more"))
        || (line.starts_with("at ") && ends_with_place(line));
    // `main.c:3:5: error: …`, and the lines of glog: `I1127 13:00:01.000`.
    let mut parts = first.split(':');
    let is_diagnostic = (first.ends_with(':') || first.starts_with('/'))
        && parts.next().is_some_and(|file| file.contains('.'))
        && parts.next().is_some_and(|line| !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit()));
    let is_glog = first.len() == 5
        && first.starts_with(['I', 'W', 'E', 'F'])
        && first.bytes().skip(1).all(|b| b.is_ascii_digit())
        && words.clone().next().is_some_and(is_stamped_time);
    // `level=info ts=… msg="…"`
    let pairs = pairs(line);
    let is_paired = first.contains('=') && pairs >= 2 && (pairs >= 3 || pairs * 2 > words.clone().count());
    is_leveled(line)
        || (begins_with_time && has_level)
        || (is_stamped(line) && !first.starts_with(|c: char| c.is_alphabetic()) && has_seconds(line))
        || begins_with_date(line)
        || is_request
        || is_trace
        || is_error(line)
        || is_diagnostic
        || is_glog
        || is_paired
        || is_of_tool(line)
        || (line.starts_with('{') && line.ends_with('}') && line.contains("\":"))
}

/// `main.go:3`, `A.java:12)`
fn ends_with_place(line: &str) -> bool {
    let place = line.trim_end_matches(')');
    place.rsplit_once(':').is_some_and(|(file, line)| {
        !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit()) && !file.ends_with(' ')
    })
}

fn is_stamped_time(word: &str) -> bool {
    word.len() >= 8 && has_seconds(word)
}

/// A time to the second among the first characters: those of chats seldom have one.
fn has_seconds(line: &str) -> bool {
    let head = &line.as_bytes()[..line.len().min(32)];
    let is_digit = |at: usize| head.get(at).is_some_and(u8::is_ascii_digit);
    (0..head.len()).any(|at| {
        is_digit(at)
            && is_digit(at + 1)
            && head.get(at + 2) == Some(&b':')
            && is_digit(at + 3)
            && is_digit(at + 4)
            && head.get(at + 5) == Some(&b':')
    })
}

/// A date and a time to the second: `Nov 27 13:00:01 host`, `Nov 27, 2026 1:00:01 PM`,
/// `27/Nov/2026:13:00:01`, `11-27 13:00:01.123`, `[Fri Nov 27 13:00:01 2026]`, `[    0.000000]`.
fn begins_with_date(line: &str) -> bool {
    const NAMES: [&str; 19] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Mon", "Tue",
        "Wed", "Thu", "Fri", "Sat", "Sun",
    ];
    /// Words of a date before the time.
    const DATE_MAX: usize = 4;
    let is_of_date = |word: &str| {
        let word = word.trim_end_matches(',');
        NAMES.contains(&word)
            || (word.starts_with(|c: char| c.is_ascii_digit())
                && word.len() <= 12
                && word.split(['-', '/', '.']).all(|part| {
                    NAMES.contains(&part) || (!part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
                }))
    };
    let bare = line.trim_start_matches(['[', '(', '<']);
    if bare.len() < line.len() {
        let seconds = bare.trim_start().split(']').next().unwrap_or("");
        let is_uptime = seconds.split_once('.').is_some_and(|(whole, part)| {
            part.len() >= 3 && [whole, part].iter().all(|part| part.bytes().all(|b| b.is_ascii_digit()))
        });
        if is_uptime && line.starts_with('[') {
            return true;
        }
    }
    let mut words = bare.split_whitespace();
    let date = words.by_ref().take(DATE_MAX).take_while(|word| is_of_date(word)).count();
    let Some(time) = bare.split_whitespace().nth(date) else { return false };
    let is_time = time.split(':').count() == 3
        && time.starts_with(|c: char| c.is_ascii_digit())
        && time.bytes().all(|b| b.is_ascii_digit() || matches!(b, b':' | b'.' | b',' | b']' | b'Z'));
    // A zone or a program is behind it, and no sentence begins with a date and a second.
    date > 0 && is_time
}

/// `npm ERR! code`, `error[E0308]: …`, `make: *** [all] Error 2`, `> Task :compileJava`.
pub(super) fn is_of_tool(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let first = words.next().unwrap_or("");
    let next = words.next().unwrap_or("");
    let is_of_npm = matches!(first, "npm" | "yarn" | "pnpm")
        && matches!(next, "ERR!" | "WARN" | "error" | "warn" | "notice" | "info" | "verb" | "http");
    let is_build = matches!(first, "Compiling" | "Downloaded" | "Downloading" | "Installing" | "Checking")
        && line.split_whitespace().any(is_version);
    is_of_npm
        || is_build
        || (first.starts_with("error[") && first.ends_with("]:"))
        || (first.starts_with("make") && first.ends_with(':') && next.starts_with("***"))
        || line.starts_with("> Task :")
        || (first == "Step" && next.contains('/') && line.split_whitespace().nth(2) == Some(":"))
        || (first == "--->" && !next.is_empty())
        || (first == "Successfully" && matches!(next, "installed" | "built" | "tagged"))
        || line.ends_with("... Done")
}

/// `v1.2.3`
fn is_version(word: &str) -> bool {
    word.strip_prefix('v').is_some_and(|version| {
        version.contains('.') && version.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    })
}
