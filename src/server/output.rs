//! From sound at the model's rate to frames at the listener's.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use super::rate::{Rates, Resampling};
use crate::audio::{AudioError, HOP, Stereo, pcm16};
use crate::engine::{COLUMN_ROWS, Rendered};
use crate::protocol::client::SoundFormat;
use crate::protocol::frame::{DEGRADED, FrameHeader, HEADER_LEN, Payload, REPLACE, RESET};
use crate::protocol::server::{Format, Pcm};

/// Samples of one audio frame at most: 171 ms at 48 kHz.
pub const FRAME_SAMPLES: usize = 8192;

/// A frame, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Header and payload.
    pub bytes: Bytes,
    /// The output samples that it brings; none where it has no sound.
    pub samples: Range<u64>,
}

/// Where the sound of frames ends, in output samples; 0 where there is none.
pub fn end(frames: &[Frame]) -> u64 {
    frames.iter().map(|frame| frame.samples.end).max().unwrap_or_default()
}

/// Why sound could not be encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The resampler could not be built anew.
    #[error(transparent)]
    Rate(#[from] AudioError),
    /// Opus refused.
    #[cfg(feature = "opus")]
    #[error("the Opus encoder failed: {0}")]
    Opus(String),
    /// Opus was asked for, and is not built in.
    #[error("this server is built without Opus")]
    Absent,
}

/// How samples become payloads.
enum Coder {
    Pcm(Pcm),
    #[cfg(feature = "opus")]
    Opus(Box<super::opus::Packets>),
}

/// Turns one stream's sound into frames.
pub struct Encoder {
    coder: Coder,
    channels: u8,
    columns: bool,
    resampling: Resampling,
    seq: u32,
}

impl Encoder {
    /// An encoder at the beginning of a session; `columns` asks for spectrogram frames too. At most `revocable` samples
    /// of the model are taken back at once.
    ///
    /// # Errors
    /// When there is no such encoder.
    #[cfg_attr(not(feature = "opus"), expect(unused_variables))]
    pub fn new(resampling: Resampling, sound: SoundFormat, columns: bool, revocable: u64) -> Result<Self, EncodeError> {
        let coder = match sound.format {
            Format::Pcm(pcm) => Coder::Pcm(pcm),
            #[cfg(feature = "opus")]
            Format::Opus => {
                let revocable = resampling.rates().to_output(revocable);
                Coder::Opus(Box::new(super::opus::Packets::new(sound.channels, revocable)?))
            }
            #[cfg(not(feature = "opus"))]
            Format::Opus => return Err(EncodeError::Absent),
        };
        Ok(Self { coder, channels: sound.channels, columns, resampling, seq: 0 })
    }

    /// Decoded samples that the client drops at the beginning, where the decoder adds any.
    pub fn pre_skip(&self) -> Option<u32> {
        match &self.coder {
            Coder::Pcm(_) => None,
            #[cfg(feature = "opus")]
            Coder::Opus(packets) => Some(packets.pre_skip()),
        }
    }

    /// The next output sample that comes.
    pub fn wanted(&self) -> u64 {
        self.resampling.wanted()
    }

    /// The two rates.
    pub fn rates(&self) -> Rates {
        self.resampling.rates()
    }

    /// The frames of the next sound: its columns first, then its samples.
    ///
    /// # Errors
    /// When the resampler cannot be built anew for a replacement, or Opus refuses.
    pub fn step(&mut self, rendered: &Rendered) -> Result<Vec<Frame>, EncodeError> {
        let Rendered { span, chunk, .. } = rendered;
        let rates = self.rates();
        if span.replace {
            self.resampling.go_back(span.first_sample)?;
        }
        let lasting = if span.degraded { DEGRADED } else { 0 };
        let flags = lasting | if span.reset { RESET } else { 0 } | if span.replace { REPLACE } else { 0 };
        let mut frames = Vec::new();
        if self.columns && !chunk.columns.is_empty() {
            let start = rates.to_output(span.first_sample);
            let columns = chunk.columns.len() / COLUMN_ROWS;
            let end = rates.to_output(span.first_sample + (columns * HOP) as u64);
            let header = FrameHeader {
                flags,
                payload: Payload::Spectrogram,
                channels: 1,
                epoch: span.epoch,
                first_sample: start,
                seq: self.next_seq(),
                samples: (end - start) as u32,
            };
            frames.push(Frame { bytes: assemble(&header, &chunk.columns), samples: 0..0 });
        }
        let (first_sample, pcm) = self.resampling.step(&chunk.pcm);
        let parts: Vec<Part> = match &mut self.coder {
            Coder::Pcm(format) => {
                let payload = match format {
                    Pcm::S16le => Payload::PcmS16Le,
                    Pcm::F32le => Payload::PcmF32Le,
                };
                let part = |start: usize| {
                    let end = pcm.len().min(start + FRAME_SAMPLES);
                    let bytes = pcm_bytes(&pcm, start..end, *format, self.channels);
                    Part { payload, first_sample: first_sample + start as u64, samples: (end - start) as u32, bytes }
                };
                (0..pcm.len()).step_by(FRAME_SAMPLES).map(part).collect()
            }
            #[cfg(feature = "opus")]
            Coder::Opus(packets) => packets.step(first_sample, &pcm, span.replace)?,
        };
        for (i, Part { payload, first_sample, samples, bytes }) in parts.into_iter().enumerate() {
            let header = FrameHeader {
                flags: if i == 0 { flags } else { lasting },
                payload,
                channels: self.channels,
                epoch: span.epoch,
                first_sample,
                seq: self.next_seq(),
                samples,
            };
            let end = first_sample + u64::from(samples);
            frames.push(Frame { bytes: assemble(&header, &bytes), samples: first_sample..end });
        }
        Ok(frames)
    }

    fn next_seq(&mut self) -> u32 {
        let seq = self.seq;
        self.seq = seq.wrapping_add(1);
        seq
    }
}

/// The payload of one audio frame.
pub(super) struct Part {
    pub(super) payload: Payload,
    pub(super) first_sample: u64,
    pub(super) samples: u32,
    pub(super) bytes: Bytes,
}

fn assemble(header: &FrameHeader, payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEADER_LEN + payload.len());
    bytes.put_slice(&header.encode());
    bytes.put_slice(payload);
    bytes.freeze()
}

/// Interleaved little-endian samples; `range` counts samples per channel. One channel is the mean of both.
pub fn pcm_bytes(pcm: &Stereo, range: Range<usize>, format: Pcm, channels: u8) -> Bytes {
    let mut bytes = BytesMut::with_capacity(range.len() * usize::from(channels) * format.sample_bytes());
    let mut put = |x: f32| match format {
        Pcm::S16le => bytes.put_i16_le(pcm16(x)),
        Pcm::F32le => bytes.put_f32_le(x),
    };
    for (&left, &right) in pcm.left[range.clone()].iter().zip(&pcm.right[range]) {
        if channels == 1 {
            put(0.5 * (left + right));
        } else {
            put(left);
            put(right);
        }
    }
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Chunk, Span};

    fn ramp(samples: usize) -> Stereo {
        let left = (0..samples).map(|i| i as f32 / samples as f32).collect::<Vec<_>>();
        Stereo { right: left.iter().map(|x| -x).collect(), left }
    }

    fn encoder(pcm: Pcm, channels: u8, columns: bool) -> Encoder {
        let rates = Rates { model: 48_000, output: 48_000 };
        let sound = SoundFormat { sample_rate: None, format: Format::Pcm(pcm), channels };
        Encoder::new(Resampling::new(rates, 0, 0).unwrap(), sound, columns, 0).unwrap()
    }

    fn decode(frames: &[Frame]) -> Vec<(FrameHeader, Vec<u8>)> {
        let decode = |frame: &Frame| {
            let (header, payload) = FrameHeader::decode(&frame.bytes).unwrap();
            (header, payload.to_vec())
        };
        frames.iter().map(decode).collect()
    }

    #[test]
    fn a_chunk_becomes_columns_then_frames_without_a_gap() {
        let mut encoder = encoder(Pcm::F32le, 2, true);
        let pcm = ramp(10 * 2048);
        let columns = vec![9; pcm.len() / HOP * COLUMN_ROWS];
        let span = Span { epoch: 3, reset: true, degraded: true, ..Span::default() };
        let chunk = Chunk { pcm: pcm.clone(), columns };
        let frames = encoder.step(&Rendered { span, chunk, checkpoint: None }).unwrap();
        let decoded = decode(&frames);
        let kinds: Vec<_> =
            decoded.iter().map(|(h, _)| (h.payload, h.first_sample, h.samples, h.seq, h.flags)).collect();
        assert_eq!(
            kinds,
            [
                (Payload::Spectrogram, 0, 20480, 0, RESET | DEGRADED),
                (Payload::PcmF32Le, 0, 8192, 1, RESET | DEGRADED),
                (Payload::PcmF32Le, 8192, 8192, 2, DEGRADED),
                (Payload::PcmF32Le, 16384, 4096, 3, DEGRADED),
            ]
        );
        assert!(decoded.iter().all(|(h, _)| h.epoch == 3));
        let bytes: Vec<u8> = decoded[1..].iter().flat_map(|(_, payload)| payload.clone()).collect();
        assert_eq!(bytes, pcm_bytes(&pcm, 0..pcm.len(), Pcm::F32le, 2));
    }

    #[test]
    fn sixteen_bits_clamp_instead_of_wrapping() {
        let loud = Stereo { left: vec![1.5, -1.5], right: vec![1.0, 0.0] };
        let words: Vec<i16> =
            pcm_bytes(&loud, 0..2, Pcm::S16le, 2).chunks(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
        assert_eq!(words, [32767, 32767, -32768, 0]);
    }

    #[test]
    fn one_channel_is_the_mean_of_both() {
        let pcm = Stereo { left: vec![0.5, 1.0, -0.25], right: vec![0.25, -1.0, -0.75] };
        let mono: Vec<f32> = pcm_bytes(&pcm, 0..3, Pcm::F32le, 1)
            .chunks(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        assert_eq!(mono, [0.375, 0.0, -0.5]);
        let mut encoder = encoder(Pcm::S16le, 1, false);
        let chunk = Chunk { pcm, columns: Vec::new() };
        let frames = decode(&encoder.step(&Rendered { span: Span::default(), chunk, checkpoint: None }).unwrap());
        assert_eq!((frames[0].0.channels, frames[0].0.samples, frames[0].1.len()), (1, 3, 6));
    }
}
