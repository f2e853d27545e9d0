#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The set-up that bin/demo and bin/test share: Debian packages, an unprivileged account, a copy of the checkout
# that this account can read, and a Python environment with pinned packages and our distribution as a wheel.
#
# usage: setup.sh demo|test CHECKOUT [arguments of bin/demo or bin/test]
#
# It runs twice when it is started as root: once as root (packages, account, copy), and then, from the copy, as
# the account, because neither slapgrid nor mariadbd run as root.
set -eu
. "$(dirname "$0")/common.sh"

PACKAGES="python3 python3-venv python3-dev gcc libc6-dev ca-certificates curl"
ACCOUNT=erp5-node
MADE_BY_US="made by bin/demo or bin/test"
LONGEST=48   # a Unix socket's path is limited to 108 bytes; what we put behind the directory takes up to 60

command=$1; checkout=$2; shift 2
if [ "$(id -u)" = 0 ]; then directory=/srv/erp5; else directory=$HOME/erp5; fi
[ "$command" = test ] && directory=$directory-test
action=run update=false

usage() {
    if [ "$command" = demo ]; then
        cat <<TEXT
usage: bin/demo [--dir DIRECTORY] [--update | --stop | --destroy]

  Builds the software release on a SlapOS node of its own, requests a MariaDB instance, and waits until every
  promise is green. A second run finds everything in place.

  --dir DIRECTORY  where everything is kept (now: $directory); at most $LONGEST characters
  --update         take over a changed checkout: reinstall our distribution, rebuild the release, process again
  --stop           stop the node and all its services; data stays
  --destroy        stop, and remove the directory
TEXT
    else
        cat <<TEXT
usage: bin/test [--dir DIRECTORY] [--destroy | all|unit|render|service|cluster [pytest arguments]]

  Without a speed: unit, render, service, and the listed cluster scenarios. Everything is set up first.

  --dir DIRECTORY  where everything is kept (now: $directory); at most $LONGEST characters
  --destroy        remove that directory, and stop what a killed run left
TEXT
    fi
}

while [ $# -gt 0 ]; do
    case $command,$1 in
        *,--dir) [ $# -gt 1 ] || { echo "--dir needs a directory" >&2; exit 2; }; directory=$2; shift ;;
        *,--dir=*) directory=${1#--dir=} ;;
        *,--help|*,-h) usage; exit 0 ;;
        demo,--update) update=true ;;
        demo,--stop) action=stop ;;
        *,--destroy) action=destroy ;;
        demo,*) echo "bin/demo does not know '$1'" >&2; usage >&2; exit 2 ;;
        test,*) break ;;
    esac
    shift
done
[ "$command" = test ] && update=true
case $directory in
    /*) ;;
    *) directory=$(pwd)/$directory ;;
esac
if [ ${#directory} -gt $LONGEST ]; then
    echo "The directory $directory is longer than $LONGEST characters, too long for Unix sockets: give a shorter --dir." >&2
    exit 2
fi

missing_packages() {
    for package in $PACKAGES; do
        dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
    done
}

install_packages() {
    missing=$(missing_packages | tr '\n' ' ')
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" = 0 ]; then
        step "Debian packages: $missing" "$log_directory/apt.log" \
            sh -c "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $missing"
    else
        echo "These Debian packages are missing: $missing" >&2
        echo "Ask root to run: apt-get install --no-install-recommends $missing" >&2
        exit 1
    fi
}

# A name that a socket and a log can live under, ours alone: never chown what somebody else put there.
claim_directory() {
    if [ -e "$directory" ] && [ ! -e "$directory/.made-by-bin-$command" ] && [ -n "$(ls -A "$directory" 2>/dev/null)" ]; then
        echo "$directory exists, is not empty and was not made by bin/$command: give another --dir." >&2
        exit 2
    fi
    mkdir -p "$directory/log"
    : >"$directory/.made-by-bin-$command"
    log_directory=$directory/log
}

make_account() {
    if ! id "$ACCOUNT" >/dev/null 2>&1; then
        useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /bin/sh \
            --comment "$MADE_BY_US" "$ACCOUNT"
    fi
    chown "$ACCOUNT:$ACCOUNT" "$directory" "$directory/log" "$directory/.made-by-bin-$command"
}

# Everything of the checkout but what git and earlier runs left there; replaces the older copy only when it differs.
copy_checkout() {
    new=$directory/src.new old=$directory/src
    rm -rf "$new"; mkdir "$new"
    tar -C "$checkout" --exclude=./.git --exclude='__pycache__' --exclude='*.egg-info' --exclude=./build \
        --exclude='.*_cache' -cf - . | tar -C "$new" --no-same-owner -xf -
    if [ "$(id -u)" = 0 ]; then chown -R "$ACCOUNT:$ACCOUNT" "$new"; fi
    chmod -R u+rwX,go-w "$new"
    if [ -d "$old" ] && diff -rq --exclude=__pycache__ --exclude='*.egg-info' --exclude=build "$old" "$new" >/dev/null; then
        rm -rf "$new"
    elif [ -d "$old" ] && [ "$update" = false ]; then
        echo "The checkout has changed since the last run; bin/demo --update takes the changes over."
        rm -rf "$new"
    else
        rm -rf "$old"; mv "$new" "$old"
    fi
}

# become_account COMMAND...: as the account, with an environment of its own plus what package clients need.
become_account() {
    keep=
    for name in $(env | sed -n 's/^\(PIP_[A-Z_]*\|[a-z]*_proxy\|[A-Z]*_PROXY\|SSL_CERT_[A-Z]*\|[A-Z]*_CA_BUNDLE\|CI\)=.*/\1/p'); do
        keep="$keep $name=\"\$$name\""
    done
    mkdir -p "$directory/home"
    [ "$(id -u)" != 0 ] || chown "$ACCOUNT:$ACCOUNT" "$directory/home"
    set -- env -i "HOME=$directory/home" "PATH=$directory/env/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin" LANG=C.UTF-8 \
        @KEEP@ "$@"
    [ "$(id -u)" != 0 ] || set -- setpriv --reuid "$ACCOUNT" --regid "$ACCOUNT" --init-groups -- "$@"
    run=
    for word; do
        if [ "$word" = @KEEP@ ]; then run="$run $keep"; else run="$run $(quote "$word")"; fi
    done
    eval "$run"
}

# Only when nothing is left of it: bin/demo and bin/test, and several directories, share it.
remove_account() {
    [ "$(getent passwd "$ACCOUNT" | cut -d: -f5)" = "$MADE_BY_US" ] || return 0
    left=$(find / -xdev -maxdepth 3 -user "$ACCOUNT" -print -quit 2>/dev/null)
    if [ -n "$left" ]; then
        echo "The account $ACCOUNT stays, as $left belongs to it."
    elif ! userdel "$ACCOUNT"; then
        echo "The account $ACCOUNT stays, for the reason above."
    fi
}

prepare() {
    claim_directory
    install_packages
    if [ "$(id -u)" = 0 ]; then make_account; fi
    step "Copy of the checkout in $directory/src" "$directory/log/copy.log" copy_checkout
    if grep -q . "$directory/log/copy.log"; then cat "$directory/log/copy.log"; fi
}

case $action in
    run)
        prepare
        become_account sh "$directory/src/node/account.sh" "$command" "$directory" "$update" "$@" ;;
    stop|destroy)
        if [ ! -e "$directory/.made-by-bin-$command" ]; then
            echo "There is nothing of bin/$command in $directory."
            exit 0
        fi
        if [ -x "$directory/env/bin/python" ]; then
            become_account "$directory/env/bin/python" "$directory/src/node/demo.py" --directory "$directory" "$action"
        fi
        if [ "$action" = destroy ]; then
            rm -rf "$directory"
            [ "$(id -u)" != 0 ] || remove_account
            echo "Removed $directory."
        fi ;;
esac
