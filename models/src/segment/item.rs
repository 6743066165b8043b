//! Marks of the items of lists.

use super::marks::is_emphasis;

/// The mark of an item of a list: `3.`, `b)`, `(iv)`, `1.)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    is_letter: bool,
    has_dot: bool,
    has_bracket: bool,
    /// A capital with a dot.
    is_capital: bool,
    /// Its place in the list, from 1; none of a letter is 0.
    pub(super) number: u32,
    /// Its place as a Roman number, which `i` is, too, or 0.
    roman: u32,
}

impl Mark {
    pub(super) fn of(word: &str) -> Option<Self> {
        // "**1.**"
        let word = word.trim_matches(is_emphasis);
        if word.len() > 8 {
            return None;
        }
        let word = word.trim_start_matches(['•', '⁃', '(']);
        let name = word.trim_end_matches(['.', ')']);
        let end = &word[name.len()..];
        let (has_dot, has_bracket) = (end.contains('.'), end.contains(')'));
        if end.is_empty() || end.len() > 2 || name.is_empty() || end.starts_with("..") {
            return None;
        }
        let is_number = name.len() <= 3 && name.bytes().all(|b| b.is_ascii_digit());
        let (number, roman) = match name.as_bytes() {
            _ if is_number => (name.parse().ok()?, 0),
            [letter @ b'a'..=b'z'] => (u32::from(letter - b'a') + 1, roman_letter(*letter)),
            [letter @ b'A'..=b'Z'] if has_bracket => (u32::from(letter - b'A') + 1, roman_letter(*letter)),
            _ => (0, roman(name)?),
        };
        Some(Self { is_letter: !is_number, has_dot, has_bracket, is_capital: false, number, roman })
    }

    /// The same at the start of a line, where `B.` may be one, too.
    pub(super) fn of_item(word: &str) -> Option<Self> {
        let (number, roman) = match word.as_bytes() {
            [letter @ b'A'..=b'Z', b'.'] => (u32::from(letter - b'A') + 1, roman_letter(*letter)),
            _ => return Self::of(word),
        };
        Some(Self { is_letter: true, has_dot: true, has_bracket: false, is_capital: true, number, roman })
    }

    /// Whether it could be the initial of a name: `B.`
    pub(super) fn is_initial(self) -> bool {
        self.is_capital
    }

    /// Whether the item is marked as the one before it, which no name is: `a)`, `a)`.
    pub(super) fn repeats(self, next: Self) -> bool {
        self == next && self.has_bracket
    }

    /// Whether the list goes on with another mark: `b.` behind `a.`, `ii.` behind `i.`
    pub(super) fn precedes(self, next: Self) -> bool {
        self.is_alike(next) && (self.counts_to(next) || self.counts_roman_to(next))
    }

    /// Whether a list begins with it, and goes on with another mark.
    pub(super) fn begins(self, next: Self) -> bool {
        self.is_alike(next)
            && ((self.number == 1 && self.counts_to(next)) || (self.roman == 1 && self.counts_roman_to(next)))
    }

    fn is_alike(self, next: Self) -> bool {
        (self.is_letter, self.has_dot, self.has_bracket) == (next.is_letter, next.has_dot, next.has_bracket)
    }

    fn counts_to(self, next: Self) -> bool {
        self.number > 0 && self.number + 1 == next.number && self.is_capital == next.is_capital
    }

    fn counts_roman_to(self, next: Self) -> bool {
        self.roman > 0 && self.roman + 1 == next.roman
    }
}

/// `i`, `v`, `X`
fn roman_letter(letter: u8) -> u32 {
    match letter.to_ascii_lowercase() {
        b'i' => 1,
        b'v' => 5,
        b'x' => 10,
        _ => 0,
    }
}

/// `ii`, `iv`, `III` up to 20, as they number lists; single letters are letters first.
fn roman(name: &str) -> Option<u32> {
    const NUMBERS: [&str; 19] = [
        "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii", "xiii", "xiv", "xv", "xvi",
        "xvii", "xviii", "xix", "xx",
    ];
    if name.len() == 1
        || name.bytes().any(|b| b.is_ascii_uppercase()) && name.bytes().any(|b| b.is_ascii_lowercase())
    {
        return None;
    }
    let place = NUMBERS.iter().position(|number| number.eq_ignore_ascii_case(name))?;
    u32::try_from(place).ok().map(|place| place + 2)
}
