"""``memgraph_ha servers``, ``add-server`` and their like: statements about a running cluster.

Each connects over Bolt to any one server (``--address``), sends one statement of
``administration.py`` and prints the answer. Exit status: 0 done; 1 certainly not done, or not
finished in the time that ``--wait`` was given; 2 called wrongly; 3 unknown whether it was done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import click
import neo4j
from neo4j.exceptions import DriverError, Neo4jError

from actors.addresses import join_host_port, parse_address
from actors.administration import (
    SERVER_COLUMNS,
    AddServer,
    DemoteServer,
    PromoteServer,
    RemoveServer,
    ReplaceServer,
    ShowServers,
    Statement,
    TransferTo,
)
from actors.config import SERVER_ID_MAX
from bolt import status as codes

__all__ = [
    "add_server",
    "demote_server",
    "promote_server",
    "remove_server",
    "replace_server",
    "servers",
    "transfer_leadership",
]

NOT_DONE_STATUS = 1
UNKNOWN_STATUS = 3
CONNECT_SECONDS_MAX = 10.0
POLL_SECONDS = 0.5
DEFAULT_ADDRESS = "127.0.0.1:7687"


class Failed(click.ClickException):
    """Not done, for sure."""

    exit_code = NOT_DONE_STATUS


class Unknown(click.ClickException):
    """Done or not."""

    exit_code = UNKNOWN_STATUS


class _Place(click.ParamType[str]):
    """host:port, in one spelling."""

    name = "host:port"

    def convert(self, value: Any, param: Any, ctx: Any) -> str:
        try:
            return join_host_port(*parse_address(str(value)))
        except ValueError as error:
            self.fail(str(error), param, ctx)


_ID = click.IntRange(1, SERVER_ID_MAX)
_address = click.option(
    "--address",
    metavar="HOST:PORT",
    type=_Place(),
    default=DEFAULT_ADDRESS,
    show_default=True,
    help="Bolt address of any server of the cluster.",
)
_wait = click.option(
    "--wait",
    is_flag=True,
    help="Return when the new server has caught up, and show how far it is until then.",
)
_timeout = click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    help="How long --wait waits.",
)


def _run(name: str, arguments: Sequence[str]) -> int:
    """Run a subcommand; the exit status."""
    argv = [name, *arguments]
    try:
        with _group.make_context("memgraph_ha", argv) as context:
            _group.invoke(context)
    except click.exceptions.Exit as end:
        return int(end.exit_code)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return 0


@click.group(context_settings={"max_content_width": 100})
def _group() -> None:
    """Look at the servers of a running cluster, and change them."""


@_group.command("servers")
@_address
def _servers(address: str) -> None:
    """Show the servers of the cluster."""
    with _connected(address) as ask:
        _print_table(SERVER_COLUMNS, _rows(ask))


@_group.command("add-server")
@click.argument("server_id", type=_ID)
@click.argument("place", metavar="HOST:RPC_PORT", type=_Place())
@click.option("--learner", is_flag=True, help="It never votes: a read replica.")
@_wait
@_timeout
@_address
def _add(
    server_id: int, place: str, learner: bool, wait: bool, timeout: float, address: str
) -> None:
    """Add a server, which must be running with --join."""
    with _connected(address) as ask:
        _change(ask, AddServer(server_id, place, learner))
        if wait:
            _wait_for(ask, server_id, 0, timeout)


@_group.command("remove-server")
@click.argument("server_id", type=_ID)
@_address
def _remove(server_id: int, address: str) -> None:
    """Remove a server for ever: its id is not used again."""
    with _connected(address) as ask:
        _change(ask, RemoveServer(server_id))


@_group.command("replace-server")
@click.argument("old_id", type=_ID)
@click.argument("server_id", type=_ID)
@click.argument("place", metavar="HOST:RPC_PORT", type=_Place())
@_wait
@_timeout
@_address
def _replace(
    old_id: int, server_id: int, place: str, wait: bool, timeout: float, address: str
) -> None:
    """Put a new server, which must be running with --join, in the place of an old or dead one."""
    with _connected(address) as ask:
        _change(ask, ReplaceServer(old_id, server_id, place))
        if wait:
            _wait_for(ask, server_id, old_id, timeout)


@_group.command("promote-server")
@click.argument("server_id", type=_ID)
@_address
def _promote(server_id: int, address: str) -> None:
    """Let a learner vote."""
    with _connected(address) as ask:
        _change(ask, PromoteServer(server_id))


@_group.command("demote-server")
@click.argument("server_id", type=_ID)
@_address
def _demote(server_id: int, address: str) -> None:
    """Make a learner of a server that votes."""
    with _connected(address) as ask:
        _change(ask, DemoteServer(server_id))


@_group.command("transfer-leadership")
@click.argument("server_id", type=_ID, required=False)
@_address
def _transfer(server_id: int | None, address: str) -> None:
    """Let another server lead: SERVER_ID, or the one that has come farthest."""
    with _connected(address) as ask:
        _change(ask, TransferTo(server_id or 0))


servers = partial(_run, "servers")
add_server = partial(_run, "add-server")
remove_server = partial(_run, "remove-server")
replace_server = partial(_run, "replace-server")
promote_server = partial(_run, "promote-server")
demote_server = partial(_run, "demote-server")
transfer_leadership = partial(_run, "transfer-leadership")


# --- Asking ---------------------------------------------------------------------------------------

Ask = Callable[[Statement], list[list[Any]]]


@contextmanager
def _connected(address: str) -> Iterator[Ask]:
    """A function that sends a statement and returns the rows."""
    with neo4j.GraphDatabase.driver(
        f"bolt://{address}",
        connection_timeout=CONNECT_SECONDS_MAX,
        connection_acquisition_timeout=CONNECT_SECONDS_MAX,
        telemetry_disabled=True,
    ) as driver:
        try:
            driver.verify_connectivity()
        except (DriverError, Neo4jError) as error:
            raise Failed(
                f"no answer from {address} ({error}). Give the Bolt address of a server that runs "
                "with --address host:port. Nothing was done."
            ) from None

        def ask(statement: Statement) -> list[list[Any]]:
            with driver.session() as session:
                text = "SHOW SERVERS" if isinstance(statement, ShowServers) else str(statement)
                try:
                    return [record.values() for record in session.run(text)]
                except Neo4jError as error:
                    if error.code == codes.COMMIT_OUTCOME_UNKNOWN:
                        raise Unknown(f"{error.message}") from None
                    raise Failed(f"{error.message}") from None
                except DriverError as error:
                    raise Unknown(
                        f"the connection to {address} was lost ({error}). Whether this was done is "
                        "unknown: memgraph_ha servers will tell."
                    ) from None

        yield ask


def _change(ask: Ask, statement: Statement) -> None:
    ((result,),) = ask(statement)
    click.echo(result)


def _rows(ask: Ask) -> list[dict[str, Any]]:
    return [dict(zip(SERVER_COLUMNS, row, strict=True)) for row in ask(ShowServers())]


def _wait_for(ask: Ask, server_id: int, old_id: int, timeout: float) -> None:
    """Until a new server has caught up, and the one that it replaces is gone."""
    deadline = time.monotonic() + timeout
    said = ""
    while True:
        rows = {row["id"]: row for row in _rows(ask)}
        new = rows.get(server_id)
        if new is None or new["role"] in ("waiting", "removed"):
            raise Failed(f"server {server_id} is no member any more; somebody has removed it")
        replaced = old_id == 0 or rows.get(old_id, {"role": "removed"})["role"] == "removed"
        arrived = new["role"] in ("follower", "leader") or (
            new["role"] == "learner" and new["lag"] == 0
        )
        if arrived and replaced:
            click.echo(f"server {server_id} is a {new['role']} and has caught up")
            return
        line = _progress(new, old_id if not replaced else 0)
        if line != said:
            said = line
            click.echo(line)
        if time.monotonic() > deadline:
            raise Failed(
                f"server {server_id} has not caught up within {timeout:g} s. It goes on by itself; "
                "memgraph_ha servers shows how far it is."
            )
        time.sleep(POLL_SECONDS)


def _progress(row: dict[str, Any], old_id: int) -> str:
    behind = "how far is not known yet" if row["lag"] is None else f"{row['lag']} entries behind"
    note = f"; {row['note']}" if row["note"] else ""
    waits = f"; server {old_id} is still there" if old_id else ""
    return f"server {row['id']}: {row['role']}, {row['health']}, {behind}{note}{waits}"


def _print_table(columns: list[str], rows: list[dict[str, Any]]) -> None:
    cells = [["" if row[c] is None else str(row[c]) for c in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in (columns, *cells):
        padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        click.echo("  ".join(padded).rstrip())
