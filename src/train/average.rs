//! The weighted mean of finished models that grew from one.
//!
//! Trainings that go on from the same weights stay close enough for the mean of their weights to be a network as good as they are
//! (Wortsman et al. 2022, arXiv 2203.05482), and often a better one: what they do not have in common is mostly chance, and averages
//! out. The same mean, of a model before and after a training, goes a part of the way (arXiv 2109.01903).

use super::start::Start;
use super::{StageError, TrainError, finished};
use crate::model::ModelSpec;
use crate::model::spec::StageSpec;
use candle_core::{DType, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Name of the stage.
const AVERAGE: &str = "average";
/// The stages that have to be the same, if there are any: what grew from other latents or another teacher is another network.
const ROOTS: [&str; 2] = ["codec", "teacher"];

/// A finished model, and how much it counts. Written `models/mine=0.7`.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// The model's folder.
    pub folder: PathBuf,
    /// Its weight, above 0.
    pub weight: f64,
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A folder's name may hold the sign, a number never does.
        let (folder, weight) =
            text.rsplit_once('=').ok_or("must be a model's folder and a number, like models/mine=0.7")?;
        let weight = weight.trim().parse().ok().filter(|weight: &f64| weight.is_finite() && *weight > 0.0);
        Ok(Self { folder: folder.into(), weight: weight.ok_or("must end with a number above 0")? })
    }
}

/// Writes the mean of these models to `out`, each weighed by its share of the sum of all weights, in half precision. All else, the
/// name, the words and the sampler, is the first one's.
///
/// # Errors
/// When there is none; when one cannot be read, or is of other sizes than the first, is sampled otherwise or grew from another
/// codec or teacher; and when `out` cannot be written.
pub fn average(shares: &[Share], out: &Path) -> Result<(), StageError> {
    let starts = shares.iter().map(|share| Start::open(&share.folder)).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = starts.first().map(Start::finished) else {
        let reason = "there is no model to average".to_owned();
        return Err(TrainError::Option { option: "models", reason }.into());
    };
    let total: f64 = shares.iter().map(|share| share.weight).sum();
    let (mut training, mut of, mut sum) = (first.training.clone(), BTreeMap::new(), HashMap::new());
    for (Share { folder, weight }, start) in shares.iter().zip(&starts) {
        let other = start.finished();
        if let Some(what) = unlike(&first, &other) {
            let reason = format!("{what} is another than that of {}", shares[0].folder.display());
            return Err(TrainError::Data { path: folder.clone(), reason }.into());
        }
        let share = weight / total;
        add(&mut sum, start, share)?;
        *of.entry(folder.display().to_string()).or_default() += share;
        for stage in other.training {
            if !training.contains(&stage) {
                training.push(stage);
            }
        }
    }
    training.push(StageSpec { stage: AVERAGE.to_owned(), of, ..StageSpec::default() });
    finished::write(out, &ModelSpec { training, ..first }, sum)
}

/// What two models that are averaged must have in common and do not.
fn unlike(one: &ModelSpec, other: &ModelSpec) -> Option<String> {
    let sampler = |spec: &ModelSpec| (spec.sampler.kind, spec.sampler.t_mid);
    let networks = [
        ("text", one.text == other.text),
        ("codec", one.codec == other.codec),
        ("generator", one.generator == other.generator),
        ("sampler", sampler(one) == sampler(other)),
    ];
    let field = networks.into_iter().find(|(_, same)| !same).map(|(field, _)| format!("{field} in its model.json"));
    let root = |spec: &ModelSpec, name: &str| spec.training.iter().rfind(|stage| stage.stage == name).cloned();
    let grown = || ROOTS.into_iter().find(|name| root(one, name) != root(other, name));
    field.or_else(|| grown().map(|name| format!("the training of its {name}")))
}

/// Adds a part of a model's weights to the sum of those before.
fn add(sum: &mut HashMap<String, Tensor>, start: &Start, part: f64) -> Result<(), StageError> {
    let mut tensors = start.codec()?;
    tensors.extend(start.network()?);
    for (name, tensor) in tensors {
        // In double precision, for what is left of half precision not to depend on the order.
        let tensor = (tensor.to_dtype(DType::F64)? * part)?;
        let tensor = match sum.get(&name) {
            Some(before) => (before + tensor)?,
            None => tensor,
        };
        sum.insert(name, tensor);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read() {
        let share = |text: &str| text.parse::<Share>();
        assert_eq!(share("models/a=0.7").unwrap(), Share { folder: "models/a".into(), weight: 0.7 });
        assert_eq!(share("a=b=2").unwrap(), Share { folder: "a=b".into(), weight: 2.0 });
        for (text, told) in
            [("models/a", "like models/mine=0.7"), ("a=0", "above 0"), ("a=x", "above 0"), ("a=inf", "above 0")]
        {
            assert!(share(text).unwrap_err().contains(told), "{text}");
        }
        assert!(average(&[], Path::new("x")).unwrap_err().to_string().contains("no model"));
    }
}
