#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Runs the tests at one or more speeds, as the unprivileged account, from the copy of the checkout.
#
# usage: tests.sh DIRECTORY [all|unit|render|service|cluster] [pytest arguments]
set -eu
. "$(dirname "$0")/common.sh"
directory=$1; shift
speed=default
case ${1-} in
    all|unit|render|service|cluster) speed=$1; shift ;;
esac
bin=$directory/env/bin
cd "$directory/src"
export ERP5_RELEASE="$directory/release"
export PYTHONDONTWRITEBYTECODE=1
export ERP5_SCREENSHOT="$directory/control-page.png"
# What slapos.testing wants to know; the node's directory has to be short.
export SLAPOS_TEST_IPV4=127.0.0.1 SLAPOS_TEST_IPV6=::1 SLAPOS_TEST_WORKING_DIR="$directory/node"
export SLAPOS_TEST_SOFTWARE_ROOT_DIR="$directory/src"
mkdir -p "$directory/node"

lint() { "$bin/ruff" check . && "$bin/ruff" format --check . && "$bin/mypy" slapos node tests/cluster tests/render; }

# The release of the service tests is built from a path; that of the cluster tests from a URL, as in production.
build_release() {
    want=$(cd "$directory/src" && find component stack versions software slapos/recipe/erp5/buildout \
        slapos/recipe/erp5/py2 slapos/recipe/erp5/supervise.py -type f | LC_ALL=C sort | xargs sha256sum | sha256sum)
    [ "$(cat "$directory/release/complete" 2>/dev/null)" != "$want" ] || return 0
    # These environments know what they are made of, and are kept as long as that is the same.
    mkdir -p "$directory/environments"
    for part in neoppod zope; do
        [ ! -d "$directory/release/parts/$part" ] || mv "$directory/release/parts/$part" "$directory/environments/"
    done
    rm -rf "$directory/release"
    mkdir "$directory/release"
    mv "$directory/environments" "$directory/release/parts"
    printf '[buildout]\nextends = %s/software/erp5/software.cfg\ndirectory = %s\n' "$directory/src" "$directory/release" \
        >"$directory/release/buildout.cfg"
    (cd "$directory/release" && "$bin/buildout" -U -c buildout.cfg)
    echo "$want" >"$directory/release/complete"
}

# run_speed NAME PATHS [pytest arguments]: one pytest run of PATHS, or of those that the arguments name; its seconds and
# how it ended are left in a file for report_speed.
run_speed() {
    name=$1 paths=$2; shift 2
    for argument in "$@"; do
        case $argument in tests/*) paths= ;; esac
    done
    printf '\n== %s\n' "$name"
    began=$(date +%s)
    ended=passed
    # What runs in the background would ignore Ctrl-C.
    # shellcheck disable=SC2086  # one word a path
    PATH="$bin:$PATH" env --default-signal=INT "$bin/pytest" --basetemp="$directory/tmp/$name" $paths "$@" || ended=FAILED
    echo "$(($(date +%s) - began)) $ended" >"$directory/log/$name.ended"
}

report_speed() {
    read -r seconds ended <"$directory/log/$1.ended"
    printf '== %s: %d s, %s\n' "$1" "$seconds" "$ended"
    summary="$summary  $1 $seconds s"
    [ "$ended" = passed ] || failed="$failed $1"
}

wants() { [ "$speed" = "$1" ] || [ "$speed" = all ] || [ "$speed" = default ]; }

run_cluster() {
    scenarios=tests/cluster
    if [ "$speed" = default ]; then scenarios=$(grep -v '^#' tests/cluster/listed); fi
    # In two processes, of which one runs the demo with its own node (conftest.py); what is asked for alone, in one.
    if [ $# = 0 ]; then set -- --numprocesses 2; fi
    run_speed cluster "$scenarios" "$@"
}

failed= summary=
mkdir -p "$directory/tmp"
rm -f "$directory"/log/*.ended
if wants unit; then
    step "Lint and type checks" "$directory/log/lint.log" lint
    run_speed unit tests/unit "$@"
    report_speed unit
fi
if wants render; then
    run_speed render tests/render "$@"
    report_speed render
fi
if wants service; then
    step "Software release, from a path" "$directory/log/release.log" build_release
    beside=
    # A node waits most of the time, so its scenarios run meanwhile.
    if wants cluster; then
        beside=$directory/log/cluster.log
        printf '\nMeanwhile the cluster scenarios, into %s\n' "$beside"
        run_cluster "$@" >"$beside" 2>&1 &
        cluster=$!
    fi
    # In four processes, a file in one of them, in the order of conftest.py: most of the time one server or another is
    # awaited.
    run_speed service tests/service --numprocesses 4 --dist loadfile --no-loadscope-reorder "$@"
    report_speed service
    if [ "$beside" ]; then
        wait "$cluster"
        cat "$beside"
        report_speed cluster
    fi
elif wants cluster; then
    run_cluster "$@"
    report_speed cluster
fi

printf '\nTime of each speed:%s\n' "$summary"
if [ -n "$failed" ]; then
    echo "FAILED:$failed" >&2
    exit 1
fi
