"""A run's configuration: what can be set, where its value comes from, and the hash that names it. No torch.

Later layers win: the defaults of the code, in ``configs/`` <flow>.toml, data-<data>.toml, <flow>-<data>.toml and
recipe-<recipe>.toml, in the last its tables ``[data.<data>]`` and ``[flow.<flow>]``, then a file of the user's
(``--config``) and single settings (``--set key=value``). A layer states what differs and nothing else; keys are the
names of the options below and of the flow's own. TOML has no null: the string ``"none"`` stands for it.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)
from rich.filesize import decimal

from flowbench.errors import UsageError, did_you_mean
from flowbench.seeds import stream

PACKAGE = Path(__file__).parent

MOST_BYTES = 1 << 20
"""A larger file is none of settings."""


class Settings(BaseModel):
    """Checked, immutable settings: an unknown key or a wrong type is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="wrap")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, checked: ValidatorFunctionWrapHandler) -> Any:
        found = checked(value)
        if _truths(value) > _truths(found):
            raise ValueError("a number is wanted")
        return found


def _truths(value: Any) -> int:
    """How many of a setting's values are true or false."""
    return sum(isinstance(each, bool) for each in (value if isinstance(value, list | tuple) else [value]))


class FlowOptions(Settings):
    """What a flow is assembled from; each file in ``flows/`` has its own."""


Widths = Annotated[
    tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(lambda value: [value] if isinstance(value, int) else value)
]
"""Units of each hidden layer; a single number is a single layer."""


class TrainingOptions(Settings):
    """How a flow is trained. The defaults are the recipe ``fast``; the descriptions are what ``--settings`` shows."""

    batch_size: int | None = Field(
        None, ge=1, description="Rows in a step; none: a 20th of the training rows, between 50 and 500."
    )
    optimizer: Literal["adam", "adam-inner-epsilon", "adamax"] = Field(
        "adam", description="Adam, Adam with epsilon under the root of the second moment, or Adamax."
    )
    learning_rate: float = Field(5e-3, gt=0, description="The rate after the warm-up, at its highest.")
    epsilon: float = Field(1e-8, gt=0, description="Adam's epsilon.")
    weight_decay: float = Field(
        0.0, ge=0, description="L2 penalty on all parameters, added to the gradient (as Adam does, not AdamW)."
    )
    schedule: Literal["cosine", "constant"] = Field(
        "cosine", description="How the rate goes on after the warm-up: down to zero by half a cosine, or as it is."
    )
    warmup_steps: int = Field(200, ge=0, description="Steps in which the rate grows linearly at the start.")
    clip_norm: float | None = Field(5.0, gt=0, description="The largest norm of a gradient; longer ones are scaled.")
    averaging: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="The share that a moving average of the weights keeps at each step (Polyak's averaging); what is "
        "validated, tested and kept are the averages.",
    )
    plateau: int | None = Field(
        3,
        ge=1,
        description="Epochs without a better validation likelihood after which training returns to the best epoch, at "
        "a third of the rate.",
    )
    patience: int = Field(
        12, ge=1, description="Epochs without a better validation likelihood after which training stops."
    )
    on_divergence: Literal["stop", "retry"] = Field(
        "stop",
        description="What follows what is not finite: the end, or up to three times the best epoch's weights at half "
        "the rate.",
    )
    max_epochs: int | None = Field(None, ge=0, description="The largest number of epochs; none: see max_steps.")
    max_steps: int | None = Field(
        8000,
        ge=1,
        description="The largest number of steps, rounded up to whole epochs. It counts where max_epochs is none, and "
        "if you set it, before the max_epochs of a recipe.",
    )
    max_seconds: float | None = Field(
        None,
        gt=0,
        description="Seconds from the first step to the end of the run, closing checks and times included; at least "
        "one step is taken.",
    )

    @model_validator(mode="after")
    def _cosine_has_an_end(self) -> TrainingOptions:
        if self.schedule == "cosine" and self.max_epochs is self.max_steps is self.max_seconds is None:
            raise ValueError("a cosine schedule needs max_epochs, max_steps or max_seconds")
        return self


class RunConfig(Settings):
    """All that decides a run's numbers, its times among them."""

    flow: str
    data: str
    recipe: str
    seed: int
    init_seed: int | None = None
    shuffle_seed: int | None = None
    """Of the initial weights alone, and of the batches' order alone; None: ``seed``."""
    device: str
    threads: int
    model: SerializeAsAny[FlowOptions]
    training: TrainingOptions
    code: str | None = None
    """The sha256 of the flow's file, if it is one from outside the package."""

    def stream(self, use: Literal["initialisation", "shuffling"]) -> int:
        """The seed of one use of randomness in training; see `seeds.stream`."""
        own = self.init_seed if use == "initialisation" else self.shuffle_seed
        return stream(self.seed if own is None else own, use)

    def digest(self, fingerprint: str) -> str:
        """sha256 (hex) over the configuration and the data's fingerprint: the same digest, the same run."""
        return _sha256(
            [self.model_dump(mode="json", exclude={"code"}), fingerprint, *([self.code] if self.code else [])]
        )

    def kin(self, fingerprint: str) -> str:
        """As ``digest``, wherever and by whichever code it is done."""
        return _sha256([self.model_dump(mode="json", exclude={"code", "device", "threads"}), fingerprint])


def _sha256(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def shipped(name: str) -> Path:
    """The checkout's folder ``configs`` or ``datasets``; in an installed wheel, the copy that it carries."""
    checkout = PACKAGE.parent
    # beside an installed package lie other people's folders of such names
    return checkout / name if (checkout / "pyproject.toml").is_file() else PACKAGE / f"_{name}"


def recipes() -> list[str]:
    """The names that ``--recipe`` takes."""
    return ["fast", *sorted(path.stem.removeprefix("recipe-") for path in shipped("configs").glob("recipe-*.toml"))]


def packaged_layers(flow: str, data: str, recipe: str) -> dict[str, Any]:
    """What flowbench's own files set for this flow, dataset and recipe.

    Raises:
        UsageError: there is no such recipe.
    """
    if recipe not in recipes():
        raise UsageError(f"unknown recipe {recipe!r}", hint=did_you_mean(recipe, recipes()))
    there = {path.stem: path for path in shipped("configs").glob("*.toml")}  # no name leads anywhere else
    merged: dict[str, Any] = {}
    for name in (flow, f"data-{data}", f"{flow}-{data}", f"recipe-{recipe}"):
        merged |= read_toml(there[name]) if name in there else {}
    by_data, by_flow = merged.pop("data", {}), merged.pop("flow", {})  # only a recipe has such tables
    return merged | by_data.get(data, {}) | by_flow.get(flow, {})


def user_layers(file: Path | None, settings: Iterable[str]) -> dict[str, Any]:
    """What the user sets, by a TOML file and by ``key=value``.

    Raises:
        UsageError: an unreadable file, or a setting of another form.
    """
    return (read_toml(file) if file else {}) | dict(_setting(text) for text in settings)


def resolve(model: type[FlowOptions], packaged: Mapping[str, Any], user: Mapping[str, Any], **run: Any) -> RunConfig:
    """Sort the layers into the flow's options and the training's, and check both.

    A recipe serves every flow, so what it sets for other flows' options is passed over; a user's key must exist.

    Raises:
        UsageError: a user's key that neither has, or a value of the wrong type or range.
    """
    known = {*model.model_fields, *TrainingOptions.model_fields}
    for key in user:
        if key not in known:
            raise UsageError(f"{run['flow']} has no setting {key!r}", hint=did_you_mean(key, known))
    if "max_steps" in user:  # the user's length, whichever way a packaged layer gives one
        packaged = {key: value for key, value in packaged.items() if key != "max_epochs"}
    values = {key: None if value == "none" else value for key, value in {**packaged, **user}.items()}
    try:
        return RunConfig(
            **run,
            model=_pick(model, values),
            training=_pick(TrainingOptions, values),
        )
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "settings"
        said = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{name}: {said}, not {first['input']!r}") from error


S = TypeVar("S", bound=Settings)


def _pick(kind: type[S], values: Mapping[str, Any]) -> S:
    return kind.model_validate({key: values[key] for key in values if key in kind.model_fields})


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says.

    Raises:
        UsageError: it cannot be read, or is no TOML.
    """
    try:
        with path.open("rb") as file:  # which may be a pipe
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise UsageError(f"{path} has more than {decimal(MOST_BYTES)}: it is no file of settings")
        return tomllib.loads(content.decode())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from error


def _setting(text: str) -> tuple[str, Any]:
    """``key=value``; the value as TOML where it is (``512``, ``1e-3``, ``true``), ``512,512`` a list, else a string."""
    key, equals, value = text.partition("=")
    if not (equals and key.strip() and value.strip() and text.isprintable()):
        raise UsageError(f"--set takes key=value in one line, not {text!r}")
    try:
        found = tomllib.loads(f"value = [{value}]")["value"]  # what begins with # is no comment here: it hides the end
    except (ValueError, RecursionError):
        return key.strip(), value.strip()
    return key.strip(), found[0] if len(found) == 1 else found


def as_set(value: Any) -> str:
    """A setting's value as ``--set`` takes it."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ",".join(map(as_set, value))
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
