//! What characters are to a text that is cut into lines and sentences.

/// Longest emoticon, in bytes: `:-))))`
const EMOTICON_MAX: usize = 8;

/// Characters that end a line.
pub(crate) fn is_line_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// Closing quotes, brackets and marks of emphasis.
pub(super) fn is_closer(c: char) -> bool {
    matches!(
        c,
        '"' | '\''
            | '”'
            | '’'
            | ')'
            | ']'
            | '}'
            | '»'
            | '›'
            | '*'
            | '_'
            | '`'
            | '~'
            | '」'
            | '』'
            | '》'
            | '】'
            | '）'
            | '〉'
    )
}

/// Marks that may end a sentence.
pub(super) fn is_terminal(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '…') || is_wide(c) || is_other(c)
}

pub(super) fn is_wide(c: char) -> bool {
    matches!(c, '。' | '！' | '？' | '｡' | '．')
}

/// Full stops and question marks of other scripts (`Sentence_Terminal` of Unicode), which a space follows.
pub(super) fn is_other(c: char) -> bool {
    matches!(
        c,
        '‼' | '⁇'
            | '⁈'
            | '⁉'
            | '։'
            | '؟'
            | '۔'
            | '।'
            | '॥'
            | '။'
            | '።'
            | '፧'
            | '។'
            | '᙮'
            | '᠃'
            | '⸮'
            | '⸼'
            | '܀'..='܂'
    )
}

/// Characters that may stand before the first letter of a sentence.
pub(super) fn is_opener(c: char) -> bool {
    matches!(
        c,
        '(' | '[' | '{' | '"' | '“' | '„' | '‘' | '\'' | '«' | '‹' | '¿' | '¡' | '「' | '『' | '《' | '（'
    )
}

pub(super) fn is_emphasis(c: char) -> bool {
    matches!(c, '*' | '_' | '`' | '~')
}

/// Bullets of lists, and arrows.
pub(super) fn is_bullet(c: char) -> bool {
    matches!(
        c,
        '•' | '◦'
            | '▪'
            | '‣'
            | '⁃'
            | '●'
            | '○'
            | '■'
            | '□'
            | '✓'
            | '✔'
            | '☐'
            | '☑'
            | '→'
            | '➢'
            | '·'
    )
}

/// Pictures, and what joins them.
pub(super) fn is_picture(c: char) -> bool {
    matches!(c, '\u{200d}' | '\u{fe0f}' | '\u{2600}'..='\u{27bf}' | '\u{2b00}'..='\u{2bff}' | '\u{1f000}'..='\u{1faff}' | '\u{e0020}'..='\u{e007f}')
}

/// `:(`, `;-)`, `=D`, `:'(`, `<3`, `^^`
pub(super) fn is_emoticon(text: &str) -> bool {
    if text.len() > EMOTICON_MAX {
        return false;
    }
    if matches!(text, "<3" | "</3" | "^^" | "^_^" | "-_-" | "xD" | "XD" | "T_T" | "o_O" | "O_o") {
        return true;
    }
    let Some(face) = text.strip_prefix([':', ';', '=']) else { return false };
    let mouth = face.trim_start_matches(['-', '\'', '’']);
    let mut marks = mouth.chars();
    face.len() - mouth.len() <= 2
        && marks.next().is_some_and(|first| "()DPpOo/\\*]".contains(first) && marks.all(|mark| mark == first))
}
