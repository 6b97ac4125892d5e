"""The published numbers: where each is from, which are exact, and what is the best of them."""

import copy
import re
import tomllib
from importlib.resources import files

import pytest

from flowbench.results.published import best, entries, published, published_shape

DOCUMENT = tomllib.loads(files("flowbench.results").joinpath("published.toml").read_text(encoding="utf-8"))
EVERY = entries(DOCUMENT)
TABULAR = ("power", "gas", "hepmass", "miniboone", "bsds300")


def changed(label, /, **changes):
    """The document with other values, or without those that are None, in the model of that label."""
    document = copy.deepcopy(DOCUMENT)
    (model,) = (model for model in document["model"] if model["label"] == label)
    model |= changes
    for key in [key for key, value in changes.items() if value is None]:
        del model[key]
    return document


def row(label):
    return tuple(
        next((entry.test_ll_nats for entry in published(data) if entry.model == label), None) for data in TABULAR
    )


class TestNumbers:
    @pytest.mark.parametrize(
        ("label", "numbers"),
        [
            ("NAF DDSF (5)", (0.62, 11.91, -15.09, -8.86, 157.73)),
            ("NAF DDSF (10)", (0.60, 11.96, -15.32, -9.01, 157.43)),
            ("BNAF", (0.61, 12.06, -14.71, -8.95, 157.36)),
            ("TAN", (0.60, 12.06, -13.78, -11.01, 159.80)),
            ("MAF ResMADE+LU", (0.45, 12.35, -17.03, -10.92, 156.95)),
            ("RQ-NSF (C)", (0.64, 13.09, -14.75, -9.67, 157.54)),
            ("RQ-NSF (AR)", (0.66, 13.09, -14.01, -9.22, 157.31)),
            ("Q-NSF (C)", (0.64, 12.80, -15.35, -9.35, 157.65)),
            ("SOS", (0.60, 11.99, -15.15, -8.90, 157.48)),
            ("TraDE", (0.73, 13.27, -12.01, -9.49, 160.01)),
            ("DEformer (JAX)", (0.541, 13.167, -11.983, -9.323, 157.04)),
            ("AEM", (0.70, 13.03, -12.85, -10.17, 158.71)),
            ("FFJORD", (0.46, 8.59, -14.92, -10.43, 157.40)),
            ("DiffFlow (ODE)", (1.04, 10.45, -15.04, -8.06, 157.80)),
            ("NSF, re-run", (0.650, 13.03, -14.27, -10.30, None)),
            ("MAF, re-run", (0.454, 11.96, -17.06, -10.31, None)),
        ],
    )
    def test_each_later_row_is_one_models(self, label, numbers):
        assert row(label) == numbers

    @pytest.mark.parametrize(
        ("label", "nats", "two_stderr"),
        [
            ("MADE MoG", -1038.5, 1.8),
            ("MADE MoG, re-run", -1023.1, 1.7),
            ("MAF MoG (5), re-run", -1080.5, 1.5),
            ("MAF (5), re-run", -1272.7, 1.9),
        ],
    )
    def test_fully_connected_models_on_mnist(self, label, nats, two_stderr):
        (entry,) = (entry for entry in published("mnist") if entry.model == label and not entry.conditional)
        assert (entry.test_ll_nats, entry.two_stderr_nats) == (nats, two_stderr)

    def test_naf_and_bnaf_are_rows_of_their_own(self):
        sources = {entry.model: entry.source for entry in EVERY if "NAF" in entry.model}
        assert set(sources) == {"NAF DDSF (5)", "NAF DDSF (10)", "BNAF"}
        assert "Huang" in sources["NAF DDSF (5)"]
        assert "De Cao" in sources["BNAF"]


class TestDescriptions:
    def test_every_source_is_named_and_used(self):
        posteriors = {DOCUMENT["sources"][entry["source"]] for entry in DOCUMENT["posterior"]}
        assert {entry.source for entry in EVERY} | posteriors == set(DOCUMENT["sources"].values())
        for source in DOCUMENT["sources"].values():
            assert re.search(r"\b20\d\d\b|/", source), "neither a year nor a repository"

    def test_the_estimated_ones_say_by_what(self):
        found = {entry.model: entry.estimated_by for entry in EVERY if entry.density == "estimated"}
        assert found == {
            "AEM": "importance sampling",
            "FFJORD": "an ODE solver and a trace estimator",
            "DiffFlow (ODE)": "an ODE solver",
        }

    def test_the_second_hand_ones_are_marked_and_their_sources_say_so(self):
        found = {entry.model: entry.source for entry in EVERY if entry.secondhand}
        assert found.keys() == {
            *("NAF DDSF (5)", "NAF DDSF (10)", "SOS", "TraDE", "DEformer (JAX)", "AEM", "FFJORD"),
            *("MADE MoG, re-run", "MAF (5), re-run", "MAF MoG (5), re-run"),
        }
        said = re.compile("as the table of|README|from memory")
        assert all(said.search(source) for source in found.values())
        assert not any(said.search(entry.source) for entry in EVERY if not entry.secondhand)

    def test_what_is_remembered_is_said_to_be_unchecked(self):
        remembered = {entry.model for entry in EVERY if "memory" in entry.source}
        assert remembered == {entry.model for entry in EVERY if "unchecked" in entry.source} == {"AEM"}


class TestOrder:
    @pytest.mark.parametrize("data", DOCUMENT["data"])
    def test_exact_ones_come_first_and_each_kind_is_best_first(self, data):
        keys = [(entry.density == "estimated", -entry.test_ll_nats) for entry in published(data)]
        assert keys == sorted(keys)

    @pytest.mark.parametrize(
        ("data", "model", "record"),
        [
            ("power", "TraDE", 0.73),
            ("gas", "TraDE", 13.27),
            ("hepmass", "DEformer (JAX)", -11.98),
            ("miniboone", "NAF DDSF (5)", -8.86),
            ("bsds300", "TraDE", 160.01),
            ("mnist", "MADE MoG, re-run", -1023.1),
            ("cifar10", "MAF (10)", 3049),
        ],
    )
    def test_the_records(self, data, model, record):
        entry = best(data)
        assert (entry.model, round(entry.test_ll_nats, published_shape(data).decimals)) == (model, record)
        assert entry.density == "exact"
        assert not entry.conditional

    def test_an_estimate_above_the_record_is_no_record(self):
        highest = max(published("power"), key=lambda entry: entry.test_ll_nats)
        assert (highest.model, highest.density) == ("DiffFlow (ODE)", "estimated")
        assert highest.test_ll_nats > best("power").test_ll_nats

    def test_a_value_given_the_label_is_no_record(self):
        assert max(published("cifar10"), key=lambda entry: entry.test_ll_nats).conditional

    def test_other_data_has_no_record(self):
        assert best("patches") is None


class TestRefused:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"density": "approximate"}, "exact or estimated, not 'approximate'"),
            ({"density": "estimated"}, "says by what"),
            ({"density": "estimated", "estimated_by": ""}, "says by what"),
            ({"estimated_by": "an ODE solver"}, "says by what"),
            ({"source": "tan2081"}, "there is no tan2081"),
            ({"second_hand": True}, "there is no second_hand"),
            ({"nats": {"powr": [0.6]}}, "there is no powr"),
            ({"conditional_nats": {"minst": [0.6]}}, "there is no minst"),
            ({"bits_per_pixel": {"cifar": 4.5}}, "there is no cifar"),
            ({"label": "BNAF"}, "a label stands for one model"),
        ],
    )
    def test_a_model_that_is_described_wrongly(self, changes, said):
        assert len(entries(changed("TAN"))) == len(EVERY)
        with pytest.raises(ValueError, match=said):
            entries(changed("TAN", **changes))

    def test_a_density_is_exact_unless_it_says_otherwise(self):
        document = changed("DiffFlow (ODE)", density=None, estimated_by=None)
        assert {entry.density for entry in entries(document) if entry.model == "DiffFlow (ODE)"} == {"exact"}
