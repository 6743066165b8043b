//! Lists of names in every form: whatever stands between two entries, a name ends there, and nothing but
//! entries is left.

use super::{Cells, cells_at_once};

/// Entries of lists; the names of one row are of one kind.
const ROWS: &str = "\
    Anna Schmidt, Peter Jones, Maria Lopez
    Fatima Al-Sayed, Jean-Luc Picard, Sinéad O'Connor
    Ludwig van Beethoven, Vincent van Gogh, Oscar de la Renta
    Kwame Nkrumah, Priya Patel, Hiroshi Tanaka
    Olga, Tim, Wei
    Mary Ann Evans, George Bernard Shaw, Sammy Davis Jr
    J. R. R. Tolkien, C.S. Lewis, T. S. Eliot
    Björk, Zoë Kravitz, Ángel Di María
    Анна Шмидт, Пётр Иванов, Ольга Новак
    Lars Nielsen, Emma Watson, John Smith, Sarah Connor, James Brown
    Oslo, Berlin, Paris
    New York, Rio de Janeiro, Cape Town
    St. Louis, Fort Worth, Mount Vernon
    Zürich, Málaga, Łódź, Tromsø
    Stratford-upon-Avon, Saint-Denis, Baden-Baden
    South Africa, United Arab Emirates, Trinidad and Tobago
    North Rhine-Westphalia, Lower Saxony, Saxony
    Siemens, Volvo, Shell
    Deutsche Bank, World Bank, Bank of America
    Northern Steel AG, Harbour Freight Ltd, Acme Corp
    Marks & Spencer, AT&T, Johnson & Johnson
    United Nations, European Union, Red Cross
    General Electric, Procter and Gamble, Coca-Cola
    Ministry of Health, University of Oslo, Federal Court
    Acme Corporation International Holdings of Northern Germany, Shell, Volvo";

fn rows() -> impl Iterator<Item = Vec<&'static str>> {
    ROWS.lines().map(|row| row.trim().split(", ").collect())
}

/// The parts between the ends of names, without marks at their ends.
fn parts(text: &str) -> Vec<String> {
    let Cells { ends, plain, .. } = cells_at_once(text);
    let plain = plain.as_deref().unwrap_or(text);
    let starts = [0].into_iter().chain(ends.iter().copied());
    let parts = starts.zip(ends.iter().copied().chain([text.len()]));
    let parts = parts.map(|(start, end)| plain[start..end].trim_matches(|c: char| !c.is_alphanumeric()));
    // Where references were is nothing, or blanks.
    let bare = |part: &str| part.replace('\u{1}', "").split_whitespace().collect::<Vec<_>>().join(" ");
    parts.filter(|part| !part.is_empty()).map(bare).collect()
}

/// Lists as `write` puts entries into them, as they are and in small letters.
fn check(write: impl Fn(&[&str]) -> String) {
    assert!(rows().count() >= 20);
    for row in rows() {
        let small: Vec<String> = row.iter().map(|name| name.to_lowercase()).collect();
        let small = small.iter().map(String::as_str).collect();
        for names in [row, small] {
            let text = write(&names);
            let found = parts(&text);
            let found: Vec<&str> = found.iter().map(String::as_str).collect();
            assert_eq!(found, names, "{text:?}");
        }
    }
}

/// Entries after a mark each, `mark` being told the place in the list from 1.
fn marked(names: &[&str], mark: impl Fn(usize) -> String) -> String {
    let lines = names.iter().enumerate().map(|(index, name)| format!("{}{name}\n", mark(index + 1)));
    lines.collect()
}

#[test]
fn lines() {
    for between in [
        "\n", "\r\n", "\r", "\n\n", "\r\n\r\n", "\u{2028}", "\u{2029}", "\u{85}", "\u{b}", "\u{c}", "\n\t",
        "\n    ", " \n", "\n\n\n",
    ] {
        check(|names| names.join(between));
        check(|names| format!("{between}{}{between}", names.join(between)));
    }
}

/// Names that are joined at the ends of lines; with two of them it may be one name.
#[test]
fn joined_lines() {
    let check = |text: &str, expected: &[&str]| assert_eq!(parts(text), expected, "{text:?}");
    check("Siemens &\nBosch &\nVolvo", &["Siemens", "Bosch", "Volvo"]);
    check(
        "Anna Schmidt &\r\nPeter Jones &\r\nMaria Lopez\r\n",
        &["Anna Schmidt", "Peter Jones", "Maria Lopez"],
    );
    check("Oslo &\nRome &\nBonn &\nNew York", &["Oslo", "Rome", "Bonn", "New York"]);
    check("Johnson &\nJohnson", &["Johnson &\nJohnson".replace('\n', " ").as_str()]);
    let read = cells_at_once("Siemens &\nBosch &\nVolvo").read;
    assert_eq!(read.as_deref(), Some("Siemens,&\nBosch,&\nVolvo"));
    // Initials that do not count from A are of the names.
    check("J. Smith\nK. Jones\nL. Lopez", &["J. Smith", "K. Jones", "L. Lopez"]);
    check("I. Smith\nJ. Jones\nV. Lopez", &["I. Smith", "J. Jones", "V. Lopez"]);
}

/// A text in the comments of a program, whose lines all begin with a mark.
#[test]
fn wrapped_comments() {
    let text = " * The letter was signed on Monday by Anna\n * Schmidt, who leads the office in New\n * york for\n * deutsche Bank and is here.";
    let Cells { ends, .. } = cells_at_once(text);
    assert!(ends.iter().all(|end| *end <= 3), "{ends:?}");
}

#[test]
fn cells() {
    for between in [
        "\t",
        "\t\t",
        " | ",
        "|",
        "; ",
        ";",
        " • ",
        " · ",
        " → ",
        "    ",
        "\u{1c}",
        "\u{1f}",
        " │ ",
        " — ",
        " – ",
        " / ",
        "\u{a0}\u{a0}\u{a0}",
    ] {
        check(|names| names.join(between));
    }
    check(|names| format!("| {} |", names.join(" | ")));
    check(|names| format!("| {} |\n|{}\n", names.join(" |\n| "), "---|".repeat(2)));
}

#[test]
fn items() {
    for mark in ["- ", "* ", "+ ", "• ", "◦ ", "– ", "[ ] ", "[x] ", "☐ ", "✓ ", "> ", "  - ", "\t• ", "-\t"]
    {
        check(|names| {
            let text = marked(names, |_| mark.to_owned());
            // It is no name of a letter.
            text.replace("[x] ", "[ ] ")
        });
    }
}

#[test]
fn numbered_items() {
    // The mark is a part by itself, and no name.
    let check = |mark: fn(usize) -> String| {
        for names in rows() {
            let text = marked(&names, mark);
            let is_mark =
                |part: &String| part.chars().count() == 1 || part.chars().all(|c| "ivIV".contains(c));
            let found: Vec<String> = parts(&text).into_iter().filter(|part| !is_mark(part)).collect();
            assert_eq!(found, names, "{text:?}");
        }
    };
    check(|place| format!("{place}. "));
    check(|place| format!("{place}) "));
    check(|place| format!("({place}) "));
    check(|place| format!("{place}.) "));
    check(|place| format!("{}) ", char::from(b'a' + place as u8 - 1)));
    check(|place| format!("{}. ", char::from(b'A' + place as u8 - 1)));
    check(|_| "a) ".to_owned());
    // Letters to some, Roman numbers to others: one goes on with `ii`.
    const ROMAN: [&str; 6] = ["i", "ii", "iii", "iv", "v", "vi"];
    check(|place| format!("{}. ", ROMAN[place - 1]));
    check(|place| format!("({}) ", ROMAN[place - 1]));
    check(|place| format!("{}. ", ROMAN[place - 1].to_uppercase()));
    check(|place| format!("{}) ", ROMAN[place - 1].to_uppercase()));
    check(|place| format!("{} ", char::from_u32('Ⓐ' as u32 + place as u32 - 1).unwrap_or('Ⓐ')));
    check(|place| format!("{} ", char::from_u32('🅰' as u32 + place as u32 - 1).unwrap_or('🅰')));
    check(|place| format!("  {place}.\t"));
}

#[test]
fn markup() {
    let tagged = |names: &[&str], open: &str, close: &str| {
        names.iter().map(|name| format!("{open}{name}{close}")).collect::<Vec<_>>()
    };
    let text = |names: &[&str]| names.iter().map(|name| name.replace('&', "&amp;")).collect::<Vec<_>>();
    let written = |names: &[&str], open: &str, close: &str, between: &str| {
        let names = text(names);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        tagged(&names, open, close).join(between)
    };
    for (open, close) in [
        ("<li>", "</li>"),
        ("<li class=\"name\">", "</li>"),
        ("<LI>", ""),
        ("<td>", "</td>"),
        ("<td align=right>&nbsp;", "&nbsp;</td>"),
        ("<tr><td>", "</td></tr>"),
        ("<th scope='row'>", "</th>"),
        ("<p>", "</p>"),
        ("<div><span>", "</span></div>"),
        ("<h2><a href=\"/x?a=1&b=2\" title=\"x > y\">", "</a></h2>"),
        ("<option value=\"1\">", "</option>"),
        ("<dt>", "</dt><dd></dd>"),
        ("<name>", "</name>"),
        ("<x:Name id=\"1\">", "</x:Name>"),
        ("<!-- entry --><p>", "</p>"),
        ("", "<br>"),
        ("", "<br />"),
        ("<b>", "</b><hr/>"),
    ] {
        for between in ["", "\n", " ", "\r\n  ", "\t"] {
            check(|names| written(names, open, close, between));
        }
    }
    check(|names| format!("<ul>\n  {}\n</ul>\n", written(names, "<li>", "</li>", "\n  ")));
    check(|names| format!("<table>\n<tr>{}</tr>\n</table>", written(names, "<td>", "</td>", "")));
    check(|names| {
        let head = "<!DOCTYPE html><html><head><style>li { margin: 0 }</style><script>var Oslo = \"x\";</script></head>";
        format!("{head}<body><ol>{}</ol></body></html>", written(names, "<li>", "</li>", ""))
    });
}

#[test]
fn tags_within_lines_part_nothing() {
    for text in [
        "<b>Anna</b> Schmidt",
        "Anna <b> Schmidt </b>",
        "Anna<b> Schmidt</b>",
        "Anna <!-- Oslo --> Schmidt",
        "<a href=\"/x\" title=\"y z\">Anna</a> <span class=\"b c\">Schmidt</span>",
        "Anna &amp; Schmidt",
        "Anna&nbsp;Schmidt",
        "AT&amp;T",
    ] {
        assert_eq!(cells_at_once(text).ends, [0], "{text:?}");
    }
}

/// What names stand with in letters, minutes and résumés.
#[test]
fn with_other_lines() {
    for names in rows() {
        for head in ["Attendees:", "Kind regards", "Participants", "Present were:", "Berlin, 3 May"] {
            for line_break in ["\n", "\r\n", "\u{2028}", "\n\n"] {
                let text = format!("{head}{line_break}{}", names.join(line_break));
                let found = parts(&text);
                assert_eq!(found[found.len() - names.len()..], names, "{text:?}");
            }
        }
        // A résumé.
        let text = format!(
            "{}\n12 Dock Road\nanna@example.com | +47 55 555\n\nExperience\n2015 – 2019\t{}\n2019 – today\tHead of Sales\n",
            names[0], names[1]
        );
        let found = parts(&text);
        assert!(found.contains(&names[0].to_owned()) && found.contains(&names[1].to_owned()), "{found:?}");
        // Fields.
        let text = format!("Name: {}\nCity: {}\nFirm: {}", names[0], names[1], names[2]);
        assert_eq!(parts(&text), ["Name", names[0], "City", names[1], "Firm", names[2]], "{text:?}");
        // A chat.
        let text = format!("{}: hello\n{}: hi\n{}: see you", names[0], names[1], names[2]);
        assert_eq!(parts(&text), [names[0], "hello", names[1], "hi", names[2], "see you"], "{text:?}");
    }
}

/// A name inside of a sentence goes over the end of a line, however the lines are long, indented or quoted.
#[test]
fn wrapped_names() {
    let check = |text: &str| {
        let lines: Vec<&str> = text.lines().collect();
        for (prefix, line_break) in [
            ("", "\n"),
            ("", "\r\n"),
            ("    ", "\n"),
            ("\t", "\n"),
            ("> ", "\n"),
            ("", " \n"),
            ("# ", "\n"),
            ("// ", "\r\n"),
            ("    // ", "\n"),
            ("-- ", "\n"),
            ("", "<br>\n"),
            ("", "<br />\r\n"),
        ] {
            let text = format!("{prefix}{}", lines.join(&format!("{line_break}{prefix}")));
            let Cells { ends, read, .. } = cells_at_once(&text);
            let first = text.find(char::is_alphabetic).unwrap();
            assert!(ends.iter().all(|end| *end <= first), "{ends:?} {text:?}");
            // A model reads no marks of comments.
            let is_bare =
                |read: String| !read.contains(['#', '>']) && !read.contains("//") && !read.contains("--");
            assert!(prefix.trim().is_empty() || read.is_some_and(is_bare), "{text:?}");
        }
    };
    check(
        "The letter was signed on Monday by Anna\nSchmidt, who leads the office in New\nYork for Deutsche\nBank, and by Peter\nJones.",
    );
    check(
        "On Friday the chancellor Angela\nMerkel met the president of France in the city of Buenos\nAires to talk about the World\nBank.",
    );
    check(
        "The ship of the Maersk\nLine is due in the harbour of Rio de\nJaneiro at noon, and in Cape\nTown in May.",
    );
    check(
        "It was Deutsche\nBank that had sold the shares of General\nElectric to the Bank of\nAmerica last year.",
    );
    check("We met at noon in the office of Northern\nSteel AG, which is in Bremen.");
    check("Have you seen the letter of Maria\nLopez to the United\nNations?");
    check("They said that Ludwig van\nBeethoven was born in Bonn.");
    check("the meeting was led by anna\nschmidt of siemens in the city of new\nyork last week.");
    check("the talks with deutsche\nbank were held in the office of the world\nbank in may.");
    check("She works for Harbour Freight\nLtd in the port of\nBremen.");
    check("In the spring the European\nUnion and the United\nKingdom will meet again.");
    check("A spokesman for Johnson &\nJohnson said that the factory in South\nAfrica would be closed.");
    check("He was the son of Mary\nAnn Evans and was raised in Stratford-upon-\nAvon.");
    check("Its owner is Marks &\nSpencer, and its seat is in St.\nLouis.");
    check("The film by Zoë\nKravitz was shown in Los\nAngeles to guests of the Red\nCross.");
    check("I wrote to J. R. R.\nTolkien and to C.S.\nLewis about the book.");
    check("The prize went to Priya\nPatel, who was born in the city of Łódź, and to Hiroshi\nTanaka.");
    check("Then the court in North Rhine-\nWestphalia had ruled against Procter\nand Gamble.");
    check("Our office in Mount\nVernon has moved to Fort\nWorth, as you know.");
    check("There the minister Olga\nNovak was asked about the Bank\nof America.");
}

/// A list that stands within a sentence.
#[test]
fn lines_within_a_sentence() {
    let check = |text: &str, expected: &[&str]| assert_eq!(parts(text), expected, "{text:?}");
    check(
        "We thank Siemens\nBosch\nVolvo\nfor their help.",
        &["We thank Siemens", "Bosch", "Volvo for their help"],
    );
    check(
        "The company was founded by\nAnna Schmidt\nPeter Jones\nin the town of Oslo.",
        &["The company was founded by", "Anna Schmidt", "Peter Jones in the town of Oslo"],
    );
    // One line may be the rest of a name.
    check(
        "We met the chancellor Angela\nMerkel\nand the rest of the team.",
        &["We met the chancellor Angela Merkel and the rest of the team"],
    );
}

/// A hyphen at the end of a line joins a name, and is no mark between two.
#[test]
fn hyphens_at_line_ends() {
    let check = |text: &str, expected: &[&str]| assert_eq!(parts(text), expected, "{text:?}");
    for line_break in ["\n", "\r\n", "\n  "] {
        for text in
            ["Anna Schmidt-⏎Meier", "The mayor Anna Schmidt-⏎Meier met Jean-⏎Pierre Dubois.", "Coca-⏎Cola"]
        {
            let text = text.replace('⏎', line_break);
            let expected = text.trim_end_matches('.').split_whitespace().collect::<Vec<_>>().join(" ");
            let found: Vec<String> = parts(&text)
                .iter()
                .map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect();
            assert_eq!(found, [expected], "{text:?}");
        }
    }
    check("Anna Schmidt -\nPeter Jones", &["Anna Schmidt", "Peter Jones"]);
    check("- Anna\n- Peter", &["Anna", "Peter"]);
}

/// Prose in a comment of a program reads on, whatever its lines begin with.
#[test]
fn comments() {
    let prose = "The mayor of the old town, Anna Schmidt, met the chancellor Angela Merkel and the head of the United \
        Nations on Monday. The firm was sold to Deutsche Bank of Frankfurt, as the minister said in New York.";
    for width in [36, 44, 60, 72] {
        let lines = super::wrapped(prose, width, "\n");
        for (open, mark, close) in [
            ("", "# ", ""),
            ("", "// ", ""),
            ("", "-- ", ""),
            ("", " * ", ""),
            ("/**\n", " * ", "\n */"),
            ("/* ", " * ", " */"),
            ("    /**\n", "     * ", "\n     */"),
            ("/**\n", "\t* ", "\n\t*/"),
        ] {
            let text = match open {
                "/* " => format!("{open}{}{close}", lines.replace('\n', &format!("\n{mark}"))),
                _ => format!("{open}{mark}{}{close}", lines.replace('\n', &format!("\n{mark}"))),
            };
            let found = parts(&text);
            assert_eq!(found.len(), 1, "{width} {found:#?}");
        }
    }
    check(|names| names.iter().map(|name| format!(" * {name}\n")).collect());
    assert_eq!(parts("* buy milk\n* Call the bank\n* Oslo"), ["buy milk", "Call the bank", "Oslo"]);
}
