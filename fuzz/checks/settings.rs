//! A settings file: it loads or is refused with a sentence, and what `bandstand config` prints of it loads to the same settings.
//!
//! The input is `bandstand.toml`, in a folder of this process that holds nothing else.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::OnceLock;

use bandstand_config::{Errors, Loaded, Sources, explain, load};

pub(crate) fn check(data: &[u8]) {
    let loaded = match read(data) {
        Ok(loaded) => loaded,
        Err(errors) => {
            assert!(!errors.0.is_empty() && !errors.to_string().is_empty());
            return;
        }
    };
    let settings = &loaded.settings;
    assert!(!settings.bind.is_empty() && settings.threads <= settings.threads_max);
    for path in [&b"/"[..], b"*", b"/api/x", b"//../api", data] {
        let (plain, flat) = settings.at_strictest(path);
        assert!(flat.is_none_or(|flat| !std::ptr::eq(flat, plain)));
    }
    let tls = settings.bind.iter().any(|bind| settings.speaks_tls(bind));
    assert!(settings.has_certificates() || !tls);
    let printed = explain::to_toml(&loaded);
    // What is secret is not printed, and a folder elsewhere moves what is counted from it.
    if printed.contains("(hidden)") || data.windows(5).any(|word| word == b"chdir") {
        return;
    }
    match read(printed.as_bytes()) {
        Ok(again) => assert_eq!(again.settings, loaded.settings, "{printed}"),
        Err(errors) => panic!("what was printed is refused: {errors}\n{printed}"),
    }
}

fn read(file: &[u8]) -> Result<Loaded, Errors> {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("bandstand-settings-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("the temporary folder can be written to");
        folder
    });
    std::fs::write(folder.join("bandstand.toml"), file).expect("the temporary folder can be written to");
    let one = NonZeroUsize::MIN;
    let (flags, app_env, env) = (vec![], vec![], vec![]);
    load(Sources { flags, app_env, env, cwd: folder.clone(), cpus: one, pid: 1, root: true })
}
