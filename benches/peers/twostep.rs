//! Our side of the comparison with other runtimes: a process that run.py asks, a line at a time, to run one network.
//!
//! ```text
//! export FILE         the initial weights of what a finished model has no more, for the other side to begin with
//! load NETWORK FILE   builds a network on the inputs in a file
//! output FILE         runs it twice and writes the second results: by then a stream has a past, a training has learnt
//! time RUNS           runs it and answers with the milliseconds of each run
//! ```
//! Every line is answered by one, "ok ..." or "error ...".

mod networks;
mod training;

use anyhow::{Context, bail, ensure};
use candle_core::{DType, Tensor};
use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::path::Path;
use std::time::Instant;
use twostep::model::weights;

/// As in the program itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Named arrays.
type Arrays = HashMap<String, Tensor>;
/// A network on its inputs; a run gives its outputs.
type Run = Box<dyn FnMut() -> anyhow::Result<Arrays>>;

fn main() -> anyhow::Result<()> {
    // SAFETY: no other thread exists yet. As in the program itself.
    unsafe { std::env::set_var("CANDLE_NUM_THREADS", "1") };
    let folder = std::env::args().nth(1).context("the first argument is a model's folder")?;
    if folder == "--bench" {
        // `cargo bench` runs everything there is.
        println!("peer: has nothing to measure alone, see benches/peers/run.py");
        return Ok(());
    }
    let mut session = Session { folder, run: None };
    for line in std::io::stdin().lock().lines() {
        let answer = match session.obey(&line?) {
            Ok(answer) => format!("ok {answer}"),
            Err(error) => format!("error {error:#}").replace('\n', "; "),
        };
        println!("{answer}");
        std::io::stdout().flush()?;
    }
    Ok(())
}

struct Session {
    /// The model whose networks run.
    folder: String,
    run: Option<Run>,
}

impl Session {
    fn obey(&mut self, line: &str) -> anyhow::Result<String> {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["export", file] => {
                weights::write(Path::new(file), &training::initial(Path::new(&self.folder))?, DType::F32)?;
                Ok(file.to_owned())
            }
            ["load", network, file] => {
                // The old one goes first: two trainings need not fit into memory.
                self.run = None;
                self.run = Some(load(Path::new(&self.folder), network, Path::new(file))?);
                Ok(network.to_owned())
            }
            ["output", file] => {
                let run = self.run.as_mut().context("nothing is loaded")?;
                run()?;
                weights::write(Path::new(file), &run()?, DType::F32)?;
                Ok(file.to_owned())
            }
            ["time", runs] => self.time(runs.parse().with_context(|| format!("runs: {runs:?}"))?),
            _ => bail!("unknown command: {line:?}"),
        }
    }

    fn time(&mut self, runs: usize) -> anyhow::Result<String> {
        ensure!(runs > 0, "runs: at least one");
        let run = self.run.as_mut().context("nothing is loaded")?;
        let millis = (0..runs).map(|_| {
            let begin = Instant::now();
            run()?;
            Ok(format!("{:.6}", begin.elapsed().as_secs_f64() * 1e3))
        });
        Ok(millis.collect::<anyhow::Result<Vec<_>>>()?.join(" "))
    }
}

fn load(model: &Path, network: &str, file: &Path) -> anyhow::Result<Run> {
    let inputs = Inputs(weights::read(file, &candle_core::Device::Cpu)?);
    match network {
        "text" => networks::text(model, &inputs),
        "context" => networks::context(model, &inputs),
        "generator" => networks::generator(model, inputs),
        "decoder" => networks::decoder(model, inputs),
        "encoder" => networks::encoder(model, inputs),
        "teacher" => training::teacher(model, inputs),
        "student" => training::student(model, inputs),
        "codec" => training::codec(model, inputs),
        _ => bail!("unknown network: {network:?}"),
    }
}

/// What the other side gave.
struct Inputs(Arrays);

impl Inputs {
    fn get(&self, name: &str) -> anyhow::Result<Tensor> {
        self.0.get(name).cloned().with_context(|| format!("the inputs have no {name:?}"))
    }

    /// Texts as n-gram rows (B, W, G), of which the first `counts` (B, W) of every word count.
    fn texts(&self) -> anyhow::Result<Vec<Vec<Vec<u32>>>> {
        let rows = self.get("rows")?.to_dtype(DType::U32)?.to_vec3::<u32>()?;
        let counts = self.get("counts")?.to_dtype(DType::U32)?.to_vec2::<u32>()?;
        let words = |(rows, counts): (Vec<Vec<u32>>, Vec<u32>)| {
            rows.into_iter().zip(counts).map(|(row, count)| row.into_iter().take(count as usize).collect()).collect()
        };
        Ok(rows.into_iter().zip(counts).map(words).collect())
    }
}
