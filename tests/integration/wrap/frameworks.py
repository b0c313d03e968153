"""One application in each framework people wrap, each with the means that its own documentation shows.

All answer :data:`PATH` by :mod:`.model`, and have pages that are nobody's business: ``/page``, ``/file`` (``ETag``,
ranges, ``wsgi.file_wrapper`` where the framework has them), ``/upload`` (a form with a file), ``/echo`` (any body),
``/feed`` (an event stream that is no LLM answer) and ``/user``.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from tests.harness import PATIENCE

from . import model

FILE = Path(__file__).parent / "frameworks.py"
PAGE = b"a page"
FEED = (b"event: tick\r\ndata: 1\r\n\r\n", b"data: 2\n\n: odd\n")
OWN = ("X-Own", "kept")


class Traces:
    """What an application did at the end of its requests; to be waited for."""

    def __init__(self) -> None:
        self._ends: list[str] = []
        self._changed = threading.Condition()

    def add(self, end: str) -> None:
        with self._changed:
            self._ends.append(end)
            self._changed.notify_all()

    def wait_for(self, *ends: str, timeout: float = PATIENCE) -> None:
        """Until exactly these have been added, in this order."""
        with self._changed:
            assert self._changed.wait_for(lambda: tuple(self._ends) == ends, timeout), self._ends

    def take(self) -> tuple[str, ...]:
        """What has been added so far; begins anew."""
        with self._changed:
            ends, self._ends = tuple(self._ends), []
        return ends

    def watch(self, pieces: Iterator[Any]) -> Iterator[Any]:
        """The same pieces; ``stream`` is added when they end or are closed."""
        try:
            yield from pieces
        finally:
            self.add("stream")


def flask_app(traces: Traces) -> Any:
    """A blueprint that streams with its request context."""
    import flask

    app = flask.Flask(__name__)
    api = flask.Blueprint("api", __name__, url_prefix="/v1")

    @api.post("/chat/completions")
    def chat() -> Any:
        if flask.request.get_json()["messages"][-1]["content"] == "fail":
            raise ValueError("the view failed")
        if not flask.request.get_json()["stream"]:
            return flask.jsonify(model.complete(flask.request.get_json())), {"X-User": flask.request.remote_user}

        def pieces() -> Iterator[bytes]:
            yield from model.chunks(flask.request.get_json())  # the request is still the current one

        response = flask.Response(
            flask.stream_with_context(traces.watch(pieces())),
            mimetype="text/event-stream",
            headers={"X-User": str(flask.request.remote_user)},
        )
        response.call_on_close(lambda: traces.add("closed"))
        return response

    @app.teardown_request
    def teardown(error: BaseException | None) -> None:
        traces.add("teardown")

    app.register_blueprint(api)
    app.add_url_rule("/page", view_func=lambda: (PAGE, {"X-Own": "kept"}), endpoint="page")
    app.add_url_rule("/file", view_func=lambda: flask.send_file(FILE), endpoint="file")
    app.add_url_rule("/user", view_func=lambda: str(flask.request.remote_user), endpoint="user")
    app.add_url_rule("/feed", view_func=lambda: flask.Response(iter(FEED), mimetype="text/event-stream"), endpoint="f")
    app.add_url_rule("/echo", view_func=lambda: flask.request.get_data(), methods=["POST", "PUT"], endpoint="echo")

    @app.post("/upload")
    def upload() -> Any:
        file = flask.request.files["file"]
        return flask.Response(f"{flask.request.form['name']} {file.filename} ".encode() + file.read())

    return app


def django_app(traces: Traces) -> Any:
    """``StreamingHttpResponse`` under WSGI."""
    import json

    import django
    from django import http
    from django.conf import settings
    from django.core.signals import request_finished
    from django.core.wsgi import get_wsgi_application
    from django.urls import path
    from django.views.decorators.http import condition

    def chat(request: Any) -> Any:
        body = json.loads(request.body)
        if body["messages"][-1]["content"] == "fail":
            raise ValueError("the view failed")
        if not body["stream"]:
            response = http.JsonResponse(model.complete(body))
        else:
            response = http.StreamingHttpResponse(traces.watch(model.chunks(body)), content_type="text/event-stream")
        response["X-User"] = request.META.get("REMOTE_USER")
        return response

    def upload(request: Any) -> Any:
        file = request.FILES["file"]
        return http.HttpResponse(f"{request.POST['name']} {file.name} ".encode() + file.read())

    dated = condition(last_modified_func=lambda request: datetime.fromtimestamp(FILE.stat().st_mtime, timezone.utc))
    urls = type("urls", (), {})
    urls.urlpatterns = [  # type: ignore[attr-defined]
        path("v1/chat/completions", chat),
        path("page", lambda request: http.HttpResponse(PAGE, headers=dict([OWN]))),
        path("file", dated(lambda request: http.FileResponse(FILE.open("rb")))),
        path("user", lambda request: http.HttpResponse(str(request.META.get("REMOTE_USER")))),
        path("feed", lambda request: http.StreamingHttpResponse(iter(FEED), content_type="text/event-stream")),
        path("echo", lambda request: http.HttpResponse(request.body)),
        path("upload", upload),
    ]
    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="test", USE_TZ=True, LOGGING_CONFIG=None, ROOT_URLCONF=urls)
        django.setup()
    application = get_wsgi_application()

    def finished(**kwargs: Any) -> None:
        traces.add("request_finished")

    request_finished.disconnect(dispatch_uid="traces")
    request_finished.connect(finished, weak=False, dispatch_uid="traces")

    def app(environ: Any, start_response: Any) -> Any:
        # One process has one Django: the views of the last test are not those of this one.
        settings.ROOT_URLCONF = urls
        django.urls.clear_url_caches()
        django.urls.set_urlconf(None)
        return application(environ, start_response)

    return app


def bottle_app(traces: Traces) -> Any:
    """A generator returned from a callback."""
    import bottle

    app = bottle.Bottle()

    @app.post(model.PATH)
    def chat() -> Any:
        body = bottle.request.json
        if body["messages"][-1]["content"] == "fail":
            raise ValueError("the view failed")
        bottle.response.set_header("X-User", bottle.request.environ.get("REMOTE_USER"))
        if not body["stream"]:
            return model.complete(body)
        bottle.response.content_type = "text/event-stream"
        return traces.watch(model.chunks(body))

    def page() -> bytes:
        bottle.response.set_header(*OWN)
        return PAGE

    def feed() -> Any:
        bottle.response.content_type = "text/event-stream"
        return iter(FEED)

    def upload() -> bytes:
        file = bottle.request.files["file"]
        return f"{bottle.request.forms['name']} {file.raw_filename} ".encode() + file.file.read()

    app.get("/page", callback=page)
    app.get("/file", callback=lambda: bottle.static_file(FILE.name, root=str(FILE.parent)))
    app.get("/user", callback=lambda: str(bottle.request.environ.get("REMOTE_USER")))
    app.get("/feed", callback=feed)
    app.route("/echo", ["POST", "PUT"], callback=lambda: bottle.request.body.read())
    app.post("/upload", callback=upload)
    return app


def pyramid_app(traces: Traces) -> Any:
    """``Response(app_iter=…)`` from function views."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # WebOb imports the module cgi
        from pyramid.config import Configurator
        from pyramid.response import FileResponse, Response

    def chat(request: Any) -> Any:
        body = request.json_body
        if body["messages"][-1]["content"] == "fail":
            raise ValueError("the view failed")
        if not body["stream"]:
            return Response(json_body=model.complete(body), headerlist=[("X-User", str(request.remote_user))])
        response = Response(app_iter=traces.watch(model.chunks(body)), content_type="text/event-stream")
        response.headers["X-User"] = str(request.remote_user)
        return response

    def upload(request: Any) -> Any:
        file = request.POST["file"]
        return Response(f"{request.POST['name']} {file.filename} ".encode() + file.file.read())

    def file(request: Any) -> Any:
        response = FileResponse(FILE, request=request)
        response.etag = "one"
        response.conditional_response = True
        return response

    views: dict[str, Callable[[Any], Any]] = {
        model.PATH: chat,
        "/page": lambda request: Response(PAGE, headerlist=[OWN]),
        "/file": file,
        "/user": lambda request: Response(str(request.remote_user)),
        "/feed": lambda request: Response(app_iter=iter(FEED), content_type="text/event-stream"),
        "/echo": lambda request: Response(request.body),
        "/upload": upload,
    }
    with Configurator() as config:
        for path, view in views.items():
            config.add_route(path, path)
            config.add_view(view, route_name=path)
        return config.make_wsgi_app()


def falcon_app(traces: Traces) -> Any:
    """``resp.stream`` in resources."""
    import falcon

    app = falcon.App()

    class Chat:
        def on_post(self, req: Any, resp: Any) -> None:
            body = req.get_media()
            if body["messages"][-1]["content"] == "fail":
                raise ValueError("the view failed")
            resp.set_header("X-User", req.env.get("REMOTE_USER"))
            if not body["stream"]:
                resp.media = model.complete(body)
                return
            resp.content_type = "text/event-stream"
            resp.stream = traces.watch(model.chunks(body))

    class Page:
        def on_get(self, req: Any, resp: Any) -> None:
            resp.data = PAGE
            resp.set_header(*OWN)

    class User:
        def on_get(self, req: Any, resp: Any) -> None:
            resp.text = str(req.env.get("REMOTE_USER"))

    class Feed:
        def on_get(self, req: Any, resp: Any) -> None:
            resp.content_type = "text/event-stream"
            resp.stream = iter(FEED)

    class Echo:
        def on_post(self, req: Any, resp: Any) -> None:
            resp.data = req.bounded_stream.read() if req.content_length else req.stream.read()

        on_put = on_post

    class Upload:
        def on_post(self, req: Any, resp: Any) -> None:
            answer: dict[str, bytes] = {}
            for part in req.get_media():
                answer[part.name] = f"{part.filename} ".encode() + part.get_data() if part.filename else part.get_data()
            resp.data = answer["name"] + b" " + answer["file"]

    app.add_route(model.PATH, Chat())
    for path, resource in {"/page": Page(), "/user": User(), "/feed": Feed(), "/echo": Echo()}.items():
        app.add_route(path, resource)
    app.add_route("/upload", Upload())
    app.add_static_route("/file", str(FILE.parent), fallback_filename=FILE.name)
    return app


def werkzeug_app(traces: Traces) -> Any:
    """``Request`` and ``Response(iterable)`` without a framework."""
    from werkzeug.utils import send_file
    from werkzeug.wrappers import Request, Response

    def chat(request: Request) -> Response:
        body = request.get_json()
        if body["messages"][-1]["content"] == "fail":
            raise ValueError("the view failed")
        headers = {"X-User": str(request.remote_user)}
        if not body["stream"]:
            return Response(model.json.dumps(model.complete(body)), mimetype="application/json", headers=headers)
        return Response(traces.watch(model.chunks(body)), mimetype="text/event-stream", headers=headers)

    def upload(request: Request) -> Response:
        file = request.files["file"]
        return Response(f"{request.form['name']} {file.filename} ".encode() + file.read())

    views: dict[str, Callable[[Request], Response]] = {
        model.PATH: chat,
        "/page": lambda request: Response(PAGE, headers=[OWN]),
        "/file": lambda request: send_file(FILE, request.environ),
        "/user": lambda request: Response(str(request.remote_user)),
        "/feed": lambda request: Response(iter(FEED), mimetype="text/event-stream"),
        "/echo": lambda request: Response(request.get_data()),
        "/upload": upload,
    }

    @Request.application
    def app(request: Request) -> Response:
        return views.get(request.path, lambda request: Response("no such page", 404))(request)

    return app


APPS: dict[str, Callable[[Traces], Any]] = {
    "flask": flask_app,
    "django": django_app,
    "bottle": bottle_app,
    "pyramid": pyramid_app,
    "falcon": falcon_app,
    "werkzeug": werkzeug_app,
}
