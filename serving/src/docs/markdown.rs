//! Pages of `docs/` that callers need, as HTML.

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd, html};

/// A page of `docs/`.
pub(super) struct Page {
    /// Its file without `.md`, and the end of its path.
    pub(super) slug: &'static str,
    pub(super) title: &'static str,
    text: &'static str,
}

macro_rules! pages {
    ($($slug:literal: $title:literal;)+) => {
        /// All pages that are served.
        pub(super) const PAGES: &[Page] = &[
            $(Page { slug: $slug, title: $title, text: include_str!(concat!("../../../docs/", $slug, ".md")) },)+
        ];
    };
}

pages! {
    "api": "Calling the service";
    "dialects": "Dialects";
    "error-examples": "Errors by example";
    "migrating-from-triton": "Triton, KServe";
    "migrating-from-tei": "text-embeddings-inference";
    "migrating-from-openai": "OpenAI";
    "migrating-from-cohere": "Cohere, Jina, Voyage";
    "migrating-from-vllm": "vLLM, NIM, infinity, Ollama";
}

/// A page as HTML: headings have GitHub's anchors, tables may be wider than the page, and links to what is
/// not served here are their text.
pub(super) fn page(page: &Page) -> String {
    let mut events: Vec<Event<'_>> = Parser::new_ext(page.text, Options::ENABLE_TABLES).collect();
    name_headings(&mut events);
    let mut is_linked = Vec::new();
    let events = events.into_iter().flat_map(|event| match event {
        Event::Start(Tag::Table(alignment)) => {
            vec![Event::Html("<div class=\"wide\">".into()), Event::Start(Tag::Table(alignment))]
        }
        Event::End(TagEnd::Table) => vec![Event::End(TagEnd::Table), Event::Html("</div>".into())],
        Event::Start(Tag::Link { link_type, dest_url, title, id }) => {
            let target = served(&dest_url);
            is_linked.push(target.is_some());
            target
                .map(|dest_url| Event::Start(Tag::Link { link_type, dest_url, title, id }))
                .into_iter()
                .collect()
        }
        Event::End(TagEnd::Link) if !is_linked.pop().unwrap_or(false) => Vec::new(),
        // Comments for who edits the page.
        Event::Html(_) | Event::InlineHtml(_) => Vec::new(),
        event => vec![event],
    });
    let mut page = String::new();
    html::push_html(&mut page, events);
    page
}

/// Where a link of `docs/` leads here.
fn served(link: &str) -> Option<CowStr<'static>> {
    if link.starts_with("https://") || link.starts_with('#') {
        return Some(link.to_owned().into());
    }
    let (file, anchor) = link.split_once('#').map_or((link, None), |(file, anchor)| (file, Some(anchor)));
    let slug = file.strip_suffix(".md")?;
    let is_served = slug == "errors" || PAGES.iter().any(|page| page.slug == slug);
    let anchor = anchor.map(|anchor| format!("#{anchor}")).unwrap_or_default();
    is_served.then(|| format!("/docs/{slug}{anchor}").into())
}

fn name_headings(events: &mut [Event<'_>]) {
    let (mut open, mut text) = (None, String::new());
    for place in 0..events.len() {
        match &events[place] {
            Event::Start(Tag::Heading { .. }) => {
                (open, text) = (Some(place), String::new());
            }
            Event::Text(part) | Event::Code(part) if open.is_some() => text.push_str(part),
            Event::End(TagEnd::Heading(_)) => {
                if let Some(Event::Start(Tag::Heading { id, .. })) =
                    open.take().and_then(|open| events.get_mut(open))
                {
                    *id = Some(anchor(&text).into());
                }
            }
            _ => {}
        }
    }
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let lower = heading.to_lowercase();
    let kept = lower.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_become_html() {
        let check = |text: &'static str, expected: &str| {
            assert_eq!(page(&Page { slug: "x", title: "X", text }), expected, "{text}");
        };
        check("## One bad `input`", "<h2 id=\"one-bad-input\">One bad <code>input</code></h2>\n");
        check("<!-- made -->\n[a](errors.md#x)", "<p><a href=\"/docs/errors#x\">a</a></p>\n");
        check("[a *b*](../serving/x.rs) `<c>`", "<p>a <em>b</em> <code>&lt;c&gt;</code></p>\n");
        check(
            "| a |\n|---|\n| b |",
            "<div class=\"wide\"><table><thead><tr><th>a</th></tr></thead><tbody>\n<tr><td>b</td></tr>\n</tbody></table>\n</div>",
        );
    }
}
