//! An evening with real servers: three storage nodes come back, wave by wave.
//!
//! `cargo test --test evening -- --nocapture` shows the transcript.
//!
//! # Invariants
//!
//! * What users get is seen through the mail servers' own protocols, and counted by an
//!   independent client that shares nothing with the programs it judges.
//! * Mail is sent all the while, and every message must be there once.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test may say no more than that it failed"
)]

#[path = "evening/post.rs"]
mod post;
#[path = "evening/site.rs"]
mod site;

use post::Post;
use site::Site;
use tidegate_rig::{Imap, PASSWORD};

/// Where all services work.
const TOP: u32 = 4;

#[test]
fn after_an_evening_everybody_has_his_mail_and_nobody_lost_any() {
    let mut site = Site::start(20_261_122);
    let post = Post::open(&site);
    site.run("mx");

    site.say("nothing has begun: whoever has the right password is told to wait");
    for node in &site.nodes {
        let user = site.somebody_on(&node.name);
        for reply in node.replies(&user) {
            site.say(&format!("  {} {reply}", node.name));
            assert_held(&reply);
        }
    }

    site.apply();
    site.operate(&["pause", "--reason", "prepare first"]);
    site.say("the world goes on sending");
    let anybody = site.somebody_on("stor-01");
    site.wait("the mail exchanger knows the plan", |_| post.takes(&anybody));
    let users: Vec<String> = site.users().step_by(2).collect();
    for user in &users {
        post.send(user);
    }
    site.say(&format!("  {} messages accepted, none delivered", post.sent()));
    site.wait("all of it waits in the queue", |_| post.queued() == post.sent());

    site.operate(&["resume", "--reason", "go"]);
    let first: Vec<String> = wait_for_first_wave(&site);
    site.say(&format!("wave 1 is open: {} mailboxes", first.len()));
    let visitor = first[0].clone();
    let mut imap = site.node(&visitor).dovecot.imap(&visitor);
    imap.command("SELECT INBOX");
    site.say("  a phone stays logged in");

    reclose_under_delivery(&mut site, &post, &first, &mut imap);

    site.wait("the rollout finishes", |site| site.status()["state"] == "finished");
    let aside = site.set_aside();
    let open = site.open(TOP);
    site.say(&format!("{} mailboxes are open, {} set aside", open.len(), aside.len()));
    assert_eq!(open.len() + aside.len(), usize::try_from(site::MAILBOXES).unwrap());
    let waits = post.sent_to(&aside);
    site.wait("the queue is drained", |_| post.queued() == waits);
    site.say(&format!("the queue is drained; {waits} wait for those set aside"));

    let counted = site.count(&open, &post.by_user());
    site.say(&format!("counted over IMAP: {}", counted["counts"]));
    assert_eq!(counted["complaints"], serde_json::json!([]), "{counted:#}");
    assert_eq!(
        counted["counts"]["sent, there once"].as_u64().unwrap_or(0),
        u64::try_from(post.sent() - waits).unwrap(),
    );
    for user in &aside {
        let node = site.node(user);
        for reply in node.replies(user) {
            assert_held(&reply);
        }
    }
}

/// Waits until every mailbox of the first wave that was not set aside has all services.
fn wait_for_first_wave(site: &Site) -> Vec<String> {
    let of_first = || {
        let mailboxes = site.mailboxes();
        let first = site.status()["waves"][0]["name"].clone();
        mailboxes.into_iter().filter(move |it| first == it.wave.as_str())
    };
    let is_open = |it: &tidegate_wire::v1::Mailbox| {
        it.level >= TOP || it.preparation() == tidegate_wire::v1::Preparation::Quarantined
    };
    site.wait("wave 1 is open", |_| {
        let mut wave = of_first().peekable();
        wave.peek().is_some() && wave.all(|it| is_open(&it))
    });
    of_first().filter(|it| it.level >= TOP).map(|it| it.address).collect()
}

/// Closes the first wave again while mail for it comes in, though a worker is killed in the
/// middle of it, and opens it again.
fn reclose_under_delivery(
    site: &mut Site,
    post: &Post,
    wave: &[String],
    inside: &mut Imap,
) {
    site.say("something looks odd: wave 1 is closed again, under delivery");
    let sending = post.keep_sending(wave);
    close_and_kill(site, post, wave);
    site.wait("wave 1 is held on every node", |site| {
        let open = site.open(1);
        wave.iter().all(|user| !open.contains(user))
    });
    site.say("  acknowledged: held on every node, nobody inside");
    let end = inside.talk().try_read();
    site.say(&format!("  the phone that was inside was told: {end:?}"));
    assert!(end.is_none_or(|end| end.starts_with("* BYE")));
    for user in wave.iter().take(5) {
        for reply in site.node(user).replies(user) {
            assert_held(&reply);
        }
    }
    site.say("  it was nothing: resume");
    site.operate(&["resume", "wave", "0", "--reason", "was nothing"]);
    site.operate(&["resume", "--reason", "was nothing"]);
    site.wait("wave 1 is open again", |site| {
        let open = site.open(TOP);
        wave.iter().all(|user| open.contains(user))
    });
    sending.stop();
    site.say(&format!("  wave 1 is open again; {} messages sent so far", post.sent()));
    let user = &wave[0];
    Imap::login(site.node(user).dovecot.ports().imap, user, PASSWORD);
}

/// Begins to close the wave, kills a worker while it waits for a delivery that is under way, and
/// starts it again.
fn close_and_kill(site: &mut Site, post: &Post, wave: &[String]) {
    let on_first = |user: &&String| site.node(user).name == "stor-01";
    let user = wave.iter().find(on_first).unwrap().clone();
    let mut delivery = site.node(&user).dovecot.lmtp();
    delivery.say(&format!("RCPT TO:<{user}>"), "250 ");
    site.operate(&["reclose", "wave", "0", "--reason", "looks odd"]);
    site.wait("the worker has closed its doors", |site| {
        site.node(&user).dovecot.rcpt(&user).starts_with("451 ")
    });

    site.kill("worker-1");

    assert!(site.open(1).contains(&user), "its closing was not over");
    site.say("  the worker of stor-01 is killed while a delivery is under way");
    site.run("worker-1");
    let (mark, message) = Post::letter_by_hand(&user);
    delivery.say("DATA", "354 ");
    delivery.send_message(message.as_bytes());
    let said = delivery.read();
    site.say(&format!("  the delivery that was under way ends with: {said}"));
    assert!(said.starts_with("250 "), "{said}");
    post.note(&user, mark);
    delivery.send("QUIT");
}

/// A reply that tells to come back later, and never asks for another password or says that
/// nobody is there.
fn assert_held(reply: &str) {
    let temporary = ["[UNAVAILABLE]", "[SYS/TEMP]", "454 4.7.0", "TRYLATER", "451 4.3.0"];
    assert!(temporary.iter().any(|it| reply.contains(it)), "{reply}");
    let permanent = ["AUTHENTICATIONFAILED", "[AUTH]", "535", "550", "525"];
    assert!(permanent.iter().all(|it| !reply.contains(it)), "{reply}");
}
