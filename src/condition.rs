//! What a listener asks for: weighted prompts, guidance and controls.

use serde::{Deserialize, Serialize};

/// One weighted prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    /// Free text.
    pub text: String,
    /// Relative weight, not negative; the weights of a condition are normalised to sum 1.
    pub weight: f32,
}

/// A key signature: a major scale and its relative minor share the same seven pitch classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scale(u8);

impl Scale {
    /// Names in Lyria RealTime's vocabulary, indexed by the pitch class of the major tonic (C = 0).
    pub const NAMES: [&str; 12] = [
        "C_MAJOR_A_MINOR",
        "D_FLAT_MAJOR_B_FLAT_MINOR",
        "D_MAJOR_B_MINOR",
        "E_FLAT_MAJOR_C_MINOR",
        "E_MAJOR_D_FLAT_MINOR",
        "F_MAJOR_D_MINOR",
        "G_FLAT_MAJOR_E_FLAT_MINOR",
        "G_MAJOR_E_MINOR",
        "A_FLAT_MAJOR_F_MINOR",
        "A_MAJOR_G_FLAT_MINOR",
        "B_FLAT_MAJOR_G_MINOR",
        "B_MAJOR_A_FLAT_MINOR",
    ];

    /// Semitones above its tonic at which a major scale has its notes.
    pub const STEPS: [i32; 7] = [0, 2, 4, 5, 7, 9, 11];

    /// Whether a key of the keyboard, by its MIDI number, belongs to it.
    pub fn contains(self, key: i32) -> bool {
        Self::STEPS.contains(&(key - i32::from(self.0)).rem_euclid(12))
    }

    /// The scale whose major tonic has this pitch class (0 = C .. 11 = B).
    pub fn from_tonic(pitch_class: u8) -> Self {
        Self(pitch_class % 12)
    }

    /// Pitch class of the major tonic, 0..12.
    pub fn tonic(self) -> u8 {
        self.0
    }

    /// The scale of this name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::NAMES.iter().position(|&n| n == name).map(|i| Self(i as u8))
    }

    /// Its name, as in [`Scale::NAMES`].
    pub fn name(self) -> &'static str {
        Self::NAMES[self.0 as usize]
    }
}

/// Beats of a bar.
pub const BAR: f32 = 4.0;

/// Controls with the meaning of the corpus synthesiser's own parameters; `None` leaves the choice to the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Controls {
    /// Tempo in beats per minute, 60..=200.
    pub bpm: Option<f32>,
    /// How busy, 0..=1.
    pub density: Option<f32>,
    /// How bright, 0..=1.
    pub brightness: Option<f32>,
    /// Key signature.
    pub scale: Option<Scale>,
}

/// Everything that steers one stream at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Condition {
    /// Weighted prompts, at least one with a positive weight.
    pub prompts: Vec<Prompt>,
    /// The controls.
    pub controls: Controls,
    /// Classifier-free guidance scale, distilled into the student; 1 is none.
    pub guidance: f32,
    /// Network evaluations a chunk: 1, 2 or 4.
    pub steps: usize,
    /// Standard deviation of the initial noise, relative to the one trained with.
    pub temperature: f32,
}
