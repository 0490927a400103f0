//! Answers: where mail goes now, from the newest view.
//!
//! # Invariants
//!
//! * Fail safe: without a complete view, for a node without next hop, and for what is not
//!   known open when the coordinator has been silent for long, the answer is "later".
//! * Mail for a mailbox that is held waits under the transport for held mail, always with
//!   the next hop of its node: a transport without one would bounce what is flushed.
//! * Nobody is called unknown: who is not in the inventory is the mail server's business.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tidegate_admission::{Next, Transport};

use crate::directory::Directory;
use crate::view::Newest;

/// How mail servers reach nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hops {
    /// The transport that delivers, for example `lmtp`.
    pub deliver: String,
    /// The transport that keeps, for example `held`.
    pub hold: String,
    /// The next hop of a node that is not named below: `inet:{node}:24`.
    pub template: Option<String>,
    /// The next hops of single nodes.
    pub nodes: BTreeMap<String, String>,
}

/// Where a template wants the node's name.
pub const NODE_PLACE: &str = "{node}";

impl Hops {
    /// The next hop of a node, if there is one for it.
    pub fn hop(&self, node: &str) -> Option<String> {
        let template = || Some(self.template.as_ref()?.replace(NODE_PLACE, node));
        self.nodes.get(node).cloned().or_else(template)
    }
}

/// Answers mail servers from the newest view.
#[derive(Debug)]
pub(crate) struct Answers {
    /// The newest view.
    pub(crate) newest: Newest,
    /// How mail servers reach nodes.
    pub(crate) hops: Hops,
    /// What divides an address from its extension.
    pub(crate) delimiters: String,
    /// What is not known open becomes unknown when the coordinator has been silent for so
    /// long.
    pub(crate) silence_max: Duration,
    /// Made when first needed.
    pub(crate) routes: RwLock<Option<Arc<Routes>>>,
}

/// Where the mail of each node of a directory goes.
#[derive(Debug)]
pub(crate) struct Routes {
    directory: Arc<Directory>,
    /// By node: delivering and keeping; nothing without a next hop.
    nodes: Vec<Option<(Arc<str>, Arc<str>)>>,
}

impl Answers {
    fn routes(&self, directory: &Arc<Directory>) -> Arc<Routes> {
        let known = self.routes.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known
            && Arc::ptr_eq(&known.directory, directory)
        {
            return known;
        }
        let route = |node: &String| {
            let hop = self.hops.hop(node);
            if hop.is_none() {
                tracing::error!(
                    node,
                    "no next hop: mail for this node is told to come later; name one in \
                     [next_hop]"
                );
            }
            let transport = |name: &str, hop: &str| Arc::from(format!("{name}:{hop}"));
            let Hops { deliver, hold, .. } = &self.hops;
            hop.map(|hop| (transport(deliver, &hop), transport(hold, &hop)))
        };
        let nodes = directory.nodes().iter().map(route).collect();
        let made = Arc::new(Routes { directory: Arc::clone(directory), nodes });
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        *routes = Some(Arc::clone(&made));
        made
    }

    fn is_silent(&self) -> bool {
        self.newest.silence().is_none_or(|silence| silence > self.silence_max)
    }
}

impl Transport for Answers {
    fn transport(&self, recipient: &str) -> Next {
        let Some(view) = self.newest.view() else { return Next::Unknown };
        let directory = view.directory();
        let mailbox = directory.find_recipient(recipient, &self.delimiters);
        let Some(mailbox) = mailbox else { return Next::NotOurs };
        let routes = self.routes(directory);
        let route = routes.nodes.get(directory.node(mailbox).index());
        let Some(Some((deliver, hold))) = route else { return Next::Unknown };
        if view.receives(mailbox) {
            Next::Deliver(Arc::clone(deliver))
        } else if self.is_silent() {
            Next::Unknown
        } else {
            Next::Hold(Arc::clone(hold))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::tests::view;
    use tidegate_core::fleet::MailboxNumber;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn without_a_view_everything_is_temporary() {
        let answers = answers(Newest::nothing(), hops());

        assert_eq!(answers.transport("user1@example.org"), Next::Unknown);
        assert_eq!(answers.transport("somebody@example.net"), Next::Unknown);
    }

    #[test]
    fn open_is_delivered_held_is_kept_and_strangers_are_not_ours() {
        let (newest, answers) = answering();
        newest.heard(Duration::ZERO);
        let (deliver, keep) = ("lmtp:inet:n1:24", "held:inet:10.0.0.2:2424");

        assert_eq!(answers.transport("user1@example.org"), Next::Deliver(deliver.into()));
        assert_eq!(answers.transport("user7@example.org"), Next::Hold(keep.into()));
        assert_eq!(answers.transport("user7+x@example.org"), Next::Hold(keep.into()));
        assert_eq!(answers.transport("nobody@example.org"), Next::NotOurs);
        assert_eq!(answers.transport("sender@example.net"), Next::NotOurs);
    }

    #[test]
    fn a_long_silence_makes_what_is_held_temporary_and_keeps_what_is_open() {
        let (newest, answers) = answering();
        let deliver = Next::Deliver("lmtp:inet:n1:24".into());
        assert_eq!(answers.transport("user7@example.org"), Next::Unknown, "never heard");

        newest.heard(HOUR * 2);
        assert_eq!(answers.transport("user7@example.org"), Next::Unknown);
        assert_eq!(answers.transport("user1@example.org"), deliver);

        newest.heard(HOUR / 2);
        assert!(matches!(answers.transport("user7@example.org"), Next::Hold(_)));
    }

    #[test]
    fn a_node_without_next_hop_is_temporary() {
        let newest = Newest::nothing();
        newest.replace(view(10));
        newest.heard(Duration::ZERO);
        let hops = Hops { template: None, ..hops() };
        let answers = answers(newest, hops);

        assert_eq!(answers.transport("user1@example.org"), Next::Unknown);
        assert!(matches!(answers.transport("user7@example.org"), Next::Hold(_)));
    }

    fn answering() -> (Newest, Answers) {
        let newest = Newest::nothing();
        let view = view(10);
        view.set(MailboxNumber::new(1), true);
        newest.replace(view);
        (newest.clone(), answers(newest, hops()))
    }

    fn answers(newest: Newest, hops: Hops) -> Answers {
        let (delimiters, routes) = ("+".to_owned(), RwLock::default());
        Answers { newest, hops, delimiters, silence_max: HOUR, routes }
    }

    fn hops() -> Hops {
        let second = ("n2".to_owned(), "inet:10.0.0.2:2424".to_owned());
        Hops {
            deliver: "lmtp".to_owned(),
            hold: "held".to_owned(),
            template: Some("inet:{node}:24".to_owned()),
            nodes: BTreeMap::from([second]),
        }
    }
}
