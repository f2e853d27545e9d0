# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the published URLs of `database-list` still work: people may have changed what parameters only began."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from slapos.recipe.erp5.errors import ServerError
from slapos.recipe.erp5.mariadb import sql_identity
from slapos.recipe.erp5.mariadb.config import Config, Database
from slapos.recipe.erp5.mariadb.decide import known
from slapos.recipe.erp5.mariadb.status import TIMEOUT
from slapos.recipe.erp5.verdict import Verdict, judge

AT_ONCE = 8
# Nobody there, a server that hangs up, and one that is full: what the server's own promise is about.
UNREACHABLE = ("(2002)", "(2003)", "(2006)", "(2013)", "(1040)")


@dataclass(frozen=True)
class Login:
    """How logging in as one entry of `database-list` ended: with an empty `error`, or in the server's words."""

    database: str
    user: str
    error: str = ""


def gather(config: Config) -> tuple[Login, ...]:
    """Log in over TCP as each entry's user, into its database, with the password that is published."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        # An entry without a password is not published: a replica has it from its primary, and not its password.
        return tuple(pool.map(lambda entry: _login(config, entry), known(config.databases)))


def _login(config: Config, entry: Database) -> Login:
    try:
        sql_identity.identify(
            TIMEOUT,
            host=config.network.ipv4,
            port=config.network.port,
            user=entry.user,
            # As bytes: PyMySQL would encode a text as latin1.
            password=entry.password.encode("utf-8"),
            database=entry.name,
        )
    except ServerError as error:
        return Login(entry.name, entry.user, str(error))
    return Login(entry.name, entry.user)


def decide(logins: tuple[Login, ...]) -> Verdict:
    """Good when each published URL works, or when no server can be asked, of which another promise tells."""
    if any(code in login.error for login in logins for code in UNREACHABLE):
        return Verdict(True, ("the published URLs cannot be tried while the server does not answer",))
    problems = (
        f"{login.user} cannot use {login.database} as database-list has it published ({login.error}), expected that "
        "URL to work: what was changed in SQL stays as it is, so give the present password in database-list, or take "
        "the entry out of it"
        for login in logins
        if login.error
    )
    return judge(problems, f"each of the {len(logins)} published databases accepts its user")
