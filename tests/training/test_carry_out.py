"""An order carried out a second time: found finished, gone on with, closed, refused, or begun anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flowbench import data, revision
from flowbench.errors import DataError, UsageError
from flowbench.progress import Progress
from flowbench.results import refuge, store
from flowbench.results.beside import content_digest
from flowbench.results.record import RunRecord
from flowbench.training import carry_out as module
from flowbench.training import course, environment, run, unfinished
from flowbench.training.carry_out import How, carry_out, name_of, order_of
from flowbench.training.order import Order
from flowbench.training.sealed import sealed, unsealed
from flowbench.training.step import Descent

SETTINGS = {"hidden": [8], "transforms": 1, "max_epochs": 3, "batch_size": 20, "warmup_steps": 2}

STEPS = 4
"""Of an epoch: the table has a hundred rows, of which eighty are trained on."""


@pytest.fixture(autouse=True)
def _quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No times are measured, and nothing outside the test's folder is written to."""
    monkeypatch.setattr(run, "time_flow", lambda flow, rows: [])
    for user in (course, unfinished, refuge):
        monkeypatch.setattr(user, "refuges", lambda folder: iter([tmp_path / "refuge"]))


@pytest.fixture
def order(tmp_path: Path) -> Order:
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32))
    return Order(flow="maf", data=str(tmp_path / "mine.npy"), device="cpu", settings=SETTINGS)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return tmp_path / "results"


class Breaking(Progress):
    """Shows nothing, and breaks off after so many steps of all."""

    def __init__(self, after: int) -> None:
        super().__init__(None)
        self._left = after

    def step(self, step: int, steps: int) -> None:
        self._left -= 1
        if not self._left:
            raise KeyboardInterrupt


def break_off(order: Order, folder: Path, after: int = 6, how: How | None = None) -> RunRecord:
    """The record that is left after so many steps; six are in the second epoch."""
    before = set(folder.glob("*.json"))
    with pytest.raises(KeyboardInterrupt):
        carry_out(order, folder, how or How(), lambda seconds: Breaking(after))
    new = set(folder.glob("*.json")) - before or {folder / f"{name_of(order)}.json"}
    (path,) = new
    return store.read(path)


def no_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    def step(*given: object) -> None:
        raise AssertionError("a step was taken")

    monkeypatch.setattr(Descent, "step", step)


def but_for_times(record: RunRecord) -> dict[str, Any]:
    found = record.model_dump(mode="json", exclude={"started_at", "total_seconds", "environment"})
    for name in ("train_seconds", "train_rows_per_second"):
        del found["training"][name]
    if found["training"]["history"]:
        del found["training"]["history"]["seconds"]
    return found


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_what_is_finished_is_found(
    order: Order, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = carry_out(order, results, How())
    assert record.status == "ok"
    assert record.run == name_of(order)
    before = contents(results)
    assert len(before) == 4
    no_steps(monkeypatch)
    assert carry_out(order, results, How()) == record
    assert "is already finished" in capsys.readouterr().err
    assert contents(results) == before


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("which", ["weights", "test_lls"])
@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda path: path.write_bytes(b""), flip], ids=["gone", "empty", "flipped"]
)
def test_what_lost_a_file_is_no_finished_run(
    damage: Callable[[Path], None], which: str, order: Order, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = carry_out(order, results, How())
    before = contents(results)
    name = getattr(record.files, which)
    damage(results / name)
    again = carry_out(order, results, How())
    assert f"is no finished run any more: {name} is not there, or is damaged" in capsys.readouterr().err
    assert again.started_at >= record.started_at
    assert but_for_times(again) == but_for_times(record)
    assert contents(results)[name] == before[name]


def test_a_run_without_its_sketch_is_finished_all_the_same(order: Order, results: Path) -> None:
    record = carry_out(order, results, How())
    (results / str(record.files.sketch)).unlink()
    assert carry_out(order, results, How()) == record
    assert store.read_sketch(record, results) is None


def test_no_rows_are_kept_where_that_is_not_wanted(order: Order, results: Path) -> None:
    with_rows = carry_out(order, results, How())
    found = store.read_sketch(with_rows, results)
    assert found is not None
    assert (found.n_rows, len(found.rows), found.n_samples) == (10, 10, 2000)
    record = carry_out(order.model_copy(update={"sketch": False}), results, How(force=True))
    assert record.files.sketch is None
    assert record.run == with_rows.run
    assert record.setup == with_rows.setup
    assert not list(results.glob("*.sketch"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("odd"), "no sketch is kept for pictures: ValueError: odd"),
        (MemoryError(), "no sketch is kept for pictures: there is not enough memory"),
    ],
)
def test_a_sketch_that_fails_is_a_warning(
    error: Exception, said: str, order: Order, results: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def failing(*given: object) -> None:
        raise error

    monkeypatch.setattr(run, "sketch", failing)
    record = carry_out(order, results, How())
    assert record.status == "ok"
    assert record.files.sketch is None
    assert said in capsys.readouterr().err


def test_a_sketch_that_is_interrupted_ends_the_run(
    order: Order, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "sketch", interrupted)
        assert break_off(order, results, 1000).status == "interrupted"
    assert carry_out(order, results, How()).files.sketch is not None


@pytest.mark.parametrize("how", [How(), How(force=True), How(restart=True)])
def test_a_newer_flowbench_s_record_is_left_alone(
    how: How, order: Order, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results.mkdir()
    path = results / f"{name_of(order)}.json"
    path.write_text(json.dumps({"schema_version": store.SCHEMA_VERSION + 1, "kind": "run"}))
    before = path.read_bytes()
    no_steps(monkeypatch)
    with pytest.raises(store.UnreadableRecordError, match="schema version"):
        carry_out(order, results, how)
    assert path.read_bytes() == before
    assert list(results.iterdir()) == [path]


@pytest.mark.parametrize("after", [6, 8])
def test_a_run_gone_on_with_has_the_record_of_one_never_broken_off(
    after: int, order: Order, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = carry_out(order, tmp_path / "whole", How())
    left = break_off(order, results, after)
    assert (left.status, left.run) == ("interrupted", whole.run)
    assert left.training.epochs == 1
    assert (results / str(left.files.weights)).is_file()
    assert left.likelihoods.test_ll_nats is None
    told = capsys.readouterr().err
    assert f"to go on: flowbench train --resume {whole.run} --out {results}" in told
    found = carry_out(order, results, How())
    assert f"going on with {whole.run} after 1 epoch" in capsys.readouterr().err
    assert but_for_times(found) == but_for_times(whole)
    assert found.started_at == left.started_at
    assert (found.total_seconds or 0) > (left.total_seconds or 0)
    files = contents(results)
    assert {name: files[name] for name in files if not name.endswith(".json")} == {
        name: content for name, content in contents(tmp_path / "whole").items() if not name.endswith(".json")
    }
    assert not (results / "unfinished").exists()


def test_two_breaks_and_one_before_a_step_lose_nothing(
    order: Order, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = carry_out(order, tmp_path / "whole", How())
    left = break_off(order, results)

    def interrupted(*given: object) -> None:
        raise KeyboardInterrupt

    # while it is being read again, or before the first step
    for where in ("gaussian", "flows", "Fit"):
        with monkeypatch.context() as patch:
            if where == "gaussian":
                patch.setattr(run.recording, "gaussian", interrupted)
            elif where == "flows":
                patch.setattr(course, "on_device", interrupted)
            else:
                patch.setattr("flowbench.training.loop.Rehearsal", interrupted)
            again = break_off(order, results)
        assert again.status == "interrupted"
        assert again.files == left.files, where  # the best epoch's weights still
        assert again.training.epochs == 1
    assert but_for_times(carry_out(order, results, How())) == but_for_times(whole)


def test_other_threads_are_told_of_and_taken_where_that_is_wanted(
    order: Order, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_off(order, results)
    first = name_of(order)
    before = contents(results)
    other = order.model_copy(update={"threads": 2})
    try:
        for _ in range(2):
            with pytest.raises(UsageError, match="threads 1 before, 2 now") as refused:
                carry_out(other, results, How())
        assert "--force" in str(refused.value.hint)
        assert "--restart" in str(refused.value.hint)
        assert contents(results) == before  # a question changes nothing
        resumed = order_of(first, results)
        assert resumed.threads == 1
        found = carry_out(other, results, How(force=True))
        assert found.run == name_of(other) != first
    finally:
        torch.set_num_threads(1)
    assert found.status == "ok"
    assert found.training.changed == ("threads 1 before, 2 now, from epoch 2 on",)
    assert found.training.epochs == 3
    assert not (results / "unfinished").exists()


def test_a_refused_order_is_still_gone_on_with_where_it_began(
    order: Order, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = carry_out(order, tmp_path / "whole", How())
    break_off(order, results)
    with pytest.raises(UsageError):
        carry_out(order.model_copy(update={"threads": 2}), results, How())
    torch.set_num_threads(1)
    capsys.readouterr()
    found = carry_out(order, results, How())
    assert "going on with" in capsys.readouterr().err
    assert but_for_times(found) == but_for_times(whole)


def test_begun_anew_is_begun_anew(order: Order, results: Path, tmp_path: Path) -> None:
    whole = carry_out(order, tmp_path / "whole", How())
    left = break_off(order, results)
    found = carry_out(order, results, How(restart=True))
    assert but_for_times(found) == but_for_times(whole)
    assert found.training.changed == ()
    assert found.total_seconds is not None
    assert left.training.history != found.training.history
    assert not (results / "unfinished").exists()


def test_restart_takes_every_step(order: Order, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    break_off(order, results)
    taken: list[int] = []

    class Counting(Progress):
        def step(self, step: int, steps: int) -> None:
            taken.append(step)

    carry_out(order, results, How(restart=True), Counting)
    assert len(taken) == 3 * STEPS


def another_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    for user in (course, environment):
        monkeypatch.setattr(user, "code_digest", lambda: "another")


def test_another_revision_is_told_of_too(order: Order, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = name_of(order)
    break_off(order, results)
    another_revision(monkeypatch)
    assert name_of(order) != first
    with pytest.raises(UsageError, match="after 1 epoch, where something was different: another revision of flowbench"):
        carry_out(order, results, How())
    found = carry_out(order, results, How(force=True))
    assert found.training.changed == ("another revision of flowbench, from epoch 2 on",)
    assert found.run != first
    assert not (results / "unfinished").exists()


def test_a_change_before_an_earlier_break_is_not_forgotten(
    order: Order, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_off(order, results)
    another_revision(monkeypatch)
    break_off(order, results, 4, How(force=True))
    found = carry_out(order, results, How())
    assert found.training.changed == ("another revision of flowbench, from epoch 2 on",)


@pytest.mark.parametrize("how", [How(), How(force=True)])
def test_other_rows_are_never_gone_on_with(
    how: How, order: Order, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_off(order, results)
    with monkeypatch.context() as patch:
        patch.setattr(data.Dataset, "rows_sha256", {"train": "other"})
        with pytest.raises(DataError, match="was broken off on other rows") as refused:
            carry_out(order, results, how)
    assert "--restart" in str(refused.value.hint)
    assert carry_out(order, results, How()).status == "ok"


@pytest.mark.parametrize(("after", "rows"), [(6, 4 * STEPS * 5), (3, None)])
def test_to_finish_takes_the_best_epoch_and_no_step(
    after: int, rows: int | None, order: Order, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = break_off(order, results, after)
    assert (left.files.weights is None) == (after < STEPS)  # the weights it began with are no result
    assert left.training.epochs == after // STEPS
    no_steps(monkeypatch)
    found = carry_out(order, results, How(finish=True))
    assert (found.status, found.training.epochs, found.training.best_epoch) == ("ok", 1, 1)
    assert found.likelihoods.test_ll_nats is not None
    if after > STEPS:
        assert found.likelihoods.validation_ll_nats == left.likelihoods.validation_ll_nats
    assert not (results / "unfinished").exists()
    assert carry_out(order, results, How()) == found  # it is finished


def test_what_was_not_broken_off_cannot_be_finished(order: Order, results: Path) -> None:
    with pytest.raises(UsageError, match="was not broken off: there is nothing to finish"):
        carry_out(order, results, How(finish=True))
    assert not results.exists() or not list(results.iterdir())


def test_a_break_before_the_first_step_leaves_no_weights_and_says_what_goes_on(
    order: Order, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*given: object) -> None:
        raise KeyboardInterrupt

    for where in ("flowbench.training.course.on_device", "flowbench.training.loop.Rehearsal"):
        with monkeypatch.context() as patch:
            patch.setattr(where, interrupted)
            left = break_off(order, results)
        assert (left.status, left.files.weights, left.training.epochs) == ("interrupted", None, 0)
        assert "--resume" not in capsys.readouterr().err  # there is nothing that it would find
        assert not (results / "unfinished").exists()


def test_a_break_in_the_closing_leaves_all_but_the_closing(
    order: Order, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = carry_out(order, tmp_path / "whole", How())

    def interrupted(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run, "time_flow", interrupted)
        left = break_off(order, results, 1000)
    assert left.status == "interrupted"
    assert left.likelihoods == whole.likelihoods
    assert left.files.test_lls == whole.files.test_lls
    assert (results / str(left.files.weights)).is_file()
    assert not left.checks
    no_steps(monkeypatch)
    found = carry_out(order, results, How())
    assert but_for_times(found) == but_for_times(whole)
    assert set(contents(results)) == {f"{found.run}.json", *found.files.model_dump().values()}


def test_a_kill_in_the_closing_does_so_too(order: Order, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class KilledError(BaseException):
        pass

    def killed(*given: object) -> None:
        seen.append(store.read(results / f"{name_of(order)}.json"))
        raise KilledError

    seen: list[RunRecord] = []
    monkeypatch.setattr(run, "time_flow", killed)
    with pytest.raises(KilledError):
        carry_out(order, results, How())
    (record,) = seen
    assert (record.status, record.error) == ("interrupted", course.UNCLOSED)
    assert record.likelihoods.test_ll_nats is not None


def test_a_name_leads_back_from_another_folder(
    order: Order, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    relative = order.model_copy(update={"data": "./mine.npy"})
    name = break_off(relative, results).run
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for text in (name, f"{name}.json", str(results / f"{name}.json")):
        found = order_of(text, results)
        assert found == order.model_copy(update={"threads": 1})
    record = carry_out(order_of(name, results), results, How())
    assert (record.run, record.status, record.training.epochs) == (name, "ok", 3)
    with pytest.raises(UsageError) as refused:
        order_of(name, results)
    assert refused.value.hint == "none was broken off there"


def hostile(path: Path, tensors: dict[str, torch.Tensor | None], **numbers: object) -> None:
    """A checkpoint written anew, with a name that is right and a state that is not; None leaves a tensor out."""
    found = unsealed(bytearray(path.read_bytes()))
    state = {key: value for key, value in (found.tensors | tensors).items() if value is not None}
    numbers = json.loads(found.metadata["numbers"]) | numbers
    content = sealed(state, found.metadata | {"numbers": json.dumps(numbers)})
    path.unlink()
    path.with_name(f"{path.name[:6]}.{content_digest(content)}.safetensors").write_bytes(content)


UNFIT: dict[str, tuple[dict[str, torch.Tensor | None], dict[str, object]]] = {
    "another shape": ({"flow.transform.transforms.1.beta": torch.zeros(3)}, {}),
    "another type": ({"best.transform.transforms.1.beta": torch.zeros(2, dtype=torch.float64)}, {}),
    "something else": ({"flow.other": torch.zeros(3)}, {}),
    "nothing of the best": ({"best.transform.transforms.1.beta": None}, {}),
    "no moments": ({"optimizer.norms": None}, {}),
    "moments to be spread": ({"optimizer.norms": torch.zeros(1)}, {}),
    "no order": ({"random.order": None}, {}),
    "an order of words": ({"random.order": torch.zeros(3)}, {}),
    "another generator": ({"random.torch": torch.zeros(7, dtype=torch.uint8)}, {}),
    "steps beyond the epoch": ({}, {"steps_of_epoch": 10**9}),
    "fewer losses": ({"epoch.losses": None}, {}),
}


@pytest.mark.parametrize("what", UNFIT)
def test_a_state_that_does_not_fit_is_passed_over(
    what: str, order: Order, results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors, numbers = UNFIT[what]
    break_off(order, results, how=How(checkpoint_every=0.0))
    for path in sorted(results.glob("unfinished/*/*.safetensors")):
        hostile(path, tensors, **numbers)
    record = carry_out(order, results, How())
    assert record.status == "ok"
    told = capsys.readouterr().err
    assert "the checkpoint before it is taken" in told
    assert "the training begins anew" in told
    assert but_for_times(record) == but_for_times(carry_out(order, tmp_path / "whole", How()))


def test_an_order_that_cannot_be_read_is_refused(order: Order, results: Path) -> None:
    break_off(order, results)
    path = next(results.glob("unfinished/*/*.safetensors"))
    found = unsealed(bytearray(path.read_bytes()))
    about = json.loads(found.metadata["about"]) | {"order": {"flow": 5}}
    content = sealed(found.tensors, found.metadata | {"about": json.dumps(about)})
    path.with_name(f"000009.{content_digest(content)}.safetensors").write_bytes(content)
    with pytest.raises(DataError, match="its order cannot be read"):
        order_of(name_of(order), results)


def test_infinite_settings_lead_back_too(order: Order, results: Path) -> None:
    infinite = order.model_copy(update={"settings": SETTINGS | {"log_scale_bound": "none"}})
    name = break_off(infinite, results).run
    assert order_of(name, results).settings == infinite.settings


def test_a_finished_run_is_not_lost_to_one_that_is_broken_off(
    order: Order, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = carry_out(order, results, How())
    before = contents(results)
    left = break_off(order, results, how=How(force=True))
    assert left.run == f"{whole.run}-interrupted"
    assert {name: content for name, content in contents(results).items() if name in before} == before
    told = capsys.readouterr().err
    assert f"to go on: flowbench train --resume {whole.run} --out {results} --force" in told
    assert carry_out(order, results, How()) == whole
    assert (results / f"{left.run}.json").is_file()
    found = carry_out(order, results, How(force=True))
    assert f"going on with {whole.run} after 1 epoch" in capsys.readouterr().err
    assert but_for_times(found) == but_for_times(whole)
    assert found.started_at == left.started_at
    assert set(contents(results)) == {f"{found.run}.json", *found.files.model_dump().values()}


def test_a_signal_while_the_end_is_written_leaves_no_checkpoint(
    order: Order, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    from flowbench import interrupts

    write = store.write

    def signalled(record: RunRecord, *given: Any) -> Path:
        if record.status == "ok":
            signal.raise_signal(signal.SIGTERM)
        return write(record, *given)

    monkeypatch.setattr(store, "write", signalled)
    old = signal.signal(signal.SIGTERM, interrupts._stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            carry_out(order, results, How())
    finally:
        signal.signal(signal.SIGTERM, old)
        monkeypatch.setattr(interrupts, "_stopped_by", 0)
    assert store.finished(results, name_of(order)) is not None
    assert not (results / "unfinished").exists()


def test_a_folder_that_takes_no_results_leaves_a_run_that_only_needs_closing(
    order: Order, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = store.write

    def full(record: RunRecord, folder: Path, *given: Any) -> Path:
        if folder == results:
            raise UsageError("results cannot be written: no space left")
        return write(record, folder, *given)

    with monkeypatch.context() as patch:
        patch.setattr(store, "write", full)
        with pytest.raises(UsageError, match="took no results") as refused:
            carry_out(order, results, How())
    assert str(tmp_path / "refuge") in str(refused.value)
    assert store.finished(tmp_path / "refuge", name_of(order)) is not None
    no_steps(monkeypatch)
    assert carry_out(order, results, How()).status == "ok"


def test_a_diverged_run_leaves_no_checkpoint(order: Order, results: Path) -> None:
    wild = {"learning_rate": 1e9, "clip_norm": "none", "log_scale_bound": "none", "batch_norm": False}
    record = carry_out(order.model_copy(update={"settings": SETTINGS | wild | {"warmup_steps": 0}}), results, How())
    assert record.status == "diverged"
    assert not (results / "unfinished").exists()


def test_whoever_is_at_a_run_is_not_robbed_of_its_checkpoints(order: Order, results: Path) -> None:
    name = break_off(order, results).run
    other = order.model_copy(update={"threads": 2})
    try:
        with module.held(results, name):
            record = carry_out(other, results, How())
    finally:
        torch.set_num_threads(1)
    assert record.training.changed == ()  # from its beginning, on its own
    assert unfinished.Unfinished(results, name).newest() is not None


def test_the_digest_of_the_code_is_part_of_a_run_s_name() -> None:
    assert environment.environment("cpu", 1).code_digest == revision.code_digest()


@pytest.mark.parametrize("finish", [False, True])
def test_a_run_that_is_named_is_not_begun_anew_under_another_name(finish: bool, order: Order, results: Path) -> None:
    """As where its table was changed in between."""
    name = break_off(order, results).run.removesuffix("-interrupted")
    changed = order.model_copy(update={"seed": order.seed + 1})
    with pytest.raises(UsageError, match=f"{name} cannot be gone on with"):
        carry_out(changed, results, How(finish=finish, run=name))
    assert len(list(results.glob("*.json"))) == 1
