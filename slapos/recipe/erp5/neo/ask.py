# SPDX-License-Identifier: GPL-2.0-or-later
"""Asks a NEO cluster how it stands, and tells it to change, by way of py2/neo_ask.py in NEO's own interpreter."""

import contextlib
import json
import os
import select
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slapos.recipe.erp5 import config, process
from slapos.recipe.erp5.errors import Refused, ServerError, Unreachable

GRACE = 3.0
"""Seconds beyond a question's own that the process has to start and to answer, before it is ended and started anew."""


@dataclass(frozen=True)
class Node:
    """A node: `type` MASTER, STORAGE or ADMIN, `uuid` such as S1 ("" for admins), `address` host:port, `state` RUNNING,
    DOWN, PENDING or UNKNOWN. Admins are RUNNING when they answer.
    """

    type: str
    uuid: str
    address: str
    state: str


@dataclass(frozen=True)
class Status:
    """How a cluster stands; tids as integers.

    `cluster_state` is RECOVERING, VERIFYING, RUNNING, STARTING_BACKUP, BACKINGUP, STOPPING_BACKUP or STOPPING, or ""
    when no primary master is known, for `reason`. `primary` is a master's uuid. `backup_tid` is None unless the cluster
    is a backup: what a takeover would keep, 0 for nothing. `last_tid` is the last transaction's; a backup's is the last
    one that it knows of its upstream. `first_copy_goal` is None unless a backup's first copy is not complete (0: not
    known yet how far it goes): a takeover is refused then. Tids are None in states that do not tell them.
    """

    cluster_state: str = ""
    primary: str = ""
    partitions: int = 0
    replicas: int = 0
    backup_tid: int | None = None
    last_tid: int | None = None
    last_ptid: int | None = None
    first_copy_goal: int | None = None
    cells_out_of_date: int = 0
    nodes: tuple[Node, ...] = ()
    reason: str = ""


class Asker:
    """Questions to the cluster `cluster` through its admin nodes `admins` (host:port), each with `timeout` seconds.

    `python` is NEO's interpreter, `script` neo_ask.py; `tls` is () or the paths of CA, certificate and key. Its process
    is started with the first question, again when it has died, and ends with `close`, a `with`, or ours. Threads may
    share an Asker: they wait for each other. Each question raises Unreachable when nobody answers (in time), Refused
    with NEO's reason, and ServerError for anything else.
    """

    def __init__(
        self,
        python: Path,
        script: Path,
        cluster: str,
        admins: Sequence[str],
        *,
        tls: Sequence[str | Path] = (),
        timeout: float = 6.0,
    ) -> None:
        self.cluster, self.timeout = cluster, timeout
        self._python, self._script, self._tls = python, script, tls
        self._command = [*self._program(cluster), "--admins", *admins]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._received = b""

    def _program(self, cluster: str) -> list[str]:
        tls = [word for pair in zip(("--ca", "--cert", "--key"), self._tls, strict=False) for word in map(str, pair)]
        return [str(self._python), str(self._script), "--cluster", cluster, *tls]

    def __enter__(self) -> "Asker":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process; another question would start it again."""
        with self._lock:
            self._end()

    def status(self) -> Status:
        """How the cluster stands; no primary master, or nobody who answers, is a Status with a `reason`, no error."""
        try:
            return config.build(Status, config.dashed(self._ask("status")), "NEO's answer")
        except Unreachable as error:
            return Status(reason=str(error))

    def set_state(self, state: str) -> None:
        """Ask for a cluster state, such as STOPPING_BACKUP: NEO agrees, and gets there later."""
        self._ask("set-state", state=state)

    def start(self) -> None:
        """Let a cluster in RECOVERING start with the storages that are there (`neoctl start`)."""
        self.set_state("VERIFYING")

    def truncate(self, tid: int) -> None:
        """Forget all transactions after `tid`: a RUNNING cluster goes to RECOVERING for that, and comes back."""
        self._ask("truncate", tid=tid)

    def tids_from(self, masters: Sequence[str], tid: int, limit: int, cluster: str = "") -> list[int]:
        """The first `limit` tids from `tid` on, sorted, of a cluster that serves clients; `cluster`: another than ours.

        It connects as a client, for a moment. Of a backup's, those that it has whole.
        """
        cluster = cluster or self.cluster
        command = [*self._program(cluster), "--masters", *masters, "--after", str(tid), "--limit", str(limit)]
        seconds = self.timeout + GRACE
        try:
            result = subprocess.run(
                command, env=process.environment(), stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds
            )
            if result.returncode:
                raise process.failure(command, "list transactions of NEO", result.returncode, result.stderr)
            return [int(number) for number in json.loads(result.stdout)]
        except subprocess.TimeoutExpired as error:
            raise Unreachable(
                f"the NEO cluster {cluster} at {' '.join(masters)} did not list its transactions within {seconds:g} s,"
                " expected it to be RUNNING or BACKINGUP: see its status"
            ) from error

    def _ask(self, question: str, **arguments: object) -> dict[str, Any]:
        """The answer. Raises as said above."""
        with self._lock:
            line = {"ask": question, "seconds": self.timeout, **arguments}
            try:
                reply = self._exchange(json.dumps(line).encode() + b"\n")
            except BaseException:
                self._end()  # its answer would be taken for the next question's
                raise
        if "error" in reply:
            kind, reason = reply["kind"], reply["error"]
            error = {"denied": Refused, "unreachable": Unreachable}.get(kind, ServerError)
            raise error(f"the NEO cluster {self.cluster} was asked for {_words(line)}: {reason}")
        return reply["answer"]

    def _exchange(self, line: bytes) -> dict[str, Any]:
        if self._process is None or self._process.poll() is not None:
            self._end()
            self._start()
        assert self._process and self._process.stdin and self._process.stdout
        deadline = time.monotonic() + self.timeout + GRACE
        with contextlib.suppress(BrokenPipeError):  # it has died: reading tells
            os.write(self._process.stdin.fileno(), line)
        output = self._process.stdout.fileno()
        while b"\n" not in self._received:
            readable, _, _ = select.select([output], [], [], max(deadline - time.monotonic(), 0))
            if not readable:
                raise Unreachable(f"the program that asks the NEO cluster {self.cluster} did not answer: it was ended")
            data = os.read(output, 1 << 16)
            if not data:
                raise ServerError(f"the program that asks the NEO cluster {self.cluster} ended: see this program's log")
            self._received += data
        answer, _, self._received = self._received.partition(b"\n")
        return json.loads(answer)

    def _start(self) -> None:
        # Not process.start(): that ends the process with the thread that started it; this one ends with its stdin.
        try:
            self._process = subprocess.Popen(
                self._command, env=process.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
        except OSError as error:
            raise ServerError(f"{self._command[0]} cannot be started: {error}") from error
        self._received = b""

    def _end(self) -> None:
        if self._process is not None:
            assert self._process.stdin and self._process.stdout
            self._process.kill()
            self._process.wait()
            self._process.stdin.close()
            self._process.stdout.close()
            self._process = None


def _words(line: dict[str, object]) -> str:
    """What was asked for: "set-state STOPPING_BACKUP"."""
    return " ".join([str(line["ask"]), *(str(value) for key, value in line.items() if key in ("state", "tid"))])
