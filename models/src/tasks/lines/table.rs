//! Rows of tables, and of tables of contents.

use super::is_grammatical;
use crate::segment::is_tabbed_prose;

/// Share of numbers in a row of figures.
const FIGURES_SHARE: f32 = 0.6;
/// Spaces between the name of a chapter and its page, at least, if no dots are.
const GAP_MIN: usize = 4;
/// Dots between the name of a chapter and its page, at least.
const LEADER_MIN: usize = 4;

/// Cells between tabs or bars, values between commas, figures in a row.
pub(super) fn is_row(line: &str) -> bool {
    let words = || line.split_whitespace();
    let figures = words().filter(|word| word.bytes().any(|b| b.is_ascii_digit())).count();
    let count = words().count();
    let is_figures = count >= 3
        && figures as f32 >= FIGURES_SHARE * count as f32
        && !line.ends_with('.')
        && !line.contains(", ");
    let is_values =
        line.matches(',').count() >= 3 && !line.contains(", ") && count <= 2 + line.matches(',').count() / 2;
    // "1.<tab>The ship sailed on Monday.", "(a)<tab>It rained." are items.
    let is_sentence = |cell: &str| {
        let mut words = cell.split_whitespace();
        cell.ends_with(['.', '!', '?', ';', ','])
            && (words.clone().nth(3).is_some()
                || (words.clone().nth(1).is_some() && words.any(is_grammatical)))
    };
    let is_tabbed = match line.split_once('\t') {
        Some((_, rest)) => (rest.contains('\t') || !is_sentence(rest)) && !is_tabbed_prose(line),
        None => false,
    };
    is_tabbed
        || line.starts_with('|')
        || line.matches(" | ").count() >= 2
        || has_columns(line)
        || is_figures
        || is_values
        || is_of_contents(line)
}

/// Three cells with wide gaps between them. Typists put two spaces behind a full stop, and some programs
/// stretch the gaps of a line of prose: what ends a sentence ends no cell, and cells have hardly any of the
/// words that sentences are full of.
fn has_columns(line: &str) -> bool {
    let mut cells = line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).peekable();
    let mut gaps = 0;
    while let Some(cell) = cells.next() {
        let is_ended = cell.trim_end_matches(['"', '\'', '”', '’', ')', ']']).ends_with(['.', '!', '?', ':']);
        gaps += usize::from(cells.peek().is_some() && !is_ended);
    }
    if gaps < 2 {
        return false;
    }
    let grammar = line.split_whitespace().filter(|word| is_grammatical(word)).count();
    grammar == 0 || (grammar == 1 && !line.ends_with(['.', '!', '?', ',', ';']))
}

/// `2 Methods ........ 7`, `Results . . . . xi`
fn is_of_contents(line: &str) -> bool {
    let page = line.rsplit(|c: char| c.is_whitespace() || is_leader(c)).next().unwrap_or("");
    let is_number = !page.is_empty() && page.len() <= 6 && page.bytes().all(|b| b.is_ascii_digit());
    let is_roman = !page.is_empty()
        && page.len() <= 6
        && page.bytes().all(|b| matches!(b.to_ascii_lowercase(), b'i' | b'v' | b'x' | b'l'));
    if !is_number && !is_roman {
        return false;
    }
    let rest = &line[..line.len() - page.len()];
    let leader = &rest[rest.trim_end_matches(|c: char| is_leader(c) || c == ' ').len()..];
    // Chapters may have a wide gap before their pages, too.
    let is_gap = leader.len() >= GAP_MIN && leader.bytes().all(|b| b == b' ') && is_number;
    if is_gap {
        return true;
    }
    // "…" is three of them.
    let dots: usize = leader.chars().map(|c| if c == '…' { 3 } else { usize::from(is_leader(c)) }).sum();
    dots >= LEADER_MIN && rest.len() > leader.len()
}

fn is_leader(c: char) -> bool {
    matches!(c, '.' | '…' | '·' | '_' | '‥')
}
