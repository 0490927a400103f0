//! Carries out a node's orders: prepares, opens and probes its mailboxes.
