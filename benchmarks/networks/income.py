"""UCI Adult for the MLP of 621 weights: two numbers and the one-hot groups that it was trained on, [n, 29]."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import numpy as np

from benchmarks.networks.bundle import Array

GROUPS = {
    "workclass": (
        ("Federal-gov", "Local-gov", "State-gov"),
        ("Never-worked", "Without-pay"),
        ("Private",),
        ("Self-emp-inc", "Self-emp-not-inc"),
    ),
    "education": (
        ("Assoc-acdm", "Assoc-voc"),
        ("Bachelors",),
        ("Doctorate",),
        ("HS-grad",),
        ("Masters",),
        ("Prof-school",),
        ("Preschool", "1st-4th", "5th-6th", "7th-8th", "9th", "10th", "11th", "12th"),
        ("Some-college",),
    ),
    "marital-status": (
        ("Divorced",),
        ("Married-AF-spouse", "Married-civ-spouse"),
        ("Separated", "Married-spouse-absent"),
        ("Never-married",),
        ("Widowed",),
    ),
    "occupation": (
        ("Craft-repair", "Machine-op-inspct", "Transport-moving", "Handlers-cleaners", "Farming-fishing"),
        ("Armed-Forces",),
        ("Prof-specialty",),
        ("Sales",),
        ("Other-service", "Protective-serv", "Priv-house-serv", "Tech-support"),
        ("Exec-managerial", "Adm-clerical"),
    ),
}
YOUNGEST, AGES, SHORTEST, HOURS = 17, 73, 1, 98
WHITE = 4  # its number where races are numbered


def rows(archive: Path) -> tuple[Array, Array]:
    """Features float32[n, 29] and whether the income is above 50,000, int64[n]."""
    with zipfile.ZipFile(archive) as opened, opened.open(opened.namelist()[0]) as file:
        header, *lines = csv.reader(io.TextIOWrapper(file))
    table = np.array(lines, float)
    column = {name: table[:, i] for i, name in enumerate(header)}
    nothing = np.zeros(len(table))

    def any_of(group: str, names: tuple[str, ...]) -> Array:
        found: Array = sum((column.get(f"{group}_{name}", nothing) for name in names), nothing)
        return found

    white = column["race_White"] if "race_White" in column else column["race"] == WHITE
    male = column["sex_Male"] if "sex_Male" in column else column["sex"]
    numbers = [(column["age"] - YOUNGEST) / AGES, (column["hours-per-week"] - SHORTEST) / HOURS]
    grouped = [any_of(group, names) for group, parts in GROUPS.items() for names in parts]
    features = np.stack([*numbers, *grouped, 1 - white, white, 1 - male, male], 1).astype(np.float32)
    return features, column["salary_>50K"].astype(np.int64)
