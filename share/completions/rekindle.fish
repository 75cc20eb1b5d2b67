# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_rekindle_global_optspecs
    string join \n store= format= timeout= wait= dry-run v/verbose progress= h/help V/version
end

function __fish_rekindle_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_rekindle_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_rekindle_using_subcommand
    set -l cmd (__fish_rekindle_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c rekindle -n "__fish_rekindle_needs_command" -l store -d 'Directory that holds the checkpoints [default: the user\'s state directory]' -r -F
complete -c rekindle -n "__fish_rekindle_needs_command" -l format -d 'What stdout gets' -r -f -a "text\t'For people'
json\t'One JSON object'
html\t'One HTML file that needs nothing else (only `heatmap`)'
csv\t'Comma-separated values (only `heatmap`)'"
complete -c rekindle -n "__fish_rekindle_needs_command" -l timeout -d 'Longest the whole verb may take (`90s`, `5m`); on expiry everything is undone' -r
complete -c rekindle -n "__fish_rekindle_needs_command" -l wait -d 'How long to wait for blockers that pass by themselves' -r
complete -c rekindle -n "__fish_rekindle_needs_command" -l progress -d 'Whether to draw progress' -r -f -a "auto\t'On a terminal'
never\t'Not at all'"
complete -c rekindle -n "__fish_rekindle_needs_command" -l dry-run -d 'Say what would be done, and do nothing'
complete -c rekindle -n "__fish_rekindle_needs_command" -s v -l verbose -d 'More talk on stderr; repeat for more'
complete -c rekindle -n "__fish_rekindle_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rekindle -n "__fish_rekindle_needs_command" -s V -l version -d 'Print version'
complete -c rekindle -n "__fish_rekindle_needs_command" -f -a "check" -d 'What this host can do; every blocker of TARGET'
complete -c rekindle -n "__fish_rekindle_needs_command" -f -a "run" -d 'Start CMD under a stable outer pid: signals and exit status pass through'
complete -c rekindle -n "__fish_rekindle_needs_command" -f -a "checkpoint" -d 'Store the state of a running program; it keeps running unless `--stop` is given'
complete -c rekindle -n "__fish_rekindle_needs_command" -f -a "profile" -d 'Watch which memory a running program touches, how often, as what and from which code'
complete -c rekindle -n "__fish_rekindle_needs_command" -f -a "resume" -d 'Bring a program back from a checkpoint (restore). In the foreground it is the program: its stdio and its exit status'
complete -c rekindle -n "__fish_rekindle_needs_command" -f -a "update" -d 'Have another process take a running program over, with its memory, its descriptors and its connections'
complete -c rekindle -n "__fish_rekindle_needs_command" -f -a "watch" -d 'Keep the division of a running program\'s memory up to date, period after period, and take checkpoints now and then'
complete -c rekindle -n "__fish_rekindle_needs_command" -f -a "heatmap" -d 'Show what is known of a program\'s memory: how often it is used, from which code, as what'
complete -c rekindle -n "__fish_rekindle_needs_command" -f -a "plan" -d 'Show how memory would be divided into critical, warm and cold, without doing anything'
complete -c rekindle -n "__fish_rekindle_needs_command" -f -a "inspect" -d 'Show what a checkpoint holds, or what a running program is made of: that is looked at while it runs, and not stopped'
complete -c rekindle -n "__fish_rekindle_needs_command" -f -a "verify" -d 'Read a checkpoint whole and check every byte of it'
complete -c rekindle -n "__fish_rekindle_needs_command" -f -a "export" -d 'Write a checkpoint, and those it builds on, as one stream: a tar archive of a store that holds nothing else, for `rekindle import` or tar(1). It holds the memory of the program, secrets included. Pages that are read from other files of this host do not come along'
complete -c rekindle -n "__fish_rekindle_needs_command" -f -a "import" -d 'Take the checkpoints of a stream in that `export` wrote. Everything is checked before anything is visible. Take in only what you trust: what is resumed runs as you'
complete -c rekindle -n "__fish_rekindle_needs_command" -f -a "status" -d 'How far resumed programs are loaded, what of ours stays with them, and what is watched'
complete -c rekindle -n "__fish_rekindle_needs_command" -f -a "list" -d 'List the checkpoints of the store'
complete -c rekindle -n "__fish_rekindle_needs_command" -f -a "prune" -d 'Remove checkpoints, or store them in less space; bare, it removes only what crashed writers left behind'
complete -c rekindle -n "__fish_rekindle_needs_command" -f -a "demo" -d 'See all of it on a sample service, with a report'
complete -c rekindle -n "__fish_rekindle_needs_command" -f -a "completions" -d 'Completions of the command line for a shell, on stdout'
complete -c rekindle -n "__fish_rekindle_needs_command" -f -a "manual" -d 'A manual page on stdout, or all of them in a folder: `rekindle manual checkpoint | man -l -`'
complete -c rekindle -n "__fish_rekindle_needs_command" -f -a "dump" -d 'CRIU\'s words: checkpoint and stop'
complete -c rekindle -n "__fish_rekindle_needs_command" -f -a "restore" -d 'CRIU\'s words: resume the latest checkpoint'
complete -c rekindle -n "__fish_rekindle_needs_command" -f -a "agent" -d 'The process that stays with a resumed program; started by `resume`'
complete -c rekindle -n "__fish_rekindle_needs_command" -f -a "sample-kv" -d 'The service that `demo` works on'
complete -c rekindle -n "__fish_rekindle_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c rekindle -n "__fish_rekindle_using_subcommand check" -l files -d 'Files that changed since the checkpoint' -r -f -a "strict\t'A writable file that changed refuses; append-only files may have grown'
ignore\t'Changed files are taken as they are'"
complete -c rekindle -n "__fish_rekindle_using_subcommand check" -l tcp -d 'Established TCP connections. At a resume `refuse` refuses a checkpoint in which the program finds some closed; without it what the checkpoint was taken with holds' -r -f -a "close\t'The program finds them closed by the peer'
refuse\t'They are blockers'"
complete -c rekindle -n "__fish_rekindle_using_subcommand check" -l external -d 'What stands behind a descriptor whose other end is outside: `fd=N:inherit`, `fd=N:null`, `fd=N:close`, `fd=N:reopen:PATH`. Descriptors 0 to 2 default to the caller\'s' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand check" -l store -d 'Directory that holds the checkpoints [default: the user\'s state directory]' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand check" -l format -d 'What stdout gets' -r -f -a "text\t'For people'
json\t'One JSON object'
html\t'One HTML file that needs nothing else (only `heatmap`)'
csv\t'Comma-separated values (only `heatmap`)'"
complete -c rekindle -n "__fish_rekindle_using_subcommand check" -l timeout -d 'Longest the whole verb may take (`90s`, `5m`); on expiry everything is undone' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand check" -l wait -d 'How long to wait for blockers that pass by themselves' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand check" -l progress -d 'Whether to draw progress' -r -f -a "auto\t'On a terminal'
never\t'Not at all'"
complete -c rekindle -n "__fish_rekindle_using_subcommand check" -l calibrate -d 'Measure what profiling costs on this host, on ourselves, and keep it'
complete -c rekindle -n "__fish_rekindle_using_subcommand check" -l stop -d 'Look as a checkpoint with `--stop` would'
complete -c rekindle -n "__fish_rekindle_using_subcommand check" -l update -d 'Look as `update` would'
complete -c rekindle -n "__fish_rekindle_using_subcommand check" -l dry-run -d 'Say what would be done, and do nothing'
complete -c rekindle -n "__fish_rekindle_using_subcommand check" -s v -l verbose -d 'More talk on stderr; repeat for more'
complete -c rekindle -n "__fish_rekindle_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rekindle -n "__fish_rekindle_using_subcommand run" -l store -d 'Directory that holds the checkpoints [default: the user\'s state directory]' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand run" -l format -d 'What stdout gets' -r -f -a "text\t'For people'
json\t'One JSON object'
html\t'One HTML file that needs nothing else (only `heatmap`)'
csv\t'Comma-separated values (only `heatmap`)'"
complete -c rekindle -n "__fish_rekindle_using_subcommand run" -l timeout -d 'Longest the whole verb may take (`90s`, `5m`); on expiry everything is undone' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand run" -l wait -d 'How long to wait for blockers that pass by themselves' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand run" -l progress -d 'Whether to draw progress' -r -f -a "auto\t'On a terminal'
never\t'Not at all'"
complete -c rekindle -n "__fish_rekindle_using_subcommand run" -l dry-run -d 'Say what would be done, and do nothing'
complete -c rekindle -n "__fish_rekindle_using_subcommand run" -s v -l verbose -d 'More talk on stderr; repeat for more'
complete -c rekindle -n "__fish_rekindle_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rekindle -n "__fish_rekindle_using_subcommand checkpoint" -l parent -d 'Checkpoint of this program to build on: what is the same there is not stored again. `latest` is its newest, if it has one; `none` stores everything' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand checkpoint" -l heat -d 'What is known of accesses: a `.heat` file, `auto` (what `profile` has learned of the program), or `none`' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand checkpoint" -l policy -d 'How to divide, as in `plan`; by default `adaptive` where anything is known of accesses' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand checkpoint" -l threshold-warm -d 'Accessed in more intervals than this is warm; the policy is `threshold`' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand checkpoint" -l threshold-critical -d 'Accessed in more intervals than this is critical; the policy is `threshold`' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand checkpoint" -l plan -d 'Divide as this file says, which `plan -o` wrote' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand checkpoint" -l twins -d 'Memory that has the bytes of a file is not stored but read there. `auto` looks at files that the program has open for reading or mapped, with `--stop` also at those it knows by name. The checkpoint needs those files as they are' -r -f -a "auto\t'They are'
off\t'They are not'"
complete -c rekindle -n "__fish_rekindle_using_subcommand checkpoint" -l twin -d 'Look for the bytes of this file, too; can be given several times' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand checkpoint" -l lossy -d 'Store numbers only as exactly as this asks for: `range=START-END` (hexadecimal) or `symbol=NAME`, `type=f64` (or f32, u8 to u64, i8 to i64), and a bound for each number\'s error: `abs=E`, `rel=E` (times the number itself), `range-rel=E` (times largest minus smallest). The program itself keeps what it has; a resume gets the approximation. Can be given several times' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand checkpoint" -l max-pause -d 'Give up, thaw and undo if the program would stand still longer than this' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand checkpoint" -l shadow -d 'Fork the paused program and copy it from the fork while it runs, so that it stands still no longer than a fork takes; `auto`: where copying would take longer by far' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand checkpoint" -l rehearse -d 'Run a clone of the paused program, without any effect, for this much CPU time, to see which memory it touches first; `auto`: 50ms where it can pay. The pause grows by a fork' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand checkpoint" -l record-input -d 'Record for this long before the pause what the program receives by sockets and pipes, and play it to the clone, so that a server does its work there. It is kept in memory alone, for as long as the rehearsal takes. Meanwhile every system call on the host takes a little longer' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand checkpoint" -l files -d 'Files that changed since the checkpoint' -r -f -a "strict\t'A writable file that changed refuses; append-only files may have grown'
ignore\t'Changed files are taken as they are'"
complete -c rekindle -n "__fish_rekindle_using_subcommand checkpoint" -l tcp -d 'Established TCP connections. At a resume `refuse` refuses a checkpoint in which the program finds some closed; without it what the checkpoint was taken with holds' -r -f -a "close\t'The program finds them closed by the peer'
refuse\t'They are blockers'"
complete -c rekindle -n "__fish_rekindle_using_subcommand checkpoint" -l external -d 'What stands behind a descriptor whose other end is outside: `fd=N:inherit`, `fd=N:null`, `fd=N:close`, `fd=N:reopen:PATH`. Descriptors 0 to 2 default to the caller\'s' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand checkpoint" -l store -d 'Directory that holds the checkpoints [default: the user\'s state directory]' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand checkpoint" -l format -d 'What stdout gets' -r -f -a "text\t'For people'
json\t'One JSON object'
html\t'One HTML file that needs nothing else (only `heatmap`)'
csv\t'Comma-separated values (only `heatmap`)'"
complete -c rekindle -n "__fish_rekindle_using_subcommand checkpoint" -l timeout -d 'Longest the whole verb may take (`90s`, `5m`); on expiry everything is undone' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand checkpoint" -l wait -d 'How long to wait for blockers that pass by themselves' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand checkpoint" -l progress -d 'Whether to draw progress' -r -f -a "auto\t'On a terminal'
never\t'Not at all'"
complete -c rekindle -n "__fish_rekindle_using_subcommand checkpoint" -l stop -d 'End the program once the checkpoint is safe on disk'
complete -c rekindle -n "__fish_rekindle_using_subcommand checkpoint" -l dry-run -d 'Say what would be done, and do nothing'
complete -c rekindle -n "__fish_rekindle_using_subcommand checkpoint" -s v -l verbose -d 'More talk on stderr; repeat for more'
complete -c rekindle -n "__fish_rekindle_using_subcommand checkpoint" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rekindle -n "__fish_rekindle_using_subcommand profile" -l for -d 'How long to watch; Ctrl-C ends it earlier and keeps what was seen' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand profile" -s o -l output -d 'Write a copy of what was seen to this file' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand profile" -l max-slowdown -d 'The most that the program may be slowed down while it is watched, a share of its CPU time' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand profile" -l alternate -d 'Turn collectors off and on again in blocks of this length, to measure what they cost' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand profile" -l store -d 'Directory that holds the checkpoints [default: the user\'s state directory]' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand profile" -l format -d 'What stdout gets' -r -f -a "text\t'For people'
json\t'One JSON object'
html\t'One HTML file that needs nothing else (only `heatmap`)'
csv\t'Comma-separated values (only `heatmap`)'"
complete -c rekindle -n "__fish_rekindle_using_subcommand profile" -l timeout -d 'Longest the whole verb may take (`90s`, `5m`); on expiry everything is undone' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand profile" -l wait -d 'How long to wait for blockers that pass by themselves' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand profile" -l progress -d 'Whether to draw progress' -r -f -a "auto\t'On a terminal'
never\t'Not at all'"
complete -c rekindle -n "__fish_rekindle_using_subcommand profile" -l exact -d 'Track reads exactly, too: NUMA balancing is turned on for the whole host meanwhile (and put back), and the slowdown may be more than asked for'
complete -c rekindle -n "__fish_rekindle_using_subcommand profile" -l dry-run -d 'Say what would be done, and do nothing'
complete -c rekindle -n "__fish_rekindle_using_subcommand profile" -s v -l verbose -d 'More talk on stderr; repeat for more'
complete -c rekindle -n "__fish_rekindle_using_subcommand profile" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rekindle -n "__fish_rekindle_using_subcommand resume" -l eager -d 'Load everything before the first instruction (the default where that takes less than 50 ms); `--eager=warm`: critical and warm memory before it, cold memory when it is touched' -r -f -a "all\t'Everything'
warm\t'All but cold memory'"
complete -c rekindle -n "__fish_rekindle_using_subcommand resume" -l probe -d 'Command that succeeds once the program answers; run until it does' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand resume" -l probe-timeout -d 'How long the probe may fail' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand resume" -l report -d 'File that gets the JSON report of a foreground resume' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand resume" -l files -d 'Files that changed since the checkpoint' -r -f -a "strict\t'A writable file that changed refuses; append-only files may have grown'
ignore\t'Changed files are taken as they are'"
complete -c rekindle -n "__fish_rekindle_using_subcommand resume" -l tcp -d 'Established TCP connections. At a resume `refuse` refuses a checkpoint in which the program finds some closed; without it what the checkpoint was taken with holds' -r -f -a "close\t'The program finds them closed by the peer'
refuse\t'They are blockers'"
complete -c rekindle -n "__fish_rekindle_using_subcommand resume" -l external -d 'What stands behind a descriptor whose other end is outside: `fd=N:inherit`, `fd=N:null`, `fd=N:close`, `fd=N:reopen:PATH`. Descriptors 0 to 2 default to the caller\'s' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand resume" -l store -d 'Directory that holds the checkpoints [default: the user\'s state directory]' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand resume" -l format -d 'What stdout gets' -r -f -a "text\t'For people'
json\t'One JSON object'
html\t'One HTML file that needs nothing else (only `heatmap`)'
csv\t'Comma-separated values (only `heatmap`)'"
complete -c rekindle -n "__fish_rekindle_using_subcommand resume" -l timeout -d 'Longest the whole verb may take (`90s`, `5m`); on expiry everything is undone' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand resume" -l wait -d 'How long to wait for blockers that pass by themselves' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand resume" -l progress -d 'Whether to draw progress' -r -f -a "auto\t'On a terminal'
never\t'Not at all'"
complete -c rekindle -n "__fish_rekindle_using_subcommand resume" -l detach -d 'Return as soon as the program runs; it gets a session of its own'
complete -c rekindle -n "__fish_rekindle_using_subcommand resume" -l lazy -d 'Run at once; memory follows on demand and in the background (the default for larger programs)'
complete -c rekindle -n "__fish_rekindle_using_subcommand resume" -l on-demand -d 'As `--lazy`, but load nothing that the program does not ask for'
complete -c rekindle -n "__fish_rekindle_using_subcommand resume" -l as-copy -d 'Resume although the original or another resume is alive; only without writable files. All memory is loaded first'
complete -c rekindle -n "__fish_rekindle_using_subcommand resume" -l dry-run -d 'Say what would be done, and do nothing'
complete -c rekindle -n "__fish_rekindle_using_subcommand resume" -s v -l verbose -d 'More talk on stderr; repeat for more'
complete -c rekindle -n "__fish_rekindle_using_subcommand resume" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rekindle -n "__fish_rekindle_using_subcommand update" -l cgroup -d 'Directory of a control group that the new process begins in; once for each hierarchy' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand update" -l cpus -d 'Processors that all threads of the new process may use (`0-3,8`)' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand update" -l rlimit -d 'A resource limit of the new process, with the names of prlimit(1): `nofile=4096`, `core=0:unlimited`; can be given several times' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand update" -l place -d 'Memory nodes that pages of a tier are moved to when all of them are there: `critical=0,cold=1`' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand update" -l probe -d 'Command that succeeds once the program answers; run until it does' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand update" -l probe-timeout -d 'How long the probe may fail' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand update" -l on-probe-fail -d 'When the probe kept failing: `rewind` takes the program back to the moment of the update, without its connections, unless a file or whatever leads outside has moved since' -r -f -a "report\t'It is told'
rewind\t'The program is taken back'"
complete -c rekindle -n "__fish_rekindle_using_subcommand update" -l store -d 'Directory that holds the checkpoints [default: the user\'s state directory]' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand update" -l format -d 'What stdout gets' -r -f -a "text\t'For people'
json\t'One JSON object'
html\t'One HTML file that needs nothing else (only `heatmap`)'
csv\t'Comma-separated values (only `heatmap`)'"
complete -c rekindle -n "__fish_rekindle_using_subcommand update" -l timeout -d 'Longest the whole verb may take (`90s`, `5m`); on expiry everything is undone' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand update" -l wait -d 'How long to wait for blockers that pass by themselves' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand update" -l progress -d 'Whether to draw progress' -r -f -a "auto\t'On a terminal'
never\t'Not at all'"
complete -c rekindle -n "__fish_rekindle_using_subcommand update" -l eager -d 'Bring all memory into the new process before it runs: a longer pause'
complete -c rekindle -n "__fish_rekindle_using_subcommand update" -l no-store -d 'Write nothing to the store: memory goes through one in memory (a tmpfs), which is removed when the new process has everything. Takes that much more memory meanwhile'
complete -c rekindle -n "__fish_rekindle_using_subcommand update" -l huge -d 'Huge pages for the new process\'s anonymous memory, made when all of it is there'
complete -c rekindle -n "__fish_rekindle_using_subcommand update" -l dry-run -d 'Say what would be done, and do nothing'
complete -c rekindle -n "__fish_rekindle_using_subcommand update" -s v -l verbose -d 'More talk on stderr; repeat for more'
complete -c rekindle -n "__fish_rekindle_using_subcommand update" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -l every -d 'Length of a period: after each the memory is divided anew' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -l checkpoint-every -d 'Take a checkpoint so often' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -l keep -d 'How many of the program\'s newest checkpoints to keep. A few more stay as long as these hold pages of theirs' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -l max-disk -d 'The most that they may take in the store: fewer are kept, then' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -l on-term -d 'What SIGTERM and SIGHUP mean: a last checkpoint, or just the end. Ctrl-C is the end' -r -f -a "checkpoint\t'Take a last checkpoint'
leave\t'End'"
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -l metrics -d 'Serve metrics there, for Prometheus, at /metrics' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -l for -d 'End after this time, instead of with the program' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -l max-slowdown -d 'The most that the program may be slowed down, a share of its CPU time' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -l max-pause -d 'Take no checkpoint for which the program would stand still longer than this' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -l rehearse -d 'As in `checkpoint`, for each checkpoint' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -l record-input -d 'As in `checkpoint`, before each checkpoint' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -l lossy -d 'Numbers that are stored only as exactly as this asks for, as in `checkpoint`, at each checkpoint. Whatever lies in a range is taken for such numbers as long as the watch lasts' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -l files -d 'Files that changed since the checkpoint' -r -f -a "strict\t'A writable file that changed refuses; append-only files may have grown'
ignore\t'Changed files are taken as they are'"
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -l tcp -d 'Established TCP connections. At a resume `refuse` refuses a checkpoint in which the program finds some closed; without it what the checkpoint was taken with holds' -r -f -a "close\t'The program finds them closed by the peer'
refuse\t'They are blockers'"
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -l external -d 'What stands behind a descriptor whose other end is outside: `fd=N:inherit`, `fd=N:null`, `fd=N:close`, `fd=N:reopen:PATH`. Descriptors 0 to 2 default to the caller\'s' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -l store -d 'Directory that holds the checkpoints [default: the user\'s state directory]' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -l format -d 'What stdout gets' -r -f -a "text\t'For people'
json\t'One JSON object'
html\t'One HTML file that needs nothing else (only `heatmap`)'
csv\t'Comma-separated values (only `heatmap`)'"
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -l timeout -d 'Longest the whole verb may take (`90s`, `5m`); on expiry everything is undone' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -l wait -d 'How long to wait for blockers that pass by themselves' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -l progress -d 'Whether to draw progress' -r -f -a "auto\t'On a terminal'
never\t'Not at all'"
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -l follow -d 'When the program has ended, wait until it is resumed, and go on'
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -l exact -d 'Track reads exactly, too: NUMA balancing is turned on for the whole host meanwhile (and put back), and the slowdown may be more than asked for'
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -l tui -d 'Show the tiers over time on the terminal, instead of one line for each event'
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -l dry-run -d 'Say what would be done, and do nothing'
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -s v -l verbose -d 'More talk on stderr; repeat for more'
complete -c rekindle -n "__fish_rekindle_using_subcommand watch" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rekindle -n "__fish_rekindle_using_subcommand heatmap" -s o -l output -d 'File that gets it, instead of stdout' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand heatmap" -l for -d 'With `--live`: how long, at most' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand heatmap" -l store -d 'Directory that holds the checkpoints [default: the user\'s state directory]' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand heatmap" -l format -d 'What stdout gets' -r -f -a "text\t'For people'
json\t'One JSON object'
html\t'One HTML file that needs nothing else (only `heatmap`)'
csv\t'Comma-separated values (only `heatmap`)'"
complete -c rekindle -n "__fish_rekindle_using_subcommand heatmap" -l timeout -d 'Longest the whole verb may take (`90s`, `5m`); on expiry everything is undone' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand heatmap" -l wait -d 'How long to wait for blockers that pass by themselves' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand heatmap" -l progress -d 'Whether to draw progress' -r -f -a "auto\t'On a terminal'
never\t'Not at all'"
complete -c rekindle -n "__fish_rekindle_using_subcommand heatmap" -l live -d 'Profile the program, and draw what was seen so far on the terminal every two seconds, until `q` or Ctrl-C. What was seen is added to its heat, as by `profile`'
complete -c rekindle -n "__fish_rekindle_using_subcommand heatmap" -l dry-run -d 'Say what would be done, and do nothing'
complete -c rekindle -n "__fish_rekindle_using_subcommand heatmap" -s v -l verbose -d 'More talk on stderr; repeat for more'
complete -c rekindle -n "__fish_rekindle_using_subcommand heatmap" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rekindle -n "__fish_rekindle_using_subcommand plan" -l policy -d 'How to divide: `adaptive` by expected cost, `threshold` by access counts alone; to compare with: `lru`, `address-order`, `last-faults`' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand plan" -l threshold-warm -d 'With `threshold`: accessed in more intervals than this is warm' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand plan" -l threshold-critical -d 'With `threshold`: accessed in more intervals than this is critical' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand plan" -l lossy -d 'Where a loss is allowed, as in `checkpoint`: written to the plan, and granted by `checkpoint --plan`. Of a running program only' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand plan" -s o -l output -d 'File that gets the plan' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand plan" -l store -d 'Directory that holds the checkpoints [default: the user\'s state directory]' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand plan" -l format -d 'What stdout gets' -r -f -a "text\t'For people'
json\t'One JSON object'
html\t'One HTML file that needs nothing else (only `heatmap`)'
csv\t'Comma-separated values (only `heatmap`)'"
complete -c rekindle -n "__fish_rekindle_using_subcommand plan" -l timeout -d 'Longest the whole verb may take (`90s`, `5m`); on expiry everything is undone' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand plan" -l wait -d 'How long to wait for blockers that pass by themselves' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand plan" -l progress -d 'Whether to draw progress' -r -f -a "auto\t'On a terminal'
never\t'Not at all'"
complete -c rekindle -n "__fish_rekindle_using_subcommand plan" -l dry-run -d 'Say what would be done, and do nothing'
complete -c rekindle -n "__fish_rekindle_using_subcommand plan" -s v -l verbose -d 'More talk on stderr; repeat for more'
complete -c rekindle -n "__fish_rekindle_using_subcommand plan" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rekindle -n "__fish_rekindle_using_subcommand inspect" -l store -d 'Directory that holds the checkpoints [default: the user\'s state directory]' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand inspect" -l format -d 'What stdout gets' -r -f -a "text\t'For people'
json\t'One JSON object'
html\t'One HTML file that needs nothing else (only `heatmap`)'
csv\t'Comma-separated values (only `heatmap`)'"
complete -c rekindle -n "__fish_rekindle_using_subcommand inspect" -l timeout -d 'Longest the whole verb may take (`90s`, `5m`); on expiry everything is undone' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand inspect" -l wait -d 'How long to wait for blockers that pass by themselves' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand inspect" -l progress -d 'Whether to draw progress' -r -f -a "auto\t'On a terminal'
never\t'Not at all'"
complete -c rekindle -n "__fish_rekindle_using_subcommand inspect" -l dry-run -d 'Say what would be done, and do nothing'
complete -c rekindle -n "__fish_rekindle_using_subcommand inspect" -s v -l verbose -d 'More talk on stderr; repeat for more'
complete -c rekindle -n "__fish_rekindle_using_subcommand inspect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rekindle -n "__fish_rekindle_using_subcommand verify" -l store -d 'Directory that holds the checkpoints [default: the user\'s state directory]' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand verify" -l format -d 'What stdout gets' -r -f -a "text\t'For people'
json\t'One JSON object'
html\t'One HTML file that needs nothing else (only `heatmap`)'
csv\t'Comma-separated values (only `heatmap`)'"
complete -c rekindle -n "__fish_rekindle_using_subcommand verify" -l timeout -d 'Longest the whole verb may take (`90s`, `5m`); on expiry everything is undone' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand verify" -l wait -d 'How long to wait for blockers that pass by themselves' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand verify" -l progress -d 'Whether to draw progress' -r -f -a "auto\t'On a terminal'
never\t'Not at all'"
complete -c rekindle -n "__fish_rekindle_using_subcommand verify" -l for-this-host -d 'Also check whether it can be resumed here'
complete -c rekindle -n "__fish_rekindle_using_subcommand verify" -l dry-run -d 'Say what would be done, and do nothing'
complete -c rekindle -n "__fish_rekindle_using_subcommand verify" -s v -l verbose -d 'More talk on stderr; repeat for more'
complete -c rekindle -n "__fish_rekindle_using_subcommand verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rekindle -n "__fish_rekindle_using_subcommand export" -s o -l output -d 'File that gets it, whole or not at all; without it, or with `-`, stdout' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand export" -l store -d 'Directory that holds the checkpoints [default: the user\'s state directory]' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand export" -l format -d 'What stdout gets' -r -f -a "text\t'For people'
json\t'One JSON object'
html\t'One HTML file that needs nothing else (only `heatmap`)'
csv\t'Comma-separated values (only `heatmap`)'"
complete -c rekindle -n "__fish_rekindle_using_subcommand export" -l timeout -d 'Longest the whole verb may take (`90s`, `5m`); on expiry everything is undone' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand export" -l wait -d 'How long to wait for blockers that pass by themselves' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand export" -l progress -d 'Whether to draw progress' -r -f -a "auto\t'On a terminal'
never\t'Not at all'"
complete -c rekindle -n "__fish_rekindle_using_subcommand export" -l dry-run -d 'Say what would be done, and do nothing'
complete -c rekindle -n "__fish_rekindle_using_subcommand export" -s v -l verbose -d 'More talk on stderr; repeat for more'
complete -c rekindle -n "__fish_rekindle_using_subcommand export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rekindle -n "__fish_rekindle_using_subcommand import" -l store -d 'Directory that holds the checkpoints [default: the user\'s state directory]' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand import" -l format -d 'What stdout gets' -r -f -a "text\t'For people'
json\t'One JSON object'
html\t'One HTML file that needs nothing else (only `heatmap`)'
csv\t'Comma-separated values (only `heatmap`)'"
complete -c rekindle -n "__fish_rekindle_using_subcommand import" -l timeout -d 'Longest the whole verb may take (`90s`, `5m`); on expiry everything is undone' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand import" -l wait -d 'How long to wait for blockers that pass by themselves' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand import" -l progress -d 'Whether to draw progress' -r -f -a "auto\t'On a terminal'
never\t'Not at all'"
complete -c rekindle -n "__fish_rekindle_using_subcommand import" -l dry-run -d 'Say what would be done, and do nothing'
complete -c rekindle -n "__fish_rekindle_using_subcommand import" -s v -l verbose -d 'More talk on stderr; repeat for more'
complete -c rekindle -n "__fish_rekindle_using_subcommand import" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rekindle -n "__fish_rekindle_using_subcommand status" -l store -d 'Directory that holds the checkpoints [default: the user\'s state directory]' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand status" -l format -d 'What stdout gets' -r -f -a "text\t'For people'
json\t'One JSON object'
html\t'One HTML file that needs nothing else (only `heatmap`)'
csv\t'Comma-separated values (only `heatmap`)'"
complete -c rekindle -n "__fish_rekindle_using_subcommand status" -l timeout -d 'Longest the whole verb may take (`90s`, `5m`); on expiry everything is undone' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand status" -l wait -d 'How long to wait for blockers that pass by themselves' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand status" -l progress -d 'Whether to draw progress' -r -f -a "auto\t'On a terminal'
never\t'Not at all'"
complete -c rekindle -n "__fish_rekindle_using_subcommand status" -l dry-run -d 'Say what would be done, and do nothing'
complete -c rekindle -n "__fish_rekindle_using_subcommand status" -s v -l verbose -d 'More talk on stderr; repeat for more'
complete -c rekindle -n "__fish_rekindle_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rekindle -n "__fish_rekindle_using_subcommand list" -l store -d 'Directory that holds the checkpoints [default: the user\'s state directory]' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand list" -l format -d 'What stdout gets' -r -f -a "text\t'For people'
json\t'One JSON object'
html\t'One HTML file that needs nothing else (only `heatmap`)'
csv\t'Comma-separated values (only `heatmap`)'"
complete -c rekindle -n "__fish_rekindle_using_subcommand list" -l timeout -d 'Longest the whole verb may take (`90s`, `5m`); on expiry everything is undone' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand list" -l wait -d 'How long to wait for blockers that pass by themselves' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand list" -l progress -d 'Whether to draw progress' -r -f -a "auto\t'On a terminal'
never\t'Not at all'"
complete -c rekindle -n "__fish_rekindle_using_subcommand list" -l dry-run -d 'Say what would be done, and do nothing'
complete -c rekindle -n "__fish_rekindle_using_subcommand list" -s v -l verbose -d 'More talk on stderr; repeat for more'
complete -c rekindle -n "__fish_rekindle_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rekindle -n "__fish_rekindle_using_subcommand prune" -l keep -d 'How many of the newest checkpoints of each line to keep' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand prune" -l store -d 'Directory that holds the checkpoints [default: the user\'s state directory]' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand prune" -l format -d 'What stdout gets' -r -f -a "text\t'For people'
json\t'One JSON object'
html\t'One HTML file that needs nothing else (only `heatmap`)'
csv\t'Comma-separated values (only `heatmap`)'"
complete -c rekindle -n "__fish_rekindle_using_subcommand prune" -l timeout -d 'Longest the whole verb may take (`90s`, `5m`); on expiry everything is undone' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand prune" -l wait -d 'How long to wait for blockers that pass by themselves' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand prune" -l progress -d 'Whether to draw progress' -r -f -a "auto\t'On a terminal'
never\t'Not at all'"
complete -c rekindle -n "__fish_rekindle_using_subcommand prune" -l consolidate -d 'Store pages that older checkpoints hold anew, so that these can go; without `--keep` those of the newest checkpoint of each line'
complete -c rekindle -n "__fish_rekindle_using_subcommand prune" -l recompress -d 'Store what stays in less space: every checkpoint of the store that is not used just now, once, at the lowest priority, in about 12 s of processor time for each GB. Critical pages keep the form that is read soonest. On expiry of `--timeout` and on Ctrl-C the checkpoint at hand is as it was; those before it stay done. One that is damaged stays as it is and is named (exit 10)'
complete -c rekindle -n "__fish_rekindle_using_subcommand prune" -l dry-run -d 'Say what would be done, and do nothing'
complete -c rekindle -n "__fish_rekindle_using_subcommand prune" -s v -l verbose -d 'More talk on stderr; repeat for more'
complete -c rekindle -n "__fish_rekindle_using_subcommand prune" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rekindle -n "__fish_rekindle_using_subcommand demo" -l mb -d 'How much the service holds, in MB' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand demo" -l store -d 'Directory that holds the checkpoints [default: the user\'s state directory]' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand demo" -l format -d 'What stdout gets' -r -f -a "text\t'For people'
json\t'One JSON object'
html\t'One HTML file that needs nothing else (only `heatmap`)'
csv\t'Comma-separated values (only `heatmap`)'"
complete -c rekindle -n "__fish_rekindle_using_subcommand demo" -l timeout -d 'Longest the whole verb may take (`90s`, `5m`); on expiry everything is undone' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand demo" -l wait -d 'How long to wait for blockers that pass by themselves' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand demo" -l progress -d 'Whether to draw progress' -r -f -a "auto\t'On a terminal'
never\t'Not at all'"
complete -c rekindle -n "__fish_rekindle_using_subcommand demo" -l dry-run -d 'Say what would be done, and do nothing'
complete -c rekindle -n "__fish_rekindle_using_subcommand demo" -s v -l verbose -d 'More talk on stderr; repeat for more'
complete -c rekindle -n "__fish_rekindle_using_subcommand demo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rekindle -n "__fish_rekindle_using_subcommand completions" -l store -d 'Directory that holds the checkpoints [default: the user\'s state directory]' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand completions" -l format -d 'What stdout gets' -r -f -a "text\t'For people'
json\t'One JSON object'
html\t'One HTML file that needs nothing else (only `heatmap`)'
csv\t'Comma-separated values (only `heatmap`)'"
complete -c rekindle -n "__fish_rekindle_using_subcommand completions" -l timeout -d 'Longest the whole verb may take (`90s`, `5m`); on expiry everything is undone' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand completions" -l wait -d 'How long to wait for blockers that pass by themselves' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand completions" -l progress -d 'Whether to draw progress' -r -f -a "auto\t'On a terminal'
never\t'Not at all'"
complete -c rekindle -n "__fish_rekindle_using_subcommand completions" -l dry-run -d 'Say what would be done, and do nothing'
complete -c rekindle -n "__fish_rekindle_using_subcommand completions" -s v -l verbose -d 'More talk on stderr; repeat for more'
complete -c rekindle -n "__fish_rekindle_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rekindle -n "__fish_rekindle_using_subcommand manual" -s o -l output -d 'Folder that gets every page: `/usr/local/share/man/man1` for man(1) to find them' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand manual" -l store -d 'Directory that holds the checkpoints [default: the user\'s state directory]' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand manual" -l format -d 'What stdout gets' -r -f -a "text\t'For people'
json\t'One JSON object'
html\t'One HTML file that needs nothing else (only `heatmap`)'
csv\t'Comma-separated values (only `heatmap`)'"
complete -c rekindle -n "__fish_rekindle_using_subcommand manual" -l timeout -d 'Longest the whole verb may take (`90s`, `5m`); on expiry everything is undone' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand manual" -l wait -d 'How long to wait for blockers that pass by themselves' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand manual" -l progress -d 'Whether to draw progress' -r -f -a "auto\t'On a terminal'
never\t'Not at all'"
complete -c rekindle -n "__fish_rekindle_using_subcommand manual" -l dry-run -d 'Say what would be done, and do nothing'
complete -c rekindle -n "__fish_rekindle_using_subcommand manual" -s v -l verbose -d 'More talk on stderr; repeat for more'
complete -c rekindle -n "__fish_rekindle_using_subcommand manual" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rekindle -n "__fish_rekindle_using_subcommand dump" -s t -l tree -d 'The pid' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand dump" -s D -l images-dir -d 'Directory that holds the checkpoints' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand dump" -l store -d 'Directory that holds the checkpoints [default: the user\'s state directory]' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand dump" -l format -d 'What stdout gets' -r -f -a "text\t'For people'
json\t'One JSON object'
html\t'One HTML file that needs nothing else (only `heatmap`)'
csv\t'Comma-separated values (only `heatmap`)'"
complete -c rekindle -n "__fish_rekindle_using_subcommand dump" -l timeout -d 'Longest the whole verb may take (`90s`, `5m`); on expiry everything is undone' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand dump" -l wait -d 'How long to wait for blockers that pass by themselves' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand dump" -l progress -d 'Whether to draw progress' -r -f -a "auto\t'On a terminal'
never\t'Not at all'"
complete -c rekindle -n "__fish_rekindle_using_subcommand dump" -s R -l leave-running -d 'Leave the program running'
complete -c rekindle -n "__fish_rekindle_using_subcommand dump" -l tcp-close -d 'Close established TCP connections in the checkpoint'
complete -c rekindle -n "__fish_rekindle_using_subcommand dump" -l dry-run -d 'Say what would be done, and do nothing'
complete -c rekindle -n "__fish_rekindle_using_subcommand dump" -s v -l verbose -d 'More talk on stderr; repeat for more'
complete -c rekindle -n "__fish_rekindle_using_subcommand dump" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rekindle -n "__fish_rekindle_using_subcommand restore" -s D -l images-dir -d 'Directory that holds the checkpoints' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand restore" -l store -d 'Directory that holds the checkpoints [default: the user\'s state directory]' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand restore" -l format -d 'What stdout gets' -r -f -a "text\t'For people'
json\t'One JSON object'
html\t'One HTML file that needs nothing else (only `heatmap`)'
csv\t'Comma-separated values (only `heatmap`)'"
complete -c rekindle -n "__fish_rekindle_using_subcommand restore" -l timeout -d 'Longest the whole verb may take (`90s`, `5m`); on expiry everything is undone' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand restore" -l wait -d 'How long to wait for blockers that pass by themselves' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand restore" -l progress -d 'Whether to draw progress' -r -f -a "auto\t'On a terminal'
never\t'Not at all'"
complete -c rekindle -n "__fish_rekindle_using_subcommand restore" -s d -l restore-detached -d 'Do not wait for the program'
complete -c rekindle -n "__fish_rekindle_using_subcommand restore" -l dry-run -d 'Say what would be done, and do nothing'
complete -c rekindle -n "__fish_rekindle_using_subcommand restore" -s v -l verbose -d 'More talk on stderr; repeat for more'
complete -c rekindle -n "__fish_rekindle_using_subcommand restore" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rekindle -n "__fish_rekindle_using_subcommand agent" -l ledger -d 'Goes on from the ledger open under this number' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand agent" -l from -d 'Goes on from what this process holds open' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand agent" -l store -d 'Directory that holds the checkpoints [default: the user\'s state directory]' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand agent" -l format -d 'What stdout gets' -r -f -a "text\t'For people'
json\t'One JSON object'
html\t'One HTML file that needs nothing else (only `heatmap`)'
csv\t'Comma-separated values (only `heatmap`)'"
complete -c rekindle -n "__fish_rekindle_using_subcommand agent" -l timeout -d 'Longest the whole verb may take (`90s`, `5m`); on expiry everything is undone' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand agent" -l wait -d 'How long to wait for blockers that pass by themselves' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand agent" -l progress -d 'Whether to draw progress' -r -f -a "auto\t'On a terminal'
never\t'Not at all'"
complete -c rekindle -n "__fish_rekindle_using_subcommand agent" -l dry-run -d 'Say what would be done, and do nothing'
complete -c rekindle -n "__fish_rekindle_using_subcommand agent" -s v -l verbose -d 'More talk on stderr; repeat for more'
complete -c rekindle -n "__fish_rekindle_using_subcommand agent" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rekindle -n "__fish_rekindle_using_subcommand sample-kv" -l store -d 'Directory that holds the checkpoints [default: the user\'s state directory]' -r -F
complete -c rekindle -n "__fish_rekindle_using_subcommand sample-kv" -l format -d 'What stdout gets' -r -f -a "text\t'For people'
json\t'One JSON object'
html\t'One HTML file that needs nothing else (only `heatmap`)'
csv\t'Comma-separated values (only `heatmap`)'"
complete -c rekindle -n "__fish_rekindle_using_subcommand sample-kv" -l timeout -d 'Longest the whole verb may take (`90s`, `5m`); on expiry everything is undone' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand sample-kv" -l wait -d 'How long to wait for blockers that pass by themselves' -r
complete -c rekindle -n "__fish_rekindle_using_subcommand sample-kv" -l progress -d 'Whether to draw progress' -r -f -a "auto\t'On a terminal'
never\t'Not at all'"
complete -c rekindle -n "__fish_rekindle_using_subcommand sample-kv" -l dry-run -d 'Say what would be done, and do nothing'
complete -c rekindle -n "__fish_rekindle_using_subcommand sample-kv" -s v -l verbose -d 'More talk on stderr; repeat for more'
complete -c rekindle -n "__fish_rekindle_using_subcommand sample-kv" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c rekindle -n "__fish_rekindle_using_subcommand help; and not __fish_seen_subcommand_from check run checkpoint profile resume update watch heatmap plan inspect verify export import status list prune demo completions manual dump restore agent sample-kv help" -f -a "check" -d 'What this host can do; every blocker of TARGET'
complete -c rekindle -n "__fish_rekindle_using_subcommand help; and not __fish_seen_subcommand_from check run checkpoint profile resume update watch heatmap plan inspect verify export import status list prune demo completions manual dump restore agent sample-kv help" -f -a "run" -d 'Start CMD under a stable outer pid: signals and exit status pass through'
complete -c rekindle -n "__fish_rekindle_using_subcommand help; and not __fish_seen_subcommand_from check run checkpoint profile resume update watch heatmap plan inspect verify export import status list prune demo completions manual dump restore agent sample-kv help" -f -a "checkpoint" -d 'Store the state of a running program; it keeps running unless `--stop` is given'
complete -c rekindle -n "__fish_rekindle_using_subcommand help; and not __fish_seen_subcommand_from check run checkpoint profile resume update watch heatmap plan inspect verify export import status list prune demo completions manual dump restore agent sample-kv help" -f -a "profile" -d 'Watch which memory a running program touches, how often, as what and from which code'
complete -c rekindle -n "__fish_rekindle_using_subcommand help; and not __fish_seen_subcommand_from check run checkpoint profile resume update watch heatmap plan inspect verify export import status list prune demo completions manual dump restore agent sample-kv help" -f -a "resume" -d 'Bring a program back from a checkpoint (restore). In the foreground it is the program: its stdio and its exit status'
complete -c rekindle -n "__fish_rekindle_using_subcommand help; and not __fish_seen_subcommand_from check run checkpoint profile resume update watch heatmap plan inspect verify export import status list prune demo completions manual dump restore agent sample-kv help" -f -a "update" -d 'Have another process take a running program over, with its memory, its descriptors and its connections'
complete -c rekindle -n "__fish_rekindle_using_subcommand help; and not __fish_seen_subcommand_from check run checkpoint profile resume update watch heatmap plan inspect verify export import status list prune demo completions manual dump restore agent sample-kv help" -f -a "watch" -d 'Keep the division of a running program\'s memory up to date, period after period, and take checkpoints now and then'
complete -c rekindle -n "__fish_rekindle_using_subcommand help; and not __fish_seen_subcommand_from check run checkpoint profile resume update watch heatmap plan inspect verify export import status list prune demo completions manual dump restore agent sample-kv help" -f -a "heatmap" -d 'Show what is known of a program\'s memory: how often it is used, from which code, as what'
complete -c rekindle -n "__fish_rekindle_using_subcommand help; and not __fish_seen_subcommand_from check run checkpoint profile resume update watch heatmap plan inspect verify export import status list prune demo completions manual dump restore agent sample-kv help" -f -a "plan" -d 'Show how memory would be divided into critical, warm and cold, without doing anything'
complete -c rekindle -n "__fish_rekindle_using_subcommand help; and not __fish_seen_subcommand_from check run checkpoint profile resume update watch heatmap plan inspect verify export import status list prune demo completions manual dump restore agent sample-kv help" -f -a "inspect" -d 'Show what a checkpoint holds, or what a running program is made of: that is looked at while it runs, and not stopped'
complete -c rekindle -n "__fish_rekindle_using_subcommand help; and not __fish_seen_subcommand_from check run checkpoint profile resume update watch heatmap plan inspect verify export import status list prune demo completions manual dump restore agent sample-kv help" -f -a "verify" -d 'Read a checkpoint whole and check every byte of it'
complete -c rekindle -n "__fish_rekindle_using_subcommand help; and not __fish_seen_subcommand_from check run checkpoint profile resume update watch heatmap plan inspect verify export import status list prune demo completions manual dump restore agent sample-kv help" -f -a "export" -d 'Write a checkpoint, and those it builds on, as one stream: a tar archive of a store that holds nothing else, for `rekindle import` or tar(1). It holds the memory of the program, secrets included. Pages that are read from other files of this host do not come along'
complete -c rekindle -n "__fish_rekindle_using_subcommand help; and not __fish_seen_subcommand_from check run checkpoint profile resume update watch heatmap plan inspect verify export import status list prune demo completions manual dump restore agent sample-kv help" -f -a "import" -d 'Take the checkpoints of a stream in that `export` wrote. Everything is checked before anything is visible. Take in only what you trust: what is resumed runs as you'
complete -c rekindle -n "__fish_rekindle_using_subcommand help; and not __fish_seen_subcommand_from check run checkpoint profile resume update watch heatmap plan inspect verify export import status list prune demo completions manual dump restore agent sample-kv help" -f -a "status" -d 'How far resumed programs are loaded, what of ours stays with them, and what is watched'
complete -c rekindle -n "__fish_rekindle_using_subcommand help; and not __fish_seen_subcommand_from check run checkpoint profile resume update watch heatmap plan inspect verify export import status list prune demo completions manual dump restore agent sample-kv help" -f -a "list" -d 'List the checkpoints of the store'
complete -c rekindle -n "__fish_rekindle_using_subcommand help; and not __fish_seen_subcommand_from check run checkpoint profile resume update watch heatmap plan inspect verify export import status list prune demo completions manual dump restore agent sample-kv help" -f -a "prune" -d 'Remove checkpoints, or store them in less space; bare, it removes only what crashed writers left behind'
complete -c rekindle -n "__fish_rekindle_using_subcommand help; and not __fish_seen_subcommand_from check run checkpoint profile resume update watch heatmap plan inspect verify export import status list prune demo completions manual dump restore agent sample-kv help" -f -a "demo" -d 'See all of it on a sample service, with a report'
complete -c rekindle -n "__fish_rekindle_using_subcommand help; and not __fish_seen_subcommand_from check run checkpoint profile resume update watch heatmap plan inspect verify export import status list prune demo completions manual dump restore agent sample-kv help" -f -a "completions" -d 'Completions of the command line for a shell, on stdout'
complete -c rekindle -n "__fish_rekindle_using_subcommand help; and not __fish_seen_subcommand_from check run checkpoint profile resume update watch heatmap plan inspect verify export import status list prune demo completions manual dump restore agent sample-kv help" -f -a "manual" -d 'A manual page on stdout, or all of them in a folder: `rekindle manual checkpoint | man -l -`'
complete -c rekindle -n "__fish_rekindle_using_subcommand help; and not __fish_seen_subcommand_from check run checkpoint profile resume update watch heatmap plan inspect verify export import status list prune demo completions manual dump restore agent sample-kv help" -f -a "dump" -d 'CRIU\'s words: checkpoint and stop'
complete -c rekindle -n "__fish_rekindle_using_subcommand help; and not __fish_seen_subcommand_from check run checkpoint profile resume update watch heatmap plan inspect verify export import status list prune demo completions manual dump restore agent sample-kv help" -f -a "restore" -d 'CRIU\'s words: resume the latest checkpoint'
complete -c rekindle -n "__fish_rekindle_using_subcommand help; and not __fish_seen_subcommand_from check run checkpoint profile resume update watch heatmap plan inspect verify export import status list prune demo completions manual dump restore agent sample-kv help" -f -a "agent" -d 'The process that stays with a resumed program; started by `resume`'
complete -c rekindle -n "__fish_rekindle_using_subcommand help; and not __fish_seen_subcommand_from check run checkpoint profile resume update watch heatmap plan inspect verify export import status list prune demo completions manual dump restore agent sample-kv help" -f -a "sample-kv" -d 'The service that `demo` works on'
complete -c rekindle -n "__fish_rekindle_using_subcommand help; and not __fish_seen_subcommand_from check run checkpoint profile resume update watch heatmap plan inspect verify export import status list prune demo completions manual dump restore agent sample-kv help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
