"""Datasets: cards, raw files, own tables, splits and their cache. Torch is never imported here."""

from flowbench.data.card import READY_MADE, Card, RawFile, Space
from flowbench.data.dataset import Dataset, Splits, split_last_tenths
from flowbench.data.gaussian import fit_gaussian, gaussian_ll
from flowbench.data.loading import load, raw_status
from flowbench.data.registry import Recipe, card, names, recipe, true_log_density
from flowbench.data.tables.options import TableOptions

__all__ = [
    "READY_MADE",
    "Card",
    "Dataset",
    "RawFile",
    "Recipe",
    "Space",
    "Splits",
    "TableOptions",
    "card",
    "fit_gaussian",
    "gaussian_ll",
    "load",
    "names",
    "raw_status",
    "recipe",
    "split_last_tenths",
    "true_log_density",
]
