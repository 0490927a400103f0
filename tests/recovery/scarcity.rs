//! Scarcity: no file descriptor is left, or no memory.

use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::{fs, io};

use crate::dice::rounds;
use crate::fleet::{self, Fleet, Ground, Which};
use crate::machine::{self, Need};
use crate::tally::Faults;
use crate::{Test, tests};

pub(crate) const TESTS: &[Test] = tests![
    a_coordinator_without_descriptors_serves_whom_it_has_and_does_not_spin,
    a_worker_with_few_descriptors_takes_no_good_mail_for_damaged,
    a_worker_that_the_kernel_kills_for_its_memory_goes_on,
];

/// Descriptors of a coordinator that shall run out of them.
const COORDINATOR_FILES: u32 = 48;

/// Descriptors of a worker that shall run out of them, from what does not even start to what
/// is nearly enough.
const WORKER_FILES: [u32; 5] = [24, 28, 32, 36, 48];

/// Memory of a worker, MiB, from what does not suffice on.
const MEMORY_MIB: [u32; 5] = [6, 9, 14, 20, 400];

/// The most processor time of a coordinator that can serve nobody new, in a hundredth of what
/// passes. A loop that spins takes half of a core.
const BUSY_PERCENT_MAX: u128 = 40;

fn a_coordinator_without_descriptors_serves_whom_it_has_and_does_not_spin() {
    let faults = Faults::of("EMFILE: coordinator");
    let mut fleet = Fleet::built(Ground::small(61));
    limit_files(&mut fleet, Which::Coordinator, COORDINATOR_FILES);
    for which in fleet.all() {
        fleet.restart(which);
    }
    fleet.apply();
    fleet.wait_for_openings();

    let address = fleet.coordinator_address().to_owned();
    let crowd: Vec<TcpStream> = (0..COORDINATOR_FILES * 2)
        .filter_map(|_| TcpStream::connect(&address).ok())
        .collect();
    faults.injected(1);
    let (before, began) = (processor_time(&fleet), std::time::Instant::now());
    std::thread::sleep(fleet::LEASE * 2);
    let busy = (processor_time(&fleet) - before) * 100 / began.elapsed().as_millis();
    drop(crowd);

    assert!(busy < BUSY_PERCENT_MAX, "it is busy for {busy} % of the time with nothing");
    fleet.account(&faults);
    faults.survived(1);
}

/// Milliseconds that the coordinator has computed.
fn processor_time(fleet: &Fleet) -> u128 {
    let pid = fleet.pid(Which::Coordinator).as_raw_nonzero();
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit(')').next().unwrap().split_whitespace();
    // User and system time, in hundredths of a second.
    fields.skip(11).take(2).map(|it| it.parse::<u128>().unwrap() * 10).sum()
}

fn a_worker_with_few_descriptors_takes_no_good_mail_for_damaged() {
    let faults = Faults::of("EMFILE: worker");
    for round in 0..rounds(1) {
        let mut fleet = Fleet::built(Ground::small(62 + round));
        for which in fleet.all() {
            if which != Which::Worker(0) {
                fleet.restart(which);
            }
        }
        fleet.apply();
        for files in WORKER_FILES {
            limit_files(&mut fleet, Which::Worker(0), files);
            fleet.kill_and_restart(Which::Worker(0));
            faults.injected(1);
            std::thread::sleep(fleet::LEASE);
        }

        fleet.run_by(Which::Worker(0), &[]);
        fleet.kill_and_restart(Which::Worker(0));
        fleet.account(&faults);
        faults.survived(WORKER_FILES.len() as u64);
    }
}

fn limit_files(fleet: &mut Fleet, which: Which, files: u32) {
    let shell = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
    fleet.run_by(which, &["sh", "-c", &shell]);
}

fn a_worker_that_the_kernel_kills_for_its_memory_goes_on() {
    let faults = Faults::of("OOM kill: worker");
    let cage = match machine::lacks(&[Need::Root]) {
        Some(lack) => Err(lack),
        None => Cage::made(),
    };
    let cage = match cage {
        Ok(cage) => cage,
        Err(lack) => return faults.skipped(&lack),
    };
    let mut fleet = Fleet::built(Ground::small(63));
    let enter =
        format!("echo $$ > {}/cgroup.procs; exec \"$0\" \"$@\"", cage.0.display());
    for which in fleet.all() {
        if which != Which::Worker(0) {
            fleet.restart(which);
        }
    }
    fleet.apply();
    let mut ended = 0;
    for mib in MEMORY_MIB {
        fleet.kill(Which::Worker(0));
        cage.narrow(mib).unwrap();
        fleet.run_by(Which::Worker(0), &["sh", "-c", &enter]);
        fleet.restart(Which::Worker(0));
        std::thread::sleep(fleet::LEASE * 2);
        ended += u64::from(fleet.ended(Which::Worker(0)).is_some());
    }
    let killed = cage.killed().unwrap();
    faults.injected(killed);

    assert!(killed > 0, "the kernel has killed nobody");
    assert!(ended >= killed, "{ended} have ended, {killed} by the kernel");
    fleet.account(&faults);
    faults.survived(killed);
}

/// A memory cgroup, of version 1 or 2.
struct Cage(PathBuf);

impl Cage {
    fn made() -> Result<Self, String> {
        let name = format!("tidegate-recovery-{}", std::process::id());
        let roots = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"];
        for root in roots {
            let cage = Self(PathBuf::from(root).join(&name));
            if fs::create_dir(&cage.0).is_ok() {
                if cage.narrow(1_000).is_ok() {
                    return Ok(cage);
                }
                drop(cage);
            }
        }
        Err("there is no memory cgroup".to_owned())
    }

    fn narrow(&self, mib: u32) -> io::Result<()> {
        let limits = ["memory.max", "memory.limit_in_bytes"];
        let limit =
            limits.into_iter().map(|name| self.0.join(name)).find(|it| it.exists());
        let limit = limit.ok_or(io::ErrorKind::NotFound)?;
        fs::write(limit, (u64::from(mib) << 20).to_string())
    }
}

impl Cage {
    /// How many processes the kernel has killed in it for their memory.
    fn killed(&self) -> io::Result<u64> {
        let files = ["memory.events", "memory.oom_control"];
        let file = files.into_iter().map(|name| self.0.join(name)).find(|it| it.exists());
        let counts = fs::read_to_string(file.ok_or(io::ErrorKind::NotFound)?)?;
        let count = counts.lines().find_map(|line| line.strip_prefix("oom_kill "));
        let count = count.and_then(|count| count.parse().ok());
        count.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl Drop for Cage {
    fn drop(&mut self) {
        // Its last process may be going this moment.
        let _removed = Command::new("rmdir").arg(&self.0).status();
    }
}
