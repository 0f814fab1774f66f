//! A resume token: no stranger's is taken, and none that was changed.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use twostep::engine::Checkpoint;
use twostep::server::TokenKey;

const LIFE: Duration = Duration::from_secs(3600);

static KEY: LazyLock<TokenKey> = LazyLock::new(|| TokenKey::new(b"a key for fuzzing"));
static TOKEN: LazyLock<String> = LazyLock::new(|| {
    let state = (0..200).collect();
    KEY.seal("model", Checkpoint { frame: 12, sample: 47_616, epoch: 1, condition: None, seed: 7, state })
});

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    assert!(KEY.open(&text, "model", LIFE).is_err());
    // A part of the token is overwritten.
    let Some((&place, patch)) = bytes.split_first() else { return };
    let mut changed = TOKEN.clone().into_bytes();
    let place = usize::from(place) * changed.len() / 256;
    for (old, new) in changed[place..].iter_mut().zip(patch) {
        *old = *new;
    }
    if changed != TOKEN.as_bytes() {
        assert!(KEY.open(&String::from_utf8_lossy(&changed), "model", LIFE).is_err());
    }
});
