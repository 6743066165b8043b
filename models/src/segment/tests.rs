#![allow(clippy::unwrap_used)]

use std::cell::Cell;

use proptest::prelude::*;

use super::*;

mod lists;

thread_local! { pub(super) static VISITED: Cell<usize> = const { Cell::new(0) }; }

/// Texts with right answers: see the head of the file.
const CASES: &str = include_str!("cases.txt");
const MORE_CASES: &str = include_str!("tests/prefixes_and_law.txt");
const CHAT_CASES: &str = include_str!("tests/times_and_chats.txt");

/// Each text of a table with its sentences.
fn cases(table: &str) -> Vec<(String, Vec<String>)> {
    let lines = table.lines().filter(|line| !line.is_empty() && !line.starts_with("//"));
    let case = |line: &str| {
        let line = line.replace('⏎', "\n").replace('→', "\t");
        let expected = line.split('¦').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty());
        (line.replace("¦ \n", "\n").replace(" ¦ ", " ").replace('¦', ""), expected.collect())
    };
    lines.map(case).collect()
}

fn cells_at_once(text: &str) -> Cells {
    crate::pool::complete(Cells::of(text, Plain::of(text), &Pace::at_once()))
}

fn found(text: &str) -> Vec<&str> {
    sentences_at_once(text).into_iter().map(|range| &text[range]).collect()
}

/// With all white space folded, so that texts may be compared however their lines were broken.
fn folded(text: &str) -> Vec<String> {
    found(text).into_iter().map(|part| part.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn table() {
    for (table, least) in [(CASES, 150), (MORE_CASES, 80), (CHAT_CASES, 160)] {
        let cases = cases(table);
        assert!(cases.len() >= least, "{}", cases.len());
        for (text, expected) in &cases {
            assert_eq!(found(text), *expected, "{text:?}");
        }
    }
}

#[test]
fn blank_texts_have_no_sentences() {
    for text in ["", " \n\t ", "\r\n\r\n", "\u{2028}", "\u{c}"] {
        assert!(found(text).is_empty(), "{text:?}");
    }
}

/// Rows of the table that are one line of prose.
fn prose() -> Vec<String> {
    let is_plain = |text: &String| {
        text.ends_with(['.', '!', '?'])
            && text.starts_with(|c: char| c.is_uppercase())
            && text.is_ascii()
            && !text.contains(['\n', '\t', '<', '*', '|'])
    };
    cases(CASES).into_iter().map(|(text, _)| text).filter(is_plain).collect()
}

/// Breaks lines at spaces, so that none is longer than `width` unless a word is.
fn wrapped(text: &str, width: usize, line_break: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            // The second of two spaces is none at the end of a line.
            _ if word.is_empty() => {}
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join(line_break)
}

#[test]
fn wrapped_lines_read_on() {
    let prose = prose();
    assert!(prose.len() > 80, "{}", prose.len());
    for text in &prose {
        for width in 20..=100 {
            for line_break in ["\n", "\r\n"] {
                let wrapped = wrapped(text, width, line_break);
                assert_eq!(folded(&wrapped), folded(text), "{width}: {wrapped:?}");
            }
        }
    }
}

/// Citations, phrases that say when, and chats read on over the ends of lines, in columns that they fit into.
#[test]
fn wrapped_citations_read_on() {
    let (citations, chats) = (cases(MORE_CASES), cases(CHAT_CASES));
    let is_prose = |text: &&String| text.starts_with(char::is_uppercase) && !text.contains(['\n', ':']);
    let citations = citations.iter().map(|(text, _)| text).filter(is_prose);
    let chats = chats.iter().map(|(text, _)| text).filter(|text| !text.contains('\n'));
    assert!(citations.clone().count() > 50);
    for text in citations.chain(chats) {
        for width in 40..=100 {
            let wrapped = wrapped(text, width, "\n");
            assert_eq!(folded(&wrapped), folded(text), "{width}: {wrapped:?}");
        }
    }
}

/// In capitals a text has the sentences that it has in small letters, or those of the text as it is.
#[test]
fn capitals() {
    let check = |text: &str, expected: &[&str]| assert_eq!(found(text), expected, "{text:?}");
    check(
        "THE FIRM SOLD BONDS IN THE U.S. LAST YEAR. IT PLANS MORE.",
        &["THE FIRM SOLD BONDS IN THE U.S. LAST YEAR.", "IT PLANS MORE."],
    );
    check(
        "NORTHERN STEEL CO. ANNOUNCED RESULTS. THEY ARE GOOD.",
        &["NORTHERN STEEL CO. ANNOUNCED RESULTS.", "THEY ARE GOOD."],
    );
    check(
        "ANNA BERG, PH.D. JOINS THE BOARD OF NORD LTD. TODAY.",
        &["ANNA BERG, PH.D. JOINS THE BOARD OF NORD LTD. TODAY."],
    );
    check("SHE WORKS FOR YAHOO! IN OSLO.", &["SHE WORKS FOR YAHOO! IN OSLO."]);
    check("\"THIS IS GREAT.\" SHE SAID.", &["\"THIS IS GREAT.\" SHE SAID."]);
    check("HE CAME (AS AN ENGINEER.) AT NOON WE LEFT.", &["HE CAME (AS AN ENGINEER.) AT NOON WE LEFT."]);
    check("MADE IN THE U.S.A. BY HAND.", &["MADE IN THE U.S.A. BY HAND."]);
    check(
        "THE SHIP SAILED. THE CREW SLEPT. NOBODY KNEW WHY!",
        &["THE SHIP SAILED.", "THE CREW SLEPT.", "NOBODY KNEW WHY!"],
    );
    // Without capitals "in Feb. it was" may be two sentences; most texts are read as they are.
    let is_same = |text: &String| {
        let expected: Vec<String> = found(text).iter().map(|part| part.to_uppercase()).collect();
        found(&text.to_uppercase()) == expected
    };
    let (prose, right) = (prose(), prose().iter().filter(|text| is_same(text)).count());
    assert!(right * 5 >= prose.len() * 4, "{right} of {}", prose.len());
}

/// What looked like an item of a list, a title or a field, but was only where a line happened to begin.
#[test]
fn words_at_the_start_of_a_line() {
    let check = |text: &str, expected: usize| assert_eq!(found(text).len(), expected, "{text:?}");
    check(
        "The last engine that they built for the railways was No.\n8 and it was sold in May of that year.",
        1,
    );
    check(
        "The last engine that was built for the railways is engine\n#8 and it was sold in the May of that year.",
        1,
    );
    check(
        "The harbour handled as many as fourteen ships on the day\n3. That was a record, and it was not broken since.",
        2,
    );
    check(
        "The board met in Oslo and agreed on a plan for Norway and\nDenmark: the new line will open in the spring.",
        1,
    );
    // But these were meant.
    check("We agreed on what to do next year:\n3. Sell the ship.\n4. Buy another.", 3);
    check("Plan for the coming year and for the one that follows it\n- sell the ship\n- buy another", 3);
    check("#1 of all\n# Title\nText", 3);
    check("It is small.\n```console\nls -la\n```\nThe next call is free.", 5);
}

proptest! {
    /// Whatever the text: in order, trimmed, on character boundaries, and nothing but white space is lost.
    #[test]
    fn everything_is_in_a_sentence(
        text in "([a-zA-Z0-9 .,!?\"'()\n\r>*#:|\t\u{2028}\u{c}。！《》é🎉\u{301}-]|Dr\\.|</p>|\\. \\. \\.|\\PC){0,80}"
    ) {
        let found = sentences_at_once(&text);
        let mut end = 0;
        for range in &found {
            prop_assert!(range.start >= end && !range.is_empty());
            prop_assert!(text[end..range.start].trim().is_empty());
            prop_assert_eq!(text[range.clone()].trim(), &text[range.clone()]);
            end = range.end;
        }
        prop_assert!(text[end..].trim().is_empty());
        let Cells { ends, read, plain, .. } = cells_at_once(&text);
        prop_assert!(ends.windows(2).all(|pair| pair[0] < pair[1]), "{:?}", ends);
        prop_assert!(ends.iter().all(|end| text.is_char_boundary(*end)));
        for other in [read, plain].into_iter().flatten() {
            prop_assert_eq!(other.len(), text.len());
            prop_assert!(text.char_indices().all(|(at, _)| other.is_char_boundary(at)));
        }
    }

    /// A paragraph has the same sentences however it is wrapped; in columns narrower than this a line may
    /// begin as an item does: "(d)".
    #[test]
    fn width_does_not_matter(rows in prop::collection::vec(any::<prop::sample::Index>(), 1..6), width in 33usize..100) {
        let prose = prose();
        let rows: Vec<&str> = rows.iter().map(|row| row.get(&prose).as_str()).collect();
        let text = rows.join(" ");
        prop_assert_eq!(folded(&wrapped(&text, width, "\n")), folded(&text));
    }

    /// Typists put two spaces behind a full stop; wrapped or not, the sentences are the same.
    #[test]
    fn double_spaces_do_not_matter(
        rows in prop::collection::vec(any::<prop::sample::Index>(), 1..6),
        ends in prop::collection::vec(any::<bool>(), 64),
        width in 33usize..100,
    ) {
        let prose = prose();
        let rows: Vec<&str> = rows.iter().map(|row| row.get(&prose).as_str()).collect();
        let text = rows.join(" ");
        let mut ends = ends.into_iter().cycle();
        let mut doubled = String::new();
        for word in text.split(' ') {
            let is_doubled = word.ends_with(['.', '!', '?']) && ends.next() == Some(true);
            doubled.push_str(word);
            doubled.push_str(if is_doubled { "  " } else { " " });
        }
        let doubled = doubled.trim_end();
        prop_assert_eq!(folded(doubled), folded(&text));
        prop_assert_eq!(folded(&wrapped(doubled, width, "\n")), folded(&text));
    }

    /// What stands before a paragraph, as quotes and speakers do, does not change where sentences end.
    #[test]
    fn prefixes_do_not_matter(
        row in any::<prop::sample::Index>(),
        prefix in prop::sample::select(vec!["> ", "- ", "* ", "• ", "# ", ">> ", "[10:02] anna: ", "Anna: ", "| "])
    ) {
        let prose = prose();
        let text = row.get(&prose);
        let mut found = folded(&format!("{prefix}{text}"));
        let first = found.first_mut().unwrap();
        *first = first.strip_prefix(prefix.trim_start()).unwrap_or(first).to_owned();
        prop_assert_eq!(found, folded(text));
    }

    /// A sentence depends on its own paragraph only.
    #[test]
    fn paragraphs_do_not_meddle(
        left in "([a-zA-Z0-9 .,!?\n>#:-]|Dr\\.|Anna|the ){0,60}", right in "([a-zA-Z0-9 .,!?\n>#:-]|Inc\\.|Oslo|and ){0,60}"
    ) {
        let both = format!("{left}\n\n{right}");
        prop_assert_eq!(found(&both), [found(&left), found(&right)].concat());
    }
}

/// The work is proportional to the text: a text of twice the size takes twice the work, whatever it is made
/// of.
#[test]
fn work_is_linear() {
    let visited = |text: &str| {
        counted(|| {
            sentences_at_once(text);
            cells_at_once(text);
        })
    };
    let shapes = [
        "... # ",
        "#",
        ". ",
        "\n",
        "(",
        "a.b.",
        "😡",
        "e\u{301}",
        "\u{301}",
        "Mr. ",
        "x",
        "word ",
        "! ",
        "A. ",
        "\"",
        ".\" ",
        "。",
        "《",
        "》",
        "> ",
        "a\n",
        "A\n",
        "1. ",
        "• ",
        "<p>",
        "</p>",
        "<",
        ">",
        "[1]",
        "\t",
        "|",
        "U.S. ",
        "…",
        "-",
        "a:b\n",
        "\r\n",
        ". . . ",
        "  ",
        "' ",
        "¹",
        "I. A ",
        "\u{2028}",
        "a\u{200b}",
        "é.",
        "1:1 ",
        "Inc. (",
        "*",
        "~~ ",
        "<p>a",
        "</a",
        "<a>",
        "<a b=\"",
        "<a ",
        "<a b='\"",
        "<a b=\"<\" ",
        "<a b=\">\"x",
        "<a>A B</a> ",
        "<sup>1",
        "<sup>1</sup>",
        "<p>a\n",
        "<p>A\nb</p>",
        "</script ",
        "<script></",
        "<![",
        "data:;base64,",
        ";base64,",
        "&",
        "&#",
        "&a;",
        "&ouml",
        "```\n",
        "-\n",
        "A-\n",
        " * a\n",
        "J.\n",
        "<!--",
        "<script>",
        "&amp;",
        "&a",
        "a & ",
        "a: b",
        " - ",
        "anna\n",
        "[ ] a\n",
        "the the\n",
        "&lt;",
        "&lt;br&gt;",
        "&lt;b ",
        "—Mr. ",
        "a—",
        "=No. 5 ",
        "[1] a. [2] b. ",
        "3d Cir. 1999) ",
        "at 5 p.m. ",
        "4 p.m. Eastern ",
        "4 p.m. Bay Bay Bay time ",
        "5 p.m. today ",
        ":( ",
        "a :) ",
        "😡 ",
        "a 1. b 2. ",
        "a 1. ",
        "Inv. No. 5 ",
        "\"a.\" b ",
        "is no. 5 men ",
        "Anna: ",
        "a. B\t",
    ];
    for shape in shapes {
        let text = shape.repeat(60_000 / shape.len());
        let (once, twice) = (visited(&text), visited(&text.repeat(2)));
        assert!(
            once <= 40 * text.len(),
            "{shape:?}: {once} bytes were looked at in a text of {}",
            text.len()
        );
        assert!(twice <= 2 * once + 2_000, "{shape:?}: {once} bytes, then {twice}");
    }
}

/// A caller may stop, or do other things, after each step.
#[test]
fn steps_are_short() {
    for text in ["A word. ".repeat(40_000), "word ".repeat(60_000), "a\n".repeat(150_000)] {
        let mut segmenter = Segmenter::new(&text);
        let mut found = Vec::new();
        let mut steps = 0;
        while let Some(bytes) = segmenter.step(&mut found) {
            assert!(bytes <= STEP + 8, "{bytes}");
            steps += 1;
        }
        assert!(steps >= text.len() / (STEP * 2), "{steps}");
        assert_eq!(found, sentences_at_once(&text));
    }
}

#[test]
fn names_end_at_lines_and_cells() {
    let check = |text: &str, expected: &[&str]| {
        let Cells { ends, read, .. } = cells_at_once(text);
        let read = read.unwrap_or(text.to_owned());
        let ends: Vec<usize> = ends.into_iter().chain([text.len()]).collect();
        let is_mark = |c: char| !c.is_alphabetic();
        let parts = ends.windows(2).map(|pair| text[pair[0]..pair[1]].trim_matches(is_mark));
        // A letter by itself is the mark of an item.
        assert_eq!(parts.filter(|part| part.len() > 1).collect::<Vec<_>>(), expected, "{text:?}");
        // What a model reads has commas there.
        assert_eq!(read.len(), text.len());
        let parts: Vec<&str> = read.split(',').map(|part| part.trim().trim_end_matches(['.', ':'])).collect();
        let parts: Vec<&str> = parts
            .iter()
            .flat_map(|part| part.split(":\n"))
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .collect();
        assert_eq!(parts, expected, "{read:?}");
    };
    let names = ["Anna Schmidt", "Peter Jones", "Maria Lopez"];
    for between in [
        "\n", "\r\n", "\n\n", "\t", "\t\t", " | ", "\n- ", "\n• ", " • ", "; ", ";\n", "   ", "\n\n\n",
        "\u{c}", "\n\t", "|",
    ] {
        check(&names.join(between), &names);
        check(&format!("{}{between}", names.join(between)), &names);
    }
    check("1. Anna Schmidt\n2. Peter Jones\n3. Maria Lopez", &names);
    check("a) Anna Schmidt\nb) Peter Jones\nc) Maria Lopez\n", &names);
    check("| Anna Schmidt | Peter Jones |\n| Maria Lopez |", &names);
    check("Attendees:\nAnna Schmidt\nPeter Jones", &["Attendees", "Anna Schmidt", "Peter Jones"]);
    check(
        "Kind regards\nAnna Schmidt\nNorthern Steel AG\nBremen",
        &["Kind regards", "Anna Schmidt", "Northern Steel AG", "Bremen"],
    );
    // A name inside a sentence goes over the end of a line.
    let prose =
        "The carrier of the goods that were sold in May is the Maersk\nLine and the vessel is due in Oslo.";
    check(prose, &[prose.trim_end_matches('.')]);
    check("We saw Anna  Schmidt.", &["We saw Anna  Schmidt"]);
    // A number that is not counted is part of the line.
    assert_eq!(cells_at_once("Oslo\n1. Bundesliga").read.unwrap(), "Oslo,1. Bundesliga");
}
