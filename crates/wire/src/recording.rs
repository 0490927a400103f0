//! Recordings: what a screen was shown, kept in a file to be shown again.
//!
//! ```text
//! tidegate.recording/v1 ⏎  kind · milliseconds · length · message,  again and again
//! ```
//!
//! # Invariants
//!
//! * A recording that was cut off is shown up to there.
//! * Numbers are little-endian; no length is believed beyond what a message may have.

use std::io::{self, Read, Write};
use std::time::Duration;

use prost::Message as _;

use crate::v1;

/// The first line of every recording.
const HEAD: &[u8] = b"tidegate.recording/v1\n";

/// A rollout with thousands of waves and nodes is smaller.
const BYTES_MAX: u32 = 16 << 20;

/// What was shown.
#[derive(Clone, Debug, PartialEq)]
pub enum Shown {
    /// The rollout.
    Rollout(Box<v1::Rollout>),
    /// A page of what had happened.
    Events(v1::ListEventsResponse),
}

/// What was shown, and how long after the beginning.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// When.
    pub after: Duration,
    /// What.
    pub shown: Shown,
}

/// Begins a recording.
///
/// # Errors
///
/// Those of `out`.
pub fn begin(out: &mut impl Write) -> io::Result<()> {
    out.write_all(HEAD)
}

/// Adds a frame.
///
/// # Errors
///
/// Those of `out`; what was added before is whole.
pub fn add(out: &mut impl Write, frame: &Frame) -> io::Result<()> {
    let (kind, message) = match &frame.shown {
        Shown::Rollout(rollout) => (b'r', rollout.encode_to_vec()),
        Shown::Events(events) => (b'e', events.encode_to_vec()),
    };
    let too_long = |_| io::Error::other("it is too long for a recording");
    let length = u32::try_from(message.len()).map_err(too_long)?;
    let millis = u64::try_from(frame.after.as_millis()).unwrap_or(u64::MAX);
    let mut whole = vec![kind];
    whole.extend(millis.to_le_bytes());
    whole.extend(length.to_le_bytes());
    whole.extend(message);
    out.write_all(&whole)
}

/// Reads a whole recording.
///
/// # Errors
///
/// Those of `from`, and when it is none.
pub fn read(from: &mut impl Read) -> io::Result<Vec<Frame>> {
    let mut head = [0; HEAD.len()];
    let is_one = from.read_exact(&mut head).is_ok() && head == HEAD;
    if !is_one {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no recording"));
    }
    let mut frames = Vec::new();
    while let Some(frame) = next(from)? {
        frames.push(frame);
    }
    Ok(frames)
}

/// The next frame; nothing at the end, also of one that was cut off.
fn next(from: &mut impl Read) -> io::Result<Option<Frame>> {
    let (mut kind, mut millis, mut length) = ([0; 1], [0; 8], [0; 4]);
    for field in [&mut kind[..], &mut millis[..], &mut length[..]] {
        match from.read_exact(field) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let length = u32::from_le_bytes(length);
    if length > BYTES_MAX {
        return Err(wrong("a message of it is too long"));
    }
    let mut message = Vec::new();
    from.by_ref().take(length.into()).read_to_end(&mut message)?;
    if message.len() < length as usize {
        return Ok(None);
    }
    let broken = |_| wrong("a message of it cannot be read");
    let message = message.as_slice();
    let shown = match kind {
        [b'r'] => Shown::Rollout(Box::new(v1::Rollout::decode(message).map_err(broken)?)),
        [b'e'] => Shown::Events(v1::ListEventsResponse::decode(message).map_err(broken)?),
        _ => return Err(wrong("a part of it is of no known kind")),
    };
    let after = Duration::from_millis(u64::from_le_bytes(millis));
    Ok(Some(Frame { after, shown }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Vec<Frame> {
        let rollout = v1::Rollout { name: "night".into(), ..v1::Rollout::default() };
        let event = v1::Event { code: "paused".into(), ..v1::Event::default() };
        let page = v1::ListEventsResponse { events: vec![event], ..Default::default() };
        vec![
            Frame { after: Duration::ZERO, shown: Shown::Rollout(Box::new(rollout)) },
            Frame { after: Duration::from_millis(1_500), shown: Shown::Events(page) },
        ]
    }

    fn recorded() -> Vec<u8> {
        let mut file = Vec::new();
        begin(&mut file).unwrap();
        for frame in frames() {
            add(&mut file, &frame).unwrap();
        }
        file
    }

    #[test]
    fn what_was_recorded_is_read_and_what_was_cut_off_is_read_up_to_there() {
        let file = recorded();

        assert_eq!(read(&mut file.as_slice()).unwrap(), frames());
        for cut in HEAD.len()..file.len() {
            let read = read(&mut &file[..cut]).unwrap();
            assert!(read.len() < 2 && frames().starts_with(&read), "{cut}");
        }
    }

    #[test]
    fn what_is_no_recording_is_refused() {
        let mut long = recorded();
        long.splice(HEAD.len() + 9..HEAD.len() + 13, [255; 4]);
        let mut other = recorded();
        other[HEAD.len()] = b'x';

        for file in [b"tidegate.status/v1\n....".to_vec(), Vec::new(), long, other] {
            assert!(read(&mut file.as_slice()).is_err());
        }
    }
}
