"""How often the speed gate is wrong, measured: false alarms, and planted slow-downs that it finds.

    python results/ci/calibrate_speed.py [--number 40] [--busy 0.5] [--case 0] [--keep FOLDER]

compares a copy of this flowbench with another copy so many times, a part of them (``--busy``) beside a process that
multiplies matrices without pause; then with copies in which each work waits, busily, for a part of the time that it
took, 20% at the default margin and 10% at ``--max-slowdown 1.03``. It prints how often each verdict was given, as a
Markdown table. A comparison takes two to four minutes: five hours for all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from environments import Edits, environment

TIMED = ("maf", "--dim", "43", "--hidden", "64,64", "--batch", "200")
VERDICTS = ("worse", "undecided", "same", "better", "failed")
BUSY = "import numpy as np\na = np.random.default_rng(0).normal(size=(1000, 1000))\nwhile True: a @ a"


def slowed(share: float) -> Edits:
    """Works that take so much longer: each waits after it was done, for a share of the time that it took."""
    waiting = f"""
    def waiting(work: Work) -> Work:
        import time

        def run() -> object:
            began = time.perf_counter()
            result = work()
            until = began + (time.perf_counter() - began) * {1 + share}
            while time.perf_counter() < until:
                pass
            return result

        return run

    return {{name: waiting(work) for name, work in found.items()}}
"""
    return {
        "flowbench/timing/works.py": {
            '        found["step"] = step\n    return found\n': f'        found["step"] = step\n{waiting}'
        }
    }


@contextmanager
def beside_a_busy_process(wanted: bool) -> Iterator[None]:
    """Another process that takes all it can get, if one is wanted."""
    process = subprocess.Popen([sys.executable, "-c", BUSY]) if wanted else None
    try:
        yield
    finally:
        if process is not None:
            process.kill()
            process.wait()


def compared(head: Path, base: Path, folder: Path, *arguments: str) -> list[dict[str, str]]:
    """The findings on times of one comparison."""
    command = [
        str(head),
        "-P",
        "-m",
        "flowbench",
        "time",
        *TIMED,
        "--against",
        str(base),
        "--json",
        "--out",
        str(folder),
    ]
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, check=False)
    if not done.stdout:
        raise SystemExit(f"exit code {done.returncode}: {done.stderr}")
    return [
        line for line in json.loads(done.stdout)["findings"] if "baseline_us" in line or line["verdict"] == "failed"
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the environments, compare them, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--number", type=int, default=40)
    parser.add_argument("--busy", type=float, default=0.5, help="the share of comparisons beside a busy process")
    parser.add_argument("--case", type=int, choices=range(3), help="only one of the three: 0, 1 or 2")
    parser.add_argument("--keep", type=Path, help="the folder of environments and records; else a temporary one")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = (given.keep or Path(name)).absolute()
        base = environment(folder / "base")
        cases: list[tuple[str, Edits, tuple[str, ...]]] = [
            ("nothing", {}, ()),
            ("20% slower", slowed(0.2), ()),
            ("10% slower, `--max-slowdown 1.03`", slowed(0.1), ("--max-slowdown", "1.03")),
        ]
        print(f"| planted | beside a busy process | comparisons | that say `worse` | lines: {' / '.join(VERDICTS)} |")
        print("| --- | --- | --- | --- | --- |", flush=True)
        for number, (what, edits, margin) in enumerate(cases):
            if given.case not in (None, number):
                continue
            head = environment(folder / f"head{number}", edits)
            for busy in (False, True):
                times = round(given.number * (given.busy if busy else 1 - given.busy))
                alarms, verdicts = 0, Counter[str]()
                for repeat in range(times):
                    with beside_a_busy_process(busy):
                        found = [line["verdict"] for line in compared(head, base, folder / "records", *margin)]
                    alarms += "worse" in found
                    verdicts.update(found)
                    print(f"{what}, {'busy' if busy else 'quiet'} {repeat + 1}: {found}", file=sys.stderr, flush=True)
                counts = " / ".join(str(verdicts[verdict]) for verdict in VERDICTS)
                print(f"| {what} | {'yes' if busy else 'no'} | {times} | {alarms} | {counts} |", flush=True)


if __name__ == "__main__":
    main()
