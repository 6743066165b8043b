//! Tables of texts and their labels: CSV (RFC 4180) and JSON lines. Texts are in no error message.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::AnyError;

/// Most bytes of a file: a hundred thousand rows of some pages each.
const BYTES_MAX: u64 = 1 << 30;
/// Most rows.
const ROWS_MAX: usize = 100_000;
/// Between the labels of a text.
const BETWEEN_LABELS: char = '|';

/// Which columns are read.
pub(super) struct Columns<'a> {
    pub(super) text: &'a str,
    pub(super) label: &'a str,
    /// Whether a text may have several labels, or none.
    pub(super) has_many: bool,
}

/// A text and its labels.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) text: String,
    pub(super) labels: Vec<String>,
    /// Where it begins in the file, from 1.
    pub(super) line: usize,
}

/// Rows with labels.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Labelled {
    pub(super) rows: Vec<Row>,
}

/// Reads a table.
///
/// # Errors
/// Names the line and what is wrong with it.
pub(super) fn read(path: &Path, columns: &Columns<'_>) -> Result<Labelled, AnyError> {
    let shown = path.display();
    let about = |error: std::io::Error| format!("{shown}: {error}");
    let bytes = std::fs::metadata(path).map_err(about)?.len();
    if bytes > BYTES_MAX {
        return Err(format!("{shown} has {bytes} bytes, the limit is {BYTES_MAX}").into());
    }
    let text = std::fs::read_to_string(path).map_err(about)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let is_json = path.extension().is_some_and(|kind| kind == "jsonl" || kind == "ndjson");
    let table = if is_json { json_lines(text, columns) } else { csv(text, columns) };
    let table = table.map_err(|error| format!("{shown}: {error}"))?;
    if table.rows.is_empty() {
        return Err(format!("{shown} has no rows").into());
    }
    Ok(table)
}

fn row(text: String, labels: Vec<String>, line: usize, columns: &Columns<'_>) -> Result<Row, String> {
    if text.trim().is_empty() {
        return Err(format!("line {line}: the text is empty"));
    }
    if !columns.has_many && labels.len() != 1 {
        let found = labels.len();
        return Err(format!(
            "line {line}: has {found} labels, and needs one; --multi-label takes any number"
        ));
    }
    Ok(Row { text, labels, line })
}

fn push(rows: &mut Vec<Row>, row: Row) -> Result<(), String> {
    if rows.len() == ROWS_MAX {
        return Err(format!("line {}: there are more than {ROWS_MAX} rows", row.line));
    }
    rows.push(row);
    Ok(())
}

fn json_lines(text: &str, columns: &Columns<'_>) -> Result<Labelled, String> {
    let mut rows = Vec::new();
    for (line, json) in (1..).zip(text.lines()).filter(|(_, json)| !json.trim().is_empty()) {
        let object: HashMap<String, Value> =
            serde_json::from_str(json).map_err(|_| format!("line {line}: is no JSON object"))?;
        let missing = |name: &str| format!("line {line}: {name:?} is missing or no text");
        let text = object.get(columns.text).and_then(Value::as_str).ok_or_else(|| missing(columns.text))?;
        let labels = match object.get(columns.label) {
            Some(Value::String(label)) => vec![label.clone()],
            Some(Value::Array(labels)) if columns.has_many => labels
                .iter()
                .map(|label| label.as_str().map(str::to_owned).ok_or_else(|| missing(columns.label)))
                .collect::<Result<_, _>>()?,
            Some(Value::Null) if columns.has_many => Vec::new(),
            _ => return Err(missing(columns.label)),
        };
        if labels.iter().any(|label| label.trim().is_empty()) {
            return Err(format!("line {line}: a label is empty"));
        }
        push(&mut rows, row(text.to_owned(), labels, line, columns)?)?;
    }
    Ok(Labelled { rows })
}

fn csv(text: &str, columns: &Columns<'_>) -> Result<Labelled, String> {
    let mut records = Records { rest: text, line: 1 };
    let (_, header) = records.next().ok_or("is empty")??;
    let place = |name: &str| {
        let mut places = (0..header.len()).filter(|at| header[*at].trim() == name);
        match (places.next(), places.next()) {
            (Some(at), None) => Ok(at),
            (None, _) => Err(format!("has no column {name:?}; its first line has {}", header.join(", "))),
            _ => Err(format!("has two columns {name:?}")),
        }
    };
    let (text_at, label_at) = (place(columns.text)?, place(columns.label)?);
    let mut rows = Vec::new();
    for record in records {
        let (line, mut fields) = record?;
        if fields.len() != header.len() {
            let (found, needed) = (fields.len(), header.len());
            return Err(format!("line {line}: has {found} fields, the first line has {needed}"));
        }
        let given = std::mem::take(&mut fields[label_at]);
        let labels =
            if columns.has_many { given.split(BETWEEN_LABELS).collect() } else { vec![given.as_str()] };
        let labels = labels.into_iter().map(str::trim).filter(|label| !label.is_empty());
        let labels = labels.map(str::to_owned).collect();
        push(&mut rows, row(std::mem::take(&mut fields[text_at]), labels, line, columns)?)?;
    }
    Ok(Labelled { rows })
}

/// Records of CSV, with the line that each begins on; empty lines are none.
struct Records<'a> {
    rest: &'a str,
    line: usize,
}

impl Iterator for Records<'_> {
    type Item = Result<(usize, Vec<String>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        while let Some(rest) = self.rest.strip_prefix("\r\n").or_else(|| self.rest.strip_prefix('\n')) {
            self.rest = rest;
            self.line += 1;
        }
        if self.rest.is_empty() {
            return None;
        }
        let first = self.line;
        let mut fields = Vec::new();
        loop {
            let field = match self.rest.strip_prefix('"') {
                Some(rest) => self.quoted(rest),
                None => Ok(self.plain()),
            };
            match field {
                Ok(field) => fields.push(field),
                Err(fault) => {
                    self.rest = "";
                    return Some(Err(format!("line {first}: {fault}")));
                }
            }
            match self.rest.strip_prefix(',') {
                Some(rest) => self.rest = rest,
                None => break,
            }
        }
        Some(Ok((first, fields)))
    }
}

impl<'a> Records<'a> {
    /// Up to a comma or the end of the line.
    fn plain(&mut self) -> String {
        let end = self.rest.find([',', '\n']).unwrap_or(self.rest.len());
        let (field, rest) = self.rest.split_at(end);
        if rest.starts_with(',') || rest.is_empty() {
            self.rest = rest;
            return field.to_owned();
        }
        let (field, end) = match field.strip_suffix('\r') {
            Some(field) => (field, end - 1),
            None => (field, end),
        };
        self.rest = &self.rest[end..];
        field.to_owned()
    }

    /// From behind a quotation mark to the next one that is not doubled.
    fn quoted(&mut self, mut rest: &'a str) -> Result<String, &'static str> {
        let mut field = String::new();
        loop {
            let end = rest.find('"').ok_or("a quotation mark is not closed")?;
            field.push_str(&rest[..end]);
            rest = &rest[end + 1..];
            match rest.strip_prefix('"') {
                Some(after) => {
                    field.push('"');
                    rest = after;
                }
                None => break,
            }
        }
        if !(rest.is_empty() || rest.starts_with([',', '\n']) || rest.starts_with("\r\n")) {
            return Err("something follows a closed quotation mark");
        }
        self.line += field.matches('\n').count();
        self.rest = rest;
        Ok(field)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn rows(found: Result<Labelled, String>) -> Result<Vec<(String, String, usize)>, String> {
        found.map(|table| {
            table.rows.into_iter().map(|row| (row.text, row.labels.join("+"), row.line)).collect()
        })
    }

    fn check(
        read: fn(&str, &Columns<'_>) -> Result<Labelled, String>,
        has_many: bool,
        text: &str,
        right: Result<&[(&str, &str, usize)], &str>,
    ) {
        let found = rows(read(text, &Columns { text: "body", label: "topic", has_many }));
        let right = right.map_err(str::to_owned);
        let right = right.map(|rows| {
            rows.iter().map(|(text, label, line)| ((*text).to_owned(), (*label).to_owned(), *line)).collect()
        });
        assert_eq!(found, right, "{text}");
    }

    #[test]
    fn comma_separated() {
        let plain = "id,topic,body\n1,a,first\n\n2,b,\"two\nlines, \"\"quoted\"\"\"\r\n3, a ,third\r\n";
        let quoted = "two\nlines, \"quoted\"";
        check(csv, false, plain, Ok(&[("first", "a", 2), (quoted, "b", 4), ("third", "a", 6)]));
        check(csv, true, "body,topic\nx,b|a\ny,\n", Ok(&[("x", "b+a", 2), ("y", "", 3)]));
        check(csv, false, "body,topic\nx,a", Ok(&[("x", "a", 2)]));
        check(csv, false, "", Err("is empty"));
        check(csv, false, "text,topic\nx,a\n", Err("has no column \"body\"; its first line has text, topic"));
        check(csv, false, "body,topic,body\nx,a,y\n", Err("has two columns \"body\""));
        check(csv, false, "body,topic\nx\n", Err("line 2: has 1 fields, the first line has 2"));
        check(csv, false, "body,topic\n\"x,a\n", Err("line 2: a quotation mark is not closed"));
        check(csv, false, "body,topic\n\"x\"y,a\n", Err("line 2: something follows a closed quotation mark"));
        check(csv, false, "body,topic\n ,a\n", Err("line 2: the text is empty"));
        let none = "line 2: has 0 labels, and needs one; --multi-label takes any number";
        check(csv, false, "body,topic\nx,\n", Err(none));
    }

    #[test]
    fn lines_of_json() {
        let lines = "{\"body\":\"x\",\"topic\":\"a\",\"id\":1}\n\n{\"topic\":\"b\",\"body\":\"y\"}";
        check(json_lines, false, lines, Ok(&[("x", "a", 1), ("y", "b", 3)]));
        let many = "{\"body\":\"x\",\"topic\":[\"a\",\"b\"]}\n{\"body\":\"y\",\"topic\":[]}";
        check(json_lines, true, many, Ok(&[("x", "a+b", 1), ("y", "", 2)]));
        check(json_lines, false, many, Err("line 1: \"topic\" is missing or no text"));
        check(
            json_lines,
            false,
            "{\"body\":1,\"topic\":\"a\"}",
            Err("line 1: \"body\" is missing or no text"),
        );
        check(json_lines, false, "[]", Err("line 1: is no JSON object"));
        check(json_lines, false, "{\"body\":\"x\",\"topic\":\" \"}", Err("line 1: a label is empty"));
    }

    #[test]
    fn rows_are_bounded() {
        let text = format!("body,topic\n{}", "x,a\n".repeat(ROWS_MAX + 1));
        check(csv, false, &text, Err("line 100002: there are more than 100000 rows"));
        let all =
            rows(csv(&text[..text.len() - 4], &Columns { text: "body", label: "topic", has_many: false }));
        assert_eq!(all.unwrap().len(), ROWS_MAX);
    }
}
