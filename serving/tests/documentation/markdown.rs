//! What a document is made of, as far as tests look at it.

use std::path::{Path, PathBuf};

use crate::root;

/// A document with its code blocks apart.
pub(crate) struct Document {
    pub(crate) path: PathBuf,
    /// Number and text of lines outside code blocks.
    pub(crate) prose: Vec<(usize, String)>,
    /// Language and lines of code blocks.
    pub(crate) blocks: Vec<(String, Vec<String>)>,
}

/// The documents at the top and in `docs`.
pub(crate) fn documents() -> Vec<Document> {
    let mut paths = Vec::new();
    collect(&root().join("docs"), &mut paths);
    for entry in std::fs::read_dir(root()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path);
        }
    }
    paths.sort();
    assert!(paths.len() > 20, "the documents were not found");
    paths.into_iter().map(Document::read).collect()
}

/// A document by its path from the top.
pub(crate) fn document(path: &str) -> Document {
    Document::read(root().join(path))
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path);
        }
    }
}

impl Document {
    fn read(path: PathBuf) -> Self {
        let text = std::fs::read_to_string(&path).unwrap();
        let (mut prose, mut blocks) = (Vec::new(), Vec::new());
        let mut open: Option<(String, Vec<String>)> = None;
        for (index, line) in text.lines().enumerate() {
            match (line.trim_start().strip_prefix("```"), open.as_mut()) {
                (Some(language), None) => open = Some((language.trim().to_owned(), Vec::new())),
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (None, Some((_, lines))) => lines.push(line.to_owned()),
                (None, None) => prose.push((index + 1, line.to_owned())),
            }
        }
        assert!(open.is_none(), "{}: a code block does not end", path.display());
        Self { path, prose, blocks }
    }

    /// Where something stands, for a message.
    pub(crate) fn place(&self, line: usize) -> String {
        format!("{}:{line}", self.path.strip_prefix(root()).unwrap().display())
    }

    /// What stands in backticks, by line. A span may go on to the next line.
    pub(crate) fn spans(&self) -> Vec<(usize, String)> {
        let mut spans = Vec::new();
        let mut open: Option<(usize, String)> = None;
        let mut before = 0;
        for (line, text) in &self.prose {
            // Paragraphs end at empty lines and table rows at their own end.
            if text.trim().is_empty() || text.starts_with('|') || *line != before + 1 {
                open = None;
            }
            before = *line;
            for (index, part) in text.split('`').enumerate() {
                if index > 0 {
                    match open.take() {
                        Some(span) => spans.push(span),
                        None => open = Some((*line, String::new())),
                    }
                }
                if let Some((_, span)) = &mut open {
                    if index == 0 && !span.is_empty() {
                        span.push(' ');
                    }
                    span.push_str(part.trim_start_matches(if index == 0 { ' ' } else { '\0' }));
                }
            }
        }
        spans
    }

    /// Targets of links, by line.
    pub(crate) fn links(&self) -> Vec<(usize, String)> {
        let mut links = Vec::new();
        for (line, text) in &self.prose {
            for part in text.split("](").skip(1) {
                links.push((*line, part.split(')').next().unwrap_or_default().to_owned()));
            }
        }
        links
    }

    /// The anchors of its headings, as GitHub makes them.
    pub(crate) fn anchors(&self) -> Vec<String> {
        let headings = self.prose.iter().filter_map(|(_, text)| text.strip_prefix('#'));
        let anchor = |heading: &str| {
            let plain = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = plain.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        };
        headings.map(anchor).collect()
    }
}
