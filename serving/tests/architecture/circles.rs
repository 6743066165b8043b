//! Files of a crate that import each other: none but a module and those inside it. Reads the `use` lines and
//! paths of the source as they are written, and follows names that a module has from another to where they
//! are defined; what a macro makes, and what `*` brings, is not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// A module by the names on the way to it; the crate's own root has none.
type Module = Vec<String>;

/// What each module has from others by `use`: the name there, and the path that it stands for.
type Imports<'a> = BTreeMap<&'a Module, BTreeMap<String, String>>;

/// Circles among the files below a crate's `src`, each as the paths of its modules in order.
pub(crate) fn circles(source: &Path) -> Vec<Vec<String>> {
    let mut texts = BTreeMap::new();
    read(source, &mut Vec::new(), &mut texts);
    let modules: BTreeSet<&Module> = texts.keys().collect();
    let names: Imports<'_> = texts.iter().map(|(module, text)| (module, names(text))).collect();
    let imports: BTreeMap<&Module, BTreeSet<&Module>> = texts
        .iter()
        .map(|(module, text)| {
            let named = paths(text).into_iter().filter_map(|path| file_of(&names, module, &path));
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

/// Source files by module, without what is behind `//`, and without their tests, which stand at the end.
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
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
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
    found.into_iter().map(|(path, _)| path).collect()
}

/// What a module has by `use`.
fn names(text: &str) -> BTreeMap<String, String> {
    let mut found = Vec::new();
    for line in text.match_indices("use ").filter(|(at, _)| is_statement(&text[..*at])) {
        spread(String::new(), &text[line.0 + "use ".len()..], &mut found);
    }
    found.into_iter().map(|(path, name)| (name, path)).collect()
}

/// Whether a statement may begin behind a text: `use`, or `pub(crate) use`.
fn is_statement(before: &str) -> bool {
    let line = before.rsplit(['\n', ';']).next().unwrap_or_default().trim();
    line.is_empty() || (line.starts_with("pub") && !line.contains(' '))
}

/// Reads the path that a text begins with, and the name that it has from there on; returns what is behind it.
fn spread<'a>(prefix: String, text: &'a str, found: &mut Vec<(String, String)>) -> &'a str {
    let text = text.trim_start();
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')).unwrap_or(text.len());
    let (path, mut rest) = (prefix + &text[..end], text[end..].trim_start());
    if !(path.ends_with("::") && rest.starts_with('{')) {
        let behind = rest.find([',', '}', ';']).map_or("", |at| &rest[at..]);
        // `self` is the module itself.
        let path = path.strip_suffix("::self").map(str::to_owned).unwrap_or(path);
        let own = path.rsplit("::").next().unwrap_or_default();
        let name = match rest.strip_prefix("as ") {
            Some(other) => other.split([',', '}', ';']).next().unwrap_or_default().trim(),
            None => own,
        };
        let name = name.to_owned();
        found.push((path, name));
        return behind;
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

/// The module in whose file a path's item is defined.
fn file_of<'a>(names: &Imports<'a>, from: &Module, path: &str) -> Option<&'a Module> {
    let mut place = place(names, from, path)?;
    // As many modules as a name may pass through.
    for _ in 0..8 {
        let length = (0..=place.len()).rev().find(|length| names.contains_key(&place[..*length].to_vec()))?;
        let (module, rest) = (place[..length].to_vec(), place[length..].to_vec());
        let (module, imports) = names.get_key_value(&module)?;
        let Some((first, rest)) = rest.split_first() else { return Some(module) };
        let elsewhere = imports.get(first).and_then(|path| self::place(names, module, path));
        let Some(elsewhere) = elsewhere else { return Some(module) };
        place = elsewhere.into_iter().chain(rest.iter().cloned()).collect();
    }
    None
}

/// A path from the crate's root on; none if it is of another crate.
fn place(names: &Imports<'_>, from: &Module, path: &str) -> Option<Module> {
    let mut place: Module = Vec::new();
    for (index, name) in path.split("::").filter(|name| !name.is_empty()).enumerate() {
        match name {
            "crate" => {}
            "self" if index == 0 => place.clone_from(from),
            "super" if index == 0 => place = from[..from.len().saturating_sub(1)].to_vec(),
            "super" => drop(place.pop()),
            // Without any of these: a module inside this one, or another crate.
            name if index == 0 => {
                place = [from.as_slice(), &[name.to_owned()]].concat();
                names.contains_key(&place).then_some(())?;
            }
            name => place.push(name.to_owned()),
        }
    }
    Some(place)
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
    // A name that a module has from one inside it, by another name, or from elsewhere.
    let handed = ("a/mod.rs", "mod x; mod y;\npub(crate) use x::{self as z, X};");
    let x = ("a/x.rs", "use crate::b::B;");
    check(&[root, handed, x, ("b.rs", "use crate::a::X;")], &[&["a/x", "b"]]);
    check(&[root, handed, x, ("b.rs", "use crate::a::z::X;")], &[&["a/x", "b"]]);
    check(&[root, handed, x, ("b.rs", "use crate::a::Y;")], &[]);
    // Tests may look anywhere.
    let tested = ("a/x.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::b::B;\n}");
    check(&[root, handed, tested, ("b.rs", "use crate::a::X;")], &[]);
    let passed = ("a/mod.rs", "pub use crate::b::B as C;");
    check(&[root, passed, ("b.rs", "use crate::c::D;"), ("c.rs", "use crate::a::C;")], &[&["b", "c"]]);
    // A parent's other children through one of its own: b needs what is in a, and a's part needs b.
    let (part, b) = (("a/part.rs", "use super::super::b::B;"), ("b.rs", "use crate::a::part::P;"));
    check(&[root, ("a/mod.rs", "mod part;"), part, b], &[&["a/part", "b"]]);
}
