//! `towpath worker`: this machine takes missions.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde::Deserialize;
use towpath_auth::Secret;
use towpath_worker::Options as Settings;

use crate::signals;

/// The options of `towpath worker`. What a flag does not say, the environment does, and then the file.
#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The address of the deployment, or of a `towpath dev`: TOWPATH_SERVER.
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The URL of the deployment's sockets, where they are not at its address: the output ExecutorSocketUrl of its stack, or
    /// TOWPATH_SOCKET_URL.
    #[arg(long, value_name = "URL", conflicts_with = "poll")]
    socket_url: Option<String>,
    /// Ask for missions again and again, and open no socket: for networks that let none through.
    #[arg(long)]
    poll: bool,
    /// The file that holds the key which enrols executors, needed once: TOWPATH_ENROLMENT_KEY_FILE, or the key itself in
    /// TOWPATH_ENROLMENT_KEY.
    #[arg(long, value_name = "FILE")]
    enrolment_key_file: Option<PathBuf>,
    /// The name of the worker, for people: TOWPATH_WORKER_NAME. The machine's when not given.
    #[arg(long)]
    name: Option<String>,
    /// A capability that steps can ask for, such as x-gpu or runtime:claude-code; may be given again. Separated by commas
    /// in TOWPATH_WORKER_CAPABILITIES.
    #[arg(long = "capability", value_name = "CAPABILITY")]
    capabilities: Vec<String>,
    /// The most missions at once: TOWPATH_WORKER_SLOTS.
    #[arg(long, value_name = "N")]
    slots: Option<u32>,
    /// The folder of all that the worker keeps: TOWPATH_WORKER_DIR.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// A TOML file with these settings, named as here with `_` for `-`, and `command` as a list: TOWPATH_WORKER_CONFIG.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Carry out the commands that the steps of pipelines name: whoever may put a pipeline may then run any command here.
    #[arg(long, conflicts_with = "command")]
    run_step_commands: bool,
    /// The command that carries out each mission, told by $TOWPATH_OBJECTIVE and the files in $TOWPATH_INPUTS; its answer is
    /// what it writes to $TOWPATH_OUTPUT, or prints.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// The settings of a file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileSettings {
    server: Option<String>,
    socket_url: Option<String>,
    poll: bool,
    enrolment_key_file: Option<PathBuf>,
    name: Option<String>,
    capabilities: Vec<String>,
    slots: Option<u32>,
    dir: Option<PathBuf>,
    run_step_commands: bool,
    command: Vec<String>,
}

/// The address of a `towpath dev` that was started without options.
const USUAL: &str = "http://127.0.0.1:7070";
/// The exit code of wrong use.
const USAGE: u8 = 2;

/// Runs the command.
pub(crate) async fn worker(options: Options) -> ExitCode {
    let lookup = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let settings = match settings(options, lookup) {
        Ok(settings) => settings,
        Err(message) => {
            eprintln!("towpath: {message}");
            return ExitCode::from(USAGE);
        }
    };
    // From now on, and not only once missions are taken.
    let signal = tokio::spawn(signals::ended());
    let ended = async {
        let _ = signal.await;
    };
    match towpath_worker::run(settings, ended).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("towpath: {error}");
            ExitCode::FAILURE
        }
    }
}

fn settings(options: Options, lookup: impl Fn(&str) -> Option<String>) -> Result<Settings, String> {
    let config = options
        .config
        .or_else(|| lookup("TOWPATH_WORKER_CONFIG").map(PathBuf::from));
    let file = match config {
        Some(path) => read(&path)?,
        None => FileSettings::default(),
    };
    let key_file = options
        .enrolment_key_file
        .or_else(|| lookup("TOWPATH_ENROLMENT_KEY_FILE").map(PathBuf::from));
    let enrolment = match (
        key_file,
        lookup("TOWPATH_ENROLMENT_KEY"),
        file.enrolment_key_file,
    ) {
        (Some(path), _, _) | (None, None, Some(path)) => Some(secret(&path)?),
        (None, Some(key), _) => Some(Secret::new(key.trim())),
        (None, None, None) => None,
    };
    let said = lookup("TOWPATH_WORKER_CAPABILITIES").unwrap_or_default();
    let said = said.split(',').map(str::trim).filter(|it| !it.is_empty());
    let capabilities: BTreeSet<String> = [
        options.capabilities,
        said.map(str::to_owned).collect(),
        file.capabilities,
    ]
    .into_iter()
    .find(|it| !it.is_empty())
    .unwrap_or_default()
    .into_iter()
    .collect();
    if let Some(wrong) = capabilities
        .iter()
        .find(|it| !towpath_engine::is_capability(it))
    {
        return Err(format!(
            "{wrong} is no capability: isolation:NAME, runtime:NAME, platform:OS/ARCH, hitl, multi-tenant, or one of your \
             own that begins with x-, such as x-gpu"
        ));
    }
    let slots = match (options.slots, lookup("TOWPATH_WORKER_SLOTS")) {
        (Some(slots), _) => slots,
        (None, Some(text)) => text
            .parse()
            .map_err(|_| format!("TOWPATH_WORKER_SLOTS={text:?} is not a number"))?,
        (None, None) => file.slots.unwrap_or(1),
    };
    if !(1..=1000).contains(&slots) {
        return Err(format!(
            "a worker has from 1 to 1000 slots, and not {slots}"
        ));
    }
    let dir = options
        .dir
        .or_else(|| lookup("TOWPATH_WORKER_DIR").map(PathBuf::from))
        .or(file.dir);
    let folder =
        dir.ok_or("say where the worker keeps its identity and its missions: --dir DIR")?;
    let command = match options.command.is_empty() {
        true => file.command,
        false => options.command,
    };
    let run_step_commands = options.run_step_commands || file.run_step_commands;
    let command = match (command.is_empty(), run_step_commands) {
        (true, true) => None,
        (false, _) => Some(command),
        (true, false) => {
            let message = "say what carries out missions: a command behind `--`, or --run-step-commands for those that the \
                           steps of pipelines name";
            return Err(message.to_owned());
        }
    };
    let server = options.server.or_else(|| lookup("TOWPATH_SERVER"));
    let sockets = options.socket_url.or_else(|| lookup("TOWPATH_SOCKET_URL"));
    let name = options.name.or_else(|| lookup("TOWPATH_WORKER_NAME"));
    Ok(Settings {
        server: server.or(file.server).unwrap_or_else(|| USUAL.to_owned()),
        sockets: sockets.or(file.socket_url),
        poll: options.poll || file.poll,
        enrolment,
        name: name.or(file.name).unwrap_or_else(machine),
        capabilities,
        slots,
        folder: std::path::absolute(&folder).map_err(|error| error.to_string())?,
        command,
        supervisor: std::env::current_exe().map_err(|error| error.to_string())?,
    })
}

fn read(path: &Path) -> Result<FileSettings, String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
    toml::from_str(&text).map_err(|error| named(&error))
}

fn secret(path: &Path) -> Result<Secret, String> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(Secret::new(text.trim()))
}

/// The name of this machine.
fn machine() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "worker".to_owned(),
        name => name.chars().take(100).collect(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn said(line: &[&str], env: &[(&str, &str)]) -> Result<Settings, String> {
        let line = ["worker"].iter().chain(line);
        let options = Line::parse_from(line).options;
        let lookup = |name: &str| {
            let found = env.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        settings(options, lookup)
    }

    #[test]
    fn a_flag_goes_before_the_environment_and_that_before_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("worker.toml");
        let text = "slots = 7\nname = 'file'\nserver = 'http://file'\ncommand = ['agent', '--fix']\ndir = '/w'\ncapabilities = ['x-file']\n";
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        let env = [
            ("TOWPATH_SERVER", "http://env"),
            ("TOWPATH_WORKER_SLOTS", "5"),
            ("TOWPATH_ENROLMENT_KEY", "twk_1"),
        ];
        let settings = said(&["--config", file, "--slots", "3"], &env).unwrap();
        assert_eq!((settings.slots, &*settings.server), (3, "http://env"));
        assert_eq!(settings.name, "file");
        assert_eq!(settings.command.unwrap(), ["agent", "--fix"]);
        assert_eq!(settings.enrolment.unwrap().expose(), "twk_1");
        assert_eq!(settings.folder, Path::new("/w"));
        assert!(settings.capabilities.contains("x-file"));
    }

    #[test]
    fn what_is_wrong_is_said_with_what_to_do() {
        let dir = ["--dir", "/w"];
        for (line, expected) in [
            (&[][..], "--dir"),
            (&dir, "--run-step-commands"),
            (&["--dir", "/w", "--slots", "0", "--", "x"], "1 to 1000"),
            (
                &["--dir", "/w", "--capability", "git", "--", "x"],
                "git is no capability",
            ),
            (&["--config", "/nowhere.toml"], "/nowhere.toml"),
        ] {
            let message = said(line, &[]).err().unwrap();
            assert!(message.contains(expected), "{line:?}: {message}");
        }
    }
}
