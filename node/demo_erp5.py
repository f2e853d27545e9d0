# SPDX-License-Identifier: GPL-2.0-or-later
"""bin/demo --erp5: a whole ERP5 (MariaDB, NEO, Zope, a balancer), and another one that is its replica."""

import os
import pwd
import re
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

from demo_node import PROMISE_DEADLINE, Node, Request, StepFailed, step

PRIMARY, REPLICA = "erp5", "erp5-replica"
RUNS = 10
"""Runs of `slapos node instance` in which all that an instance requests has been processed, and has published."""
FAMILY = "family-default-url"


def run(node: Node) -> None:
    """Bring both up, show that the one serves while the other stands by, and print what comes next."""
    node.requests |= {PRIMARY: lambda: ("default", {}), REPLICA: lambda: replica(node)}
    step(f"Instance {PRIMARY}, and all that it requests", lambda: node.process(PRIMARY, RUNS))
    step(f"Promises of {PRIMARY}", lambda: node.wait_for_promises(PRIMARY))
    step(f"Instance {REPLICA}, and all that it requests", lambda: node.process(REPLICA, RUNS))
    step(f"Promises of {REPLICA}", lambda: node.wait_for_promises(REPLICA))
    step("The one serves", lambda: wait_for_answer(node, PRIMARY, 200))
    step("The other stands by", lambda: wait_for_answer(node, REPLICA, 503))
    node.describe(PRIMARY, REPLICA)
    describe(node)


def replica(node: Node) -> Request:
    """All that a replica needs is what its primary publishes, as it is."""
    return "default", {"replica-of": node.published(PRIMARY)}


def answer(node: Node, name: str) -> tuple[int, str]:
    """What the balancer of an instance answers: status, and its page without what is between angle brackets."""
    url = node.published(name)[FAMILY]
    try:
        with urllib.request.urlopen(url, timeout=30) as response:
            status, page = response.status, response.read()
    except urllib.error.HTTPError as error:
        status, page = error.code, error.read()
    text = re.sub(r"<(style|title).*?</\1>|<[^>]*>", " ", page.decode("utf-8", "replace"), flags=re.DOTALL)
    return status, " ".join(text.split())


def wait_for_answer(node: Node, name: str, status: int) -> None:
    """Until the balancer of an instance answers with a status, PROMISE_DEADLINE seconds at most."""
    deadline = time.monotonic() + PROMISE_DEADLINE
    while (found := answer(node, name))[0] != status:
        if time.monotonic() > deadline:
            url = node.published(name)[FAMILY]
            raise StepFailed(f"{url} answers {found[0]}, expected {status}: {found[1][:500]}")
        time.sleep(0.2)


def describe(node: Node) -> None:
    """Print both balancers' answers, and what to type next."""
    for name in (PRIMARY, REPLICA):
        status, text = answer(node, name)
        print(f"\n{name}, {node.published(name)[FAMILY]} answers {status}:\n  {text[:300]}")
    published, replica = node.published(PRIMARY), node.published(REPLICA)
    parts = urlsplit(published[FAMILY])
    print(f"""
What to type next, as {pwd.getpwuid(os.getuid()).pw_name}:
  {parts.scheme}://{parts.netloc}/manage
      Zope of {PRIMARY}: the user {published["inituser-login"]}, the password {published["inituser-password"]}
  {replica["takeover-url"]}
      the page that makes {REPLICA} the primary
  {node.base}/bin/slapos service list
      what is requested; `node instance` processes it again, `--help` tells more
  bin/demo --dir {node.directory} --stop
      stop all of it (not as that account, but as you did just now); --destroy removes it
""")
