//! Build script. Without the features `cuda` and `cuda-emulation` there is nothing to build.

mod delay;
mod kernels;
mod toolkit;

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rustc-check-cfg=cfg(cuda_delayed)");
    if std::env::var_os("CARGO_FEATURE_CUDA").is_some() {
        let toolkit = toolkit::Toolkit::find()?;
        kernels::compile(&toolkit)?;
        delay::write(&toolkit)?;
    }
    #[cfg(feature = "cuda-emulation")]
    kernels::emulate();
    Ok(())
}
