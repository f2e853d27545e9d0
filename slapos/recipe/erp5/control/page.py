# SPDX-License-Identifier: GPL-2.0-or-later
"""The control page: what an operator sees and may do with a browser, and the same for programs.

Looking never changes anything: an action is started by a POST with a session, from our own form, which counts once,
with the instance's name typed into it. What runs is a program of its own (runner.py); what it does is the actions'
business.
"""

import dataclasses
import json
import threading
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from werkzeug.exceptions import NotFound
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from slapos.recipe.erp5 import config as shapes
from slapos.recipe.erp5 import process, times
from slapos.recipe.erp5.control import face, metrics, plot, session, token
from slapos.recipe.erp5.control.actions import Action, Options
from slapos.recipe.erp5.control.configuration import Configuration
from slapos.recipe.erp5.control.facts import Facts
from slapos.recipe.erp5.control.peer import PERIOD, Wrong
from slapos.recipe.erp5.control.preflight import REFUSE, Preflight, Reason
from slapos.recipe.erp5.control.runner import Runner
from slapos.recipe.erp5.control.sampler import Sampler
from slapos.recipe.erp5.control.service import Service
from slapos.recipe.erp5.control.session import Session
from slapos.recipe.erp5.errors import Busy, Error

FORCE = "force"
"""The option that is offered only where the preflight asks for it."""
STATIC = {"page.css": "text/css", "page.js": "text/javascript"}
LEVELS = {
    REFUSE: "Stands in the way",
    FORCE: "Only by force",
    "warn": "Mind",
    "info": "As it is",
}

ROUTES = Map(
    [
        Rule("/control/", methods=["GET"], endpoint="overview"),
        Rule("/control/fragment", methods=["GET"], endpoint="fragment"),
        Rule("/control/login", methods=["POST"], endpoint="login"),
        Rule("/control/logout", methods=["POST"], endpoint="logout"),
        Rule("/control/action/<name>", methods=["GET"], endpoint="form"),
        Rule("/control/action/<name>", methods=["POST"], endpoint="act"),
        Rule("/control/static/<name>", methods=["GET"], endpoint="static"),
        Rule("/control/status.json", methods=["GET"], endpoint="status"),
        Rule("/control/metrics", methods=["GET"], endpoint="metrics"),
    ],
    merge_slashes=False,
)
OPEN = ("login", "static", "status", "metrics")
"""What needs no session, or has other ways to prove itself."""


class Stop(Exception):
    """An answer that is no page: HTTP status and sentence."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclasses.dataclass(frozen=True)
class Visit:
    """One request of somebody; `session` is None for who has none."""

    request: Request
    config: Configuration
    token: str
    session: Session | None

    @property
    def address(self) -> str:
        """Where nginx says that it comes from."""
        return self.request.headers.get("X-Real-IP", "")

    @property
    def known(self) -> Session:
        """The session of who has one. Raises Stop."""
        if self.session is None:
            raise Stop(401, "There is no session, or it has ended: give the token again")
        return self.session


class Page:
    """Answers below /control/; `path` is of the partition's configuration."""

    def __init__(self, service: Service, path: Path, sampler: Sampler) -> None:
        self._service, self._path, self._sampler = service, path, sampler
        self._wrong, self._forms = Wrong(), session.Forms()
        self._runner = Runner(service, path, sampler.wake)
        self._acting = threading.Lock()
        self._templates = jinja2.Environment(
            loader=jinja2.PackageLoader("slapos.recipe.erp5.control"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(moment=face.moment, duration=plot.duration)

    def answer(self, request: Request) -> Response:
        """One request's answer. Raises HTTPException for a path or method that is none of ours."""
        endpoint, values = ROUTES.bind_to_environ(request.environ).match()
        try:
            visit = self._visit(request)
            if visit.session is None and endpoint not in OPEN:
                return self._closed(visit, endpoint)
            return getattr(self, endpoint)(visit, **values)
        except Stop as stop:
            return self._sentence(stop.status, str(stop))
        except (Error, OSError) as error:
            process.log(f"error: {process.describe(error)}")
            return self._sentence(503, process.describe(error))

    def _visit(self, request: Request) -> Visit:
        config = self._service.load(self._path)
        now = token.load(config)
        cookie = request.cookies.get(session.cookie_name(config.control_port))
        return Visit(request, config, now, session.find(now, cookie))

    # ---- who is there

    def _closed(self, visit: Visit, endpoint: str) -> Response:
        """What is there for who has no session: a form for the token."""
        status = 200 if endpoint == "overview" else 401
        return self._login(visit, status, "")

    def _login(self, visit: Visit, status: int, error: str) -> Response:
        about, prefix = self._service.about, self._service.prefix
        return self._html(status, "login.html", instance=visit.config.instance, about=about, prefix=prefix, error=error)

    def login(self, visit: Visit) -> Response:
        self._may_try(visit)
        if not session.comes_from_us(visit.request.headers):
            raise Stop(403, "This did not come from this page: open it, and give the token there")
        if not session.is_token(visit.token, visit.request.form.get("token", "")):
            self._count_wrong(visit)
            error = "That is not the token of this instance: give what takeover-url has behind its #."
            return self._login(visit, 403, error)
        response = see_other("/")
        name = session.cookie_name(visit.config.control_port)
        value = session.begin(visit.token)
        response.set_cookie(name, value, session.LIFETIME, secure=True, httponly=True, samesite="Strict")
        return response

    def logout(self, visit: Visit) -> Response:
        self._check_origin(visit, "logout")
        response = see_other("/")
        name = session.cookie_name(visit.config.control_port)
        response.delete_cookie(name, secure=True, httponly=True, samesite="Strict")
        return response

    def _may_try(self, visit: Visit) -> None:
        if self._wrong.too_many(visit.address):
            raise Stop(429, f"Too many wrong tokens came from {visit.address}: wait {PERIOD:g} s, and try again")

    def _count_wrong(self, visit: Visit) -> None:
        self._wrong.count(visit.address)
        process.log(f"refused: a wrong token from {visit.address}, expected the one of takeover-url")

    def _check_origin(self, visit: Visit, form: str) -> None:
        """Let nobody's form but ours through. Raises Stop."""
        given = visit.request.form.get("guard", "")
        if not session.comes_from_us(visit.request.headers) or not visit.known.is_guard(form, given):
            process.log(f"refused: {form} from {visit.address}, which no form of this page has asked for")
            raise Stop(403, "This did not come from a form of this page: open the page, and use its form")

    # ---- looking

    def overview(self, visit: Visit) -> Response:
        return self._html(200, "overview.html", **self._seen(visit), live=True)

    def fragment(self, visit: Visit) -> Response:
        return self._html(200, "parts.html", **self._seen(visit))

    def _seen(self, visit: Visit) -> dict[str, Any]:
        seen = self._facts(visit)
        ended = self._runner.ended
        told = ended is None or not ended.status or any(ended.sentence in entry.sentence for entry in seen.actions)
        actions, shown = self._service.actions, self._service.face(seen)
        usual = [actions[name] for name in shown.usual if name in actions]
        return {
            "facts": seen,
            "face": shown,
            "usual": usual,
            "others": [one for one in actions.values() if one not in usual],
            "titles": {name: one.title for name, one in actions.items()},
            "ended": None if told else ended,
            "logout": visit.known.guard("logout"),
        }

    def _facts(self, visit: Visit) -> Facts:
        return self._service.facts(visit.config, self._sampler, times.now())

    def status(self, visit: Visit) -> Response:
        self._check_reader(visit)
        content = shapes.dashed(dataclasses.asdict(self._facts(visit)) | {"now": times.text(times.now())})
        return Response(json.dumps(content, indent=2, ensure_ascii=False) + "\n", 200, mimetype="application/json")

    def metrics(self, visit: Visit) -> Response:
        self._check_reader(visit)
        return Response(metrics.text(self._service.metrics(self._facts(visit))), 200, content_type=metrics.CONTENT_TYPE)

    def _check_reader(self, visit: Visit) -> None:
        """Raises Stop for who has neither a session nor a token."""
        if visit.session:
            return
        self._may_try(visit)
        given = visit.request.headers.get("Authorization", "")
        if not session.may_read(visit.token, given):
            if given:
                self._count_wrong(visit)
            raise Stop(401, "Authorization: Bearer, with what monitor-url has behind its #, is required")

    def static(self, visit: Visit, name: str) -> Response:
        if name not in STATIC:
            raise NotFound()
        content = resources.files("slapos.recipe.erp5.control").joinpath("static", name).read_bytes()
        return Response(content, 200, content_type=f"{STATIC[name]}; charset=utf-8")

    # ---- acting

    def form(self, visit: Visit, name: str) -> Response:
        return self._form(visit, self._action(name), {})

    def _form(self, visit: Visit, action: Action, given: Options, status: int = 200, error: str = "") -> Response:
        """The action's page: what it would do, what stands against it, and the form."""
        return self._html(
            status,
            "action.html",
            instance=visit.config.instance,
            action=action,
            preflight=checked(action, visit.config, given),
            levels=LEVELS,
            given=given,
            error=error,
            guard=visit.known.guard(action.name),
            number=self._forms.number(),
        )

    def _action(self, name: str) -> Action:
        if name not in self._service.actions:
            raise NotFound()
        return self._service.actions[name]

    def act(self, visit: Visit, name: str) -> Response:
        action, form = self._action(name), visit.request.form
        self._check_origin(visit, action.name)
        given = options(action, form)
        if form.get("do") == "check":
            return self._form(visit, action, given)
        if form.get("instance", "").strip() != visit.config.instance:
            error = f"The name of the instance is another one: type {visit.config.instance} to confirm."
            return self._form(visit, action, given, 400, error)
        if not self._forms.use(form.get("number", "")):
            error = "This form was used before, or is older than 5 minutes: read it again, and confirm again."
            return self._form(visit, action, given, 409, error)
        try:
            with self._acting:
                process.log(f"{action.name}: asked for on the control page, from {visit.address}")
                self._runner.start(visit.config, action.name, given)
        except Busy as error:
            raise Stop(409, f"{str(error)[0].upper()}{str(error)[1:]}") from None
        self._sampler.wake()
        return see_other("/")

    # ---- pages

    def _sentence(self, status: int, sentence: str) -> Response:
        response = self._html(status, "sentence.html", sentence=sentence)
        if status == 401:
            response.headers["WWW-Authenticate"] = f'Bearer realm="{self._service.prefix}"'
        if status == 429:
            response.retry_after = int(PERIOD)
        return response

    def _html(self, status: int, name: str, **values: object) -> Response:
        text = self._templates.get_template(name).render({"live": False, **values})
        return Response(text, status, mimetype="text/html")


def see_other(path: str) -> Response:
    """Let the browser GET another page; nginx's own path, not ours."""
    response = Response("", 303)
    response.headers["Location"] = path
    response.autocorrect_location_header = False
    return response


def options(action: Action, form: Mapping[str, str]) -> Options:
    """What a form gives to an action: flags that are set, and texts that are not empty."""
    found: Options = {}
    for option in action.options:
        value = form.get(f"option-{option.name}", "").strip()
        if value:
            found[option.name] = True if option.kind == "flag" else value
    return found


def checked(action: Action, config: Configuration, given: Options) -> Preflight:
    """The preflight; what keeps it from being made stands in the action's way too."""
    try:
        return action.check(config, given)
    except (Error, OSError) as error:
        sentence = process.describe(error)
    except Exception as error:  # it may be what the operator needs most: the page has to come
        sentence = process.describe(error)
        process.log(f"error: the preflight of {action.name}: {sentence}")
    return Preflight(action.name, (Reason(REFUSE, f"it cannot be looked at: {sentence}"),))
