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
    let (bare, _) = without_strings(line);
    (PROGRAMS.contains(&first) && has_argument && prose_words(&bare) == 0)
        || (is_step && !line.ends_with(['.', '!', '?']) && prose_words(&bare) == 0)
        || (line.starts_with("PS ") && line.contains(":\\"))
        || is_prompt(line)
}

/// `$ ls`, `root@host:~# ls`, `[anna@host ~]$ ls`; but not `$ 5 million`.
pub(super) fn is_prompt(line: &str) -> bool {
    if let Some(command) = line.strip_prefix("$ ") {
        let is_typed = command.starts_with(|c: char| c.is_ascii_lowercase() || matches!(c, '.' | '/' | '~'));
        return is_typed && !line.ends_with(['.', '!', '?']);
    }
    let mut words = line.split(' ');
    let first = words.next().unwrap_or("");
    // `anna@mac ~ % ls`, `C:\Users\anna>dir`
    let is_placed = first.contains('@')
        && words.next().is_some_and(|place| place.starts_with(['~', '/']))
        && words.next().is_some_and(|mark| matches!(mark, "%" | "$" | "#"));
    let is_of_windows = line.as_bytes().first().is_some_and(u8::is_ascii_uppercase)
        && line[1..].starts_with(":\\")
        && line.split_once('>').is_some_and(|(place, _)| !place.contains(". "));
    if is_placed || is_of_windows || line.strip_prefix(">>> ").is_some_and(is_code) {
        return true;
    }
    let is_of_shell = |prompt: &str| prompt.contains('@') && prompt.ends_with(['#', '$', '%']);
    (first.contains(':') && is_of_shell(first))
        || (line.starts_with('[')
            && line.split_once(']').is_some_and(|(place, rest)| {
                place.contains('@') && (rest.starts_with("$ ") || rest.starts_with("# "))
            }))
}

/// How many words of a line are such that programs seldom have them, and sentences often.
pub(super) fn prose_words(line: &str) -> usize {
    const WORDS: &str = " the an we you they he she these those their our your his her was were are has have had been will \
        would should must shall to at by with than about but ";
    let is_prose = |word: &&str| {
        let word = word.trim_matches([',', ';', ':', '(', ')']);
        !word.is_empty() && word.len() < 8 && WORDS.contains(&format!(" {word} "))
    };
    line.split_whitespace().filter(is_prose).count()
}

/// Marks of a line that prose has, too: brackets behind a blank and what closes them, pairs of marks of
/// emphasis, `$5`, `R&D`.
fn marks_of_prose(line: &str) -> usize {
    let mut open: Vec<bool> = Vec::new();
    let (mut count, mut emphasis) = (0, 0);
    let mut before = ' ';
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        let next = characters.peek().copied().unwrap_or(' ');
        match c {
            '(' | '[' => open.push(before.is_whitespace() || matches!(before, '(' | '[')),
            ')' | ']' if open.pop() == Some(true) => count += 2,
            '$' => count += usize::from(next.is_ascii_digit() || next.is_whitespace()),
            '+' => count += usize::from(before.is_whitespace() && next.is_ascii_digit()),
            '&' => count += usize::from(before.is_uppercase() && next.is_uppercase()),
            '*' | '_' | '`' => {
                let mut run = 1;
                while characters.next_if_eq(&c).is_some() {
                    run += 1;
                }
                let next = characters.peek().copied().unwrap_or(' ');
                let opens = !before.is_alphanumeric() && !next.is_whitespace();
                let closes = !before.is_whitespace() && !next.is_alphanumeric();
                if closes && emphasis == run {
                    (count, emphasis) = (count + 2 * run, 0);
                } else if opens {
                    emphasis = run;
                }
            }
            _ => {}
        }
        before = c;
    }
    count
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
    let marks = bare.chars().filter(is_mark).count().saturating_sub(marks_of_prose(&bare));
    let share = marks as f32 / bare.chars().count().max(1) as f32;
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
    // `@Override`, but not "@anna thanks (again)".
    let is_mention =
        line.starts_with('@') && line.contains(' ') && !line.split(' ').next().unwrap_or("").contains('(');
    let has_keyword = !is_mention && KEYWORDS.iter().any(|word| line.starts_with(word));
    let is_statement = has_keyword
        && (ends
            || (line.ends_with(':') && (marks > 0 || prose_words(&bare) == 0))
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
    // A line that is quoted as a whole may be what somebody said.
    let is_pair = bare.starts_with("\":") || (is_quoting && bare == "\",");
    let unmarked = line.trim_end_matches(['*', '_', '”', '’']);
    let begins = line.trim_start_matches(['*', '_', '“', '‘', '$', ' ', '(']).chars().next().unwrap_or(' ');
    let is_sentence = unmarked.ends_with(['.', '!', '?'])
        && (begins.is_uppercase()
            || (begins.is_alphanumeric() && !assigns && !bare.contains(['{', '}', '='])));
    let is_prose =
        prose_words(&bare) > 1 && !bare.contains(['{', '}', '=', '<', '>', '\\', '|']) && !is_query;
    // `\begin{table}`, `a & b \\`
    let is_of_latex = line.ends_with("\\\\")
        || line.strip_prefix('\\').is_some_and(|command| {
            command.starts_with(|c: char| c.is_ascii_lowercase()) && !command.contains(' ')
        });
    // A comment is one, whatever it says.
    is_comment
        || (!is_sentence && !is_prose)
            && (matches!(
                line,
                "{" | "}" | "};" | "});" | "]" | "];" | ")" | ");" | "end" | "else:" | "pass" | "try:"
            ) || (share >= CODE_SHARE && marks >= 4)
                || (ends && share >= 0.75 * CODE_SHARE && marks >= 2)
                || line.ends_with('{')
                || line.starts_with("<?")
                || line.starts_with("?>")
                || is_command(line)
                || is_of_latex
                || is_section
                || prints
                || assigns
                || calls
                || is_statement
                || is_import
                || is_query
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
