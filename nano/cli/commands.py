"""The commands of `nanoctl`."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from nano.cli import settings, show
from nano.cli.client import Client, Refused
from nano.cli.names import instance_named
from nano.model.errors import Invalid, NotFound, Unreachable
from nano.model.task import TaskState

app = typer.Typer(no_args_is_help=True, help="Nano from a terminal.", pretty_exceptions_enable=False)
instances = typer.Typer(no_args_is_help=True, help="The machines that users own.")
images = typer.Typer(no_args_is_help=True, help="Disk images (clonable) and media images (ISO).")
tasks = typer.Typer(no_args_is_help=True, help="What is being done, and what was done.")
app.add_typer(instances, name="instance")
app.add_typer(images, name="image")
app.add_typer(tasks, name="task")

PATIENCE_S = 60.0
"""How long a wait lasts without a gateway."""
RETRY_S = 1.0

_ENDED = {str(state) for state in TaskState if state.ended}


class State:
    """What the options in front of a command say."""

    config: Path | None = None
    json: bool = False
    wait: bool = True


@app.callback()
def options(
    config: Annotated[
        Path | None, typer.Option(help="Settings file; else NANO_CONFIG, var/nanoctl.toml …")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON instead of tables.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait until a task that was started has ended.")] = True,
) -> None:
    State.config, State.json, State.wait = config, json, wait


def connect() -> Client:
    return Client(settings.read(settings.find(State.config)))


# ------------------------------------------------------------------ status


@app.command()
def status() -> None:
    """Pools, cells and instances at a glance."""
    with connect() as client:
        pools = client.call("GET", "/compute_pools/").data
        cells = [
            {"pool": pool["name"], **cell}
            for pool in pools
            for cell in client.call("GET", f"/compute_pool_cells/{pool['name']}").data or []
        ]
        found = search(client)
    if State.json:
        show.document({"pools": pools, "cells": cells, "instances": found})
        return
    show.table(
        "pools",
        ("NAME", "ENABLED", "ADDRESSES"),
        ((pool["name"], yes(pool.get("enabled")), pool.get("network") or "-") for pool in pools),
    )
    show.table(
        "cells",
        ("NAME", "POOL", "ADDRESS", "ENABLED", "ALIVE"),
        (
            (
                cell["name"],
                cell["pool"],
                cell.get("address", "-"),
                yes(cell.get("enabled")),
                yes(cell.get("alive")),
            )
            for cell in cells
        ),
    )
    show_instances(found)


def yes(value: object) -> str:
    return "yes" if value else "no"


# ------------------------------------------------------------------ instances


def search(client: Client, pool: str = "", owner: str = "") -> list[dict[str, Any]]:
    """Every instance that the filters leave, page by page (REST document, section 5)."""
    found: list[dict[str, Any]] = []
    while True:
        whose: dict[str, Any] = {"owner": owner} if owner else {"all": True}
        body = {"limit": 100, "offset": len(found), "pool": pool, **whose}
        page = client.call("POST", "/search/guests/", body=body).data
        found += page["result"] or []
        if len(found) >= page["total"] or not page["result"]:
            return found


def show_instances(found: list[dict[str, Any]]) -> None:
    show.table(
        "instances",
        ("ID", "NAME", "STATE", "CELL", "ADDRESS", "CORES", "MEMORY", "DISK"),
        (
            (
                one["id"],
                one["name"],
                state_of(one),
                one.get("cell", "-"),
                one.get("internal", {}).get("allocated_address") or "-",
                one["cores"],
                show.size(one["memory"]),
                show.size(one["total_disk"]),
            )
            for one in found
        ),
    )


def state_of(guest: dict[str, Any]) -> str:
    """One word for the flags of the documented guest."""
    if not guest.get("created"):
        word = f"creating {guest.get('progress', 0)} %"
    elif guest.get("lost"):
        word = "lost"
    else:
        word = guest.get("status") or ("running" if guest.get("running") else "stopped")
    return f"{word} (simulated)" if guest.get("simulated") else word


def resolve(client: Client, name: str) -> str:
    """The id of an instance named by id, full name or short name; NotFound or Invalid when it is not one."""
    return str(instance_named(name, search(client))["id"])


Instance = Annotated[str, typer.Argument(help="Id, <group>.<name> or name.")]


@instances.command("list")
def instance_list(
    pool: Annotated[str, typer.Option(help="Only of this compute pool.")] = "",
    owner: Annotated[str, typer.Option(help="Only of this owner.")] = "",
) -> None:
    """All instances."""
    with connect() as client:
        found = search(client, pool, owner)
    if State.json:
        show.document(found)
    else:
        show_instances(found)


@instances.command("show")
def instance_show(instance: Instance) -> None:
    """All that is known of one instance."""
    with connect() as client:
        show.document(client.call("GET", f"/guests/{resolve(client, instance)}").data)


@instances.command("create")
def instance_create(  # noqa: PLR0917 - typer makes options of arguments
    name: str,
    image: Annotated[
        str, typer.Option(help="Disk image to clone: id or name; none gives a blank disk.")
    ] = "",
    template: Annotated[str, typer.Option(help="Template: id or name.")] = "Linux (virtio)",
    cores: Annotated[int, typer.Option(help="1 or an even number.")] = 1,
    memory: Annotated[str, typer.Option(help="Such as 512M or 2G.")] = "512M",
    disk: Annotated[list[str] | None, typer.Option(help="Size; repeat for data disks. Default 5G.")] = None,
    pool: Annotated[str, typer.Option(help="Compute pool.")] = "default",
    owner: Annotated[str, typer.Option()] = "admin",
    group: Annotated[str, typer.Option()] = "admin",
    start: Annotated[bool, typer.Option("--start", help="Start it when it is there.")] = False,
    auto_start: Annotated[bool, typer.Option("--auto-start", help="Start it with its host.")] = False,
) -> None:
    """Create an instance."""
    with connect() as client:
        body = {
            "name": name,
            "owner": owner,
            "group": group,
            "pool": pool,
            "cores": cores,
            "memory": parsed("memory", memory),
            "disks": [parsed("disk", one) for one in disk or ["5G"]],
            "template": template_id(client, template),
            "from_image": image_record(client, "disk", image)["id"] if image else "",
            "modules": ["qemu"] if image else [],
            "auto_start": auto_start,
        }
        answer = client.call("POST", "/guests/", body=body)
        finish(client, answer.task, f"creating {name}", always=start)
        if start:
            started = client.call("POST", f"/instances/{answer.data['id']}", body={})
            finish(client, started.task, f"starting {name}")
        report({"id": answer.data["id"], "task": answer.task}, answer.data["id"])


@instances.command("start")
def instance_start(instance: Instance) -> None:
    """Switch it on."""
    power(instance, "POST", {}, "starting")


@instances.command("stop")
def instance_stop(
    instance: Instance,
    force: Annotated[bool, typer.Option("--force", help="Pull the plug.")] = False,
) -> None:
    """Ask the guest to shut down, or force it off."""
    power(instance, "DELETE", {"reboot": False, "force": force}, "stopping")


@instances.command("reboot")
def instance_reboot(
    instance: Instance,
    force: Annotated[bool, typer.Option("--force", help="Press the reset button.")] = False,
) -> None:
    """Restart it."""
    power(instance, "DELETE", {"reboot": True, "force": force}, "rebooting")


def power(instance: str, method: str, body: dict[str, bool], doing: str) -> None:
    with connect() as client:
        found = resolve(client, instance)
        answer = client.call(method, f"/instances/{found}", body=body)
        finish(client, answer.task, f"{doing} {instance}")
        report({"id": found, "task": answer.task}, outcome(instance, "done", answer.task))


@instances.command("delete")
def instance_delete(
    instance: Instance,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Remove a stopped instance, its disks and its address, for ever."""
    with connect() as client:
        found = resolve(client, instance)
        if not yes:
            typer.confirm(f"remove {instance} ({found}) and its disks for ever?", abort=True, err=True)
        answer = client.call("DELETE", f"/guests/{found}", body={})
        finish(client, answer.task, f"deleting {instance}")
        report({"id": found, "task": answer.task}, outcome(instance, "gone", answer.task))


@instances.command("forget")
def instance_forget(
    instance: Instance,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Take an instance off the record whose server was removed and is gone for good. Nothing is erased."""
    with connect() as client:
        found = instance_named(instance, search(client))
        if not yes:
            typer.echo(
                f"{found['name']} ({found['id']}) is on {found.get('cell', '-')}. Its address is free for "
                "others at once, and what lies on that server's disks stays there: it must stay off, or be "
                "erased before it joins again.",
                err=True,
            )
            typer.confirm(f"forget {found['name']} for ever?", abort=True, err=True)
        answer = client.call("DELETE", f"/guests/{found['id']}", body={"forget": True})
        finish(client, answer.task, f"forgetting {instance}")
        said = outcome(instance, "forgotten; nothing was erased", answer.task)
        report({"id": found["id"], "task": answer.task}, said)


def parsed(field: str, text: str) -> int:
    try:
        return show.parse_size(text)
    except ValueError:
        raise Invalid(
            field, f"{field} {text!r} is no size: give a number with K, M, G or T, such as 512M"
        ) from None


def template_id(client: Client, name: str) -> str:
    known = client.call("GET", "/templates/").data
    for one in known:
        if name in {one["id"], one["name"]}:
            return str(one["id"])
    names = ", ".join(repr(one["name"]) for one in known)
    raise NotFound(f"there is no template {name!r}: give one of {names}")


# ------------------------------------------------------------------ images

Kind = Annotated[str, typer.Option(help="disk or media.")]


def image_records(client: Client, kind: str, group: str = "admin") -> list[dict[str, Any]]:
    if kind not in {"disk", "media"}:
        raise Invalid("kind", f"kind {kind!r} is unknown: give disk or media")
    return list(client.call("GET", f"/{kind}_image_search/", query={"group": group}).data or [])


def image_record(client: Client, kind: str, name: str) -> dict[str, Any]:
    for one in image_records(client, kind):
        if name in {one["id"], one["name"]}:
            return one
    raise NotFound(f"there is no {kind} image {name!r}: see nanoctl image list --kind {kind}")


@images.command("list")
def image_list(kind: Kind = "disk", group: Annotated[str, typer.Option()] = "admin") -> None:
    """All images of a group."""
    with connect() as client:
        found = image_records(client, kind, group)
    if State.json:
        show.document(found)
        return
    show.table(
        f"{kind} images",
        ("ID", "NAME", "SIZE", "READY", "TAGS"),
        (
            (
                one["id"],
                one["name"],
                show.size(one.get("size", 0)),
                yes(one.get("created", one.get("size"))),
                " ".join(one.get("tags") or []),
            )
            for one in found
        ),
    )


@images.command("push")
def image_push(  # noqa: PLR0917 - typer makes options of arguments
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="A .qcow2, raw or .iso file.")],
    name: Annotated[str, typer.Option(help="Default: the file's name.")] = "",
    kind: Annotated[str, typer.Option(help="disk or media; default: by the file's ending.")] = "",
    owner: Annotated[str, typer.Option()] = "admin",
    group: Annotated[str, typer.Option()] = "admin",
    tag: Annotated[list[str] | None, typer.Option()] = None,
) -> None:
    """Upload an image: a new record, or new content of the one with that name."""
    kind = kind or ("media" if file.suffix.lower() == ".iso" else "disk")
    name = name or file.stem
    with connect() as client:
        known = [one for one in image_records(client, kind, group) if one["name"] == name]
        record = {"name": name, "owner": owner, "group": group, "description": "", "tags": tag or []}
        image = known[0]["id"] if known else client.call("POST", f"/{kind}_images/", body=record).data["id"]
        bar, moved = show.moving_bytes(f"pushing {name}")
        try:
            with bar:
                client.upload(f"/{kind}_images/{image}/file/", file, moved)
        except Refused:
            if not known:  # a record without content is of no use to anybody
                client.call("DELETE", f"/{kind}_images/{image}")
            raise
    report({"id": image}, image)


@images.command("pull")
def image_pull(
    name: Annotated[str, typer.Argument(help="Id or name of a disk image.")],
    file: Annotated[Path | None, typer.Argument(help="Default: <name>.qcow2 here.")] = None,
) -> None:
    """Download a disk image; goes on where an earlier try ended, and checks the signature."""
    with connect() as client:
        record = image_record(client, "disk", name)
        target = file or Path(f"{record['name']}.qcow2")
        bar, moved = show.moving_bytes(f"pulling {record['name']}")
        with bar:
            digest = client.download(f"/disk_images/{record['id']}/file/", target, moved)
    report({"file": str(target), "sha1": digest}, f"{target}: {digest}")


@images.command("delete")
def image_delete(name: str, kind: Kind = "disk") -> None:
    """Remove an image. Instances cloned from it are not touched."""
    with connect() as client:
        record = image_record(client, kind, name)
        client.call("DELETE", f"/{kind}_images/{record['id']}")
    report({"id": record["id"]}, f"{name}: gone")


# ------------------------------------------------------------------ tasks


@tasks.command("list")
def task_list(
    state: Annotated[str, typer.Option(help="Only of this state.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 50,
) -> None:
    """The newest tasks."""
    with connect() as client:
        query: dict[str, str | int] = {"limit": limit, **({"state": state} if state else {})}
        page = client.call("GET", "/tasks/", query=query).data
    if State.json:
        show.document(page)
        return
    show.table(
        "tasks",
        ("ID", "KIND", "OF", "STATE", "STEP", "%", "ERROR"),
        (
            (
                one["id"],
                one["kind"],
                one["name"] or one["subject"],
                one["state"],
                one["step"],
                one["progress_percent"],
                (one.get("error") or {}).get("message", ""),
            )
            for one in page["tasks"]
        ),
    )


@tasks.command("watch")
def task_watch(
    task: Annotated[str, typer.Argument(help="Id of a task; none: all, until Ctrl-C.")] = "",
) -> None:
    """Follow a task to its end, or everything that happens."""
    with connect() as client:
        if task:
            finish(client, task, task, always=True)
            report(client.call("GET", f"/tasks/{task}").data, f"{task}: done")
            return
        told = ""
        for event in client.events():
            if event.kind == "task" and not event.gone:  # one that is forgotten has nothing left to tell
                line = watched(event.document)
                if line != told:  # a step that begins and one that is reported may look the same
                    print(line, flush=True)
                told = line


def watched(task: dict[str, Any]) -> str:
    """A line of a watch: for people, or one JSON document."""
    if State.json:
        return msgspec.json.encode(task).decode()
    of = task["name"] or task["subject"]
    return f"{task['id']} {task['kind']} {of} {task['state']} {task['progress_percent']} % {task['step']}"


@tasks.command("cancel")
def task_cancel(task: str) -> None:
    """Have a task take back what it did; only before its pivot."""
    with connect() as client:
        client.call("DELETE", f"/tasks/{task}")
        waits_for = client.call("GET", f"/tasks/{task}").data["waits_for"]
    said = f"{task}: is being undone"
    report({"id": task, "waits_for": waits_for}, f"{said}: {waits_for}" if waits_for else said)


# ------------------------------------------------------------------ shared


def report(data: Any, line: str) -> None:
    """The result: a document for programs, a line for people."""
    if State.json:
        show.document(data)
    else:
        print(line)


def outcome(what: str, done: str, task: str) -> str:
    """What is said at the end: with --no-wait nobody knows yet whether it is done."""
    return f"{what}: {done}" if State.wait or not task else f"{what}: begun, see nanoctl task watch {task}"


def finish(client: Client, task: str, label: str, *, always: bool = False) -> None:
    """Waits until a task has ended, showing how far it is; Refused carries the task's own error."""
    if not task or not (State.wait or always):
        return
    last: dict[str, Any] = {}
    try:
        with progress_line(label) as update:

            def see(known: dict[str, Any]) -> None:
                last.update(known)
                update(known)

            ended = wait_for_task(client, task, see)
    except KeyboardInterrupt:
        undo = f", or have it undone with: nanoctl task cancel {task}" if last.get("cancellable") else ""
        said = f"{label}: the task goes on; follow it with: nanoctl task watch {task}{undo}"
        typer.echo(said, err=True)
        raise
    if ended["state"] == TaskState.CANCELLED:
        raise Refused(f"{label}: cancelled, and undone", 409)
    if ended["state"] != TaskState.DONE:
        error = ended.get("error") or {}
        raise Refused(f"{label}: {ended['state']}: {error.get('message', 'no reason was given')}", 500)


def wait_for_task(client: Client, task: str, update: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The task as it ended. Listens before it asks, so that no end is missed, and never polls.

    A gateway that goes away meanwhile is waited for: the task goes on without it.
    """
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            for known in _views_of(client, task):
                update(known)
                if known["state"] in _ENDED:
                    return known
                until = time.monotonic() + PATIENCE_S
        except Unreachable:
            if time.monotonic() > until:
                raise
        time.sleep(RETRY_S)


def _views_of(client: Client, task: str) -> Iterator[dict[str, Any]]:
    """The task as it is, and as it becomes, for as long as the event stream lasts.

    It is read anew when a cell comes or goes, since only that says what the task waits for.
    """
    for event in client.events():
        if event.kind in {"hello", "reread", "cell"}:
            yield client.call("GET", f"/tasks/{task}").data
        elif event.kind == "task" and event.id == task and not event.gone:
            yield event.document


@contextmanager
def progress_line(label: str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A line on standard error that says what is being done, and one for each thing that holds it up.

    Programs get the latter only.
    """
    console = Console(stderr=True, soft_wrap=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    is_quiet = State.json or not console.is_terminal
    held_up = ""
    with Progress(*columns, console=console, transient=True, disable=is_quiet) as line:
        row = line.add_task(label, total=None)

        def update(task: dict[str, Any]) -> None:
            nonlocal held_up
            line.update(row, description=f"{label}: {task['step']} ({task['progress_percent']} %)")
            why = waiting_line(task)
            if why and why != held_up:
                console.print(f"{label}: {why}", markup=False, highlight=False)
            held_up = why

        yield update


def waiting_line(task: dict[str, Any]) -> str:
    """What a task waits for and what can be done about it; empty when it goes on."""
    why = task.get("waits_for", "")
    if not why or not task["cancellable"] or task["state"] != TaskState.RUNNING:
        return str(why)
    return f"{why}; cancel with: nanoctl task cancel {task['id']}"
