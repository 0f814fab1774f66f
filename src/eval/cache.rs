//! What was computed once: corpus-side statistics and finished parts of a long measurement, in files named by a hash of
//! everything that they depend on.

use super::EvalError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// A folder of results.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The cache in this folder, which is made when the first result is kept.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The user's cache folder: `twostep` in `$XDG_CACHE_HOME`, or in `~/.cache`, or for temporary files.
    pub fn default_folder() -> PathBuf {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
        folder.unwrap_or_else(std::env::temp_dir).join("twostep")
    }

    /// The file of a result that depends on `key`; its folder exists.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn file(&self, name: &str, key: &impl Serialize, extension: &str) -> Result<PathBuf, EvalError> {
        std::fs::create_dir_all(&self.folder).map_err(EvalError::at(&self.folder))?;
        Ok(self.folder.join(format!("{name}-{}.{extension}", hash(key)?)))
    }

    /// The result that depends on `key` alone: from its file, or made and kept. A file that cannot be read is made anew.
    ///
    /// # Errors
    /// When `make` fails, or its result cannot be written.
    pub fn get<T: Serialize + DeserializeOwned>(
        &self,
        name: &str,
        key: &impl Serialize,
        make: impl FnOnce() -> Result<T, EvalError>,
    ) -> Result<T, EvalError> {
        let path = self.file(name, key, "json")?;
        match std::fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(found) => return Ok(found),
                Err(error) => tracing::warn!(path = %path.display(), %error, "a cached result is damaged: made anew"),
            },
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(EvalError::at(&path)(error)),
        }
        let made = make()?;
        let partial = path.with_extension("partial");
        std::fs::write(&partial, serde_json::to_vec(&made)?).map_err(EvalError::at(&partial))?;
        std::fs::rename(&partial, &path).map_err(EvalError::at(&path))?;
        Ok(made)
    }
}

/// The first 16 hexadecimal digits of the SHA-256 of the key as JSON.
fn hash(key: &impl Serialize) -> Result<String, EvalError> {
    let digest = Sha256::digest(serde_json::to_vec(key)?);
    Ok(digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_is_made_once_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(&folder.path().join("deep/cache"));
        let mut made = 0;
        let mut get = |key: &str| {
            cache.get("numbers", &(key, 3), || {
                made += 1;
                Ok(vec![0.1f32, f32::from(made as u8)])
            })
        };
        assert_eq!(get("a").unwrap(), [0.1, 1.0]);
        assert_eq!(get("a").unwrap(), [0.1, 1.0]);
        assert_eq!(get("b").unwrap(), [0.1, 2.0]);
    }

    #[test]
    fn damage_is_repaired_and_errors_are_passed_on() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path());
        let path = cache.file("x", &1, "json").unwrap();
        std::fs::write(&path, b"[1, 2").unwrap();
        assert_eq!(cache.get("x", &1, || Ok(7)).unwrap(), 7);
        assert_eq!(cache.get("x", &1, || Ok(8)).unwrap(), 7);
        let failed = cache.get::<u32>("x", &2, || Err(EvalError::UnknownKind("unicorn".into())));
        assert!(failed.unwrap_err().to_string().contains("unicorn"));
        std::fs::write(folder.path().join("file"), b"").unwrap();
        let error = Cache::new(&folder.path().join("file")).get("x", &1, || Ok(1)).unwrap_err().to_string();
        assert!(error.contains("file"), "{error}");
    }
}
