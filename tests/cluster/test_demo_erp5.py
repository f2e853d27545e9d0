# SPDX-License-Identifier: GPL-2.0-or-later
"""bin/demo --erp5: an ERP5 and its replica on one node; one serves, the other stands by, and every promise is green."""

import re
import urllib.request

from tests.cluster.test_demo import demo, directory, processes

__all__ = ["directory"]
CHILDREN = ("mariadb", "neo", "zope-1", "balancer")


def test_one_serves_and_its_replica_stands_by(directory):
    output, first = demo(directory, "--erp5")
    promises = re.findall(r"^  (green|RED  ) (\S+): ", output, re.MULTILINE)
    assert {colour for colour, _ in promises} == {"green"}, output
    named = {title.rpartition("/")[0] for _, title in promises}
    expected = {f"{name}-{child}" for name in ("erp5", "erp5-replica") for child in CHILDREN}
    assert named == {"", "neo-node-0", *expected}, output
    assert re.search(r"^erp5, http://\S+ answers 200:$", output, re.MULTILINE), output
    assert re.search(
        r"^erp5-replica, http://\S+ answers 503:\n .*This Zope is waiting *: the NEO cluster \S+ is BACKINGUP, a"
        r" replica that serves nobody until it is taken over",
        output,
        re.MULTILINE,
    ), output

    # What it prints works as it stands.
    (url,) = re.findall(r"^  (http://\S+)/manage$", output, re.MULTILINE)
    (user,) = re.findall(r"the user (\S+), the password (\S+)$", output, re.MULTILINE)
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, url, *user)
    opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(passwords))
    with opener.open(f"{url}/manage_main") as page:
        assert page.status == 200

    again, second = demo(directory, "--erp5")
    assert "RED" not in again and second < first
    demo(directory, "--destroy")
    assert processes(directory) == []
