# SPDX-License-Identifier: GPL-2.0-or-later
"""The dry run of an action: what speaks against it, and what would be lost; of whatever service."""

from dataclasses import dataclass

from slapos.recipe.erp5.errors import Refused

REFUSE, FORCE, WARN, INFO = "refuse", "force", "warn", "info"


@dataclass(frozen=True)
class Reason:
    """`level`: refuse (not even by force), force (only by force), warn, info."""

    level: str
    sentence: str


@dataclass(frozen=True)
class Preflight:
    """A verdict with its reasons; `lost_transactions` and `lost_seconds` are None where nobody can know.

    `kept` is where the lost transactions can be found all the same, as the end of a sentence.
    """

    action: str
    reasons: tuple[Reason, ...] = ()
    lost_transactions: int | None = None
    lost_seconds: float | None = None
    kept: str = ""

    @property
    def lost(self) -> str:
        """What would be lost, for people; empty for nothing that is known."""
        count, seconds = self.lost_transactions, self.lost_seconds
        if count:
            one = "transaction" if count == 1 else "transactions"
            return f"{count} {one}{f', of {seconds:g} s' if seconds else ''}{self.kept}"
        return f"what was written within {seconds:.1f} s" if count is None and seconds else ""

    @property
    def refused(self) -> bool:
        return any(reason.level == REFUSE for reason in self.reasons)

    @property
    def needs_force(self) -> bool:
        return any(reason.level == FORCE for reason in self.reasons)

    def sentences(self, *levels: str) -> tuple[str, ...]:
        """What is said at these levels."""
        return tuple(reason.sentence for reason in self.reasons if reason.level in levels)


def require(preflight: Preflight, forced: bool) -> None:
    """Raises Refused, with every reason that stands against the action."""
    if preflight.refused:
        raise Refused(f"{preflight.action} is refused: {'; '.join(preflight.sentences(REFUSE))}")
    if preflight.needs_force and not forced:
        reasons = "; ".join(preflight.sentences(FORCE))
        raise Refused(f"{preflight.action} is refused: {reasons}; or force it (--force), and accept that")
