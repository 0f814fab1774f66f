//! The `twostep` program: parse, then one match.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod cli;

/// The networks allocate and free large buffers all the time; the system's allocator would map and unmap each.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    // candle's own threads spin while they wait, which on shared cores costs more than they bring; our kernels and the
    // matrix products run on rayon's. Whoever sets the variable knows better.
    if std::env::var_os("CANDLE_NUM_THREADS").is_none() {
        // SAFETY: no other thread exists yet.
        unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    }
    cli::parse()?.run()
}
