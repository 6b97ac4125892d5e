"""What is known of an entry of the cache beside its arrays, and what proves them: its ``meta.json``."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

from flowbench.data.discrete import Discrete
from flowbench.data.given import GivenColumn
from flowbench.data.preprocessing import Preprocessing
from flowbench.data.proofs import Hex, Proof
from flowbench.data.sealing import is_sealed, naming, sealed, unsealed
from flowbench.files import small_content

_NAME = "meta.json"
_MOST_BYTES = 1 << 26  # it has all names and labels of a table's columns
_MOST_UNSEALED = 1 << 22  # 4 MiB of JSON may take 100 MB and a second


class Arrays(BaseModel):
    """The files of an entry, by their names without ``.npy``; see `dataset.Splits`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    train: Proof
    validation: Proof
    test: Proof
    test_true_ll: Proof | None = None
    test_groups: Proof | None = None

    @model_validator(mode="after")
    def _agree(self) -> Arrays:
        rows = [(part.dtype, *part.shape[1:]) for part in (self.train, self.validation, self.test)]
        if rows != [("<f4", *self.train.shape[1:])] * 3 or len(rows[0]) != 2:
            raise ValueError("the splits are no rows of as many columns")
        beside = ((self.test_true_ll, "<f8"), (self.test_groups, "<i4"))
        if any(each and (each.dtype, each.shape) != (dtype, self.test.shape[:1]) for each, dtype in beside):
            raise ValueError("what is known of test rows is of other rows")
        return self

    @property
    def present(self) -> dict[str, Proof]:
        """Those that there are."""
        return {name: proof for name, proof in self if proof is not None}

    @property
    def splits(self) -> tuple[Proof, Proof, Proof]:
        """The three that every entry has."""
        return self.train, self.validation, self.test


class Meta(BaseModel):
    """All that `dataset.Splits` has beside the arrays, and what they are made of.

    ``about`` are lines to be said of a table when it is used; ``source`` is its path, where it is a user's own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fingerprint: Hex
    arrays: Arrays
    columns: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    given: tuple[GivenColumn, ...] = ()
    discrete: Discrete | None = None
    tied: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    about: tuple[str, ...] = ()
    source: str | None = None

    def write(self, folder: Path) -> None:
        """Into a folder of arrays."""
        (folder / _NAME).write_bytes(sealed(self.model_dump(mode="json")))

    @classmethod
    def read(cls, folder: Path) -> Meta:
        """Of a folder of arrays.

        Raises:
            DamagedError: it is not what was written, or there is none.
        """
        with naming(folder / _NAME):
            return cls.model_validate(unsealed(small_content(folder / _NAME, _MOST_BYTES)))


class Origin(BaseModel):
    """What is known of an entry whichever version has written it: what it was made of."""

    fingerprint: Hex
    source: str | None = Field(default=None, min_length=1)

    @classmethod
    def read(cls, folder: Path) -> Origin:
        """Of a folder of arrays.

        Raises:
            DamagedError: nothing says it.
        """
        with naming(folder / _NAME):
            content = small_content(folder / _NAME, _MOST_BYTES)
            if is_sealed(content):
                return cls.model_validate(unsealed(content))
            # before there were seals there were none to be broken; nothing tells that it is no flood of brackets
            return cls.model_validate(json.loads(content[:_MOST_UNSEALED]))
