//! The recount finds and names every fault that a restorer could make.
//!
//! # Invariants
//!
//! * Every test builds its own provider below a directory of its own.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail at once")]
#![expect(
    clippy::indexing_slicing,
    reason = "a test that cannot go on must fail at once"
)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tidegate_lab::{
    Fate, Held, LabSpec, Listed, MailboxEnd, MailboxTruth, MessageTruth, Provider,
    Recount, Saboteur, Told, build, recount,
};

const HEALTHY: LabSpec =
    LabSpec { mailboxes: 12, nodes: 3, messages: 12, seed: 11, damage: 0 };
const BROKEN: LabSpec =
    LabSpec { mailboxes: 60, nodes: 3, messages: 12, seed: 11, damage: 250_000 };

#[test]
fn a_healthy_provider_recounts_clean() {
    let site = Site::new(&HEALTHY);

    let recount = site.recount(&site.all(MailboxEnd::Restored));

    assert!(recount.is_clean(), "{recount}");
    assert!(recount.messages_expected > 80);
    assert_eq!(recount.messages_expected, recount.messages_found);
    assert_eq!(recount.mailboxes, (12, 0, 0));
}

#[test]
fn equal_seeds_make_equal_providers() {
    let few = LabSpec { mailboxes: 10, ..BROKEN };
    let (first, second) = (Site::new(&few), Site::new(&few));
    let other = Site::new(&LabSpec { seed: 12, ..few });

    let digest = first.provider.truth.digest();

    assert_eq!(digest, second.provider.truth.digest());
    assert_ne!(digest, other.provider.truth.digest());
    assert_eq!(inventory(&first), inventory(&second));
    assert_ne!(inventory(&first), inventory(&other));
    assert_eq!(first.provider.damage_summary(), second.provider.damage_summary());
}

#[test]
fn the_storm_hits_both_sides_in_every_way() {
    let site = Site::new(&LabSpec { mailboxes: 150, damage: 600_000, ..BROKEN });

    let counts = &site.provider.damage_summary().counts;

    assert_eq!(counts.len(), 18, "{}", site.provider.damage_summary());
    assert!(counts.values().any(|(_, snapshot)| *snapshot > 10));
}

#[test]
fn a_store_left_as_it_broke_is_not_clean_but_nothing_is_destroyed() {
    let site = Site::new(&BROKEN);

    let claimed = site.recount(&site.all(MailboxEnd::Restored));
    let untouched = site.recount(&Told::default());
    let set_aside = site.recount(&site.all(MailboxEnd::SetAside));

    assert!(!claimed.lost.is_empty());
    assert!(!claimed.altered.is_empty());
    assert!(!claimed.misplaced.is_empty());
    assert!(!claimed.unlisted.is_empty());
    assert!(!claimed.uid_changed.is_empty());
    assert!(untouched.is_clean(), "{untouched}");
    assert!(set_aside.is_clean(), "{set_aside}");
}

#[test]
fn a_deleted_file_is_lost() {
    check(|site| fs::remove_file(site.some_file()).unwrap(), "lost", "not brought back");
}

#[test]
fn one_other_byte_is_altered() {
    check(
        |site| {
            let path = site.some_file();
            let mut bytes = fs::read(&path).unwrap();
            bytes[7] ^= 1;
            rewrite(&path, &bytes);
        },
        "altered",
        "other bytes under",
    );
}

#[test]
fn mail_of_another_user_is_misplaced_and_its_owner_named() {
    check(
        |site| {
            let bytes = fs::read(site.file_of_another()).unwrap();
            rewrite(&site.some_file(), &bytes);
        },
        "misplaced",
        "mail of ",
    );
}

#[test]
fn mail_moved_to_another_user_is_misplaced() {
    check(
        |site| {
            let from = site.file_of_another();
            let to = site.some_file().with_file_name(from.file_name().unwrap());
            fs::copy(from, to).unwrap();
        },
        "misplaced",
        "mail of ",
    );
}

#[test]
fn a_second_copy_is_duplicated() {
    check(
        |site| {
            let path = site.some_file();
            let new = path.parent().unwrap().with_file_name("new");
            copy_with_times(&path, &new.join(path.file_name().unwrap()));
        },
        "duplicated",
        "2 files of one name",
    );
}

#[test]
fn a_copy_under_a_new_name_is_duplicated() {
    check(
        |site| {
            let path = site.some_file();
            fs::copy(&path, path.with_file_name("1.M1P1.other,S=1,W=1:2,S")).unwrap();
        },
        "duplicated",
        "is a copy of",
    );
}

#[test]
fn a_deleted_message_that_is_back_is_resurrected() {
    check(
        |site| {
            let (mailbox, message) = site.find(|message| {
                message.fate == Fate::Deleted { proved: true }
                    && message.snapshot == Held::Intact
            });
            let from = site.place(mailbox, message, Side::Snapshot).unwrap();
            let folder = site.folder(mailbox, message, Side::Live);
            copy_with_times(&from, &folder.join("cur").join(from.file_name().unwrap()));
        },
        "resurrected",
        "deleted, and back",
    );
}

#[test]
fn a_deletion_in_doubt_may_come_back() {
    let site = Site::new(&HEALTHY);
    let (mailbox, message) = site.find(|message| {
        message.fate == Fate::Deleted { proved: false }
            && message.snapshot == Held::Intact
    });
    let from = site.place(mailbox, message, Side::Snapshot).unwrap();
    let folder = site.folder(mailbox, message, Side::Live);
    copy_with_times(&from, &folder.join("cur").join(from.file_name().unwrap()));

    let recount = site.recount(&site.all(MailboxEnd::Restored));

    assert!(recount.is_clean(), "{recount}");
    assert_eq!(recount.returned_in_doubt, 1);
}

#[test]
fn another_uid_is_a_changed_uid() {
    check(
        |site| {
            edit_list(site, |text| {
                let (head, last) = text.trim_end().rsplit_once('\n').unwrap();
                let (uid, name) = last.split_once(' ').unwrap();
                let uid: u32 = uid.parse().unwrap();
                format!("{head}\n{} {name}\n", uid + 500)
            });
        },
        "uid changed",
        "its UID is now",
    );
}

#[test]
fn another_uid_validity_is_a_changed_uid() {
    check(
        |site| edit_list(site, |text| text.replacen(" V1", " V2", 1)),
        "uid changed",
        "UIDVALIDITY",
    );
}

#[test]
fn other_flags_are_changed_flags() {
    check(
        |site| {
            let path = site.some_file();
            let name = path.file_name().unwrap().to_str().unwrap();
            let base = name.split(':').next().unwrap();
            fs::rename(&path, path.with_file_name(format!("{base}:2,DT"))).unwrap();
        },
        "flags changed",
        "flags `DT`",
    );
}

#[test]
fn another_date_is_redated() {
    check(
        |site| {
            let file = File::options().write(true).open(site.some_file()).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        },
        "redated",
        "delivered 0",
    );
}

#[test]
fn a_link_among_the_mail_is_misplaced() {
    check(
        |site| {
            let path = site.some_file();
            std::os::unix::fs::symlink(&path, path.with_file_name("link")).unwrap();
        },
        "misplaced",
        "link is no mail",
    );
}

#[test]
fn intact_bytes_gone_from_an_untouched_mailbox_are_destroyed() {
    let site = Site::new(&HEALTHY);
    let path = site.some_file();
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(path).unwrap();

    let gone = site.recount(&Told::default());
    for node in &site.provider.nodes {
        fs::create_dir(node.work.join("kept")).unwrap();
        fs::write(node.work.join("kept/any"), &bytes).unwrap();
    }
    let kept = site.recount(&Told::default());

    assert_eq!(gone.destroyed.len(), 1, "{gone}");
    assert!(kept.is_clean(), "{kept}");
}

#[test]
fn a_perfect_restorer_satisfies_the_recount_and_an_unlisted_loss_does_not() {
    let site = Site::new(&BROKEN);

    let mut told = site.restore();
    let perfect = site.recount(&told);
    told.set_aside.clear();
    let silent = site.recount(&told);

    assert!(perfect.is_clean(), "{perfect}");
    assert_eq!(perfect.messages_expected, perfect.messages_found);
    assert!(perfect.messages_listed > 0);
    assert!(silent.unlisted.len() > 10);
    let silent_about = u64::try_from(silent.unlisted.len()).unwrap();
    let untold = silent_about + silent.messages_untraceable;
    assert_eq!(untold, perfect.messages_listed);
}

#[test]
fn a_message_whose_new_place_was_lost_must_be_back_at_its_old_one() {
    let site = Site::new(&BROKEN);
    let told = site.restore();
    let mut mailboxes = site.provider.truth.mailboxes.iter();
    let (mailbox, message) = mailboxes
        .find_map(|mailbox| {
            let mut messages = mailbox.messages.iter();
            Some((mailbox, messages.find(|message| is_astray(mailbox, message))?))
        })
        .unwrap();

    let before = site.recount(&told);
    fs::remove_file(site.place(mailbox, message, Side::Live).unwrap()).unwrap();
    let after = site.recount(&told);

    assert!(before.is_clean(), "{before}");
    assert_eq!(message.fate, Fate::Deleted { proved: false });
    assert_eq!(after.lost.len(), 1, "{after}");
    assert!(after.lost[0].what.contains("moved to a place that was lost"), "{after}");
}

#[test]
fn a_saboteur_breaks_its_share_of_one_node_and_puts_everything_back() {
    let site = Site::new(&HEALTHY);
    let mut saboteur = Saboteur::new(&site.provider, "stor-02", 500_000, 1);

    let mut broken = Vec::new();
    for mailbox in &site.provider.truth.mailboxes {
        if saboteur.on_open(&mailbox.address).unwrap() {
            broken.push(mailbox.node);
        }
    }
    let while_broken = site.recount(&site.all(MailboxEnd::Restored));
    saboteur.undo().unwrap();
    let afterwards = site.recount(&site.all(MailboxEnd::Restored));

    assert!((1..=3).contains(&broken.len()), "{broken:?}");
    assert!(broken.iter().all(|node| *node == 1));
    assert!(!while_broken.lost.is_empty());
    assert!(afterwards.is_clean(), "{afterwards}");
}

#[test]
fn what_was_restored_while_a_saboteur_had_it_is_there_once_afterwards() {
    let site = Site::new(&HEALTHY);
    let mut saboteur = Saboteur::new(&site.provider, "stor-01", 1_000_000, 1);
    let (mailbox, message) = site
        .find(|message| message.fate == Fate::Wanted && message.snapshot == Held::Intact);

    assert!(saboteur.on_open(&mailbox.address).unwrap());
    let cur = site.folder(mailbox, message, Side::Live).join("cur");
    let snapshot = site.place(mailbox, message, Side::Snapshot).unwrap();
    fs::create_dir(&cur).unwrap();
    fs::copy(snapshot, cur.join(format!("{}:2,T", message.name))).unwrap();
    saboteur.undo().unwrap();
    let recount = site.recount(&site.all(MailboxEnd::Restored));

    assert!(recount.is_clean(), "{recount}");
}

/// Plants one fault in a healthy provider and expects exactly that complaint.
fn check(fault: impl FnOnce(&Site), kind: &str, what: &str) {
    let site = Site::new(&HEALTHY);

    fault(&site);
    let recount = site.recount(&site.all(MailboxEnd::Restored));

    for (name, complaints) in recount.kinds() {
        if name == kind {
            assert_eq!(complaints.len(), 1, "{recount}");
            assert!(complaints[0].what.contains(what), "{recount}");
        } else {
            assert!(complaints.is_empty(), "{recount}");
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Live,
    Snapshot,
}

struct Site {
    _root: TempDir,
    provider: Provider,
}

impl Site {
    fn new(spec: &LabSpec) -> Self {
        let root = TempDir::new().unwrap();
        let provider = build(&root.path().join("lab"), spec, &mut |_| {}).unwrap();
        Self { _root: root, provider }
    }

    fn all(&self, end: MailboxEnd) -> Told {
        let mailboxes = self.provider.truth.mailboxes.iter();
        let states = mailboxes.map(|mailbox| (mailbox.address.clone(), end)).collect();
        Told { states, set_aside: Vec::new() }
    }

    fn recount(&self, told: &Told) -> Recount {
        recount(&self.provider, told).unwrap()
    }

    fn find(
        &self,
        wanted: impl Fn(&MessageTruth) -> bool,
    ) -> (&MailboxTruth, &MessageTruth) {
        let mailboxes = self.provider.truth.mailboxes.iter();
        mailboxes
            .flat_map(|mailbox| mailbox.messages.iter().map(move |it| (mailbox, it)))
            .find(|(_, message)| wanted(message))
            .unwrap()
    }

    fn folder(
        &self,
        mailbox: &MailboxTruth,
        message: &MessageTruth,
        side: Side,
    ) -> PathBuf {
        self.folder_at(mailbox, message.folder, side)
    }

    fn folder_at(&self, mailbox: &MailboxTruth, place: usize, side: Side) -> PathBuf {
        let node = &self.provider.nodes[mailbox.node];
        let root = if side == Side::Live { &node.live } else { &node.snapshot };
        let name = &mailbox.folders[place].name;
        let maildir = root.join(&mailbox.path);
        if name.is_empty() { maildir } else { maildir.join(format!(".{name}")) }
    }

    /// Where the file of `message` lies.
    fn place(
        &self,
        mailbox: &MailboxTruth,
        message: &MessageTruth,
        side: Side,
    ) -> Option<PathBuf> {
        let folder = self.folder(mailbox, message, side);
        ["cur", "new"].iter().find_map(|place| {
            let entries = fs::read_dir(folder.join(place)).ok()?;
            entries.map(|entry| entry.unwrap().path()).find(|path| {
                path.file_name().unwrap().to_str().unwrap().starts_with(&message.name)
            })
        })
    }

    /// A message in some INBOX's `cur`.
    fn some_file(&self) -> PathBuf {
        let (mailbox, message) = self.find(|message| {
            message.folder == 0
                && message.fate == Fate::Wanted
                && message.keywords.is_empty()
                && message.snapshot == Held::Intact
                && !message.flags.is_empty()
        });
        self.place(mailbox, message, Side::Live).unwrap()
    }

    fn file_of_another(&self) -> PathBuf {
        let mailbox = self.provider.truth.mailboxes.last().unwrap();
        let message =
            mailbox.messages.iter().find(|message| message.fate == Fate::Wanted).unwrap();
        self.place(mailbox, message, Side::Live).unwrap()
    }

    /// Restores by looking at the truth, which no restorer can: shows that everything the
    /// recount asks for can be done.
    fn restore(&self) -> Told {
        let mut told = self.all(MailboxEnd::Restored);
        for mailbox in &self.provider.truth.mailboxes {
            let maildir = self.provider.nodes[mailbox.node].live.join(&mailbox.path);
            for folder in 0..mailbox.folders.len() {
                self.restore_folder(mailbox, folder);
            }
            for message in &mailbox.messages {
                if !self.restore_message(mailbox, message) && message.fate == Fate::Wanted
                {
                    told.set_aside.push(Listed {
                        address: mailbox.address.clone(),
                        folder: mailbox.folders[message.folder].name.clone(),
                        name: message.name.clone(),
                        reason: "beyond repair".to_owned(),
                    });
                }
            }
            for place in ["cur", "new"] {
                for entry in fs::read_dir(maildir.join(place)).unwrap() {
                    let entry = entry.unwrap();
                    let kind = entry.file_type().unwrap();
                    if kind.is_dir() {
                        fs::remove_dir(entry.path()).unwrap();
                    } else if !kind.is_file() {
                        fs::remove_file(entry.path()).unwrap();
                    }
                }
            }
        }
        told
    }

    fn restore_folder(&self, mailbox: &MailboxTruth, place: usize) {
        let of_folder = || mailbox.messages.iter().filter(|it| it.folder == place);
        let live = self.folder_at(mailbox, place, Side::Live);
        let snapshot = self.folder_at(mailbox, place, Side::Snapshot);
        for name in ["cur", "new"] {
            fs::create_dir_all(live.join(name)).unwrap();
        }
        if !live.join("dovecot-keywords").exists() {
            let _absent_on_both_sides = fs::copy(
                snapshot.join("dovecot-keywords"),
                live.join("dovecot-keywords"),
            );
        }
        let folder = &mailbox.folders[place];
        let mut lines: Vec<(u32, &str)> = of_folder()
            .filter(|message| message.uid_known && message.fate == Fate::Wanted)
            .map(|message| (message.uid.unwrap(), message.name.as_str()))
            .collect();
        lines.sort_unstable();
        let next = folder.last_uid + 100_000;
        let mut text = format!("3 V{} N{next} G0\n", folder.uid_validity);
        for (uid, name) in lines {
            text.extend([uid.to_string().as_str(), " :", name, "\n"]);
        }
        fs::write(live.join("dovecot-uidlist"), text).unwrap();
    }

    /// Says whether the message is right afterwards.
    fn restore_message(&self, mailbox: &MailboxTruth, message: &MessageTruth) -> bool {
        let astray = is_astray(mailbox, message);
        if message.live == Held::Intact || (message.fate != Fate::Wanted && !astray) {
            return true;
        }
        let live = self.place(mailbox, message, Side::Live);
        if let Some(path) = &live {
            fs::remove_file(path).unwrap();
        }
        if message.snapshot != Held::Intact {
            return false;
        }
        let snapshot = self.place(mailbox, message, Side::Snapshot).unwrap();
        let cur = self.folder(mailbox, message, Side::Live).join("cur");
        let letters: String = (b'a'..)
            .zip(words(&cur.with_file_name("dovecot-keywords")))
            .filter(|(_, word)| message.keywords.contains(&word.as_str()))
            .map(|(letter, _)| char::from(letter))
            .collect();
        let name = format!("{}:2,{}{letters}", message.name, message.flags);
        copy_with_times(&snapshot, &cur.join(name));
        true
    }
}

/// Whether its owner moved it and the storm took it where it went.
fn is_astray(mailbox: &MailboxTruth, message: &MessageTruth) -> bool {
    let of_it = |other: &&MessageTruth| {
        let origin = other.moved_from.map(|origin| &mailbox.messages[origin]);
        origin.is_some_and(|origin| std::ptr::eq(origin, message))
    };
    let moved = mailbox.messages.iter().find(of_it);
    moved.is_some_and(|moved| moved.live != Held::Intact)
        && message.snapshot == Held::Intact
}

fn words(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
}

fn inventory(site: &Site) -> Vec<u8> {
    fs::read(&site.provider.inventory_csv).unwrap()
}

fn edit_list(site: &Site, edit: impl Fn(&str) -> String) {
    let (mailbox, message) = site.find(|message| {
        let newest = message.snapshot == Held::Absent && message.moved_from.is_none();
        message.folder == 0 && newest && message.uid.is_some() && message.uid_known
    });
    let path = site.folder(mailbox, message, Side::Live).join("dovecot-uidlist");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, edit(&text)).unwrap();
}

/// Writes other bytes and keeps the time of delivery.
fn rewrite(path: &Path, bytes: &[u8]) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    fs::write(path, bytes).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
}

fn copy_with_times(from: &Path, to: &Path) {
    let modified = fs::metadata(from).unwrap().modified().unwrap();
    fs::copy(from, to).unwrap();
    File::options().write(true).open(to).unwrap().set_modified(modified).unwrap();
}
