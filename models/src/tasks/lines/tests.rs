use super::*;

impl Line {
    fn is_apart(&self) -> bool {
        self.apart != Apart::No || self.repeats == Repeats::Header
    }
}

#[test]
fn lines() {
    let check = |line: &str, expected: bool| {
        assert_eq!(is_log(line) || is_of_tool(line) || is_row(line) || is_code(line), expected, "{line:?}");
    };
    for line in [
        "2026-11-27 13:00:01 INFO request 0 done in 0 ms",
        "[2026-11-27T13:00:01Z] connection closed",
        "13:00:01.234 worker started",
        "ERROR: disk full",
        "WARN [main] pool is full",
        "Nov 27 13:00:01 host sshd[123]: session opened",
        "10.0.0.1 - - [27/Nov/2026:13:00:01] \"GET / HTTP/1.1\" 200",
        "at com.example.App.main(App.java:12)",
        "Traceback (most recent call last):",
        "File \"main.py\", line 3, in <module>",
        "{\"level\":\"info\",\"msg\":\"started\"}",
        "def total(prices):",
        "return sum(prices) * 1.19",
        "let total = prices.iter().sum();",
        "for (int i = 0; i < n; i++) {",
        "}",
        "#include <stdio.h>",
        "from os import path",
        "import numpy as np",
        "x = compute(y)",
        "print(total(prices))",
        "SELECT name, price FROM pumps WHERE price > 10",
        "$ cargo build --release",
        "<div class=\"row\"><span>{name}</span></div>",
        "Region\tSales\tCosts",
        "| North | 120 | 80 |",
        "North    120    80",
        "North 120 80 40 12",
        "anna,schmidt,oslo,12",
        "root@host:~# apt-get install nginx",
        "[anna@host ~]$ ls -l",
        "level=info ts=2026-11-27T13:00:01Z msg=\"request done\" dur=3ms",
        "WARN[0003] container exited with code 1",
        "npm ERR! code ENOENT",
        "ERROR com.acme.Main: it is down.",
        "INFO request done status=200 path=/x.",
        "error[E0308]: mismatched types",
        "1764248401 ERROR disk full",
        "Caused by: java.lang.StateException: it is bad.",
        "f(*args, **kwargs)",
        "@app.route(\"/x\")",
        "if (a && b(c)) {",
        "git commit -m \"fix the bug of the day\"",
    ] {
        check(line, true);
    }
    for line in [
        "The company sold forty heat pumps (to schools) in May.",
        "2026-11-27 was a cold day.",
        "[12:01] Ann: is it up?",
        "Error handling was the topic of the day.",
        "INFO",
        "Let us return to the plan of last year",
        "From Oslo we sail to Bergen, Narvik, and Tromso.",
        "For each ship there is a crew of 14",
        "Class A shares rose (by 3 %) and class B shares fell",
        "In 2019 sales were 120, in 2020 they were 140.",
        "See https://www.example.com/new-site/awesome_content.html for more",
        "Use plan B if the server is down",
        "Import duties rose by 3 percent",
        "If you have questions, call 555-1234.",
        "At noon the ship (the Anna) left.",
        "the Seller (Nord Ltd.) shall deliver the goods;",
        // A level alone makes no log.
        "INFO: the road is closed until Friday. Please use the bridge instead.",
        "WARNING: the bridge is slippery when wet.",
        "WARNING: the bridge is slippery when wet",
        "CRITICAL: the hospital is full and the staff is tired, the union said.",
        "FATAL: two people died on the road on Monday, police said.",
        "NOTICE: The library moves to Main Street on Monday.",
        "ERROR: Oslo lost.",
        "12 CRITICAL patients were moved to Oslo on Monday.",
        "Caused by: heavy rain in the hills.",
        // Nor does a currency make a prompt, or a word a command.
        "$ 5 million was raised by the start-up in Oslo.",
        "$ 5 million in May and",
        "$ 7 million in June.",
        "go to https://www.example.com for the rest of it",
        "cat food is at https://www.example.com now.",
        // Nor do semicolons, brackets or emphasis make a program.
        "use a cup of sugar; stir well; bake it.",
        "if (as we think) the plan fails; we leave; else we stay.",
        "return flights cost 500 euros; single flights cost 300 euros; meals are free.",
        "(a) the Seller fails to deliver; (b) the Buyer refuses to pay; or",
        "Oslo (Norway), Rome (Italy), Bonn (Germany)",
        "Costs (2019) and sales (2020)",
        "**Costs fell.** The new",
        "**Costs fell** in May. The new",
        "**Costs fell in May.** **Sales rose in June.** The new pump",
        "*Costs fell.* _Sales rose._ The `new` pump",
        "of $5, $7, $9 and $12",
        "\"We are done. Go home.\"",
        "@anna thanks (again) for it (and more)",
        "1.\tThe ship sailed on Monday.",
        "10.0.0.1 is the address of the \"old\" server.",
    ] {
        check(line, false);
    }
}

/// Each line with whether it is apart.
#[test]
fn blocks() {
    let check = |text: &str, expected: &[bool]| {
        let lines: Vec<bool> = Lines::of(text, text).0.iter().map(Line::is_apart).collect();
        assert_eq!(lines, expected, "{text:?}");
    };
    let all =
        |text: &str| check(text, &vec![true; text.lines().filter(|line| !line.trim().is_empty()).count()]);
    let none =
        |text: &str| check(text, &vec![false; text.lines().filter(|line| !line.trim().is_empty()).count()]);
    all("def run(x):\n    if x.a:\n        return x.b\n    raise ValueError('no. It failed.')");
    all("def run(x):\n    # Reads it. It is slow.\n\n    return x");
    all("class Foo:\n    \"\"\"Reads the file. It is slow.\"\"\"\n    x = 1");
    all("class Foo:\n    \"\"\"\n    Reads the file. It is slow.\n    \"\"\"\n    x = 1");
    all("fn main() {\n    println!(\"It is done. Bye.\");\n}");
    all("const a = await fetch('/x');\nif (!a.ok) { throw new Error('bad. Really bad.'); }");
    all("int main(void) {\n  printf(\"hi. There is more of it to be said here.\");\n  return 0;\n}");
    all("public class A {\n  // It is here. It stays.\n  String a = \"The end. It is near.\";\n}");
    all("/* It is here.\n   It stays. And more.\n*/\nint a;");
    all("{\n  \"name\": \"Anna. She is here.\",\n  \"city\": \"Oslo\"\n}");
    all("{\n  \"list\": [\n    \"It is one. It stays.\",\n    \"It is two.\"\n  ]\n}");
    all("{\"name\": \"Anna is here. She stays.\", \"city\": \"Oslo\"}");
    all("{\"level\":\"info\",\"msg\":\"It started. It is ready.\"}\n{\"msg\":\"It left.\"}");
    all("description: The server is slow. It must be fixed.\nname: x");
    all("models:\n  name: x\n  replicas: 3\n  text: \"It is one. It stays.\"");
    all("Traceback (most recent call last):\n  File \"a.py\", line 3, in <module>\n    run()\n\
        ValueError: The value is bad. Try again.");
    all(
        "Exception in thread \"main\" java.lang.NullPointerException: It is null. Bad.\n\tat com.acme.A.b(A.java:3)",
    );
    all("ValueError: The value is bad. Try again.");
    all("print('The server is slow. It failed.')");
    all("SELECT 'It is here. Now.' FROM t\nWHERE a = 1;");
    all("main.c:3:5: error: expected ';' before 'return'");
    all("I1127 13:00:01.000 1 server.go:3] The server started. It is ready.");
    all("```\nThe output is here. It is long.\n```");
    all("let message = \"The server is slow. It failed.\";");
    all("throw new Error('The server is slow. It failed. Try it again.');");
    all("city,sales\nOslo,5\nRome,6");
    all("def greet\n  puts \"Hello there. It is me.\"\nend");
    all("<?php\necho \"It is here. Now go.\";\n?>");
    all(".a {\n  color: red;\n  content: \"It is. Yes.\";\n}");
    all("[main]\nnote = It is slow. Fix it.");
    all("MESSAGE=\"It is slow. Fix it.\"");
    all("FROM rust:1\nRUN cargo build\nCMD [\"./x\"]");
    all("panic: The value is nil. Stop.\n\ngoroutine 1 [running]:\n\t/app/main.go:3 +0x1d");
    all("java.lang.StateException: It is bad. Stop.\n    at a.b.C.d(C.java:1)\n    ... 3 more");
    all("TypeError: It is bad. Stop.\n    at run (/app/a.js:3:4)\n    at main (/app/b.js:1:2)");
    all("E   AssertionError: It is wrong. Fix it.");
    all("curl -X POST https://x.y/z -d '{\"a\": \"It is. Yes.\"}'");
    all("let a = \"It is one. It stays.\"");
    all("message A {\n  string name = 1;  // It is one. It stays.\n}");
    all("log.info(\"The server is slow. It failed.\")");
    all("name = \"The server is slow. It failed.\"");
    all("INFO: server started\nERROR: disk of the server is full\nINFO: server stopped");
    all("[anna@host ~]$ ls\nnpm WARN it is old. Use another.");
    none(
        "INFO: the road is closed. Use the bridge.\nWARNING: the bridge is wet. Take care.\nNOTICE: it is late.",
    );
    none("The firm raised\n$ 5 million in May and\n$ 7 million in June.");
    none("**Costs fell.** The new\npump uses less power\nthan the old one did.");
    none("\"We are done,\" he said.\n\n\"Go home. It is late.\"");
    check(
        "The server shares one port. It is small.\n```console\n$ ls -la\n{\"error\": 1}\n```\nThe next call is free.",
        &[false, true, true, true, true, false],
    );
    check(
        "The code is short.\nfor (int i = 0; i < n; i++) {\n  sum += a[i];\n}\nIt adds the numbers.",
        &[false, true, true, true, false],
    );
    check(
        "The server shares one port with the other:\n    ls -la\n    rm -rf /\nIt is small.",
        &[false, true, true, false],
    );
    // What is never closed was not opened.
    check("The ship sailed.\n```\nIt was late.\n\nThe crew slept.", &[false, true, false, false]);
    check("/* It was late.\nThe crew slept.", &[true, false]);
    none("use the following steps:\n    Stir the sugar well. Bake it.");
    none("The server is slow. It failed.");
    none("He said \"Go.\" Then he left (at noon).");
    none("Note: the server is slow. It failed.");
    none("note: the server is slow. It failed.");
    none("Anna: The server is slow.\nBob: It failed. Try again.\nAnna: Yes.");
    none("bob: the server is slow\nann: it failed\nbob: yes");
    none("    The server is slow. It failed.\n    We know why.");
    none("Errors: there were none. All is well.");
    none("The class of 2019:\n    It was large. It is gone.");
    none("\"We are done,\" he said. \"Go home.\"");
    none("'It is late,' he said. 'Go home.'");
    none("From Oslo,Rome and Bonn they came. It was late.");
    none("RUN FOR YOUR LIFE");
    none("make sure that it runs - then rest");
    none("puts options are cheap, he said");
    none("said \"It is late. Go home.\"");
    none("it is at home: 3 rooms");
    none("Don't do it. It's late.\nThe dogs' food is gone.");
    check("The server is slow.\n\nx = 1\n\nIt failed.", &[false, true, false]);
    check("def run(x):\n    return x\nIt failed. We know why.", &[true, true, false]);
    check("def run(x):\n    return x\n\nIt failed. We know why.", &[true, true, false]);
}
