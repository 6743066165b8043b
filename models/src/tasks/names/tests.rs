#![allow(clippy::unwrap_used)]

use super::*;

/// The names that are made of parts, which are given by their texts; `+` marks the rest of one before.
fn check(text: &str, parts: &[&str], expected: &[&str]) {
    let bounds = Bounds::default();
    let mut from = 0;
    let parts = parts.iter().enumerate().map(|(source, part)| {
        let (is_rest, part) = part.strip_prefix('+').map_or((false, *part), |part| (true, part));
        let start = from + text[from..].find(part).unwrap();
        from = start + part.len();
        Part { bytes: start..from, source, is_rest }
    });
    let names = bounds.whole_names(text, parts.collect());
    let names: Vec<&str> = names.iter().map(|name| &text[name.bytes.clone()]).collect();
    assert_eq!(names, expected, "{text:?}");
}

#[test]
fn whole_words() {
    check("Fatima Al-Sayed left.", &["Fatima Al"], &["Fatima Al-Sayed"]);
    check("fatima al-sayed left.", &["fatima al"], &["fatima al-sayed"]);
    check("Fatima Al-Sayed left.", &["Sayed"], &["Al-Sayed"]);
    check("Jean-Luc Picard", &["Jean"], &["Jean-Luc"]);
    check("Marie Curie-Sklodowska-Joliot", &["Marie Curie"], &["Marie Curie-Sklodowska-Joliot"]);
    check("the Berlin-based firm", &["Berlin"], &["Berlin"]);
    check("A Berlin-Based Firm", &["Berlin"], &["Berlin"]);
    check("the Anti-Trump camp", &["Trump"], &["Trump"]);
    check("the anti-Trump camp", &["Trump"], &["Trump"]);
    check("Covid-19", &["Covid"], &["Covid"]);
    check("the Siemens-Merkel talks", &["Siemens", "Merkel"], &["Siemens", "Merkel"]);
    check("Anna- Lena", &["Anna"], &["Anna"]);
    check("Anna Schmidt-\nMeier left", &["Anna Schmidt"], &["Anna Schmidt-\nMeier"]);
    check("Jean-\r\n  Pierre", &["Pierre"], &["Jean-\r\n  Pierre"]);
    check("Anna-\nand", &["Anna"], &["Anna"]);
    check("Anna-\n\nPeter", &["Anna"], &["Anna"]);
    check("Anna -\nPeter", &["Anna"], &["Anna"]);
    check("U.S.-led", &["U.S"], &["U.S."]);
    // A mark on a blank.
    check("of \u{301}Anna", &["\u{301}Anna"], &["\u{301}Anna"]);
    check("Al-Sayed", &["Al", "Sayed"], &["Al", "Sayed"]);
}

/// What links a name to the next is none of it.
#[test]
fn links_are_no_names() {
    check("Microsoft and Shell", &["Microsoft and", "Shell"], &["Microsoft", "Shell"]);
    check("Siemens und Bosch", &["Siemens und", "Bosch"], &["Siemens", "Bosch"]);
    check("Procter and Gamble", &["Procter and Gamble"], &["Procter and Gamble"]);
    check("the Strand", &["Strand"], &["Strand"]);
    check("and", &["and"], &["and"]);
}

/// What takes no place is no part of a name at its end, unless it makes a form of the last letter.
#[test]
fn joiners_are_no_part_of_names() {
    for joiner in ["\u{200d}", "\u{fe0f}", "\u{200c}", "\u{200b}", "\u{feff}", "\u{fe0f}\u{200d}", "\u{200e}"]
    {
        for name in ["Anna Schmidt", "Siemens", "Zu\u{308}rich", "José"] {
            let text = format!("We met {name}{joiner} in May.");
            for part in [name.to_owned(), format!("{name}{joiner}")] {
                check(&text, &[&part], &[name]);
            }
        }
    }
    // A letter of Malayalam, and one of Hindi.
    check("അവന\u{d4d}\u{200d} left", &["അവന\u{d4d}"], &["അവന\u{d4d}\u{200d}"]);
    check("क\u{94d}\u{200d} left", &["क\u{94d}\u{200d}"], &["क\u{94d}\u{200d}"]);
    check("¹Siemens left", &["¹Siemens"], &["Siemens"]);
    check("¹²Anna Schmidt³ left", &["¹²Anna Schmidt³"], &["Anna Schmidt"]);
}

/// Whatever punctuation and signs a model takes along, they are taken off, but not what is of the name.
#[test]
fn ends_of_names() {
    let check = |name: &str, expected: &str| {
        let text = format!("Yesterday {name} met us.");
        let at = text.find(name).unwrap();
        assert_eq!(&text[trim(&text, at..at + name.len())], expected, "{name:?}");
    };
    for opening in [
        "【", "„", "‚", "«", "‹", "{", "}", "¿", "¡", "《", "「", "『", "〈", "〔", "^", "~", "+", "#", "@",
        "`", "‖", "※", "§", "“", "‘", "'", "(", "[", "»", "›", "…", "―", "\u{201f}", "\u{2e42}", "｢", "❝",
        "Ⓑ ", "🅰 ", "① ",
    ] {
        check(&format!("{opening}Siemens"), "Siemens");
        check(&format!("{opening}Anna Schmidt"), "Anna Schmidt");
    }
    for closing in [
        "】", "“", "”", "»", "›", "}", "‡", "†", "¶", "》", "」", "』", "〉", "‖", "*", "**", "^", "~", "¹",
        "²", "⁴", "¹²", "¹,²", "、", "。", "…", ")", "]", "`", "_", "¶¶", "⁽", "❞", "§", "!", "?", "\\",
    ] {
        check(&format!("Siemens{closing}"), "Siemens");
        check(&format!("Anna Schmidt{closing}"), "Anna Schmidt");
    }
    for (opening, closing) in
        [("„", "“"), ("(", ")"), ("[", "]"), ("【", "】"), ("\"", "\""), ("'", "'"), ("{{", "}}")]
    {
        check(&format!("{opening}Siemens{closing}"), "Siemens");
    }
    for name in [
        "C++",
        "C#",
        "Disney+",
        "Siemens (Schweiz)",
        "(Siemens) AG",
        "O'Neil",
        "Dunkin'",
        "'s-Hertogenbosch",
        "Acme Inc.",
        "Yahoo! Inc.",
        "Dwayne \"The Rock\"",
        "CO₂",
        "H₂O",
        "Ⓢiemens",
        "100%",
        "Siemens [Schweiz]",
        "Ke$ha",
        "A*STAR",
        "Siemens (Schweiz) AG",
        ".NET",
        "Siemens （中国）",
        "יע״ק",
    ] {
        check(name, name);
    }
    check("Yahoo!", "Yahoo!");
    check(". Siemens", "Siemens");
    check(" Siemens ", "Siemens");
    check("the Joneses'", "the Joneses");
    check("Siemens (Schweiz", "Siemens (Schweiz");
    check("Siemens ()", "Siemens");
    check("(Siemens (Schweiz))", "Siemens (Schweiz)");
    let called = |text: &str, expected: &str| {
        assert_eq!(&text[trim(text, 0..text.find('!').unwrap() + 1)], expected, "{text:?}");
    };
    called("Oslo! we won", "Oslo");
    called("Yahoo! 5 points", "Yahoo");
    called("Yahoo!, which is old", "Yahoo!");
    // The work is linear: this would take minutes otherwise.
    let brackets = "(".repeat(200_000) + &")".repeat(200_000);
    assert!(trim(&brackets, 0..brackets.len()).is_empty());
}

#[test]
fn no_rest_without_capitals() {
    check("Anna Schmidt: hello", &["Anna Schmidt", "+hello"], &["Anna Schmidt"]);
    check("Anna Schmidt: hello", &["Anna Schmidt", "hello"], &["Anna Schmidt"]);
    check("Anna Schmidt and hello", &["Anna Schmidt", "hello"], &["Anna Schmidt", "hello"]);
    check("Anna Schmidt\nhead of sales", &["Anna Schmidt", "+head of sales"], &["Anna Schmidt"]);
    check("anna schmidt\npeter jones", &["anna schmidt", "+peter jones"], &["anna schmidt", "peter jones"]);
    check("Anna\nPeter", &["Anna", "+Peter"], &["Anna", "Peter"]);
    check("Anna: hello you: Peter", &["Anna", "+hello", "+you", "+Peter"], &["Anna", "Peter"]);
    check("Anna, 李明", &["Anna", "+李明"], &["Anna", "李明"]);
}

#[test]
fn addresses() {
    check("Anna <anna@acme.com>", &["Anna", "anna", "acme"], &["Anna"]);
    check("Anna <anna.schmidt+1@mail.acme.com>", &["Anna", "schmidt", "acme"], &["Anna"]);
    check("write to schmidt@acme.com.", &["schmidt", "acme.com"], &[]);
    check("@Siemens in @Oslo", &["Siemens", "Oslo"], &["Siemens", "Oslo"]);
    check("Anna @ Siemens", &["Anna", "Siemens"], &["Anna", "Siemens"]);
    check("Anna@ Siemens", &["Anna", "Siemens"], &["Anna", "Siemens"]);
}

#[test]
fn people() {
    let check = |text: &str, expected: &[&str]| {
        let people = Bounds::people(text, 0..text.len());
        let people: Vec<&str> = people.into_iter().map(|bytes| text[bytes].trim()).collect();
        assert_eq!(people, expected, "{text:?}");
    };
    check("Anna Schmidt & Peter Jones", &["Anna Schmidt", "Peter Jones"]);
    check("Anna & Peter & Eva", &["Anna", "Peter", "Eva"]);
    check("Anna + Peter", &["Anna", "Peter"]);
    check("R&B", &["R&B"]);
    check("Anna: hello", &["Anna", "hello"]);
    check("Anna Schmidt\nPeter Jones", &["Anna Schmidt", "Peter Jones"]);
    check("Anna Schmidt\r\nPeter van Dyk", &["Anna Schmidt", "Peter van Dyk"]);
    check("Anna\nSchmidt", &["Anna\nSchmidt"]);
    check("Anna Maria\nSchmidt", &["Anna Maria\nSchmidt"]);
    check("Ludwig van\nBeethoven", &["Ludwig van\nBeethoven"]);
    check("anna schmidt\npeter jones", &["anna schmidt\npeter jones"]);
}
