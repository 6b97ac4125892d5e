"""What a field of a record may hold, checked here and nowhere else: who reads a record can reckon with all it has.

A file may say anything. What it says beyond these bounds makes it no record; a program's own figure beyond them is no
figure, None, as NaN is. Never imports torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, StringConstraints, ValidationInfo
from pydantic_core import CoreSchema, core_schema, to_jsonable_python

LARGEST = 1e50
"""No figure is larger: its fourth power is a float64 still, and with it all errors and chances made of figures.

A log-likelihood in float32 is at the most 3e38.
"""

LONGEST = 1000
"""Characters of a name at the most: names are the cells of tables."""

LONGEST_FILE_NAME = 255
"""As file systems have it."""

MOST_TIMINGS = 50
"""Batch sizes that are timed: each is two columns of a table."""


@dataclass(frozen=True)
class _Bounds:
    """A finite number from ``least`` to ``most`` or None; one that is read must be, and one that is not is None."""

    least: float
    most: float = LARGEST

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        """In a file's numbers by pydantic's own code: there are thousands in the history of a training."""
        read = core_schema.float_schema(ge=self.least, le=self.most, allow_inf_nan=False)
        made = core_schema.no_info_after_validator_function(self._or_none, core_schema.float_schema())
        return core_schema.json_or_python_schema(core_schema.nullable_schema(read), core_schema.nullable_schema(made))

    def _or_none(self, value: float) -> float | None:
        return value if self.least <= value <= self.most else None


def _finite_or_none(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None


Figure = Annotated[float | None, _Bounds(-LARGEST), PlainSerializer(_finite_or_none)]
"""A finite number, or None where there is none."""

Spread = Annotated[float | None, _Bounds(0.0), PlainSerializer(_finite_or_none)]
"""A figure that is not negative: a standard error, seconds."""

Positive = Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False)]
"""What was measured of time or arithmetic: more than nothing, so that one can be divided by another."""

Amount = Annotated[float, Field(ge=0, le=LARGEST, allow_inf_nan=False)]
"""What may be nothing."""

Count = Annotated[int, Field(ge=0, le=10**15)]

Seed = Annotated[int, Field(ge=-(2**63), lt=2**64)]

Name = Annotated[str, StringConstraints(max_length=LONGEST)]

FileName = Annotated[
    str, StringConstraints(pattern=r"^[^./\\\x00-\x1f][^/\\\x00-\x1f]*$", max_length=LONGEST_FILE_NAME)
]
"""A name that stays inside the results folder and is not hidden there."""


def file_name(suffix: str) -> StringConstraints:
    """That of a file beside a record: it is of its own kind, and no record."""
    return StringConstraints(pattern=rf"^[^./\\\x00-\x1f][^/\\\x00-\x1f]*\{suffix}$", max_length=LONGEST_FILE_NAME)


_AS_IT_IS = (str, int, type(None))


def _plain(value: Any) -> Any:
    """Settings as strict JSON has them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):  # asked first what most of them are: thousands of records are read at a time
        return {key: item if isinstance(item, _AS_IT_IS) else _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _settings(config: Any, info: ValidationInfo) -> Any:
    return _plain(config if info.mode == "json" else to_jsonable_python(config))


Settings = Annotated[dict[str, Any], BeforeValidator(_settings)]


def ending_at_the_first_error(schema: Any) -> Any:
    """The schema, of which lists and mappings are looked through only until something in them is wrong.

    A file of 15 MB has room for eight million errors, which pydantic would collect in as many gigabytes.
    """
    if isinstance(schema, dict):
        more = {"fail_fast": True} if schema.get("type") in ("list", "tuple", "dict") else {}
        return {key: ending_at_the_first_error(item) for key, item in schema.items()} | more
    return [ending_at_the_first_error(item) for item in schema] if isinstance(schema, list) else schema
