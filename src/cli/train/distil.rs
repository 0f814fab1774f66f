//! What the student stage is asked for.

use super::common::Habits;
use clap::Args;
use std::path::PathBuf;
use twostep::scm::trigflow::t_max;
use twostep::train::stages::Distillation;
use twostep::train::times::Method;

/// The student's habits. The tangent's norm bounds the gradient already: this clip is for accidents only.
pub const STUDENT: Habits = Habits { steps: 3000, batch: 64, lr: 2e-4, lr_from: 2e-4, clip: 100.0, sigma_rel: 0.05 };

/// Options of the student stage, but for the objective.
#[derive(Args, Debug)]
pub struct Distil {
    /// Folder of the finished model
    #[arg(long, env = "TWOSTEP_OUT")]
    pub out: PathBuf,
    /// The largest guidance scale to distil
    #[arg(long, env = "TWOSTEP_GUIDANCE_MAX", default_value_t = 3.0)]
    guidance_max: f64,
    /// Time of the second step in radians: for ms-scd where the segments meet, 0.78 if not given; for the others
    /// 1.1, and better searched after the training
    #[arg(long, env = "TWOSTEP_T_MID")]
    t_mid: Option<f64>,
    /// Learn in contexts of up to so many chunks that the student made itself, against drift; to go on with once
    /// the student is trained (--resume, with more --steps)
    #[arg(long, env = "TWOSTEP_ROLLOUT", default_value_t = 0)]
    rollout: usize,
}

impl Distil {
    /// Checks the options.
    pub fn ask(&self, method: Method) -> anyhow::Result<Distillation> {
        let guidance_max = self.guidance_max;
        if !(guidance_max.is_finite() && guidance_max >= 1.0) {
            anyhow::bail!("--guidance-max {guidance_max}: must be at least 1");
        }
        let t_mid = self.t_mid.unwrap_or(method.t_mid());
        if !(t_mid > 0.0 && t_mid < t_max()) {
            anyhow::bail!("--t-mid {t_mid}: must be between 0 and {:.4}", t_max());
        }
        Ok(Distillation { method, t_mid, guidance_max, roll_out: self.rollout })
    }
}
