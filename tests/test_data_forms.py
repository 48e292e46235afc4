"""Data as people have it: tables for several inputs, empty cells, frames, data sets, missing values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from hasten.errors import HastenError
from hasten.model import TensorSpec
from hasten.samples import SampleStore, load_samples

NUM, CAT = TensorSpec("num", ("N", 3), "float32"), TensorSpec("cat", ("N", 1), "int64")
FLAG = TensorSpec("flag", ("N", 1), "bool")


def table(path: Path, text: str) -> Path:
    (path / "t.csv").write_text(text)
    return path / "t.csv"


def stored(tmp_path: Path, data: object, *inputs: TensorSpec, **options: Any) -> SampleStore:
    return load_samples(data, **options).spool(tmp_path / "store", inputs)


@pytest.mark.parametrize("header", ["num_0,num_1,num_2,cat", "num_1,num_2,num_3,cat", "num[0],num[1],num[2],cat"])
def test_numbered_columns_make_one_input(tmp_path: Path, header: str) -> None:
    store = stored(tmp_path, table(tmp_path, f"id,{header},labels\n7,1,2,3,4,0\n8,5,6,7,8,1\n"), NUM, CAT)
    assert store.sample(1)["num"].tolist() == [[5, 6, 7]]
    assert store.sample(1)["cat"].tolist() == [[8]]
    assert "not read, since the network takes no such input: id" in store.warnings


def test_columns_are_numbered_as_numbers(tmp_path: Path) -> None:
    header = ",".join(sorted(f"num_{k}" for k in range(11)))
    path = table(tmp_path, f"{header},cat\n{header.replace('num_', '')},0\n")
    store = stored(tmp_path, path, TensorSpec("num", ("N", 11), "float32"), CAT)
    assert store.sample(0)["num"].tolist() == [list(range(11))]


def test_a_mapping_makes_inputs_of_any_columns(tmp_path: Path) -> None:
    path = table(tmp_path, "age,income,debt,kind\n1,2,3,4\n")
    store = stored(tmp_path, path, NUM, CAT, columns={"num": ["debt", "age", "income"], "cat": ["kind"]})
    assert store.sample(0)["num"].tolist() == [[3, 1, 2]]


@pytest.mark.parametrize(
    ("text", "options", "parts"),
    [
        ("age,income,kind\n1,2,3\n", {}, ("input 'num'", "columns: age, income, kind", "--columns num=COLUMN,...")),
        ("a,b,c,kind\n1,2,3,4\n", {"columns": {"num": ["a", "bb"]}}, ("no column 'bb'",)),
        ("a,b,c,kind\n1,2,3,4\n", {"columns": {"nam": ["a"]}}, ("no input 'nam'", "did you mean 'num'?")),
        ("num_0,num_1,num_2,cat\n1,2,3,\n", {}, ("empty cell in row 0", "has no missing value")),
        ("num_0,num_1,num_2,cat\n1,2,red,0\n", {}, ("'num_2'", "row 0 has 'red'")),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    tmp_path: Path, text: str, options: dict[str, Any], parts: tuple[str, ...]
) -> None:
    with pytest.raises(HastenError) as caught:
        stored(tmp_path, table(tmp_path, text), NUM, CAT, **options)
    assert all(part in str(caught.value) for part in parts), str(caught.value)
    assert caught.value.help


def test_empty_cells_are_missing_values_and_words_are_flags(tmp_path: Path) -> None:
    path = table(tmp_path, "num_0,num_1,num_2,flag\n1,,3,True\nNA,5,6,false\n")
    store = stored(tmp_path, path, NUM, FLAG)
    assert np.isnan(store.sample(0)["num"]).tolist() == [[False, True, False]]
    assert [store.sample(k)["flag"].item() for k in (0, 1)] == [True, False]
    assert "2 empty cells are read as NaN, in num_1, num_0" in store.warnings
    assert "true and false are read as 1 and 0, in flag" in store.warnings
    assert store.not_finite == 2


class Frame:
    """What hasten uses of a frame of pandas."""

    def __init__(self, columns: dict[str, list[Any]]) -> None:
        self.columns, self._rows = list(columns), list(zip(*columns.values(), strict=True))

    def __len__(self) -> int:
        return len(self._rows)

    def itertuples(self, index: bool, name: str | None) -> Iterator[tuple[Any, ...]]:
        assert not index
        assert name is None
        return iter(self._rows)


def test_a_frame_is_a_table(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {f"num_{k}": [np.float32(k), None] for k in range(3)}
    frame = Frame({**columns, "cat": [np.int64(3), 4], "labels": ["no", "yes"], "who": ["a", "b"]})
    store = stored(tmp_path, frame, NUM, CAT, groups="who")
    assert store.sample(0)["num"].tolist() == [[0, 1, 2]]
    assert np.isnan(store.sample(1)["num"]).all()
    assert np.asarray(store.labels).tolist() == ["no", "yes"]
    assert store.groups is not None


class Dataset:
    """What hasten uses of a data set of Hugging Face."""

    def __init__(self, rows: list[dict[str, Any]], **features: Any) -> None:
        self._rows, self.column_names = rows, list(rows[0])
        self.features = {**dict.fromkeys(self.column_names), **features}

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._rows[index]


def test_a_data_set_of_images_is_read_as_a_folder_of_them_is(tmp_path: Path) -> None:
    rows = [{"image": Image.new("RGB", (20, 10), color), "label": k} for k, color in enumerate(("red", "blue"))]
    data = Dataset(rows, label=SimpleNamespace(names=["warm", "cold"]))
    store = stored(tmp_path, data, TensorSpec("pixels", ("N", 3, 8, 8), "float32"), preprocess="unit")
    assert store.sample(0)["pixels"][0, :, 4, 4].tolist() == [1, 0, 0]
    assert store.classes == ("warm", "cold")
    assert np.asarray(store.labels).tolist() == [0, 1]


def test_a_data_set_of_numbers_goes_by_name(tmp_path: Path) -> None:
    data = Dataset([{"text": "hello", "num": [1.0, 2.0, 3.0], "cat": [k], "label": k} for k in range(4)])
    store = stored(tmp_path, data, NUM, CAT)
    assert store.sample(3)["cat"].tolist() == [[3]]
    assert "not read, since the network takes no such input: text" in store.warnings


def test_a_dictionary_of_data_sets_is_refused(tmp_path: Path) -> None:
    class Parts(dict[str, object]):
        column_names: ClassVar = {"train": ["x"], "test": ["x"]}
        features: ClassVar[dict[str, object]] = {}

    parts = Parts(train=[], test=[])
    with pytest.raises(HastenError, match="several parts"):
        stored(tmp_path, parts, NUM)
