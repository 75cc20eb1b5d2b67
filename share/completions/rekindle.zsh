#compdef rekindle

autoload -U is-at-least

_rekindle() {
    typeset -A opt_args
    typeset -a _arguments_options
    local ret=1

    if is-at-least 5.2; then
        _arguments_options=(-s -S -C)
    else
        _arguments_options=(-s -C)
    fi

    local context curcontext="$curcontext" state line
    _arguments "${_arguments_options[@]}" : \
'--store=[Directory that holds the checkpoints \[default\: the user'\''s state directory\]]:DIR:_files' \
'--format=[What stdout gets]:FORMAT:((text\:"For people"
json\:"One JSON object"
html\:"One HTML file that needs nothing else (only \`heatmap\`)"
csv\:"Comma-separated values (only \`heatmap\`)"))' \
'--timeout=[Longest the whole verb may take (\`90s\`, \`5m\`); on expiry everything is undone]:TIME:_default' \
'--wait=[How long to wait for blockers that pass by themselves]:TIME:_default' \
'--progress=[Whether to draw progress]:PROGRESS:((auto\:"On a terminal"
never\:"Not at all"))' \
'--dry-run[Say what would be done, and do nothing]' \
'*-v[More talk on stderr; repeat for more]' \
'*--verbose[More talk on stderr; repeat for more]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'-V[Print version]' \
'--version[Print version]' \
":: :_rekindle_commands" \
"*::: :->rekindle" \
&& ret=0
    case $state in
    (rekindle)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:rekindle-command-$line[1]:"
        case $line[1] in
            (check)
_arguments "${_arguments_options[@]}" : \
'--files=[Files that changed since the checkpoint]:FILES:((strict\:"A writable file that changed refuses; append-only files may have grown"
ignore\:"Changed files are taken as they are"))' \
'--tcp=[Established TCP connections. At a resume \`refuse\` refuses a checkpoint in which the program finds some closed; without it what the checkpoint was taken with holds]:TCP:((close\:"The program finds them closed by the peer"
refuse\:"They are blockers"))' \
'*--external=[What stands behind a descriptor whose other end is outside\: \`fd=N\:inherit\`, \`fd=N\:null\`, \`fd=N\:close\`, \`fd=N\:reopen\:PATH\`. Descriptors 0 to 2 default to the caller'\''s]:fd=N:POLICY:_default' \
'--store=[Directory that holds the checkpoints \[default\: the user'\''s state directory\]]:DIR:_files' \
'--format=[What stdout gets]:FORMAT:((text\:"For people"
json\:"One JSON object"
html\:"One HTML file that needs nothing else (only \`heatmap\`)"
csv\:"Comma-separated values (only \`heatmap\`)"))' \
'--timeout=[Longest the whole verb may take (\`90s\`, \`5m\`); on expiry everything is undone]:TIME:_default' \
'--wait=[How long to wait for blockers that pass by themselves]:TIME:_default' \
'--progress=[Whether to draw progress]:PROGRESS:((auto\:"On a terminal"
never\:"Not at all"))' \
'--calibrate[Measure what profiling costs on this host, on ourselves, and keep it]' \
'--stop[Look as a checkpoint with \`--stop\` would]' \
'(--stop)--update[Look as \`update\` would]' \
'--dry-run[Say what would be done, and do nothing]' \
'*-v[More talk on stderr; repeat for more]' \
'*--verbose[More talk on stderr; repeat for more]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::target -- A pid or an instance id; without one only the host is looked at:_default' \
&& ret=0
;;
(run)
_arguments "${_arguments_options[@]}" : \
'--store=[Directory that holds the checkpoints \[default\: the user'\''s state directory\]]:DIR:_files' \
'--format=[What stdout gets]:FORMAT:((text\:"For people"
json\:"One JSON object"
html\:"One HTML file that needs nothing else (only \`heatmap\`)"
csv\:"Comma-separated values (only \`heatmap\`)"))' \
'--timeout=[Longest the whole verb may take (\`90s\`, \`5m\`); on expiry everything is undone]:TIME:_default' \
'--wait=[How long to wait for blockers that pass by themselves]:TIME:_default' \
'--progress=[Whether to draw progress]:PROGRESS:((auto\:"On a terminal"
never\:"Not at all"))' \
'--dry-run[Say what would be done, and do nothing]' \
'*-v[More talk on stderr; repeat for more]' \
'*--verbose[More talk on stderr; repeat for more]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'*::command -- The command and its arguments:_default' \
&& ret=0
;;
(checkpoint)
_arguments "${_arguments_options[@]}" : \
'--parent=[Checkpoint of this program to build on\: what is the same there is not stored again. \`latest\` is its newest, if it has one; \`none\` stores everything]:REF:_default' \
'--heat=[What is known of accesses\: a \`.heat\` file, \`auto\` (what \`profile\` has learned of the program), or \`none\`]:FILE|auto|none:_files' \
'--policy=[How to divide, as in \`plan\`; by default \`adaptive\` where anything is known of accesses]:NAME:_default' \
'--threshold-warm=[Accessed in more intervals than this is warm; the policy is \`threshold\`]:N:_default' \
'--threshold-critical=[Accessed in more intervals than this is critical; the policy is \`threshold\`]:N:_default' \
'(--heat --policy --threshold-warm --threshold-critical)--plan=[Divide as this file says, which \`plan -o\` wrote]:FILE:_files' \
'--twins=[Memory that has the bytes of a file is not stored but read there. \`auto\` looks at files that the program has open for reading or mapped, with \`--stop\` also at those it knows by name. The checkpoint needs those files as they are]:auto|off:((auto\:"They are"
off\:"They are not"))' \
'*--twin=[Look for the bytes of this file, too; can be given several times]:FILE:_files' \
'*--lossy=[Store numbers only as exactly as this asks for\: \`range=START-END\` (hexadecimal) or \`symbol=NAME\`, \`type=f64\` (or f32, u8 to u64, i8 to i64), and a bound for each number'\''s error\: \`abs=E\`, \`rel=E\` (times the number itself), \`range-rel=E\` (times largest minus smallest). The program itself keeps what it has; a resume gets the approximation. Can be given several times]:SPEC:_default' \
'--max-pause=[Give up, thaw and undo if the program would stand still longer than this]:TIME:_default' \
'--shadow=[Fork the paused program and copy it from the fork while it runs, so that it stands still no longer than a fork takes; \`auto\`\: where copying would take longer by far]:auto|on|off:_default' \
'--rehearse=[Run a clone of the paused program, without any effect, for this much CPU time, to see which memory it touches first; \`auto\`\: 50ms where it can pay. The pause grows by a fork]:auto|off|TIME:_default' \
'--record-input=[Record for this long before the pause what the program receives by sockets and pipes, and play it to the clone, so that a server does its work there. It is kept in memory alone, for as long as the rehearsal takes. Meanwhile every system call on the host takes a little longer]:TIME:_default' \
'--files=[Files that changed since the checkpoint]:FILES:((strict\:"A writable file that changed refuses; append-only files may have grown"
ignore\:"Changed files are taken as they are"))' \
'--tcp=[Established TCP connections. At a resume \`refuse\` refuses a checkpoint in which the program finds some closed; without it what the checkpoint was taken with holds]:TCP:((close\:"The program finds them closed by the peer"
refuse\:"They are blockers"))' \
'*--external=[What stands behind a descriptor whose other end is outside\: \`fd=N\:inherit\`, \`fd=N\:null\`, \`fd=N\:close\`, \`fd=N\:reopen\:PATH\`. Descriptors 0 to 2 default to the caller'\''s]:fd=N:POLICY:_default' \
'--store=[Directory that holds the checkpoints \[default\: the user'\''s state directory\]]:DIR:_files' \
'--format=[What stdout gets]:FORMAT:((text\:"For people"
json\:"One JSON object"
html\:"One HTML file that needs nothing else (only \`heatmap\`)"
csv\:"Comma-separated values (only \`heatmap\`)"))' \
'--timeout=[Longest the whole verb may take (\`90s\`, \`5m\`); on expiry everything is undone]:TIME:_default' \
'--wait=[How long to wait for blockers that pass by themselves]:TIME:_default' \
'--progress=[Whether to draw progress]:PROGRESS:((auto\:"On a terminal"
never\:"Not at all"))' \
'--stop[End the program once the checkpoint is safe on disk]' \
'--dry-run[Say what would be done, and do nothing]' \
'*-v[More talk on stderr; repeat for more]' \
'*--verbose[More talk on stderr; repeat for more]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':target -- A pid or an instance id:_default' \
&& ret=0
;;
(profile)
_arguments "${_arguments_options[@]}" : \
'--for=[How long to watch; Ctrl-C ends it earlier and keeps what was seen]:TIME:_default' \
'-o+[Write a copy of what was seen to this file]:X.heat:_files' \
'--output=[Write a copy of what was seen to this file]:X.heat:_files' \
'--max-slowdown=[The most that the program may be slowed down while it is watched, a share of its CPU time]:SHARE:_default' \
'--alternate=[Turn collectors off and on again in blocks of this length, to measure what they cost]:TIME:_default' \
'--store=[Directory that holds the checkpoints \[default\: the user'\''s state directory\]]:DIR:_files' \
'--format=[What stdout gets]:FORMAT:((text\:"For people"
json\:"One JSON object"
html\:"One HTML file that needs nothing else (only \`heatmap\`)"
csv\:"Comma-separated values (only \`heatmap\`)"))' \
'--timeout=[Longest the whole verb may take (\`90s\`, \`5m\`); on expiry everything is undone]:TIME:_default' \
'--wait=[How long to wait for blockers that pass by themselves]:TIME:_default' \
'--progress=[Whether to draw progress]:PROGRESS:((auto\:"On a terminal"
never\:"Not at all"))' \
'--exact[Track reads exactly, too\: NUMA balancing is turned on for the whole host meanwhile (and put back), and the slowdown may be more than asked for]' \
'--dry-run[Say what would be done, and do nothing]' \
'*-v[More talk on stderr; repeat for more]' \
'*--verbose[More talk on stderr; repeat for more]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':target -- A pid or an instance id:_default' \
&& ret=0
;;
(resume)
_arguments "${_arguments_options[@]}" : \
'(--lazy --on-demand)--eager=[Load everything before the first instruction (the default where that takes less than 50 ms); \`--eager=warm\`\: critical and warm memory before it, cold memory when it is touched]::all|warm:((all\:"Everything"
warm\:"All but cold memory"))' \
'--probe=[Command that succeeds once the program answers; run until it does]:CMD:_default' \
'--probe-timeout=[How long the probe may fail]:TIME:_default' \
'--report=[File that gets the JSON report of a foreground resume]:FILE:_files' \
'--files=[Files that changed since the checkpoint]:FILES:((strict\:"A writable file that changed refuses; append-only files may have grown"
ignore\:"Changed files are taken as they are"))' \
'--tcp=[Established TCP connections. At a resume \`refuse\` refuses a checkpoint in which the program finds some closed; without it what the checkpoint was taken with holds]:TCP:((close\:"The program finds them closed by the peer"
refuse\:"They are blockers"))' \
'*--external=[What stands behind a descriptor whose other end is outside\: \`fd=N\:inherit\`, \`fd=N\:null\`, \`fd=N\:close\`, \`fd=N\:reopen\:PATH\`. Descriptors 0 to 2 default to the caller'\''s]:fd=N:POLICY:_default' \
'--store=[Directory that holds the checkpoints \[default\: the user'\''s state directory\]]:DIR:_files' \
'--format=[What stdout gets]:FORMAT:((text\:"For people"
json\:"One JSON object"
html\:"One HTML file that needs nothing else (only \`heatmap\`)"
csv\:"Comma-separated values (only \`heatmap\`)"))' \
'--timeout=[Longest the whole verb may take (\`90s\`, \`5m\`); on expiry everything is undone]:TIME:_default' \
'--wait=[How long to wait for blockers that pass by themselves]:TIME:_default' \
'--progress=[Whether to draw progress]:PROGRESS:((auto\:"On a terminal"
never\:"Not at all"))' \
'--detach[Return as soon as the program runs; it gets a session of its own]' \
'(--on-demand)--lazy[Run at once; memory follows on demand and in the background (the default for larger programs)]' \
'--on-demand[As \`--lazy\`, but load nothing that the program does not ask for]' \
'(--lazy --on-demand)--as-copy[Resume although the original or another resume is alive; only without writable files. All memory is loaded first]' \
'--dry-run[Say what would be done, and do nothing]' \
'*-v[More talk on stderr; repeat for more]' \
'*--verbose[More talk on stderr; repeat for more]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':reference -- Which checkpoint:_default' \
&& ret=0
;;
(update)
_arguments "${_arguments_options[@]}" : \
'*--cgroup=[Directory of a control group that the new process begins in; once for each hierarchy]:PATH:_files' \
'--cpus=[Processors that all threads of the new process may use (\`0-3,8\`)]:LIST:_default' \
'*--rlimit=[A resource limit of the new process, with the names of prlimit(1)\: \`nofile=4096\`, \`core=0\:unlimited\`; can be given several times]:NAME=SOFT[:HARD]:_default' \
'*--place=[Memory nodes that pages of a tier are moved to when all of them are there\: \`critical=0,cold=1\`]:TIER=NODE:_default' \
'--probe=[Command that succeeds once the program answers; run until it does]:CMD:_default' \
'--probe-timeout=[How long the probe may fail]:TIME:_default' \
'--on-probe-fail=[When the probe kept failing\: \`rewind\` takes the program back to the moment of the update, without its connections, unless a file or whatever leads outside has moved since]:WHAT:((report\:"It is told"
rewind\:"The program is taken back"))' \
'--store=[Directory that holds the checkpoints \[default\: the user'\''s state directory\]]:DIR:_files' \
'--format=[What stdout gets]:FORMAT:((text\:"For people"
json\:"One JSON object"
html\:"One HTML file that needs nothing else (only \`heatmap\`)"
csv\:"Comma-separated values (only \`heatmap\`)"))' \
'--timeout=[Longest the whole verb may take (\`90s\`, \`5m\`); on expiry everything is undone]:TIME:_default' \
'--wait=[How long to wait for blockers that pass by themselves]:TIME:_default' \
'--progress=[Whether to draw progress]:PROGRESS:((auto\:"On a terminal"
never\:"Not at all"))' \
'--eager[Bring all memory into the new process before it runs\: a longer pause]' \
'(--on-probe-fail)--no-store[Write nothing to the store\: memory goes through one in memory (a tmpfs), which is removed when the new process has everything. Takes that much more memory meanwhile]' \
'--huge[Huge pages for the new process'\''s anonymous memory, made when all of it is there]' \
'--dry-run[Say what would be done, and do nothing]' \
'*-v[More talk on stderr; repeat for more]' \
'*--verbose[More talk on stderr; repeat for more]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':target -- A pid or an instance id:_default' \
&& ret=0
;;
(watch)
_arguments "${_arguments_options[@]}" : \
'--every=[Length of a period\: after each the memory is divided anew]:TIME:_default' \
'--checkpoint-every=[Take a checkpoint so often]:TIME:_default' \
'--keep=[How many of the program'\''s newest checkpoints to keep. A few more stay as long as these hold pages of theirs]:N:_default' \
'--max-disk=[The most that they may take in the store\: fewer are kept, then]:SIZE:_default' \
'--on-term=[What SIGTERM and SIGHUP mean\: a last checkpoint, or just the end. Ctrl-C is the end]:ON_TERM:((checkpoint\:"Take a last checkpoint"
leave\:"End"))' \
'--metrics=[Serve metrics there, for Prometheus, at /metrics]:ADDR:_default' \
'--for=[End after this time, instead of with the program]:TIME:_default' \
'--max-slowdown=[The most that the program may be slowed down, a share of its CPU time]:SHARE:_default' \
'--max-pause=[Take no checkpoint for which the program would stand still longer than this]:TIME:_default' \
'--rehearse=[As in \`checkpoint\`, for each checkpoint]:auto|off|TIME:_default' \
'--record-input=[As in \`checkpoint\`, before each checkpoint]:TIME:_default' \
'*--lossy=[Numbers that are stored only as exactly as this asks for, as in \`checkpoint\`, at each checkpoint. Whatever lies in a range is taken for such numbers as long as the watch lasts]:SPEC:_default' \
'--files=[Files that changed since the checkpoint]:FILES:((strict\:"A writable file that changed refuses; append-only files may have grown"
ignore\:"Changed files are taken as they are"))' \
'--tcp=[Established TCP connections. At a resume \`refuse\` refuses a checkpoint in which the program finds some closed; without it what the checkpoint was taken with holds]:TCP:((close\:"The program finds them closed by the peer"
refuse\:"They are blockers"))' \
'*--external=[What stands behind a descriptor whose other end is outside\: \`fd=N\:inherit\`, \`fd=N\:null\`, \`fd=N\:close\`, \`fd=N\:reopen\:PATH\`. Descriptors 0 to 2 default to the caller'\''s]:fd=N:POLICY:_default' \
'--store=[Directory that holds the checkpoints \[default\: the user'\''s state directory\]]:DIR:_files' \
'--format=[What stdout gets]:FORMAT:((text\:"For people"
json\:"One JSON object"
html\:"One HTML file that needs nothing else (only \`heatmap\`)"
csv\:"Comma-separated values (only \`heatmap\`)"))' \
'--timeout=[Longest the whole verb may take (\`90s\`, \`5m\`); on expiry everything is undone]:TIME:_default' \
'--wait=[How long to wait for blockers that pass by themselves]:TIME:_default' \
'--progress=[Whether to draw progress]:PROGRESS:((auto\:"On a terminal"
never\:"Not at all"))' \
'--follow[When the program has ended, wait until it is resumed, and go on]' \
'--exact[Track reads exactly, too\: NUMA balancing is turned on for the whole host meanwhile (and put back), and the slowdown may be more than asked for]' \
'(--format)--tui[Show the tiers over time on the terminal, instead of one line for each event]' \
'--dry-run[Say what would be done, and do nothing]' \
'*-v[More talk on stderr; repeat for more]' \
'*--verbose[More talk on stderr; repeat for more]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':target -- A pid or an instance id:_default' \
&& ret=0
;;
(heatmap)
_arguments "${_arguments_options[@]}" : \
'-o+[File that gets it, instead of stdout]:FILE:_files' \
'--output=[File that gets it, instead of stdout]:FILE:_files' \
'--for=[With \`--live\`\: how long, at most]:TIME:_default' \
'--store=[Directory that holds the checkpoints \[default\: the user'\''s state directory\]]:DIR:_files' \
'--format=[What stdout gets]:FORMAT:((text\:"For people"
json\:"One JSON object"
html\:"One HTML file that needs nothing else (only \`heatmap\`)"
csv\:"Comma-separated values (only \`heatmap\`)"))' \
'--timeout=[Longest the whole verb may take (\`90s\`, \`5m\`); on expiry everything is undone]:TIME:_default' \
'--wait=[How long to wait for blockers that pass by themselves]:TIME:_default' \
'--progress=[Whether to draw progress]:PROGRESS:((auto\:"On a terminal"
never\:"Not at all"))' \
'(-o --output)--live[Profile the program, and draw what was seen so far on the terminal every two seconds, until \`q\` or Ctrl-C. What was seen is added to its heat, as by \`profile\`]' \
'--dry-run[Say what would be done, and do nothing]' \
'*-v[More talk on stderr; repeat for more]' \
'*--verbose[More talk on stderr; repeat for more]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':subject -- A `.heat` file, a pid or an instance id, or a checkpoint:_default' \
&& ret=0
;;
(plan)
_arguments "${_arguments_options[@]}" : \
'--policy=[How to divide\: \`adaptive\` by expected cost, \`threshold\` by access counts alone; to compare with\: \`lru\`, \`address-order\`, \`last-faults\`]:NAME:_default' \
'--threshold-warm=[With \`threshold\`\: accessed in more intervals than this is warm]:N:_default' \
'--threshold-critical=[With \`threshold\`\: accessed in more intervals than this is critical]:N:_default' \
'*--lossy=[Where a loss is allowed, as in \`checkpoint\`\: written to the plan, and granted by \`checkpoint --plan\`. Of a running program only]:SPEC:_default' \
'-o+[File that gets the plan]:FILE:_files' \
'--output=[File that gets the plan]:FILE:_files' \
'--store=[Directory that holds the checkpoints \[default\: the user'\''s state directory\]]:DIR:_files' \
'--format=[What stdout gets]:FORMAT:((text\:"For people"
json\:"One JSON object"
html\:"One HTML file that needs nothing else (only \`heatmap\`)"
csv\:"Comma-separated values (only \`heatmap\`)"))' \
'--timeout=[Longest the whole verb may take (\`90s\`, \`5m\`); on expiry everything is undone]:TIME:_default' \
'--wait=[How long to wait for blockers that pass by themselves]:TIME:_default' \
'--progress=[Whether to draw progress]:PROGRESS:((auto\:"On a terminal"
never\:"Not at all"))' \
'--dry-run[Say what would be done, and do nothing]' \
'*-v[More talk on stderr; repeat for more]' \
'*--verbose[More talk on stderr; repeat for more]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':subject -- A `.heat` file, a pid or an instance id, or a checkpoint:_default' \
&& ret=0
;;
(inspect)
_arguments "${_arguments_options[@]}" : \
'--store=[Directory that holds the checkpoints \[default\: the user'\''s state directory\]]:DIR:_files' \
'--format=[What stdout gets]:FORMAT:((text\:"For people"
json\:"One JSON object"
html\:"One HTML file that needs nothing else (only \`heatmap\`)"
csv\:"Comma-separated values (only \`heatmap\`)"))' \
'--timeout=[Longest the whole verb may take (\`90s\`, \`5m\`); on expiry everything is undone]:TIME:_default' \
'--wait=[How long to wait for blockers that pass by themselves]:TIME:_default' \
'--progress=[Whether to draw progress]:PROGRESS:((auto\:"On a terminal"
never\:"Not at all"))' \
'--dry-run[Say what would be done, and do nothing]' \
'*-v[More talk on stderr; repeat for more]' \
'*--verbose[More talk on stderr; repeat for more]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':subject -- A pid or an instance id, or a checkpoint:_default' \
'::part -- Which part:((maps\:"Mappings"
fds\:"Descriptors"
threads\:"Threads"
pages\:"Extents\: of a running program, private memory as \`plan\` would divide it now"
heat\:"What is known of accesses, by tier, and what earlier resumes had to wait for"))' \
&& ret=0
;;
(verify)
_arguments "${_arguments_options[@]}" : \
'--store=[Directory that holds the checkpoints \[default\: the user'\''s state directory\]]:DIR:_files' \
'--format=[What stdout gets]:FORMAT:((text\:"For people"
json\:"One JSON object"
html\:"One HTML file that needs nothing else (only \`heatmap\`)"
csv\:"Comma-separated values (only \`heatmap\`)"))' \
'--timeout=[Longest the whole verb may take (\`90s\`, \`5m\`); on expiry everything is undone]:TIME:_default' \
'--wait=[How long to wait for blockers that pass by themselves]:TIME:_default' \
'--progress=[Whether to draw progress]:PROGRESS:((auto\:"On a terminal"
never\:"Not at all"))' \
'--for-this-host[Also check whether it can be resumed here]' \
'--dry-run[Say what would be done, and do nothing]' \
'*-v[More talk on stderr; repeat for more]' \
'*--verbose[More talk on stderr; repeat for more]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':reference -- Which checkpoint:_default' \
&& ret=0
;;
(export)
_arguments "${_arguments_options[@]}" : \
'-o+[File that gets it, whole or not at all; without it, or with \`-\`, stdout]:FILE|-:_files' \
'--output=[File that gets it, whole or not at all; without it, or with \`-\`, stdout]:FILE|-:_files' \
'--store=[Directory that holds the checkpoints \[default\: the user'\''s state directory\]]:DIR:_files' \
'--format=[What stdout gets]:FORMAT:((text\:"For people"
json\:"One JSON object"
html\:"One HTML file that needs nothing else (only \`heatmap\`)"
csv\:"Comma-separated values (only \`heatmap\`)"))' \
'--timeout=[Longest the whole verb may take (\`90s\`, \`5m\`); on expiry everything is undone]:TIME:_default' \
'--wait=[How long to wait for blockers that pass by themselves]:TIME:_default' \
'--progress=[Whether to draw progress]:PROGRESS:((auto\:"On a terminal"
never\:"Not at all"))' \
'--dry-run[Say what would be done, and do nothing]' \
'*-v[More talk on stderr; repeat for more]' \
'*--verbose[More talk on stderr; repeat for more]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':reference -- Which checkpoint:_default' \
&& ret=0
;;
(import)
_arguments "${_arguments_options[@]}" : \
'--store=[Directory that holds the checkpoints \[default\: the user'\''s state directory\]]:DIR:_files' \
'--format=[What stdout gets]:FORMAT:((text\:"For people"
json\:"One JSON object"
html\:"One HTML file that needs nothing else (only \`heatmap\`)"
csv\:"Comma-separated values (only \`heatmap\`)"))' \
'--timeout=[Longest the whole verb may take (\`90s\`, \`5m\`); on expiry everything is undone]:TIME:_default' \
'--wait=[How long to wait for blockers that pass by themselves]:TIME:_default' \
'--progress=[Whether to draw progress]:PROGRESS:((auto\:"On a terminal"
never\:"Not at all"))' \
'--dry-run[Say what would be done, and do nothing]' \
'*-v[More talk on stderr; repeat for more]' \
'*--verbose[More talk on stderr; repeat for more]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':input -- The file, or `-` for stdin:_files' \
&& ret=0
;;
(status)
_arguments "${_arguments_options[@]}" : \
'--store=[Directory that holds the checkpoints \[default\: the user'\''s state directory\]]:DIR:_files' \
'--format=[What stdout gets]:FORMAT:((text\:"For people"
json\:"One JSON object"
html\:"One HTML file that needs nothing else (only \`heatmap\`)"
csv\:"Comma-separated values (only \`heatmap\`)"))' \
'--timeout=[Longest the whole verb may take (\`90s\`, \`5m\`); on expiry everything is undone]:TIME:_default' \
'--wait=[How long to wait for blockers that pass by themselves]:TIME:_default' \
'--progress=[Whether to draw progress]:PROGRESS:((auto\:"On a terminal"
never\:"Not at all"))' \
'--dry-run[Say what would be done, and do nothing]' \
'*-v[More talk on stderr; repeat for more]' \
'*--verbose[More talk on stderr; repeat for more]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::target -- A pid or an instance id; without one every resumed or watched program:_default' \
&& ret=0
;;
(list)
_arguments "${_arguments_options[@]}" : \
'--store=[Directory that holds the checkpoints \[default\: the user'\''s state directory\]]:DIR:_files' \
'--format=[What stdout gets]:FORMAT:((text\:"For people"
json\:"One JSON object"
html\:"One HTML file that needs nothing else (only \`heatmap\`)"
csv\:"Comma-separated values (only \`heatmap\`)"))' \
'--timeout=[Longest the whole verb may take (\`90s\`, \`5m\`); on expiry everything is undone]:TIME:_default' \
'--wait=[How long to wait for blockers that pass by themselves]:TIME:_default' \
'--progress=[Whether to draw progress]:PROGRESS:((auto\:"On a terminal"
never\:"Not at all"))' \
'--dry-run[Say what would be done, and do nothing]' \
'*-v[More talk on stderr; repeat for more]' \
'*--verbose[More talk on stderr; repeat for more]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(prune)
_arguments "${_arguments_options[@]}" : \
'--keep=[How many of the newest checkpoints of each line to keep]:N:_default' \
'--store=[Directory that holds the checkpoints \[default\: the user'\''s state directory\]]:DIR:_files' \
'--format=[What stdout gets]:FORMAT:((text\:"For people"
json\:"One JSON object"
html\:"One HTML file that needs nothing else (only \`heatmap\`)"
csv\:"Comma-separated values (only \`heatmap\`)"))' \
'--timeout=[Longest the whole verb may take (\`90s\`, \`5m\`); on expiry everything is undone]:TIME:_default' \
'--wait=[How long to wait for blockers that pass by themselves]:TIME:_default' \
'--progress=[Whether to draw progress]:PROGRESS:((auto\:"On a terminal"
never\:"Not at all"))' \
'--consolidate[Store pages that older checkpoints hold anew, so that these can go; without \`--keep\` those of the newest checkpoint of each line]' \
'--recompress[Store what stays in less space\: every checkpoint of the store that is not used just now, once, at the lowest priority, in about 12 s of processor time for each GB. Critical pages keep the form that is read soonest. On expiry of \`--timeout\` and on Ctrl-C the checkpoint at hand is as it was; those before it stay done. One that is damaged stays as it is and is named (exit 10)]' \
'--dry-run[Say what would be done, and do nothing]' \
'*-v[More talk on stderr; repeat for more]' \
'*--verbose[More talk on stderr; repeat for more]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(demo)
_arguments "${_arguments_options[@]}" : \
'--mb=[How much the service holds, in MB]:MB:_default' \
'--store=[Directory that holds the checkpoints \[default\: the user'\''s state directory\]]:DIR:_files' \
'--format=[What stdout gets]:FORMAT:((text\:"For people"
json\:"One JSON object"
html\:"One HTML file that needs nothing else (only \`heatmap\`)"
csv\:"Comma-separated values (only \`heatmap\`)"))' \
'--timeout=[Longest the whole verb may take (\`90s\`, \`5m\`); on expiry everything is undone]:TIME:_default' \
'--wait=[How long to wait for blockers that pass by themselves]:TIME:_default' \
'--progress=[Whether to draw progress]:PROGRESS:((auto\:"On a terminal"
never\:"Not at all"))' \
'--dry-run[Say what would be done, and do nothing]' \
'*-v[More talk on stderr; repeat for more]' \
'*--verbose[More talk on stderr; repeat for more]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(completions)
_arguments "${_arguments_options[@]}" : \
'--store=[Directory that holds the checkpoints \[default\: the user'\''s state directory\]]:DIR:_files' \
'--format=[What stdout gets]:FORMAT:((text\:"For people"
json\:"One JSON object"
html\:"One HTML file that needs nothing else (only \`heatmap\`)"
csv\:"Comma-separated values (only \`heatmap\`)"))' \
'--timeout=[Longest the whole verb may take (\`90s\`, \`5m\`); on expiry everything is undone]:TIME:_default' \
'--wait=[How long to wait for blockers that pass by themselves]:TIME:_default' \
'--progress=[Whether to draw progress]:PROGRESS:((auto\:"On a terminal"
never\:"Not at all"))' \
'--dry-run[Say what would be done, and do nothing]' \
'*-v[More talk on stderr; repeat for more]' \
'*--verbose[More talk on stderr; repeat for more]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
':shell -- Which shell:(bash elvish fish powershell zsh)' \
&& ret=0
;;
(manual)
_arguments "${_arguments_options[@]}" : \
'()-o+[Folder that gets every page\: \`/usr/local/share/man/man1\` for man(1) to find them]:DIR:_files' \
'()--output=[Folder that gets every page\: \`/usr/local/share/man/man1\` for man(1) to find them]:DIR:_files' \
'--store=[Directory that holds the checkpoints \[default\: the user'\''s state directory\]]:DIR:_files' \
'--format=[What stdout gets]:FORMAT:((text\:"For people"
json\:"One JSON object"
html\:"One HTML file that needs nothing else (only \`heatmap\`)"
csv\:"Comma-separated values (only \`heatmap\`)"))' \
'--timeout=[Longest the whole verb may take (\`90s\`, \`5m\`); on expiry everything is undone]:TIME:_default' \
'--wait=[How long to wait for blockers that pass by themselves]:TIME:_default' \
'--progress=[Whether to draw progress]:PROGRESS:((auto\:"On a terminal"
never\:"Not at all"))' \
'--dry-run[Say what would be done, and do nothing]' \
'*-v[More talk on stderr; repeat for more]' \
'*--verbose[More talk on stderr; repeat for more]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'::verb -- The verb that it is about; without one the page about rekindle:_default' \
&& ret=0
;;
(dump)
_arguments "${_arguments_options[@]}" : \
'-t+[The pid]:PID:_default' \
'--tree=[The pid]:PID:_default' \
'-D+[Directory that holds the checkpoints]:DIR:_files' \
'--images-dir=[Directory that holds the checkpoints]:DIR:_files' \
'--store=[Directory that holds the checkpoints \[default\: the user'\''s state directory\]]:DIR:_files' \
'--format=[What stdout gets]:FORMAT:((text\:"For people"
json\:"One JSON object"
html\:"One HTML file that needs nothing else (only \`heatmap\`)"
csv\:"Comma-separated values (only \`heatmap\`)"))' \
'--timeout=[Longest the whole verb may take (\`90s\`, \`5m\`); on expiry everything is undone]:TIME:_default' \
'--wait=[How long to wait for blockers that pass by themselves]:TIME:_default' \
'--progress=[Whether to draw progress]:PROGRESS:((auto\:"On a terminal"
never\:"Not at all"))' \
'-R[Leave the program running]' \
'--leave-running[Leave the program running]' \
'--tcp-close[Close established TCP connections in the checkpoint]' \
'--dry-run[Say what would be done, and do nothing]' \
'*-v[More talk on stderr; repeat for more]' \
'*--verbose[More talk on stderr; repeat for more]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(restore)
_arguments "${_arguments_options[@]}" : \
'-D+[Directory that holds the checkpoints]:DIR:_files' \
'--images-dir=[Directory that holds the checkpoints]:DIR:_files' \
'--store=[Directory that holds the checkpoints \[default\: the user'\''s state directory\]]:DIR:_files' \
'--format=[What stdout gets]:FORMAT:((text\:"For people"
json\:"One JSON object"
html\:"One HTML file that needs nothing else (only \`heatmap\`)"
csv\:"Comma-separated values (only \`heatmap\`)"))' \
'--timeout=[Longest the whole verb may take (\`90s\`, \`5m\`); on expiry everything is undone]:TIME:_default' \
'--wait=[How long to wait for blockers that pass by themselves]:TIME:_default' \
'--progress=[Whether to draw progress]:PROGRESS:((auto\:"On a terminal"
never\:"Not at all"))' \
'-d[Do not wait for the program]' \
'--restore-detached[Do not wait for the program]' \
'--dry-run[Say what would be done, and do nothing]' \
'*-v[More talk on stderr; repeat for more]' \
'*--verbose[More talk on stderr; repeat for more]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(agent)
_arguments "${_arguments_options[@]}" : \
'--ledger=[Goes on from the ledger open under this number]:FD:_default' \
'(--ledger)--from=[Goes on from what this process holds open]:PID:_default' \
'--store=[Directory that holds the checkpoints \[default\: the user'\''s state directory\]]:DIR:_files' \
'--format=[What stdout gets]:FORMAT:((text\:"For people"
json\:"One JSON object"
html\:"One HTML file that needs nothing else (only \`heatmap\`)"
csv\:"Comma-separated values (only \`heatmap\`)"))' \
'--timeout=[Longest the whole verb may take (\`90s\`, \`5m\`); on expiry everything is undone]:TIME:_default' \
'--wait=[How long to wait for blockers that pass by themselves]:TIME:_default' \
'--progress=[Whether to draw progress]:PROGRESS:((auto\:"On a terminal"
never\:"Not at all"))' \
'--dry-run[Say what would be done, and do nothing]' \
'*-v[More talk on stderr; repeat for more]' \
'*--verbose[More talk on stderr; repeat for more]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
&& ret=0
;;
(sample-kv)
_arguments "${_arguments_options[@]}" : \
'--store=[Directory that holds the checkpoints \[default\: the user'\''s state directory\]]:DIR:_files' \
'--format=[What stdout gets]:FORMAT:((text\:"For people"
json\:"One JSON object"
html\:"One HTML file that needs nothing else (only \`heatmap\`)"
csv\:"Comma-separated values (only \`heatmap\`)"))' \
'--timeout=[Longest the whole verb may take (\`90s\`, \`5m\`); on expiry everything is undone]:TIME:_default' \
'--wait=[How long to wait for blockers that pass by themselves]:TIME:_default' \
'--progress=[Whether to draw progress]:PROGRESS:((auto\:"On a terminal"
never\:"Not at all"))' \
'--dry-run[Say what would be done, and do nothing]' \
'*-v[More talk on stderr; repeat for more]' \
'*--verbose[More talk on stderr; repeat for more]' \
'-h[Print help (see more with '\''--help'\'')]' \
'--help[Print help (see more with '\''--help'\'')]' \
'*::arguments -- Its arguments:_default' \
&& ret=0
;;
(help)
_arguments "${_arguments_options[@]}" : \
":: :_rekindle__subcmd__help_commands" \
"*::: :->help" \
&& ret=0

    case $state in
    (help)
        words=($line[1] "${words[@]}")
        (( CURRENT += 1 ))
        curcontext="${curcontext%:*:*}:rekindle-help-command-$line[1]:"
        case $line[1] in
            (check)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(run)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(checkpoint)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(profile)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(resume)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(update)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(watch)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(heatmap)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(plan)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(inspect)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(verify)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(export)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(import)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(status)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(list)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(prune)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(demo)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(completions)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(manual)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(dump)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(restore)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(agent)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(sample-kv)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
(help)
_arguments "${_arguments_options[@]}" : \
&& ret=0
;;
        esac
    ;;
esac
;;
        esac
    ;;
esac
}

(( $+functions[_rekindle_commands] )) ||
_rekindle_commands() {
    local commands; commands=(
'check:What this host can do; every blocker of TARGET' \
'run:Start CMD under a stable outer pid\: signals and exit status pass through' \
'checkpoint:Store the state of a running program; it keeps running unless \`--stop\` is given' \
'profile:Watch which memory a running program touches, how often, as what and from which code' \
'resume:Bring a program back from a checkpoint (restore). In the foreground it is the program\: its stdio and its exit status' \
'update:Have another process take a running program over, with its memory, its descriptors and its connections' \
'watch:Keep the division of a running program'\''s memory up to date, period after period, and take checkpoints now and then' \
'heatmap:Show what is known of a program'\''s memory\: how often it is used, from which code, as what' \
'plan:Show how memory would be divided into critical, warm and cold, without doing anything' \
'inspect:Show what a checkpoint holds, or what a running program is made of\: that is looked at while it runs, and not stopped' \
'verify:Read a checkpoint whole and check every byte of it' \
'export:Write a checkpoint, and those it builds on, as one stream\: a tar archive of a store that holds nothing else, for \`rekindle import\` or tar(1). It holds the memory of the program, secrets included. Pages that are read from other files of this host do not come along' \
'import:Take the checkpoints of a stream in that \`export\` wrote. Everything is checked before anything is visible. Take in only what you trust\: what is resumed runs as you' \
'status:How far resumed programs are loaded, what of ours stays with them, and what is watched' \
'list:List the checkpoints of the store' \
'prune:Remove checkpoints, or store them in less space; bare, it removes only what crashed writers left behind' \
'demo:See all of it on a sample service, with a report' \
'completions:Completions of the command line for a shell, on stdout' \
'manual:A manual page on stdout, or all of them in a folder\: \`rekindle manual checkpoint | man -l -\`' \
'dump:CRIU'\''s words\: checkpoint and stop' \
'restore:CRIU'\''s words\: resume the latest checkpoint' \
'agent:The process that stays with a resumed program; started by \`resume\`' \
'sample-kv:The service that \`demo\` works on' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'rekindle commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__agent_commands] )) ||
_rekindle__subcmd__agent_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle agent commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__check_commands] )) ||
_rekindle__subcmd__check_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle check commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__checkpoint_commands] )) ||
_rekindle__subcmd__checkpoint_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle checkpoint commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__completions_commands] )) ||
_rekindle__subcmd__completions_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle completions commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__demo_commands] )) ||
_rekindle__subcmd__demo_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle demo commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__dump_commands] )) ||
_rekindle__subcmd__dump_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle dump commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__export_commands] )) ||
_rekindle__subcmd__export_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle export commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__heatmap_commands] )) ||
_rekindle__subcmd__heatmap_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle heatmap commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__help_commands] )) ||
_rekindle__subcmd__help_commands() {
    local commands; commands=(
'check:What this host can do; every blocker of TARGET' \
'run:Start CMD under a stable outer pid\: signals and exit status pass through' \
'checkpoint:Store the state of a running program; it keeps running unless \`--stop\` is given' \
'profile:Watch which memory a running program touches, how often, as what and from which code' \
'resume:Bring a program back from a checkpoint (restore). In the foreground it is the program\: its stdio and its exit status' \
'update:Have another process take a running program over, with its memory, its descriptors and its connections' \
'watch:Keep the division of a running program'\''s memory up to date, period after period, and take checkpoints now and then' \
'heatmap:Show what is known of a program'\''s memory\: how often it is used, from which code, as what' \
'plan:Show how memory would be divided into critical, warm and cold, without doing anything' \
'inspect:Show what a checkpoint holds, or what a running program is made of\: that is looked at while it runs, and not stopped' \
'verify:Read a checkpoint whole and check every byte of it' \
'export:Write a checkpoint, and those it builds on, as one stream\: a tar archive of a store that holds nothing else, for \`rekindle import\` or tar(1). It holds the memory of the program, secrets included. Pages that are read from other files of this host do not come along' \
'import:Take the checkpoints of a stream in that \`export\` wrote. Everything is checked before anything is visible. Take in only what you trust\: what is resumed runs as you' \
'status:How far resumed programs are loaded, what of ours stays with them, and what is watched' \
'list:List the checkpoints of the store' \
'prune:Remove checkpoints, or store them in less space; bare, it removes only what crashed writers left behind' \
'demo:See all of it on a sample service, with a report' \
'completions:Completions of the command line for a shell, on stdout' \
'manual:A manual page on stdout, or all of them in a folder\: \`rekindle manual checkpoint | man -l -\`' \
'dump:CRIU'\''s words\: checkpoint and stop' \
'restore:CRIU'\''s words\: resume the latest checkpoint' \
'agent:The process that stays with a resumed program; started by \`resume\`' \
'sample-kv:The service that \`demo\` works on' \
'help:Print this message or the help of the given subcommand(s)' \
    )
    _describe -t commands 'rekindle help commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__help__subcmd__agent_commands] )) ||
_rekindle__subcmd__help__subcmd__agent_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle help agent commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__help__subcmd__check_commands] )) ||
_rekindle__subcmd__help__subcmd__check_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle help check commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__help__subcmd__checkpoint_commands] )) ||
_rekindle__subcmd__help__subcmd__checkpoint_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle help checkpoint commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__help__subcmd__completions_commands] )) ||
_rekindle__subcmd__help__subcmd__completions_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle help completions commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__help__subcmd__demo_commands] )) ||
_rekindle__subcmd__help__subcmd__demo_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle help demo commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__help__subcmd__dump_commands] )) ||
_rekindle__subcmd__help__subcmd__dump_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle help dump commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__help__subcmd__export_commands] )) ||
_rekindle__subcmd__help__subcmd__export_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle help export commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__help__subcmd__heatmap_commands] )) ||
_rekindle__subcmd__help__subcmd__heatmap_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle help heatmap commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__help__subcmd__help_commands] )) ||
_rekindle__subcmd__help__subcmd__help_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle help help commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__help__subcmd__import_commands] )) ||
_rekindle__subcmd__help__subcmd__import_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle help import commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__help__subcmd__inspect_commands] )) ||
_rekindle__subcmd__help__subcmd__inspect_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle help inspect commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__help__subcmd__list_commands] )) ||
_rekindle__subcmd__help__subcmd__list_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle help list commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__help__subcmd__manual_commands] )) ||
_rekindle__subcmd__help__subcmd__manual_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle help manual commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__help__subcmd__plan_commands] )) ||
_rekindle__subcmd__help__subcmd__plan_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle help plan commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__help__subcmd__profile_commands] )) ||
_rekindle__subcmd__help__subcmd__profile_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle help profile commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__help__subcmd__prune_commands] )) ||
_rekindle__subcmd__help__subcmd__prune_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle help prune commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__help__subcmd__restore_commands] )) ||
_rekindle__subcmd__help__subcmd__restore_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle help restore commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__help__subcmd__resume_commands] )) ||
_rekindle__subcmd__help__subcmd__resume_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle help resume commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__help__subcmd__run_commands] )) ||
_rekindle__subcmd__help__subcmd__run_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle help run commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__help__subcmd__sample-kv_commands] )) ||
_rekindle__subcmd__help__subcmd__sample-kv_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle help sample-kv commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__help__subcmd__status_commands] )) ||
_rekindle__subcmd__help__subcmd__status_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle help status commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__help__subcmd__update_commands] )) ||
_rekindle__subcmd__help__subcmd__update_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle help update commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__help__subcmd__verify_commands] )) ||
_rekindle__subcmd__help__subcmd__verify_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle help verify commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__help__subcmd__watch_commands] )) ||
_rekindle__subcmd__help__subcmd__watch_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle help watch commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__import_commands] )) ||
_rekindle__subcmd__import_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle import commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__inspect_commands] )) ||
_rekindle__subcmd__inspect_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle inspect commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__list_commands] )) ||
_rekindle__subcmd__list_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle list commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__manual_commands] )) ||
_rekindle__subcmd__manual_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle manual commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__plan_commands] )) ||
_rekindle__subcmd__plan_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle plan commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__profile_commands] )) ||
_rekindle__subcmd__profile_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle profile commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__prune_commands] )) ||
_rekindle__subcmd__prune_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle prune commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__restore_commands] )) ||
_rekindle__subcmd__restore_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle restore commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__resume_commands] )) ||
_rekindle__subcmd__resume_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle resume commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__run_commands] )) ||
_rekindle__subcmd__run_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle run commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__sample-kv_commands] )) ||
_rekindle__subcmd__sample-kv_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle sample-kv commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__status_commands] )) ||
_rekindle__subcmd__status_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle status commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__update_commands] )) ||
_rekindle__subcmd__update_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle update commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__verify_commands] )) ||
_rekindle__subcmd__verify_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle verify commands' commands "$@"
}
(( $+functions[_rekindle__subcmd__watch_commands] )) ||
_rekindle__subcmd__watch_commands() {
    local commands; commands=()
    _describe -t commands 'rekindle watch commands' commands "$@"
}

if [ "$funcstack[1]" = "_rekindle" ]; then
    _rekindle "$@"
else
    compdef _rekindle rekindle
fi
