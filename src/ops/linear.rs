//! The linear map `y = x W + b`: x `(..., I)`, W `(I, O)`, b `(O)`.

use super::kernel::{dispatch, for_rows, owned, slice};
use super::modulate::column_sum;
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

/// `x W + b` over the last dimension.
///
/// All rows go through one matrix product: batched products with a shared right side are slower in candle, and their
/// weight gradient is summed over the batch only afterwards.
pub fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let (inputs, outputs) = w.dims2()?;
    let Some((&last, leading)) = x.dims().split_last() else { bail!("linear needs at least one dimension") };
    if last != inputs {
        bail!("linear: input {:?} does not fit weight {:?}", x.shape(), w.shape());
    }
    let rows = leading.iter().product::<usize>();
    let y = x.reshape((rows, inputs))?.matmul(w)?;
    let y = match b {
        None => y,
        Some(b) if y.device().is_cpu() => y.apply_op2(&b.contiguous()?, AddBias)?,
        Some(b) => y.broadcast_add(b)?,
    };
    y.reshape([leading, &[outputs]].concat())
}

struct AddBias;

impl CustomOp2 for AddBias {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout, b: &CpuStorage, lb: &Layout) -> Result<(CpuStorage, Shape)> {
        dispatch!(candle_core::backend::BackendStorage::dtype(x), T => {
            let (x, b) = (slice::<T>(x, lx)?, slice::<T>(b, lb)?);
            if b.is_empty() || x.len() % b.len() != 0 {
                bail!("bias of {} elements does not fit {:?}", b.len(), lx.shape());
            }
            let mut out = x.to_vec();
            for_rows(&mut out, b.len(), |_, out| {
                for row in out.chunks_exact_mut(b.len()) {
                    for (y, &b) in row.iter_mut().zip(b) {
                        *y += b;
                    }
                }
            });
            Ok(owned(out, lx.shape()))
        })
    }

    fn bwd(&self, _: &Tensor, b: &Tensor, _: &Tensor, grad: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(grad.clone()), Some(column_sum(grad, b.elem_count())?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Array;
    use crate::ops::testing::{check_op, close, normal};

    #[test]
    fn equals_broadcast_product() {
        let (x, w, b) = (normal(1, &[3, 4, 5]), normal(2, &[5, 6]), normal(3, &[6]));
        let direct = x.broadcast_matmul(&w).unwrap().broadcast_add(&b).unwrap();
        close(&linear(&x, &w, Some(&b)).unwrap(), &direct, 1e-13);
    }

    #[test]
    fn derivatives_of_the_input() {
        let (w, b) = (normal(2, &[5, 6]), normal(3, &[6]));
        check_op(&[&[2, 3, 5]], |x| x[0].linear(&w, Some(&b)), |x| x[0].linear(&w, Some(&b)));
    }

    #[test]
    fn gradient_of_weight_and_bias() {
        let x = normal(1, &[2, 3, 5]);
        crate::ops::testing::check_gradient(&[&[5, 6], &[6]], |p| linear(&x, &p[0], Some(&p[1])));
    }
}
