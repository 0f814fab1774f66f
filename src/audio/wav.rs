//! WAV files: 16-bit stereo out, any common integer or float format in.

use std::fs::File;
use std::io::{BufReader, BufWriter, Seek, Write};
use std::path::Path;

use hound::{SampleFormat, WavSpec};

use super::{AudioError, Stereo};

/// Bytes that one stereo sample takes in a file that is written.
const FRAME_BYTES: u64 = 4;
/// Bytes of sound that a file can hold: its lengths are 32-bit and count the header too.
const MAX_BYTES: u64 = u32::MAX as u64 - 64;

/// A sample as 16-bit PCM: full scale ±1 to ±32768, rounded to nearest (ties away from zero), clipped, 0 for what is not
/// a number. No dither: equal input gives equal files.
pub fn pcm16(sample: f32) -> i16 {
    // Rounding to nearest in two operations that every processor has: the largest number below a half, so that no sum is
    // rounded up to the next integer. The cast cuts off and saturates.
    let scaled = sample * 32_768.0;
    (scaled + 0.499_999_97_f32.copysign(scaled)) as i16
}

fn spec(sample_rate: u32) -> WavSpec {
    WavSpec { channels: 2, sample_rate, bits_per_sample: 16, sample_format: SampleFormat::Int }
}

/// How a file streamed over a network holds its samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WavLayout {
    /// Samples per second.
    pub sample_rate: u32,
    /// 1 or 2.
    pub channels: u16,
    /// 32-bit floats instead of 16-bit integers.
    pub float: bool,
}

impl WavLayout {
    /// The header of a file of so many samples a channel. `None`, or more than a file can hold, gives the header of a
    /// sound without end, with the greatest lengths there are: for streaming over HTTP.
    pub fn header(self, samples: Option<u64>) -> Vec<u8> {
        let Self { sample_rate, channels, float } = self;
        let (bits_per_sample, sample_format) = if float { (32, SampleFormat::Float) } else { (16, SampleFormat::Int) };
        let spec = WavSpec { channels, sample_rate, bits_per_sample, sample_format };
        let mut header = spec.into_header_for_infinite_file();
        let frame = u64::from(channels) * u64::from(bits_per_sample / 8);
        let bytes = samples.and_then(|n| n.checked_mul(frame)).filter(|&n| n <= MAX_BYTES);
        if let Some(bytes) = bytes {
            let (riff, data) = (bytes + header.len() as u64 - 8, header.len() - 4);
            header[4..8].copy_from_slice(&(riff as u32).to_le_bytes());
            header[data..].copy_from_slice(&(bytes as u32).to_le_bytes());
        }
        header
    }
}

/// Writes a 16-bit stereo file as the sound comes.
pub struct WavWriter<W: Write + Seek> {
    writer: hound::WavWriter<W>,
    file: String,
    bytes: u64,
}

impl WavWriter<BufWriter<File>> {
    /// Creates the file, or empties it if it is there.
    pub fn create(path: impl AsRef<Path>, sample_rate: u32) -> Result<Self, AudioError> {
        let file = path.as_ref().display().to_string();
        let created = File::create(path).map_err(hound::Error::IoError);
        let sink = created.map_err(|source| AudioError::Write { file: file.clone(), source })?;
        Self::new(BufWriter::new(sink), sample_rate, file)
    }
}

impl<W: Write + Seek> WavWriter<W> {
    /// Writes to `sink`, which errors call `file`.
    pub fn new(sink: W, sample_rate: u32, file: impl Into<String>) -> Result<Self, AudioError> {
        let file = file.into();
        let writer = hound::WavWriter::new(sink, spec(sample_rate));
        let writer = writer.map_err(|source| AudioError::Write { file: file.clone(), source })?;
        Ok(Self { writer, file, bytes: 0 })
    }

    /// Appends samples, rounded as by [`pcm16`].
    pub fn write(&mut self, sound: &Stereo) -> Result<(), AudioError> {
        self.bytes += sound.len() as u64 * FRAME_BYTES;
        if self.bytes > MAX_BYTES {
            return Err(AudioError::TooLong { file: self.file.clone() });
        }
        let written = sound.interleaved().try_for_each(|sample| self.writer.write_sample(pcm16(sample)));
        written.map_err(|source| AudioError::Write { file: self.file.clone(), source })
    }

    /// Completes the header. A file that is dropped instead is completed too, but its errors are lost.
    pub fn finish(self) -> Result<(), AudioError> {
        let file = self.file;
        self.writer.finalize().map_err(|source| AudioError::Write { file, source })
    }
}

/// Reads a WAV file (8, 16, 24 or 32-bit integers, or 32-bit floats) piece by piece. A mono file goes to both channels;
/// of more than two channels the first two are taken.
pub struct WavReader {
    reader: hound::WavReader<BufReader<File>>,
    file: String,
    /// Bytes of the whole file.
    bytes: u64,
    /// Samples a channel that lie behind.
    taken: u32,
}

impl WavReader {
    /// Opens a file and reads its header.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, AudioError> {
        let path = path.as_ref();
        let file = path.display().to_string();
        let failed = |source| AudioError::Read { file: file.clone(), source };
        let opened = File::open(path).and_then(|opened| Ok((opened.metadata()?.len(), opened)));
        let (bytes, opened) = opened.map_err(|e| failed(e.into()))?;
        let reader = hound::WavReader::new(BufReader::new(opened)).map_err(failed)?;
        Ok(Self { reader, file, bytes, taken: 0 })
    }

    /// Its sample rate in Hz.
    pub fn sample_rate(&self) -> u32 {
        self.reader.spec().sample_rate
    }

    /// Samples a channel, as the header says.
    pub fn samples(&self) -> u32 {
        self.reader.len() / u32::from(self.reader.spec().channels.max(1))
    }

    /// Goes on at this sample instead of the next.
    pub fn seek(&mut self, sample: u32) -> Result<(), AudioError> {
        let spec = self.reader.spec();
        let packed = u64::from(self.reader.len()) * u64::from(spec.bits_per_sample / 8);
        // Samples that are stored wider than they are would be counted wrong: such a file is read up to the place.
        if self.bytes > packed + packed / 8 && self.taken <= sample && self.bytes > 1 << 16 {
            self.read((sample - self.taken) as usize)?;
        } else {
            let failed = |e: std::io::Error| AudioError::Read { file: self.file.clone(), source: e.into() };
            self.reader.seek(sample).map_err(failed)?;
            self.taken = sample;
        }
        Ok(())
    }

    /// The next `count` samples, or as many as are left.
    pub fn read(&mut self, count: usize) -> Result<Stereo, AudioError> {
        let spec = self.reader.spec();
        let channels = usize::from(spec.channels.max(1));
        let many = count.saturating_mul(channels);
        let samples: Result<Vec<f32>, hound::Error> = match spec.sample_format {
            SampleFormat::Float => self.reader.samples::<f32>().take(many).collect(),
            SampleFormat::Int => {
                let scale = 0.5f64.powi(i32::from(spec.bits_per_sample) - 1);
                let scaled = |s: i32| (f64::from(s) * scale) as f32;
                self.reader.samples::<i32>().take(many).map(|s| s.map(scaled)).collect()
            }
        };
        let samples = samples.map_err(|source| AudioError::Read { file: self.file.clone(), source })?;
        if let Some(place) = samples.iter().position(|s| !s.is_finite()) {
            let sample = self.taken as usize * channels + place;
            return Err(AudioError::NotFinite { file: self.file.clone(), sample });
        }
        let channel = |n: usize| samples.iter().skip(n).step_by(channels).copied().collect();
        let sound = Stereo { left: channel(0), right: channel(1.min(channels - 1)) };
        self.taken += sound.len() as u32;
        Ok(sound)
    }
}

/// Reads a whole WAV file, as [`WavReader`] does, and its sample rate in Hz.
pub fn read_wav(path: impl AsRef<Path>) -> Result<(Stereo, u32), AudioError> {
    let mut reader = WavReader::open(path)?;
    Ok((reader.read(reader.samples() as usize)?, reader.sample_rate()))
}

#[cfg(test)]
mod tests {
    use super::super::synthetic::{noise, sine};
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_header_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.wav");
        let sound = Stereo { left: noise(1, 0.2, 1000), right: sine(440.0, 1.5, 1000) };
        let mut writer = WavWriter::create(&path, 44_100).unwrap();
        writer.write(&Stereo { left: sound.left[..300].to_vec(), right: sound.right[..300].to_vec() }).unwrap();
        writer.write(&Stereo { left: sound.left[300..].to_vec(), right: sound.right[300..].to_vec() }).unwrap();
        writer.finish().unwrap();
        let (back, rate) = read_wav(&path).unwrap();
        assert_eq!((back.len(), rate), (1000, 44_100));
        for (a, b) in sound.interleaved().zip(back.interleaved()) {
            assert!((a.clamp(-1.0, 32_767.0 / 32_768.0) - b).abs() <= 0.5 / 32_768.0);
        }
        let bytes = std::fs::read(&path).unwrap();
        let layout = WavLayout { sample_rate: 44_100, channels: 2, float: false };
        assert_eq!(&bytes[..44], layout.header(Some(1000)));
        assert_eq!(bytes.len(), 44 + 4000);
        assert_eq!(layout.header(None).len(), 44);
        assert_eq!(layout.header(Some(u64::MAX)), layout.header(None));
    }

    #[test]
    fn every_layout_is_read_back() {
        for (channels, float) in [(1, false), (2, false), (1, true), (2, true)] {
            let layout = WavLayout { sample_rate: 22_050, channels, float };
            let sample_bytes = if float { 4 } else { 2 };
            let mut bytes = layout.header(Some(10));
            bytes.resize(bytes.len() + 10 * usize::from(channels) * sample_bytes, 0);
            let reader = hound::WavReader::new(bytes.as_slice()).unwrap();
            let spec = reader.spec();
            assert_eq!((spec.channels, spec.sample_rate, reader.duration()), (channels, 22_050, 10));
            assert_eq!(spec.sample_format == SampleFormat::Float, float);
            let endless = layout.header(None);
            assert_eq!((&endless[4..8], &endless[endless.len() - 4..]), (&[0xff; 4][..], &[0xff; 4][..]));
        }
    }

    #[test]
    fn every_common_format_is_read() {
        let folder = tempfile::tempdir().unwrap();
        for (bits, format) in [(8, false), (16, false), (24, false), (32, false), (32, true)] {
            for channels in [1, 2, 6] {
                let path = folder.path().join(format!("{bits}-{format}-{channels}.wav"));
                let sample_format = if format { SampleFormat::Float } else { SampleFormat::Int };
                let spec = WavSpec { channels, sample_rate: 8000, bits_per_sample: bits, sample_format };
                let mut writer = hound::WavWriter::create(&path, spec).unwrap();
                for value in [0.5f32, -0.25] {
                    for channel in 0..channels {
                        let value = value / (1 + channel) as f32;
                        if format {
                            writer.write_sample(value).unwrap();
                        } else {
                            writer.write_sample((value * (1u32 << (bits - 1)) as f32) as i32).unwrap();
                        }
                    }
                }
                writer.finalize().unwrap();
                let (sound, rate) = read_wav(&path).unwrap();
                let mut reader = WavReader::open(&path).unwrap();
                reader.seek(1).unwrap();
                assert_eq!(reader.read(9).unwrap().left, [-0.25], "from the second sample on, to the end");
                let right = if channels == 1 { vec![0.5, -0.25] } else { vec![0.25, -0.125] };
                assert_eq!((sound, rate), (Stereo { left: vec![0.5, -0.25], right }, 8000), "{bits} bits");
            }
        }
    }

    #[test]
    fn errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("broken.wav");
        assert!(read_wav(&path).unwrap_err().to_string().contains("broken.wav"));
        std::fs::write(&path, b"RIFFnonsense").unwrap();
        assert!(read_wav(&path).unwrap_err().to_string().contains("broken.wav"));
        let mut cut = WavLayout { sample_rate: 48_000, channels: 2, float: false }.header(Some(100));
        cut.extend([0; 50]);
        std::fs::write(&path, cut).unwrap();
        assert!(read_wav(&path).unwrap_err().to_string().contains("broken.wav"));
        let spec = WavSpec { channels: 1, sample_rate: 8000, bits_per_sample: 32, sample_format: SampleFormat::Float };
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        writer.write_sample(0.0f32).unwrap();
        writer.write_sample(f32::NAN).unwrap();
        writer.finalize().unwrap();
        assert!(matches!(read_wav(&path), Err(AudioError::NotFinite { sample: 1, .. })));
        let mut full = WavWriter::new(std::io::Cursor::new(Vec::new()), 48_000, "full.wav").unwrap();
        full.bytes = MAX_BYTES - 4;
        full.write(&Stereo::silence(1)).unwrap();
        assert!(full.write(&Stereo::silence(1)).unwrap_err().to_string().contains("full.wav"));
        let missing = folder.path().join("no").join("b.wav");
        assert!(WavWriter::create(missing, 48_000).err().unwrap().to_string().contains("b.wav"));
    }

    #[test]
    fn rounding_is_symmetric_and_clips() {
        let cases = [(0.0, 0), (1.0, 32_767), (-1.0, -32_768), (9.0, 32_767), (f32::NAN, 0)];
        for (sample, want) in cases {
            assert_eq!(pcm16(sample), want);
        }
        assert_eq!((pcm16(1.5 / 32_768.0), pcm16(-1.5 / 32_768.0)), (2, -2));
        let mut sample = 1e-6f32;
        while sample < 1.1 {
            for near in
                [sample.next_down(), sample, sample.next_up(), (sample * 32_768.0).floor() / 32_768.0 + 0.5 / 32_768.0]
            {
                for exact in [near, -near, near.next_down(), -near.next_down()] {
                    assert_eq!(pcm16(exact), (exact * 32_768.0).round() as i16, "{exact}");
                }
            }
            sample *= 1.000_1;
        }
    }
}
