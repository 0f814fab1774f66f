//! Captions to states: FLAN-T5's encoder, with a cache of what it said last.

use super::folder::{Folder, TEXT_WEIGHTS};
use super::weights::Weights;
use crate::model::ModelError;
use candle_core::{DType, Device, Result, Tensor, bail};
use candle_transformers::models::t5::T5EncoderModel;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use tokenizers::{Tokenizer, TruncationParams};

/// Tokens of a caption at most; the rest is not heard.
const MAX_TOKENS: usize = 512;
/// Captions whose states are kept: a tenth of a megabyte each.
const CACHED: usize = 64;

/// The text encoder. Captions are encoded one by one, so that none needs a mask.
pub struct TextEncoder {
    tokenizer: Tokenizer,
    vocabulary: usize,
    device: Device,
    inner: Mutex<Inner>,
}

struct Inner {
    network: T5EncoderModel,
    /// Least recently asked for first.
    cache: VecDeque<(String, Tensor)>,
}

impl TextEncoder {
    /// Loads tokenizer and network. It computes in f32 on any device: it runs once a caption.
    ///
    /// # Errors
    /// When a file is missing or damaged, or does not fit the configuration.
    pub fn load(folder: &Folder, device: &Device) -> std::result::Result<Self, ModelError> {
        let weights = Weights::open(&folder.path.join(TEXT_WEIGHTS), DType::F32, device)?;
        let network = T5EncoderModel::load(weights.builder(), &folder.text).map_err(|e| weights.misfit(&e))?;
        let inner = Mutex::new(Inner { network, cache: VecDeque::new() });
        let (tokenizer, vocabulary) = (tokenizer(folder)?, folder.text.vocab_size);
        Ok(Self { tokenizer, vocabulary, device: device.clone(), inner })
    }

    /// The tokens of a caption, the closing one included.
    ///
    /// # Errors
    /// When the tokenizer fails, or gives a token that the network does not have.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let encoding =
            self.tokenizer.encode(text, true).map_err(|e| candle_core::Error::Msg(format!("{text:?}: {e}")))?;
        match encoding.get_ids().iter().find(|&&id| id as usize >= self.vocabulary) {
            Some(id) => bail!("{text:?}: the tokenizer gives {id}, the text encoder knows {} tokens", self.vocabulary),
            None => Ok(encoding.get_ids().to_vec()),
        }
    }

    /// States of a caption's tokens, (tokens, width), in f32.
    ///
    /// # Errors
    /// As [`TextEncoder::tokens`], and when a tensor operation fails.
    pub fn encode(&self, text: &str) -> Result<Tensor> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = inner.cache.iter().position(|(known, _)| known == text)
            && let Some(hit) = inner.cache.remove(place)
        {
            let states = hit.1.clone();
            inner.cache.push_back(hit);
            return Ok(states);
        }
        let tokens = self.tokens(text)?;
        let count = tokens.len();
        let states = inner.network.forward(&Tensor::from_vec(tokens, (1, count), &self.device)?)?.squeeze(0)?;
        if inner.cache.len() == CACHED {
            inner.cache.pop_front();
        }
        inner.cache.push_back((text.to_owned(), states.clone()));
        Ok(states)
    }

    /// Captions whose states are kept.
    pub fn cached(&self) -> usize {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).cache.len()
    }
}

fn tokenizer(folder: &Folder) -> std::result::Result<Tokenizer, ModelError> {
    let path: PathBuf = folder.path.join("tokenizer/tokenizer.json");
    if !path.exists() {
        let source = std::io::Error::new(
            std::io::ErrorKind::NotFound,
            "not there; spiece.model alone is not read: take tokenizer.json of FLAN-T5 (google/flan-t5-large)",
        );
        return Err(ModelError::Io { path, source });
    }
    let damaged = |e: tokenizers::Error| ModelError::Spec { path: path.clone(), reason: e.to_string() };
    let mut tokenizer = Tokenizer::from_file(&path).map_err(damaged)?;
    tokenizer.with_padding(None);
    let truncation = TruncationParams { max_length: MAX_TOKENS, ..TruncationParams::default() };
    tokenizer.with_truncation(Some(truncation)).map_err(damaged)?;
    Ok(tokenizer)
}
