//! From chunks at the model's rate to frames at the listener's.

use std::ops::Range;

use bytes::{BufMut, Bytes, BytesMut};

use crate::audio::{AudioError, HOP, Resampler, Stereo, pcm16};
use crate::engine::{COLUMN_ROWS, RenderedChunk};
use crate::protocol::CHANNELS;
use crate::protocol::frame::{FrameHeader, HEADER_LEN, Payload, RESET};
use crate::protocol::server::Format;

/// Samples of one audio frame at most: 171 ms at 48 kHz.
pub const FRAME_SAMPLES: usize = 8192;

/// Sample indices of one timeline at two rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// The model's rate in Hz.
    pub model: u32,
    /// The listener's rate in Hz.
    pub output: u32,
}

impl Rates {
    /// The first output sample at or after this sample of the model.
    pub fn to_output(self, sample: u64) -> u64 {
        let product = u128::from(sample) * u128::from(self.output);
        u64::try_from(product.div_ceil(u128::from(self.model))).unwrap_or(u64::MAX)
    }

    /// The last sample of the model at or before this output sample.
    pub fn to_model(self, sample: u64) -> u64 {
        let product = u128::from(sample) * u128::from(self.model);
        u64::try_from(product / u128::from(self.output)).unwrap_or(u64::MAX)
    }
}

/// A frame, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Header and payload.
    pub bytes: Bytes,
    /// Output samples the listener has been sent once this frame has left.
    pub sent: u64,
}

/// Turns one stream's chunks into frames.
pub struct Encoder {
    rates: Rates,
    format: Format,
    columns: bool,
    resampler: Resampler,
    seq: u32,
    sent: u64,
}

impl Encoder {
    /// An encoder for a stream from its first sample on; `columns` asks for spectrogram frames too.
    pub fn new(rates: Rates, format: Format, columns: bool) -> Result<Self, AudioError> {
        let resampler = Resampler::new(rates.model, rates.output)?;
        Ok(Self { rates, format, columns, resampler, seq: 0, sent: 0 })
    }

    /// The two rates.
    pub fn rates(&self) -> Rates {
        self.rates
    }

    /// The frames of the next chunk: its columns first, then its samples.
    pub fn step(&mut self, rendered: RenderedChunk) -> Vec<Frame> {
        let RenderedChunk { span, chunk } = rendered;
        let flags = if span.reset { RESET } else { 0 };
        let mut frames = Vec::new();
        if self.columns && !chunk.columns.is_empty() {
            let start = self.rates.to_output(span.first_sample);
            let columns = chunk.columns.len() / COLUMN_ROWS;
            let end = self.rates.to_output(span.first_sample + (columns * HOP) as u64);
            let header = FrameHeader {
                flags,
                payload: Payload::Spectrogram,
                channels: 1,
                epoch: span.epoch,
                first_sample: start,
                seq: self.next_seq(),
                samples: (end - start) as u32,
            };
            frames.push(Frame { bytes: assemble(&header, &chunk.columns), sent: self.sent });
        }
        let pcm = self.resampler.step(&chunk.pcm);
        for start in (0..pcm.len()).step_by(FRAME_SAMPLES) {
            let end = pcm.len().min(start + FRAME_SAMPLES);
            let header = FrameHeader {
                flags: if start == 0 { flags } else { 0 },
                payload: match self.format {
                    Format::PcmS16le => Payload::PcmS16Le,
                    Format::PcmF32le => Payload::PcmF32Le,
                },
                channels: CHANNELS,
                epoch: span.epoch,
                first_sample: self.sent,
                seq: self.next_seq(),
                samples: (end - start) as u32,
            };
            self.sent += (end - start) as u64;
            let payload = pcm_bytes(&pcm, start..end, self.format);
            frames.push(Frame { bytes: assemble(&header, &payload), sent: self.sent });
        }
        frames
    }

    fn next_seq(&mut self) -> u32 {
        let seq = self.seq;
        self.seq = seq.wrapping_add(1);
        seq
    }
}

fn assemble(header: &FrameHeader, payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(HEADER_LEN + payload.len());
    bytes.put_slice(&header.encode());
    bytes.put_slice(payload);
    bytes.freeze()
}

/// Interleaved little-endian samples; `range` counts samples per channel.
pub fn pcm_bytes(pcm: &Stereo, range: Range<usize>, format: Format) -> Bytes {
    let mut bytes = BytesMut::with_capacity(range.len() * 2 * 4);
    for x in pcm.interleaved().skip(2 * range.start).take(2 * range.len()) {
        match format {
            Format::PcmS16le => bytes.put_i16_le(pcm16(x)),
            Format::PcmF32le => bytes.put_f32_le(x),
        }
    }
    bytes.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Chunk;
    use crate::engine::stream::Span;
    use proptest::prelude::*;

    fn ramp(samples: usize) -> Stereo {
        let left = (0..samples).map(|i| i as f32 / samples as f32).collect::<Vec<_>>();
        Stereo { right: left.iter().map(|x| -x).collect(), left }
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
        let mut encoder = Encoder::new(Rates { model: 48_000, output: 48_000 }, Format::PcmF32le, true).unwrap();
        let pcm = ramp(10 * 2048);
        let columns = vec![9; pcm.len() / HOP * COLUMN_ROWS];
        let span = Span { first_sample: 0, epoch: 3, reset: true };
        let frames = encoder.step(RenderedChunk { span, chunk: Chunk { pcm: pcm.clone(), columns } });
        let decoded = decode(&frames);
        let kinds: Vec<_> =
            decoded.iter().map(|(h, _)| (h.payload, h.first_sample, h.samples, h.seq, h.flags)).collect();
        assert_eq!(
            kinds,
            [
                (Payload::Spectrogram, 0, 20480, 0, RESET),
                (Payload::PcmF32Le, 0, 8192, 1, RESET),
                (Payload::PcmF32Le, 8192, 8192, 2, 0),
                (Payload::PcmF32Le, 16384, 4096, 3, 0),
            ]
        );
        assert!(decoded.iter().all(|(h, _)| h.epoch == 3));
        let bytes: Vec<u8> = decoded[1..].iter().flat_map(|(_, payload)| payload.clone()).collect();
        assert_eq!(bytes, pcm_bytes(&pcm, 0..pcm.len(), Format::PcmF32le));
    }

    #[test]
    fn sixteen_bits_clamp_instead_of_wrapping() {
        let loud = Stereo { left: vec![1.5, -1.5], right: vec![1.0, 0.0] };
        let words: Vec<i16> =
            pcm_bytes(&loud, 0..2, Format::PcmS16le).chunks(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect();
        assert_eq!(words, [32767, 32767, -32768, 0]);
    }

    #[test]
    fn another_rate_keeps_the_timeline() {
        let rates = Rates { model: 48_000, output: 44_100 };
        let mut encoder = Encoder::new(rates, Format::PcmF32le, false).unwrap();
        let (mut next, mut seconds) = (0, 0);
        for i in 0..5 {
            let span = Span { first_sample: i * 48_000, epoch: 0, reset: false };
            let chunk = Chunk { pcm: ramp(48_000), columns: Vec::new() };
            for (header, _) in decode(&encoder.step(RenderedChunk { span, chunk })) {
                assert_eq!(header.first_sample, next);
                next += u64::from(header.samples);
            }
            seconds += 1;
        }
        let expected = rates.to_output(seconds * 48_000);
        assert!(next <= expected && expected - next < 4800, "{next} of {expected}");
    }

    proptest! {
        #[test]
        fn indices_survive_the_round_trip(sample in 0u64..1 << 40, output in 8_000u32..=96_000) {
            let rates = Rates { model: 48_000, output };
            let there = rates.to_output(sample);
            prop_assert!(rates.to_model(there) >= sample);
            prop_assert!(there == 0 || rates.to_model(there - 1) < sample);
        }
    }
}
