//! `export` and `import`: which end of a pipe the stream is at, and what is said of it.

use std::io::{IsTerminal, stdin, stdout};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use engine::{ExitClass, ExportReport, ExportTo, ImportFrom, ImportReport};

use crate::args::Format;
use crate::context::{Context, exit, interruptible};
use crate::draw::bytes;

fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("rekindle: failed to {why}");
    exit(ExitClass::Usage)
}

/// `export`: the stream is the data on stdout, unless a file gets it; then the report is.
pub(crate) fn export(context: &Context, reference: &str, output: Option<&Path>) -> ExitCode {
    let file = output.filter(|path| !is_dash(path));
    let is_sent = file.is_none() && !context.settings.dry_run;
    if is_sent && context.format == Format::Json {
        return refuse("print JSON: stdout gets the stream; name a file with -o");
    }
    if is_sent && stdout().is_terminal() {
        return refuse(
            "write the stream: stdout is a terminal; name a file with -o, or use a pipe",
        );
    }
    if let Err(code) = interruptible() {
        return code;
    }
    let stdout = stdout();
    let to = file.map_or_else(|| ExportTo::Descriptor(stdout.as_fd()), ExportTo::File);
    let bar = context.bar();
    let result = engine::export(&context.settings, reference, &to, &bar);
    drop(bar);
    match result {
        Ok(report) if is_sent => {
            eprint!("{}", exported(&report));
            exit(ExitClass::Done)
        }
        result => context.tell(result, exported),
    }
}

/// `import`.
pub(crate) fn import(context: &Context, input: &Path) -> ExitCode {
    let stdin = stdin();
    if is_dash(input) && stdin.is_terminal() {
        return refuse("read the stream: stdin is a terminal; name a file, or use a pipe");
    }
    if let Err(code) = interruptible() {
        return code;
    }
    let from = if is_dash(input) {
        ImportFrom::Descriptor(stdin.as_fd())
    } else {
        ImportFrom::File(input)
    };
    let bar = context.bar();
    let result = engine::import(&context.settings, &from, &bar);
    drop(bar);
    context.tell(result, imported)
}

fn behind(count: usize) -> String {
    match count {
        0 | 1 => String::new(),
        2 => " with the one it builds on".to_owned(),
        more => format!(" with the {} it builds on", more - 1),
    }
}

fn exported(report: &ExportReport) -> String {
    let with = behind(report.checkpoints.len());
    let mut text = match report.stream_bytes {
        Some(stream_bytes) => {
            format!("checkpoint {} is exported{with}: {}\n", report.id, bytes(stream_bytes))
        }
        None => format!(
            "checkpoint {} would be exported{with}: about {}\n",
            report.id,
            bytes(report.stored_bytes)
        ),
    };
    for path in &report.twins {
        text.push_str(&format!("pages of it are in {path}, which does not come along\n"));
    }
    text
}

fn imported(report: &ImportReport) -> String {
    let mut text = if report.imported.is_empty() {
        format!("checkpoint {} was here already\n", report.id)
    } else {
        let with = behind(report.imported.len());
        format!("checkpoint {} is imported{with}: {}\n", report.id, bytes(report.stream_bytes))
    };
    let unread = match report.frames_unread {
        0 => String::new(),
        unread => format!("; {unread} more need a file that is not here"),
    };
    text.push_str(&format!("{} frames are checked{unread}\n", report.frames));
    for twin in &report.twins {
        let state = twin.missing.as_ref().map_or_else(
            || "as it was".to_owned(),
            |why| format!("{why}; it cannot be resumed before that file is as it was"),
        );
        text.push_str(&format!("pages of it are in {}: {state}\n", twin.path));
    }
    text
}
