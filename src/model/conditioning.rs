//! A condition as numbers: the text embedding with a flag, then every control as its value with a flag.
//!
//! A row of zeros is the null condition: nothing asked for. A control that is left to the model is zeros too, so each
//! value comes with a flag that tells "0" from "not given".

use crate::condition::Controls;

/// Numbers that the controls take: bpm, density, brightness (value and flag each), twelve scales and their flag.
pub const CONTROL_NUMBERS: usize = 2 + 2 + 2 + 13;

/// Numbers of a whole condition for a text embedding of this width.
pub fn condition_width(text_width: usize) -> usize {
    text_width + 1 + CONTROL_NUMBERS
}

/// A tempo, in beats per minute, on its logarithm, as it is heard: around 0 and of order 1.
pub fn tempo_number(bpm: f32) -> f32 {
    2.0 * (bpm / 110.0).log2()
}

/// The controls' numbers.
pub fn control_numbers(controls: &Controls) -> [f32; CONTROL_NUMBERS] {
    let mut numbers = [0.0; CONTROL_NUMBERS];
    // Around 0 and of order 1, like everything that enters a network.
    let centred = [
        controls.bpm.map(tempo_number),
        controls.density.map(|d| 2.0 * d - 1.0),
        controls.brightness.map(|b| 2.0 * b - 1.0),
    ];
    for (pair, value) in numbers.chunks_exact_mut(2).zip(centred) {
        if let Some(value) = value {
            pair.copy_from_slice(&[value, 1.0]);
        }
    }
    if let Some(scale) = controls.scale {
        numbers[6 + usize::from(scale.tonic())] = 1.0;
        numbers[6 + 12] = 1.0;
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::condition::Scale;

    #[test]
    fn nothing_asked_for_is_zero_and_everything_is_told_apart() {
        assert_eq!(control_numbers(&Controls::default()), [0.0; CONTROL_NUMBERS]);
        let middle = Controls { density: Some(0.5), ..Controls::default() };
        assert_eq!(control_numbers(&middle)[2..4], [0.0, 1.0]);
        let scales: Vec<_> = (0..12)
            .map(|i| control_numbers(&Controls { scale: Some(Scale::from_tonic(i)), ..Controls::default() }))
            .collect();
        assert!(scales.iter().enumerate().all(|(i, a)| scales[..i].iter().all(|b| a != b)));
        let fast = control_numbers(&Controls { bpm: Some(200.0), ..Controls::default() });
        assert!(fast[0] > 1.0 && fast[0] < 2.0 && fast[1] == 1.0);
    }
}
