//! Methods: who may call what. The one table of it.
//!
//! # Invariants
//!
//! * Every method that is served stands here, and none else; a test compares it with the
//!   descriptors of the services.
//! * Stopping, closing and going back to the usual gates is for every operator, and for approvers too; everything else that
//!   moves a rollout is for operators, and what is dear waits for an approver besides.
//! * Addresses are shown to who answers users and who moves the rollout, to nobody else.

use crate::identity::{Identity, Role};
use Role::{Approver, Desk, Exchanger, Operator, Viewer, Worker};

/// Everybody who has a certificate.
const ALL: &[Role] = &Role::ALL;

/// The people who look.
const PEOPLE: &[Role] = &[Viewer, Desk, Operator, Approver];

/// Who asks how far it is: people, and programs that check their own installation.
const ONLOOKERS: &[Role] = &[Worker, Exchanger, Viewer, Desk, Operator, Approver];

/// Each method with those who may call it.
pub const METHODS: &[(&str, &[Role])] = &[
    ("/grpc.health.v1.Health/Check", ALL),
    ("/grpc.health.v1.Health/Watch", ALL),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", PEOPLE),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", PEOPLE),
    ("/tidegate.v1.WorkerService/Join", &[Worker]),
    ("/tidegate.v1.WorkerService/Sync", &[Worker]),
    ("/tidegate.v1.WorkerService/FetchJob", &[Worker]),
    ("/tidegate.v1.ExchangerService/Watch", &[Exchanger]),
    ("/tidegate.v1.ExchangerService/ReportQueue", &[Exchanger]),
    ("/tidegate.v1.ProgressService/GetRollout", ONLOOKERS),
    ("/tidegate.v1.ProgressService/WatchRollout", PEOPLE),
    ("/tidegate.v1.ProgressService/ListTiers", PEOPLE),
    ("/tidegate.v1.ProgressService/GetPlan", PEOPLE),
    ("/tidegate.v1.ProgressService/ListEvents", &[Operator, Approver]),
    ("/tidegate.v1.ProgressService/GetMailbox", &[Desk, Operator]),
    ("/tidegate.v1.ProgressService/ListMailboxes", &[Operator]),
    ("/tidegate.v1.ProgressService/ListFindings", &[Operator]),
    ("/tidegate.v1.DeskService/LookUp", &[Desk, Operator]),
    ("/tidegate.v1.OperatorService/Apply", &[Operator]),
    ("/tidegate.v1.OperatorService/Pause", &[Operator, Approver]),
    ("/tidegate.v1.OperatorService/Freeze", &[Operator, Approver]),
    ("/tidegate.v1.OperatorService/Thaw", &[Operator, Approver]),
    ("/tidegate.v1.OperatorService/Resume", &[Operator]),
    ("/tidegate.v1.OperatorService/Abort", &[Operator]),
    ("/tidegate.v1.OperatorService/Reclose", &[Operator]),
    ("/tidegate.v1.OperatorService/Retry", &[Operator]),
    ("/tidegate.v1.OperatorService/Accept", &[Operator]),
    ("/tidegate.v1.OperatorService/Expand", &[Operator]),
    ("/tidegate.v1.OperatorService/BeginEmergency", &[Operator]),
    ("/tidegate.v1.OperatorService/EndEmergency", &[Operator, Approver]),
    ("/tidegate.v1.OperatorService/Approve", &[Approver]),
];

/// Pages over HTTP, by how their paths begin, the longest that fits; each with those who may
/// read it and those who may send something to it.
pub const PAGES: &[(&str, &[Role], &[Role])] = &[
    ("/livez", ALL, &[]),
    ("/readyz", ALL, &[]),
    ("/metrics", PEOPLE, &[]),
    ("/desk", &[Desk, Operator], &[Desk, Operator]),
    ("/pause", &[], &[Operator, Approver]),
    ("/freeze", &[], &[Operator, Approver]),
    ("/approve", &[], &[Approver]),
    ("/", &[Viewer, Desk, Operator, Approver], &[Operator]),
];

/// Whether the gRPC method with this path is for `caller`.
pub fn may_call(caller: &Identity, path: &str) -> bool {
    let row = METHODS.iter().find(|(method, _)| *method == path);
    row.is_some_and(|(_, roles)| roles.iter().any(|role| caller.has(*role)))
}

/// Whether `caller` may read the page with this path, or send something to it.
pub fn may_see(caller: &Identity, path: &str, sends: bool) -> bool {
    who_sees(path, sends).iter().any(|role| caller.has(*role))
}

/// Those who may read the page with this path, or send something to it, as people read it.
pub fn seen_by(path: &str, sends: bool) -> String {
    names(who_sees(path, sends))
}

/// What is asked for at this path, as the tables have it: a method, or how a page's path begins.
/// Whatever else stands in a path is not ours to write down.
pub fn asked_for(path: &str) -> &'static str {
    let method = METHODS.iter().find(|(method, _)| *method == path);
    method
        .map(|(method, _)| *method)
        .or(row_of(path).map(|(start, ..)| *start))
        .unwrap_or("")
}

fn who_sees(path: &str, sends: bool) -> &'static [Role] {
    row_of(path)
        .map_or(&[], |(_, readers, senders)| if sends { senders } else { readers })
}

fn row_of(
    path: &str,
) -> Option<&'static (&'static str, &'static [Role], &'static [Role])> {
    let fits = PAGES.iter().filter(|(start, ..)| path.starts_with(start));
    fits.max_by_key(|(start, ..)| start.len())
}

/// Those who may call the method with this path, as people read it.
pub fn callers_of(path: &str) -> String {
    let row = METHODS.iter().find(|(method, _)| *method == path);
    names(row.map_or(&[][..], |(_, roles)| roles))
}

fn names(roles: &[Role]) -> String {
    roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_method_stands_twice_and_the_coordinator_asks_itself_nothing_else() {
        let mut paths: Vec<&str> = METHODS.iter().map(|(path, _)| *path).collect();
        paths.sort_unstable();
        let count = paths.len();
        paths.dedup();

        assert_eq!(paths.len(), count);
        for (path, roles) in METHODS {
            assert!(!roles.is_empty(), "{path}");
            let is_health = path.starts_with("/grpc.health.v1.");
            assert_eq!(roles.contains(&Role::Coordinator), is_health, "{path}");
        }
    }
}
