//! What the statistics of a Dovecot say that nobody uses.

use std::time::Duration;

use tidegate_mailserver::metrics::Scrape;
use tidegate_rig::{Dovecot, DovecotSpec, Format, LOOPBACK, User};

/// Far longer than a page takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_dovecot_that_nobody_uses_yet_is_measured_all_the_same() {
    let users = vec![User::new("a@example.org", Format::Maildir)];
    let dovecot = Dovecot::start(&DovecotSpec { users, ..DovecotSpec::default() });
    let url = format!("http://{LOOPBACK}:{}/metrics", dovecot.ports().metrics);
    let [before, after] = [(); 2].map(|()| Scrape::get(&url, PATIENCE).unwrap());

    let activity = after.since(&before).activity();

    // Otherwise a wave on whose level nobody reads yet would wait for ever.
    let counted = [
        activity.lookups,
        activity.commands,
        activity.command_errors,
        activity.deliveries,
        activity.refusals,
        activity.deferrals,
        activity.storage_errors,
    ];
    assert_eq!(counted, [Some(0); 7], "{activity:?}");
}
