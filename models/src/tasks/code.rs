//! Whether a line is of a program, as it looks by itself.

/// Share of its marks in a line of code.
const CODE_SHARE: f32 = 0.12;

/// What is typed into a shell, and what images are built by.
fn is_command(line: &str) -> bool {
    const PROGRAMS: [&str; 24] = [
        "apt", "brew", "cargo", "cat", "cd", "chmod", "cp", "curl", "docker", "git", "go", "grep", "kubectl",
        "ls", "mkdir", "node", "npm", "pip", "python", "python3", "rm", "ssh", "sudo", "wget",
    ];
    const STEPS: [&str; 9] = ["FROM", "RUN", "CMD", "COPY", "ENTRYPOINT", "WORKDIR", "EXPOSE", "ENV", "ARG"];
    let mut words = line.split_whitespace();
    let first = words.next().unwrap_or("");
    let is_option = |word: &str| {
        word.strip_prefix('-')
            .is_some_and(|name| name.starts_with(|c: char| c.is_ascii_lowercase() || c == '-'))
    };
    let has_argument =
        words.clone().any(|word| is_option(word) || word.contains("://") || word.starts_with('/'));
    let is_step = STEPS.contains(&first) && line.contains(|c: char| c.is_ascii_lowercase());
    (PROGRAMS.contains(&first) && has_argument)
        || (is_step && !line.ends_with(['.', '!', '?']))
        || (line.starts_with("PS ") && line.contains(":\\"))
}

/// A statement, as it looks by itself.
pub(super) fn is_code(line: &str) -> bool {
    const PRINTS: [&str; 8] = ["puts", "echo", "print", "printf", "say", "require", "include", "import"];
    const KEYWORDS: [&str; 49] = [
        "import ",
        "from ",
        "def ",
        "class ",
        "function ",
        "const ",
        "let ",
        "var ",
        "public ",
        "private ",
        "protected ",
        "static ",
        "return ",
        "return;",
        "fn ",
        "pub ",
        "use ",
        "impl ",
        "struct ",
        "enum ",
        "package ",
        "#include",
        "#define",
        "if (",
        "if(",
        "for (",
        "for(",
        "while (",
        "while(",
        "} else",
        "} catch",
        "try {",
        "elif ",
        "async ",
        "raise ",
        "throw ",
        "assert ",
        "yield ",
        "await ",
        "except ",
        "export ",
        "interface ",
        "namespace ",
        "func ",
        "local ",
        "val ",
        "auto ",
        "final ",
        "@",
    ];
    const QUERIES: [(&str, &str); 5] = [
        ("SELECT ", " FROM "),
        ("INSERT INTO ", "("),
        ("UPDATE ", " SET "),
        ("DELETE FROM ", ""),
        ("CREATE TABLE ", "("),
    ];
    let is_mark = |c: &char| {
        matches!(
            c,
            '{' | '}'
                | '['
                | ']'
                | '('
                | ')'
                | '='
                | '<'
                | '>'
                | ';'
                | '&'
                | '|'
                | '\\'
                | '$'
                | '_'
                | '+'
                | '*'
                | '`'
        )
    };
    // What is quoted may be a sentence.
    let (bare, is_quoting) = without_strings(line);
    let marks = bare.chars().filter(is_mark).count();
    let share = marks as f32 / bare.chars().count().max(1) as f32;
    let is_sentence = line.ends_with(['.', '!', '?']) && line.starts_with(|c: char| c.is_uppercase());
    let ends = line.ends_with(['{', '}', ';'])
        || line.ends_with("):")
        || line.ends_with("),")
        || line.ends_with("];")
        || line.ends_with("/>");
    let name = bare.split([' ', '(', '=', '[']).next().unwrap_or("");
    let is_name = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'$'));
    let rest = &bare[name.len()..];
    let assigns =
        is_name && [" = ", " := ", " += ", " == ", "=\"", "='"].iter().any(|sign| rest.starts_with(sign));
    let calls = is_name && rest.starts_with('(') && bare.ends_with(')') && !bare.contains(") ");
    let prints = is_quoting && PRINTS.contains(&name) && matches!(rest.trim_end_matches(';'), " \"" | " '");
    let has_keyword = KEYWORDS.iter().any(|word| line.starts_with(word));
    let is_statement = has_keyword
        && (ends
            || line.ends_with(':')
            || marks >= 2
            || bare.contains(" = ")
            || (line.starts_with("import ") && line.split(' ').count() <= 4));
    let is_import = line.starts_with("from ") && line.contains(" import ");
    let is_query = QUERIES.iter().any(|(verb, next)| line.starts_with(verb) && line.contains(next));
    let is_comment = line.starts_with("// ")
        || line.starts_with("/*")
        || line.starts_with("*/")
        || line.starts_with("#!/");
    let is_section = bare.starts_with('[')
        && bare.ends_with(']')
        && bare.contains(char::is_alphabetic)
        && !bare.contains(' ');
    let is_pair = bare.starts_with("\":") || (is_quoting && matches!(bare.as_str(), "\"" | "\","));
    !is_sentence
        && (matches!(
            line,
            "{" | "}" | "};" | "});" | "]" | "];" | ")" | ");" | "end" | "else:" | "pass" | "try:"
        ) || (share >= CODE_SHARE && marks >= 4)
            || (ends && share >= 0.75 * CODE_SHARE && marks >= 2)
            || line.ends_with('{')
            || line.starts_with("<?")
            || line.starts_with("?>")
            || line.starts_with("$ ")
            || is_command(line)
            || is_section
            || prints
            || assigns
            || calls
            || is_statement
            || is_import
            || is_query
            || is_comment
            || is_pair)
}

/// A line without what it quotes, of which the quotes stay; and whether it quotes anything.
fn without_strings(line: &str) -> (String, bool) {
    let mut bare = String::with_capacity(line.len());
    let mut quote = None;
    let mut before = ' ';
    let mut is_quoting = false;
    for c in line.chars() {
        match quote {
            Some(open) if c == open && before != '\\' => quote = None,
            Some(_) => {}
            // "don't" opens nothing.
            None if matches!(c, '"' | '\'') && !before.is_alphanumeric() => {
                quote = Some(c);
                is_quoting = true;
                bare.push(c);
            }
            None => bare.push(c),
        }
        before = if before == '\\' { ' ' } else { c };
    }
    // A quote that is not closed is none.
    if quote.is_some() { (line.to_owned(), false) } else { (bare, is_quoting) }
}
