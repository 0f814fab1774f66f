//! Sound as Opus packets of 20 ms.
//!
//! A decoder gives each sample late by the encoder's look-ahead: the first [`Packets::pre_skip`] decoded samples are dropped.
//! Where sound is replaced, the encoder begins anew some way before, with the same sound as it was, so that the decoder has
//! found its way when the new sound comes.

use std::collections::VecDeque;

use bytes::Bytes;
use opusic_c::{Application, Bitrate, Channels, Encoder, ErrorCode, SampleRate, Signal};

use super::output::{EncodeError, Part};
use crate::audio::Stereo;
use crate::protocol::frame::Payload;

/// Samples of a packet: 20 ms.
const PACKET: usize = 960;
/// Samples that are encoded again before a replacement: 80 ms, after which a decoder has converged.
const PRE_ROLL: u64 = 3840;
/// Bytes of a packet at most.
const PACKET_BYTES: usize = 4000;
/// Bits per second for each channel: music without audible loss.
const BITRATE: u32 = 64_000;
/// Of the encoder, 0 to 10: more costs more for less.
const COMPLEXITY: u8 = 5;

/// An encoder, and what it has not encoded yet or may have to encode again.
pub(super) struct Packets {
    encoder: Encoder,
    channels: u8,
    pre_skip: u32,
    /// The last samples, from index `begin` on.
    past: VecDeque<[f32; 2]>,
    begin: u64,
    kept: usize,
    /// The first sample that is not encoded.
    next: u64,
}

impl Packets {
    /// An encoder for 1 or 2 channels at 48 kHz, of which at most `revocable` samples are taken back at once.
    pub(super) fn new(channels: u8, revocable: u64) -> Result<Self, EncodeError> {
        let layout = if channels == 1 { Channels::Mono } else { Channels::Stereo };
        let mut encoder = Encoder::new(layout, SampleRate::Hz48000, Application::Audio).map_err(failed)?;
        encoder.set_bitrate(Bitrate::Value(BITRATE * u32::from(channels))).map_err(failed)?;
        encoder.set_complexity(COMPLEXITY).map_err(failed)?;
        encoder.set_signal(Signal::Music).map_err(failed)?;
        let pre_skip = encoder.get_look_ahead().map_err(failed)?;
        let kept = (revocable + PRE_ROLL) as usize + PACKET;
        Ok(Self { encoder, channels, pre_skip, past: VecDeque::new(), begin: 0, kept, next: 0 })
    }

    /// Decoded samples to be dropped at the beginning, and after each replacement.
    pub(super) fn pre_skip(&self) -> u32 {
        self.pre_skip
    }

    /// The packets that are complete with this sound, which begins at `first`; `replace`: in place of what stood there.
    pub(super) fn step(&mut self, first: u64, sound: &Stereo, replace: bool) -> Result<Vec<Part>, EncodeError> {
        if self.past.is_empty() {
            (self.begin, self.next) = (first, first);
        }
        if replace {
            self.past.truncate(first.saturating_sub(self.begin) as usize);
            self.next = first.saturating_sub(PRE_ROLL).max(self.begin);
            self.encoder.reset().map_err(failed)?;
        }
        self.past.extend(sound.left.iter().zip(&sound.right).map(|(&left, &right)| [left, right]));
        let mut packets = Vec::new();
        while self.next + PACKET as u64 <= self.begin + self.past.len() as u64 {
            let start = (self.next - self.begin) as usize;
            let samples = self.past.range(start..start + PACKET);
            let input: Vec<f32> = if self.channels == 1 {
                samples.map(|[left, right]| 0.5 * (left + right)).collect()
            } else {
                samples.flatten().copied().collect()
            };
            let mut bytes = vec![0; PACKET_BYTES];
            let written = self.encoder.encode_float_to_slice(&input, &mut bytes).map_err(failed)?;
            bytes.truncate(written);
            let (first_sample, samples) = (self.next, PACKET as u32);
            packets.push(Part { payload: Payload::Opus, first_sample, samples, bytes: Bytes::from(bytes) });
            self.next += PACKET as u64;
        }
        let excess = self.past.len().saturating_sub(self.kept).min((self.next - self.begin) as usize);
        self.past.drain(..excess);
        self.begin += excess as u64;
        Ok(packets)
    }
}

fn failed(code: ErrorCode) -> EncodeError {
    EncodeError::Opus(format!("{code:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use opusic_c::Decoder;

    fn tone(first: u64, samples: usize, hz: f32) -> Stereo {
        let wave = |i: u64| 0.4 * (std::f32::consts::TAU * hz * i as f32 / 48_000.0).sin();
        let left: Vec<f32> = (first..first + samples as u64).map(wave).collect();
        Stereo { right: left.iter().map(|x| -0.5 * x).collect(), left }
    }

    /// What a client hears: samples by index.
    #[derive(Default)]
    struct Ears {
        heard: Vec<f32>,
    }

    impl Ears {
        fn take(&mut self, decoder: &mut Decoder, skip: &mut usize, parts: Vec<Part>, replace: bool) {
            if let (true, Some(part)) = (replace, parts.first()) {
                self.heard.truncate(2 * part.first_sample as usize);
            }
            for part in parts {
                let mut pcm = vec![0.0; 2 * PACKET];
                let decoded = decoder.decode_float_to_slice(&part.bytes, &mut pcm, false).unwrap();
                assert_eq!(decoded, PACKET);
                let drop = (*skip).min(decoded);
                *skip -= drop;
                self.heard.extend_from_slice(&pcm[2 * drop..]);
            }
        }
    }

    #[test]
    fn what_is_decoded_stands_where_it_was_and_replacements_join() {
        let mut packets = Packets::new(2, 48_000).unwrap();
        let mut ears = Ears::default();
        let mut skip = packets.pre_skip() as usize;
        assert!((100..1000).contains(&skip));
        let mut decoder = Decoder::new(Channels::Stereo, SampleRate::Hz48000).unwrap();
        for i in 0..10 {
            let parts = packets.step(i * 5000, &tone(i * 5000, 5000, 440.0), false).unwrap();
            ears.take(&mut decoder, &mut skip, parts, false);
        }
        // Another tone takes the place of the last half second.
        let mut decoder = Decoder::new(Channels::Stereo, SampleRate::Hz48000).unwrap();
        let mut skip = packets.pre_skip() as usize;
        let parts = packets.step(26_000, &tone(26_000, 24_000, 660.0), true).unwrap();
        assert_eq!(parts[0].first_sample, 26_000 - PRE_ROLL);
        ears.take(&mut decoder, &mut skip, parts, true);
        let error = |range: std::ops::Range<usize>, hz: f32| {
            let expected = tone(0, 60_000, hz);
            let (mut noise, mut power) = (0.0, 0.0);
            for i in range {
                for (heard, wanted) in
                    [(ears.heard[2 * i], expected.left[i]), (ears.heard[2 * i + 1], expected.right[i])]
                {
                    noise += f64::from((heard - wanted).powi(2));
                    power += f64::from(wanted.powi(2));
                }
            }
            10.0 * (power / noise).log10()
        };
        for (range, hz) in [(2000..22_000, 440.0), (23_500..25_900, 440.0), (26_500..48_000, 660.0)] {
            let ratio = error(range.clone(), hz);
            assert!(ratio > 20.0, "{range:?}: signal to noise is {ratio:.1} dB");
        }
    }

    #[test]
    fn one_channel_and_a_beginning_in_the_middle() {
        let mut packets = Packets::new(1, 0).unwrap();
        assert!(packets.step(7_000, &tone(7_000, 500, 440.0), false).unwrap().is_empty());
        let parts = packets.step(7_500, &tone(7_500, 5000, 440.0), false).unwrap();
        let firsts: Vec<u64> = parts.iter().map(|part| part.first_sample).collect();
        assert_eq!(firsts, [7_000, 7_960, 8_920, 9_880, 10_840]);
        // 64 kbit/s are 160 bytes a packet.
        assert!(parts.iter().all(|part| (20..500).contains(&part.bytes.len())));
    }
}
