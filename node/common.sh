# SPDX-License-Identifier: GPL-2.0-or-later
# What setup.sh and account.sh share; sourced, POSIX sh.

# step TITLE LOG COMMAND...: one line a step, with its seconds; on failure the step, the log's end, and the log's name.
step() {
    title=$1 log=$2; shift 2
    printf '%-62s' "$title"
    began=$(date +%s)
    # Not inside `if`: there the shell would ignore the errexit that stops a step at its first failing command.
    set +e
    ( set -e; "$@" ) >"$log" 2>&1
    status=$?
    set -e
    if [ "$status" = 0 ]; then
        printf ' %4d s\n' $(($(date +%s) - began))
        return 0
    fi
    printf ' FAILED\n'
    tail -n 15 "$log" | sed 's/^/    /' >&2
    echo "Step '$title' failed. All that it printed: $log" >&2
    exit 1
}
