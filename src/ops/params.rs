//! Named parameters of a network: trainable variables, their detached views, and how they are initialised.

use super::Weight;
use candle_core::{DType, Device, Result, Shape, Tensor, Var, bail};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use std::collections::BTreeMap;

/// How a parameter begins.
#[derive(Clone, Copy, Debug)]
pub enum Init {
    /// All the same value.
    Constant(f64),
    /// Normal with this standard deviation.
    Normal(f64),
    /// Normal with standard deviation `gain / sqrt(fan in)`, the fan in being the first dimension.
    FanIn(f64),
}

/// Parameters by name, in a fixed order.
#[derive(Clone, Debug)]
pub struct Params {
    vars: BTreeMap<String, Var>,
    device: Device,
    dtype: DType,
    /// Of the initial values, or `None` when all values were loaded and an unknown name is an error.
    seed: Option<u64>,
}

impl Params {
    /// An empty set that networks fill with initial values drawn from `seed` as they are built.
    pub fn init(seed: u64, dtype: DType, device: &Device) -> Self {
        Self { vars: BTreeMap::new(), device: device.clone(), dtype, seed: Some(seed) }
    }

    /// Loaded values, converted to `dtype`. Networks built from it must find every parameter.
    pub fn load(tensors: impl IntoIterator<Item = (String, Tensor)>, dtype: DType, device: &Device) -> Result<Self> {
        let vars = tensors
            .into_iter()
            .map(|(name, t)| Ok((name, Var::from_tensor(&t.to_dtype(dtype)?.to_device(device)?.contiguous()?)?)))
            .collect::<Result<_>>()?;
        Ok(Self { vars, device: device.clone(), dtype, seed: None })
    }

    /// Gives a parameter its value, in place of the initial one it would get.
    pub fn insert(&mut self, name: &str, value: Tensor) -> Result<()> {
        let value = value.to_device(&self.device)?.to_dtype(self.dtype)?.contiguous()?;
        self.vars.insert(name.to_owned(), Var::from_tensor(&value)?);
        Ok(())
    }

    /// All variables with their names, in order.
    pub fn vars(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.vars.iter().map(|(name, var)| (name.as_str(), var))
    }

    /// How many numbers these parameters are.
    pub fn count(&self) -> usize {
        self.vars.values().map(|v| v.elem_count()).sum()
    }

    /// The device they live on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Their element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The root of their names, for building a network whose gradient reaches them.
    pub fn tracked(&mut self) -> Scope<'_> {
        Scope { params: self, prefix: String::new(), mode: Mode::Tracked }
    }

    /// The root of their names, for building a network that only reads them: it shares their storage, sees every
    /// update, and records no graph.
    pub fn detached(&mut self) -> Scope<'_> {
        Scope { params: self, prefix: String::new(), mode: Mode::Detached }
    }

    /// The root of their names, for building a network of weights that never change again: they are laid out for speed,
    /// and later updates are not seen.
    pub fn frozen(&mut self) -> Scope<'_> {
        Scope { params: self, prefix: String::new(), mode: Mode::Frozen }
    }

    fn get(&mut self, name: &str, shape: Shape, init: Init) -> Result<&Var> {
        if !self.vars.contains_key(name) {
            let Some(seed) = self.seed else { bail!("parameter {name} is missing") };
            let var = Var::from_tensor(&initial(seed, name, &shape, init, self.dtype, &self.device)?)?;
            self.vars.insert(name.to_owned(), var);
        }
        match self.vars.get(name) {
            Some(var) if var.shape() == &shape => Ok(var),
            Some(var) => bail!("parameter {name} has shape {:?}, the network needs {shape:?}", var.shape()),
            None => bail!("parameter {name} is missing"),
        }
    }
}

/// Initial values depend on the seed and the parameter's name, not on the order of building.
fn initial(seed: u64, name: &str, shape: &Shape, init: Init, dtype: DType, device: &Device) -> Result<Tensor> {
    let count = shape.elem_count();
    let std = match init {
        Init::Constant(c) => return Tensor::full(c as f32, shape, device)?.to_dtype(dtype),
        Init::Normal(std) => std,
        Init::FanIn(gain) => gain / (shape.dims().first().copied().unwrap_or(1) as f64).sqrt(),
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3)));
    let normal = (0..count).map(|_| <StandardNormal as Distribution<f64>>::sample(&StandardNormal, &mut rng) * std);
    Tensor::from_vec(normal.collect::<Vec<f64>>(), shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)
}

/// What the networks built from a scope do with its parameters.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Tracked,
    Detached,
    Frozen,
}

/// A place in the tree of parameter names.
pub struct Scope<'a> {
    params: &'a mut Params,
    prefix: String,
    mode: Mode,
}

impl Scope<'_> {
    /// The place `name` below this one.
    pub fn at(&mut self, name: impl std::fmt::Display) -> Scope<'_> {
        let prefix = if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) };
        Scope { params: self.params, prefix, mode: self.mode }
    }

    /// The parameter `name` here, made if this is the first time it is asked for.
    ///
    /// # Errors
    /// When it exists with another shape, or is missing from loaded values; the message has its full name.
    pub fn get(&mut self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Tensor> {
        let name = self.at(name).prefix;
        let mode = self.mode;
        let var = self.params.get(&name, shape.into(), init)?;
        Ok(if mode == Mode::Tracked { var.as_tensor().clone() } else { var.as_detached_tensor() })
    }

    /// The matrix `name` (inputs, outputs) here, as [`Scope::get`].
    pub fn weight(&mut self, name: &str, (inputs, outputs): (usize, usize), init: Init) -> Result<Weight> {
        let tensor = self.get(name, (inputs, outputs), init)?;
        if self.mode == Mode::Frozen { Weight::frozen(&tensor) } else { Ok(Weight::Tensor(tensor)) }
    }

    /// The device of the parameters.
    pub fn device(&self) -> &Device {
        &self.params.device
    }

    /// The element type of the parameters.
    pub fn dtype(&self) -> DType {
        self.params.dtype
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detached_views_see_updates_and_give_no_gradient() {
        let mut params = Params::init(1, DType::F64, &Device::Cpu);
        let tracked = params.tracked().at("a").get("w", (2, 3), Init::FanIn(1.0)).unwrap();
        let detached = params.detached().at("a").get("w", (2, 3), Init::FanIn(1.0)).unwrap();
        let (name, var) = params.vars().next().unwrap();
        assert_eq!(name, "a.w");
        let twice = (var.as_tensor() * 2.0).unwrap().detach();
        var.set(&twice).unwrap();
        assert_eq!(detached.to_vec2::<f64>().unwrap(), tracked.to_vec2::<f64>().unwrap());
        let grads = detached.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        assert!(grads.get(var).is_none());
        let grads = tracked.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        assert!(grads.get(var).is_some());
    }

    #[test]
    fn wrong_shapes_and_missing_names_are_named() {
        let w = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
        let mut params = Params::load([("w".to_owned(), w)], DType::F32, &Device::Cpu).unwrap();
        let wrong = params.tracked().get("w", (3, 2), Init::Constant(0.0)).unwrap_err().to_string();
        assert!(wrong.contains("parameter w has shape"), "{wrong}");
        let missing = params.tracked().at("deep").get("v", 1, Init::Constant(0.0)).unwrap_err().to_string();
        assert!(missing.contains("deep.v is missing"), "{missing}");
    }
}
