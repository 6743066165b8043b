//! Memory for kernels: aligned to cache lines, zeroed, kept between batches.

/// A cache line, whose alignment a vector of lines has.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code, reason = "only read through casts")] [u8; 64]);

/// Numbers from the start of a cache line on, of whatever format the reader takes them for. Grows and never
/// shrinks.
///
/// Kernels write it through raw pointers, from several threads: [`Buffer::pointer`] takes `&self`, and
/// whoever writes through it must make sure that nobody else touches the same numbers.
pub(super) struct Buffer {
    /// Of `start`; only kept to be freed.
    lines: Vec<Line>,
    start: *mut u8,
}

// SAFETY: it owns its memory, as a vector does.
unsafe impl Send for Buffer {}
// SAFETY: a shared reference gives nothing but pointers; what is done with them is the user's responsibility,
// see above.
unsafe impl Sync for Buffer {}

impl Buffer {
    pub(super) fn new() -> Self {
        let mut lines = Vec::new();
        let start = lines.as_mut_ptr();
        Self { lines, start: start.cast() }
    }

    pub(super) fn zeroed<T: Copy>(len: usize) -> Self {
        let mut buffer = Self::new();
        buffer.grow::<T>(len);
        buffer
    }

    /// Makes room for this many numbers; those that are new are zero.
    pub(super) fn grow<T: Copy>(&mut self, len: usize) {
        let lines = (len * size_of::<T>()).div_ceil(size_of::<Line>());
        if lines > self.lines.len() {
            // Exactly, because a batch is at most as large as the scheduler's limit, which is reached soon.
            self.lines.reserve_exact(lines - self.lines.len());
            self.lines.resize(lines, Line([0; 64]));
            self.start = self.lines.as_mut_ptr().cast();
        }
    }

    /// To the number at this index, and on to the end.
    pub(super) fn pointer<T: Copy>(&self, index: usize) -> *mut T {
        assert!(index <= self.len::<T>(), "{index} is outside of a buffer of {}", self.len::<T>());
        // SAFETY: within the allocation, or one past it.
        unsafe { self.start.cast::<T>().add(index) }
    }

    /// Numbers there is room for.
    pub(super) fn len<T: Copy>(&self) -> usize {
        const { assert!(size_of::<T>().is_power_of_two() && size_of::<T>() <= 64 && align_of::<T>() <= 64) };
        self.lines.len() * size_of::<Line>() / size_of::<T>()
    }

    /// All numbers; `T` must be a format of which any bits are a value, such as a float.
    pub(super) fn as_mut_slice<T: Copy>(&mut self) -> &mut [T] {
        let len = self.len::<T>();
        // SAFETY: `len` initialised numbers, aligned, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.start.cast(), len) }
    }
}
