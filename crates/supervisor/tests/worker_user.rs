//! Workers of another user: real ids are theirs, effective ones the program's. One test alone in its process, which it
//! changes for good.
#![forbid(unsafe_code)]

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use bandstand_supervisor::{
    PrivilegeError, Users, drop_privileges, lock_down, run_as_self, workers_are_apart,
};

const APART: Users<'_> = Users { user: Some("nobody"), group: None, worker_user: Some("4242") };

/// The words of one line that the kernel tells of this thread; none if it has no such line.
fn status(name: &str) -> Vec<String> {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().map(str::to_owned).collect()
}

/// What a command writes, without the space around it; its failure where it cannot be run.
fn said(command: &mut Command) -> String {
    match command.output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn two_users_and_no_capability() {
    if !rustix::process::geteuid().is_root() {
        assert!(matches!(
            drop_privileges(Users { worker_user: Some("4242"), ..Users::default() }),
            Err(PrivilegeError::NotForWorkers)
        ));
        return;
    }
    let as_root = Users { worker_user: Some("root"), ..APART };
    assert!(matches!(drop_privileges(as_root), Err(PrivilegeError::WorkersAsRoot)));
    drop_privileges(APART).unwrap();
    drop_privileges(APART).expect("already so, as in an heir");
    assert!(workers_are_apart());
    assert_eq!(status("Uid:"), ["4242", "65534", "65534", "65534"]);
    assert_eq!(status("Gid:").first().map(String::as_str), Some("4242"));
    assert_eq!(status("Groups:"), ["4242"], "neither root's nor its own");
    assert_eq!((status("CapPrm:"), status("CapEff:")), (vec!["0".repeat(16)], vec!["0".repeat(16)]));

    let mut own = Command::new("sh");
    own.args(["-c", "id -u; id -ru"]);
    run_as_self(&mut own);
    assert_eq!(said(&mut own), "65534\n65534");

    // A worker is such a process, and a signal reaches it.
    let mut worker = Command::new("sleep");
    let mut worker = worker.arg("60").uid(4242).spawn().unwrap();
    worker.kill().unwrap();
    worker.wait().unwrap();

    lock_down().unwrap();
    assert_eq!(status("NoNewPrivs:"), ["1"]);
    let behavior = rustix::process::dumpable_behavior().unwrap();
    assert_eq!(behavior, rustix::process::DumpableBehavior::NotDumpable);
}
