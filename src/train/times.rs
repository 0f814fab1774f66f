//! The times that training asks its networks at.

use crate::nets::generator::GeneratorConfig;
use crate::scm::sampler::{SamplerKind, teacher_times};
use crate::scm::trigflow::{SD, t_max};
use candle_core::{Device, Result, Tensor};
use rand::Rng;
use rand_distr::{Distribution, StandardNormal};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// Mean and standard deviation of `ln(tan(t) sd)`, the logarithm of the noise level, for sd = 0.5: the teacher's and
/// the students', which is wider.
const TEACHER: (f64, f64) = (-0.4, 1.2);
const STUDENT: (f64, f64) = (-0.8, 1.6);
/// Share of samples at each time that a step of the sampler begins at: the law above hardly reaches t_max, and no law
/// meets a boundary.
const AT_STARTS: f64 = 0.04;
/// Share of the samples above the boundary of a student in segments that jump to 0 all the same, so that it can also
/// be sampled in a single step.
const WHOLE_JUMPS: f64 = 0.2;
/// Steps that dsCD cuts the time into; the paper found more of them better up to this number, and worse beyond.
const DISCRETE_STEPS: usize = 1024;

/// How a student is distilled, see [`crate::scm::distill`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// One consistency model for all times, by a Jacobian-vector product.
    Scd,
    /// Jumps over two segments that meet at t_mid, by a Jacobian-vector product.
    MsScd,
    /// One consistency model for all times, by differences.
    Dscd,
}

impl Method {
    const ALL: [(Self, &'static str); 3] = [(Self::Scd, "scd"), (Self::MsScd, "ms-scd"), (Self::Dscd, "dscd")];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(method, _)| *method == self).map_or("", |(_, name)| name)
    }

    /// The time of the second step when nobody asks for another. Where segments meet is best in the middle (of
    /// [0, t_max]); for the others it is to be searched after training.
    pub fn t_mid(self) -> f64 {
        match self {
            Self::MsScd => 0.78,
            Self::Scd | Self::Dscd => 1.1,
        }
    }

    /// The sampler for such a student.
    pub fn sampler(self) -> SamplerKind {
        match self {
            Self::MsScd => SamplerKind::Segments,
            Self::Scd | Self::Dscd => SamplerKind::Consistency,
        }
    }

    /// The hyper-parameters of such a student of this teacher.
    pub fn student_of(self, teacher: &GeneratorConfig) -> GeneratorConfig {
        GeneratorConfig { segments: self == Self::MsScd, ..teacher.clone() }
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        let found = Self::ALL.into_iter().find(|(_, known)| *known == name);
        found.map(|(method, _)| method).ok_or_else(|| "must be scd, ms-scd or dscd".to_owned())
    }
}

/// Times t with `ln(tan(t) sd) ~ N(mean, std^2)`.
fn draw(size: usize, (mean, std): (f64, f64), rng: &mut impl Rng) -> Vec<f64> {
    let normal = |rng: &mut _| <StandardNormal as Distribution<f64>>::sample(&StandardNormal, rng);
    (0..size).map(|_| ((mean + std * normal(rng)).exp() / SD).atan()).collect()
}

fn column(times: Vec<f64>) -> Result<Tensor> {
    let count = times.len();
    Tensor::from_vec(times.into_iter().map(|t| t as f32).collect::<Vec<_>>(), (count, 1), &Device::Cpu)
}

/// The teacher's times, (size, 1).
pub fn teacher(size: usize, rng: &mut impl Rng) -> Result<Tensor> {
    column(draw(size, TEACHER, rng))
}

/// Where a student is asked, and what for, (size, 1) each.
pub struct StudentTimes {
    /// The times.
    pub t: Tensor,
    /// Where it is to jump from there; `None` is to 0.
    pub end: Option<Tensor>,
    /// The times a step before, for differences.
    pub before: Option<Tensor>,
}

impl StudentTimes {
    /// Draws times for a method; `t_mid` is where the segments of MS-sCD meet.
    pub fn draw(method: Method, t_mid: f64, size: usize, rng: &mut impl Rng) -> Result<Self> {
        let starts = if method == Method::MsScd { vec![t_max(), t_mid] } else { vec![t_max()] };
        let mut t = draw(size, STUDENT, rng);
        t.iter_mut().for_each(|t| {
            *t = t.min(t_max());
            if rng.random_bool(AT_STARTS * starts.len() as f64) {
                *t = starts[rng.random_range(0..starts.len())];
            }
        });
        let (mut end, mut before) = (None, None);
        match method {
            Method::Scd => {}
            Method::MsScd => {
                let whole = |t: f64, rng: &mut _| t <= t_mid || Rng::random_bool(rng, WHOLE_JUMPS);
                end = Some(t.iter().map(|&t| if whole(t, rng) { 0.0 } else { t_mid }).collect());
            }
            Method::Dscd => {
                // Falling from t_max to 0; every time moves up to the next one of them that is not 0.
                let grid = teacher_times(DISCRETE_STEPS);
                let places: Vec<usize> =
                    t.iter().map(|&t| grid.partition_point(|&g| g >= t).clamp(1, DISCRETE_STEPS)).collect();
                t = places.iter().map(|&i| grid[i - 1]).collect();
                before = Some(places.iter().map(|&i| grid[i]).collect());
            }
        }
        Ok(Self { t: column(t)?, end: end.map(column).transpose()?, before: before.map(column).transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    const T_MID: f64 = 0.78;

    fn drawn(method: Method) -> (Vec<f32>, Option<Vec<f32>>, Option<Vec<f32>>) {
        let times = StudentTimes::draw(method, T_MID, 4000, &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
        let list = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        (list(&times.t), times.end.as_ref().map(list), times.before.as_ref().map(list))
    }

    fn share(of: &[f32], what: impl Fn(f32) -> bool) -> f64 {
        of.iter().filter(|&&t| what(t)).count() as f64 / of.len() as f64
    }

    #[test]
    fn noise_levels_follow_their_law_and_reach_the_end() {
        let (t, end, before) = drawn(Method::Scd);
        assert!(end.is_none() && before.is_none());
        let logs: Vec<f64> = t.iter().map(|t| (f64::from(*t).tan() * SD).ln()).collect();
        let mut middle = logs.clone();
        middle.sort_by(f64::total_cmp);
        assert!((middle[2000] - STUDENT.0).abs() < 0.2, "{}", middle[2000]);
        assert!((share(&t, |t| t == t_max() as f32) - AT_STARTS).abs() < 0.015);
        assert!(t.iter().all(|&t| t > 0.0 && t <= t_max() as f32));
    }

    #[test]
    fn segments_end_at_the_boundary_below() {
        let (t, end, before) = drawn(Method::MsScd);
        assert!(before.is_none());
        let mid = T_MID as f32;
        for (t, end) in t.iter().zip(end.as_ref().unwrap()) {
            assert!((*end == 0.0 || *end == mid) && end < t, "{t} to {end}");
        }
        let above: Vec<f32> = t.iter().zip(end.unwrap()).filter(|(t, _)| **t > mid).map(|(_, end)| end).collect();
        assert!((share(&above, |end| end == 0.0) - WHOLE_JUMPS).abs() < 0.03);
        assert!((share(&t, |t| t == mid) - AT_STARTS).abs() < 0.015);
    }

    #[test]
    fn differences_are_taken_over_neighbours_of_a_grid() {
        let (t, _, before) = drawn(Method::Dscd);
        let grid = teacher_times(DISCRETE_STEPS);
        for (t, before) in t.iter().zip(before.unwrap()) {
            assert!(before < *t);
            let at = grid.iter().position(|g| *g as f32 == *t).unwrap();
            assert_eq!(grid[at + 1] as f32, before);
        }
        assert!((share(&t, |t| t == t_max() as f32) - AT_STARTS).abs() < 0.02);
    }
}
