//! Carries out the rollout: serves workers, operators and readers.
