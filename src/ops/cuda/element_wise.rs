//! SiLU, and what follows a product: bias, SiLU, a sum.

use super::launch::Kernel;
use candle_core::{D, Result, Tensor, bail};

/// `x s(x)`.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    let kernel = Kernel::over_elements("silu", x.elem_count(), &[]).gives(x.shape());
    kernel.apply([x], |[x], grad| Ok([silu_jvp(x, grad)?]))
}

/// The derivative of [`silu`] at x along dx, which is its gradient from dx too.
pub fn silu_jvp(x: &Tensor, dx: &Tensor) -> Result<Tensor> {
    slope(x, None, dx)
}

/// `dx silu'(x + bias)`.
fn slope(x: &Tensor, bias: Option<&Tensor>, dx: &Tensor) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    let kernel = Kernel::over_elements("silu_jvp", x.elem_count(), &[width]).gives(x.shape());
    let [y] = kernel.run(&[Some(x), bias, Some(dx)])?;
    Ok(y)
}

fn follow(x: &Tensor, bias: &Tensor, with_silu: bool) -> Result<Kernel> {
    let width = x.dim(D::Minus1)?;
    if bias.dims() != [width] {
        bail!("a bias {:?} does not fit {:?}", bias.shape(), x.shape());
    }
    Ok(Kernel::over_elements("follow", x.elem_count(), &[width, usize::from(with_silu)]).gives(x.shape()))
}

/// `silu(x + bias)`, x (..., C), bias (C).
pub fn bias_silu(x: &Tensor, bias: &Tensor) -> Result<Tensor> {
    follow(x, bias, true)?.beside(None).apply2([x, bias], |[x, bias], grad| {
        let g_x = slope(x, Some(bias), grad)?;
        let g_bias = column_sum(&g_x)?;
        Ok([g_x, g_bias])
    })
}

/// `x + bias`, and `+ other` if there is one; x and other (..., C), bias (C).
pub fn add(x: &Tensor, bias: &Tensor, other: Option<&Tensor>) -> Result<Tensor> {
    let kernel = follow(x, bias, false)?;
    match other {
        None => kernel.beside(None).apply2([x, bias], |_, grad| Ok([grad.clone(), column_sum(grad)?])),
        Some(other) if other.shape() != x.shape() => bail!("a sum of {:?} and {:?}", x.shape(), other.shape()),
        Some(other) => kernel.apply3([x, bias, other], |_, grad| Ok([grad.clone(), column_sum(grad)?, grad.clone()])),
    }
}

/// The sum of all rows of x (..., C), (C), without gradient.
pub fn column_sum(x: &Tensor) -> Result<Tensor> {
    let width = x.dim(D::Minus1)?;
    let kernel = Kernel::over_columns("column_sum", width, 1, &[x.elem_count() / width.max(1), width]).gives(width);
    let [sum] = kernel.run(&[Some(x)])?;
    Ok(sum)
}
