//! Binary frames: a 24-byte little-endian header, then the payload.

/// Bytes of the header.
pub const HEADER_LEN: usize = 24;
/// The version in the first byte.
pub const VERSION: u8 = 1;
/// Flag: discard everything held from `first_sample` on.
pub const REPLACE: u8 = 1;
/// Flag: made with fewer steps than asked for.
pub const DEGRADED: u8 = 2;
/// Flag: the context was cleared just before this frame.
pub const RESET: u8 = 4;
/// Flag: nothing follows.
pub const LAST: u8 = 8;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Payload {
    /// Interleaved signed 16-bit PCM.
    PcmS16Le = 0,
    /// Interleaved 32-bit float PCM, full scale ±1.
    PcmF32Le = 1,
    /// One Opus packet of 20 ms.
    Opus = 2,
    /// Spectrogram columns of one byte a row, lowest frequency first.
    Spectrogram = 16,
}

impl Payload {
    fn from_byte(byte: u8) -> Option<Self> {
        [Self::PcmS16Le, Self::PcmF32Le, Self::Opus, Self::Spectrogram].into_iter().find(|&p| p as u8 == byte)
    }

    /// Bytes of one sample of one channel, where the payload is PCM.
    pub fn sample_bytes(self) -> Option<usize> {
        match self {
            Self::PcmS16Le => Some(2),
            Self::PcmF32Le => Some(4),
            Self::Opus | Self::Spectrogram => None,
        }
    }
}

/// The header of a binary frame; byte offsets are in `PROTOCOL.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// [`REPLACE`], [`DEGRADED`], [`RESET`] and [`LAST`], ored.
    pub flags: u8,
    /// What follows the header.
    pub payload: Payload,
    /// Channels of the payload.
    pub channels: u8,
    /// One more at every replacement and every reset of the context.
    pub epoch: u32,
    /// Index of the first sample, in output samples since the session began.
    pub first_sample: u64,
    /// One more with every binary frame of the session.
    pub seq: u32,
    /// Samples per channel; for columns, the samples they stand for.
    pub samples: u32,
}

impl FrameHeader {
    /// The 24 bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..4].copy_from_slice(&[VERSION, self.flags, self.payload as u8, self.channels]);
        bytes[4..8].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.first_sample.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.seq.to_le_bytes());
        bytes[20..].copy_from_slice(&self.samples.to_le_bytes());
        bytes
    }

    /// Takes a frame apart into its header and payload, and checks that a PCM payload has the length announced.
    pub fn decode(frame: &[u8]) -> Result<(Self, &[u8]), FrameError> {
        let (head, payload) = frame.split_first_chunk::<HEADER_LEN>().ok_or(FrameError::Short(frame.len()))?;
        let [version, flags, kind, channels, e0, e1, e2, e3, first @ .., s0, s1, s2, s3, n0, n1, n2, n3] = *head;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let header = Self {
            flags,
            payload: Payload::from_byte(kind).ok_or(FrameError::Payload(kind))?,
            channels,
            epoch: u32::from_le_bytes([e0, e1, e2, e3]),
            first_sample: u64::from_le_bytes(first),
            seq: u32::from_le_bytes([s0, s1, s2, s3]),
            samples: u32::from_le_bytes([n0, n1, n2, n3]),
        };
        if let Some(bytes) = header.payload.sample_bytes() {
            let announced = header.samples as usize * usize::from(channels) * bytes;
            if announced != payload.len() {
                return Err(FrameError::Length { announced, found: payload.len() });
            }
        }
        Ok((header, payload))
    }
}

/// Why bytes are not a frame.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not even a header.
    #[error("{0} bytes are too few for a header of {HEADER_LEN}")]
    Short(usize),
    /// Another version.
    #[error("version {0} is not {VERSION}")]
    Version(u8),
    /// A payload this version does not know.
    #[error("payload type {0} is unknown")]
    Payload(u8),
    /// The payload is not as long as the header says.
    #[error("the header announces {announced} bytes, {found} follow")]
    Length {
        /// Bytes the header promises.
        announced: usize,
        /// Bytes there are.
        found: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decoding_undoes_encoding(flags in 0u8..16, epoch: u32, first_sample: u64, seq: u32, samples in 0u32..64) {
            let header = FrameHeader { flags, payload: Payload::PcmS16Le, channels: 2, epoch, first_sample, seq, samples };
            let mut frame = header.encode().to_vec();
            frame.resize(HEADER_LEN + samples as usize * 4, 7);
            let (decoded, payload) = FrameHeader::decode(&frame).unwrap();
            prop_assert_eq!(decoded, header);
            prop_assert_eq!(payload.len(), samples as usize * 4);
        }

        #[test]
        fn any_bytes_decode_or_are_refused(bytes: Vec<u8>) {
            if let Ok((header, payload)) = FrameHeader::decode(&bytes) {
                prop_assert_eq!(&bytes[..HEADER_LEN], &header.encode()[..]);
                prop_assert_eq!(payload.len() + HEADER_LEN, bytes.len());
            }
        }
    }

    #[test]
    fn wrong_frames_are_refused_with_the_reason() {
        let header = FrameHeader {
            flags: 0,
            payload: Payload::PcmS16Le,
            channels: 2,
            epoch: 0,
            first_sample: 0,
            seq: 0,
            samples: 1,
        };
        let mut bytes = header.encode().to_vec();
        assert_eq!(FrameHeader::decode(&bytes[..23]), Err(FrameError::Short(23)));
        assert_eq!(FrameHeader::decode(&bytes), Err(FrameError::Length { announced: 4, found: 0 }));
        bytes[2] = 3;
        assert_eq!(FrameHeader::decode(&bytes), Err(FrameError::Payload(3)));
        bytes[0] = 9;
        assert_eq!(FrameHeader::decode(&bytes), Err(FrameError::Version(9)));
    }
}
