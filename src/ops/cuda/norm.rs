//! RMS normalisation of rows, alone and with the modulation of a sequence.

use super::launch::Kernel;
use candle_core::{D, Result, Tensor, bail};

fn over_rows(name: &'static str, x: &Tensor, eps: f64) -> Result<Kernel> {
    let width = x.dim(D::Minus1)?;
    let rows = x.elem_count() / width.max(1);
    Ok(Kernel::over_rows(name, rows, width, &[rows, width]).gives(x.shape()).with(eps))
}

/// Each row of the last dimension divided by its root mean square.
pub fn rms_norm(x: &Tensor, eps: f64) -> Result<Tensor> {
    over_rows("rms_norm", x, eps)?.apply([x], move |[x], grad| Ok([rms_norm_jvp(x, grad, eps)?]))
}

/// The derivative of [`rms_norm`] at x along dx, which is its gradient from dx too.
pub fn rms_norm_jvp(x: &Tensor, dx: &Tensor, eps: f64) -> Result<Tensor> {
    let [y] = over_rows("rms_norm_jvp", x, eps)?.run(&[Some(x), Some(dx)])?;
    Ok(y)
}

fn over_sequence(name: &'static str, x: &Tensor, scale: &Tensor, eps: f64) -> Result<Kernel> {
    let (batch, time, width) = x.dims3()?;
    if scale.dims() != [batch, width] {
        bail!("{name}: x {:?} needs a scale (B, C), got {:?}", x.shape(), scale.shape());
    }
    let rows = batch * time;
    Ok(Kernel::over_rows(name, rows, width, &[rows, time, width]).gives(x.shape()).with(eps))
}

/// `rms(x) scale + shift`, x (B, T, C), scale and shift (B, C).
pub fn norm_modulate(x: &Tensor, scale: &Tensor, shift: &Tensor, eps: f64) -> Result<Tensor> {
    let kernel = over_sequence("norm_modulate", x, scale, eps)?;
    kernel.apply3([x, scale, shift], move |[x, scale, _], grad| {
        let (batch, time, width) = x.dims3()?;
        let input = over_sequence("norm_modulate_input", x, scale, eps)?.gives(batch * time);
        let [g_x, inverse] = input.run(&[Some(x), Some(scale), Some(grad)])?;
        let sides = Kernel::over_elements("norm_modulate_sides", batch * width, &[time, width]);
        let sides = sides.gives(scale.shape()).gives(scale.shape());
        let [g_scale, g_shift] = sides.run(&[Some(x), Some(&inverse), Some(grad)])?;
        Ok([g_x, g_scale, g_shift])
    })
}

/// The derivative of [`norm_modulate`] along those of dx, dscale and dshift that are there.
pub fn norm_modulate_jvp(
    x: &Tensor,
    scale: &Tensor,
    [dx, dscale, dshift]: [Option<&Tensor>; 3],
    eps: f64,
) -> Result<Tensor> {
    let kernel = over_sequence("norm_modulate_jvp", x, scale, eps)?;
    let [y] = kernel.run(&[Some(x), Some(scale), dx, dscale, dshift])?;
    Ok(y)
}
