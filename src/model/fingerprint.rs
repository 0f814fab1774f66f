//! Which model it is: a hash of everything that its sound depends on.

use super::ModelError;
use sha2::{Digest, Sha256};
use std::io;
use std::path::Path;

/// SHA-256 over the names and contents of these files of a model's folder, in hexadecimal.
///
/// # Errors
/// When one of them cannot be read; the error names it.
pub fn fingerprint(folder: &Path, files: &[&str]) -> Result<String, ModelError> {
    let mut hash = Sha256::new();
    for name in files {
        let path = folder.join(name);
        let failed = |source| ModelError::Io { path: path.clone(), source };
        let mut file = std::fs::File::open(&path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        hash.update(format!("{name} {length}\n"));
        io::copy(&mut file, &mut hash).map_err(failed)?;
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_other_byte_makes_another_model() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("a", "one");
        write("b", "two");
        let of = |files: &[&str]| fingerprint(folder.path(), files).unwrap();
        let (first, part) = (of(&["a", "b"]), of(&["a"]));
        assert_eq!(first.len(), 64);
        assert_ne!(first, part);
        write("b", "twO");
        assert_ne!(of(&["a", "b"]), first);
        assert_eq!(of(&["a"]), part);
        let missing = fingerprint(folder.path(), &["c"]).unwrap_err().to_string();
        assert!(missing.contains("c"), "{missing}");
    }
}
