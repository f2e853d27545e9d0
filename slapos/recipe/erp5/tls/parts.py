# SPDX-License-Identifier: GPL-2.0-or-later
"""Parts of one piece of work, each of which stands alone: what fails is one line, while the others go on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from slapos.recipe.erp5 import process
from slapos.recipe.erp5.tls.join import Pending

T = TypeVar("T")


@dataclass
class Parts:
    """`errors` has the sentence of each part that did not succeed."""

    errors: list[str] = field(default_factory=list, init=False)

    @property
    def status(self) -> int:
        """A program's exit status."""
        return 1 if self.errors else 0

    def part(self, work: Callable[[], T]) -> T | None:
        """Do a part; what it returns, None where it failed."""
        try:
            return work()
        except Pending as error:  # for a person: neither a failure, nor a reason to try more often
            process.log(str(error))
        except Exception as error:  # a damaged file, say, must not keep the servers from what is new
            self.errors.append(process.describe(error))
            process.log(f"error: {self.errors[-1]}")
        return None
