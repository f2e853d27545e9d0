# SPDX-License-Identifier: GPL-2.0-or-later
# Run by the account, with a tar archive of the checkout as its input: replaces DIRECTORY/src where it differs.
#
# usage: sh -c "$(cat receive.sh)" receive DIRECTORY demo|test true|false; the last: was --update given
set -eu
directory=$1 command=$2 update=$3
new=$directory/src.new old=$directory/src
umask 077
chmod 700 "$directory"
mkdir -p "$directory/home" "$directory/log"
: >"$directory/.made-by-bin-$command"
rm -rf "$new"
mkdir "$new"
tar -C "$new" --no-same-owner -xf -
if [ -d "$old" ] && diff -rq --exclude=__pycache__ --exclude='*.egg-info' --exclude=build "$old" "$new" >/dev/null; then
    rm -rf "$new"
elif [ -d "$old" ] && [ "$update" = false ]; then
    echo "The checkout has changed since the last run; bin/demo --update takes the changes over."
    rm -rf "$new"
else
    rm -rf "$old"
    mv "$new" "$old"
fi
