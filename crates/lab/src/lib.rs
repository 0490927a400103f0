//! Makes broken mail providers to practise on, and counts what came back.
