#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::segment::{Plain, counted, sentences_at_once};

#[test]
fn pages() {
    let check = |line: &str, expected: bool| assert_eq!(is_page(line), expected, "{line:?}");
    check("Harbour Freight Ltd. - Confidential - Page 0 of 9", true);
    check("Page 3", true);
    check("Annual Report 2026 – Confidential – Page 1 of 40", true);
    check("Page 3/9", true);
    check("Please turn to page 3 of the report, which says more.", false);
    check("See page 12.", false);
    check("- 3 -", true);
    check("– 12 –", true);
    check("[4]", true);
    check("17", true);
    check("3/9", true);
    check("-5 %", false);
    check("1,5", false);
    check("3 ships", false);
    check("The rest is on p. 90.", false);
    check("The page was torn.", false);
}

/// Sentences were lost that had a word of a notice.
#[test]
fn boilerplate() {
    let check =
        |sentence: &str, expected: bool| assert_eq!(is_boilerplate(sentence), expected, "{sentence:?}");
    check("Unsubscribe | Privacy", true);
    check("To unsubscribe, reply with the word STOP.", true);
    check("You can unsubscribe from this list at any time.", true);
    check("Click here to unsubscribe.", true);
    check("If you are not the intended recipient, please delete this message.", true);
    check("If you are not the intended recipient, any disclosure is prohibited.", true);
    check("If you have received it in error, please delete it.", true);
    check("This e-mail and any attachments are confidential.", true);
    check("Sent from my phone", true);
    check("© 2026 Nord Ltd. All rights reserved.", true);
    check("© 2026 Nord Ltd.", true);
    check("Copyright (c) 2026 Nord Ltd.", true);
    check("Copyright law protects the firm.", false);
    check("Customers may unsubscribe at any time, the regulator said.", false);
    check("Customers may unsubscribe at any time.", false);
    check("The new law makes it easier to unsubscribe from mailing lists, lawmakers said on Monday.", false);
    check("If you are not the intended recipient of the grant, you must pay it back.", false);
    check(
        "If you are not the intended recipient of the grant, you must pay it back, the court ruled.",
        false,
    );
    check("The letter was sent from my office in Oslo.", false);
    check("The seats are intended only for the crew of the ship.", false);
    check("If you have received this parcel, you owe the post 5 euros.", false);
    check("The e-mail was confidential, she said, and any attachments are confidential.", false);
}

#[test]
fn roles_of_a_letter() {
    let text = "From: Ann\n\nDear Tom,\n\nThe ship is late. It sails on 3 May.\n\nKind regards\nAnn Lee\nNord Ltd.\n\n\
        This e-mail and any attachments are confidential.\n";
    let sentences = sentences_at_once(text);
    let shown: Vec<(&str, Role)> =
        passages(text, text, &sentences).into_iter().map(|part| (&text[part.bytes], part.role)).collect();
    use Role::{Apart, Frame, Matter};
    let expected = [
        ("From: Ann", Frame),
        ("Dear Tom,", Frame),
        ("The ship is late.", Matter),
        ("It sails on 3 May.", Matter),
        ("Kind regards", Frame),
        ("Ann Lee", Frame),
        ("Nord Ltd.", Frame),
        ("This e-mail and any attachments are confidential.", Apart),
    ];
    assert_eq!(shown, expected);
}

/// What a summary may have of a text: its passages that are of its matter, lines folded, and without what
/// stands within them.
fn matter(text: &str) -> Vec<String> {
    let plain = Plain::of(text).into_paragraphs(text);
    let passages = passages(&plain, text, &sentences_at_once(&plain));
    let words = |passage: &Passage| {
        let mut bytes: Vec<u8> = plain.as_bytes()[passage.bytes.clone()].to_vec();
        for part in &passage.left_out {
            bytes[part.start - passage.bytes.start..part.end - passage.bytes.start].fill(b' ');
        }
        String::from_utf8(bytes).unwrap().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    passages.iter().filter(|passage| passage.role == Role::Matter).map(words).collect()
}

const FACTS: [&str; 4] = [
    "The harbour sold two old cranes to a yard in Narvik last week.",
    "Fuel costs fell by four percent while the number of ships grew.",
    "A third dock will be built in Bergen by the end of the year.",
    "Three pilots left the service and nobody took their place.",
];

/// Prose directly behind and before what is none is kept, and nothing else is.
#[test]
fn prose_beside_what_is_none() {
    for apart in [
        "Nov 27 13:00:01 host sshd[123]: Failed password for root\nNov 27 13:00:02 host sshd[123]: Failed again",
        "INFO:root:Starting server\nDEBUG:app:Loaded config\nERROR:app:Out of memory",
        "2026-11-27 13:00:01,123 - app - INFO - Started\n2026-11-27 13:00:02,456 - app - ERROR - It failed",
        "WARNING: deprecated option used\nERROR: disk is full\nDEBUG: retry 1",
        "[INFO] Scanning for projects\n[ERROR] Failed to execute goal",
        "info: Microsoft.Hosting.Lifetime[0]\nwarn: slow request",
        "Nov 27, 2026 1:00:01 PM com.acme.Main run\nINFO: Starting",
        "[Fri Nov 27 13:00:01 2026] [error] client denied\n[    0.012345] Linux version 6.1",
        "11-27 13:00:01.123  1234  1234 D Wifi: scan started",
        "10.0.0.1 - - [27/Nov/2026:13:00:01 +0000] \"GET / HTTP/1.1\" 200 12",
        "www.acme.com anna [27/Nov/2026:13:00:01] \"GET /a HTTP/1.1\" 200",
        "npm WARN deprecated foo@1.0.0\nnpm ERR! code E404\nadded 12 packages in 3s",
        "$ cd /srv\n$ ls -la\ntotal 12\ndrwxr-xr-x 2 root root 4096 Nov 28 13:00 a",
        "anna@host:~$ make all\ncc -o main main.c\nmake: *** [all] Error 2",
        "error[E0308]: mismatched types\nthread 'main' panicked at src/main.rs:3:5",
        "java.lang.IllegalStateException: no ship\n\tat com.acme.Main.run(Main.java:12)\n\t... 12 more",
        "diff --git a/x.c b/x.c\nindex 3f2a..9c1b 100644\n--- a/x.c\n+++ b/x.c\n@@ -1,2 +1,2 @@\n-The old text is here.\n+The new text is here.\n It stays.",
        "--- a/notes/x.txt\n+++ b/notes/x.txt\n@@ -7 +7 @@ main\n-It was so.\n+It is so.",
        "Return-Path: <a@b.no>\nReceived: from mx by host;\n  Fri, 27 Nov 2026\nSubject: Cranes\nMIME-Version: 1.0\nContent-Type: text/plain",
        "From: Anna <anna@acme.com>\nTo: bob@acme.com\nDate: Mon, 3 Nov 2025 10:00:00",
        "GET /index.html HTTP/1.1\nHost: example.com\nUser-Agent: curl/8\nAccept: */*",
        "HTTP/1.1 200 OK\nServer: nginx\nContent-Length: 12",
        "> POST / HTTP/2\n> Host: example.com\n< HTTP/2 404\n< Content-Type: text/html",
        "commit 3f2a9c1b7d\nAuthor: Anna Schmidt <anna@acme.com>\nDate:   Mon Nov 3 10:00:00 2025 +0100",
        "--=_Part_12_345.678",
        "-----BEGIN PGP SIGNATURE-----\nVersion: GnuPG v1\n\niQEzBAEBCAAdFiEE+abc/def==\n=AbCd\n-----END PGP SIGNATURE-----",
        "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBaMQswCQYDVQQGEwJJ\n-----END CERTIFICATE-----",
        "MIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBaMQswCQYDVQQGEwJJ",
        "1 Introduction ........ 3\n2 Methods and data ........ 7\nAppendix . . . . . . xi",
        "Results …………… 12\nOutlook ______ 14",
        "<config>\n  <port>80</port>\n  <host name=\"a\"/>\n</config>",
        "<style>p { color: red; content: \"It is. Yes.\" }</style><!-- A note. It is none. --><script>a(\"It is.\");</script>",
        "Name    City    Age\nAnna    Oslo    5\nPeter   Rome    6",
        "Northern Steel AG      Annual Report      12",
        "---------- Forwarded message ----------\nFrom: Anna <a@b.no>\nSubject: Cranes",
        "-----Original Message-----\nFrom: Anna\nSent: Monday\nSubject: Cranes",
        "Content-Type: multipart/mixed; boundary=\"abc\"",
        "=========== 1 passed in 0.12s ===========",
        "Step 1/3 : FROM rust:1\n ---> 3f2a9c1b7d\nSuccessfully built 3f2a9c1b7d",
        "C:\\Users\\anna>dir\nnotes.txt",
        "anna@mac ~ % ls\na.txt  b.txt",
        ">>> import os\n>>> os.getcwd()\n'/home'",
        "Chapter 1: The harbour                    3\nChapter 2: The ships                   12",
        "name: ci\non: push\njobs: x",
        "name,city,age\nanna,oslo,3\nolga,rome,4",
        "\\begin{table}\n\\hline\na & b \\\\\n\\end{table}",
    ] {
        for between in ["\n", "\n\n", "\r\n"] {
            let text = [FACTS[0], apart, FACTS[1]].join(between);
            assert_eq!(matter(&text), FACTS[..2], "{text:?}");
            let text = [apart, FACTS[2], FACTS[3]].join(between);
            assert_eq!(matter(&text), FACTS[2..], "{text:?}");
        }
    }
}

/// What looks a little like a log, a table, a header or code.
#[test]
fn prose_that_resembles_what_is_none() {
    for (text, expected) in [
        (
            "He came.  He saw.  He won.\nThen he left.",
            &["He came.", "He saw.", "He won.", "Then he left."] as &[&str],
        ),
        (
            "THE WITNESS:  I was at home.  All night.  My sister saw me.",
            &["THE WITNESS: I was at home.", "All night.", "My sister saw me."],
        ),
        (
            "Prose   that  is  set   in  a  column  has  wide   gaps.\nIt   is   common  in   reports.",
            &["Prose that is set in a column has wide gaps.", "It is common in reports."],
        ),
        (
            "10:02\tThe chair opened the meeting.\n11:00\tThe meeting closed.",
            &["10:02 The chair opened the meeting.", "11:00 The meeting closed."],
        ),
        ("(a)\tIt rained.\n(b)\tIt snowed.", &["(a) It rained.", "(b) It snowed."]),
        (
            "Order 1 shipped\n\nOrder 2 shipped\n\nOrder 3 shipped",
            &["Order 1 shipped", "Order 2 shipped", "Order 3 shipped"],
        ),
        (
            "INFO: the road is closed. Use the bridge.\nWARNING: the bridge is wet. Take care.",
            &["INFO: the road is closed.", "Use the bridge.", "WARNING: the bridge is wet.", "Take care."],
        ),
        ("ERROR: Oslo lost the game", &["ERROR: Oslo lost the game"]),
        (
            "Note: the pumps leak.\nPlace: the old yard is closed.",
            &["Note: the pumps leak.", "Place: the old yard is closed."],
        ),
        ("Location: Oslo\nHost: Anna Schmidt", &["Location: Oslo", "Host: Anna Schmidt"]),
        ("Follow-up: call Anna\nTo-do: buy milk", &["Follow-up: call Anna", "To-do: buy milk"]),
        ("Nov 27 was cold.\nNov 28 was colder.", &["Nov 27 was cold.", "Nov 28 was colder."]),
        (
            "It was on Nov 27 at 13:00:01 that the ship left.",
            &["It was on Nov 27 at 13:00:01 that the ship left."],
        ),
        ("We waited ..... 12 of us.", &["We waited ..... 12 of us."]),
        ("He said ... 7", &["He said ... 7"]),
        ("--- It was late.\n+++ It was so late.", &["--- It was late.", "+++ It was so late."]),
        (
            "<p>Mr. Lee left. He was ill.</p>\n<p>Dr. Roe came. She was late.</p>",
            &["Mr. Lee left.", "He was ill.", "Dr. Roe came.", "She was late."],
        ),
        ("<div><b>It</b> <i>is</i> <a href=\"x\">so</a>.</div>", &["It is so ."]),
        (
            "<item>Mr. Lee left. He was ill.</item>\n<item>It rained.</item>",
            &["Mr. Lee left.", "He was ill.", "It rained."],
        ),
        ("<ul><li>One crane</li><li>Two cranes</li></ul>", &["One crane", "Two cranes"]),
        (
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nThe ship left. It was late.",
            &["The ship left.", "It was late."],
        ),
        ("def run(x):\n    return x\nIt failed. We know why.", &["It failed.", "We know why."]),
        ("$ 5 million was raised.\nThe rest is a loan.", &["$ 5 million was raised.", "The rest is a loan."]),
        (
            "Subject: Cranes\nTo: anna@acme.com\n  The crane is late. We wait for it.",
            &["The crane is late.", "We wait for it."],
        ),
        (
            "The company  sold\tforty pumps. The board met in May.",
            &["The company sold forty pumps.", "The board met in May."],
        ),
    ] {
        assert_eq!(matter(text), expected, "{text:?}");
    }
}

/// Headers stand at the ends of pages, wherever a sentence is then.
#[test]
fn pages_end_anywhere() {
    for header in [
        "CONFIDENTIAL",
        "Annual Report 2025 | {}",
        "{} | Annual Report",
        "12/{} THE ECONOMIC REVIEW",
        "Northern Steel AG                Annual Report 2025               {}",
        "Draft of 3 May, page {}",
        "- {} - Smith & Sons",
        "Bay Shipping Ltd.",
    ] {
        let header = |page: usize| header.replace("{}", &page.to_string());
        for between in ["\n", "\n\n", "\u{c}"] {
            let pages =
                FACTS.iter().enumerate().map(|(page, fact)| format!("{}{between}{fact}", header(page + 1)));
            let text = pages.collect::<Vec<_>>().join(between);
            assert_eq!(matter(&text), FACTS, "{text:?}");
        }
        let words = ["first", "second", "third", "fourth"];
        let page = |(page, word): (usize, &&str)| {
            format!(
                "The {word} crane was sold to a yard in the\n{}\nnorth of Norway in May. It was late.",
                header(page + 1)
            )
        };
        let text = words.iter().enumerate().map(page).collect::<Vec<_>>().join("\n");
        let expected =
            words.map(|word| format!("The {word} crane was sold to a yard in the north of Norway in May."));
        let found: Vec<String> =
            matter(&text).into_iter().filter(|passage| passage != "It was late.").collect();
        assert_eq!(found, expected, "{text:?}");
    }
}

/// A clause that is repeated is none of a page, however its lines are broken.
#[test]
fn repeated_clauses_are_no_headers() {
    let clause = "The tenant pays the rent on the first\nday of the month and the water by the\nend of it, as the law says.";
    let text = ["Anna lives here.", "Olga lives there.", "Eva lives in Oslo.", "Ida does not."]
        .map(|fact| format!("{clause}\n{fact}"))
        .join("\n");
    let expected = "The tenant pays the rent on the first day of the month and the water by the end of it, as the law says.";
    assert_eq!(matter(&text).iter().filter(|passage| *passage == expected).count(), 4, "{:?}", matter(&text));
}

/// A text of twice the size takes twice the work to tell matter from what is none, whatever it is made of.
#[test]
fn work_is_linear() {
    let visited = |text: &str| {
        let sentences = sentences_at_once(text);
        counted(|| drop(passages(text, text, &sentences)))
    };
    let line = "The ship of the line sailed on to the north and\n";
    let shapes = [
        "\n",
        "a\n",
        "a\n\n",
        "word ",
        "A word. ",
        "```\n",
        "```\na\n",
        "\"\"\"\n",
        "/*\n",
        "/* a */\n",
        "Traceback (most\n",
        "  at x(y.z:1)\n",
        "-----BEGIN PGP MESSAGE-----\n",
        "@@ -1,9 +1,9 @@\n",
        "diff --git a b\n",
        "+a\n",
        "$ ls\n",
        "ERROR: x\n",
        "a: b\n",
        "A: b\n",
        "a,b,c\n",
        "a\tb\n",
        "| a |\n",
        "<a>b</a>\n",
        "f(x);\n",
        "def f(x):\n",
        "{\n",
        "Subject: a\n",
        " a\n",
        "Page 3 of 9\n",
        "Page 3 of 9\n\nthe word and\n\n",
        "3\n",
        "a 1\nb 1\n",
        "Regards\nA\n",
        ")\n",
        "2026-11-27 13:00:01 INFO a\n",
        line,
    ];
    for shape in shapes {
        let text = shape.repeat(60_000 / shape.len());
        let (once, twice) = (visited(&text), visited(&text.repeat(2)));
        assert!(once <= 12 * text.len(), "{shape:?}: {once} of {}", text.len());
        // Lines are looked at in parts of a fixed size, of which the last may be short.
        assert!(twice <= 2 * once + 10_000, "{shape:?}: {once}, then {twice}");
        assert!(once >= text.trim().len().min(4_000), "{shape:?}: {once} were counted");
    }
    // One line of any length is looked at where it begins.
    for shape in ["word ", "a, b: ", "f(x); ", "<a>", "a=b ", "😡", "a b  "] {
        let text = shape.repeat(400_000 / shape.len());
        assert!(visited(&text) <= 12 * 4096 + text.len(), "{shape:?}: {}", visited(&text));
    }
}

proptest! {
    /// Prose is prose, however many spaces are behind a full stop, in whatever columns.
    #[test]
    fn spaced_prose_is_kept(facts in prop::collection::vec(0usize..4, 1..8), width in 34usize..100, spaces in 1usize..4) {
        let between = " ".repeat(spaces);
        let prose: Vec<&str> = facts.iter().map(|fact| FACTS[*fact]).collect();
        let text = prose.join(&between);
        prop_assert_eq!(matter(&text), prose.clone());
        let mut wrapped = String::new();
        let mut column = 0;
        for word in text.split(' ') {
            if column > 0 && column + 1 + word.len() > width {
                wrapped = wrapped.trim_end().to_owned() + "\n";
                column = 0;
            }
            if column > 0 {
                wrapped.push(' ');
                column += 1;
            } else if word.is_empty() {
                continue;
            }
            wrapped.push_str(word);
            column += word.len();
        }
        prop_assert_eq!(matter(&wrapped), prose);
    }

    /// Whatever the text: passages ascend, are on character boundaries, and hold every sentence's letters.
    #[test]
    fn nothing_is_lost(
        text in "([a-zA-Z0-9 .,:|<>#$\n\t-]|the |\\. |ERROR: |INFO:a:b\n|\\$ ls\n|@@ -1 \\+1 @@\n|Page 3\n|<p>|</p>|é){0,60}"
    ) {
        let sentences = sentences_at_once(&text);
        let passages = passages(&text, &text, &sentences);
        let mut end = 0;
        let mut held = String::new();
        for Passage { bytes, left_out, .. } in &passages {
            prop_assert!(bytes.start >= end && !bytes.is_empty());
            prop_assert!(left_out.iter().all(|part| bytes.start < part.start && part.end < bytes.end));
            held.push_str(&text[bytes.clone()]);
            end = bytes.end;
        }
        let letters = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
        prop_assert_eq!(letters(&held), letters(&text));
    }
}
