//! Against the reference implementations: what tests/family/fixtures.py computed with transformers and diffusers.

use super::folder::FILES;
use super::*;
use std::collections::HashMap;
use std::path::PathBuf;

/// The bound of all comparisons, relative to the largest value.
const TOLERANCE: f64 = 1e-4;
const PROMPT: &str = "rain on a tin roof";
const GUIDANCE: f64 = 3.5;

pub fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/consistency_tta")
}

pub fn tiny() -> ConsistencyTta {
    ConsistencyTta::load(&fixture(), &Device::Cpu, Precision::F32).unwrap()
}

struct Reference(HashMap<String, Tensor>);

impl Reference {
    fn read() -> Self {
        Self(candle_core::safetensors::load(fixture().join("expected.safetensors"), &Device::Cpu).unwrap())
    }

    fn raw(&self, name: &str) -> Tensor {
        self.0[name].clone()
    }

    /// (1, C, H, W) as (1, H, W, C).
    fn latents(&self, name: &str) -> Tensor {
        self.raw(name).permute((0, 2, 3, 1)).unwrap().contiguous().unwrap()
    }

    fn values(&self, name: &str) -> Vec<f32> {
        values(&self.raw(name))
    }
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

#[track_caller]
fn close(name: &str, ours: &[f32], theirs: &[f32]) {
    assert_eq!(ours.len(), theirs.len(), "{name}");
    let largest = theirs.iter().fold(0f32, |a, x| a.max(x.abs()));
    let error = ours.iter().zip(theirs).fold(0f32, |a, (x, y)| a.max((x - y).abs()));
    let relative = f64::from(error / largest);
    println!("{name}: {relative:.1e}");
    assert!(relative < TOLERANCE, "{name}: relative error {relative:e}");
}

#[test]
fn the_text_encoder_gives_what_transformers_gives() {
    let (model, reference) = (tiny(), Reference::read());
    let ids: Vec<i64> = reference.raw("t5.ids").flatten_all().unwrap().to_vec1().unwrap();
    let tokens = model.text().tokens(PROMPT).unwrap();
    assert_eq!(tokens.iter().map(|&id| i64::from(id)).collect::<Vec<_>>(), ids);
    for asked in 1..=2 {
        close("T5", &values(&model.text().encode(PROMPT).unwrap()), &reference.values("t5.out"));
        assert_eq!(model.text().cached(), 1, "asked {asked} times");
    }
}

#[test]
fn the_unet_gives_what_diffusers_gives() {
    let (model, reference) = (tiny(), Reference::read());
    let states = reference.raw("t5.out").squeeze(0).unwrap();
    let even = Context { bias: Tensor::zeros(states.dim(0).unwrap(), DType::F32, &Device::Cpu).unwrap(), states };
    let biased = Context { bias: reference.raw("unet.bias"), ..even.clone() };
    let x = reference.latents("unet.x");
    let middle = model.schedule().times(2)[1].step;
    for (name, step, guidance, context) in [
        ("unet.late", 999.0, GUIDANCE, &even),
        ("unet.middle", middle, 1.0, &even),
        ("unet.biased", middle, 6.0, &biased),
    ] {
        let ours = model.unet().forward(&x, step, guidance, context).unwrap();
        close(name, &values(&ours), &values(&reference.latents(name)));
    }
}

#[test]
fn the_decoder_and_the_vocoder_give_what_diffusers_and_transformers_give() {
    let (model, reference) = (tiny(), Reference::read());
    let spectrogram = model.spectrogram(&reference.latents("unet.x")).unwrap();
    close("autoencoder", &values(&spectrogram), &reference.values("vae.mel"));
    let heard = reference.raw("vocoder.mel").squeeze(0).unwrap();
    close("HiFi-GAN", &model.vocoder().forward(&heard).unwrap(), &reference.values("vocoder.wave"));
}

#[test]
fn the_whole_path_in_one_and_two_steps_gives_what_the_reference_gives() {
    let (model, reference) = (tiny(), Reference::read());
    let prompts = [Prompt { text: PROMPT.into(), weight: 2.0 }, Prompt { text: "unheard".into(), weight: 0.0 }];
    let context = model.context(&prompts).unwrap();
    let times: Vec<f32> = model.schedule().times(2).iter().map(|time| time.step as f32).collect();
    assert_eq!(times, reference.values("times"));
    let noises = ["noise.first", "noise.second"].map(|name| reference.latents(name));
    for steps in [1, 2] {
        let latents = model.sample(&noises[..steps], &context, GUIDANCE, None).unwrap();
        close("latents", &values(&latents), &values(&reference.latents(&format!("latents.{steps}"))));
        let sound = model.vocoder().forward(&model.spectrogram(&latents).unwrap()).unwrap();
        close("sound", &sound, &reference.values(&format!("wave.{steps}")));
    }
    let known = reference.latents("known");
    let continued = model.sample(&noises, &context, GUIDANCE, Some(&known)).unwrap();
    close("continued", &values(&continued), &values(&reference.latents("latents.continued")));
    let rows = known.dim(1).unwrap();
    assert_eq!(values(&continued.narrow(1, 0, rows).unwrap()), values(&known));
}

#[test]
fn a_prompt_that_fades_out_leaves_without_a_jump() {
    let model = tiny();
    let with = |weight: f32| {
        let prompts = [("rain", 1.0), ("tin roof", weight)].map(|(text, weight)| Prompt { text: text.into(), weight });
        let context = model.context(&prompts).unwrap();
        let noise = Reference::read().latents("noise.first");
        values(&model.sample(&[noise], &context, GUIDANCE, None).unwrap())
    };
    let distance = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f32>().sqrt();
    let (without, whole) = (with(0.0), with(1.0));
    assert!(distance(&with(1e-4), &without) < 1e-2 * distance(&whole, &without));
    assert!(model.context(&[Prompt { text: "rain".into(), weight: 0.0 }]).is_err());
}

/// A copy of the fixture, to be broken.
pub fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in FILES.iter().chain(&["README.md"]) {
        let to = folder.path().join(file);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(fixture().join(file), to).unwrap();
    }
    folder
}

/// What is said of a copy whose file was changed.
fn refused(file: &str, change: impl FnOnce(&Path)) -> String {
    let folder = copy();
    change(&folder.path().join(file));
    let error = ConsistencyTta::load(folder.path(), &Device::Cpu, Precision::F32).unwrap_err().to_string();
    assert!(error.contains(file), "{error}");
    error
}

/// The same with one text replaced by another in a file.
fn refused_text(file: &str, from: &str, to: &str) -> String {
    refused(file, |path| {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        std::fs::write(path, text.replace(from, to)).unwrap();
    })
}

/// The same with one tensor replaced by another.
fn refused_tensor(file: &str, name: &str, tensor: Option<Tensor>) -> String {
    refused(file, |path| {
        let mut tensors = candle_core::safetensors::load(path, &Device::Cpu).unwrap();
        assert!(tensors.remove(name).is_some(), "{file} has no {name}");
        tensors.extend(tensor.map(|tensor| (name.to_owned(), tensor)));
        candle_core::safetensors::save(&tensors, path).unwrap();
    })
}

#[test]
fn every_missing_file_is_named() {
    for file in FILES {
        refused(file, |path| std::fs::remove_file(path).unwrap());
    }
}

#[test]
fn a_file_that_is_not_complete_is_named_with_its_first_lost_tensor() {
    for file in FILES.into_iter().filter(|file| file.ends_with(".safetensors")) {
        let error = refused(file, |path| {
            let bytes = std::fs::read(path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() - 100]).unwrap();
        });
        assert!(error.contains("the tensor ") && error.contains("not complete"), "{error}");
    }
}

#[test]
fn a_tensor_that_does_not_fit_is_named() {
    let zeros = |dtype, shape: &[usize]| Some(Tensor::zeros(shape, dtype, &Device::Cpu).unwrap());
    for (file, name) in [
        (UNET_WEIGHTS, "up_blocks.1.attentions.2.transformer_blocks.0.attn2.to_k.weight"),
        (UNET_WEIGHTS, "guidance_proj.weight"),
        (VAE_WEIGHTS, "decoder.mid_block.attentions.0.to_q.bias"),
        (VOCODER_WEIGHTS, "resblocks.3.convs1.1.weight"),
        (folder::TEXT_WEIGHTS, "encoder.block.1.layer.0.SelfAttention.q.weight"),
    ] {
        let error = refused_tensor(file, name, None);
        assert!(error.contains(&format!("{name} is missing")), "{error}");
        let error = refused_tensor(file, name, zeros(DType::F32, &[1, 2, 7]));
        assert!(error.contains(name) && error.contains("[1, 2, 7]"), "{error}");
        let shape = candle_core::safetensors::load(fixture().join(file), &Device::Cpu).unwrap()[name].dims().to_vec();
        let error = refused_tensor(file, name, zeros(DType::U8, &shape));
        assert!(error.contains(&format!("{name} is of U8")), "{error}");
    }
}

#[test]
fn a_configuration_that_is_not_supported_is_named_with_its_field() {
    let scheduler = "scheduler/scheduler_config.json";
    let error = refused_text(scheduler, "HeunDiscreteScheduler", "CMStochasticIterativeScheduler");
    assert!(error.contains("_class_name") && error.contains("CMStochasticIterativeScheduler"), "{error}");
    assert!(refused_text(scheduler, "scaled_linear", "squaredcos_cap_v2").contains("beta_schedule"));
    assert!(refused_text("unet/config.json", "\"CrossAttnUpBlock2D\"", "\"KUpBlock2D\"").contains("KUpBlock2D"));
    assert!(refused_text("unet/config.json", "\"in_channels\": 8", "\"in_channels\": \"eight\"").contains("eight"));
    assert!(refused_text("vae/config.json", "\"in_channels\": 1", "\"in_channels\": 3").contains("in_channels"));
    assert!(refused_text("vocoder/config.json", "\"leaky_relu_slope\"", "\"slope\"").contains("leaky_relu_slope"));
    assert!(refused_text("tokenizer/tokenizer.json", "\"Unigram\"", "\"Trigram\"").contains("tokenizer.json"));
}

#[test]
fn a_vocabulary_that_is_too_small_is_told_when_a_caption_needs_more() {
    let folder = copy();
    let path = folder.path().join("tokenizer/tokenizer.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let pieces = json["model"]["vocab"].as_array_mut().unwrap();
    pieces.extend((0..20).map(|i| serde_json::json!([format!("filler{i}"), -20.0])));
    pieces.push(serde_json::json!(["\u{2581}zebra", -1.0]));
    std::fs::write(&path, json.to_string()).unwrap();
    let model = ConsistencyTta::load(folder.path(), &Device::Cpu, Precision::F32).unwrap();
    assert!(model.text().encode("zebra").unwrap_err().to_string().contains("40 tokens"));
    assert!(model.text().encode("rain").is_ok());
}
