"""The simulator finds known bugs: those here in a few seeds, all by ``make mutations``."""

from __future__ import annotations

import pytest

from tests.simulation import mutations
from tests.simulation.mutations import MUTATIONS, Mutation, hunt, main
from tests.simulation.simulation import run_seed

QUICK = [mutation for mutation in MUTATIONS.values() if mutation.quick]
QUICK_SEEDS = 20


@pytest.mark.parametrize("mutation", QUICK, ids=lambda mutation: mutation.name)
def test_a_known_bug_is_found(mutation: Mutation) -> None:
    caught = hunt(mutation, QUICK_SEEDS)
    assert caught.seeds, f"no seed below {QUICK_SEEDS} finds that {mutation.what}"
    assert not caught.passed_over, f"the product itself fails seeds {caught.passed_over}"


def test_a_mutation_leaves_no_trace() -> None:
    before = run_seed(0).digest
    for mutation in MUTATIONS.values():
        with pytest.MonkeyPatch.context() as patch:
            mutation.patch(patch)
    assert run_seed(0).digest == before


def test_what_is_no_bug_is_not_found(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def harmless(patch: pytest.MonkeyPatch) -> None:
        pass

    known = {"harmless": Mutation(harmless, "nothing", "nowhere")}
    monkeypatch.setattr(mutations, "MUTATIONS", known)
    assert main(["--seeds", "1"]) == 1
    output = capsys.readouterr().out
    assert "| `harmless` | nothing | nowhere | more than 1 |  |" in output
    assert output.endswith("not caught: harmless\n")


def test_a_name_that_is_unknown_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["no_such_bug"])
    assert "no such mutation: no_such_bug" in capsys.readouterr().err
