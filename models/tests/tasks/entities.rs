//! Names: from tags of tokens to slices of a text.

use models::tasks::{Aggregation, EntitiesParameters, Entity, OffsetUnit, Output, Parameters, Truncation};
use models::{SequenceOutput, Task};
use proptest::prelude::*;

use super::{CATALOG, TAGS, prepare};

/// Outputs of the entity model in which each token has the tag that `tag` gives for its text.
fn tagged(
    text: &str,
    parameters: EntitiesParameters,
    tag: impl Fn(usize, &str) -> &'static str,
) -> Vec<Entity> {
    let model = CATALOG.default_for(Task::Entities).unwrap();
    let tokenizer = CATALOG.tokenizer(model.id).unwrap().normalizing(model.card.normalize_text);
    let encoded = tokenizer.encode(text).unwrap();
    let comma = tokenizer.encode(",").unwrap().ids[0];
    let logits = |name: &str| TAGS.map(|other| if other == name { 10.0 } else { 0.0 });
    let mut prepared = prepare(Task::Entities, &[text], &Parameters::Entities(parameters)).unwrap();
    let jobs = prepared.take_jobs();
    assert_eq!(jobs.len(), 1);
    let read = &jobs[0].sequence.input_ids;
    let mut values = logits("O").to_vec();
    let mut place = 0;
    // What was read has commas where lines end, and no marks of items.
    for (index, id) in read[1..read.len() - 1].iter().enumerate() {
        if *id != comma {
            place += encoded.ids[place..].iter().position(|other| other == id).unwrap_or(0);
        }
        let is_text = encoded.ids.get(place) == Some(id);
        let (start, end) = if is_text { encoded.offsets[place] } else { (0, 0) };
        values.extend(logits(tag(index, if is_text { &text[start..end] } else { "," })));
        place = (place + usize::from(is_text)).min(encoded.ids.len());
    }
    values.extend(logits("O"));
    let answer = prepared.decode(vec![SequenceOutput { values, columns: TAGS.len() }]).unwrap();
    match answer.results.into_iter().next().unwrap().unwrap().output {
        Output::Entities(entities) => entities,
        other => panic!("{other:?}"),
    }
}

fn names(entities: &[Entity]) -> Vec<(&str, &str)> {
    entities.iter().map(|entity| (entity.text.as_str(), &*entity.label)).collect()
}

#[test]
fn aggregations() {
    // zygmunt -> zy ##gm ##unt; the others are one token each.
    let text = "Zygmunt Smith met Anna in Oslo.";
    let check = |aggregation, expected: &[(&str, &str)]| {
        let parameters = EntitiesParameters { aggregation, ..EntitiesParameters::default() };
        let found = tagged(text, parameters, |index, token| match (index, token) {
            (0, _) => "B-PER",
            (_, "Smith") => "I-PER",
            (_, "Anna") => "B-PER",
            (_, "Oslo") => "B-LOC",
            (2, _) => "I-PER",
            _ => "O",
        });
        assert_eq!(names(&found), expected, "{aggregation:?}");
    };
    let words: &[_] = &[("Zygmunt Smith", "PER"), ("Anna", "PER"), ("Oslo", "LOC")];
    check(Aggregation::First, words);
    check(Aggregation::Max, words);
    let tokens = tagged(
        text,
        EntitiesParameters { aggregation: Aggregation::None, ..Default::default() },
        |_, _| "B-ORG",
    );
    assert!(tokens.len() > 7, "every token by itself, even inside a word");
    assert!(tokens.iter().all(|token| &*token.label == "B-ORG"), "with the label of the model");
    let simple = tagged(
        text,
        EntitiesParameters { aggregation: Aggregation::Simple, ..Default::default() },
        |_, _| "I-ORG",
    );
    assert_eq!(names(&simple), [("Zygmunt Smith met Anna in Oslo.", "ORG")]);
}

#[test]
fn names_split_at_punctuation_are_put_together() {
    let check =
        |text: &str, outside: &[&str], expected: &[(&str, &str)]| {
            let found = tagged(text, EntitiesParameters::default(), |_, token| {
                if outside.contains(&token) { "O" } else { "B-PER" }
            });
            assert_eq!(names(&found), expected, "{text}");
        };
    check("O'Brien", &["'"], &[("O'Brien", "PER")]);
    check("Anna-Lena", &["-"], &[("Anna-Lena", "PER")]);
    check("Anna, Lena", &[","], &[("Anna", "PER"), ("Lena", "PER")]);
    check("Anna and Lena", &["and"], &[("Anna", "PER"), ("Lena", "PER")]);
    check("(Anna)", &[], &[("Anna", "PER")]);
    // A dot alone was a person; the last dot of an abbreviation and a combining accent were lost.
    check("Yes . No", &["Yes", "No"], &[]);
    check("U.S. troops", &[".", "troops"], &[("U.S.", "PER")]);
    check("Anna.", &["."], &[("Anna", "PER")]);
    check("Andre\u{301} left", &["left"], &[("Andre\u{301}", "PER")]);
}

/// Whatever the model says of symbols, they are at no end of a name, and pictures in none.
#[test]
fn names_have_no_symbols_at_their_ends() {
    for aggregation in [Aggregation::Simple, Aggregation::First, Aggregation::Average, Aggregation::Max] {
        let check = |text: &str, expected: &[&str]| {
            let parameters = EntitiesParameters { aggregation, ..EntitiesParameters::default() };
            let found = tagged(text, parameters, |_, _| "I-PER");
            let names: Vec<_> = found.iter().map(|entity| entity.text.as_str()).collect();
            assert_eq!(names, expected, "{aggregation:?} {text:?}");
        };
        check("Anna Schmidt 👨\u{200d}👩\u{200d}👧", &["Anna Schmidt"]);
        check("📷🚀 Anna Schmidt", &["Anna Schmidt"]);
        check("Anna🎉Peter", &["Anna", "Peter"]);
        check("Anna 👍🏽 Peter ❤\u{fe0f}", &["Anna", "Peter"]);
        check("🇩🇪Berlin🇩🇪", &["Berlin"]);
        check("1\u{fe0f}\u{20e3} Anna 2\u{fe0f}\u{20e3} Peter", &["Anna", "Peter"]);
        check("Acme® Corp™", &["Acme® Corp"]);
        check("®Acme", &["Acme"]);
        check("★Anna★", &["Anna"]);
        check("🎉", &[]);
        check("®", &[]);
        check("So\u{fb01}a", &["So\u{fb01}a"]);
        check("Am\u{ad}ster\u{ad}dam", &["Am\u{ad}ster\u{ad}dam"]);
        check("Ｂｅｒｌｉｎ！", &["Ｂｅｒｌｉｎ"]);
    }
}

/// The model may read on over the end of a line; a name does not.
#[test]
fn names_end_at_lines_items_and_cells() {
    let names_of = |text: &str, aggregation| {
        let parameters = EntitiesParameters { aggregation, ..EntitiesParameters::default() };
        let found = tagged(text, parameters, |index, _| if index == 0 { "B-PER" } else { "I-PER" });
        found.into_iter().map(|entity| entity.text).collect::<Vec<_>>()
    };
    let names = ["Anna Schmidt", "Peter Jones", "Maria Lopez"];
    let separators = [
        "\n",
        "\r\n",
        "\n\n",
        "\r\n\r\n",
        "\t",
        "\t\t",
        " | ",
        "\n- ",
        "\n* ",
        "\n• ",
        " • ",
        "; ",
        "\n\t",
        "    ",
        "\n> ",
        "\n2. ",
        "\u{2028}",
        "\u{c}",
        "\n\n\n",
        " · ",
        "\r",
        "\u{2029}",
        "\u{85}",
        "\u{b}",
        "|",
        " — ",
        " / ",
        " & ",
        ": ",
        "\n[ ] ",
        "\n☐ ",
        "<br>",
        "</li><li>",
        "</td>\n<td>",
        "</p>\n\n<p class=\"name\">",
        "\n<hr/>\n",
    ];
    for aggregation in [Aggregation::Simple, Aggregation::First, Aggregation::Average, Aggregation::Max] {
        for separator in separators {
            let text = names.join(separator);
            let found = names_of(&text, aggregation);
            let bare: Vec<&str> = found.iter().map(|name| name.trim_start_matches("2. ")).collect();
            assert_eq!(bare, names, "{aggregation:?} {separator:?}");
        }
        // In a sentence that was wrapped a name reads on.
        let text = "Peter Alexander Maria Johann Sebastian\nSchmidt of the old town met us.";
        assert_eq!(names_of(text, aggregation).len(), 1, "{aggregation:?}");
    }
}

/// Tags were names, and references parts of them.
#[test]
fn markup_is_no_name() {
    for aggregation in [Aggregation::Simple, Aggregation::First, Aggregation::Average, Aggregation::Max] {
        let check = |text: &str, expected: &[&str]| {
            let parameters = EntitiesParameters { aggregation, ..EntitiesParameters::default() };
            let found = tagged(text, parameters, |index, _| if index == 0 { "B-PER" } else { "I-PER" });
            let found: Vec<&str> = found.iter().map(|entity| entity.text.as_str()).collect();
            assert_eq!(found, expected, "{text:?} {aggregation:?}");
        };
        check("<b>Anna</b> Schmidt", &["Anna</b> Schmidt"]);
        check("<i>Anna</i> <i>Schmidt</i>", &["Anna</i> <i>Schmidt"]);
        check("<p>Anna Schmidt</p><p>Peter Jones</p>", &["Anna Schmidt", "Peter Jones"]);
        check("<a href=\"/Oslo\" title='Rome'>Anna</a>", &["Anna"]);
        check("<td>Anna&nbsp;</td><td>&nbsp;Peter</td>", &["Anna", "Peter"]);
        check("<script>var Oslo;</script>Anna", &["Anna"]);
        check("Anna <!-- Oslo --> Schmidt", &["Anna <!-- Oslo --> Schmidt"]);
        check("M&uuml;ller", &["M&uuml;ller"]);
        check("Ren&eacute; M&#252;ller", &["Ren&eacute; M&#252;ller"]);
        check("AT&amp;T", &["AT&amp;T"]);
        check("Anna &amp;", &["Anna"]);
        check("&lt;Anna&gt;", &["Anna"]);
        check("Anna <anna@acme.com>", &["Anna"]);
        check("Ⓢiemens 🆂iemens", &["Ⓢiemens 🆂iemens"]);
        check("🅷🅴🅻🅻🅾", &["🅷🅴🅻🅻🅾"]);
    }
}

/// A blank was the first character of what followed an abbreviation, and a model may take one apart.
#[test]
fn abbreviations_are_whole() {
    for aggregation in [Aggregation::First, Aggregation::Average, Aggregation::Max] {
        let check = |text: &str, tags: &[&'static str], expected: &[(&str, &str)]| {
            let parameters = EntitiesParameters { aggregation, ..EntitiesParameters::default() };
            let found = tagged(text, parameters, |index, _| tags.get(index).copied().unwrap_or("O"));
            assert_eq!(names(&found), expected, "{text:?} {aggregation:?}");
        };
        let steel = [("U.S.", "LOC"), ("Steel", "ORG")];
        check("U.S. Steel said so.", &["B-LOC", "I-LOC", "I-LOC", "I-LOC", "B-ORG"], &steel);
        check("U.S. Steel said so.", &["B-LOC", "I-PER", "B-ORG", "O", "I-ORG"], &steel);
        check("U.K. Smith", &["B-PER", "B-LOC", "I-LOC", "B-PER", "I-PER"], &[("U.K. Smith", "PER")]);
        check("U. Smith", &["B-PER", "B-LOC", "I-LOC"], &[("U", "PER"), ("Smith", "LOC")]);
        check("the U.S.A.", &["O", "B-LOC", "B-PER", "I-ORG", "O", "B-LOC", "B-LOC"], &[("U.S.A.", "LOC")]);
    }
}

/// A model leaves off a part behind a hyphen, and takes what somebody says for his name.
#[test]
fn names_are_whole_words() {
    let check = |text: &str, outside: &[&str], expected: &[&str]| {
        let found = tagged(text, EntitiesParameters::default(), |index, token| match index {
            _ if outside.contains(&token) => "O",
            0 => "B-PER",
            _ => "I-PER",
        });
        let found: Vec<&str> = found.iter().map(|entity| entity.text.as_str()).collect();
        assert_eq!(found, expected, "{text:?}");
    };
    check("Fatima Al-Anna", &["-", "Anna"], &["Fatima Al-Anna"]);
    check("Berlin-based", &["-", "based"], &["Berlin"]);
    check(
        "Anna Schmidt-\nMeier left the old town.",
        &["-", "Meier", "left", "the", "old", "town", "."],
        &["Anna Schmidt-\nMeier"],
    );
    check("Bosch™ & Volvo", &[], &["Bosch", "Volvo"]);
    check("Anna Smith: hello", &[], &["Anna Smith"]);
    check("Anna Smith & Peter Jones", &[], &["Anna Smith", "Peter Jones"]);
    check(
        "Anna Smith\nPeter Jones and the town of Oslo.",
        &["and", "the", "town", "of", "Oslo", "."],
        &["Anna Smith", "Peter Jones"],
    );
}

/// A text was cut within a name, and the first letters of it were a name.
#[test]
fn a_part_of_a_word_is_no_name() {
    let model = CATALOG.default_for(Task::Entities).unwrap();
    let tokenizer = CATALOG.tokenizer(model.id).unwrap();
    let check = |name: &str, truncation: Truncation| {
        let pieces = tokenizer.encode(name).unwrap().ids.len();
        for words in 510 - pieces..=511 {
            let fill = "word ".repeat(words);
            let text = match truncation {
                Truncation::End => format!("{fill}{name} in the park, and so on."),
                _ => format!("In the old park, {name} {fill}"),
            };
            let parameters = EntitiesParameters { truncation, ..EntitiesParameters::default() };
            let mut prepared = prepare(Task::Entities, &[&text], &Parameters::Entities(parameters)).unwrap();
            let word = tokenizer.encode("word").unwrap().ids[0];
            let outputs = prepared.take_jobs().into_iter().map(|job| {
                let tags = job.sequence.input_ids.iter().enumerate();
                let values = tags.flat_map(|(row, id)| {
                    let is_special = row == 0 || row + 1 == job.sequence.len();
                    let tag = if *id == word || is_special { "O" } else { "I-PER" };
                    TAGS.map(|other| if other == tag { 9.0 } else { 0.0 })
                });
                SequenceOutput { values: values.collect(), columns: TAGS.len() }
            });
            let answer = prepared.decode(outputs.collect()).unwrap();
            let Output::Entities(entities) = &answer.results[0].as_ref().unwrap().output else {
                panic!("entities")
            };
            for entity in entities {
                let whole = text.split([' ', ',']).collect::<Vec<_>>();
                for part in entity.text.split([' ', ',']).filter(|part| !part.is_empty()) {
                    assert!(
                        whole.contains(&part.trim_end_matches('.')) || whole.contains(&part),
                        "{part} of {name}"
                    );
                }
            }
        }
    };
    for name in ["Brzeszczykiewicz", "Ouagadougou", "O'Shaughnessy", "Jean-Baptiste", "J.P.Morgan", "Oslo"] {
        check(name, Truncation::End);
        check(name, Truncation::Start);
    }
}

#[test]
fn entities_of_long_texts_keep_their_places() {
    let text = format!("{}Oslo {}", "word ".repeat(700), "word ".repeat(300));
    let model = CATALOG.default_for(Task::Entities).unwrap();
    let oslo = CATALOG.tokenizer(model.id).unwrap().encode("oslo").unwrap().ids[0];
    let mut prepared =
        prepare(Task::Entities, &[&text], &Parameters::Entities(EntitiesParameters::default())).unwrap();
    let outputs = prepared.take_jobs().into_iter().map(|job| {
        let row = |id: &u32| {
            TAGS.map(|tag| {
                if (tag == "B-LOC") == (*id == oslo) && (tag == "O" || tag == "B-LOC") { 9.0 } else { 0.0 }
            })
        };
        let values = job.sequence.input_ids.iter().flat_map(row).collect();
        SequenceOutput { values, columns: TAGS.len() }
    });
    let answer = prepared.decode(outputs.collect()).unwrap();
    let Output::Entities(entities) = &answer.results[0].as_ref().unwrap().output else {
        panic!("entities were asked for")
    };
    assert_eq!(entities.len(), 1, "an overlap is read once");
    assert_eq!((entities[0].start, entities[0].end), (3500, 3504));
}

proptest! {
    /// Whatever the text and the tags: the slice at the offsets is the entity's text, in every unit, in
    /// order.
    #[test]
    fn slices_are_the_text(
        text in "[a-zA-Z]{1,4}([a-zA-Z0-9 ,.'é漢🎉®ﬁｆß\u{301}\u{ad}\u{200d}\n:&-]|<b>|</td>|&amp;|&eacute;|&nbsp;| & |-A|Ⓢ|U\\.S\\.|\n\n| +|&#32;|&NewLine;|-\n|\\PC){0,40}",
        seed in any::<u64>(),
        aggregation in 0usize..5,
    ) {
        use Aggregation as A;
        let aggregation = [A::None, A::Simple, A::First, A::Average, A::Max][aggregation];
        for unit in [OffsetUnit::Codepoint, OffsetUnit::Byte, OffsetUnit::Utf16] {
            let parameters = EntitiesParameters { aggregation, offset_unit: unit, ..EntitiesParameters::default() };
            let found = tagged(&text, parameters, |index, _| TAGS[(seed.rotate_left(index as u32 * 5) % 9) as usize]);
            let mut end = 0;
            for entity in found {
                let slice = match unit {
                    OffsetUnit::Codepoint => text.chars().skip(entity.start).take(entity.end - entity.start).collect(),
                    OffsetUnit::Byte => text[entity.start..entity.end].to_owned(),
                    OffsetUnit::Utf16 => {
                        let units: Vec<u16> = text.encode_utf16().collect();
                        String::from_utf16(&units[entity.start..entity.end]).unwrap()
                    }
                };
                prop_assert_eq!(&slice, &entity.text);
                // Whatever a model says, no name begins or ends with a blank.
                prop_assert!(aggregation == A::None || slice.trim() == slice, "{:?}", slice);
                prop_assert!(entity.start >= end || aggregation == A::None);
                prop_assert!((0.0..=1.0).contains(&entity.score));
                end = entity.end;
            }
        }
    }
}
