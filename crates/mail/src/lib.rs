//! What mailboxes are made of: read, judge, compare, repair.
