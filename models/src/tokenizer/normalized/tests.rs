#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn read(text: &str) -> String {
    Normalizer::new(text, None).finish().text.into_owned()
}

fn check(text: &str, expected: &str) {
    assert_eq!(read(text), expected, "{text:?}");
}

#[test]
fn plain_texts_stay_as_they_are() {
    for text in [
        "",
        "Plain text, with \"marks\"; 100 % of it (A+B) - and\r\nlines\n\twith tabs.\n",
        "Café, naïve, Zoë, Łódź, Straße, ÆØÅ",
        "“Quotes” – dashes — and … dots, ‘one’, 5′ 10″",
        "你好。 ไทย हिन्दी עברית العربية 한국어 かな",
        "10² m³ H₂O x⁵ word¹",
    ] {
        let normalized = Normalizer::new(text, None).finish();
        assert!(matches!(normalized.text, Cow::Borrowed(_)), "{text:?}: {:?}", normalized.text);
    }
}

#[test]
fn symbols_are_words_of_their_own() {
    check("awful😡", "awful 😡");
    check("😡awful", "😡 awful");
    check("so😡bad", "so 😡 bad");
    check("a 😡 b", "a 😡 b");
    check("😡😡", "😡 😡");
    check("(😡)", "( 😡 )");
    check("good👍🏽!", "good 👍 !");
    check("I❤️you", "I ❤ you");
    check("family👨\u{200d}👩\u{200d}👧here", "family 👨 here");
    check("Berlin🇩🇪Paris🇫🇷", "Berlin 🇩🇪 Paris 🇫🇷");
    check("press1\u{fe0f}\u{20e3}now", "press 1 now");
    check("Acme®", "Acme ®");
    check("Acme™Tools", "Acme ™ Tools");
    check("©Acme", "© Acme");
    check("a→b", "a → b");
    check("3×4", "3 × 4");
    check("€5", "€ 5");
    check("20°", "20 °");
    check("one\u{f0b7}two", "one \u{f0b7} two");
    check("x\u{1f9ff}\u{1fae9}", "x \u{1f9ff} \u{1fae9}");
    check("•item", "•item");
    check("a\u{c}🏽 \u{301}b", "a 🏽 \u{301}b");
    check("don´t", "don't");
    check("wasnʼt", "wasn't");
    check("Schmidt\u{20e3} met", "Schmidt met");
    // The number of a note before a word.
    check("¹Siemens", "¹ Siemens");
    check("of ¹²Siemens (³Bosch)", "of ¹ ² Siemens ( ³ Bosch)");
    check("x²y H₂O 10²", "x²y H₂O 10²");
}

#[test]
fn compatible_forms_are_plain() {
    check(
        "o\u{fb03}ce \u{fb01}nal \u{fb02}at o\u{fb00}er \u{fb04}uent \u{fb05}ill",
        "office final flat offer ffluent still",
    );
    check("ｆｕｌｌ　ｗｉｄｔｈ１２３，Ａ！", "full width123,A!");
    check("𝐁𝐨𝐥𝐝 𝟙𝟚 𝒮𝒸𝓇𝒾𝓅𝓉", "Bold 12 Script");
    check("ⒽⒺⓁⓁⓄ", "HELLO");
    check("🅷🅴🅻🅻🅾 🅗🅔🅛🅛🅞 🄷🄴🄻🄻🄾", "HELLO HELLO HELLO");
    check("Ⓢiemens and 🅰\u{fe0f}cme", "Siemens and Acme");
    check("❶ one ➁ two ➌ three", "1 one 2 two 3 three");
    check("①First", "1 First");
    check("Ⅳ ⅷ", "IV viii");
    check("5㎏ 20℃ №7", "5 kg 20 °C No 7");
    check("1½ 5⅛", "1 ½ 5 1/8");
    check("ﬆop ſhip ĳs", "stop ship ijs");
    check("e\u{301}te\u{301}", "été");
    check("wow‼", "wow!!");
    check("ｶﾞ", "ガ");
    // Phrases of many letters in one.
    check("\u{fdfa} a㌀b", "\u{fdfa} a ㌀ b");
    check("￡5 ～", "£ 5 ~");
}

#[test]
fn what_takes_no_place_is_gone() {
    check("in\u{ad}voice", "invoice");
    check("in\u{200b}vo\u{200d}i\u{2060}ce\u{feff}", "invoice");
    check("\u{202b}a\u{202c}b\u{200f}", "ab");
    check("a\u{1}b\u{7f}", "ab");
    check("\u{200b}\u{ad}", "");
    check("a \u{200b} b", "a  b");
}

#[test]
fn white_space_parts_words() {
    for space in [
        '\u{b}', '\u{c}', '\u{1c}', '\u{1e}', '\u{85}', '\u{a0}', '\u{2003}', '\u{2028}', '\u{2029}',
        '\u{3000}',
    ] {
        check(&format!("one{space}two"), "one two");
    }
}

/// A vocabulary of a few words.
fn words() -> Tokenizer {
    let words = ["interesting", "well", "known", "self", "aware", "inter", "hyphen", "the", "art", "[UNK]"];
    let mut id = 0;
    let vocabulary = words.map(|word| {
        id += 1;
        (word.to_owned(), id - 1)
    });
    let model = tokenizers::models::wordpiece::WordPiece::builder().vocab(vocabulary).build().unwrap();
    Tokenizer::new(model)
}

#[test]
fn hyphens_at_line_ends() {
    let words = words();
    let check = |text: &str, expected: &str| {
        assert_eq!(Normalizer::new(text, Some(&words)).finish().text, expected, "{text:?}");
    };
    check("an inter-\nesting book", "an interesting book");
    check("an inter-\r\n   esting book", "an interesting book");
    check("an inter\u{2010}\nesting book", "an interesting book");
    check("an Inter-\nesting book", "an Interesting book");
    check("in represen-\ntation of", "in representation of");
    check("a zzz\u{ad}\nqqq", "a zzzqqq");
    check("inter-\nesting\u{fb01}", "interestingfi");
    // The hyphen of the word itself, of a list, of a range, of an end.
    for same in [
        "a well-\nknown man",
        "self-\naware",
        "state-of-the-\nzart",
        "inter- esting",
        "inter-\n\nesting",
        "inter-\nEsting",
        "INTER-\nesting",
        "5-\nesting",
        "one -\nesting",
        "inter-\n",
        "-\nesting",
        "a-\nesting",
    ] {
        check(same, same);
    }
    // Before a capital the hyphen is of the name.
    check("Ham-\nBurg", "Ham-Burg");
    check("Jean-\r\n  Pierre-\nLuc Dubois", "Jean-Pierre-Luc Dubois");
    check("anti-\nTrump", "anti-\nTrump");
    check("Anna-\n\nPeter", "Anna-\n\nPeter");
    // Where it is not known what a word is, a hyphen stays.
    assert_eq!(read("inter-\nesting"), "inter-\nesting");
}

/// A place in the normalised text leads to what it is made of.
#[test]
fn places_lead_back() {
    let check = |text: &str, part: &str, expected: &str| {
        let normalized = Normalizer::new(text, None).finish();
        let start = normalized.text.find(part).unwrap();
        let (from, to) = normalized.original(start, start + part.len());
        assert_eq!(&text[from..to], expected, "{text:?} {part:?}");
    };
    check("Anna🎉 and Peter👍", "Peter", "Peter");
    check("Anna🎉 and Peter👍", "👍", "👍");
    check("to 👨\u{200d}👩\u{200d}👧 Ann", "👨", "👨\u{200d}👩\u{200d}👧");
    check("to 👨\u{200d}👩\u{200d}👧Ann", "Ann", "Ann");
    check("the o\u{fb03}ce here", "office", "o\u{fb03}ce");
    check("the o\u{fb03}ce here", "of", "o\u{fb03}");
    check("the o\u{fb03}ce here", "ice", "\u{fb03}ce");
    check("an in\u{ad}\u{200b}voice\u{200b} x", "invoice", "in\u{ad}\u{200b}voice");
    check("\u{200b}\u{200b}one two", "one", "one");
    check("ｏｎｅ ｔｗｏ three", "two", "ｔｗｏ");
    check("ｏｎｅ ｔｗｏ three", "three", "three");
    check("e\u{301}te\u{301} là", "été", "e\u{301}te\u{301}");
    check("5㎏x", "kg", "㎏");
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,60}",
        ".{0,60}",
        "[a-zé你😀®™ﬁｆ\u{301}\u{ad}\u{200b}\u{200d}\u{fe0f}🇩🇪👍🏽\u{20e3}\u{c}\u{85}\u{e000} .\n-]{0,80}",
        proptest::collection::vec(any::<char>(), 0..60)
            .prop_map(|characters| characters.into_iter().collect()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the text: places ascend, are in it, and between its graphemes where it was changed.
    #[test]
    fn places_are_of_the_text(text in any_text()) {
        let words = words();
        let normalized = Normalizer::new(&text, Some(&words)).finish();
        let mut before = (0, 0);
        let boundaries: Vec<usize> = text.grapheme_indices(true).map(|(at, _)| at).chain([text.len()]).collect();
        for (at, c) in normalized.text.char_indices() {
            let (from, to) = normalized.original(at, at + c.len_utf8());
            prop_assert!(text.get(from..to).is_some(), "{from}..{to} of {text:?}");
            prop_assert!(before.0 <= from && before.1 <= to, "{before:?}, {from}..{to} of {text:?}");
            if text[from..to] != c.to_string() && from < to {
                // A mark behind a space is by itself.
                let is_boundary = |at: usize| boundaries.contains(&at) || text[..at].ends_with(is_space);
                prop_assert!(is_boundary(from) && is_boundary(to), "{from}..{to} of {text:?}");
            }
            before = (from, to);
        }
    }

    /// Chunks give the words that the whole gives.
    #[test]
    fn chunks_give_what_the_whole_gives(parts in proptest::collection::vec((any_text(), 1usize..400), 1..8)) {
        let text: String = parts.iter().map(|(part, count)| format!("{part} ").repeat(*count)).collect();
        let words = words();
        let whole = Normalizer::new(&text, Some(&words)).finish();
        let (mut start, mut joined) = (0, String::new());
        while start < text.len() {
            let end = end_of_chunk(&text, start);
            joined.push_str(&Normalizer::new(&text[start..end], Some(&words)).finish().text);
            joined.push(' ');
            start = end;
        }
        prop_assert!(joined.split_whitespace().eq(whole.text.split_whitespace()));
    }
}

#[test]
fn long_texts_have_chunks() {
    let check = |text: &str, most: usize| {
        let (mut start, mut chunks) = (0, 0);
        while start < text.len() {
            let end = end_of_chunk(text, start);
            assert!(end - start <= most, "{} bytes", end - start);
            (start, chunks) = (end, chunks + 1);
        }
        assert!(chunks > 1 || text.len() <= CHUNK_BYTES);
    };
    check(&"A word 😡 and another.\n".repeat(4000), CHUNK_BYTES + 100);
    check(&"é ü ".repeat(9000), CHUNK_BYTES + 100);
    check(&"😡".repeat(9000), CHUNK_BYTES + 100);
    // Letters of one word.
    check(&format!("{} b", "Ⓐ".repeat(9000)), 9000 * 3 + 1);
    check(&"㌀".repeat(9000), CHUNK_BYTES + 100);
    check(&"👨\u{200d}👩\u{200d}👧".repeat(4000), CHUNK_BYTES + 100);
}
