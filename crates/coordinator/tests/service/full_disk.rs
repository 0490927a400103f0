//! A disk that fills up in the middle of a rollout.
//!
//! The test starts itself again as a process whose files may not grow: what such a process
//! has acknowledged must be there when another one starts with room.

use std::path::Path;
use std::process::Command;

use tidegate_core::fleet::Ordinal;
use tidegate_core::rollout::{
    Finding, FindingKind, JobReport, MessageTotals, Origin, Sync,
};

use crate::fleet::{Coordinator, Worker, data_dir, rows};

/// Says to the process started again where it shall work.
const DIR: &str = "TIDEGATE_TEST_FULL_DISK_DIR";

/// How large files may grow, in the shell's units: some megabytes in any shell.
const FILE_BLOCKS_MAX: u32 = 4_096;

/// The exit code for a store that fails.
const STORE_FAILED: i32 = 74;

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_it_ends_and_nothing_acknowledged_is_lost() {
    if let Some(dir) = std::env::var_os(DIR) {
        return report_for_ever(Path::new(&dir)).await;
    }
    let dir = data_dir();

    let path = dir.path().to_owned();
    let code =
        tokio::task::spawn_blocking(move || run_without_room(&path)).await.unwrap();
    let acknowledged = std::fs::read_to_string(acknowledged_in(dir.path())).unwrap();
    let acknowledged: u64 = acknowledged.parse().unwrap();
    let coordinator = Coordinator::start_again(dir.path()).await;
    let kept = coordinator.rollout().await.totals.unwrap().intact;

    assert_eq!(code, Some(STORE_FAILED));
    assert!(
        (acknowledged..=acknowledged + 1).contains(&kept),
        "{kept} of {acknowledged}"
    );
    coordinator.stop().await;
}

/// Runs this very test in a process whose files may not grow beyond some megabytes.
fn run_without_room(dir: &Path) -> Option<i32> {
    // An ignored signal stays ignored, so that writing fails instead of killing.
    let script = format!("trap '' XFSZ; ulimit -f {FILE_BLOCKS_MAX}; exec \"$0\" \"$@\"");
    let name = "full_disk::on_a_full_disk_it_ends_and_nothing_acknowledged_is_lost";
    let mut shell = Command::new("sh");
    shell.args(["-c", &script]).arg(std::env::current_exe().unwrap());
    shell.args(["--exact", name]).env(DIR, dir);
    shell.output().unwrap().status.code()
}

/// Reports ever more, and writes down what was acknowledged.
async fn report_for_ever(dir: &Path) {
    let coordinator = Coordinator::start(dir).await;
    coordinator.apply(rows(20)).await;
    let mut worker = Worker::join(&coordinator, "n1", 11).await.unwrap();
    worker.beat().await;
    for told in 1.. {
        if worker.tell(bulky(worker.sync(), told)).await.is_err() {
            continue;
        }
        std::fs::write(acknowledged_in(dir), told.to_string()).unwrap();
    }
}

/// A report of one job whose totals are `told` and whose findings fill the disk.
fn bulky(sync: Sync, told: u64) -> Sync {
    let finding = |place: u64| Finding {
        ordinal: Ordinal::new(0),
        kind: FindingKind::Doubt,
        folder: String::new(),
        uid: None,
        name: format!("{told}.{place}"),
        code: "doubt".to_owned(),
        reason: noise(told * 100 + place),
        size_bytes: 0,
        kept_at: String::new(),
        origin: Origin::default(),
    };
    let bulk = |report: JobReport| JobReport {
        totals: MessageTotals { intact: told, ..MessageTotals::default() },
        findings: (0..20).map(finding).collect(),
        ..report
    };
    Sync { reports: sync.reports.into_iter().take(1).map(bulk).collect(), ..sync }
}

/// Some kilobytes that no store can press together.
fn noise(seed: u64) -> String {
    let next =
        |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    let words = std::iter::successors(Some(seed), next).take(256);
    words.map(|word| format!("{word:016x}")).collect::<Vec<_>>().join(" ")
}

fn acknowledged_in(dir: &Path) -> std::path::PathBuf {
    dir.join("acknowledged")
}
