//! Choices from random bytes, so that generated values can be shrunk and mutated.

/// Yields zeros after the last byte. The first alternative of every choice is the plainest.
pub(super) struct Dice<'b> {
    bytes: &'b [u8],
}

impl<'b> Dice<'b> {
    pub(super) fn new(bytes: &'b [u8]) -> Self {
        Self { bytes }
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    /// 0 to `sides` - 1; `sides` is at most 65536.
    pub(super) fn roll(&mut self, sides: usize) -> usize {
        if sides <= 256 {
            usize::from(self.byte()) % sides
        } else {
            (usize::from(self.byte()) << 8 | usize::from(self.byte())) % sides
        }
    }

    /// True once in `times` times.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.roll(times) == times - 1
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())].clone()
    }
}
