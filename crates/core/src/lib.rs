//! Decides: inventory, policy, plan, gate, rollout. No clock, disk, network, tasks or logs.
