//! From byte offsets to the caller's unit.

use models_core::tasks::OffsetUnit;

/// Converts byte offsets into one text, each at a character boundary, in any order but fastest when they
/// ascend.
pub(super) struct Offsets<'a> {
    text: &'a str,
    unit: OffsetUnit,
    byte: usize,
    converted: usize,
}

impl<'a> Offsets<'a> {
    pub(super) fn new(text: &'a str, unit: OffsetUnit) -> Self {
        Self { text, unit, byte: 0, converted: 0 }
    }

    /// The offset in the caller's unit. An offset that is no character boundary is moved down to one.
    pub(super) fn convert(&mut self, byte: usize) -> usize {
        let byte = self.text.floor_char_boundary(byte);
        if byte < self.byte {
            (self.byte, self.converted) = (0, 0);
        }
        let passed = &self.text[self.byte..byte];
        self.converted += match self.unit {
            OffsetUnit::Codepoint => passed.chars().count(),
            OffsetUnit::Byte => passed.len(),
            OffsetUnit::Utf16 => passed.encode_utf16().count(),
        };
        self.byte = byte;
        self.converted
    }
}

#[cfg(test)]
mod tests {
    use models_core::tasks::OffsetUnit;

    use super::*;

    #[test]
    fn units() {
        let text = "é🎉x";
        let check = |unit, byte, expected| {
            let mut offsets = Offsets::new(text, unit);
            assert_eq!(offsets.convert(text.len()), Offsets::new(text, unit).convert(text.len()));
            assert_eq!(offsets.convert(byte), expected, "{unit:?} {byte}");
        };
        check(OffsetUnit::Byte, 6, 6);
        check(OffsetUnit::Codepoint, 6, 2);
        check(OffsetUnit::Utf16, 6, 3);
        check(OffsetUnit::Codepoint, 0, 0);
        check(OffsetUnit::Codepoint, 4, 1);
    }
}
