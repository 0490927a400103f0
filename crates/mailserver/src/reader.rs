//! Reader: looks into a user's mailbox through a master user, as the user would see it.
//!
//! # Invariants
//!
//! * Nothing in the mailbox changes: folders are opened for reading only, and no message
//!   becomes a read one.
//! * A folder that the server cannot show and a message that it cannot give whole are part of
//!   what was seen, not errors.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead as _, BufReader, Read};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tidegate_secret::Secret;

use crate::conversation::{ConversationError, ConversationFault};
use crate::imap::{Counts, Imap, Login};

/// The way into everybody's mailbox.
#[derive(Clone)]
pub struct Reader {
    /// Where mail is read.
    pub imap: SocketAddr,
    /// The master user.
    pub master: String,
    /// The master user's password.
    pub password: Secret<String>,
    /// What stands between user and master user, `*` as a rule.
    pub separator: char,
    /// How long one mailbox may take.
    pub patience: Duration,
}

/// Which messages to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Whether the newest one of the inbox, or else of the first folder that has any.
    pub newest: bool,
    /// How many by chance, over all folders; all of them, when there are no more.
    pub random: u32,
    /// What chance goes by: the same seed takes the same messages.
    pub seed: u64,
}

/// A mailbox as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// All folders that hold messages, by name.
    pub folders: Vec<FolderSeen>,
    /// Folders that are listed and cannot be shown.
    pub unreadable: Vec<Unreadable>,
    /// The messages that were read.
    pub messages: Vec<MessageSeen>,
}

/// A folder that the server lists and cannot show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its name, as in [`FolderSeen`].
    pub folder: String,
    /// The server's words.
    pub answer: String,
}

/// A folder as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderSeen {
    /// Its name, in modified UTF-7, with `/` between levels whatever the server uses.
    pub name: String,
    /// What is in it.
    pub counts: Counts,
    /// Its name as the server wants to hear it.
    wire_name: String,
}

/// A message as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageSeen {
    /// Its folder's name.
    pub folder: String,
    /// Its UID.
    pub uid: u32,
    /// Its bytes on the wire, where every line ends in CRLF.
    pub wire_bytes: u64,
    /// Whether it came whole.
    pub end: MessageEnd,
}

/// How the reading of a message ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageEnd {
    /// All of it came.
    Whole,
    /// The server announced it and hung up inside of it. Nothing after it was read.
    CutOff {
        /// How much came.
        came_bytes: u64,
    },
    /// The server did not give it. Nothing after it was read, if the server hung up.
    Refused {
        /// Its words.
        answer: String,
    },
    /// Somebody removed it meanwhile.
    Gone,
}

/// Gets a message that is being read: its folder, its UID, and its bytes with lines that end
/// in LF, as mail is stored.
pub type OnMessage<'a> =
    dyn FnMut(&FolderSeen, u32, &mut dyn Read) -> io::Result<()> + 'a;

impl Reader {
    /// Looks into a mailbox.
    ///
    /// # Errors
    ///
    /// The server cannot be reached, or does not let the master user in; an error of
    /// `on_message` is passed on as [`ConversationFault::NotTaken`].
    pub fn look(
        &self,
        user: &str,
        sample: Sample,
        on_message: &mut OnMessage<'_>,
    ) -> Result<Look, ConversationError> {
        let login = format!("{user}{}{}", self.separator, self.master);
        let login = Login { user: &login, password: self.password.expose() };
        let deadline = Instant::now() + self.patience;
        let mut imap = Imap::login(self.imap, login, deadline)?;
        let (folders, unreadable) = folders(&mut imap)?;
        let mut look = Look { messages: Vec::new(), folders, unreadable };
        for (folder, numbers) in picked(&look.folders, sample) {
            let Some(folder) = look.folders.get(folder) else { continue };
            if let Err(answer) = refusal(imap.examine(&folder.wire_name))? {
                look.unreadable.push(Unreadable { folder: folder.name.clone(), answer });
                continue;
            }
            for number in numbers {
                let Some(message) = read(&mut imap, folder, number, on_message)? else {
                    continue;
                };
                let last = matches!(
                    message.end,
                    MessageEnd::CutOff { .. } | MessageEnd::Refused { .. }
                );
                look.messages.push(message);
                if last {
                    // The connection may be gone, and one such message is enough.
                    return Ok(look);
                }
            }
        }
        imap.logout()?;
        Ok(look)
    }
}

/// All folders that hold messages, by name, and those of them that cannot be shown.
fn folders(
    imap: &mut Imap,
) -> Result<(Vec<FolderSeen>, Vec<Unreadable>), ConversationError> {
    let (mut folders, mut unreadable) = (Vec::new(), Vec::new());
    for listed in imap.list()?.into_iter().filter(|it| it.selectable) {
        let name = match listed.separator.as_deref() {
            Some(separator) if separator != "/" => listed.name.replace(separator, "/"),
            _ => listed.name.clone(),
        };
        match refusal(imap.status(&listed.name))? {
            Ok(counts) => {
                folders.push(FolderSeen { name, counts, wire_name: listed.name });
            }
            Err(answer) => unreadable.push(Unreadable { folder: name, answer }),
        }
    }
    folders.sort_by(|one, other| one.name.cmp(&other.name));
    Ok((folders, unreadable))
}

/// Takes the server's no for an answer, and nothing else.
fn refusal<T>(
    result: Result<T, ConversationError>,
) -> Result<Result<T, String>, ConversationError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(ConversationError {
            cause: ConversationFault::Refused { answer }, ..
        }) => Ok(Err(answer)),
        Err(error) => Err(error),
    }
}

/// Reads a message by its number; nothing when there is none any more.
fn read(
    imap: &mut Imap,
    folder: &FolderSeen,
    number: u32,
    on_message: &mut OnMessage<'_>,
) -> Result<Option<MessageSeen>, ConversationError> {
    // Dovecot says BAD to a number beyond the last message.
    let Ok(Some(uid)) = refusal(imap.uid_of(number))? else { return Ok(None) };
    let mut wire_bytes = 0;
    let fetched = imap.fetch(uid, &mut |size, from| {
        wire_bytes = size;
        on_message(folder, uid, &mut LfRead::new(from))
    });
    let end = match fetched {
        Ok(true) => MessageEnd::Whole,
        Ok(false) => MessageEnd::Gone,
        Err(ConversationError {
            cause: ConversationFault::CutOff { came_bytes, .. },
            ..
        }) => MessageEnd::CutOff { came_bytes },
        Err(ConversationError {
            cause: ConversationFault::Refused { answer }, ..
        }) => MessageEnd::Refused { answer },
        Err(error) => return Err(error),
    };
    Ok(Some(MessageSeen { folder: folder.name.clone(), uid, wire_bytes, end }))
}

/// The numbers of the messages to read, by folder.
fn picked(folders: &[FolderSeen], sample: Sample) -> BTreeMap<usize, BTreeSet<u32>> {
    let mut picked: BTreeMap<usize, BTreeSet<u32>> = BTreeMap::new();
    let filled = |(_, folder): &(usize, &FolderSeen)| folder.counts.messages > 0;
    let mut candidates = folders.iter().enumerate().filter(filled);
    if sample.newest
        && let first = candidates.clone().next()
        && let Some((at, folder)) =
            candidates.find(|(_, it)| it.name.eq_ignore_ascii_case("INBOX")).or(first)
    {
        picked.entry(at).or_default().insert(folder.counts.messages);
    }
    let total: u64 = folders.iter().map(|it| u64::from(it.counts.messages)).sum();
    let random = u64::from(sample.random);
    let mut numbers: BTreeSet<u64> = BTreeSet::new();
    if random >= total {
        numbers.extend(0..total);
    }
    let mut state = sample.seed;
    while (numbers.len() as u64) < random.min(total) {
        numbers.insert(next_random(&mut state) % total);
    }
    for mut number in numbers {
        for (at, folder) in folders.iter().enumerate() {
            match u32::try_from(number) {
                Ok(inside) if inside < folder.counts.messages => {
                    picked.entry(at).or_default().insert(inside + 1);
                    break;
                }
                _ => number -= u64::from(folder.counts.messages),
            }
        }
    }
    picked
}

/// `SplitMix64` (<https://prng.di.unimi.it/splitmix64.c>).
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Turns CRLF into LF while reading. A message that is stored with CRLF comes out with LF
/// too, so that whoever compares must treat what is stored alike.
#[derive(Debug)]
pub struct LfRead<R> {
    from: BufReader<R>,
    /// A CR came, and what follows decides whether it stays.
    held: bool,
}

impl<R: Read> LfRead<R> {
    /// Reads from there.
    pub fn new(from: R) -> Self {
        Self { from: BufReader::new(from), held: false }
    }
}

impl<R: Read> Read for LfRead<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(room) = buffer.len().checked_sub(1) else { return Ok(0) };
        loop {
            let bytes = self.from.fill_buf()?;
            let Some(first) = bytes.first() else {
                // A CR at the very end stays.
                return match buffer.first_mut() {
                    Some(place) if std::mem::take(&mut self.held) => {
                        *place = b'\r';
                        Ok(1)
                    }
                    _ => Ok(0),
                };
            };
            let keep = self.held && *first != b'\n';
            let written = usize::from(keep);
            if let Some(place) = buffer.first_mut().filter(|_| keep) {
                *place = b'\r';
            }
            // Up to the next CR, which waits for what comes after it.
            let end = bytes.iter().position(|byte| *byte == b'\r').unwrap_or(bytes.len());
            let take = end.min(room);
            let target = buffer.get_mut(written..written + take).unwrap_or_default();
            target.copy_from_slice(bytes.get(..take).unwrap_or_default());
            self.held = take == end && end < bytes.len();
            let consumed = take + usize::from(self.held);
            self.from.consume(consumed);
            if written + take > 0 {
                return Ok(written + take);
            }
            if consumed == 0 {
                // Room for one byte only, and it is no CR that waits: give that byte.
                let mut one = [0];
                self.from.read_exact(&mut one)?;
                buffer.iter_mut().zip(one).for_each(|(place, byte)| *place = byte);
                return Ok(1);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives so many bytes at a time.
    struct Dripping<'a>(&'a [u8], usize);

    impl Read for Dripping<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let some = self.1.min(buffer.len()).min(self.0.len());
            self.0.read(&mut buffer[..some])
        }
    }

    #[test]
    fn a_cr_goes_only_before_an_lf_however_the_bytes_come() {
        let text = b"a\r\nb\rc\r\r\nd\n\r\n\r\n\re\r";
        let wanted = b"a\nb\rc\r\nd\n\n\n\re\r";
        for drip in 1..text.len() {
            for room in 1..text.len() {
                let mut reader = LfRead::new(Dripping(text, drip));
                let (mut came, mut buffer) = (Vec::new(), vec![0; room]);
                loop {
                    let count = reader.read(&mut buffer).unwrap();
                    if count == 0 {
                        break;
                    }
                    came.extend_from_slice(&buffer[..count]);
                }
                assert_eq!(
                    String::from_utf8_lossy(&came),
                    String::from_utf8_lossy(wanted),
                    "{drip} {room}"
                );
            }
        }
    }

    fn folder(name: &str, messages: u32) -> FolderSeen {
        let counts = Counts { messages, ..Counts::default() };
        FolderSeen { name: name.to_owned(), counts, wire_name: name.to_owned() }
    }

    #[test]
    fn a_sample_has_the_newest_and_as_many_others_as_there_are() {
        let folders = [
            folder("Archive", 5),
            folder("Empty", 0),
            folder("INBOX", 3),
            folder("Z", 1),
        ];
        let sample = Sample { newest: true, random: 0, seed: 7 };

        let newest = picked(&folders, sample);
        let all = picked(&folders, Sample { random: 100, ..sample });
        let some = picked(&folders, Sample { random: 4, newest: false, ..sample });

        assert_eq!(newest, BTreeMap::from([(2, BTreeSet::from([3]))]));
        let whole = |count| (1..=count).collect::<BTreeSet<u32>>();
        assert_eq!(all, BTreeMap::from([(0, whole(5)), (2, whole(3)), (3, whole(1))]));
        assert_eq!(some.values().map(BTreeSet::len).sum::<usize>(), 4);
        assert!(picked(&[], sample).is_empty());
    }
}
