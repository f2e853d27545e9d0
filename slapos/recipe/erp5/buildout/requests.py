# SPDX-License-Identifier: GPL-2.0-or-later
"""Requests other partitions from the Master, for recipes whose instance has several.

slapos.cookbook's own recipe writes all parameters into the log when a request fails, and ours have passwords.
"""

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

from requests import RequestException
from slapos.recipe.librecipe import JSON_SERIALISED_MAGIC_KEY, wrap
from zc.buildout import UserError

from slapos import slap

logger = logging.getLogger(__name__)

CONNECTION = ("server-url", "key-file", "cert-file", "computer-id", "partition-id", "software-url")
"""The options by which a recipe is told who it is, and of which release it requests more."""
STATES = ("started", "stopped")
NO_PARTITION = (
    "no partition yet, expected the Master to give one: see that a computer which fits (sla) has a free partition"
)


class NoPartition(UserError):
    """The Master has no partition for an instance: none is free, none that fits, or it is not given yet."""


Ask = Callable[[str, str, Mapping[str, Any], Mapping[str, str]], Mapping[str, Any]]
"""Requests an instance by its name, software type, parameters and sla; returns what it has published so far."""


def asker(buildout: Any, connection: Mapping[str, str]) -> Ask:
    """Requests by way of the Master, in the state that is asked of the partition itself; a destroyed one's stay as they
    are. Raises NoPartition, and UserError when the Master refuses, or does not answer."""
    asked = buildout["slap-connection"].get("requested", STATES[0])
    state = asked if asked in STATES else STATES[0]

    def ask(name: str, software_type: str, parameters: Mapping[str, Any], sla: Mapping[str, str]) -> Mapping[str, Any]:
        client = slap.slap()
        try:
            client.initializeConnection(connection["server-url"], connection["key-file"], connection["cert-file"])
            partition = client.registerComputerPartition(connection["computer-id"], connection["partition-id"])
            made = partition.request(
                connection["software-url"],
                software_type,
                name,
                partition_parameter_kw=wrap(dict(parameters)),
                filter_kw={key: value for key, value in sla.items() if value},
                state=state,
            )
            return published(made)
        except (slap.NotFoundError, slap.ResourceNotReady):  # slapproxy's answer, and the Master's
            sentence = f"{name}: {NO_PARTITION}"
            logger.warning(sentence)  # a caller may go on without
            raise NoPartition(sentence) from None
        except (slap.ServerError, slap.ConnectionError, RequestException) as error:
            # What a Master answers with another status, such as 403 or 504, arrives as the last; it has no parameters.
            sentence = f"{name} cannot be requested: {error}"
            logger.warning(sentence)
            raise UserError(sentence) from None

    return ask


def published(instance: Any) -> Mapping[str, Any]:
    """What an instance has published, nothing when there is nothing yet."""
    try:
        return json.loads(instance.getConnectionParameter(JSON_SERIALISED_MAGIC_KEY))
    except slap.NotFoundError:
        return {}
