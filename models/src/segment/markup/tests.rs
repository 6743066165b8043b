use super::*;

/// `·` stands for a byte that is blank, `¬` for one that is nothing.
fn check(text: &str, expected: &str, ends: usize) {
    let found = Plain::of(text);
    assert_eq!(found.text.len(), text.len(), "{text:?}");
    assert_eq!(found.text, expected.replace('·', " ").replace('¬', "\u{1}"), "{text:?}");
    assert_eq!(found.ends.len(), ends, "{text:?}");
}

#[test]
fn tags() {
    check("<b>Anna</b> Schmidt", "···Anna···· Schmidt", 0);
    check("An<b>na</b>", "An¬¬¬na····", 0);
    check("<i>Anna</i><i>Schmidt</i>", "···Anna·······Schmidt····", 0);
    check("<li>Anna</li><li>Olga</li>", "····Anna·········Olga·····", 4);
    check("Anna<br>Olga<br/>Eva<BR />", "Anna····Olga·····Eva······", 3);
    check("<td class=\"a > b\">Oslo</td>", "··················Oslo·····", 2);
    check("<a href='/x'>Oslo</a>", "·············Oslo····", 0);
    check("<p\nid=x>é", "········é", 1);
    check("<Name>Oslo</Name>", "······Oslo·······", 2);
    check("<x:y a=\"é\">Oslo", "············Oslo", 1);
    check("<!-- Anna -->Oslo", "·············Oslo", 0);
    check("<!DOCTYPE html>Oslo", "···············Oslo", 1);
    check("<?xml version=\"1.0\"?>Oslo", "·····················Oslo", 1);
    check("<style>Anna</style>Oslo", "···················Oslo", 1);
    check("<td>Anna", "····Anna", 1);
    check("<p class=\"x>Anna", "············Anna", 1);
    check("Anna\\nOlga\\r\\nEva", "Anna··Olga····Eva", 2);
}

/// HTML that was escaped once too often: `<br>` was a name.
#[test]
fn escaped_tags() {
    check("Anna&lt;br&gt;Olga", "Anna··········Olga", 1);
    check("Anna&lt;BR /&gt;Olga", "Anna············Olga", 1);
    check("&lt;p&gt;Anna&lt;/p&gt;", "·········Anna··········", 2);
    check("&lt;b&gt;Anna&lt;/b&gt; Schmidt", "·········Anna·········· Schmidt", 0);
    check("&lt;p class=&quot;x&quot;&gt;Anna", "·····························Anna", 1);
    for text in ["&lt;b and c&gt;", "&lt;p", "&lt;", "a &lt; b &gt; c", "&lt;/&gt;", "&lt;Germany&gt;"] {
        assert!(!Plain::of(text).text.starts_with("  "), "{text:?}");
    }
}

#[test]
fn no_tags() {
    for text in [
        "a < b and c > d",
        "a <b and c> d",
        "Anna <anna@acme.com>",
        "Anna <Anna Schmidt>",
        "<https://acme.com>",
        "<3 Oslo",
        "<Berlin>",
        "<",
        "<>",
        "</",
        "<p",
        "<p <",
        "x<-y",
        "R&D; S&P",
        "AT&T",
        "&",
        "&;",
        "&#;",
        "&#xd800;",
        "&#0;",
        "&foo;",
        "<!-- Anna",
        "C:\\nAnna",
        "C:\\Anna\\names",
        "\\nAnna",
        "a \\neq b",
    ] {
        check(text, text, 0);
    }
}

#[test]
fn references() {
    check("Marks &amp; Spencer", "Marks &···· Spencer", 0);
    check("Anna&nbsp;Olga", "Anna\u{a0}····Olga", 0);
    check("M&uuml;ller", "Mü¬¬¬¬ller", 0);
    check("M&uumlller", "Mü¬¬¬ller", 0);
    check("Ren&eacute; left", "René¬¬¬¬¬¬ left", 0);
    check("&OElig;uvre", "Œ¬¬¬¬¬uvre", 0);
    check("Anna&NewLine;Olga", "Anna\n········Olga", 0);
    check("O&#39;Brien", "O'¬¬¬¬Brien", 0);
    check("AT&amp;T", "AT&¬¬¬¬T", 0);
    check("O&#x27;Brien", "O'¬¬¬¬¬Brien", 0);
    check("&oslash;", "ø¬¬¬¬¬¬", 0);
    check("&lt;Oslo&gt;", "<···Oslo>···", 0);
}

/// The texts between the ends of names, without markup.
fn check_parts(text: &str, expected: &[&str]) {
    let Plain { text: plain, ends, .. } = Plain::of(text);
    let ends = ends.into_iter().chain([plain.len()]);
    let mut start = 0;
    let mut parts = Vec::new();
    for end in ends {
        let part: String = plain[start..end].replace('\u{1}', "");
        let part = part.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        if !part.is_empty() {
            parts.push(part);
        }
        start = end;
    }
    assert_eq!(parts, expected, "{text:?}");
}

/// An image in a mail is one tag, however large it is.
#[test]
fn tags_of_any_length() {
    let data = "iVBORw0KGgo/+Abc9".repeat(20_000);
    for (open, close) in [
        ("<img src=\"data:image/png;base64,", "\">"),
        ("<img src='data:image/png;base64,", "'/>"),
        ("<img alt=x src=data:image/png;base64,", " >"),
        ("<a href=\"/x\" style = \"background: url(data:image/png;base64,", ")\" >"),
        ("![chart](data:image/png;base64,", ")"),
        ("background: url(data:image/svg+xml;charset=utf-8;base64,", ")"),
    ] {
        let text = format!("Anna{open}{data}{close}Olga");
        let found = Plain::of(&text);
        assert!(!found.text.contains("iVBOR"), "{open}");
        assert!(found.text.starts_with("Anna") && found.text.ends_with("Olga"), "{open}");
        assert_eq!(found.text.len(), text.len());
    }
    check("Anna data:text/plain;base64,QQ== Olga", &format!("Anna {}Olga", "·".repeat(28)), 1);
    // Without an end it is no tag, however long it is looked for.
    for text in ["<p class='", "<img alt=\"a < b", "<p a=b "] {
        let text = format!("{text}{}", "Anna b ".repeat(5_000));
        assert_eq!(Plain::of(&text).text, text);
    }
    check("<img alt=\"a < b\" x>Oslo", "···················Oslo", 1);
    check("<a title=\"<b>Anna</b>\">Oslo", "·······················Oslo", 0);
    check("<p class=\"x>Anna <b title=\"y\">Olga", "············Anna ·············Olga", 1);
    check("<p a=\"x\"b=\"y\">Anna", "··············Anna", 1);
}

/// Names in neighbouring links were one.
#[test]
fn neighbours() {
    let check = check_parts;
    check("<a href=1>Anna Schmidt</a> <a href=2>Peter Jones</a>", &["Anna Schmidt", "Peter Jones"]);
    check("<a>Siemens</a><a>Bosch</a>", &["Siemens", "Bosch"]);
    check("<A>Siemens</A>&nbsp;<A>Bosch</A>", &["Siemens \u{a0}", "Bosch"]);
    check("<a><b>Siemens</b></a> | <i><a>Bosch</a></i>", &["Siemens |", "Bosch"]);
    check("<a>Siemens</a> and <a>Bosch</a>", &["Siemens and Bosch"]);
    check("Dr. <a>Anna</a> Schmidt", &["Dr. Anna Schmidt"]);
    check("<b>Anna Schmidt</b> <b>Peter Jones</b>", &["Anna Schmidt", "Peter Jones"]);
    check("<span>Anna Schmidt</span><span>Peter Jones</span>", &["Anna Schmidt", "Peter Jones"]);
    check(
        "<i><b>Anna Schmidt</b></i> <i><b>Peter van Dyk</b></i> <em>Maria Lopez</em>",
        &["Anna Schmidt", "Peter van Dyk", "Maria Lopez"],
    );
    check("<b>Anna</b> <b>Schmidt</b>", &["Anna Schmidt"]);
    check("<b>Anna</b><b>Schmidt</b>", &["Anna Schmidt"]);
    check("<b>Anna Maria</b> <b>Schmidt</b>", &["Anna Maria Schmidt"]);
    check("<b>Anna Schmidt</b> of <b>Northern Steel</b>", &["Anna Schmidt of Northern Steel"]);
    check("<b>anna schmidt</b> <b>peter jones</b>", &["anna schmidt peter jones"]);
    check("<!-- a --><b>Anna</b><!-- b --> <b>Schmidt</b>", &["Anna Schmidt"]);
}

#[test]
fn notes() {
    let check = check_parts;
    check("Anna Schmidt<sup>1</sup> of Oslo", &["Anna Schmidt of Oslo"]);
    check("Oslo<sup id=\"r\" class=x><a href=\"#n\">[12]</a></sup>.", &["Oslo ."]);
    check("Oslo.<SUP>1, 2</SUP> Anna<sup>*</sup>", &["Oslo. Anna"]);
    check("10<sup>2</sup>", &["10 2"]);
    check("H<sub>2</sub>O", &["H 2 O"]);
    check("the 5<sup>th</sup>", &["the 5 th"]);
    check("Anna<sup>TM</sup>", &["Anna TM"]);
    check("Anna<sup></sup>", &["Anna"]);
}

/// What HTML reads as a blank was the end of a line.
#[test]
fn lines_of_paragraphs() {
    let check = |text: &str, expected: &str| {
        let read: String = Plain::of(text).text.chars().filter(|c| *c != '\u{1}').collect();
        let read: Vec<&str> = read.split(' ').filter(|word| !word.is_empty()).collect();
        assert_eq!(read.join(" "), expected, "{text:?}");
    };
    check("<p>Peter\nJones lives in\nOslo.</p>", "Peter Jones lives in Oslo.");
    check("<ul><li>San\r\n      Francisco</li>\n<li>Oslo</li></ul>", "San Francisco \n Oslo");
    check("<p>\n  Peter <b>Jones</b>\n  <i>lives</i> here.\n</p>", "\n Peter Jones lives here.\n");
    check("<TD>New\nYork</td>", "New York");
    // These are lines by themselves.
    check("Peter\nJones", "Peter\nJones");
    check("<pre>Peter\nJones</pre>", "Peter\nJones");
    check("<p>Peter\nJones", "Peter\nJones");
    check("<div>The one.\n\nThe other.</div>", "The one.\n\nThe other.");
    check("<p>Anna Schmidt\nPeter Jones</p>", "Anna Schmidt\nPeter Jones");
    check("<p>Anna<br>\nPeter</p>", "Anna \nPeter");
    check("<div>Anna\n<p>Peter</p>\nOlga</div>", "Anna\n Peter \nOlga");
}

/// Whatever is in scripts and styles is none of the text.
#[test]
fn scripts_and_comments() {
    check("<SCRIPT>Anna</SCRIPT>Oslo", "·····················Oslo", 1);
    check("<script>Anna</SCRIPT\n>Oslo", "······················Oslo", 1);
    check("<Style>Anna</sTyle x>Oslo", "·····················Oslo", 1);
    check("<script>'</scripts>'</script>A", "·····························A", 1);
    check("<script>Anna", "········Anna", 1);
    check("<!-->Anna<!-- -->", "·····Anna········", 0);
    check("<!--->Anna<!---->", "······Anna·······", 0);
    check("<![if !x]>Anna<![endif]>", "··········Anna··········", 0);
}

proptest::proptest! {
    /// Whatever the text: as many bytes, on the same boundaries, and what is told of it ascends.
    #[test]
    fn places_are_kept(
        text in "([a-zA-Z <>&;#\"'=/\n-]|<a href=\"|</a>|<b>|</b>|<p>|</p>|<sup>|</sup>|<br>|<!--|-->|&ouml|&nbsp;|é|;base64,|data:){0,60}"
    ) {
        let Plain { text: read, ends, blanks, references } = Plain::of(&text);
        proptest::prop_assert_eq!(read.len(), text.len());
        let is_within = |at: usize| references.iter().any(|place| place.start < at && at < place.end);
        proptest::prop_assert!(text.char_indices().all(|(at, _)| is_within(at) || read.is_char_boundary(at)));
        proptest::prop_assert!(ends.windows(2).all(|pair| pair[0] < pair[1]));
        proptest::prop_assert!(ends.iter().all(|end| text.is_char_boundary(*end)));
        for places in [blanks, references] {
            proptest::prop_assert!(places.windows(2).all(|pair| pair[0].end <= pair[1].start));
            proptest::prop_assert!(places.iter().all(|place| !place.is_empty() && place.end <= text.len()));
        }
    }
}
