"""``memgraph_ha recover``: the operator's way out when the majority of a cluster is lost for good.

It works on one directory, offline: it shows what is there, says what may be lost, and does nothing
before the cluster's id has been typed. Exit status: 0 done; 1 not done; 2 called wrongly.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from actors.addresses import Place
from actors.errors import DirectoryRefused, DiskFailure
from actors.recovery import Findings, Recovery
from graph.errors import CorruptionError

__all__ = ["recover"]

NOT_DONE_STATUS = 1

DANGERS = """\
Do this only if a majority of these servers is lost for good, and with none of them running.

  * Writes that were acknowledged and never reached this server are lost. Of all surviving
    directories take the one with the highest last term and, among equals, the highest last index.
  * Writes at the end of this log that were never acknowledged become part of the data.
  * The other servers are shut out for ever: this one gets a new cluster id and forgets them. What
    they hold cannot be merged again. Delete their directories, and add new servers under new ids.
  * Bookmarks of clients from before may be ahead of the new log: restart the clients.
"""


@click.command(name="recover", context_settings={"help_option_names": ["--help"]})
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--yes-lose-data",
    "confirmed",
    metavar="CLUSTER_ID",
    help="Do not ask; the id is the cluster's, as this command shows it.",
)
def _command(directory: Path, confirmed: str | None) -> None:
    """Make a cluster of one server out of DIRECTORY, a stopped server's data directory.

    For a cluster whose majority is lost for good, and for nothing else.
    """
    try:
        recovery = Recovery(directory, _server_id(directory))
    except DirectoryRefused as error:
        raise click.ClickException(str(error)) from error
    try:
        found = recovery.look()
        click.echo(_described(directory, found))
        if not found.interrupted:
            click.echo("\n" + DANGERS)
            _ask(found.cluster_id or "none", confirmed)
        cluster_id = recovery.run(datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ"))
    except (DirectoryRefused, CorruptionError, DiskFailure) as error:
        raise click.ClickException(str(error)) from error
    finally:
        recovery.close()
    click.echo(_done(found.server_id, cluster_id))


def _server_id(directory: Path) -> int:
    """Whose directory it is, by its own word. Everything else about it is checked elsewhere."""
    file = directory / "identity.json"
    try:
        return int(json.loads(file.read_text("utf-8"))["server_id"])
    except FileNotFoundError:
        raise click.ClickException(
            f"{directory} is not a data directory of rayft: it has no identity.json. Name the "
            "directory of one server, such as memgraph/data/server-1."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise click.ClickException(f"{file} cannot be read: {error}") from error


def _described(directory: Path, found: Findings) -> str:
    lines = [
        f"directory     {directory}",
        f"server        {found.server_id}",
        f"cluster       {found.cluster_id or 'none: it has never applied an entry'}",
    ]
    if found.interrupted:
        lines.append("A recovery of this directory was interrupted. It is finished now.")
        return "\n".join(lines)
    snapshot = f"up to index {found.snapshot.index}" if found.snapshot.index else "none"
    lines += [
        f"term          {found.term}, voted for {found.vote or 'nobody'}",
        f"snapshot      {snapshot}",
        f"log           {found.entries} entries, the last one {found.last_index} of term "
        f"{found.last_term}",
    ]
    if found.torn_bytes:
        lines.append(f"              and {found.torn_bytes} bytes of a write that did not complete")
    if found.membership is None:
        lines.append("members       as in the coordination file")
        return "\n".join(lines)
    for member in found.membership.members:
        place = Place.of(member.address).address or "-"
        head = "members" if member is found.membership.members[0] else ""
        lines.append(f"{head:13} {member.server_id} {member.role.name.lower()} {place}")
    return "\n".join(lines)


def _ask(cluster_id: str, confirmed: str | None) -> None:
    answer = confirmed
    if answer is None:
        answer = click.prompt(f"Type the cluster's id ({cluster_id}) to go on", default="")
    if answer.strip() != cluster_id:
        raise click.ClickException(
            f"'{answer}' is not this cluster's id, {cluster_id}. Nothing was changed."
        )


def _done(server_id: int, cluster_id: str) -> str:
    return (
        f"Done. Server {server_id} is the only member of the new cluster {cluster_id}.\n"
        f"Start it with memgraph_ha --server_id {server_id} --join and a coordination file that "
        "has only\nits own entry. Then add servers, with new ids and empty directories: "
        "memgraph_ha add-server.\nThe old files are in before-recovery-*, in its directory."
    )


def recover(arguments: Sequence[str]) -> int:
    """Run the subcommand; the exit status."""
    try:
        with _command.make_context("memgraph_ha recover", list(arguments)) as context:
            _command.invoke(context)
    except click.exceptions.Exit as end:
        return int(end.exit_code)
    except click.exceptions.Abort:
        print("Nothing was changed.", file=sys.stderr)
        return NOT_DONE_STATUS
    except click.ClickException as error:
        error.show()
        return error.exit_code
    return 0
