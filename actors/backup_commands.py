"""``memgraph_ha backup`` and ``memgraph_ha restore``.

Both connect over Bolt to any one server (``--address``). Exit status: 0 done; 1 certainly not done;
2 called wrongly; 3 unknown whether it was done (a restore whose last answer was lost).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
import neo4j
from neo4j.exceptions import DriverError, Neo4jError
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

from actors.addresses import join_host_port, parse_address
from actors.backup_file import BackupHead
from actors.backup_transfer import (
    BackupRefused,
    inspect_backup,
    receive_backup,
    send_backup,
    verify_backup,
)
from bolt import status as codes

__all__ = ["backup", "restore"]

NOT_DONE_STATUS = 1
UNKNOWN_STATUS = 3
CONNECT_SECONDS_MAX = 10.0
# Rows that the driver asks for at a time: some megabytes.
FETCH_ROWS = 32


class Failed(click.ClickException):
    """Not done, for sure."""

    exit_code = NOT_DONE_STATUS


class Unknown(click.ClickException):
    """Done or not."""

    exit_code = UNKNOWN_STATUS


def _checked_address(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        return join_host_port(*parse_address(value))
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from None


_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
_address = click.option(
    "--address",
    metavar="HOST:PORT",
    callback=_checked_address,
    default="127.0.0.1:7687",
    show_default=True,
    help="Bolt address of any server of the cluster.",
)


@click.group(context_settings={"max_content_width": 100})
def _group() -> None:
    """Save and restore the graph of a running cluster."""


@_group.command("backup")
@_file
@_address
@click.option("--force", is_flag=True, help="Replace FILE if it is there already.")
@click.option(
    "--verify", is_flag=True, help="Make no backup: load the one in FILE and compare its digest."
)
def _backup(file: Path, address: str, force: bool, verify: bool) -> None:
    """Write the graph of a running server to FILE, while everything goes on.

    The server asked need not be the leader; FILE shows one moment of its graph.
    """
    if verify:
        head = verify_backup(file)
        click.echo(f"{file} is sound: {_described(head)}")
        return
    if file.exists() and not force:
        raise Failed(f"{file} is there already; choose another name, or add --force")
    with _session(address, default_access_mode=neo4j.READ_ACCESS) as session, _bar() as show:
        rows = (record["part"] for record in session.run("BACKUP DATABASE"))
        head = receive_backup(file, rows, show)
    click.echo(f"{file}: {_described(head)}")


@_group.command("restore")
@_file
@_address
@click.option("--replace", is_flag=True, help="Overwrite the graph that is there. It is lost.")
def _restore(file: Path, address: str, replace: bool) -> None:
    """Make the graph in FILE the graph of a running cluster, on all its servers at once.

    All or nothing: readers see the old graph, and then the new one.
    """
    click.echo(f"{file}: {_described(inspect_backup(file))}")
    with _session(address) as session, _bar() as show:
        ending = [False]

        def run(statement: str, parameters: dict[str, Any]) -> list[list[Any]]:
            ending[0] = statement == "RESTORE DATABASE END"
            return [record.values() for record in session.run(statement, parameters)]

        try:
            head = send_backup(file, run, replace=replace, progress=show)
        except DriverError as error:
            if ending[0]:
                raise Unknown(
                    f"the connection to {address} was lost ({error}). Whether the graph was "
                    "restored is unknown; look before you run it again."
                ) from None
            raise
    click.echo(f"restored {head.nodes} nodes and {head.relationships} relationships")


def _run(name: str, arguments: Sequence[str]) -> int:
    """Run a subcommand; the exit status."""
    try:
        with _group.make_context("memgraph_ha", [name, *arguments]) as context:
            _group.invoke(context)
    except click.exceptions.Exit as end:
        return int(end.exit_code)
    except click.Abort:
        click.echo("stopped", err=True)
        return NOT_DONE_STATUS
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BackupRefused as error:
        Failed(f"{error}. Nothing was done.").show()
        return NOT_DONE_STATUS
    return 0


backup = partial(_run, "backup")
restore = partial(_run, "restore")


@contextmanager
def _session(address: str, **options: Any) -> Iterator[neo4j.Session]:
    """A session with one server; what the server refuses is raised as ``Failed``."""
    with neo4j.GraphDatabase.driver(
        f"bolt://{address}",
        connection_timeout=CONNECT_SECONDS_MAX,
        connection_acquisition_timeout=CONNECT_SECONDS_MAX,
        telemetry_disabled=True,
    ) as driver:
        try:
            driver.verify_connectivity()
            with driver.session(fetch_size=FETCH_ROWS, **options) as session:
                yield session
        except Neo4jError as error:
            if error.code == codes.COMMIT_OUTCOME_UNKNOWN:
                raise Unknown(f"{error.message}") from None
            raise Failed(f"{error.message}") from None
        except DriverError as error:
            raise Failed(
                f"no answer from {address} ({error}). Give the Bolt address of a server that runs "
                "with --address host:port. Nothing was done."
            ) from None


@contextmanager
def _bar() -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, size: progress.update(task, completed=done, total=size or None)


def _described(head: BackupHead) -> str:
    return (
        f"{head.nodes} nodes and {head.relationships} relationships of cluster {head.cluster_id}, "
        f"as of log index {head.index}, made {head.created}, digest {head.digest}"
    )
