"""A worker that is started once more when it dies: for the network as given, beside which everything is measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from statistics import median
from typing import Any, TypeVar

from hasten.deaths import WorkerDied, blamed
from hasten.errors import EnvironmentFault
from hasten.replies import Loaded, Times
from hasten.worker import Worker

T = TypeVar("T")
MOST_RESTARTS = 5
WARM_SECONDS = 3.0


class RestartingWorker(Worker):
    """Where the child dies, a new one loads the same network and is sent the same request.

    A second death in the same request is the machine's fault when the network has run before, and is raised as
    ``EnvironmentFault``; before that it is raised as it is.
    """

    def __init__(self, *, name: str) -> None:
        self._loading: dict[str, Any] | None = None
        self._request: tuple[str, dict[str, Any]] = ("", {})
        self._restarts, self._answered = 0, False
        super().__init__(name=name)

    def ask(self, operation: str, *, seconds: float = 600.0, **arguments: Any) -> None:
        """As ``Worker.ask``; a child that is gone is replaced first."""
        self._request = (operation, arguments)
        try:
            super().ask(operation, seconds=seconds, **arguments)
        except WorkerDied as fault:
            self._again(fault)

    def answer(self, kind: type[T], *, seconds: float = 600.0, check: Callable[[T], str] | None = None) -> T:
        """As ``Worker.answer``; the request of a child that died is repeated once."""
        try:
            value = super().answer(kind, seconds=seconds, check=check)
        except WorkerDied as fault:
            value = self._repeated(fault, kind, seconds, check)
        if self._request[0] == "load":
            self._loading = self._request[1]
        else:
            self._answered = True
        return value

    def hold(self) -> None:
        """As ``Worker.hold``; there is nothing to hold where the child is gone."""
        try:
            super().hold()
        except WorkerDied:
            return

    def _repeated(self, fault: WorkerDied, kind: type[T], seconds: float, check: Callable[[T], str] | None) -> T:
        self._again(fault)
        try:
            return super().answer(kind, seconds=seconds, check=check)
        except WorkerDied as second:
            raise self._final(second) from fault

    def _again(self, fault: WorkerDied) -> None:
        """A new child in the state of the old one, that was sent the same request."""
        operation, arguments = self._request
        closed = self.death is None  # by its owner
        pointless = operation == "load" and not fault.killed
        if closed or pointless or fault.memory or self._restarts == MOST_RESTARTS:
            raise self._final(fault)
        self._restarts += 1
        self.start()
        try:
            if self._loading is not None and operation != "load":
                super().ask("load", **self._loading)
                super().answer(Loaded)
            if operation == "time":
                self._warm(arguments)
            super().ask(operation, **arguments)
        except WorkerDied as second:
            raise self._final(second) from fault

    def _warm(self, arguments: dict[str, Any]) -> None:
        """Blocks of a new process that are not counted: until two agree within 5 %, for a few seconds at most."""
        end, last = time.monotonic() + WARM_SECONDS, inf
        while True:
            super().ask("time", **arguments)
            now = median(super().answer(Times).milliseconds)
            if abs(now - last) < 0.05 * last or time.monotonic() > end:
                return
            last = now

    def _final(self, fault: WorkerDied) -> Exception:
        if not self._answered or self.death is None:
            return fault
        found = blamed(fault, f"the process of the network as given ({self.name}) died again", process="its process")
        if isinstance(found, EnvironmentFault):
            return found
        return EnvironmentFault(found.message, cause=found.cause, help="run the same command again")
