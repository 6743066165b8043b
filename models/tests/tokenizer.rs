//! The real tokenizer: whole texts, byte offsets, special tokens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use models::card::TOKENIZER_FILE;
use models::{EncodedText, Keep, Pace, TextTokenizer, TokenizeError};
use proptest::prelude::*;

fn tokenizer() -> TextTokenizer {
    let folder = common::source_folder(&common::card("embeddings-v2"));
    TextTokenizer::from_file(&folder.join(TOKENIZER_FILE)).unwrap()
}

#[test]
fn long_texts_are_not_cut_and_short_ones_not_filled() {
    // The file itself says: truncate to 128 tokens, and fill up to 128.
    let tokenizer = tokenizer();
    for words in [0, 1, 127, 128, 129, 600, 20_000] {
        let text = "house ".repeat(words);
        assert_eq!(tokenizer.encode(&text).unwrap().ids.len(), words);
    }
}

#[test]
fn special_tokens_wrap_a_window() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.special_tokens_count(), 2);
    assert_eq!(tokenizer.with_special_tokens(&[]), [101, 102]);
    assert_eq!(tokenizer.with_special_tokens(&[7, 8]), [101, 7, 8, 102]);
    assert_eq!(tokenizer.vocabulary_size(), 30_522);
}

#[test]
fn offsets_are_bytes_of_the_original_text() {
    let tokenizer = tokenizer();
    let check = |text: &str, expected: &[(&str, Option<u32>)]| {
        let encoded = tokenizer.encode(text).unwrap();
        let slices = encoded.offsets.iter().map(|&(start, end)| &text[start..end]);
        assert_eq!(slices.zip(encoded.words).collect::<Vec<_>>(), expected, "{text:?}");
    };
    check("", &[]);
    check("Hello, Zoë!", &[("Hello", Some(0)), (",", Some(1)), ("Zoë", Some(2)), ("!", Some(3))]);
    check("naïve  café", &[("naïve", Some(0)), ("café", Some(1))]);
    check("embeddings", &[("em", Some(0)), ("bed", Some(0)), ("ding", Some(0)), ("s", Some(0))]);
    check("你好", &[("你", Some(0)), ("好", Some(1))]);
}

#[test]
fn a_file_that_is_no_tokenizer_is_named() {
    let error = TextTokenizer::from_file("no/such/tokenizer.json".as_ref()).unwrap_err();
    assert!(
        matches!(&error, TokenizeError::File { file, .. } if file == "no/such/tokenizer.json"),
        "{error}"
    );
}

#[test]
fn any_text_has_offsets_inside_itself_and_in_order() {
    let tokenizer = tokenizer();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let texts = prop_oneof!["\\PC{0,60}", ".{0,60}", "[a-zé你😀\u{301} .]{0,80}"];
    runner
        .run(&texts, |text| {
            let encoded = tokenizer.encode(&text).unwrap();
            prop_assert_eq!(encoded.ids.len(), encoded.offsets.len());
            prop_assert_eq!(encoded.ids.len(), encoded.words.len());
            let mut before = 0;
            for &(start, end) in &encoded.offsets {
                prop_assert!(start <= end && text.get(start..end).is_some(), "{start}..{end}");
                prop_assert!(start >= before);
                before = start;
            }
            Ok(())
        })
        .unwrap();
}

/// Runs a future that waits for nothing but its turn.
fn complete<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return result;
        }
    }
}

/// What a text gives in pieces must be what it gives as a whole, whatever is kept of it.
fn check_pieces(tokenizer: &TextTokenizer, text: &str) -> Result<(), TestCaseError> {
    let whole = tokenizer.encode(text).unwrap();
    let count = whole.ids.len();
    let pace = Pace::at_once();
    let within = |keep, limit| complete(tokenizer.encode_within(text, keep, limit, &pace)).unwrap();
    let part = |from: usize, to: usize| EncodedText {
        ids: whole.ids[from..to].to_vec(),
        offsets: whole.offsets[from..to].to_vec(),
        words: whole.words[from..to].to_vec(),
    };
    let all = within(Keep::All, usize::MAX);
    prop_assert_eq!(&all.text, &whole);
    prop_assert!(all.is_whole && all.tokens == count + all.dropped && all.unknown <= all.tokens);
    for kept in [0, 1, count / 2, count + 1] {
        let kept_now = kept.min(count);
        prop_assert_eq!(within(Keep::First(kept), usize::MAX).text, part(0, kept_now));
        prop_assert_eq!(within(Keep::Last(kept), usize::MAX).text, part(count - kept_now, count));
    }
    let within_limit = within(Keep::All, count + all.dropped);
    prop_assert!(within_limit.is_whole && within_limit.tokens == all.tokens);
    let least = complete(tokenizer.tokens_at_least(text, usize::MAX, &pace));
    prop_assert!(least <= count, "{} tokens at least, {} found", least, count);
    if count > 0 {
        let over = within(Keep::All, count - 1);
        prop_assert!(over.tokens > count - 1);
        prop_assert!(complete(tokenizer.tokens_at_least(text, count - 1, &pace)) <= count);
    }
    Ok(())
}

/// Texts of many pieces: of units that are hard to cut, in any order, each repeated.
fn hostile() -> impl Strategy<Value = String> {
    let unit = prop_oneof![
        "[a-z]{1,12} ",
        "\\PC{1,4}",
        Just("[SEP]".to_owned()),
        Just("[UNK".to_owned()),
        Just("[".to_owned()),
        Just("#".to_owned()),
        Just("... # ".to_owned()),
        Just("a".to_owned()),
        Just("é".to_owned()),
        Just("e\u{301}".to_owned()),
        Just("\u{301}".to_owned()),
        Just("\u{200b}".to_owned()),
        Just("\u{c}".to_owned()),
        Just("\u{85}".to_owned()),
        Just("你好".to_owned()),
        Just("你\u{301}".to_owned()),
        Just("ไทย".to_owned()),
        Just("かな。".to_owned()),
        Just("😡".to_owned()),
        Just("≠≮\u{1fef}\u{37e}".to_owned()),
        Just("İ".to_owned()),
        Just("\u{2028}\u{a0}\u{3000}".to_owned()),
        Just("ﬁ®™".to_owned()),
        Just("a\u{fb03}".to_owned()),
        Just("ａｂ".to_owned()),
        Just("👨\u{200d}👩🏽".to_owned()),
        Just("🇩🇪".to_owned()),
        Just("inter-\n".to_owned()),
        Just("\u{ad}\nesting ".to_owned()),
        Just("\u{e000}".to_owned()),
        Just("1½℃".to_owned()),
    ];
    let run = (unit, prop_oneof![4 => 1usize..4, 1 => 1usize..9000]);
    proptest::collection::vec(run, 0..8)
        .prop_map(|runs| runs.into_iter().map(|(unit, count)| unit.repeat(count)).collect())
}

#[test]
fn pieces_give_what_the_whole_gives() {
    let tokenizer = tokenizer();
    let normalizing = tokenizer.normalizing(true);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 150,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    });
    runner.run(&hostile(), |text| check_pieces(&tokenizer, &text)).unwrap();
    runner.run(&hostile(), |text| check_pieces(&normalizing, &text)).unwrap();
    // Words of which nothing, little or all is kept, beyond what is looked at at once.
    for text in [
        "\u{200b}".repeat(20_000),
        format!("{}end", "\u{200b}".repeat(20_000)),
        format!("start{}end", "\u{301}".repeat(20_000)),
        format!("{}x{}", "\u{200b}".repeat(9_000), "\u{200b}".repeat(9_000)),
        format!("\u{200b}{}\u{200b}", "ab".repeat(20_000)),
        format!("before [MASK{} after", "k".repeat(30_000)),
        "ไทย".repeat(9_000),
    ] {
        check_pieces(&tokenizer, &text).unwrap();
        check_pieces(&normalizing, &text).unwrap();
    }
}

#[test]
fn names_of_special_tokens_are_text() {
    let check = |tokenizer: &TextTokenizer, text: &str, expected: &[&str]| {
        let encoded = tokenizer.encode(text).unwrap();
        let slices: Vec<_> = encoded.offsets.iter().map(|&(start, end)| &text[start..end]).collect();
        assert_eq!(slices, expected, "{text:?}");
        assert!(encoded.ids.iter().all(|id| !(100..=103).contains(id) && *id != 0), "{:?}", encoded.ids);
    };
    for tokenizer in [tokenizer(), tokenizer().normalizing(true)] {
        check(&tokenizer, "x [SEP] y", &["x", "[", "SEP", "]", "y"]);
        check(&tokenizer, "[PAD]", &["[", "PAD", "]"]);
        check(&tokenizer, "[CLS][MASK]", &["[", "CL", "S", "]", "[", "MASK", "]"]);
        check(&tokenizer, "a[UNK]b", &["a", "[", "UN", "K", "]", "b"]);
    }
}

/// A tokenizer that cuts at white space alone has the names of its special tokens among its words.
#[test]
fn words_are_no_special_tokens() {
    let json = r###"{
        "version": "1.0", "normalizer": null, "decoder": null, "truncation": null, "padding": null,
        "added_tokens": [
            { "id": 0, "content": "[UNK]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true },
            { "id": 1, "content": "[SEP]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true }
        ],
        "pre_tokenizer": { "type": "WhitespaceSplit" },
        "post_processor": { "type": "TemplateProcessing",
            "single": [ { "Sequence": { "id": "A", "type_id": 0 } }, { "SpecialToken": { "id": "[SEP]", "type_id": 0 } } ],
            "pair": [ { "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } } ],
            "special_tokens": { "[SEP]": { "id": "[SEP]", "ids": [1], "tokens": ["[SEP]"] } } },
        "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                   "max_input_chars_per_word": 100, "vocab": { "[UNK]": 0, "[SEP]": 1, "a": 2, "b": 3 } }
    }"###;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokenizer.json");
    std::fs::write(&file, json).unwrap();
    let tokenizer = TextTokenizer::from_file(&file).unwrap();
    assert_eq!(tokenizer.encode("a [SEP] b z").unwrap().ids, [2, 0, 3, 0]);
    assert_eq!(tokenizer.with_special_tokens(&[2]), [2, 1]);
    let encoded =
        complete(tokenizer.encode_within("a [SEP] b z", Keep::First(1), usize::MAX, &Pace::at_once()));
    let encoded = encoded.unwrap();
    assert_eq!((encoded.tokens, encoded.unknown, encoded.text.ids.as_slice()), (4, 2, [2].as_slice()));
}

#[test]
fn padding_is_no_text() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.padding(), Some(0));
    let check = |ids: &[u32], expected: bool| assert_eq!(tokenizer.is_wrapped(ids), expected, "{ids:?}");
    check(&[101, 7592, 102], true);
    check(&[101, 7592, 102, 0, 0], true);
    check(&[0, 101, 7592, 102], true);
    check(&[101, 7592, 0, 2088, 102], true);
    check(&[101, 7592, 0], false);
    check(&[7592, 0], false);
    check(&[0, 0], false);
    check(&[], false);
}

/// Where the token at the end of texts fills up rows too, it is a part of them.
#[test]
fn a_token_of_every_text_is_no_padding() {
    let json = r###"{
        "version": "1.0", "normalizer": null, "decoder": null, "truncation": null,
        "padding": { "strategy": "BatchLongest", "direction": "Left", "pad_to_multiple_of": null,
                     "pad_id": 1, "pad_type_id": 0, "pad_token": "<end>" },
        "added_tokens": [
            { "id": 1, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true },
            { "id": 4, "content": "<pad>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true }
        ],
        "pre_tokenizer": { "type": "WhitespaceSplit" },
        "post_processor": { "type": "TemplateProcessing",
            "single": [ { "Sequence": { "id": "A", "type_id": 0 } }, { "SpecialToken": { "id": "<end>", "type_id": 0 } } ],
            "pair": [ { "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 1 } } ],
            "special_tokens": { "<end>": { "id": "<end>", "ids": [1], "tokens": ["<end>"] } } },
        "model": { "type": "WordLevel", "unk_token": "[UNK]", "vocab": { "[UNK]": 0, "<end>": 1, "a": 2, "b": 3, "<pad>": 4 } }
    }"###;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokenizer.json");
    std::fs::write(&file, json).unwrap();
    let tokenizer = TextTokenizer::from_file(&file).unwrap();
    assert_eq!(tokenizer.padding(), None);
    assert!(tokenizer.is_wrapped(&[2, 1]) && !tokenizer.is_wrapped(&[2]));
    std::fs::write(
        &file,
        json.replace("\"pad_id\": 1", "\"pad_id\": 4")
            .replace("\"pad_token\": \"<end>\"", "\"pad_token\": \"<pad>\""),
    )
    .unwrap();
    assert_eq!(TextTokenizer::from_file(&file).unwrap().padding(), Some(4));
}

#[test]
fn what_is_not_known_is_counted() {
    let plain = tokenizer();
    let check = |text: &str, expected: (usize, usize), normalized: (usize, usize)| {
        for (tokenizer, expected) in [(&plain, expected), (&plain.normalizing(true), normalized)] {
            let encoded =
                complete(tokenizer.encode_within(text, Keep::First(1), usize::MAX, &Pace::at_once()))
                    .unwrap();
            assert_eq!((encoded.tokens, encoded.unknown), expected, "{text:?}");
        }
    };
    check("known words", (2, 0), (2, 0));
    check("awful😡", (1, 1), (2, 1));
    check("🦖 and 🦖", (3, 2), (3, 2));
    check("the o\u{fb03}ce", (2, 1), (2, 0));
    check("Acme®", (3, 0), (3, 0));
    // Dropped, but people may see them.
    check("\u{e000}\u{e001}", (2, 2), (2, 2));
    check("known\u{e000} \u{fffd}words", (4, 2), (4, 2));
    check(&"😡".repeat(9000), (1, 1), (9000, 9000));
}

/// Normalised or not, what is read are slices of the text between its characters, in order.
#[test]
fn normalised_texts_keep_their_places() {
    let tokenizer = tokenizer().normalizing(true);
    let check = |text: &str, expected: &[(&str, Option<u32>)]| {
        let encoded = tokenizer.encode(text).unwrap();
        let slices = encoded.offsets.iter().map(|&(start, end)| &text[start..end]);
        assert_eq!(slices.zip(encoded.words).collect::<Vec<_>>(), expected, "{text:?}");
    };
    check("so awful😡!", &[("so", Some(0)), ("awful", Some(1)), ("😡", Some(2)), ("!", Some(3))]);
    check("the o\u{fb03}ce", &[("the", Some(0)), ("o\u{fb03}ce", Some(1))]);
    check("ac\u{ad}count｜１２", &[("ac\u{ad}count", Some(0)), ("｜", Some(1)), ("１２", Some(2))]);
    check("under-\n  standing it", &[("under-\n  standing", Some(0)), ("it", Some(1))]);
    check("well-\nknown", &[("well", Some(0)), ("-", Some(1)), ("known", Some(2))]);
    check("one\u{c}two\u{85}three", &[("one", Some(0)), ("two", Some(1)), ("three", Some(2))]);
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 1000,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let texts = prop_oneof![
        "\\PC{0,60}",
        ".{0,60}",
        "[a-zé你😀®ﬁｆ\u{301}\u{ad}\u{200d}\u{fe0f}🇩🇪👍🏽\u{c}\u{e000} .\n-]{0,80}",
        proptest::collection::vec(any::<char>(), 0..60).prop_map(|c| c.into_iter().collect::<String>()),
    ];
    runner
        .run(&texts, |text| {
            let encoded = tokenizer.encode(&text).unwrap();
            let mut before = (0, 0);
            for &(start, end) in &encoded.offsets {
                prop_assert!(start < end && text.get(start..end).is_some(), "{start}..{end} of {text:?}");
                prop_assert!(before.0 <= start && before.1 <= end, "{before:?} {start}..{end} of {text:?}");
                before = (start, end);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn work_ends_where_the_limit_is_passed() {
    let tokenizer = tokenizer();
    for unit in ["#", "a b ", "... # ", "é ü ", "你", "。", "x"] {
        let text = unit.repeat((1 << 20) / unit.len());
        let pace = Pace::at_once();
        let encoded = complete(tokenizer.encode_within(&text, Keep::All, 1000, &pace)).unwrap();
        assert!(unit == "x" || (!encoded.is_whole && encoded.tokens > 1000), "{unit:?}");
        assert!(unit == "x" || pace.spent() < 16_384, "{unit:?}: {} bytes", pace.spent());
        let pace = Pace::at_once();
        let least = complete(tokenizer.tokens_at_least(&text, 1000, &pace));
        assert!((least == 1001 || unit == "x") && pace.spent() <= (1 << 20) / 64, "{unit:?}: {least}");
    }
}
