# SPDX-License-Identifier: GPL-2.0-or-later
"""bin/demo: a MariaDB primary and its replica."""

import json
import os
import pwd
import ssl
import subprocess
import time
import urllib.request
from urllib.parse import urlsplit

from demo_node import PROMISE_DEADLINE, Node, Request, StepFailed, step

PRIMARY, REPLICA = "mariadb-primary", "mariadb-replica"
BUSY = 75  # mariadb-dump-script: another backup is running
WRITE = """
CREATE DATABASE IF NOT EXISTS demo;
CREATE TABLE IF NOT EXISTS demo.greeting (number INT AUTO_INCREMENT PRIMARY KEY, text VARCHAR(80), at DATETIME(3));
INSERT INTO demo.greeting (text, at) VALUES (CONCAT('written on server ', @@server_id), NOW(3));
"""
READ = "SELECT * FROM demo.greeting ORDER BY number DESC LIMIT 1"


def run(node: Node) -> None:
    """Bring both up, show that they replicate, and print what comes next."""
    node.requests |= {PRIMARY: lambda: ("mariadb", {}), REPLICA: lambda: replica(node)}
    step(f"Instance {PRIMARY}", lambda: node.process(PRIMARY))
    step(f"Promises of {PRIMARY}", lambda: node.wait_for_promises(PRIMARY))
    step("A first backup", lambda: wait_for_backup(node))
    step(f"Instance {REPLICA}", lambda: node.process(REPLICA))
    step(f"Promises of {REPLICA}", lambda: node.wait_for_promises(REPLICA))
    step("A row written on the one, read on the other", lambda: replicate(node))
    node.describe(PRIMARY, REPLICA)
    describe(node)


def replica(node: Node) -> Request:
    """All that a replica needs is what its primary publishes."""
    published = node.published(PRIMARY)
    replication = {
        "primary-url": published["replication-primary-url"],
        "bootstrap-url": published["replication-bootstrap-url"],
        # Two seconds of lag while the demo's machine is busy are nothing to be alarmed about.
        "seconds-behind-master-threshold": 10,
    }
    return "mariadb", {"replication": replication}


def wait_for_backup(node: Node) -> None:
    """Make a backup where there is none, and wait until one is offered; the scheduler may be making it already."""
    program = str(node.partition(PRIMARY) / "bin" / "mariadb-dump-script")
    deadline = time.monotonic() + PROMISE_DEADLINE
    while not newest_backup(node):
        made = subprocess.run([program], capture_output=True, text=True, check=False)
        if made.returncode not in (0, BUSY) or time.monotonic() > deadline:
            raise StepFailed(f"{program} ended with status {made.returncode}: {made.stderr.strip()}")
        time.sleep(1 if made.returncode == BUSY else 0)


def replicate(node: Node) -> None:
    """Write a row on the primary and read it on the replica, PROMISE_DEADLINE seconds later at most."""
    sql(node, PRIMARY, WRITE)
    row = sql(node, PRIMARY, READ)
    deadline = time.monotonic() + PROMISE_DEADLINE
    while sql(node, REPLICA, READ, check=False) != row:
        if time.monotonic() > deadline:
            raise StepFailed(f"the row did not arrive: {node.promises(REPLICA)['mariadb-replication'][1]}")
        time.sleep(0.2)


def sql(node: Node, name: str, statements: str, check: bool = True) -> str:
    """Execute statements as the administrator; the values of the last row, or nothing when that failed."""
    client = [str(node.partition(name) / "bin/mariadb"), "--batch", "--skip-column-names"]
    done = subprocess.run(client, input=statements, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        raise StepFailed(f"{client[0]} ended with status {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()


def newest_backup(node: Node) -> str:
    """The name of the newest backup that the primary offers, empty while there is none."""
    url, files = node.published(PRIMARY)["replication-bootstrap-url"], node.partition(PRIMARY) / "srv/tls"
    context = ssl.create_default_context(cafile=files / "ca.pem")
    context.load_cert_chain(files / "client.pem")
    with urllib.request.urlopen(url, context=context) as response:
        backups = json.load(response)["backups"]
    return backups[-1]["name"] if backups else ""


def describe(node: Node) -> None:
    """Print the row that travelled, and what to type next."""
    print(f"\nWritten on {PRIMARY}, read on {REPLICA}: {sql(node, REPLICA, READ)}")
    published, partition, replica = node.published(PRIMARY), node.partition(PRIMARY), node.partition(REPLICA)
    url = urlsplit(published["database-list"][0])
    software = (partition / "software_release").resolve()
    backups = published["replication-bootstrap-url"]
    curl = f"curl --fail --cert {partition}/srv/tls/client.pem --cacert {partition}/srv/tls/ca.pem"
    print(f"""
What to type next, as {pwd.getpwuid(os.getuid()).pw_name}:
  {partition}/bin/mariadb
  {replica}/bin/mariadb
      an administrator's client, of the primary and of the replica; as the database's own user, with the password of
      the primary's URL above:
  {software}/parts/mariadb/bin/mariadb --no-defaults --host {url.hostname} --port {url.port} \\
      --user {url.username} --password {url.path[1:]}
  {partition}/bin/mariadb-dump-script
      a backup, now
  {curl} {backups}
      the list of backups; the newest one itself (what to do with it: README.md, Restoring a backup):
  {curl} --remote-name {backups}{newest_backup(node)}
  {node.base}/bin/slapos service list
      what is requested; `node instance` processes it again, `--help` tells more
  bin/demo --dir {node.directory} --stop
      stop all of it (not as that account, but as you did just now); --destroy removes it
""")
