//! Claim: which generation of which holder may change the store, per job.
//!
//! # Invariants
//!
//! * Generations only rise, and a claim is on disk before it counts.
//! * A claim record that cannot be read refuses everybody.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// The store does not accept a holder.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// A higher generation, or another holder of the same one, was here already. Stop.
    #[error(
        "claim job {job} under generation {generation}: \
         generation {held} is held by `{holder}`"
    )]
    Fenced {
        /// The job.
        job: u32,
        /// The generation that was refused.
        generation: u64,
        /// The generation on record.
        held: u64,
        /// Its holder.
        holder: String,
    },
    /// A holder's name must be a line of text without control characters.
    #[error("claim job {job}: the holder's name is empty or has control characters")]
    BadHolder {
        /// The job.
        job: u32,
    },
    /// The record is damaged. A person must find out which generation was the last.
    #[error("claim job {job}: its record is damaged")]
    Damaged {
        /// The job.
        job: u32,
    },
    /// The claim could not be read or made durable. It must not be acted on.
    #[error("record the claim of job {job}")]
    Record {
        /// The job.
        job: u32,
        /// Why.
        source: io::Error,
    },
}

/// The claims of one store, in a directory that whoever holds them has locked.
#[derive(Debug)]
pub struct Claims {
    dir: PathBuf,
    held: BTreeMap<u32, Claim>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    generation: u64,
    holder: String,
}

impl Claims {
    /// Opens the directory of claims, making it if needed.
    ///
    /// # Errors
    ///
    /// The file system's.
    pub fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self { dir, held: BTreeMap::new() })
    }

    /// Records a claim, or finds it held by this holder already.
    ///
    /// # Errors
    ///
    /// [`ClaimError`]; the caller must not work on the job.
    pub fn claim(
        &mut self,
        job: u32,
        generation: u64,
        holder: &str,
    ) -> Result<(), ClaimError> {
        if holder.is_empty() || holder.chars().any(char::is_control) {
            return Err(ClaimError::BadHolder { job });
        }
        if let Some(held) = self.current(job)? {
            let same = held.generation == generation && held.holder == holder;
            if same {
                self.held.insert(job, held);
                return Ok(());
            }
            if held.generation >= generation {
                let (held, holder) = (held.generation, held.holder);
                return Err(ClaimError::Fenced { job, generation, held, holder });
            }
        }
        let claim = Claim { generation, holder: holder.to_owned() };
        let path = self.dir.join(job.to_string());
        write_durably(&path, &claim.to_bytes())
            .map_err(|source| ClaimError::Record { job, source })?;
        self.held.insert(job, claim);
        Ok(())
    }

    /// Whether exactly this claim was made through this store since it was opened, and is
    /// still the one on disk: whoever came past the lock has left his own.
    pub fn holds(&self, job: u32, generation: u64, holder: &str) -> bool {
        let held = self.held.get(&job);
        let ours = held.filter(|it| it.generation == generation && it.holder == holder);
        let kept = fs::read(self.dir.join(job.to_string())).ok();
        ours.is_some() && kept.and_then(|bytes| Claim::parse(&bytes)).as_ref() == ours
    }

    /// The generations on disk, by job. A record that cannot be read is left out: it refuses
    /// whoever claims its job.
    ///
    /// # Errors
    ///
    /// The file system's.
    pub fn generations(&self) -> io::Result<BTreeMap<u32, u64>> {
        let mut generations = BTreeMap::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let job = name.to_str().and_then(|name| name.parse::<u32>().ok());
            let Some(job) = job else { continue };
            if let Some(claim) = Claim::parse(&fs::read(entry.path())?) {
                generations.insert(job, claim.generation);
            }
        }
        Ok(generations)
    }

    /// The claim on disk, which somebody may have replaced who came past the lock.
    fn current(&self, job: u32) -> Result<Option<Claim>, ClaimError> {
        match fs::read(self.dir.join(job.to_string())) {
            Ok(bytes) => {
                let claim = Claim::parse(&bytes).ok_or(ClaimError::Damaged { job })?;
                Ok(Some(claim))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ClaimError::Record { job, source }),
        }
    }
}

impl Claim {
    fn to_bytes(&self) -> Vec<u8> {
        let text = format!("{} {}", self.generation, self.holder);
        let check = blake3::hash(text.as_bytes()).to_hex();
        format!("{text}\n{check}\n").into_bytes()
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (text, check) =
            std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?.split_once('\n')?;
        if blake3::hash(text.as_bytes()).to_hex().as_str() != check {
            return None;
        }
        let (generation, holder) = text.split_once(' ')?;
        Some(Self { generation: generation.parse().ok()?, holder: holder.to_owned() })
    }
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let staged = path.with_extension("new");
    let mut file = File::create(&staged)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&staged, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_only_rises_and_survives_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let mut claims = Claims::open(dir.path().to_owned()).unwrap();
        claims.claim(1, 5, "a").unwrap();
        claims.claim(1, 5, "a").unwrap();
        claims.claim(2, 1, "b").unwrap();
        assert_eq!(claims.generations().unwrap(), BTreeMap::from([(1, 5), (2, 1)]));

        let mut claims = Claims::open(dir.path().to_owned()).unwrap();

        let told = |result: Result<(), ClaimError>| result.unwrap_err().to_string();
        expect_test::expect![
            "claim job 1 under generation 4: generation 5 is held by `a`"
        ]
        .assert_eq(&told(claims.claim(1, 4, "a")));
        assert!(matches!(claims.claim(1, 5, "b"), Err(ClaimError::Fenced { .. })));
        claims.claim(1, 6, "b").unwrap();
        assert!(claims.holds(1, 6, "b"));
        assert!(!claims.holds(1, 5, "a"));
    }

    #[test]
    fn a_claim_that_somebody_else_has_replaced_on_disk_stands_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let mut claims = Claims::open(dir.path().to_owned()).unwrap();
        claims.claim(1, 5, "a").unwrap();
        assert!(claims.holds(1, 5, "a"));

        let mut others = Claims::open(dir.path().to_owned()).unwrap();
        others.claim(1, 7, "b").unwrap();

        assert!(!claims.holds(1, 5, "a"));
        assert!(matches!(
            claims.claim(1, 6, "a"),
            Err(ClaimError::Fenced { held: 7, .. })
        ));
        claims.claim(1, 8, "a").unwrap();
        assert!(!others.holds(1, 7, "b"));
        others.claim(1, 9, "b").unwrap();
        assert!(others.holds(1, 9, "b"));
    }

    #[test]
    fn a_damaged_record_refuses_everybody() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("1"), "7 a\nxx\n").unwrap();
        let mut claims = Claims::open(dir.path().to_owned()).unwrap();

        assert!(matches!(claims.claim(1, 9, "b"), Err(ClaimError::Damaged { job: 1 })));
    }
}
