//! Multi-head attention over short sequences: `O = softmax(Q K^T / sqrt(d)) V` for every head.
//!
//! q `(B, Tq, C)`, k and v `(B, Tk, C)`, heads side by side in C: no transposed copies, one task a sample.
//! Forward mode, row by row (arXiv 2410.11081, appendix F): `S' = (Q' K^T + Q K'^T) / sqrt(d)`, `H = P S'`,
//! `O' = H V - rowsum(H) O + P V'`.

use super::kernel::{Real, axpy, dispatch, dot, is_part, owned, slice, tensor, with_slices};
use super::simd::vectorised;
use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

/// Attention of `heads` heads.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
    let size = Size::of(q.shape(), k.shape(), v.shape(), heads)?;
    on_cuda!(q => super::cuda::attention(q, k, v, heads)?.map_or_else(|| reference(q, k, v, heads), Ok));
    if q.device().is_cpu() {
        q.contiguous()?.apply_op3(&k.contiguous()?, &v.contiguous()?, Attention { size })
    } else {
        reference(q, k, v, heads)
    }
}

/// The derivative of [`attention`] along `(dq, dk, dv)`.
pub fn attention_jvp(qkv: [&Tensor; 3], tangents: [&Tensor; 3], heads: usize) -> Result<Tensor> {
    let [q, k, v] = qkv;
    let [dq, dk, dv] = tangents;
    let size = Size::of(q.shape(), k.shape(), v.shape(), heads)?;
    on_cuda!(q => {
        let fused = super::cuda::attention_jvp(qkv, tangents, heads)?;
        fused.map_or_else(|| reference_jvp(qkv, tangents, heads), Ok)
    });
    if !q.device().is_cpu() {
        return reference_jvp(qkv, tangents, heads);
    }
    let all = [q.contiguous()?, k.contiguous()?, v.contiguous()?, dq.contiguous()?, dk.contiguous()?, dv.contiguous()?];
    dispatch!(q.dtype(), T => with_slices::<T, 6, _>(all.each_ref(), |[q, k, v, dq, dk, dv]| {
        let out = size.per_sample(&[size.queries], #[inline(always)] |b, [out]: [&mut [T]; 1]| {
            let mut p = vec![<T as Real>::ZERO; size.keys];
            let mut moved = p.clone();
            for (i, out) in out.chunks_exact_mut(size.depth).enumerate() {
                let (t, h) = (i / size.heads, i % size.heads);
                let (q, dq) = (size.row(q, size.queries, b, t, h), size.row(dq, size.queries, b, t, h));
                size.probabilities(&mut p, q, k, b, h);
                let (mut total, scale) = (<T as Real>::ZERO, size.scale::<T>());
                for (s, (moved, &p)) in moved.iter_mut().zip(&p).enumerate() {
                    let score = dot(dq, size.row(k, size.keys, b, s, h)) + dot(q, size.row(dk, size.keys, b, s, h));
                    *moved = p * score * scale;
                    total += *moved;
                }
                // H V - rowsum(H) P V is one sum over the rows of V.
                moved.iter_mut().zip(&p).for_each(|(moved, &p)| *moved -= total * p);
                size.weighted_sum(out, &moved, v, b, h);
                size.weighted_sum(out, &p, dv, b, h);
            }
        });
        let [out] = out;
        tensor(out, (size.batch, size.queries, size.heads * size.depth))
    }))
}

#[derive(Clone, Copy)]
struct Size {
    batch: usize,
    queries: usize,
    keys: usize,
    heads: usize,
    depth: usize,
}

impl Size {
    fn of(q: &Shape, k: &Shape, v: &Shape, heads: usize) -> Result<Self> {
        let (batch, queries, channels) = q.dims3()?;
        let (_, keys, _) = k.dims3()?;
        if k.dims() != [batch, keys, channels] || v.dims() != k.dims() || heads == 0 || channels % heads != 0 {
            bail!("attention: q {q:?}, k {k:?}, v {v:?} and {heads} heads do not fit");
        }
        Ok(Self { batch, queries, keys, heads, depth: channels / heads })
    }

    #[inline(always)]
    fn scale<T: Real>(&self) -> T {
        T::of(1.0 / (self.depth as f64).sqrt())
    }

    /// The part of head `h` in step `t` of sample `b`, of an array with `time` steps a sample.
    #[inline(always)]
    fn row<'a, T>(&self, x: &'a [T], time: usize, b: usize, t: usize, h: usize) -> &'a [T] {
        let at = ((b * time + t) * self.heads + h) * self.depth;
        &x[at..at + self.depth]
    }

    /// One row of softmax(q K^T / sqrt(d)).
    #[inline(always)]
    fn probabilities<T: Real>(&self, p: &mut [T], q: &[T], k: &[T], b: usize, h: usize) {
        let (mut highest, scale) = (T::LOWEST, self.scale::<T>());
        for (s, p) in p.iter_mut().enumerate() {
            *p = dot(q, self.row(k, self.keys, b, s, h)) * scale;
            highest = Real::max(highest, *p);
        }
        let mut sum = T::ZERO;
        for p in p.iter_mut() {
            *p = Real::exp(*p - highest);
            sum += *p;
        }
        let share = T::ONE / sum;
        for p in p {
            *p *= share;
        }
    }

    /// `out += sum_s p[s] v[s]`, a few vectors of it at a time so that the sums stay in registers.
    #[inline(always)]
    fn weighted_sum<T: Real>(&self, out: &mut [T], p: &[T], v: &[T], b: usize, h: usize) {
        const BLOCK: usize = 32;
        let (blocks, tail) = out.as_chunks_mut::<BLOCK>();
        for (i, out) in blocks.iter_mut().enumerate() {
            let mut sums = *out;
            for (s, &p) in p.iter().enumerate() {
                let v = &self.row(v, self.keys, b, s, h)[i * BLOCK..][..BLOCK];
                for j in 0..BLOCK {
                    sums[j] += p * v[j];
                }
            }
            *out = sums;
        }
        let from = self.depth - tail.len();
        for (s, &p) in p.iter().enumerate() {
            axpy(tail, p, &self.row(v, self.keys, b, s, h)[from..]);
        }
    }

    /// Runs `body(sample, results)` for all samples on all threads; results are arrays (B, times[i], C), of which it is
    /// given its sample's part, zeros at first.
    fn per_sample<T: Real, const N: usize>(
        &self,
        times: &[usize; N],
        body: impl Fn(usize, [&mut [T]; N]) + Sync,
    ) -> [Vec<T>; N] {
        let width = self.heads * self.depth;
        let mut all = times.map(|time| vec![T::ZERO; self.batch * time * width]);
        let mut parts = all.each_mut().map(|all| all.as_mut_slice());
        let samples: Vec<[&mut [T]; N]> = (0..self.batch)
            .map(|_| {
                let mut time = times.iter();
                parts.each_mut().map(|rest| {
                    let (part, others) =
                        std::mem::take(rest).split_at_mut(time.next().copied().unwrap_or_default() * width);
                    *rest = others;
                    part
                })
            })
            .collect();
        let sample = |(b, results): (usize, [&mut [T]; N])| {
            vectorised(
                #[inline(always)]
                || body(b, results),
            );
        };
        if is_part() || self.batch == 1 {
            samples.into_iter().enumerate().for_each(sample);
        } else {
            samples.into_par_iter().enumerate().for_each(sample);
        }
        all
    }
}

struct Attention {
    size: Size,
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        lq: &Layout,
        k: &CpuStorage,
        lk: &Layout,
        v: &CpuStorage,
        lv: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let size = self.size;
        dispatch!(candle_core::backend::BackendStorage::dtype(q), T => {
            let (q, k, v) = (slice::<T>(q, lq)?, slice::<T>(k, lk)?, slice::<T>(v, lv)?);
            let [out] = size.per_sample(&[size.queries], #[inline(always)] |b, [out]: [&mut [T]; 1]| {
                let mut p = vec![<T as Real>::ZERO; size.keys];
                for (i, out) in out.chunks_exact_mut(size.depth).enumerate() {
                    let (t, h) = (i / size.heads, i % size.heads);
                    size.probabilities(&mut p, size.row(q, size.queries, b, t, h), k, b, h);
                    size.weighted_sum(out, &p, v, b, h);
                }
            });
            Ok(owned(out, lq.shape()))
        })
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        out: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let size = self.size;
        let grad = grad.contiguous()?;
        dispatch!(q.dtype(), T => with_slices::<T, 5, _>([q, k, v, out, &grad], |[q, k, v, out, g]| {
            let times = [size.queries, size.keys, size.keys];
            let [g_q, g_k, g_v] = size.per_sample(&times, #[inline(always)] |b, [g_q, g_k, g_v]: [&mut [T]; 3]| {
                let mut p = vec![<T as Real>::ZERO; size.keys];
                for (i, g_q) in g_q.chunks_exact_mut(size.depth).enumerate() {
                    let (t, h) = (i / size.heads, i % size.heads);
                    let q = size.row(q, size.queries, b, t, h);
                    let g = size.row(g, size.queries, b, t, h);
                    size.probabilities(&mut p, q, k, b, h);
                    // d/dS = P (g V^T - rowsum(g O)): the softmax's Jacobian without forming it.
                    let (mean, scale) = (dot(g, size.row(out, size.queries, b, t, h)), size.scale::<T>());
                    for (s, &p) in p.iter().enumerate() {
                        let at = (s * size.heads + h) * size.depth;
                        let score = p * (dot(g, size.row(v, size.keys, b, s, h)) - mean) * scale;
                        axpy(g_q, score, size.row(k, size.keys, b, s, h));
                        axpy(&mut g_k[at..at + size.depth], score, q);
                        axpy(&mut g_v[at..at + size.depth], p, g);
                    }
                }
            });
            Ok((Some(tensor(g_q, q_shape(&size))?), Some(tensor(g_k, k_shape(&size))?), Some(tensor(g_v, k_shape(&size))?)))
        }))
    }
}

fn q_shape(size: &Size) -> (usize, usize, usize) {
    (size.batch, size.queries, size.heads * size.depth)
}

fn k_shape(size: &Size) -> (usize, usize, usize) {
    (size.batch, size.keys, size.heads * size.depth)
}

/// (B, T, C) -> (B, H, T, C / H).
fn split(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (batch, time, channels) = x.dims3()?;
    x.reshape((batch, time, heads, channels / heads))?.transpose(1, 2)?.contiguous()
}

/// (B, H, T, D) -> (B, T, H D).
fn join(x: &Tensor) -> Result<Tensor> {
    let (batch, heads, time, depth) = x.dims4()?;
    x.transpose(1, 2)?.contiguous()?.reshape((batch, time, heads * depth))
}

/// softmax(Q K^T / sqrt(d)), (B, H, Tq, Tk), from split heads.
fn weights(q: &Tensor, k: &Tensor) -> Result<Tensor> {
    let scores = (q.matmul(&k.t()?.contiguous()?)? / (q.dim(D::Minus1)? as f64).sqrt())?;
    let e = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?.detach())?.exp()?;
    e.broadcast_div(&e.sum_keepdim(D::Minus1)?)
}

fn reference(q: &Tensor, k: &Tensor, v: &Tensor, heads: usize) -> Result<Tensor> {
    join(&weights(&split(q, heads)?, &split(k, heads)?)?.matmul(&split(v, heads)?)?)
}

fn reference_jvp(qkv: [&Tensor; 3], tangents: [&Tensor; 3], heads: usize) -> Result<Tensor> {
    let [q, k, v] = [split(qkv[0], heads)?, split(qkv[1], heads)?, split(qkv[2], heads)?];
    let [dq, dk, dv] = [split(tangents[0], heads)?, split(tangents[1], heads)?, split(tangents[2], heads)?];
    let p = weights(&q, &k)?;
    let scores = (dq.matmul(&k.t()?.contiguous()?)? + q.matmul(&dk.t()?.contiguous()?)?)?;
    let h = (&p * (scores / (q.dim(D::Minus1)? as f64).sqrt())?)?;
    let through_scores = (h.matmul(&v)? - p.matmul(&v)?.broadcast_mul(&h.sum_keepdim(D::Minus1)?)?)?;
    join(&(through_scores + p.matmul(&dv)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Array;
    use crate::ops::testing::{check_op, close, normal};

    #[test]
    fn fused_equals_reference() {
        let (q, k, v) = (normal(1, &[3, 4, 6]), normal(2, &[3, 5, 6]), normal(3, &[3, 5, 6]));
        close(&attention(&q, &k, &v, 2).unwrap(), &reference(&q, &k, &v, 2).unwrap(), 1e-13);
        let (dq, dk, dv) = (normal(4, &[3, 4, 6]), normal(5, &[3, 5, 6]), normal(6, &[3, 5, 6]));
        let fused = attention_jvp([&q, &k, &v], [&dq, &dk, &dv], 2).unwrap();
        close(&fused, &reference_jvp([&q, &k, &v], [&dq, &dk, &dv], 2).unwrap(), 1e-13);
    }

    #[test]
    fn derivatives() {
        let shapes: [&[usize]; 3] = [&[2, 3, 6], &[2, 5, 6], &[2, 5, 6]];
        check_op(&shapes, |x| x[0].attention(&x[1], &x[2], 2), |x| x[0].attention(&x[1], &x[2], 2));
    }
}
