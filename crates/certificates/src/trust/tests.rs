//! What is done on which machine, as a person would type it.

use std::fs;
use std::path::PathBuf;

use super::*;

fn kept(label: &str, file: &str) -> Kept {
    Kept {
        file: format!("/home/ada/.local/state/bandstand/local/{file}").into(),
        name: format!("Bandstand local authority {label}"),
        label: label.to_owned(),
    }
}

fn machine(system: &str) -> Machine {
    let row = |name| System::Folder(system::TABLE.iter().find(|row| row.name == name).unwrap());
    Machine {
        system: match system {
            "macOS" => System::MacOs,
            "unknown" => System::Unknown,
            name => row(name),
        },
        anchors: Vec::new(),
        home: "/home/ada".into(),
        root: false,
        databases: Vec::new(),
        certutil: true,
        packages: "apt-get install libnss3-tools",
    }
}

/// `#` before what only root may, `?` before what may fail, `!` before what is lacking.
fn lines(machine: &Machine, wish: Wish, former: &[Kept]) -> Vec<String> {
    let present = kept("aa11", "authority.crt");
    let steps = plan(machine, wish, Some(&present), former);
    let line = |step: &Step| match step {
        Step::Run(command) if command.needs_root => format!("# {command}"),
        Step::Run(command) if command.may_fail => format!("? {command}"),
        Step::Run(command) => command.to_string(),
        Step::Lacking(sentence) => format!("! {sentence}"),
    };
    steps.iter().map(line).collect()
}

const FILE: &str = "/home/ada/.local/state/bandstand/local/authority.crt";

#[test]
fn each_system_has_its_way() {
    for (system, folder, update) in [
        ("Debian", "/usr/local/share/ca-certificates", "update-ca-certificates"),
        ("Fedora", "/etc/pki/ca-trust/source/anchors", "update-ca-trust extract"),
        ("Arch", "/etc/ca-certificates/trust-source/anchors", "trust extract-compat"),
        ("openSUSE", "/etc/pki/trust/anchors", "update-ca-certificates"),
    ] {
        let mut machine = machine(system);
        let anchor = format!("{folder}/bandstand-aa11.crt");
        let wanted = [format!("# install -m 0644 {FILE} {anchor}"), format!("# {update}")];
        assert_eq!(lines(&machine, Wish::Trust, &[]), wanted, "{system}");
        assert!(lines(&machine, Wish::Untrust, &[]).is_empty(), "{system}: it is not there");
        machine.anchors = vec![PathBuf::from(&anchor)];
        let fresh = if system == "Debian" { " --fresh" } else { "" };
        let wanted = [format!("# rm -f {anchor}"), format!("# {update}{fresh}")];
        assert_eq!(lines(&machine, Wish::Untrust, &[]), wanted, "{system}");
    }
}

#[test]
fn a_former_authority_goes_when_another_comes() {
    let mut machine = machine("Debian");
    machine.anchors = vec!["/usr/local/share/ca-certificates/bandstand-bb22.crt".into()];
    machine.databases =
        vec![Database { folder: "/home/ada/.pki/nssdb".into(), browser: "Chromium", made: true }];
    let former = [kept("bb22", "former-bb22.crt"), kept("cc33", "former-cc33.crt")];
    let store = "-d sql:/home/ada/.pki/nssdb";
    assert_eq!(
        lines(&machine, Wish::Trust, &former),
        [
            "# rm -f /usr/local/share/ca-certificates/bandstand-bb22.crt".to_owned(),
            format!("# install -m 0644 {FILE} /usr/local/share/ca-certificates/bandstand-aa11.crt"),
            "# update-ca-certificates --fresh".to_owned(),
            format!("? certutil -D {store} -n 'Bandstand local authority bb22'"),
            format!("? certutil -D {store} -n 'Bandstand local authority cc33'"),
            format!("? certutil -D {store} -n 'Bandstand local authority aa11'"),
            format!("certutil -A {store} -t C,, -n 'Bandstand local authority aa11' -i {FILE}"),
        ]
    );
}

#[test]
fn macos_keeps_it_in_the_keychain_of_the_user() {
    let keychain = "/home/ada/Library/Keychains/login.keychain-db";
    assert_eq!(
        lines(&machine("macOS"), Wish::Trust, &[]),
        [format!("security add-trusted-cert -r trustRoot -p ssl -k {keychain} {FILE}")]
    );
    assert_eq!(
        lines(&machine("macOS"), Wish::Untrust, &[]),
        [
            format!("? security remove-trusted-cert {FILE}"),
            format!("? security delete-certificate -c 'Bandstand local authority aa11' {keychain}"),
        ]
    );
}

#[test]
fn what_cannot_be_done_is_said() {
    let said = lines(&machine("unknown"), Wish::Trust, &[]);
    assert!(said.len() == 1 && said[0].starts_with("! ") && said[0].contains(FILE), "{said:?}");
    let mut machine = machine("unknown");
    machine.certutil = false;
    machine.databases = ["Chromium", "Firefox", "Firefox"]
        .map(|browser| Database { folder: "/p".into(), browser, made: true })
        .to_vec();
    let said = lines(&machine, Wish::Untrust, &[]);
    assert_eq!(said.len(), 1);
    assert!(said[0].starts_with("! Chromium and Firefox cannot be told without certutil"), "{said:?}");
    assert!(said[0].contains("apt-get install libnss3-tools"));
}

#[test]
fn a_browser_that_was_never_started_gets_its_database() {
    let mut machine = machine("unknown");
    machine.databases =
        vec![Database { folder: "/home/a da/.pki/nssdb".into(), browser: "Chromium", made: false }];
    assert_eq!(
        lines(&machine, Wish::Trust, &[])[1..],
        [
            "mkdir -p '/home/a da/.pki/nssdb'".to_owned(),
            "certutil -N -d 'sql:/home/a da/.pki/nssdb' --empty-password".to_owned(),
            format!(
                "certutil -A -d 'sql:/home/a da/.pki/nssdb' -t C,, -n 'Bandstand local authority aa11' -i {FILE}"
            ),
        ]
    );
    assert!(lines(&machine, Wish::Untrust, &[]).is_empty());
}

#[test]
fn words_are_quoted_as_a_shell_needs_it() {
    for (word, wanted) in [
        ("plain-1.crt", "plain-1.crt"),
        ("", "''"),
        ("a b", "'a b'"),
        ("it's", r"'it'\''s'"),
        ("$(x)", "'$(x)'"),
    ] {
        assert_eq!(quoted(word), wanted);
    }
}

#[test]
fn a_machine_is_known_by_what_it_has() {
    let root = std::env::temp_dir().join(format!("bandstand-machine-{}", std::process::id()));
    let touch = |path: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    };
    let look = || Machine::below(&root, &root.join("home"), root.join("bin").as_os_str(), false);
    fs::create_dir_all(&root).unwrap();
    let bare = look();
    assert_eq!((bare.system, bare.databases.len(), bare.certutil), (System::Unknown, 0, false));
    touch("usr/local/share/ca-certificates/bandstand-aa11.crt");
    touch("bin/certutil");
    touch("bin/chromium");
    touch("bin/dnf");
    touch("home/.mozilla/firefox/x.default/cert9.db");
    touch("home/.mozilla/firefox/never-used/prefs.js");
    let found = look();
    assert!(matches!(found.system, System::Folder(row) if row.name == "Debian"));
    assert_eq!(found.anchors, [PathBuf::from("/usr/local/share/ca-certificates/bandstand-aa11.crt")]);
    assert!(found.certutil);
    assert_eq!(found.packages, "dnf install nss-tools");
    let databases: Vec<_> = found.databases.iter().map(|found| (found.browser, found.made)).collect();
    assert_eq!(databases, [("Chromium", false), ("Firefox", true)]);
    fs::remove_dir_all(&root).unwrap();
}
