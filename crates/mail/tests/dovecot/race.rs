//! Race: somebody changes a mailbox of Dovecot's while it is prepared.
//!
//! # Invariants
//!
//! * Whatever an attempt ends in, afterwards mail programs find all that was there and all that came.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use serde_json::Value;
use tidegate_mail::{Mailbox, PrepareTask, Store};

use crate::judge;
use crate::kind::Kind;
use crate::life;
use crate::server::{Dovecot, Indexes, Site, User, copy, hand_over, open_directory};
use crate::swap::{Flag, Outside, SECRET_WORDS};

const KINDS: [Kind; 3] = [Kind::Maildir, Kind::Sdbox, Kind::Mdbox];

/// Messages that come while mailboxes are prepared.
const DELIVERIES: u32 = 12;

#[test]
fn dbox_directories_swapped_for_links_while_we_walk_lead_nowhere() {
    let scene = Scene::filled();
    let names: Vec<String> = ["u.1", "u.2", "u.3", "m.1", "m.2", "dovecot.index.log"]
        .map(str::to_owned)
        .into_iter()
        .collect();
    let directories = ["", "INBOX", "INBOX/dbox-Mails", "dbox-Mails", "storage"];
    let before = scene.look();
    let sdbox = scene.live(Kind::Sdbox);
    fs::write(sdbox.join("mailboxes/INBOX/dbox-Mails/u.4"), b"").unwrap();
    let mdbox = scene.live(Kind::Mdbox);
    let storage = fs::File::options().write(true).open(mdbox.join("storage/m.1"));
    storage.unwrap().set_len(20_000).unwrap();
    let store = crate::open_store(scene.dir.path());
    store.claim(1, 1, "worker").unwrap();

    let of_sdbox = ["", "/mailboxes", "/mailboxes/INBOX/dbox-Mails"];
    let of_mdbox = ["", "/mailboxes", "/mailboxes/INBOX/dbox-Mails", "/storage"];
    let of_sdbox = of_sdbox.map(|place| (Kind::Sdbox, place));
    for (kind, place) in of_sdbox.into_iter().chain(of_mdbox.map(|it| (Kind::Mdbox, it)))
    {
        let outside = Outside::inside(scene.dir.path(), &directories, &names);
        let mut path = scene.live(kind).into_os_string();
        path.push(place);
        outside.swapped_for(Path::new(&path), || prepare(&store, kind));
        assert_eq!(prepare(&store, kind), "prepared", "{place}");
    }

    let grep = Command::new("grep")
        .args(["--recursive", "--files-with-matches", SECRET_WORDS])
        .args([scene.dir.path().join("work"), scene.dir.path().join("live")])
        .output();
    let copied = String::from_utf8(grep.unwrap().stdout).unwrap();
    assert_eq!(copied, "", "what is outside was copied");
    let after = scene.look();
    let views = before.iter().zip(&after);
    let questions: Vec<Value> = views
        .map(|(before, after)| serde_json::json!({ "before": before, "after": after }))
        .collect();
    assert_eq!(judge::compare(&questions).0, ["15 same"; 3]);
}

#[test]
fn mail_that_is_delivered_meanwhile_is_neither_lost_nor_doubled() {
    let scene = Scene::filled();
    let before = scene.look();
    let store = crate::open_store(scene.dir.path());
    store.claim(1, 1, "worker").unwrap();
    let dovecot = Dovecot::start(scene.site());

    let is_over = Flag::default();
    let mut ends = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            let _over = is_over.raised_at_the_end();
            for number in 40..40 + DELIVERIES {
                for user in &scene.users {
                    let letter = life::letters(number..=number);
                    dovecot.deliver(&user.address, &letter).unwrap();
                }
            }
        });
        while !is_over.is_raised() {
            for kind in KINDS {
                ends.push(prepare(&store, kind));
            }
        }
    });

    assert!(ends.iter().all(|end| ["prepared", "changed"].contains(end)), "{ends:?}");
    let after = judge::look(&dovecot, &scene.users);
    assert_eq!(dovecot.stop(), [""; 0]);
    for (before, after) in before.iter().zip(&after) {
        let inbox = |view: &Value| {
            view["folders"]["INBOX"]["messages"].as_object().unwrap().clone()
        };
        let (old, mut new) = (inbox(before), inbox(after));
        for (uid, message) in old {
            assert_eq!(new.remove(&uid), Some(message), "UID {uid}");
        }
        assert_eq!(new.len(), DELIVERIES as usize);
    }
}

/// One mailbox of each format, the same live and in the snapshot.
struct Scene {
    dir: tempfile::TempDir,
    root: PathBuf,
    users: Vec<User>,
}

impl Scene {
    fn filled() -> Self {
        let dir = open_directory();
        let root = dir.path().join("live");
        for root in [&root, &dir.path().join("work")] {
            fs::create_dir(root).unwrap();
        }
        hand_over(&root);
        let user = |kind: Kind| User { address: kind.owner(), kind };
        let scene = Self { root, users: KINDS.map(user).to_vec(), dir };
        let dovecot = Dovecot::start(scene.site());
        for user in &scene.users {
            life::begin(&dovecot, &user.address);
        }
        assert_eq!(dovecot.stop(), [""; 0]);
        copy(&scene.root, &scene.dir.path().join("snapshot"));
        scene
    }

    fn site(&self) -> Site<'_> {
        let (dir, root, users) = (self.dir.path(), &self.root, &self.users);
        Site { dir, root, indexes: Indexes::Logged, users }
    }

    fn look(&self) -> Vec<judge::View> {
        let dovecot = Dovecot::start(self.site());
        let views = judge::look(&dovecot, &self.users);
        assert_eq!(dovecot.stop(), [""; 0]);
        views
    }

    fn live(&self, kind: Kind) -> PathBuf {
        self.root.join(User { address: kind.owner(), kind }.path())
    }
}

/// How an attempt ends.
fn prepare(store: &Store, kind: Kind) -> &'static str {
    let user = User { address: kind.owner(), kind };
    let path = user.path().into_bytes();
    let key = kind as u64;
    let mailboxes = [Mailbox { key, address: user.address, path, served: false }];
    let task =
        PrepareTask { job: 1, generation: 1, holder: "worker", mailboxes: &mailboxes };
    match store.prepare(&task).unwrap().pop().unwrap() {
        Ok(_) => "prepared",
        Err(refusal) => refusal.code(),
    }
}
