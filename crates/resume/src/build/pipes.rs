//! Pipes and FIFOs.

use inject::Arg;
use process::{Description, DescriptionId, DescriptionKind, Pipe, PipeEnd, PipeId};

use super::descriptions::Files;
use super::mappings::keep;
use super::script::Script;
use crate::ResumeError;

const F_SETPIPE_SZ: i32 = 1031;

/// Makes every pipe, fills it, and opens its ends at their slots. Both ends are open until then,
/// so that nothing is lost; an end nobody holds is closed by the end of it.
pub(super) fn open_all(script: &mut Script<'_>, files: Files<'_>) -> Result<(), ResumeError> {
    for (id, pipe) in (0..).map(PipeId).zip(&files.instance.pipes) {
        let ends: Vec<_> = files.all().filter_map(|(d, what)| end_of(d, what, id)).collect();
        if !ends.is_empty() {
            open_pipe(script, files, pipe, &ends)?;
            script.flush()?;
        }
    }
    Ok(())
}

type End<'a> = (DescriptionId, PipeEnd, &'a Description);

fn end_of(id: DescriptionId, description: &Description, wanted: PipeId) -> Option<End<'_>> {
    match &description.kind {
        DescriptionKind::Pipe { pipe, end } if *pipe == wanted => Some((id, *end, description)),
        _ => None,
    }
}

fn open_pipe(
    script: &mut Script<'_>,
    files: Files<'_>,
    pipe: &Pipe,
    ends: &[End<'_>],
) -> Result<(), ResumeError> {
    let spare = [files.slots.passing(), files.slots.passing() + 1];
    let (read, write) = if pipe.fifo_path.is_empty() {
        make(script, spare);
        (spare[0], spare[1])
    } else {
        let path = script.text(&pipe.fifo_path);
        let flags = libc::O_RDWR | libc::O_NONBLOCK;
        let args: [Arg; 3] = [libc::AT_FDCWD.into(), path.into(), flags.into()];
        let step = format!("open FIFO {}", pipe.fifo_path.escape_ascii());
        let opened = script.call(step, libc::SYS_openat, &args);
        keep(script, opened.into(), spare[0]);
        (spare[0], spare[0])
    };
    if pipe.capacity_bytes != 0 {
        let args: [Arg; 3] = [write.into(), F_SETPIPE_SZ.into(), pipe.capacity_bytes.into()];
        let step = format!("give a pipe its {} bytes", pipe.capacity_bytes);
        script.call(step, libc::SYS_fcntl, &args);
    }
    fill(script, pipe, ends, write)?;
    let (mut read_used, mut write_used) = (false, false);
    for (id, end, description) in ends {
        let slot = files.slots.description(*id);
        let (source, used) = match end {
            PipeEnd::Read => (read, &mut read_used),
            PipeEnd::Write => (write, &mut write_used),
            PipeEnd::Both => (read, &mut read_used),
        };
        // An anonymous pipe's first description of either end is the one pipe2(2) made; any
        // other, and any of a FIFO, is opened by its name.
        if pipe.fifo_path.is_empty() && !*used && *end != PipeEnd::Both {
            *used = true;
            let args: [Arg; 3] = [source.into(), slot.into(), libc::O_CLOEXEC.into()];
            script.call("keep a pipe's end", libc::SYS_dup3, &args);
            continue;
        }
        let access = match end {
            PipeEnd::Read => libc::O_RDONLY,
            PipeEnd::Write => libc::O_WRONLY,
            PipeEnd::Both => libc::O_RDWR,
        };
        let packets = description.flags & libc::O_DIRECT.cast_unsigned();
        let flags = u64::from((access | libc::O_NONBLOCK).cast_unsigned() | packets);
        let (at, path): (Arg, u64) = if pipe.fifo_path.is_empty() {
            (files.slots.proc_self().into(), script.text(format!("fd/{source}").as_bytes()))
        } else {
            (libc::AT_FDCWD.into(), script.text(&pipe.fifo_path))
        };
        let args: [Arg; 3] = [at, path.into(), flags.into()];
        let opened = script.call("open a pipe's end again", libc::SYS_openat, &args);
        keep(script, opened.into(), slot);
    }
    let args: [Arg; 3] = [spare[0].into(), spare[1].into(), 0_u64.into()];
    script.call("close a pipe's spare ends", libc::SYS_close_range, &args);
    Ok(())
}

/// pipe2(2) with its ends moved to `spare`. The two lowest numbers are free, so the kernel gives
/// those.
fn make(script: &mut Script<'_>, spare: [u64; 2]) {
    let at = script.words(&[0]);
    script.call("make a pipe", libc::SYS_pipe2, &[at.into(), 0_u64.into()]);
    for (low, high) in (0_u64..).zip(spare) {
        keep(script, low.into(), high);
    }
}

/// Writes what was in the pipe. `write` is its write end; packets are written one by one.
fn fill(
    script: &mut Script<'_>,
    pipe: &Pipe,
    ends: &[End<'_>],
    write: u64,
) -> Result<(), ResumeError> {
    if pipe.content.is_empty() {
        return Ok(());
    }
    let direct = libc::O_DIRECT.cast_unsigned();
    let packets = pipe.content.len() > 1 || ends.iter().any(|(_, _, d)| d.flags & direct != 0);
    let set = |script: &mut Script<'_>, flags: i32| {
        let args: [Arg; 3] = [write.into(), libc::F_SETFL.into(), flags.into()];
        script.call("set a pipe's mode", libc::SYS_fcntl, &args);
    };
    let mode = if packets { libc::O_DIRECT } else { 0 };
    set(script, libc::O_NONBLOCK | mode);
    for piece in pipe.content.iter().filter(|piece| !piece.is_empty()) {
        script.flush()?;
        let at = script.bytes(piece);
        let length = piece.len() as u64;
        let args: [Arg; 3] = [write.into(), at.into(), length.into()];
        let written = script.call("fill a pipe", libc::SYS_write, &args);
        let answers = script.run()?;
        if answers.raw(written).and_then(|n| u64::try_from(n).ok()) != Some(length) {
            let step = format!("fill a pipe with {length} bytes");
            return Err(super::descriptions::impossible(step, "it takes fewer"));
        }
    }
    set(script, 0);
    Ok(())
}
