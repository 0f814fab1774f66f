//! Which vector instructions the kernels use, decided when the program runs.
//!
//! The binary is built for the baseline of its architecture and carries each kernel in several versions; no
//! `target-cpu=native` is needed for the speed. Element-wise kernels are plain loops that the compiler vectorises for
//! each level, in one order of additions, so their results are the same bits on every level. The matrix product
//! ([`super::gemm`]) is written over [`Lanes`]; its fused multiply-adds give the same bits on AVX2, AVX-512 and (through
//! the portable version, which the compiler turns into NEON) aarch64.
//!
//! `TWOSTEP_SIMD=portable|avx2|avx512` forces a level, for tests and comparisons.

mod lanes;

pub(super) use lanes::{Lanes, Portable};
#[cfg(target_arch = "x86_64")]
pub(super) use lanes::{Wide8, Wide16};

use std::sync::OnceLock;

/// A set of vector instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every processor of this architecture has: SSE2 on x86-64, NEON on aarch64.
    Portable,
    /// AVX2 with FMA and F16C: x86-64-v3.
    Avx2,
    /// AVX-512 F, BW, DQ and VL: x86-64-v4.
    Avx512,
}

impl Level {
    /// All levels, slowest first.
    pub const ALL: [Self; 3] = [Self::Portable, Self::Avx2, Self::Avx512];

    /// Its name in `TWOSTEP_SIMD`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Whether this processor has it.
    pub fn is_here(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_here()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512 => false,
        }
    }

    /// The level the kernels use: the one that `TWOSTEP_SIMD` names if it is here, otherwise the fastest.
    pub fn current() -> Self {
        static CURRENT: OnceLock<Level> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            let fastest = Self::ALL.into_iter().rev().find(|level| level.is_here()).unwrap_or(Self::Portable);
            let Ok(asked) = std::env::var("TWOSTEP_SIMD") else { return fastest };
            match Self::ALL.into_iter().find(|level| level.name() == asked) {
                Some(level) if level.is_here() => level,
                Some(level) => {
                    tracing::warn!("TWOSTEP_SIMD: this processor has no {}, using {}", level.name(), fastest.name());
                    fastest
                }
                None => {
                    tracing::warn!(
                        "TWOSTEP_SIMD: {asked:?} is none of portable, avx2, avx512; using {}",
                        fastest.name()
                    );
                    fastest
                }
            }
        })
    }
}

/// Runs `body`, compiled for the current level. Only what is inlined into `body` gains by it: mark it and the functions it
/// calls `#[inline(always)]`.
#[inline(always)]
pub fn vectorised<R>(body: impl FnOnce() -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    match Level::current() {
        // SAFETY: `current` returns only levels that this processor has.
        Level::Avx512 => unsafe { avx512(body) },
        // SAFETY: as above.
        Level::Avx2 => unsafe { avx2(body) },
        Level::Portable => body(),
    }
    #[cfg(not(target_arch = "x86_64"))]
    body()
}

/// # Safety
/// The processor must have these instructions.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn avx2<R>(body: impl FnOnce() -> R) -> R {
    body()
}

/// # Safety
/// The processor must have these instructions.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
pub(super) unsafe fn avx512<R>(body: impl FnOnce() -> R) -> R {
    body()
}
