# SPDX-License-Identifier: GPL-2.0-or-later
"""Decides what becomes of one Zope, from what is known of its database and of its process: pure, times are monotonic.

These are the names of the states everywhere: in the log, the state file, the answers on the port, promises and pages.
"""

from dataclasses import dataclass

WAITING, STARTING, SERVING, HELD, FAILING = "waiting", "starting", "serving", "held", "failing"
RUNNING = "RUNNING"
"""The one state of a NEO cluster in which a Zope may run; a ZEO server that answers is given this name, too."""
PASSING = ("", "RECOVERING", "VERIFYING")
"""States in which requests wait, and go on when the cluster is back: a Zope that runs is left alone for a while."""
GRACE = 10.0
"""Seconds that a Zope which runs is left alone without a database that serves."""
ALL = "*"
"""In place of a family: all of them."""


@dataclass(frozen=True)
class Database:
    """What was last heard: `name` in words, `state` ("" when it is not known), and when it stopped being RUNNING (0: it
    is); `reachable`: it takes clients' connections, as far as one can see from outside; `lacks`: what it cannot be
    asked without, in words, or empty."""

    name: str
    state: str
    down_since: float
    reachable: bool = False
    lacks: str = ""


@dataclass(frozen=True)
class Process:
    """A Zope's process: whether one `runs`, has said that it is `ready`, and was `asked` to end.

    When none runs: `start_at` is when one may be started at the earliest, `end` how the last one ended when nobody had
    asked for that ("" after a good end).
    """

    runs: bool = False
    ready: bool = False
    asked: bool = False
    start_at: float = 0.0
    end: str = ""


@dataclass(frozen=True)
class Decision:
    """`act` is "" for nothing, "start", "end" (requests may be completed) or "kill"; `state` is what is so then, and
    `reason` completes the sentence "This Zope is <state>: ..."; it is shown to whoever asks for a page."""

    state: str
    reason: str
    act: str = ""


def decide(database: Database, process: Process, held: bool, first: bool, now: float) -> Decision:
    """`held`: somebody holds it back; `first`: the database is new, and another Zope of the partition is at it."""
    if held:
        return Decision(HELD, "it is held back until somebody releases it", _end(database, process))
    if database.state != RUNNING:
        return _without_database(database, process, now)
    if process.runs:
        return _running(process)
    if now < process.start_at:
        if process.end:
            return Decision(FAILING, f"it {process.end} and starts again in a moment")
        return Decision(WAITING, f"{database.name} has just changed")
    if first:
        return Decision(WAITING, "another one puts the first objects into the database")
    return Decision(STARTING, "it was just started", "start")


def _end(database: Database, process: Process) -> str:
    """How the process of one that is held back ends."""
    if not process.runs:
        return ""
    if database.state not in (RUNNING, *PASSING):
        return "kill"
    return "" if process.asked else "end"


def _running(process: Process) -> Decision:
    if process.asked:
        return Decision(WAITING, "its process is being ended")
    if process.ready:
        return Decision(SERVING, "its database serves")
    return Decision(STARTING, "it was just started")


def _without_database(database: Database, process: Process, now: float) -> Decision:
    if process.runs and process.ready and not process.asked and database.state in PASSING:
        # Clients do without the admins that tell the state, and a Zope ends by itself when it finds a backup.
        if database.reachable and not database.state:
            return Decision(SERVING, f"{explain(database)}; it is left alone, as masters are there")
        if now - database.down_since < GRACE:
            return Decision(SERVING, f"{explain(database)}; its requests wait for that")
    # Nothing that it could still do would be right: no write can succeed, and what it reads may be old.
    return Decision(WAITING, explain(database), "kill" if process.runs else "")


def explain(database: Database) -> str:
    """Why the database does not serve, in words."""
    if database.state in ("BACKINGUP", "STARTING_BACKUP"):
        return f"{database.name} is {database.state}, a replica that serves nobody until it is taken over"
    if database.lacks:
        return database.lacks
    if not database.state and database.reachable:
        return f"{database.name} does not tell its state"
    known = explain_state(database.name, database.state)
    return f"{known}, expected {RUNNING}" if database.state else known


def explain_state(name: str, state: str) -> str:
    """A state that is the database's own, or not known, in words."""
    return f"{name} is {state}" if state else f"{name} does not answer"


def hold_after(held: frozenset[str], families: frozenset[str], command: str, family: str) -> frozenset[str]:
    """The families that are held back after "hold" or "release" of one, or of ALL."""
    if family == ALL:
        return frozenset([ALL] if command == "hold" else [])
    if command == "hold":
        return held if ALL in held else held | {family}
    return (families if ALL in held else held) - {family}


def is_held(held: frozenset[str], family: str) -> bool:
    return family in held or ALL in held
