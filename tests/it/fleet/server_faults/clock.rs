//! Row "clock ±1 h": leases are kept by the monotonic clock, so the wall clock may jump.
//!
//! The lease machine and the dispatcher know only the time since the process began ([`std::time::Instant`]); the wall
//! clock stands in records and logs alone, and `clippy.toml` forbids it elsewhere. Here it is made to jump for a real
//! worker, by a library that is loaded before the C library's clock: setting the machine's own clock would be felt by
//! all, and a time namespace moves only the clocks that do not count.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use maitred_testkit::{on_path, skipped, wait_until};

use super::super::faults::{Fleet, settled, until_ready};
use super::said;
use crate::common::fleet::Workload;

/// Adds the seconds in a file to the wall clock, and to no other.
const SHIFT: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(id, now);
    const char *path = getenv("SHIFT_FILE");
    if (!failed && id == CLOCK_REALTIME && path) {
        long shift = 0;
        FILE *file = fopen(path, "r");
        if (file) {
            if (fscanf(file, "%ld", &shift) == 1) now->tv_sec += shift;
            fclose(file);
        }
    }
    return failed;
}
"#;

/// The library; `None`, said on stderr, where there is no C compiler.
fn library(folder: &Path) -> Option<PathBuf> {
    let Some(compiler) = on_path("cc").into_iter().find(|path| path.is_file()) else {
        skipped("no C compiler to build a clock that jumps");
        return None;
    };
    let (source, library) = (folder.join("shift.c"), folder.join("shift.so"));
    std::fs::write(&source, SHIFT).unwrap();
    let built = Command::new(compiler)
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status()
        .unwrap();
    assert!(built.success());
    Some(library)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_that_jumps_by_an_hour_ends_no_lease() {
    // More than end between two looks, also where looks are late.
    const JOBS: usize = 20;
    let Some(fleet) = Fleet::new() else { return };
    let folder = tempfile::tempdir().unwrap();
    let Some(library) = library(folder.path()) else { return };
    let file = folder.path().join("shift");
    // Replaced at once: half a number would be another one.
    let shift = |seconds: i32| {
        std::fs::write(folder.path().join("next"), seconds.to_string()).unwrap();
        std::fs::rename(folder.path().join("next"), &file).unwrap();
    };
    shift(0);
    let slow = fleet.maitred.clone().set("sim.step", "60ms").set("worker.look_ahead", 4);
    let jumping = slow
        .environment("LD_PRELOAD", library.to_str().unwrap())
        .environment("SHIFT_FILE", file.to_str().unwrap());
    let mut worker = jumping.worker("w-1");
    until_ready(&mut worker, true);
    fleet.submit(&Workload::with(95, JOBS, |_| 20));
    for seconds in [3600, -3600, 0] {
        // Of each hour there are lines in the log, the first of which may have been begun in the one before.
        let before = settled(&worker);
        wait_until("jobs end", || settled(&worker) >= before + 2);
        shift(seconds);
    }
    let report = fleet.all_end().await;
    assert_eq!((report.results.len(), report.dead.len()), (JOBS, 0), "{}", report.told());
    assert_eq!(said(&worker, "delivered=1 "), JOBS, "a lease ended");
    assert_eq!(said(&worker, "lease lost"), 0);
    // The log tells the wall clock's hours: the jumps were real.
    let log = worker.log();
    let hours: BTreeSet<&str> = log.lines().filter_map(|line| line.get(..13)).collect();
    assert!(hours.len() >= 3, "{hours:?}");
}
