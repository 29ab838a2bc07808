//! The command line, built from the table of settings: every key has its flag, help text and default.
//!
//! Owns verbs, flags and the few habits of gunicorn users that are not settings (`-e NAME=value`). It checks no value: what a flag
//! says is judged with the file and the environment, by the same parser. Invariant: no setting is spelled here.

use std::ffi::OsString;
use std::path::PathBuf;

use bandstand_config::knobs::{Kind, Knob, Place, TABLE};
use bandstand_config::{Errors, Problem, Sources, reference};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::commands::{cert, trust};
use crate::habits::{self, Habit};
use crate::report::{self, Failure};
use crate::running;

/// The whole command line.
pub(crate) fn command() -> Command {
    Command::new("bandstand")
        .about("Puts a Django project on the internet: HTTP, static files and workers in one program")
        .version(env!("CARGO_PKG_VERSION"))
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            with_settings(
                Command::new("dev")
                    .about("Serve the project while it is written: follow its files, reload, show errors"),
            )
            .mut_arg("local_https", |arg| arg.visible_alias("https")),
        )
        .subcommand(with_settings(
            Command::new("serve").about("Serve the project in the foreground, in production"),
        ))
        .subcommand(
            with_settings(Command::new("config").about("Print each effective value and where it was set"))
                .arg(format(["toml", "json"]))
                .arg(
                    Arg::new("reference")
                        .long("reference")
                        .hide(true)
                        .action(ArgAction::SetTrue)
                        .help("Print the reference page of all settings"),
                ),
        )
        .subcommand(
            with_settings(
                Command::new("explain").about("Show what answers what, and which way each view takes"),
            )
            .arg(format(["text", "json"])),
        )
        .subcommand(
            with_settings(Command::new("check").about("Look for what would go wrong, before traffic does"))
                .arg(
                    Arg::new("deploy")
                        .long("deploy")
                        .action(ArgAction::SetTrue)
                        .help("Include Django's checks for deployment"),
                ),
        )
        .subcommands(running::verbs())
        .subcommands(trust::verbs())
        .subcommand(cert::verb())
        .subcommand(Command::new("version").about("Print the version"))
}

/// What the settings depend on: the flags of `matches`, the environment, the machine.
///
/// # Errors
/// A wrong `-e`, or a current folder that is gone.
pub(crate) fn sources(matches: &ArgMatches) -> Result<Sources, Failure> {
    let mut flags = flags(matches);
    if let Some(class) = matches.get_one::<String>(WORKER_CLASS) {
        let habit = habits::worker_class(class);
        report::say(&habit.sentence);
        add_habit(&mut flags, &habit);
    }
    if matches.get_flag(RELOAD) {
        report::say(habits::RELOAD);
    }
    let app_env = app_env(matches).map_err(|problem| Failure::Configuration(Errors::from(problem)))?;
    surroundings(flags, app_env)
}

/// What settings depend on beside these flags and variables.
///
/// # Errors
/// A current folder that is gone.
pub(crate) fn surroundings(
    flags: Vec<(String, Vec<String>)>,
    app_env: Vec<(String, String)>,
) -> Result<Sources, Failure> {
    let cwd = std::env::current_dir().map_err(|error| Failure::Run {
        sentence: format!("the current folder cannot be read: {error}"),
        code: 1,
    })?;
    Ok(Sources {
        flags,
        app_env,
        env: environment(),
        cwd,
        // The quota of the control group counts, not only the processors. One is right when nobody can say.
        cpus: std::thread::available_parallelism().unwrap_or(std::num::NonZeroUsize::MIN),
        pid: std::process::id(),
        root: rustix::process::geteuid().is_root(),
    })
}

/// The environment of this process.
pub(crate) fn environment() -> Vec<(OsString, OsString)> {
    std::env::vars_os().collect()
}

/// The running program's own file.
pub(crate) fn program() -> Option<PathBuf> {
    std::env::current_exe().ok()
}

pub(crate) fn with_settings(command: Command) -> Command {
    let rows = TABLE.iter().filter(|knob| knob.place != Place::File);
    let command = rows.fold(command, |command, knob| command.arg(flag(knob)));
    command
        .arg(
            Arg::new(APP_ENV)
                .short('e')
                .long("env")
                .value_name("NAME=VALUE")
                .action(ArgAction::Append)
                .help_heading("Application")
                .help("Set a variable in the environment of the workers; may be repeated"),
        )
        .arg(
            Arg::new(WORKER_CLASS)
                .short('k')
                .long("worker-class")
                .value_name("CLASS")
                .help_heading("Application")
                .help("Gunicorn's worker class: understood, and says what it means here"),
        )
        .arg(
            Arg::new(NO_PRELOAD)
                .long("no-preload")
                .action(ArgAction::SetTrue)
                .conflicts_with("preload")
                .help_heading("Workers")
                .help("The same as --preload=off"),
        )
        .arg(
            Arg::new(RELOAD)
                .long("reload")
                .action(ArgAction::SetTrue)
                .help_heading("Development")
                .help("Gunicorn's flag: says that `bandstand dev` is what watches files"),
        )
        .next_line_help(true)
}

/// Form of the output; the first is the default.
fn format(forms: [&'static str; 2]) -> Arg {
    Arg::new("format")
        .long("format")
        .value_name("FORM")
        .value_parser(forms)
        .default_value(forms[0])
        .help("Form of the output")
}

/// Id of `-e`, which no key can have.
const APP_ENV: &str = "-e";

/// Id of `-k`, which no key can have.
const WORKER_CLASS: &str = "-k";

/// Id of `--no-preload`, which no key can have.
const NO_PRELOAD: &str = "--no-preload";

/// Id of `--reload`, which no key can have.
const RELOAD: &str = "--reload";

/// The flag of one row; APP is the one positional.
pub(crate) fn flag(knob: &'static Knob) -> Arg {
    let arg = Arg::new(knob.key).value_name(reference::placeholder(knob.kind)).help(help(knob));
    if knob.kind == Kind::App {
        return arg;
    }
    let arg = arg.long(knob.flag()).help_heading(knob.group.title()).visible_aliases(knob.aliases);
    let arg = match knob.short {
        Some(letter) => arg.short(letter),
        None => arg,
    };
    match knob.kind {
        Kind::Binds
        | Kind::Paths
        | Kind::Networks
        | Kind::Origins
        | Kind::Domains
        | Kind::Directories
        | Kind::MediaTypes
        | Kind::Passwords
        | Kind::Protected => arg.action(ArgAction::Append),
        // `--server-header` alone says on; the value must follow `=`, or it would swallow APP.
        Kind::Switch => arg.num_args(0..=1).require_equals(true).default_missing_value("on"),
        // A value such as -1 is refused by the settings, with a sentence.
        _ => arg.allow_negative_numbers(true),
    }
}

fn help(knob: &Knob) -> String {
    let sentence = knob.doc.replace('`', "");
    match knob.default {
        "" => sentence,
        default => format!("{sentence} [default: {default}]"),
    }
}

fn flags(matches: &ArgMatches) -> Vec<(String, Vec<String>)> {
    let rows = TABLE.iter().filter(|knob| knob.place != Place::File);
    let given = rows.filter_map(|knob| {
        let values: Vec<String> = matches.get_many::<String>(knob.key)?.cloned().collect();
        Some((knob.key.to_owned(), values))
    });
    let unload = matches.get_flag(NO_PRELOAD).then(|| ("preload".to_owned(), vec!["off".to_owned()]));
    given.chain(unload).collect()
}

/// A flag of its own wins over the habit.
fn add_habit(flags: &mut Vec<(String, Vec<String>)>, habit: &Habit) {
    for (key, value) in habit.settings {
        if !flags.iter().any(|(given, _)| given == key) {
            flags.push(((*key).to_owned(), vec![(*value).to_owned()]));
        }
    }
}

fn app_env(matches: &ArgMatches) -> Result<Vec<(String, String)>, Problem> {
    let given = matches.get_many::<String>(APP_ENV).into_iter().flatten();
    given
        .map(|text| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() && !text.contains('\0') => {
                Ok((name.to_owned(), value.to_owned()))
            }
            _ => Err(Problem::general(
                format!("--env: {text:?} is not NAME=value"),
                "-e sets a variable for the application, as in gunicorn",
            )),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Vec<(String, Vec<String>)>, clap::Error> {
        let matches = command().try_get_matches_from(line.split(' '))?;
        Ok(flags(matches.subcommand().unwrap().1))
    }

    fn one(key: &str, values: &[&str]) -> (String, Vec<String>) {
        (key.to_owned(), values.iter().map(|value| value.to_string()).collect())
    }

    #[test]
    fn the_command_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn flags_reach_their_keys() {
        for (line, wanted) in [
            ("bandstand serve", vec![]),
            ("bandstand serve shop:app", vec![one("app", &["shop:app"])]),
            (
                "bandstand serve -b :80 -b [::1]:8000 -w 3",
                vec![one("bind", &[":80", "[::1]:8000"]), one("workers", &["3"])],
            ),
            ("bandstand serve --log-level debug", vec![one("log", &["debug"])]),
            ("bandstand serve --server-header=off", vec![one("server_header", &["off"])]),
            (
                "bandstand serve --server-header shop:app",
                vec![one("app", &["shop:app"]), one("server_header", &["on"])],
            ),
            ("bandstand config --workers -1", vec![one("workers", &["-1"])]),
            (
                "bandstand check --deploy --loop asyncio shop:app",
                vec![one("app", &["shop:app"]), one("loop", &["asyncio"])],
            ),
            ("bandstand explain --format json --bridge=off", vec![one("bridge", &["off"])]),
            ("bandstand serve --preload shop:app", vec![one("app", &["shop:app"]), one("preload", &["on"])]),
            ("bandstand serve --preload=off", vec![one("preload", &["off"])]),
            ("bandstand serve --no-preload", vec![one("preload", &["off"])]),
            ("bandstand serve --reload", vec![]),
            ("bandstand dev --https", vec![one("local_https", &["on"])]),
            ("bandstand serve --local-https", vec![one("local_https", &["on"])]),
            (
                "bandstand serve --certfile a.pem --keyfile a.key --tls-cert b.pem --tls-key b.key --ca-certs ca",
                vec![
                    one("tls_cert", &["a.pem", "b.pem"]),
                    one("tls_key", &["a.key", "b.key"]),
                    one("client_ca", &["ca"]),
                ],
            ),
            (
                "bandstand serve --domains a.example --domains b.example --protected out --rate 10/s",
                vec![
                    one("domains", &["a.example", "b.example"]),
                    one("rate", &["10/s"]),
                    one("protected", &["out"]),
                ],
            ),
            ("bandstand serve --static /static/=out", vec![one("static", &["/static/=out"])]),
        ] {
            assert_eq!(parsed(line).unwrap(), wanted, "{line}");
        }
    }

    #[test]
    fn a_flag_wins_over_a_worker_class() {
        let mut flags = parsed("bandstand serve -k sync --threads 4").unwrap();
        add_habit(&mut flags, &habits::worker_class("sync"));
        assert_eq!(flags, [one("threads", &["4"]), one("interface", &["wsgi"])]);
    }

    #[test]
    fn wrong_usage_is_status_2() {
        for line in [
            "bandstand",
            "bandstand sreve",
            "bandstand serve --max-boddy 1",
            "bandstand serve a b",
            "bandstand serve --paths x",
            "bandstand serve --headers x",
            "bandstand serve --https",
            "bandstand serve --preload --no-preload",
        ] {
            assert_eq!(parsed(line).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn variables_for_the_application() {
        let read = |line: &str| {
            let matches = command().try_get_matches_from(line.split(' ')).unwrap();
            app_env(matches.subcommand().unwrap().1)
        };
        let wanted = vec![("A".to_owned(), "b=c".to_owned()), ("B".to_owned(), String::new())];
        assert_eq!(read("bandstand serve -e A=b=c --env B="), Ok(wanted));
        assert!(read("bandstand serve -e staging").is_err());
        assert!(read("bandstand serve -e =x").is_err());
    }
}
