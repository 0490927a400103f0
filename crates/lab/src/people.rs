//! People: who has a mailbox at the practice provider, and what it is like.
//!
//! # Invariants
//!
//! * A person is a function of seed and number alone.
//! * Addresses are unique, lower case, and safe as path components and CSV fields.

use crate::chance::Chance;

/// When the snapshot was taken: 2026-11-20 02:00 UTC. The lab reads no clock.
pub(crate) const SNAPSHOT_TIME: i64 = 1_795_140_000;
/// How far back a mailbox's mail reaches: two years.
pub(crate) const HISTORY_SECONDS: i64 = 63_072_000;
/// How long the store lived on between snapshot and storm: six hours.
pub(crate) const AFTERMATH_SECONDS: i64 = 21_600;

/// One mailbox owner.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    /// Which mailbox of the provider this is.
    pub(crate) number: u64,
    /// The address, which is also the name of the mailbox.
    pub(crate) address: String,
    /// What stands before and behind the `@`.
    pub(crate) user: String,
    /// The mail domain.
    pub(crate) domain: &'static str,
    /// Which node holds the mailbox.
    pub(crate) node: usize,
    /// `free`, `paid` or `business`.
    pub(crate) tier: &'static str,
    /// `it`, `de`, `ja` or `en`.
    pub(crate) language: &'static str,
    /// How many messages the mailbox held when it was healthy.
    pub(crate) messages: u64,
    /// Whether the mailbox was created after the snapshot.
    pub(crate) newcomer: bool,
}

const DOMAINS: [(&str, &str); 6] = [
    ("posta.example", "it"),
    ("mailhaus.example", "de"),
    ("yubin.example", "ja"),
    ("harbour.example", "en"),
    ("studio-verdi.example", "it"),
    ("werkstatt.example", "de"),
];
const LANGUAGES: [&str; 4] = ["it", "de", "ja", "en"];
const FIRST: [&str; 16] = [
    "anna", "marco", "giulia", "luca", "heike", "jonas", "lena", "uwe", "yuki", "haruto",
    "sakura", "ren", "emma", "oliver", "grace", "noah",
];
const LAST: [&str; 16] = [
    "rossi", "bianchi", "ferrari", "greco", "schmidt", "krause", "vogel", "weber",
    "tanaka", "sato", "mori", "kimura", "baker", "wright", "hughes", "clark",
];

/// How a provider's people are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Census {
    /// Names the whole provider.
    pub(crate) seed: u64,
    /// How many people there are.
    pub(crate) mailboxes: u64,
    /// Over how many nodes they are spread.
    pub(crate) nodes: u64,
    /// Mean messages for each of them.
    pub(crate) messages: u64,
}

impl Census {
    /// Person `number`.
    pub(crate) fn person(&self, number: u64) -> Person {
        let mut dice = Chance::new(self.seed, "person", number);
        let (domain, mother_tongue) = dice.pick(&DOMAINS, ("harbour.example", "en"));
        let language =
            if dice.percent(85) { mother_tongue } else { dice.pick(&LANGUAGES, "en") };
        let tier = match dice.below(10) {
            0..=5 => "free",
            6..=8 => "paid",
            _ => "business",
        };
        let first = dice.pick(&FIRST, "alex");
        let user = format!("{first}.{}{number}", dice.pick(&LAST, "smith"));
        let node = usize::try_from(number % self.nodes.max(1)).unwrap_or(0);
        let messages = if dice.percent(3) {
            0
        } else {
            dice.between(self.messages / 4, self.messages.saturating_mul(7) / 4 + 1)
        };
        Person {
            number,
            address: format!("{user}@{domain}"),
            user,
            domain,
            node,
            tier,
            language,
            messages,
            newcomer: dice.hits(10_000),
        }
    }

    /// Anybody but `number`: whose mail a confused disk delivers instead.
    pub(crate) fn somebody_else(&self, number: u64, dice: &mut Chance) -> Option<Person> {
        (0..8)
            .map(|_| dice.below(self.mailboxes))
            .filter(|other| *other != number)
            .map(|other| self.person(other))
            .find(|person| person.messages > 0)
    }
}

impl Person {
    /// Where the mailbox lies below its node's mail root.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}/Maildir", self.domain, self.user)
    }

    /// The first second of this mailbox's mail.
    fn since(&self) -> i64 {
        if self.newcomer { SNAPSHOT_TIME + 60 } else { SNAPSHOT_TIME - HISTORY_SECONDS }
    }

    /// When message `number` arrived: later for higher numbers; after the snapshot when it
    /// is none of the first ones, or the whole mailbox is younger.
    pub(crate) fn arrival(&self, number: u64) -> i64 {
        if let Some(late) = number.checked_sub(self.messages)
            && !self.newcomer
        {
            let late = i64::try_from(late).unwrap_or(0);
            return SNAPSHOT_TIME + 60 + late * 977 % (AFTERMATH_SECONDS - 60);
        }
        let span = if self.newcomer { AFTERMATH_SECONDS - 120 } else { HISTORY_SECONDS };
        let step = span / i64::try_from(self.messages.max(1)).unwrap_or(1);
        let number = i64::try_from(number).unwrap_or(0);
        let wobble = (number * 7919 + 13) % step.max(1);
        self.since() + number * step + wobble
    }
}
