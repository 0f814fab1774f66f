//! A room in one format: its sound is encoded once, whoever listens to it.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::broadcast;

use super::room::{News, end};
use crate::engine::Rendered;
use crate::protocol::client::SoundFormat;
use crate::server::output::{EncodeError, Encoder, Frame};
use crate::server::rate::{Rates, Resampling};

/// News that may wait for a member; one that has more to catch up is too slow, and let go.
const NEWS: usize = 64;

/// What members hear alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TrackFormat {
    pub(super) sound: SoundFormat,
    pub(super) rates: Rates,
    /// Whether spectrogram columns come with it.
    pub(super) columns: bool,
}

/// Frames that are not heard yet.
struct Said {
    /// The sample of the model before which their sound lies.
    end: u64,
    frames: Arc<[Frame]>,
}

/// The sound of a room in one format.
pub(super) struct Track {
    pub(super) format: TrackFormat,
    encoder: Encoder,
    recent: VecDeque<Said>,
    news: broadcast::Sender<News>,
}

/// What a newcomer hears.
pub(super) struct Tuned {
    pub(super) news: broadcast::Receiver<News>,
    /// What the others hold already.
    pub(super) recent: Vec<Arc<[Frame]>>,
    /// The first output sample that comes.
    pub(super) first_sample: u64,
    /// Decoded samples to be dropped at the beginning, where the decoder adds any.
    pub(super) pre_skip: Option<u32>,
}

impl Track {
    /// A track of what is not heard yet, which begins at this sample of the model.
    ///
    /// # Errors
    /// When sound cannot be encoded in this format.
    pub(super) fn new<'a>(
        format: TrackFormat,
        first_sample: u64,
        revocable: u64,
        recent: impl IntoIterator<Item = &'a Rendered>,
    ) -> Result<Self, EncodeError> {
        let resampling = Resampling::new(format.rates, first_sample, revocable)?;
        let encoder = Encoder::new(resampling, format.sound, format.columns, revocable)?;
        let mut track = Self { format, encoder, recent: VecDeque::new(), news: broadcast::channel(NEWS).0 };
        for rendered in recent {
            track.encode(rendered)?;
        }
        Ok(track)
    }

    /// A place among those who hear it.
    pub(super) fn tune_in(&self) -> Tuned {
        let recent: Vec<_> = self.recent.iter().map(|said| Arc::clone(&said.frames)).collect();
        let first = recent.iter().flat_map(|frames| frames.iter()).find(|frame| !frame.samples.is_empty());
        Tuned {
            news: self.news.subscribe(),
            first_sample: first.map_or(self.encoder.wanted(), |frame| frame.samples.start),
            recent,
            pre_skip: self.encoder.pre_skip(),
        }
    }

    /// Whether anybody hears it.
    pub(super) fn is_heard(&self) -> bool {
        self.news.receiver_count() > 0
    }

    /// Everybody is told of new sound; whether there still is anybody, and an encoder that works.
    pub(super) fn sound(&mut self, rendered: &Rendered) -> bool {
        if !self.is_heard() {
            return false;
        }
        match self.encode(rendered) {
            Ok(frames) => {
                self.tell(News::Sound(frames));
                true
            }
            Err(error) => {
                tracing::error!(%error, "a room's sound could not be encoded");
                self.tell(News::Closed(error.to_string().into()));
                false
            }
        }
    }

    fn encode(&mut self, rendered: &Rendered) -> Result<Arc<[Frame]>, EncodeError> {
        let frames: Arc<[Frame]> = self.encoder.step(rendered)?.into();
        self.recent.push_back(Said { end: end(rendered), frames: Arc::clone(&frames) });
        Ok(frames)
    }

    /// Everybody is told.
    pub(super) fn tell(&self, news: News) {
        // Fails only where nobody is left.
        let _ = self.news.send(news);
    }

    /// No newcomer needs what ends here or before.
    pub(super) fn forget(&mut self, heard: u64) {
        while self.recent.front().is_some_and(|said| said.end <= heard) {
            self.recent.pop_front();
        }
    }
}
