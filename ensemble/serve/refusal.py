"""Why a request is not answered."""

from __future__ import annotations

from http import HTTPStatus

RETRY_SECONDS = 2


class Refused(Exception):
    """status: what HTTP calls it.  message: one line without a file's name."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message

    @property
    def headers(self) -> dict[str, str]:
        """When to come again, where that helps."""
        busy = self.status == HTTPStatus.SERVICE_UNAVAILABLE
        return {"Retry-After": str(RETRY_SECONDS)} if busy else {}


def busy(why: str) -> Refused:
    """For a request that is in order and comes at the wrong time."""
    return Refused(HTTPStatus.SERVICE_UNAVAILABLE, f"{why}; try again in {RETRY_SECONDS} s")
