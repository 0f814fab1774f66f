//! Depthwise convolution over time.

use super::launch::Kernel;
use candle_core::{Result, Tensor};

/// The valid depthwise convolution of x (B, T + K - 1, C) with w (K, C), whose shapes fit.
pub fn depthwise(x: &Tensor, w: &Tensor) -> Result<Tensor> {
    let (batch, length, width) = x.dims3()?;
    let taps = w.dim(0)?;
    let time = length + 1 - taps;
    let counts = [time, width, taps];
    let kernel = Kernel::over_elements("depthwise", batch * time * width, &counts).gives((batch, time, width));
    kernel.apply2([x, w], move |[x, w], grad| {
        let input = Kernel::over_elements("depthwise_input", x.elem_count(), &counts).gives(x.shape());
        let [g_x] = input.run(&[Some(w), Some(grad)])?;
        let rows = [batch * time, time, width, taps];
        let [g_w] =
            Kernel::over_columns("depthwise_taps", width, taps, &rows).gives(w.shape()).run(&[Some(x), Some(grad)])?;
        Ok([g_x, g_w])
    })
}
