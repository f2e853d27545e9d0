# SPDX-License-Identifier: GPL-2.0-or-later
"""What our promises share: they report, and never bang nor make the partition be processed again."""

from collections.abc import Callable
from typing import Any

from slapos.grid.promise import interface
from slapos.grid.promise.generic import GenericPromise, TestResult
from zope.interface import implementer

from slapos.recipe.erp5.errors import Error
from slapos.recipe.erp5.mariadb import config as configuration
from slapos.recipe.erp5.verdict import Verdict

PERIODICITY = 2
"""Minutes between two runs; slapos's own default, said here because a string from a profile would be refused."""


@implementer(interface.IPromise)
class Promise(GenericPromise):
    """Option `config-file`: the partition's JSON file, which `load` reads. Subclasses say how things stand in `judge`.

    slapos fails a processing on `test`, and so repeats it for ever, and bangs on a failed AnomalyResult. So `test` is
    left out, and `anomaly`, which runs while the partition is up to date, returns a TestResult.
    """

    load: Callable[[str], Any] = staticmethod(configuration.load)

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        self.setTestLess()
        self.setPeriodicity(minute=PERIODICITY)

    def judge(self, config: Any) -> Verdict:
        """Gather and judge. May raise Error."""
        raise NotImplementedError

    def sense(self) -> None:
        """Log each sentence, as an error when it is a problem."""
        try:
            verdict = self.judge(self.load(self.getConfig("config-file")))
        except Error as error:
            verdict = Verdict(False, (str(error),))
        for sentence in verdict.sentences:
            (self.logger.info if verdict.good else self.logger.error)(" ".join(sentence.split()))

    def anomaly(self) -> TestResult:
        """What this one run has logged."""
        return self._test(result_count=1, failure_amount=1)
