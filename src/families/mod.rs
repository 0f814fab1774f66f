//! Model families: what a folder of weights is, and which code plays it.
//!
//! The family that this program trains itself lives in [`crate::model`] and [`crate::engine::render`]. Others come in
//! layouts of their own and stand behind the same trait, [`Renderer`](crate::engine::Renderer): the engine, the protocol
//! and the page know nothing of them.

pub mod check;
pub mod consistency_tta;

use crate::model::{ModelError, spec};
use consistency_tta::folder::{INDEX, Index};
use std::path::Path;

/// A family of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Trained by this program: `model.json` and its networks.
    Native,
    /// ConsistencyTTA in diffusers layout: `model_index.json` and its parts.
    ConsistencyTta,
}

impl Family {
    /// Which family the model in a folder is of.
    ///
    /// # Errors
    /// When the folder holds no model, or one of a family that is not known here.
    pub fn of(folder: &Path) -> Result<Self, ModelError> {
        if !folder.join(INDEX).exists() {
            // Where there is neither, the missing file that is named is the usual one.
            return Ok(Self::Native);
        }
        if folder.join(spec::FILE).exists() {
            let reason = format!("there is also a {INDEX}: a folder holds one model");
            return Err(ModelError::Spec { path: folder.join(spec::FILE), reason });
        }
        Index::read(folder).map(|_| Self::ConsistencyTta)
    }

    /// Whether a folder holds a model of any family, usable or not.
    pub fn is_model(folder: &Path) -> bool {
        folder.join(spec::FILE).exists() || folder.join(INDEX).exists()
    }

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "twostep",
            Self::ConsistencyTta => "ConsistencyTTA",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_known_by_its_index() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!Family::is_model(folder.path()));
        let index =
            |class: &str| std::fs::write(folder.path().join(INDEX), format!("{{\"_class_name\": \"{class}\"}}"));
        index("ConsistencyTTAPipeline").unwrap();
        assert_eq!(Family::of(folder.path()).unwrap(), Family::ConsistencyTta);
        index("StableDiffusionPipeline").unwrap();
        let error = Family::of(folder.path()).unwrap_err().to_string();
        assert!(error.contains(INDEX) && error.contains("StableDiffusionPipeline"), "{error}");
        std::fs::write(folder.path().join(spec::FILE), "{}").unwrap();
        let error = Family::of(folder.path()).unwrap_err().to_string();
        assert!(error.contains("one model"), "{error}");
        std::fs::remove_file(folder.path().join(INDEX)).unwrap();
        assert_eq!(Family::of(folder.path()).unwrap(), Family::Native);
    }
}
