//! Faults on command, for the tests of what is to survive them: `--fault NAME`, or `--fault NAME:N` for the Nth occasion
//! instead of the first. A program built without the feature `fault` has neither the flag nor the faults.

/// Something that goes wrong once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The engine's worker panics after it has made sound, before it has given it.
    WorkerPanic,
    /// A tick takes ten seconds.
    SlowTick,
    /// The device has no memory for a batch.
    OutOfMemory,
    /// The disk is full when a checkpoint is saved.
    FullDisk,
}

#[cfg(feature = "fault")]
mod armed {
    use super::Fault;
    use std::str::FromStr;
    use std::sync::atomic::{AtomicU32, Ordering};

    const ALL: [(&str, Fault); 4] = [
        ("worker-panic", Fault::WorkerPanic),
        ("slow-tick", Fault::SlowTick),
        ("out-of-memory", Fault::OutOfMemory),
        ("full-disk", Fault::FullDisk),
    ];
    /// Occasions that are left, the last of which is the fault; 0 where none is asked for.
    static LEFT: [AtomicU32; ALL.len()] = [const { AtomicU32::new(0) }; ALL.len()];

    /// A fault, and on which occasion it comes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Order {
        fault: Fault,
        occasion: u32,
    }

    impl FromStr for Order {
        type Err = String;

        fn from_str(text: &str) -> Result<Self, String> {
            let (name, occasion) = text.split_once(':').unwrap_or((text, "1"));
            let occasion = occasion.parse().ok().filter(|&n| n > 0);
            let occasion = occasion.ok_or_else(|| format!("{text:?}: an occasion is a number from 1 on"))?;
            match ALL.into_iter().find(|&(known, _)| known == name) {
                Some((_, fault)) => Ok(Self { fault, occasion }),
                None => Err(format!("{name:?} is none of {}", ALL.map(|(name, _)| name).join(", "))),
            }
        }
    }

    impl Order {
        /// Lets it come.
        pub fn arm(self) {
            LEFT[self.fault as usize].store(self.occasion, Ordering::Relaxed);
        }
    }

    /// Whether it goes wrong on this occasion.
    pub fn strikes(fault: Fault) -> bool {
        let left = &LEFT[fault as usize];
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)) == Ok(1)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_fault_comes_once_on_the_occasion_asked_for() {
            "out-of-memory:3".parse::<Order>().unwrap().arm();
            let struck: Vec<bool> = (0..5).map(|_| strikes(Fault::OutOfMemory)).collect();
            assert_eq!(struck, [false, false, true, false, false]);
            assert!("out-of-memory:0".parse::<Order>().is_err());
            assert!("earthquake".parse::<Order>().unwrap_err().contains("worker-panic"));
        }
    }
}

#[cfg(feature = "fault")]
pub use armed::{Order, strikes};

/// Whether it goes wrong on this occasion: never.
#[cfg(not(feature = "fault"))]
#[inline]
pub const fn strikes(_fault: Fault) -> bool {
    false
}
