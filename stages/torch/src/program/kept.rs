//! Finished parts of a long job, kept until all of it is done, so that what a kill or a time limit cuts off goes on from there.
//!
//! A part is a sealed file named by what it is of and by what computed it: a disk that lost or turned a bit costs that part and
//! nothing else, and a run on another sort of device, or with other threads, begins anew instead of mixing its numbers with others.

use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use watershed_engine::{Job, sealed};

use super::base;

/// The parts of one step of a job.
pub struct Kept {
    /// None when nothing is kept.
    folder: Option<PathBuf>,
    /// What computes.
    numerics: Vec<u8>,
}

impl Kept {
    /// Opens the parts of the step called `step` in the job's checkpoint; without a checkpoint nothing is kept.
    pub fn open(job: &Job, step: &str) -> Kept {
        let numerics = serde_json::to_vec(&base::numerics(job, &[])).expect("numerics have text keys only");
        Kept { folder: job.checkpoint().map(|checkpoint| checkpoint.join(step)), numerics }
    }

    /// Returns what was kept of the part with these places, if it is whole.
    pub fn get<T: DeserializeOwned>(&self, part: &[usize]) -> Option<T> {
        serde_json::from_slice(&sealed::read(&self.place(part)?)?).ok()
    }

    /// Keeps a part. One that cannot be written is only missed after a kill.
    pub fn put<T: Serialize>(&self, part: &[usize], value: &T) {
        if let (Some(place), Ok(bytes)) = (self.place(part), serde_json::to_vec(value)) {
            sealed::write(&place, bytes);
        }
    }

    /// Tells the user how much of the step was there.
    pub fn tell(job: &Job, known: usize, all: usize, unit: &str) {
        if known > 0 {
            job.note(format!("{known} of {all} {unit} are there from a run that was cut off"));
        }
    }

    fn place(&self, part: &[usize]) -> Option<PathBuf> {
        let mut name = blake3::Hasher::new();
        name.update(&self.numerics);
        for place in part {
            name.update(&(*place as u64).to_le_bytes());
        }
        Some(self.folder.as_ref()?.join(name.finalize().to_hex().as_str()))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_part_is_kept_under_its_places_until_a_bit_of_it_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let on = |device: &str| Kept { folder: Some(folder.path().join("answers")), numerics: device.into() };
        let kept = on("cpu");
        kept.put(&[4, 2], &vec!["an answer"]);
        assert_eq!(kept.get(&[4, 2]), Some(vec!["an answer".to_string()]));
        assert_eq!(kept.get::<Vec<String>>(&[2, 4]), None);
        assert_eq!(on("cuda").get::<Vec<String>>(&[4, 2]), None);
        let place = kept.place(&[4, 2]).unwrap();
        let mut bytes = fs::read(&place).unwrap();
        bytes[3] ^= 1;
        fs::write(&place, bytes).unwrap();
        assert_eq!(kept.get::<Vec<String>>(&[4, 2]), None);
    }
}
