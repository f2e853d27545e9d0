# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of NEO for the service tests, run by NEO's own Python 2.7: neo_client.py OPTIONS (JSON), see main()."""

import hashlib
import json
import os
import sys
import time

import transaction
from neo.client.Storage import Storage
from ZODB.Connection import TransactionMetaData
from ZODB.DB import DB
from ZODB.utils import p64, u64


def main(options):
    """Options: `masters`, `cluster`, `tls` (three paths, or None) and `do`, which is one of the functions here."""
    ca, cert, key = options["tls"]
    # As text of Python 2: getaddrinfo there takes no other.
    storage = Storage(str(options["masters"]), str(options["cluster"]), ca=ca, cert=cert, key=key)
    globals()[options["do"]](storage, options)


def write(storage, options):
    """Puts each of `things` (names and values) into the root, in a transaction of its own; prints their tids."""
    tids = []
    database = DB(storage)
    connection = database.open()
    for name, value in options["things"]:
        connection.root()[name] = value
        transaction.commit()
        tids.append(u64(storage.lastTransaction()))
    say(tids)
    database.close()


def read(storage, options):
    """Prints all that is in the root."""
    database = DB(storage)
    say(dict(database.open().root()))
    database.close()


def fill(storage, options):
    """Puts an object of so many random bytes into the root; prints their digest."""
    database = DB(storage)
    content = os.urandom(options["size"])
    database.open().root()["bytes"] = content
    transaction.commit()
    say(hashlib.sha256(content).hexdigest())
    database.close()


def digest(storage, options):
    """Prints the digest of what fill() has written."""
    database = DB(storage)
    say(hashlib.sha256(database.open().root()["bytes"]).hexdigest())
    database.close()


def stay(storage, options):
    """Prints what is in the root, and stays connected until stdin ends."""
    database = DB(storage)
    say(dict(database.open().root()))
    sys.stdin.read()


def attack(storage, options):
    """Tries to write all along, and says of each attempt "written", or the name of what it met with."""
    number = 0
    while True:
        number += 1
        try:
            store(storage, number)
            say("written")
        except Exception as error:
            say(type(error).__name__)
            time.sleep(0.001)


def store(storage, number):
    writing = TransactionMetaData()
    try:
        storage.tpc_begin(writing)
        storage.store(p64((1 << 40) + number), p64(0), b"hostile", "", writing)
        storage.tpc_vote(writing)
        storage.tpc_finish(writing)
    except Exception:
        storage.tpc_abort(writing)
        raise


def say(something):
    sys.stdout.write(json.dumps(something) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
