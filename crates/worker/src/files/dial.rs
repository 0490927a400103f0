//! Dial: empty mailboxes and their histories, for the worker's words.
//!
//! # Invariants
//!
//! * A history is put back only at the stamp that it was verified at, or where putting it back was
//!   begun already.

use std::path::Path;

use tidegate_core::fleet::Ordinal;
use tidegate_core::holding::{Look, Stamp, Switched};
use tidegate_core::rollout::{Finding, FindingKind, Origin};
use tidegate_mail::{DialState, Mailbox, PrepareTask, Refusal};

use super::FileStore;
use crate::findings::is_temporary;
use crate::store::{Dialling, Switching, Under, quarantined};

/// The most messages told of one mailbox that stay in the dial tone's store: the list in the work
/// directory has all of them.
const LEFT_OUT_MAX: usize = 500;

impl FileStore {
    pub(super) fn empty(
        &self,
        under: Under,
        mailboxes: &[(Ordinal, Mailbox)],
    ) -> anyhow::Result<Vec<(Ordinal, Dialling)>> {
        let asked: Vec<Mailbox> = mailboxes.iter().map(|(_, it)| it.clone()).collect();
        let results = self.store.dial_start(&self.task(under, &asked))?;
        let told =
            mailboxes.iter().zip(results).filter_map(|((ordinal, mailbox), result)| {
                let dialling = match result {
                    Ok(()) => Dialling::Done,
                    Err(refusal) => {
                        let told = permanent((*ordinal, mailbox), &refusal)?;
                        Dialling::Refused(Box::new(told))
                    }
                };
                Some((*ordinal, dialling))
            });
        Ok(told.collect())
    }

    pub(super) fn put_back(
        &self,
        under: Under,
        mailboxes: Vec<(Ordinal, Mailbox, Stamp)>,
    ) -> anyhow::Result<Vec<(Ordinal, Switching)>> {
        let mut told = Vec::new();
        let (mut places, mut ready) = (Vec::new(), Vec::new());
        for (ordinal, mailbox, verified) in mailboxes {
            if self.is_as_verified(&mailbox, verified) {
                places.push((ordinal, verified));
                ready.push(mailbox);
            } else {
                told.push((ordinal, Switching::Changed));
            }
        }
        let results = self.store.dial_switch(&self.task(under, &ready))?;
        let asked = places.into_iter().zip(&ready);
        for (((ordinal, verified), mailbox), result) in asked.zip(results) {
            match result {
                Ok(switched) => {
                    let never_dialled = switched.kept_at.as_os_str().is_empty();
                    let mut switched = in_words(ordinal, &switched);
                    if never_dialled {
                        // The look before it opens tells whether it is still so.
                        switched.stamp = verified;
                    }
                    told.push((ordinal, Switching::Done(switched)));
                }
                Err(refusal) => told.extend(
                    permanent((ordinal, mailbox), &refusal)
                        .map(|why| (ordinal, Switching::Refused(why))),
                ),
            }
        }
        Ok(told)
    }

    /// Whether the history may be put back. Once that was begun it has changed by our own hand.
    fn is_as_verified(&self, mailbox: &Mailbox, verified: Stamp) -> bool {
        match self.store.dial_state(mailbox) {
            Ok(DialState::Dialled) => {
                self.store.stamp(mailbox).is_ok_and(|stamp| stamp.0 == verified)
            }
            // What is wrong is said by who puts it back.
            Ok(DialState::None | DialState::Begun | DialState::Switching) | Err(_) => {
                true
            }
        }
    }

    /// Ends what was under way when the program ended, so that it is settled where histories are.
    pub(super) fn settle_dial(
        &self,
        under: Under,
        mailboxes: &[Mailbox],
    ) -> anyhow::Result<()> {
        let in_state = |wanted: DialState| -> Vec<Mailbox> {
            let state = |it: &&Mailbox| self.store.dial_state(it).ok() == Some(wanted);
            mailboxes.iter().filter(state).cloned().collect()
        };
        let (begun, switching) =
            (in_state(DialState::Begun), in_state(DialState::Switching));
        // Who is refused here is refused again, in words, by who asked.
        if !begun.is_empty() {
            self.store.dial_start(&self.task(under, &begun))?;
        }
        if !switching.is_empty() {
            self.store.dial_switch(&self.task(under, &switching))?;
        }
        Ok(())
    }

    /// The mailbox as it stands, or its history if that is beside.
    pub(super) fn look_at(&self, mailbox: &Mailbox) -> Look {
        let stamp = self.store.stamp(mailbox);
        match (self.store.dial_state(mailbox), stamp) {
            (Ok(DialState::None), Ok(stamp)) => Look::Stamp(stamp.0),
            (Ok(DialState::Dialled), Ok(stamp)) => Look::Beside(stamp.0),
            _ => Look::Impossible,
        }
    }

    fn task<'a>(&'a self, under: Under, mailboxes: &'a [Mailbox]) -> PrepareTask<'a> {
        PrepareTask {
            job: under.job.get(),
            generation: under.generation.get(),
            holder: &self.holder,
            mailboxes,
        }
    }
}

/// Why it will not be done; nothing if it must be tried again.
fn permanent(
    (ordinal, mailbox): (Ordinal, &Mailbox),
    refusal: &Refusal,
) -> Option<Finding> {
    let reason = || mailbox.unnamed(&refusal.to_string());
    let told = || quarantined(ordinal, refusal.code().to_owned(), reason());
    (!is_temporary(refusal)).then(told)
}

fn in_words(ordinal: Ordinal, switched: &tidegate_mail::Switched) -> Switched {
    let kept_at = |folder: &str, name: &str| {
        let store = switched.kept_at.display();
        let path = Path::new(folder).join(name);
        format!("{store}: {}", path.display())
    };
    let findings = switched.left_out.iter().take(LEFT_OUT_MAX).map(|it| Finding {
        ordinal,
        kind: FindingKind::SetAside,
        folder: it.folder.clone(),
        uid: None,
        name: it.name.clone(),
        code: "not-imported".to_owned(),
        reason: format!("came during the dial tone: {}", it.why),
        size_bytes: 0,
        kept_at: kept_at(&it.folder, &it.name),
        origin: Origin::default(),
    });
    Switched {
        ordinal,
        stamp: switched.stamp.0,
        imported: switched.imported,
        findings: findings.collect(),
    }
}
