//! An append-only sequence of records that survives a crash.
