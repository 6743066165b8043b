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

/// What statements begin with, and sentences seldom.
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

/// A line that is asked whether it is of a program.
struct Line<'a> {
    text: &'a str,
    /// Without what it quotes, which may be a sentence.
    bare: String,
    is_quoting: bool,
    /// Marks that programs are full of.
    marks: usize,
    /// Their share of the characters.
    share: f32,
    /// Length of what may be a name at its beginning; 0 if it is none.
    name: usize,
}

/// A statement, as it looks by itself.
pub(super) fn is_code(line: &str) -> bool {
    let line = Line::new(line);
    // A comment is one, whatever it says.
    line.is_comment() || (!line.is_sentence() && !line.is_prose() && (line.is_marked() || line.is_worded()))
}

impl<'a> Line<'a> {
    fn new(text: &'a str) -> Self {
        let (bare, is_quoting) = without_strings(text);
        let marks = bare.chars().filter(is_mark).count().saturating_sub(marks_of_prose(&bare));
        let share = marks as f32 / bare.chars().count().max(1) as f32;
        let name = bare.split([' ', '(', '=', '[']).next().unwrap_or("");
        let is_name = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'$'));
        let name = if is_name { name.len() } else { 0 };
        Self { text, bare, is_quoting, marks, share, name }
    }

    /// Whether its marks say that it is code.
    fn is_marked(&self) -> bool {
        const WHOLE: [&str; 12] =
            ["{", "}", "};", "});", "]", "];", ")", ");", "end", "else:", "pass", "try:"];
        let line = self.text;
        WHOLE.contains(&line)
            || (self.share >= CODE_SHARE && self.marks >= 4)
            || (self.ends() && self.share >= 0.75 * CODE_SHARE && self.marks >= 2)
            || line.ends_with('{')
            || line.starts_with("<?")
            || line.starts_with("?>")
            || self.is_latex()
            || self.is_section()
            || self.is_pair()
    }

    /// Whether its words do.
    fn is_worded(&self) -> bool {
        let is_import = self.text.starts_with("from ") && self.text.contains(" import ");
        is_command(self.text)
            || self.is_call()
            || self.is_assignment()
            || self.is_statement()
            || is_import
            || self.is_query()
    }

    fn is_comment(&self) -> bool {
        ["// ", "/*", "*/", "#!/"].iter().any(|mark| self.text.starts_with(mark))
    }

    fn is_sentence(&self) -> bool {
        let unmarked = self.text.trim_end_matches(['*', '_', '”', '’']);
        let begins = self.text.trim_start_matches(['*', '_', '“', '‘', '$', ' ', '(']).chars().next();
        let begins = begins.unwrap_or(' ');
        let is_code = || self.is_assignment() || self.bare.contains(['{', '}', '=']);
        unmarked.ends_with(['.', '!', '?'])
            && (begins.is_uppercase() || (begins.is_alphanumeric() && !is_code()))
    }

    fn is_prose(&self) -> bool {
        let has_marks = self.bare.contains(['{', '}', '=', '<', '>', '\\', '|']);
        prose_words(&self.bare) > 1 && !has_marks && !self.is_query()
    }

    /// Whether it ends as statements do.
    fn ends(&self) -> bool {
        self.text.ends_with(['{', '}', ';'])
            || ["):", "),", "];", "/>"].iter().any(|end| self.text.ends_with(end))
    }

    fn is_statement(&self) -> bool {
        let line = self.text;
        // `@Override`, but not "@anna thanks (again)".
        let is_mention =
            line.starts_with('@') && line.split_once(' ').is_some_and(|(name, _)| !name.contains('('));
        !is_mention
            && KEYWORDS.iter().any(|word| line.starts_with(word))
            && (self.ends()
                || (line.ends_with(':') && (self.marks > 0 || prose_words(&self.bare) == 0))
                || self.marks >= 2
                || self.bare.contains(" = ")
                || (line.starts_with("import ") && line.split(' ').count() <= 4))
    }

    fn is_assignment(&self) -> bool {
        const SIGNS: [&str; 6] = [" = ", " := ", " += ", " == ", "=\"", "='"];
        self.name > 0 && SIGNS.iter().any(|sign| self.bare[self.name..].starts_with(sign))
    }

    /// `run(1)`, `puts "…"`
    fn is_call(&self) -> bool {
        const PRINTS: [&str; 8] = ["puts", "echo", "print", "printf", "say", "require", "include", "import"];
        let (name, rest) = self.bare.split_at(self.name);
        let has_arguments = self.name > 0 && rest.starts_with('(') && rest.ends_with(')');
        let prints = PRINTS.contains(&name) && matches!(rest.trim_end_matches(';'), " \"" | " '");
        (has_arguments && !self.bare.contains(") ")) || (self.is_quoting && prints)
    }

    fn is_query(&self) -> bool {
        const QUERIES: [(&str, &str); 5] = [
            ("SELECT ", " FROM "),
            ("INSERT INTO ", "("),
            ("UPDATE ", " SET "),
            ("DELETE FROM ", ""),
            ("CREATE TABLE ", "("),
        ];
        QUERIES.iter().any(|(verb, next)| self.text.starts_with(verb) && self.text.contains(next))
    }

    /// `[package]`
    fn is_section(&self) -> bool {
        let bare = &self.bare;
        bare.starts_with('[')
            && bare.ends_with(']')
            && bare.contains(char::is_alphabetic)
            && !bare.contains(' ')
    }

    /// `"name": "value",` A line that is quoted as a whole may be what somebody said.
    fn is_pair(&self) -> bool {
        self.bare.starts_with("\":") || (self.is_quoting && self.bare == "\",")
    }

    /// `\begin{table}`, `a & b \\`
    fn is_latex(&self) -> bool {
        self.text.ends_with("\\\\")
            || self.text.strip_prefix('\\').is_some_and(|command| {
                command.starts_with(|c: char| c.is_ascii_lowercase()) && !command.contains(' ')
            })
    }
}

fn is_mark(c: &char) -> bool {
    "{}[]()=<>;&|\\$_+*`".contains(*c)
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
