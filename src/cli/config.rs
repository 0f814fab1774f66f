//! Settings of the server from a TOML file. They become the flags' defaults, so that they are checked as flags are, and the
//! environment and the flags win over them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};
use toml::{Table, Value};

use super::Cli;

/// The subcommands that take a file.
const WITH_FILE: [&str; 2] = ["serve", "doctor"];
/// Flags of all subcommands that a file may set too.
const FOR_ALL: [&str; 2] = ["log", "log-format"];
/// Flags that have no place in a file.
const NOT_IN_FILE: [&str; 5] = ["config", "check-config", "print-config", "help", "version"];

/// Reads the command line, and the file that it names.
pub fn parse() -> anyhow::Result<Cli> {
    let command = Cli::command();
    let command = match file(&command) {
        Some(path) => with_defaults(command, &path)?,
        None => command,
    };
    let mut matches = command.clone().get_matches();
    if let Some(("serve", serve)) = matches.subcommand()
        && serve.get_flag("print_config")
    {
        let mut command = command;
        command.build();
        print!("{}", command.find_subcommand("serve").map(|command| printed(command, serve)).unwrap_or_default());
        std::process::exit(0);
    }
    Ok(Cli::from_arg_matches_mut(&mut matches).unwrap_or_else(|error| error.exit()))
}

/// The file that the command line or the environment names.
fn file(command: &Command) -> Option<PathBuf> {
    let matches = command.clone().ignore_errors(true).try_get_matches().ok()?;
    let (name, serve) = matches.subcommand()?;
    if !WITH_FILE.contains(&name) {
        return None;
    }
    serve.try_get_one::<PathBuf>("config").ok().flatten().cloned()
}

/// The command with what a file says as defaults.
fn with_defaults(mut command: Command, path: &Path) -> anyhow::Result<Command> {
    let named = || format!("--config {}", path.display());
    let text = std::fs::read_to_string(path).with_context(named)?;
    let settings: Table = text.parse().with_context(named)?;
    for (key, value) in settings {
        let values = values(&value).with_context(|| format!("{}: {key}", named()))?;
        let flag = key.replace('_', "-");
        if FOR_ALL.contains(&flag.as_str()) {
            command = command.mut_arg(flag.replace('-', "_"), |arg| arg.default_values(values));
            continue;
        }
        let id = command.find_subcommand("serve").and_then(|serve| {
            let mut flags =
                serve.get_arguments().filter(|arg| !NOT_IN_FILE.contains(&arg.get_long().unwrap_or_default()));
            flags.find(|arg| arg.get_long() == Some(&flag)).map(|arg| arg.get_id().clone())
        });
        let Some(id) = id else { bail!("{}: there is no setting {key:?}", named()) };
        for name in WITH_FILE {
            let (id, values) = (id.clone(), values.clone());
            command = command
                .mut_subcommand(name, |serve| serve.mut_arg(id, |arg| arg.default_values(values).required(false)));
        }
    }
    Ok(command)
}

/// A value as it would stand on the command line.
fn values(value: &Value) -> anyhow::Result<Vec<OsString>> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Integer(n) => n.to_string(),
        Value::Float(x) => x.to_string(),
        Value::Boolean(yes) => yes.to_string(),
        Value::Array(values_) => {
            let all = values_.iter().map(values).collect::<Result<Vec<_>, _>>()?;
            return Ok(all.into_iter().flatten().collect());
        }
        Value::Datetime(_) | Value::Table(_) => {
            bail!("a setting is a text, a number, true or false, or a list of them")
        }
    };
    Ok(vec![text.into()])
}

/// The settings in force as a TOML file, each with its help.
fn printed(command: &Command, matches: &ArgMatches) -> String {
    let mut text = String::new();
    for arg in command.get_arguments() {
        let Some(flag) = arg.get_long().filter(|flag| !NOT_IN_FILE.contains(flag)) else { continue };
        let help = arg.get_help().map(|help| help.to_string()).unwrap_or_default();
        let raw = matches.get_raw(arg.get_id().as_str()).into_iter().flatten();
        let values: Vec<String> = raw.map(|value| toml_value(&value.to_string_lossy())).collect();
        let several = matches!(arg.get_action(), clap::ArgAction::Append);
        text.push_str(&format!("# {}\n", help.replace('\n', "\n# ")));
        text.push_str(&match (arg.is_hide_env_values_set(), values.as_slice()) {
            (true, values) => format!("# {flag} = (a secret: {} given)\n", values.len()),
            (false, []) => format!("# {flag} =\n"),
            (false, values) if several => format!("{flag} = [{}]\n", values.join(", ")),
            (false, values) => format!("{flag} = {}\n", values.join(" ")),
        });
    }
    text
}

/// A number or a truth value as it is, anything else in quotes.
fn toml_value(text: &str) -> String {
    let plain = text.parse::<i64>().is_ok() || text.parse::<bool>().is_ok();
    let real = text.parse::<f64>().is_ok_and(f64::is_finite) && text.contains('.');
    if plain || real { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, args: &[&str]) -> Result<ArgMatches, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("twostep.toml");
        std::fs::write(&path, text).unwrap();
        let command = with_defaults(Cli::command(), &path).map_err(|error| format!("{error:#}"))?;
        let args = [&["twostep", "serve"], args].concat();
        let matches = command.try_get_matches_from(args).map_err(|error| error.to_string())?;
        Ok(matches.subcommand_matches("serve").unwrap().clone())
    }

    fn raw(matches: &ArgMatches, id: &str) -> Vec<String> {
        matches.get_raw(id).into_iter().flatten().map(|value| value.to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn a_file_is_under_the_flags() {
        let text = "listen = \"127.0.0.1:4000\"\nmax_listeners = 7\nallow-origin = [\"https://a.b\", \"https://c.d\"]\n\
                    tls-self-signed = true\nlead-seconds = 1.5\nlog = \"warn\"\n";
        let matches = parsed(text, &["--max-listeners", "9"]).unwrap();
        assert_eq!(raw(&matches, "listen"), ["127.0.0.1:4000"]);
        assert_eq!(raw(&matches, "max_listeners"), ["9"]);
        assert_eq!(raw(&matches, "allow_origin"), ["https://a.b", "https://c.d"]);
        assert_eq!(raw(&matches, "lead_seconds"), ["1.5"]);
        assert!(matches.get_flag("tls_self_signed"));
    }

    #[test]
    fn wrong_settings_are_named() {
        for (text, named) in [
            ("lisen = 1", "lisen"),
            ("config = \"x\"", "config"),
            ("[serve]\nlisten = 1", "serve"),
            ("max-listeners = 0", "--max-listeners"),
            ("listen = \"nowhere\"", "--listen"),
            ("listen =", "twostep.toml"),
        ] {
            let error = parsed(text, &[]).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_printed_is_read_back_and_has_no_secrets() {
        let text = "listen = \"127.0.0.1:4000\"\nlead-seconds = 1.5\nallow-origin = [\"https://a.b\"]\n\
                    api-key = [\"a-key-of-sixteen-characters\"]\n";
        let mut command = Cli::command();
        command.build();
        let serve = command.find_subcommand("serve").unwrap();
        let printed = printed(serve, &parsed(text, &[]).unwrap());
        assert!(!printed.contains("a-key-of-sixteen"), "{printed}");
        let again = parsed(&printed, &[]).unwrap();
        for (id, value) in [("listen", "127.0.0.1:4000"), ("lead_seconds", "1.5"), ("allow_origin", "https://a.b")] {
            assert_eq!(raw(&again, id), [value]);
        }
    }
}
