"""Pickles: arrays and data frames come out as they went in, and nothing else runs, whatever the stream says."""

from __future__ import annotations

import builtins
import gzip
import os
import pickle
import subprocess
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forked
import numpy as np
import pandas as pd
import pytest
import python2_pickles as python2
from hypothesis import given
from hypothesis import strategies as st
from python2_pickles import Call, Name

from flowbench.data import load
from flowbench.data.sources import pickles
from flowbench.errors import DataError

ORIGIN = Path("some.pickle")
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
ARRAYS = [
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    np.arange(4, dtype=">u2"),
    np.array([[True, False]]),
    np.frombuffer(bytes(range(256)), np.uint8),
    np.zeros((0, 3), np.int64),
    np.array(7),
]


@pytest.mark.parametrize("dump", [lambda a, p=p: pickle.dumps(a, p) for p in PROTOCOLS] + [lambda a: py2(a)])
@pytest.mark.parametrize("values", ARRAYS, ids=lambda a: f"{a.dtype.str}{a.shape}")
def test_arrays_come_out_as_they_went_in(values: np.ndarray, dump: Callable[[np.ndarray], bytes]) -> None:
    found = pickles.array(pickles.load(dump(values), ORIGIN))
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values, strict=True)


def py2(values: np.ndarray) -> bytes:
    return python2.dump(python2.array(values))


def test_python_2_streams_are_what_python_reads_too() -> None:
    values = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(pickle.loads(py2(values), encoding="latin1"), values)


def test_python_2_in_protocol_0() -> None:
    """Numbers and strings as text: how long it takes a pickle to say [[1], [2]]."""
    content = (
        b"cnumpy.core.multiarray\n_reconstruct\np1\n(cnumpy\nndarray\np2\n(I0\ntS'b'\ntR(I1\n(I2\nL1L\nt"
        b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
        b"I00\nS'\\x00\\x00\\x80?\\x00\\x00\\x00@'\ntb."
    )
    expected = np.array([[1], [2]], np.float32)
    np.testing.assert_array_equal(pickles.array(pickles.load(content, ORIGIN)), expected, strict=True)


def test_containers_stay_what_they_are() -> None:
    content = {"data": np.arange(3), "labels": [3, 1], "pair": ("text", None, True, 1.5, b"\xff")}
    for protocol in PROTOCOLS[3:]:
        loaded = pickles.load(pickle.dumps(content, protocol), ORIGIN)
        assert isinstance(loaded, dict)
        assert loaded["labels"] == [3, 1]
        assert loaded["pair"] == content["pair"]
        np.testing.assert_array_equal(pickles.array(loaded["data"]), [0, 1, 2])


@pytest.mark.parametrize("module", ["pandas.indexes.base", "pandas.core.indexes.base", "pandas.core.index"])
def test_a_data_frame_of_2017(module: str) -> None:
    floats, whole = np.arange(12.0).reshape(3, 4), np.arange(100, 104).reshape(1, 4)
    content = python2.frame(
        ["Time", "Meth", "R1", "R2"], [(floats, python2.places(0, 6, 2)), (whole, np.array([3]))], module
    )
    content.state["_data"].state[3]["0.14.1"]["blocks"][0]["mgr_locs"] = python2.array(np.array([0, 1, 2]))
    found = pickles.frame(pickles.load(python2.dump(content), ORIGIN))
    assert list(found) == ["Time", "Meth", "R1", "R2"]
    np.testing.assert_array_equal(np.array(list(found.values())), np.vstack([floats, whole]))


def test_blocks_go_to_their_places() -> None:
    even, odd = np.arange(6.0).reshape(2, 3), np.asfortranarray(10 + np.arange(6.0).reshape(2, 3))
    content = python2.frame(list("abcd"), [(even, python2.places(0, 4, 2)), (odd, np.array([3, 1]))])
    found = pickles.frame(pickles.load(python2.dump(content), ORIGIN))
    np.testing.assert_array_equal(np.array([found[name] for name in "acdb"]), np.vstack([even, odd]))


@pytest.mark.parametrize("columns", [["a", "b"], pd.Index(["a", "b"], dtype=object)])
def test_a_data_frame_of_today_is_refused_by_name(columns: Any) -> None:
    content = pickle.dumps(pd.DataFrame(np.ones((3, 2)), columns=columns))
    with pytest.raises(DataError, match=r"its pickle names pandas\.[\w.]+"):
        pickles.load(content, ORIGIN)


class Payload:
    """When unpickled, calls ``function(*arguments)``."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.reduced = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.reduced


def payloads(target: Path) -> dict[str, object]:
    """Things that create ``target`` when they are unpickled."""
    command = f"open({str(target)!r}, 'w').close()"
    system = Payload(os.system, f"touch {target}")
    smuggled = np.empty(2, object)
    smuggled[:] = ["innocent", system]
    attribute = Payload(getattr, Payload(__import__, "pathlib"), "Path")
    touch = Payload(getattr, Payload(CALL, attribute, str(target)), "touch")
    return {
        "os.system": system,
        "eval": Payload(eval, command),
        "exec": Payload(exec, command),
        "subprocess": Payload(subprocess.check_call, ["touch", str(target)]),
        "open": Payload(builtins.open, str(target), "w"),
        "getattr": Payload(CALL, touch),
        "numpy": Payload(np.savetxt, str(target), [1.0]),
        "in a tuple": (1, [{"data": (system,)}]),
        "as a key": {("data", system): 1},
        "in an object array": smuggled,
        "a lambda": Payload(CALL, Payload(eval, f"lambda: {command}")),
    }


def CALL(function: Callable[..., object], *arguments: object) -> object:  # noqa: N802
    return function(*arguments)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of the file that one payload opens
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("how", payloads(Path("x")))
def test_a_payload_is_refused_and_does_not_run(how: str, protocol: int, tmp_path: Path) -> None:
    target = tmp_path / "created"
    content = pickle.dumps(payloads(target)[how], protocol)
    pickle.loads(content)
    assert target.exists(), "it would run, were it trusted"
    target.unlink()
    with pytest.raises(DataError, match="refused") as caught:
        pickles.load(content, ORIGIN)
    assert "nothing of it was run" in str(caught.value.hint)
    assert not target.exists()


SYSTEM = Call(Name("posix", "system"), (b"touch created",))
RECONSTRUCT = Name("numpy.core.multiarray", "_reconstruct")


@pytest.mark.parametrize(
    "content",
    [
        python2.dump(Call(RECONSTRUCT, (SYSTEM, (0,), b"b"))),
        python2.dump(Call(Name("numpy", "dtype"), (b"f8", 0, 1), SYSTEM)),
        python2.dump(Call(Name("pandas.core.frame", "DataFrame"), (), {"_data": SYSTEM}, new=True)),
        python2.dump(Call(Name("numpy.core.multiarray", "scalar"), (b"O", b"x"))),
        python2.dump(Call(Name("copy_reg", "_reconstructor"), (Name("numpy", "ndarray"), None, None))),
        python2.dump(Call(Name("pandas.core.frame", "DataFrame.to_csv"), (b"created",))),
        b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",  # a dotted name
        b"\x80\x04\x8c\x05numpy\x8c\x0fdtype.__class__\x93.",
        b"(S'touch created'\niposix\nsystem\n.",  # INST
        b"(cnumpy\nndarray\nS'x'\no.",  # OBJ
        b"\x80\x02\x82\x01.",  # EXT1
        b"Pwhatever\n.",  # PERSID
        b"\x80\x05\x97.",  # NEXT_BUFFER
        b"\x80\x04cnumpy\nndarray\n)}\x92.",  # NEWOBJ_EX
    ],
)
def test_other_ways_in_are_refused(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="refused"):
        pickles.load(content, ORIGIN)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        b"cnumpy\nndarray\n(dS'__new__'\nNsb.",  # state set on a class
        b"cnumpy\nndarray\n(tR(tR.",  # what was made is called
        b"S'text'\n(dS'upper'\nNsb.",
        b"garbage",
        b"",
        b"\x80\x02.",
        b"\x80\x09N.",
    ],
)
def test_a_wrong_program_is_damaged(content: bytes) -> None:
    with pytest.raises(DataError, match=r"cannot read some\.pickle"):
        pickles.load(content, ORIGIN)


def test_states_do_not_become_attributes() -> None:
    state = {b"args": (b"posix",), b"__class__": None, b"state": 1}
    loaded: Any = pickles.load(python2.dump(Call(RECONSTRUCT, (1,), state)), ORIGIN)
    assert loaded.args == (1,)
    assert loaded.state["args"] == ("posix",)
    with pytest.raises(ValueError, match="no array"):
        pickles.array(loaded)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f.",  # 2^63 bytes
        b"\x80\x05\x96" + b"\xff" * 7 + b"\x7f.",
        b"\x80\x05\x96" + b"\xff" * 3 + bytes(5) + b".",  # 16 MiB
        b"\x80\x04\x95" + b"\xff" * 7 + b"\x7fN.",
        b"\x80\x02)" + b"\x85" * 1_000_000 + b"}h\x00.",
    ],
)
def test_what_a_stream_claims_is_refused_and_costs_nothing(content: bytes) -> None:
    def load() -> None:
        with pytest.raises(DataError):
            pickles.load(content, ORIGIN)

    assert peak_bytes(load) < 2 * len(content) + 1_000_000


def peak_bytes(function: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_memo_with_a_large_number_costs_nothing() -> None:
    """The memo of Python's unpickler in C would be an array of 2^31 objects, 16 GiB."""
    assert peak_bytes(lambda: pickles.load(b"\x80\x02Nr\xff\xff\xff\x7f.", ORIGIN)) < 100_000


def test_a_key_of_tuples_in_tuples_does_not_exhaust_the_stack() -> None:
    with pytest.raises(DataError, match="more than 10,000 tuples"):
        pickles.load(b"\x80\x02})" + b"\x85" * 1_000_000 + b"Ns.", ORIGIN)


def reshaped(shape: object, data: object = bytes(16), dtype: bytes = b"f8", order: bytes = b"<") -> object:
    kind = Call(Name("numpy", "dtype"), (dtype, 0, 1), (3, order, None, None, None, -1, -1, 0))
    return Call(RECONSTRUCT, (Name("numpy", "ndarray"), (0,), b"b"), (1, shape, kind, False, data))


@pytest.mark.parametrize(
    "content",
    [
        reshaped((1_000_000_000,)),
        reshaped((1_000_000_000, 1_000_000_000, 1_000_000_000)),
        reshaped((-2,)),
        reshaped((-1, -2)),
        reshaped(None),
        reshaped((b"2",)),
        reshaped((2,), dtype=b"O8"),
        reshaped((2,), [1.0, 2.0]),
        reshaped((2,), dtype=b"f9"),
        reshaped((2,), dtype=b"V8"),
        reshaped((2,), dtype=b"M8[ns]"),
        reshaped((2,), order=b"?"),
        reshaped((2,), "\u0394" * 16),
        reshaped((16,), Call(Name("__builtin__", "bytes"), (2_000_000_000,)), dtype=b"u1"),
        python2.array(np.array(["a"], object)),
        [1.0, 2.0],
        None,
    ],
)
def test_what_is_no_array_is_none(content: object) -> None:
    loaded = pickles.load(python2.dump(content), ORIGIN)
    with pytest.raises(ValueError):  # noqa: PT011
        pickles.array(loaded)


def test_structured_types_are_none() -> None:
    content = pickle.dumps(np.zeros(2, [("a", "f8"), ("b", "i4")]), 2)
    with pytest.raises(ValueError, match="something else than numbers"):
        pickles.array(pickles.load(content, ORIGIN))


@pytest.mark.parametrize(
    ("names", "blocks"),
    [
        (["a"], [(np.ones((2, 3)), python2.places(0, 2))]),
        (["a", "b"], [(np.ones((2, 3)), python2.places(0, 1))]),
        (["a", "b"], [(np.ones((1, 3)), python2.places(0, 1))]),
        (["a"], [(np.ones((1, 3, 2)), python2.places(0, 1))]),
        (["a", "a"], [(np.ones((2, 3)), python2.places(0, 2))]),
        (["a", "b"], [(np.ones((2, 3)), np.array([0, 2]))]),
        (["a", "b"], [(np.ones((1, 3)), np.array([0])), (np.ones((1, 4)), np.array([1]))]),
        (["a"], [(np.array([["text"]], object), python2.places(0, 1))]),
        ([7], [(np.ones((1, 3)), python2.places(0, 1))]),
    ],
)
def test_a_frame_that_does_not_fit_together_is_none(names: list[Any], blocks: list[Any]) -> None:
    loaded = pickles.load(python2.dump(python2.frame(names, blocks)), ORIGIN)
    with pytest.raises(ValueError):  # noqa: PT011
        pickles.frame(loaded)


FRAME = python2.dump(python2.frame(["a", "b"], [(np.ones((2, 3)), python2.places(0, 2))]))
STREAMS = [FRAME, *(pickle.dumps({"data": ARRAYS[0], "labels": [1, 2]}, protocol) for protocol in PROTOCOLS)]


@given(st.sampled_from(STREAMS), st.data())
def test_a_damaged_stream_is_a_data_error_or_numbers(stream: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(stream) - 1))
    damaged = bytearray(stream[: data.draw(st.one_of(st.just(len(stream)), st.integers(at + 1, len(stream))))])
    damaged[at] = data.draw(st.integers(0, 255))
    try:
        loaded = pickles.load(bytes(damaged), ORIGIN)
        pickles.frame(loaded)
    except (DataError, ValueError):
        return


def infected(name: str, target: Path, folder: Path) -> None:
    content = pickle.dumps({"data": [Payload(os.system, f"touch {target}")]}, 2)
    files = {
        "gas": ["ethylene_CO.pickle"],
        "mnist": ["mnist.pkl.gz"],
        "cifar10": ["test_batch", *(f"data_batch_{i}" for i in range(1, 6))],
    }
    folder.mkdir(parents=True)
    for file in files[name]:
        (folder / file).write_bytes(gzip.compress(content) if file.endswith(".gz") else content)


@pytest.mark.parametrize("name", ["gas", "mnist", "cifar10"])
def test_an_infected_dataset_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWBENCH_DATA_DIR", str(tmp_path / "data"))
    infected(name, tmp_path / "created", tmp_path / "data" / name)
    with pytest.raises(DataError, match=r"names \w+\.system"):
        load(name)
    assert not (tmp_path / "created").exists()


def test_the_command_line_exits_4_and_nothing_runs(tmp_path: Path) -> None:
    infected("gas", tmp_path / "created", tmp_path / "data" / "gas")
    command = "train", "gaussian", "--data", "gas", "--out", tmp_path / "out"
    done = forked.flowbench(*command, FLOWBENCH_DATA_DIR=str(tmp_path / "data"))
    assert done.returncode == 4, done.stderr
    assert "ethylene_CO.pickle: its pickle names posix.system" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "created").exists()
    assert not list((tmp_path / "out").glob("*"))
