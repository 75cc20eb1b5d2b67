//! Manual pages and completions, made from the grammar of the command line, so that they cannot
//! say anything else. Those in `share/` are made by `cargo xtask generate`.

use std::path::Path;

use clap::{Command, CommandFactory};
use clap_complete::Shell;

use crate::args::{Cli, EXAMPLES};

/// Exit codes, as `docs/ARCHITECTURE.md` has them.
const EXIT_STATUS: &str = "\
0    done
1    unexpected
2    usage: the command line makes no sense, or names something that does not exist
3    refused: blockers, or another verb is at work on the instance; nothing was touched
4    host, file or format do not fit
5    a checksum failed
6    a permission or a kernel feature is missing; it is named
7    failed and rolled back: the program is as it was
8    timed out and rolled back
9    the target is gone
10   part of it was done: the program runs but its probe kept failing, or its
     checkpoint is safe but it did not end

`run` and a foreground `resume` hand back the program's own status, 128 + signal,
125 for a failure of ours, 126 for a command that cannot be executed, 127 for one
that is not found.";

/// What a page is asked for.
pub(crate) enum Wanted<'a> {
    /// The page about this verb; without one that about rekindle.
    Page(Option<&'a str>),
    /// Every page, as files in this folder.
    Folder(&'a Path),
}

/// Why there is no page.
#[derive(Debug)]
pub(crate) enum ManualError {
    /// No such verb.
    Verb(String),
    /// It could not be written.
    Write(std::io::Error),
}

impl std::fmt::Display for ManualError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Verb(name) => {
                write!(f, "find a manual page: there is no verb `{name}`; `rekindle help` has all")
            }
            Self::Write(cause) => write!(f, "write the manual: {cause}"),
        }
    }
}

impl From<std::io::Error> for ManualError {
    fn from(cause: std::io::Error) -> Self {
        Self::Write(cause)
    }
}

/// Writes what is `wanted`.
///
/// # Errors
/// When the verb does not exist, or writing fails.
pub(crate) fn write(wanted: &Wanted<'_>) -> Result<(), ManualError> {
    let pages = pages()?;
    let folder = match wanted {
        Wanted::Folder(folder) => folder,
        Wanted::Page(verb) => {
            let name = verb.map_or("rekindle.1".to_owned(), |verb| format!("rekindle-{verb}.1"));
            let page = pages.iter().find(|(file, _)| *file == name);
            let Some((_, page)) = page else {
                return Err(ManualError::Verb(verb.unwrap_or_default().to_owned()));
            };
            return Ok(crate::context::to_stdout(page)?);
        }
    };
    std::fs::create_dir_all(folder)?;
    for (file, page) in &pages {
        std::fs::write(folder.join(file), page)?;
    }
    Ok(())
}

/// Every page with its file name: `rekindle.1`, `rekindle-checkpoint.1`. Hidden verbs have none.
fn pages() -> std::io::Result<Vec<(String, String)>> {
    let mut command = grammar();
    // Gives the verbs their full names and the options that all of them take.
    command.build();
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    let verbs: Vec<_> = verbs.filter(|verb| verb.get_name() != "help").cloned().collect();
    std::iter::once(command).chain(verbs).map(page).collect()
}

fn page(command: Command) -> std::io::Result<(String, String)> {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let page = clap_mangen::Man::new(command.display_name(name.clone()));
    let mut text = Vec::new();
    page.render(&mut text)?;
    let mut text = String::from_utf8(text).map_err(std::io::Error::other)?;
    if name == "rekindle" {
        text.push_str(&section("EXAMPLES", EXAMPLES.trim_start_matches("Examples:\n")));
    }
    text.push_str(&section("EXIT STATUS", EXIT_STATUS));
    Ok((format!("{name}.1"), text))
}

/// A section whose lines stay as they are.
fn section(title: &str, lines: &str) -> String {
    let mut text = format!(".SH \"{title}\"\n.nf\n");
    for line in lines.lines() {
        // A line that begins with one of these would be a request; `\\&` is nothing.
        let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
        let line = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\*(Aq");
        text.push_str(&format!("{guard}{line}\n"));
    }
    text.push_str(".fi\n");
    text
}

/// The completions for `shell`.
pub(crate) fn completions(shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut grammar(), "rekindle", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// The grammar of the command line.
fn grammar() -> Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn share() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../share")
    }

    #[test]
    fn the_committed_pages_are_in_step_with_the_arguments() {
        let pages: BTreeMap<_, _> = pages().unwrap().into_iter().collect();
        let committed = fs::read_dir(share().join("man/man1")).unwrap();
        let committed: BTreeMap<_, _> = committed
            .map(|entry| entry.unwrap())
            .map(|e| (e.file_name().into_string().unwrap(), fs::read_to_string(e.path()).unwrap()))
            .collect();
        let names = |pages: &BTreeMap<String, String>| pages.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&committed), names(&pages), "run `cargo xtask generate`");
        for (name, page) in &pages {
            assert_eq!(&committed[name], page, "{name}: run `cargo xtask generate`");
        }
    }

    #[test]
    fn the_committed_completions_are_in_step_with_the_arguments() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let committed = share().join("completions").join(format!("rekindle.{shell}"));
            let committed = fs::read_to_string(committed).unwrap();
            assert_eq!(committed, completions(shell), "{shell}: run `cargo xtask generate`");
        }
    }

    #[test]
    fn exit_codes_are_those_of_the_map() {
        let map = fs::read_to_string(share().join("../docs/ARCHITECTURE.md")).unwrap();
        let one_line = EXIT_STATUS.replace("\n     ", " ");
        for line in one_line.lines().take_while(|line| !line.is_empty()) {
            let (code, meaning) = line.split_once(' ').unwrap();
            let row = format!("| {code} | {}", meaning.trim());
            assert!(map.contains(&row), "docs/ARCHITECTURE.md: {row}");
        }
    }

    #[test]
    fn every_verb_and_every_option_has_its_place() {
        let pages: BTreeMap<_, _> = pages().unwrap().into_iter().collect();
        let mut command = grammar();
        command.build();
        for verb in command.get_subcommands().filter(|v| !v.is_hide_set()) {
            if verb.get_name() == "help" {
                continue;
            }
            let page = &pages[&format!("rekindle-{}.1", verb.get_name())];
            for option in verb.get_arguments().filter(|a| !a.is_hide_set()) {
                let Some(long) = option.get_long() else { continue };
                let written = long.replace('-', "\\-");
                assert!(
                    page.contains(&format!("\\-\\-{written}")),
                    "{}: --{long}",
                    verb.get_name()
                );
            }
        }
        assert!(!pages.contains_key("rekindle-agent.1"), "hidden verbs have no page");
    }
}
