# SPDX-License-Identifier: GPL-2.0-or-later
"""A client of a ZEO server, in an interpreter that has ZODB, for service and cluster tests."""

import subprocess

PATIENCE = 120
# Of the modules neoppod, the environment of Zope has the client alone.
CLIENT = """
import sys, transaction
from ZEO.ClientStorage import ClientStorage
from ZODB.DB import DB
storage, do = sys.argv[3:5]
db = DB(ClientStorage((sys.argv[1], int(sys.argv[2])), storage=storage, wait_timeout=60))
connection = db.open()
if do == 'write':
    connection.root()[sys.argv[5]] = sys.argv[6]
    transaction.commit()
if do == 'pack':
    db.pack()
print(' '.join('%s=%s' % item for item in sorted(connection.root().items())))
db.close()
"""


def run(python: str, host: str, port: int | str, storage: str, do: str, *words: str) -> str:
    """Write a name and a value, pack, or read; what is in the root then, as name=value."""
    command = [python, "-c", CLIENT, host, str(port), storage, do, *words]
    result = subprocess.run(command, env={}, cwd="/", timeout=PATIENCE, text=True, capture_output=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.strip()
