//! What all pages have around them.

use std::fmt::Write;

use protocols::documents::DIALECTS;

use super::markdown::PAGES;
use super::text::inline;
use super::{STYLE_PATH, reference};

/// A page: its content beside the list of all.
pub(super) fn page(slug: &str, content: &str) -> String {
    let title = content.split("<h1").nth(1).and_then(|part| part.split_once('>')?.1.split("</h1>").next());
    let title = title.unwrap_or("Documentation");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} · ml-inference</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <link rel=\"stylesheet\" href=\"{STYLE_PATH}\"></head><body><nav><a class=\"home\" href=\"/docs\">ml-inference</a>{}\
         </nav><main>{content}<footer>ml-inference {}</footer></main></body></html>\n",
        navigation(slug),
        env!("CARGO_PKG_VERSION")
    )
}

/// Groups of pages: a heading, and slugs with their titles.
fn groups() -> Vec<(&'static str, Vec<(String, &'static str)>)> {
    let of = |is_guide: bool| {
        let pages = PAGES.iter().filter(move |page| page.slug.starts_with("migrating-") != is_guide);
        pages.map(|page| (page.slug.to_owned(), page.title))
    };
    let own = [(reference::slug(""), "REST reference"), ("errors".to_owned(), "Error codes")];
    let dialects = DIALECTS.iter().map(|dialect| (reference::slug(dialect.name), dialect.title));
    vec![
        ("Guide", of(true).chain(own).collect()),
        ("Coming from", of(false).collect()),
        ("Reference of dialects", dialects.collect()),
    ]
}

fn navigation(current: &str) -> String {
    let mut html = String::new();
    for (heading, pages) in groups() {
        let _ = write!(html, "<p>{heading}</p><ul>");
        for (slug, title) in pages {
            let mark = if slug == current { " aria-current=\"page\"" } else { "" };
            let _ = write!(html, "<li><a href=\"/docs/{slug}\"{mark}>{}</a></li>", inline(title));
        }
        html.push_str("</ul>");
    }
    html
}

/// The first page.
pub(super) fn index() -> String {
    let mut html = "<h1>ml-inference</h1><p>Text inference: classification, sentiment, entities, summaries, embeddings and \
        rerank, over REST and gRPC, and over the APIs of other servers, on one port.</p>"
        .to_owned();
    for (heading, pages) in groups() {
        let _ = write!(html, "<h2>{heading}</h2><ul>");
        for (slug, title) in pages {
            let _ = write!(html, "<li><a href=\"/docs/{slug}\">{}</a></li>", inline(title));
        }
        html.push_str("</ul>");
    }
    html.push_str("<h2>For programs</h2><ul><li><a href=\"/openapi.json\"><code>/openapi.json</code></a>: OpenAPI 3.1</li>");
    for dialect in DIALECTS {
        let path = format!("/openapi/{}.json", dialect.name);
        let _ =
            write!(html, "<li><a href=\"{path}\"><code>{path}</code></a>: {}</li>", inline(dialect.title));
    }
    html.push_str("<li>gRPC: reflection, beside the services</li></ul>");
    html
}
