//! Root is given away by every thread. One test alone in its process, which it changes for good.
#![forbid(unsafe_code)]

use std::fs;

use bandstand_supervisor::{PrivilegeError, Users};

fn drop_privileges(user: Option<&str>, group: Option<&str>) -> Result<(), PrivilegeError> {
    bandstand_supervisor::drop_privileges(Users { user, group, worker_user: None })
}

#[test]
fn user_and_group_change_in_every_thread() {
    drop_privileges(None, None).unwrap();
    assert!(matches!(drop_privileges(Some("no such user"), None), Err(PrivilegeError::UnknownUser(_))));
    assert!(matches!(drop_privileges(Some("root"), Some("no such")), Err(PrivilegeError::UnknownGroup(_))));
    assert!(matches!(drop_privileges(Some("a\0b"), None), Err(PrivilegeError::UnknownUser(_))));
    if !rustix::process::geteuid().is_root() {
        assert!(matches!(drop_privileges(Some("root"), None), Err(PrivilegeError::NotRoot)));
        return;
    }
    let (stop, wait) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || wait.recv());
    drop_privileges(Some("nobody"), Some("4242")).unwrap();
    let mut threads = 0;
    for thread in fs::read_dir("/proc/self/task").unwrap() {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().to_owned();
        let uid = field("Uid:");
        assert!(uid.split_whitespace().all(|id| id != "0"), "{uid}");
        assert_eq!(field("Gid:").split_whitespace().collect::<Vec<_>>(), ["4242"; 4]);
        assert!(field("Groups:").split_whitespace().all(|id| id != "0"), "root's groups are gone");
        threads += 1;
    }
    assert!(threads >= 2);
    drop_privileges(Some("nobody"), Some("4242")).expect("already so: nothing to do");
    assert!(matches!(drop_privileges(Some("root"), None), Err(PrivilegeError::NotRoot)));
    drop(stop);
    assert!(other.join().unwrap().is_err());
}
