//! Vectors of f32 for the matrix product's innermost loop, one type a level.

use half::f16;

/// A vector of f32 with the few operations that a matrix product needs.
///
/// # Safety
/// The methods may be called only where the processor has the type's instructions, on pointers to that many elements.
pub trait Lanes: Copy {
    /// Elements of a vector.
    const COUNT: usize;

    /// All elements the same.
    unsafe fn splat(x: f32) -> Self;
    /// `COUNT` elements.
    unsafe fn load(from: *const f32) -> Self;
    /// `COUNT` half-precision elements, widened exactly.
    unsafe fn load_half(from: *const f16) -> Self;
    /// Writes `COUNT` elements.
    unsafe fn store(self, to: *mut f32);
    /// `self + b`.
    unsafe fn add(self, b: Self) -> Self;
    /// `self b + c`, rounded once where the processor can.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
}

/// Arrays that the compiler vectorises for the architecture's baseline, NEON with its fused multiply-add on aarch64.
#[derive(Clone, Copy)]
pub struct Portable([f32; 4]);

impl Lanes for Portable {
    const COUNT: usize = 4;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; 4])
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_half(from: *const f16) -> Self {
        // SAFETY: the caller's.
        Self(unsafe { from.cast::<[f16; 4]>().read_unaligned() }.map(f16::to_f32))
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller's.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] + b.0[i]))
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        Self(std::array::from_fn(|i| {
            // Without the instruction, a fused multiply-add is a slow function.
            if cfg!(any(target_arch = "aarch64", target_feature = "fma")) {
                self.0[i].mul_add(b.0[i], c.0[i])
            } else {
                self.0[i] * b.0[i] + c.0[i]
            }
        }))
    }
}

#[cfg(target_arch = "x86_64")]
pub use x86::{Wide8, Wide16};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Lanes, f16};
    use std::arch::x86_64::*;

    /// Eight lanes of AVX2.
    #[derive(Clone, Copy)]
    pub struct Wide8(__m256);

    impl Lanes for Wide8 {
        const COUNT: usize = 8;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: the caller's, as in all of these.
            Self(unsafe { _mm256_set1_ps(x) })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            Self(unsafe { _mm256_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn load_half(from: *const f16) -> Self {
            Self(unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm256_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            Self(unsafe { _mm256_add_ps(self.0, b.0) })
        }
        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            Self(unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) })
        }
    }

    /// Sixteen lanes of AVX-512.
    #[derive(Clone, Copy)]
    pub struct Wide16(__m512);

    impl Lanes for Wide16 {
        const COUNT: usize = 16;

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: the caller's, as in all of these.
            Self(unsafe { _mm512_set1_ps(x) })
        }
        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            Self(unsafe { _mm512_loadu_ps(from) })
        }
        #[inline(always)]
        unsafe fn load_half(from: *const f16) -> Self {
            Self(unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) })
        }
        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            unsafe { _mm512_storeu_ps(to, self.0) }
        }
        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            Self(unsafe { _mm512_add_ps(self.0, b.0) })
        }
        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            Self(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
        }
    }
}
