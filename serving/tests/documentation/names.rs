//! Links, paths, commands, fields, routes and metrics that documents name exist.

use std::collections::BTreeSet;

use clap::Parser;
use clap::error::ErrorKind;
use serving::cli::Cli;

use crate::configuration;
use crate::markdown::{Document, document, documents};
use crate::root;
use crate::source::{definitions, rust_files};

#[test]
fn links_lead_somewhere() {
    for page in documents() {
        for (line, link) in page.links() {
            if link.contains("://") {
                continue;
            }
            let (path, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let place = page.place(line);
            let target = page.path.parent().unwrap().join(path);
            let target = if path.is_empty() { page.path.clone() } else { target };
            assert!(target.exists(), "{place}: nothing is at {link}");
            if !anchor.is_empty() {
                let target = target.canonicalize().unwrap();
                let target = document(target.strip_prefix(root()).unwrap().to_str().unwrap());
                assert!(target.anchors().contains(&anchor.to_owned()), "{place}: no heading is {link}");
            }
        }
    }
}

/// Folders at the top whose files documents name.
const FOLDERS: [&str; 10] = [
    "batching/",
    "models/",
    "router/",
    "serving/",
    "benches/",
    "scripts/",
    "model-cards/",
    "deploy/",
    "docs/",
    ".ci/",
];

#[test]
fn paths_exist() {
    let mut count = 0;
    for page in documents() {
        for (line, span) in page.spans() {
            let is_path = FOLDERS.iter().any(|folder| span.starts_with(folder));
            if !is_path || span.contains(['<', '*', ' ', '{']) || span.starts_with("ml-inference/kafka") {
                continue;
            }
            count += 1;
            assert!(root().join(&span).exists(), "{}: there is no {span}", page.place(line));
        }
    }
    for crate_name in ["batching", "models", "router", "serving"] {
        let text = std::fs::read_to_string(root().join(crate_name).join("src/lib.rs")).unwrap();
        for line in text.lines().filter(|line| line.starts_with("//!")) {
            for span in line.split('`').skip(1).step_by(2) {
                let is_path = FOLDERS.iter().any(|folder| span.starts_with(folder)) && !span.contains('<');
                let path = match span.starts_with("test_") && span.ends_with(".py") {
                    true => format!("serving/tests/clients/{span}"),
                    false if is_path => span.to_owned(),
                    false => continue,
                };
                count += 1;
                assert!(root().join(&path).exists(), "{crate_name}/src/lib.rs: there is no {path}");
            }
        }
    }
    assert!(count > 80, "only {count} paths were found");
}

/// Commands that documents show: lines of consoles, and spans of prose.
fn commands(page: &Document) -> Vec<String> {
    let consoles = page.blocks.iter().filter(|(language, _)| language == "console");
    let typed = consoles.flat_map(|(_, lines)| lines).filter_map(|line| line.strip_prefix("$ "));
    let typed = typed.map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned());
    typed.chain(page.spans().into_iter().map(|(_, span)| span)).collect()
}

#[test]
fn make_targets_exist() {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    let mut count = 0;
    for page in documents() {
        for command in commands(&page) {
            let Some(target) = command.strip_prefix("make ") else { continue };
            count += 1;
            let rule = format!("\n{target}:");
            assert!(makefile.contains(&rule), "{}: there is no make {target}", page.path.display());
        }
    }
    assert!(count > 10, "only {count} targets were found");
}

#[test]
fn commands_are_understood() {
    let mut count = 0;
    for page in documents() {
        for command in commands(&page) {
            let words = words(&command);
            if words.first().is_none_or(|word| word != "ml-inference")
                || words.len() == 1
                || command.contains('|')
            {
                continue;
            }
            count += 1;
            let Err(error) = Cli::try_parse_from(&words) else { continue };
            // Prose names a command without its arguments.
            let is_whole = matches!(
                error.kind(),
                ErrorKind::MissingRequiredArgument
                    | ErrorKind::MissingSubcommand
                    | ErrorKind::DisplayHelp
                    | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            );
            assert!(is_whole, "{}: {command}: {error}", page.path.display());
        }
    }
    assert!(count > 15, "only {count} commands were found");
}

/// A line as a shell splits it, as far as documents need it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for letter in line.chars() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '"' | '\'') => quote = Some(letter),
            (None, ' ') => words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty())),
            _ => word.push(letter),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words
}

#[test]
fn fields_of_the_configuration_exist() {
    let paths: BTreeSet<_> = configuration::paths().into_iter().collect();
    let sections: BTreeSet<_> = paths.iter().filter_map(|path| Some(path.split_once('.')?.0)).collect();
    let mut count = 0;
    let pages = documents().into_iter().filter(|page| !page.path.ends_with("configuration.md"));
    for page in pages {
        for (line, span) in page.spans() {
            let name = span.split(" = ").next().unwrap().trim_matches(['[', ']']);
            let is_name = name.split('.').all(|part| {
                part.starts_with('<')
                    || (!part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
            });
            let is_section = span.starts_with('[') && sections.contains(name);
            let Some((first, _)) = name.split_once('.').filter(|_| is_name) else {
                count += usize::from(is_section);
                continue;
            };
            // A card has limits too.
            if !sections.contains(first)
                || ["limits.inputs_max", "limits.tokens_max", "limits.document_tokens_max"].contains(&name)
            {
                continue;
            }
            count += 1;
            let is_known = paths.contains(name) || (first == "defaults" && name == "defaults.<task>");
            assert!(is_known, "{}: the configuration has no {name}", page.place(line));
        }
    }
    assert!(count > 12, "only {count} fields were found");
}

#[test]
fn configurations_are_read() {
    let mut count = 0;
    for page in documents() {
        for (_, lines) in page.blocks.iter().filter(|(language, _)| language == "toml") {
            count += 1;
            let text = lines.join("\n");
            let read = toml::from_str::<serving::config::Config>(&text);
            assert!(read.is_ok(), "{}: {text}\n{}", page.path.display(), read.unwrap_err());
        }
    }
    assert!(count > 4, "only {count} configurations were found");
}

/// Texts in quotes behind one of these beginnings, in the source of a folder.
fn literals(folder: &str, beginnings: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in rust_files(&root().join(folder)) {
        let text = std::fs::read_to_string(path).unwrap();
        // Tests below the code have literals of their own.
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for beginning in beginnings {
            for part in text.split(beginning).skip(1) {
                let literal = part.trim_start().strip_prefix('"').and_then(|part| part.split('"').next());
                found.extend(literal.map(str::to_owned));
            }
        }
    }
    found
}

/// First columns of the tables of a page that hold names that begin so.
fn tabled(page: &str, beginning: &str) -> BTreeSet<String> {
    let page = document(page);
    let rows = page.prose.iter().filter(|(_, text)| text.starts_with('|')).map(|(_, text)| text.as_str());
    let names = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    names.filter(|name| name.starts_with(beginning)).map(str::to_owned).collect()
}

#[test]
fn routes_are_those_of_the_routers() {
    let mut routes = literals("serving/src", &[".route(", "_PATH: &str ="]);
    for of in ["api", "protocols"] {
        routes.extend(literals(&format!("serving/{of}/src"), &[".route(", "_PATH: &str ="]));
    }
    routes.retain(|route| route.starts_with('/'));
    assert!(routes.len() > 20, "the routes were not found: {routes:?}");
    let mut documented = tabled("docs/api.md", "/");
    documented.extend(tabled("docs/operations.md", "/"));
    documented.extend(tabled("docs/dialects.md", "/"));
    assert_eq!(documented, routes, "left: documented, right: in the code");
}

#[test]
fn fields_of_cards_are_those_of_the_code() {
    let code: BTreeSet<_> = definitions()["Manifest"].fields.iter().map(|field| field.name.clone()).collect();
    let page = document("docs/models.md");
    let rows = page.prose.iter().filter_map(|(_, text)| text.strip_prefix("| `"));
    let names = rows.flat_map(|row| row.split(" | ").next().unwrap_or_default().split("`, `"));
    let mut documented: BTreeSet<_> = names.map(|name| name.trim_matches('`').to_owned()).collect();
    documented.remove("ml_inference");
    // In the row of the target that it makes hard.
    documented.insert("p99_target_is_deadline".to_owned());
    assert_eq!(documented, code, "left: documented, right: in the code");
}

#[test]
fn parameters_of_routes_are_documented() {
    let page: BTreeSet<_> = document("docs/api.md").spans().into_iter().map(|(_, span)| span).collect();
    let mut count = 0;
    let mut check = |fields: &str, end: &str| {
        for line in fields.lines().map(str::trim).filter(|line| line.ends_with(',')) {
            let name = line.split(':').next().unwrap_or_default();
            if line.contains(end) && name.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                count += 1;
                assert!(page.contains(name), "docs/api.md lacks the parameter {name}");
            }
        }
    };
    // `top_k: Option<usize> = None,`, of each task.
    let tasks = std::fs::read_to_string(root().join("models/core/src/tasks/parameters.rs")).unwrap();
    check(tasks.split("macro_rules! define").next().unwrap(), " = ");
    // `priority: Option<Name<WirePriority>>,`, of every route, and what one route has for itself.
    let wire = std::fs::read_to_string(root().join("serving/protocols/src/v1/rest/wire.rs")).unwrap();
    let shared = wire.split("$($own: Option<$own_type>,)?").nth(1).and_then(|part| part.split('}').next());
    check(shared.unwrap(), ": Option<");
    for own in wire.split("with_parameters!(").skip(1).filter_map(|part| part.split(");").next()) {
        if let Some(name) = own.split('{').nth(1).and_then(|own| own.split(':').next()).map(str::trim)
            && name != "}"
        {
            count += 1;
            assert!(page.contains(name), "docs/api.md lacks the parameter {name}");
        }
    }
    assert!(count > 15, "only {count} parameters were found");
}

#[test]
fn metrics_are_those_of_the_code() {
    let mut documented = tabled("docs/metrics.md", "ml_inference_");
    // Of alerts the names alone.
    documented.retain(|name| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    let registered = literals("serving/src/telemetry", &["register(", "register_with_unit("]);
    let bare = |name: &str| {
        let suffixes = ["_total", "_seconds", "_bytes", "_ratios", "_info"];
        let short = suffixes.iter().find_map(|suffix| name.strip_suffix(suffix));
        short.unwrap_or(name).to_owned()
    };
    for name in &registered {
        let is_documented = documented
            .iter()
            .any(|full| [full.clone(), bare(full)].iter().any(|full| full.ends_with(&format!("_{name}"))));
        assert!(is_documented, "docs/metrics.md lacks {name}");
    }
    assert!(registered.len() > 40, "the metrics were not found");
    let source: String = rust_files(&root().join("serving/src/telemetry"))
        .iter()
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    for full in &documented {
        let parts: Vec<_> = full.split('_').collect();
        let is_there = (2..parts.len()).any(|start| {
            let end = parts[start..].join("_");
            [end.clone(), bare(&end)].iter().any(|name| source.contains(&format!("\"{name}\"")))
        });
        assert!(is_there, "docs/metrics.md: {full} is not in the code");
    }
}

#[test]
fn metrics_of_other_servers_are_those_of_the_code() {
    let makers = ["Synonym::counter(", "Synonym::gauge(", "Synonym::histogram("];
    let made = literals("serving/src/telemetry", &makers);
    let mut documented = tabled("docs/metrics.md", "te_");
    documented.extend(tabled("docs/metrics.md", "nv_"));
    assert_eq!(documented, made, "left: documented, right: in the code");
}

#[test]
fn names_in_the_picture_exist() {
    let page = document("ARCHITECTURE.md");
    let (_, picture) = page.blocks.iter().find(|(language, _)| language == "mermaid").expect("a picture");
    let mut count = 0;
    for line in picture {
        // Labels are in quotes: `serving["serving"]`, `a["pipeline · Exchange"]`.
        for label in line.split('"').skip(1).step_by(2) {
            for name in label.split(['·', ' ', '/']).filter(|name| !name.is_empty()) {
                count += 1;
                assert!(
                    is_in_the_source(name),
                    "ARCHITECTURE.md: {name} is neither a crate, a module nor a type"
                );
            }
        }
    }
    assert!(count > 25, "only {count} names were found");
}

fn is_in_the_source(name: &str) -> bool {
    let crates = ["batching", "models", "router", "serving", "benches"];
    crates.contains(&name)
        || crates.iter().any(|of| {
            let inner =
                ["src", "core", "runtimes", "api", "protocols"].map(|folder| root().join(of).join(folder));
            let files = inner.iter().filter(|folder| folder.exists()).flat_map(|folder| rust_files(folder));
            let root = root();
            files.into_iter().any(|path| {
                // A module, or a folder of modules or crates.
                let inside = path.strip_prefix(&root).unwrap_or(&path);
                let is_module = path.file_stem().is_some_and(|stem| stem == name)
                    || inside.iter().any(|part| part == name);
                let declares = || {
                    let text = std::fs::read_to_string(&path).unwrap();
                    ["struct", "enum", "trait"].iter().any(|kind| {
                        text.match_indices(&format!("{kind} {name}")).any(|(start, found)| {
                            !text[start + found.len()..]
                                .starts_with(|c: char| c.is_alphanumeric() || c == '_')
                        })
                    })
                };
                is_module || declares()
            })
        })
}

#[test]
fn documents_stay_short_and_narrow() {
    let words =
        |page: &Document| page.prose.iter().map(|(_, text)| text.split_whitespace().count()).sum::<usize>();
    assert!(words(&document("ARCHITECTURE.md")) < 1500);
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    assert!(readme.lines().count() <= 120, "README.md is long: depth belongs into docs/");
    for page in documents() {
        for (line, text) in &page.prose {
            let is_free = text.starts_with(['|', '<', '!']) || text.contains("](");
            assert!(is_free || text.chars().count() <= 110, "{}: more than 110 columns", page.place(*line));
        }
    }
}

/// Comments wrap as code does; rustfmt leaves them as they are.
#[test]
fn comments_are_narrow() {
    let mut count = 0;
    for folder in FOLDERS {
        for path in rust_files(&root().join(folder)) {
            let text = std::fs::read_to_string(&path).unwrap();
            for (index, line) in
                text.lines().enumerate().filter(|(_, line)| line.trim_start().starts_with("//"))
            {
                count += 1;
                let place = format!("{}:{}", path.display(), index + 1);
                assert!(line.chars().count() <= 110, "{place}: more than 110 columns");
            }
        }
    }
    assert!(count > 5000, "comments are found: {count}");
}
