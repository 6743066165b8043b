//! Text as HTML.

/// Text as HTML, what stands in backticks as code.
pub(super) fn inline(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for (index, part) in text.split('`').enumerate() {
        let (open, close) = if index % 2 == 1 { ("<code>", "</code>") } else { ("", "") };
        html.push_str(open);
        html.push_str(&escaped(part));
        html.push_str(close);
    }
    html
}

/// Text as HTML, as it is.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_become_html() {
        let check = |text: &str, expected: &str| assert_eq!(inline(text), expected);
        check("Send `Bearer <key>` & wait.", "Send <code>Bearer &lt;key&gt;</code> &amp; wait.");
        check("plain", "plain");
    }
}
