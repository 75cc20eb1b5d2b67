//! One function for each verb: options in, engine call, report out, exit code.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use engine::{
    CheckpointRequest, ExitClass, FilesPolicy, PruneRequest, ResumeOptions, ResumeRequest,
    UpdateRequest,
};
use serde::Serialize;

use crate::args::{
    Cli, Descriptors, Eager, Files, Format, OnProbeFail, Part, Profile, Resume, Tcp, Update, Verb,
};
use crate::context::{Context, exit, externals, interruptible, printed, to_stdout};
use crate::draw;

fn manual(verb: Option<&str>, output: Option<&Path>) -> ExitCode {
    use crate::manual::{ManualError, Wanted, write};
    match write(&output.map_or(Wanted::Page(verb), Wanted::Folder)) {
        Ok(()) => exit(ExitClass::Done),
        Err(error) => {
            eprintln!("rekindle: failed to {error}");
            exit(match error {
                ManualError::Verb(_) => ExitClass::Usage,
                ManualError::Write(_) => ExitClass::Unexpected,
            })
        }
    }
}

/// Runs the verb of `cli`.
pub(crate) fn run(cli: Cli, started: Instant) -> ExitCode {
    let context = Context::new(&cli.common, started);
    if matches!(context.format, Format::Html | Format::Csv)
        && !matches!(cli.verb, Verb::Heatmap { .. })
    {
        eprintln!("rekindle: failed to choose a form: only `heatmap` has html and csv");
        return exit(ExitClass::Usage);
    }
    if context.settings.dry_run
        && let Some(why) = no_dry_run(&cli.verb)
    {
        eprintln!("rekindle: failed to try it: {why}");
        return exit(ExitClass::Usage);
    }
    match cli.verb {
        Verb::Check { target, calibrate, stop, update, descriptors } => {
            check(&context, target.as_deref(), calibrate, (stop, update), &descriptors)
        }
        Verb::Run { command } => run_command(&context, &command),
        Verb::Checkpoint {
            target,
            stop,
            parent,
            planning,
            lossy,
            max_pause,
            shadow,
            rehearse,
            record_input,
            descriptors,
        } => {
            let plan = match planning.choice() {
                Ok(plan) => plan,
                Err(why) => {
                    eprintln!("rekindle: failed to {why}");
                    return exit(ExitClass::Usage);
                }
            };
            let twins = planning.twins();
            let request = |external| CheckpointRequest {
                plan,
                twins,
                lossy,
                target,
                stop,
                parent,
                max_pause,
                shadow,
                rehearse,
                record_input,
                tcp_close: descriptors.tcp == Some(Tcp::Close),
                external,
            };
            match externals(&descriptors) {
                Ok(external) => checkpoint(&context, &request(external)),
                Err(code) => code,
            }
        }
        Verb::Profile(options) => profile(&context, &options),
        Verb::Resume(options) => resume(&context, &options),
        Verb::Update(options) => update(&context, &options),
        Verb::Watch(options) => crate::watch::run(&context, &options),
        Verb::Heatmap { subject, live: true, time, .. } => {
            crate::heatmap::live(&context, subject, time)
        }
        Verb::Heatmap { subject, output, .. } => heatmap(&context, &subject, output.as_deref()),
        Verb::Plan(arguments) => plan(&context, arguments),
        Verb::Inspect { subject, part } => {
            let part = part.map(|p| match p {
                Part::Maps => engine::Part::Maps,
                Part::Fds => engine::Part::Fds,
                Part::Threads => engine::Part::Threads,
                Part::Pages => engine::Part::Pages,
                Part::Heat => engine::Part::Heat,
            });
            let result = engine::inspect(&context.settings, &context.registry, &subject, part);
            context.tell(result, crate::draw_inspect::inspect)
        }
        Verb::Verify { reference, for_this_host } => verify(&context, &reference, for_this_host),
        Verb::Export { reference, output } => {
            crate::archive::export(&context, &reference, output.as_deref())
        }
        Verb::Import { input } => crate::archive::import(&context, &input),
        Verb::List => list(&context),
        Verb::Prune { keep, consolidate, recompress } => {
            prune(&context, PruneRequest { keep, consolidate, recompress })
        }
        Verb::Status { target } => {
            context.tell(engine::status(&context.registry, target.as_deref()), draw::status)
        }
        Verb::Completions { shell } => printed(to_stdout(&crate::manual::completions(shell))),
        Verb::Manual { verb, output } => manual(verb.as_deref(), output.as_deref()),
        Verb::Agent { ledger, from } => agent(ledger, from),
        Verb::Demo { mb } => crate::demo::run(&context, mb),
        Verb::Dump { target, directory, leave_running, tcp_close } => {
            let context = with_store(context, directory);
            let stop = !leave_running;
            let request = CheckpointRequest {
                stop,
                parent: "none".to_owned(),
                tcp_close,
                ..CheckpointRequest::of(target)
            };
            checkpoint(&context, &request)
        }
        Verb::Restore { directory, detach } => {
            let context = with_store(context, directory);
            resume(&context, &Resume::of_latest(detach))
        }
        Verb::SampleKv { arguments } => {
            sample_kv::run(arguments.into_iter().map(std::ffi::OsString::from))
        }
    }
}

/// Why a verb cannot go up to the last step before it does something.
fn no_dry_run(verb: &Verb) -> Option<&'static str> {
    match verb {
        Verb::Demo { .. } => Some("a demo works on a service of its own; leave --dry-run out"),
        Verb::Profile(_) | Verb::Heatmap { live: true, .. } => Some(
            "a profile is nothing but looking, and what it sees is kept; `rekindle check` says \
             what can be seen",
        ),
        Verb::Prune { .. } => Some(
            "`rekindle list` shows what there is, and what builds on what; leave --dry-run out",
        ),
        Verb::Import { .. } => Some(
            "what a stream holds is known when all of it was taken in; `tar t` lists it; leave \
             --dry-run out",
        ),
        Verb::Check { calibrate: true, .. } => {
            Some("to calibrate is to measure and to keep it; leave --calibrate out")
        }
        _ => None,
    }
}

fn with_store(mut context: Context, directory: Option<PathBuf>) -> Context {
    if let Some(directory) = directory {
        context.settings.store = directory;
    }
    context
}

fn heatmap(context: &Context, subject: &str, output: Option<&Path>) -> ExitCode {
    let map = match engine::heatmap(&context.settings, &context.registry, subject) {
        Ok(map) => map,
        Err(error) => return context.fail(&error),
    };
    let text = crate::heatmap::render(&map, context.format, output);
    match output {
        Some(path) => match engine::write_output(path, text.as_bytes()) {
            Ok(()) => exit(ExitClass::Done),
            Err(error) => context.fail(&error),
        },
        None => printed(to_stdout(&text)),
    }
}

fn plan(context: &Context, arguments: crate::args::Plan) -> ExitCode {
    let crate::args::Plan { subject, policy, threshold_warm, threshold_critical, lossy, output } =
        arguments;
    let thresholds = engine::Thresholds { warm: threshold_warm, critical: threshold_critical };
    let request = engine::PlanRequest { subject, policy, thresholds, lossy, output };
    context.tell(engine::plan(&context.settings, &context.registry, &request), crate::plan::draw)
}

fn check(
    context: &Context,
    target: Option<&str>,
    calibrate: bool,
    (stop, update): (bool, bool),
    descriptors: &Descriptors,
) -> ExitCode {
    let costs = match calibrate.then(|| engine::calibrate(&context.settings)).transpose() {
        Ok(costs) => costs,
        Err(error) => return context.fail(&error),
    };
    let external = match externals(descriptors) {
        Ok(external) => external,
        Err(code) => return code,
    };
    let request = target.map(|target| CheckpointRequest {
        stop,
        parent: "none".to_owned(),
        tcp_close: descriptors.tcp == Some(Tcp::Close),
        external,
        ..CheckpointRequest::of(target.to_owned())
    });
    match engine::check(request.as_ref(), update, &context.registry) {
        Ok(mut report) => {
            report.costs = costs;
            let class = report.class();
            match (class, context.print(&report, draw::check)) {
                (ExitClass::Done, printed) => printed,
                (class, _) => exit(class),
            }
        }
        Err(error) => context.fail(&error),
    }
}

fn checkpoint(context: &Context, request: &CheckpointRequest) -> ExitCode {
    if let Err(code) = interruptible() {
        return code;
    }
    let bar = context.bar();
    let result = engine::checkpoint(&context.settings, request, &context.registry, &bar);
    drop(bar);
    context.tell(result, draw::checkpoint)
}

fn prune(context: &Context, request: PruneRequest) -> ExitCode {
    if let (true, Err(code)) = (request.recompress, interruptible()) {
        return code;
    }
    let bar = context.bar();
    let result = engine::prune(&context.settings, request, &bar);
    drop(bar);
    let report = match result {
        Ok(report) => report,
        Err(error) => return context.fail(&error),
    };
    for row in &report.failed {
        eprintln!("rekindle: {}; checkpoint {} is as it was", row.error, row.id);
    }
    match context.print(&report, draw::prune) {
        ExitCode::SUCCESS => exit(report.class()),
        unwritten => unwritten,
    }
}

fn profile(context: &Context, arguments: &Profile) -> ExitCode {
    if let Err(code) = interruptible() {
        return code;
    }
    let request = engine::ProfileRequest {
        target: arguments.target.clone(),
        time: arguments.time,
        output: arguments.output.clone(),
        slowdown_permille_max: arguments.max_slowdown,
        exact: arguments.exact,
        alternate: arguments.alternate,
    };
    let bar = context.bar();
    let result = engine::profile(&context.settings, &request, &context.registry, &bar);
    drop(bar);
    context.tell(result, crate::draw_profile::profile)
}

fn resume(context: &Context, arguments: &Resume) -> ExitCode {
    let external = match externals(&arguments.descriptors) {
        Ok(external) => external,
        Err(code) => return code,
    };
    if let Err(code) = interruptible() {
        return code;
    }
    let request = ResumeRequest {
        reference: arguments.reference.clone(),
        options: ResumeOptions {
            files: files_policy(&arguments.descriptors),
            external,
            as_copy: arguments.as_copy,
            refuse_closed: arguments.descriptors.tcp == Some(Tcp::Refuse),
            detach: arguments.detach,
            ..ResumeOptions::default()
        },
        probe: arguments.probe.clone(),
        probe_timeout: arguments.probe_timeout,
        load: match (arguments.eager, arguments.lazy, arguments.on_demand) {
            (Some(Eager::All), ..) => engine::Load::Eager,
            (Some(Eager::Warm), ..) => engine::Load::Warm,
            (_, true, _) => engine::Load::Lazy,
            (.., true) => engine::Load::OnDemand,
            _ => engine::Load::Auto,
        },
    };
    let bar = context.bar();
    let result = engine::resume(&context.settings, &request, &context.registry, &bar);
    drop(bar);
    let revived = match result {
        Ok(Some(revived)) => revived,
        Ok(None) => {
            eprintln!("rekindle: {} can be resumed here", arguments.reference);
            return exit(ExitClass::Done);
        }
        Err(error) => return context.fail(&error),
    };
    if let Some(path) = &arguments.report
        && let Err(error) = write_report(path, &revived.report)
    {
        eprintln!("rekindle: failed to write {}: {error}; the program runs", path.display());
    }
    if arguments.detach {
        return context.print(&revived.report, draw::resume);
    }
    // In the foreground we are the program from here on: its status is ours.
    match revived.wait() {
        Ok(exit) => ExitCode::from(u8::try_from(exit.shell_code()).unwrap_or(u8::MAX)),
        Err(error) => {
            eprintln!("rekindle: failed to wait for the program: {error}");
            ExitCode::from(125)
        }
    }
}

fn update(context: &Context, arguments: &Update) -> ExitCode {
    if let Err(code) = interruptible() {
        return code;
    }
    let request = UpdateRequest {
        target: arguments.target.clone(),
        load: if arguments.eager { engine::Load::Eager } else { engine::Load::Lazy },
        probe: arguments.probe.clone(),
        probe_timeout: arguments.probe_timeout,
        no_store: arguments.no_store,
        on_probe_fail: match arguments.on_probe_fail {
            OnProbeFail::Report => engine::OnProbeFail::Report,
            OnProbeFail::Rewind => engine::OnProbeFail::Rewind,
        },
        surroundings: engine::Surroundings {
            cgroups: arguments.cgroup.clone(),
            processors: arguments.cpus.clone().map(|cpus| cpus.0),
            limits: arguments.rlimit.clone(),
            huge_pages: arguments.huge,
            nodes: arguments.place.clone(),
        },
    };
    let bar = context.bar();
    let result = engine::update(&context.settings, &request, &context.registry, &bar);
    drop(bar);
    match result {
        Ok(report) => context.print(&report, draw::update),
        Err(error) => context.fail(&error),
    }
}

/// Stays with a resumed program.
fn agent(ledger: Option<i32>, from: Option<i32>) -> ExitCode {
    let start = match (ledger, from) {
        (Some(number), _) => engine::AgentStart::Ledger(number),
        (None, Some(pid)) => engine::AgentStart::Holder(pid),
        (None, None) => engine::AgentStart::Fresh,
    };
    match engine::run_agent(&start) {
        Ok(()) => exit(ExitClass::Done),
        Err(error) => {
            eprintln!("rekindle: failed to {error}");
            exit(ExitClass::Unexpected)
        }
    }
}

fn files_policy(descriptors: &Descriptors) -> FilesPolicy {
    match descriptors.files {
        Files::Strict => FilesPolicy::Strict,
        Files::Ignore => FilesPolicy::Ignore,
    }
}

fn write_report(path: &Path, report: &impl Serialize) -> std::io::Result<()> {
    std::fs::write(path, serde_json::to_vec(report)?)
}

fn verify(context: &Context, reference: &str, for_this_host: bool) -> ExitCode {
    let options = for_this_host.then(ResumeOptions::default);
    context.tell(
        engine::verify(&context.settings, reference, options.as_ref(), &context.registry),
        draw::verify,
    )
}

fn list(context: &Context) -> ExitCode {
    context.tell(engine::list(&context.settings), draw::list)
}

/// `run`: the command's own status, 125 for a failure of ours, 126 when it cannot be executed,
/// 127 when it is not found.
fn run_command(context: &Context, command: &[std::ffi::OsString]) -> ExitCode {
    if context.settings.dry_run {
        let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
        eprintln!("rekindle: {} would be started", words.join(" "));
        return exit(ExitClass::Done);
    }
    match engine::run(command) {
        Ok(exit) => ExitCode::from(u8::try_from(exit.shell_code()).unwrap_or(u8::MAX)),
        Err(error) => {
            eprintln!("rekindle: failed to {error}");
            ExitCode::from(error.shell_code())
        }
    }
}
