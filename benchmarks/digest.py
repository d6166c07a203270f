"""What comparing digests costs: a full one, a quick one after writes, and one entry's share.

Run from the repository: ``python benchmarks/digest.py``. No cluster, one thread. The graph has
100,000 nodes with four properties and 500,000 relationships with one. Between two digests a
thousand entries are applied, each of them a transaction that sets two properties of a node drawn at
random and creates one node, so nearly every chunk changes: the dearest case for chunks. A digest is
taken in a reader thread, from a root that costs nothing to keep, so this is throughput and not
latency.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from graph.digest import digest, quick_digest
from graph.store import Root
from graph.vector import Vector
from graph.write_set import WriteSet

NODES = 100_000
RELATIONSHIPS = 500_000
ENTRIES = 1_000
ROUNDS = 5


def graph() -> Root:
    random = np.random.default_rng(7)
    root = Root.empty()
    write_set = WriteSet()
    properties = {
        "id": Vector.from_values(list(range(NODES))),
        "age": Vector.from_values(random.integers(0, 100, NODES).tolist()),
        "name": Vector.from_values([f"user {number}" for number in range(NODES)]),
        "score": Vector.from_values(random.random(NODES).tolist()),
    }
    write_set.create_nodes(np.arange(NODES), ("User",), properties)
    ends = random.integers(0, NODES, (2, RELATIONSHIPS))
    since = {"since": Vector.from_values(random.integers(2000, 2030, RELATIONSHIPS).tolist())}
    write_set.create_relationships(np.arange(RELATIONSHIPS), "KNOWS", ends[0], ends[1], since)
    root.apply(write_set)
    return root


def seconds(root: Root, entries: int, turn: int, keys: tuple[str, str]) -> tuple[float, float]:
    """Time of ``entries`` applied, and of the quick digest after them."""
    random = np.random.default_rng(turn)
    started = time.process_time()
    for number in random.integers(0, NODES, entries).tolist():
        write_set = WriteSet()
        write_set.create_nodes([root.next_node_id], ("User",), {"id": Vector.from_values([number])})
        write_set.set_node_property([number], keys[0], Vector.from_values([number]))
        write_set.set_node_property([number], keys[1], Vector.from_values([f"name {number}"]))
        root.apply(write_set)
    applied = time.process_time()
    quick_digest(root.fork(), turn)
    return applied - started, time.process_time() - applied


def main() -> None:
    root = graph()
    full = []
    for _ in range(3):
        started = time.process_time()
        digest(root)
        full.append(time.process_time() - started)
    samples = [seconds(root, ENTRIES, turn, ("age", "name")) for turn in range(ROUNDS)]
    apply_s = statistics.median(s[0] for s in samples)
    quick_s = statistics.median(s[1] for s in samples)
    started = time.process_time()
    quick_digest(root, ROUNDS)
    idle_s = time.process_time() - started
    print(f"full digest                              {statistics.median(full) * 1e3:8.2f} ms")
    print(f"quick digest after {ENTRIES} entries          {quick_s * 1e3:8.2f} ms")
    print(f"quick digest of an unchanged graph       {idle_s * 1e3:8.2f} ms")
    print(f"share of one entry                       {quick_s / ENTRIES * 1e6:8.2f} us")
    print(f"applying one entry, for comparison       {apply_s / ENTRIES * 1e6:8.2f} us")


if __name__ == "__main__":
    main()
