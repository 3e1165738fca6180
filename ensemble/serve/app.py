"""The service on the web: its addresses, what they take and give, and the headers of every answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from ensemble import __version__
from ensemble.serve.limits import Limits
from ensemble.serve.page import Page, page
from ensemble.serve.predictor import Predictor
from ensemble.serve.refusal import Refused
from ensemble.serve.schema import Explanation, Health, Model, Predictions, Problem, model_facts
from ensemble.serve.secure import SecureHeaders
from ensemble.serve.service import Service
from ensemble.serve.uploads import uploads

LOCAL = ("localhost", "127.0.0.1", "::1", "[::1]")

_FILES = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["images"],
                    "properties": {
                        "images": {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
                    },
                }
            }
        },
    }
}
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": text}
    for status, text in (
        (400, "No file, or a broken multipart request."),
        (408, "The request took too long to arrive."),
        (413, "Too many bytes, pixels or files."),
        (415, "No multipart/form-data, or a file that is no image by its content."),
        (422, "An image that cannot be read, or takes too long."),
        (503, "Too many requests are waiting, or no answer in time; see Retry-After."),
    )
}


def create_app(predictor: Predictor, limits: Limits, hosts: Sequence[str] = LOCAL) -> FastAPI:
    """The service of one model. hosts: the names it may be called by, `*` for any."""
    service = Service(predictor, limits)
    shown = page(predictor.facts, limits)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    # the default pages of documentation load their programs from elsewhere
    app = FastAPI(
        title=f"ens serve {predictor.facts.run}",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=running,
    )
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    app.add_middleware(SecureHeaders, policy=shown.policy)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(Exception, _unexpected)
    _add_addresses(app, service, shown)
    return app


def _add_addresses(app: FastAPI, service: Service, shown: Page) -> None:
    facts, limits = service.predictor.facts, service.limits

    @app.post("/predict", openapi_extra=_FILES, responses=_PROBLEMS)
    async def predict(request: Request) -> Predictions:
        """What the model says of one or many images; the fields are those of `ens predict --format jsonl`."""
        with service.admitted():
            return Predictions(**await service.predictions(await uploads(request, limits)))

    @app.post("/explain", openapi_extra=_FILES, responses=_PROBLEMS | {501: {"model": Problem}})
    async def explain(request: Request, asked: Annotated[str | None, Query(alias="class")] = None) -> Explanation:
        """Where each member looks in one image (Grad-CAM), for a class, by default the predicted one."""
        with service.admitted():
            files = await uploads(request, limits)
            if len(files) > 1:
                raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "one image at a time is explained")
            return Explanation(**await service.maps(files[0], asked))

    @app.get("/health")
    async def health() -> Health:
        """Whether it answers, and how many requests it is about."""
        return Health(status="ok", run=facts.run, waiting=service.inside)

    @app.get("/model")
    async def model() -> Model:
        """What is known of the model, and what it takes on."""
        return model_facts(facts, limits, service.reading)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(shown.html)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refused)
    return JSONResponse({"error": error.message}, error.status, error.headers)


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": f"unexpected {type(error).__name__}"}, HTTPStatus.INTERNAL_SERVER_ERROR)
