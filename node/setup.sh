#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The set-up that bin/demo and bin/test share: Debian packages, an unprivileged account, a copy of the checkout
# that this account can read, and a Python environment with pinned packages and our distribution as a wheel.
#
# usage: setup.sh demo|test CHECKOUT [arguments of bin/demo or bin/test]
#
# Neither slapgrid nor mariadbd run as root. Started as root it installs packages, makes the account and an empty
# directory for it, and from then on does nothing in that directory itself: what the account owns it could have replaced
# by links. All the rest runs as the account.
set -eu
. "$(dirname "$0")/common.sh"

PACKAGES="python3 python3-venv python3-dev gcc libc6-dev ca-certificates curl"
BROWSER="chromium chromium-driver"   # for the tests of the control page
ACCOUNT=erp5-node
LONGEST=48   # a Unix socket's path is limited to 108 bytes; what we put behind the directory takes up to 60

command=$1; checkout=$2; shift 2
if [ "$(id -u)" = 0 ]; then directory=/srv/erp5-$command; else directory=$HOME/erp5-$command; fi
action=run update=false shown=

usage() {
    if [ "$command" = demo ]; then
        cat <<TEXT
usage: bin/demo [--dir DIRECTORY] [--erp5] [--update | --stop | --destroy]

  Builds the software release on a SlapOS node of its own, requests a MariaDB instance and a replica of it, waits until
  every promise is green, and shows a row that travelled. A second run finds everything in place.

  --erp5           show a whole ERP5 and its replica instead: MariaDB, NEO, Zope on standby and balancers
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
        demo,--erp5) shown=--erp5 ;;
        demo,--update) update=true ;;
        demo,--stop) action=stop ;;
        *,--destroy) action=destroy ;;
        demo,*) echo "bin/demo does not know '$1'" >&2; usage >&2; exit 2 ;;
        test,all|test,unit|test,render|test,service|test,cluster|test,-*|test,*/*) break ;;
        test,*) echo "bin/test does not know '$1'" >&2; usage >&2; exit 2 ;;
    esac
    shift
done
[ "$command" = test ] && update=true
case $command,${1-} in
    test,unit|test,render) ;;
    test,*) PACKAGES="$PACKAGES $BROWSER" ;;
esac

# resolve PATH: absolute and without links, its last part may not exist yet.
resolve() {
    if [ -d "$1" ]; then
        (cd "$1" && pwd -P)
    else
        mkdir -p "$(dirname "$1")"
        printf '%s/%s\n' "$(cd "$(dirname "$1")" && pwd -P)" "$(basename "$1")"
    fi
}

refuse() { echo "$*" >&2; exit 2; }

missing_packages() {
    for package in $PACKAGES; do
        dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || echo "$package"
    done
}

install_packages() {
    missing=$(missing_packages | tr '\n' ' ')
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" = 0 ]; then
        log=$(mktemp)
        step "Debian packages: $missing" "$log" \
            sh -c "apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $missing"
        rm "$log"
    else
        echo "These Debian packages are missing: $missing" >&2
        echo "Ask root to run: apt-get install --no-install-recommends $missing" >&2
        exit 1
    fi
}

make_account() {
    id "$ACCOUNT" >/dev/null 2>&1 ||
        useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /bin/sh "$ACCOUNT"
}

# Ours alone: other users of the machine must not reach the Master's database, which knows all passwords.
claim_directory() {
    owner=$([ "$(id -u)" = 0 ] && echo "$ACCOUNT" || id -un)
    if [ ! -e "$directory" ]; then
        mkdir -m 700 "$directory"
        [ "$(id -u)" != 0 ] || chown "$ACCOUNT:$ACCOUNT" "$directory"
    elif [ ! -e "$directory/.made-by-bin-$command" ] && [ -n "$(ls -A "$directory")" ]; then
        refuse "$directory exists and was not made by bin/$command: give another --dir."
    elif [ "$(stat -c %U "$directory")" != "$owner" ]; then
        refuse "$directory belongs to $(stat -c %U "$directory"), and this would run as $owner: give another --dir."
    fi
}

# become_account COMMAND...: as the account, with an environment of its own plus what package clients need. Values stay
# in the environment: they may hold credentials, which anybody could read in arguments.
become_account() (
    for name in $(env | sed -n 's/^\([A-Za-z_][A-Za-z0-9_]*\)=.*/\1/p'); do
        case $name in
            PIP_*|*_proxy|*_PROXY|SSL_CERT_*|*_CA_BUNDLE|CI|TERM) ;;
            *) unset "$name" ;;
        esac
    done
    export HOME="$directory/home" LANG=C.UTF-8
    export PATH="$directory/env/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    cd /
    if [ "$(id -u)" = 0 ]; then
        exec setpriv --reuid "$ACCOUNT" --regid "$ACCOUNT" --init-groups -- "$@"
    fi
    exec "$@"
)

# alone COMMAND...: as the account, and refused while another run is at work in the directory.
alone() {
    become_account flock --nonblock --close --conflict-exit-code 75 "$directory/.lock" "$@" || {
        status=$?
        [ $status != 75 ] || echo "Another bin/$command is at work in $directory: wait for its end." >&2
        return $status
    }
}

# Everything of the checkout but what git and earlier runs left there, read by us, written by the account.
copy_checkout() {
    archive=$(mktemp)
    tar -C "$checkout" --exclude=./.git --exclude='__pycache__' --exclude='*.egg-info' --exclude=./build \
        --exclude='.*_cache' -cf "$archive" .
    alone sh -c "$(cat "$checkout/node/receive.sh")" receive "$directory" "$command" "$update" <"$archive"
    rm "$archive"
}

prepare() {
    install_packages
    if [ "$(id -u)" = 0 ]; then make_account; fi
    claim_directory
    log=$(mktemp)
    step "Copy of the checkout in $directory/src" "$log" copy_checkout
    cat "$log"
    rm "$log"
}

case $directory in
    /*) ;;
    *) directory=$(pwd)/$directory ;;
esac
directory=$(resolve "$directory")
checkout=$(cd "$checkout" && pwd -P)
if [ ${#directory} -gt $LONGEST ]; then
    refuse "The directory $directory is longer than $LONGEST characters, too long for Unix sockets: give a shorter --dir."
fi
case $directory in
    *[!A-Za-z0-9_./-]*) refuse "$directory has characters other than letters, digits and _ . / -: give another --dir." ;;
esac
case $directory/ in
    "$checkout"/*) refuse "$directory lies in the checkout, which is copied into it: give another --dir." ;;
esac
case $checkout/ in
    "$directory"/*) refuse "The checkout lies in $directory, which is made and removed: give another --dir." ;;
esac

case $action in
    run)
        prepare
        # shellcheck disable=SC2086  # one word, or none
        alone sh "$directory/src/node/account.sh" "$command" "$directory" "$update" $shown "$@" ;;
    stop|destroy)
        if [ ! -e "$directory/.made-by-bin-$command" ]; then
            echo "There is nothing of bin/$command in $directory."
            exit 0
        fi
        claim_directory
        if [ -x "$directory/env/bin/python" ]; then
            alone "$directory/env/bin/python" "$directory/src/node/demo.py" --directory "$directory" stop
        fi
        if [ "$action" = destroy ]; then
            # Root only removes what is empty by then.
            become_account find "$directory" -mindepth 1 -delete
            rmdir "$directory"
            echo "Removed $directory."
            [ "$(id -u)" != 0 ] || echo "The account $ACCOUNT stays; when nothing else is its own: userdel $ACCOUNT"
        fi ;;
esac
