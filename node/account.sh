#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The half of the set-up that runs as the unprivileged account, from the copy of the checkout: the Python
# environment, our distribution in it, and then the command itself.
#
# usage: account.sh demo|test DIRECTORY true|false [arguments of the command]; the third: was --update given
set -eu
. "$(dirname "$0")/common.sh"
command=$1 directory=$2 update=$3; shift 3
umask 077

pin() { grep "^$1==" "$directory/src/versions/node.txt"; }

make_environment() {
    want=$(sha256sum <"$directory/src/versions/node.txt")
    [ "$(cat "$directory/env/complete" 2>/dev/null)" = "$want" ] && return 0
    rm -rf "$directory/env"
    /usr/bin/python3 -m venv "$directory/env"
    "$directory/env/bin/pip" install "$(pin pip)" "$(pin setuptools)" "$(pin wheel)"
    # All pins are listed, so no dependency is ever resolved; building offline keeps build tools pinned as well.
    "$directory/env/bin/pip" install --no-deps --no-build-isolation -r "$directory/src/versions/node.txt"
    "$directory/env/bin/pip" check
    echo "$want" >"$directory/env/complete"
}

install_distribution() {
    cd "$directory/src"
    want=$(find setup.py slapos -type f ! -name '*.pyc' | LC_ALL=C sort | xargs sha256sum | sha256sum)
    [ "$(cat "$directory/env/distribution" 2>/dev/null)" = "$want" ] && return 0
    rm -rf build "$directory/wheel"
    "$directory/env/bin/pip" wheel --no-deps --no-build-isolation --wheel-dir "$directory/wheel" .
    rm -rf build ./*.egg-info
    "$directory/env/bin/pip" install --no-deps --no-index --force-reinstall "$directory"/wheel/*.whl
    echo "$want" >"$directory/env/distribution"
}


step "Python environment with pinned packages" "$directory/log/environment.log" make_environment
step "Our distribution as a wheel" "$directory/log/distribution.log" install_distribution
case $command in
    demo)
        set -- run "$@"
        [ "$update" = false ] || set -- "$@" --update
        exec "$directory/env/bin/python" "$directory/src/node/demo.py" --directory "$directory" "$@" ;;
    test) exec sh "$directory/src/node/tests.sh" "$directory" "$@" ;;
esac
