//! Files of a crate that import each other: none but a module and those inside it. Reads the `use` lines and
//! paths of the source as they are written; what a macro makes is not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A module by the names on the way to it; the crate's own root has none.
type Module = Vec<String>;

/// Circles among the files below a crate's `src`, each as the paths of its modules in order.
pub(crate) fn circles(source: &Path) -> Vec<Vec<String>> {
    let mut texts = BTreeMap::new();
    read(source, &mut Vec::new(), &mut texts);
    let modules: BTreeSet<&Module> = texts.keys().collect();
    let imports: BTreeMap<&Module, BTreeSet<&Module>> = texts
        .iter()
        .map(|(module, text)| {
            let named = paths(text).into_iter().filter_map(|path| file_of(&modules, module, &path));
            (module, named.filter(|other| !is_around(module, other) && !is_around(other, module)).collect())
        })
        .collect();
    let mut circles = Vec::new();
    let mut seen = BTreeSet::new();
    for module in &modules {
        let circle: Vec<&Module> = reached(&imports, module)
            .into_iter()
            .filter(|other| reached(&imports, other).contains(module))
            .collect();
        if circle.contains(module) && seen.insert(circle[0]) {
            circles.push(circle.iter().map(|module| module.join("/")).collect());
        }
    }
    circles
}

/// Source files by module, without what is behind `//`.
fn read(folder: &Path, within: &mut Module, texts: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        within.push(name.clone());
        if path.is_dir() {
            read(&path, within, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let is_of_folder = name == "mod" || (name == "lib" && within.len() == 1);
            let module = if is_of_folder { &within[..within.len() - 1] } else { &within[..] };
            let text = fs::read_to_string(&path).unwrap();
            let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
            texts.insert(module.to_vec(), lines.collect::<Vec<_>>().join("\n"));
        }
        within.pop();
    }
}

/// Paths that begin with `crate` or `super`, those of `use` with braces one by one.
fn paths(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for start in ["crate::", "super::"].iter().flat_map(|start| text.match_indices(start)) {
        let (at, _) = start;
        // In the middle of `super::super::` it has been read already; of `some_crate::` it is no path of
        // ours.
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        spread(String::new(), &text[at..], &mut found);
    }
    found
}

/// Reads the path that a text begins with; returns what is behind it.
fn spread<'a>(prefix: String, text: &'a str, found: &mut Vec<String>) -> &'a str {
    let text = text.trim_start();
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let (path, mut rest) = (prefix + &text[..end], text[end..].trim_start());
    if !(path.ends_with("::") && rest.starts_with('{')) {
        found.push(path);
        // `name as other`
        return rest.find([',', '}', ';']).map_or("", |at| &rest[at..]);
    }
    loop {
        rest = rest[1..].trim_start();
        if !rest.starts_with('}') {
            rest = spread(path.clone(), rest, found);
        }
        match rest.chars().next() {
            Some(',') => {}
            Some('}') => return rest[1..].trim_start(),
            _ => return rest,
        }
    }
}

/// The module in whose file a path's item is.
fn file_of<'a>(modules: &BTreeSet<&'a Module>, from: &Module, path: &str) -> Option<&'a Module> {
    let mut place: Module = Vec::new();
    for (index, name) in path.split("::").filter(|name| !name.is_empty()).enumerate() {
        match name {
            "crate" => {}
            "super" if index == 0 => place = from[..from.len().saturating_sub(1)].to_vec(),
            "super" => drop(place.pop()),
            name => place.push(name.to_owned()),
        }
    }
    (0..=place.len()).rev().find_map(|length| modules.get(&place[..length].to_vec()).copied())
}

/// Whether a module is another, or around it.
fn is_around(outer: &Module, inner: &Module) -> bool {
    inner.starts_with(outer)
}

/// Modules whose files a module's file needs, directly or not.
fn reached<'a>(
    imports: &BTreeMap<&'a Module, BTreeSet<&'a Module>>,
    from: &'a Module,
) -> BTreeSet<&'a Module> {
    let mut reached = BTreeSet::new();
    let mut next: Vec<&Module> = imports[from].iter().copied().collect();
    while let Some(module) = next.pop() {
        if reached.insert(module) {
            next.extend(&imports[module]);
        }
    }
    reached
}

#[test]
fn circles_are_found() {
    let check = |files: &[(&str, &str)], expected: &[&[&str]]| {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        assert_eq!(circles(folder.path()), expected, "{files:?}");
    };
    let root = ("lib.rs", "mod a; mod b; mod c;");
    check(&[root, ("a.rs", "use crate::b::X;"), ("b.rs", "use crate::a::Y;")], &[&["a", "b"]]);
    check(&[root, ("a.rs", "use crate::b::X;"), ("b.rs", "// use crate::a::Y;")], &[]);
    // Over a third, in braces, over lines, by a path in the code, with another name.
    let a = ("a.rs", "use crate::{\n    c,\n    b::{self as other, X},\n};");
    check(&[root, a, ("b.rs", "fn f() { super::c::g() }"), ("c.rs", "use crate::a;")], &[&["a", "b", "c"]]);
    // A module and those inside it, and a crate of a like name, are none.
    check(&[root, ("a/mod.rs", "use inner::X;"), ("a/inner.rs", "use super::Y; use my_crate::a::Z;")], &[]);
    // Of those inside a module, one imports the other and is imported.
    let inner =
        [("a/mod.rs", "mod x; mod y;"), ("a/x.rs", "use super::y::Y;"), ("a/y.rs", "use super::x::X;")];
    check(&[&[root], &inner[..]].concat(), &[&["a/x", "a/y"]]);
    // A parent's other children through one of its own: b needs what is in a, and a's part needs b.
    let (part, b) = (("a/part.rs", "use super::super::b::B;"), ("b.rs", "use crate::a::part::P;"));
    check(&[root, ("a/mod.rs", "mod part;"), part, b], &[&["a/part", "b"]]);
}
