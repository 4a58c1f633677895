"""Views of the gateway with something in them, and changes to tell them."""

from typing import Any

from nano.model.ids import CellId, InstanceId, PoolName, TaskId, TemplateId
from nano.model.instance import Instance, InstanceSpec
from nano.model.task import Task, TaskState
from nano.model.template import Devices
from services.gateway.cursor import Book
from services.gateway.ring import Reader
from services.gateway.view import Change, View

LIFE = "one"


def instance(name: str) -> Instance:
    spec = InstanceSpec(
        name, "admin", "admin", PoolName("default"), 1, 2**28, (2**30,), TemplateId("t"), Devices()
    )
    return Instance(InstanceId(f"id-{name}"), spec, CellId("Cell_1"), 1, "00:16:3e:00:00:01", 1)


def task(name: str, subject: str, created_ms: int = 0) -> Task:
    return Task(TaskId(name), "create_instance", subject, TaskState.RUNNING, "", 0, 1, 0, True, created_ms)


def change(
    revision: int, *nouns: tuple[str, Any], gone: tuple[tuple[str, str], ...] = (), **more: Any
) -> Change:
    return Change(more.pop("life", LIFE), revision, more.pop("whole", False), nouns, gone)


def filled(ring: int = 100) -> View:
    view = View(ring)
    for book in Book:
        view.apply(book, change(7, whole=True))
        view.fed(book)
    return view


def told(reader: Reader) -> list[tuple[str, str]]:
    return [(event.kind, event.id) for event in reader.take(1000, {})]
