//! The first words of a generation: what its first worker says of its project, and what follows from that.
//!
//! Owns the way from a hello to the `State` that requests of that generation see (settings with the project's own,
//! static files, hosts). It reads folders, and so runs beside the runtime.

use std::sync::Arc;

use bandstand_config::{Loaded, Origin, ProjectSettings, Settings};

use super::{Mode, state_of};
use crate::assets::{HashedNames, Manifest, Root, RootKind, Siblings};
use crate::hosts;
use crate::observe::record::AccessLog;
use crate::shared::{Project, State};

/// Makes the state of a generation from the JSON of its first hello. Of its notes those are logged that are not `known`.
///
/// # Errors
/// The hello cannot be read, or a folder of static files cannot: a sentence.
pub(super) fn greet(
    loaded: &Loaded,
    mode: Mode,
    hello: &[u8],
    access_log: Option<Arc<AccessLog>>,
    generation: u32,
    known: &[String],
) -> Result<State, String> {
    let said = ProjectSettings::from_json(hello)
        .map_err(|error| format!("the worker's hello cannot be read: {error}"))?;
    let mut loaded = loaded.with_django(&said);
    if mode == Mode::Dev {
        prefer_finders(&mut loaded, &said);
    }
    for note in loaded.notes.iter().filter(|note| !known.contains(note)) {
        tracing::info!("{note}");
    }
    let assets = open_assets(&loaded.settings, mode)?;
    let hosts = hosts::of_project(&loaded.settings, &said);
    let state = state_of(&loaded.settings, Some(Project { said, assets, hosts }), access_log, generation);
    Ok(State { notes: loaded.notes, ..state })
}

/// With DEBUG, Django's finders serve static files as they are in the sources; what was once collected is older.
fn prefer_finders(loaded: &mut Loaded, said: &ProjectSettings) {
    let from_django = matches!(loaded.origins.get("static"), Some(Origin::Default | Origin::Django(_)));
    if said.django.as_ref().is_some_and(|django| django.debug) && from_django {
        loaded.settings.static_files = None;
        loaded.notes.retain(|note| !note.starts_with("STATIC"));
    }
}

fn open_assets(settings: &Settings, mode: Mode) -> Result<Manifest, String> {
    let mut roots = Vec::new();
    if let Some(mount) = &settings.static_files {
        roots.push(Root {
            prefix: mount.url.clone(),
            dir: mount.root.clone(),
            kind: RootKind::Static,
            hashed: HashedNames::Detect,
        });
    }
    if let Some(mount) = &settings.media {
        roots.push(Root {
            prefix: mount.url.clone(),
            dir: mount.root.clone(),
            kind: RootKind::Media,
            hashed: HashedNames::Never,
        });
    }
    let assets = Manifest::new(roots).map_err(|error| error.to_string())?;
    for warning in assets.warnings() {
        tracing::warn!("{warning}");
    }
    // Under `dev` files change faster than their siblings are made.
    let makes = settings.static_compress && mode != Mode::Dev && settings.static_files.is_some();
    Ok(assets.with_siblings(makes.then(|| Siblings::start(&settings.state_dir)).flatten()))
}
