//! The real tokenizer: whole texts, byte offsets, special tokens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use models::card::TOKENIZER_FILE;
use models::{TextTokenizer, TokenizeError};
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
