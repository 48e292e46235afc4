"""Data in every form that is taken, and in the forms in which it goes wrong."""

from __future__ import annotations

import builtins
import csv
import gzip
import pickle
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hasten.errors import EnvironmentFault, HastenError, UsageError
from hasten.model import TensorSpec
from hasten.samples import SampleStore, load_samples
from hasten.samples.feedback import fed_back
from tests.reject import rejected

X = TensorSpec("x", ("N", 3), "float32")
IMAGE = TensorSpec("image", ("N", 3, 8, 8), "float32")
IDS = TensorSpec("ids", ("N", "L"), "int64")
MASK = TensorSpec("mask", ("N", "L"), "int64")


def rows(n: int, *shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).standard_normal((n, *shape)).astype(np.float32)


def spooled(tmp_path: Path, data: object, *inputs: TensorSpec, **options: Any) -> SampleStore:
    """The store; when refused, nothing may be left behind."""
    folder = tmp_path / "spool"
    folder.mkdir(exist_ok=True)
    before = sorted(folder.iterdir())
    try:
        return load_samples(data, **options).spool(folder / str(len(before)), inputs or (X,))
    except Exception:
        assert sorted(folder.iterdir()) == before
        raise


def test_npz_by_name(tmp_path: Path) -> None:
    x, y = rows(10, 3), np.arange(10)
    np.savez_compressed(tmp_path / "d.npz", x=x, labels=y, video=y // 2)
    store = spooled(tmp_path, tmp_path / "d.npz", groups="video")
    assert len(store) == 10
    np.testing.assert_array_equal(store.sample(4)["x"], x[4:5])
    np.testing.assert_array_equal(np.asarray(store.labels), y)
    np.testing.assert_array_equal(np.asarray(store.groups), y // 2)
    assert isinstance(store.labels, np.memmap)
    assert store.warnings == ()
    with pytest.raises(IndexError):
        store.sample(10)


def test_every_source_gives_the_same_digest(tmp_path: Path) -> None:
    x, y = rows(6, 3), np.arange(6)
    np.savez(tmp_path / "d.npz", x=np.asfortranarray(x), labels=y)
    (tmp_path / "each").mkdir()
    for i in range(6):
        np.savez(tmp_path / "each" / f"{i}.npz", x=x[i], labels=y[i])
    forms: list[object] = [
        {"x": x, "labels": y},
        {"x": list(x), "labels": list(y)},
        {"x": x[:, None], "labels": y},
        [(a, b) for a, b in zip(x, y, strict=True)],
        [({"x": a[None]}, b) for a, b in zip(x, y, strict=True)],
        [{"x": a, "labels": b} for a, b in zip(x, y, strict=True)],
        lambda: iter([[x[:4], y[:4]], [x[4:], y[4:]]]),  # a loader's batches
        tmp_path / "d.npz",
        str(tmp_path / "each"),
        load_samples({"x": x, "labels": y}),
    ]
    assert len({spooled(tmp_path, form).digest for form in forms}) == 1
    assert spooled(tmp_path, {"x": x, "labels": y[::-1]}).digest != spooled(tmp_path, forms[0]).digest


def test_npy_and_bare_arrays_and_names_that_need_no_guess(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", rows(5, 3))
    assert len(spooled(tmp_path, tmp_path / "d.npy")) == 5
    assert len(spooled(tmp_path, rows(5, 3), limit=2)) == 2
    assert spooled(tmp_path, {"data": rows(5, 3)}).warnings == ("array 'data' is fed to the only input, 'x'",)


def test_csv_and_parquet(tmp_path: Path) -> None:
    x, y = rows(7, 3), np.arange(7)
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a", "b", "target", "c"])
        writer.writerows([p, q, t, r] for (p, q, r), t in zip(x.tolist(), y.tolist(), strict=True))
    with gzip.open(tmp_path / "t.csv.gz", "wb") as zipped:
        zipped.write((tmp_path / "t.csv").read_bytes())
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(pa.table({"a": x[:, 0], "b": x[:, 1], "c": x[:, 2], "target": y}), tmp_path / "t.parquet")
    parquet.write_table(pa.table({"f": x.tolist(), "target": y}), tmp_path / "l.parquet")
    for name in ("t.csv", "t.csv.gz", "t.parquet", "l.parquet"):
        store = spooled(tmp_path, tmp_path / name, labels="target")
        np.testing.assert_allclose(np.concatenate([store.sample(i)["x"] for i in range(7)]), x, rtol=1e-6)
        np.testing.assert_array_equal(np.asarray(store.labels), y)
    a, b = TensorSpec("a", ("N", 1), "float32"), TensorSpec("b", ("N",), "int64")
    (tmp_path / "n.csv").write_text("b,a\n1,0.5\n2,1.5\n")
    store = spooled(tmp_path, tmp_path / "n.csv", a, b)
    assert [store.sample(1)[k].tolist() for k in "ab"] == [[[1.5]], [2]]
    (tmp_path / "h.csv").write_text("1,2,3\n4,5,6\n")
    assert spooled(tmp_path, tmp_path / "h.csv").sample(0)["x"].tolist() == [[1, 2, 3]]


def test_bad_tables(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b,kind\n1,2,cat\n")
    with rejected("column 'kind'", "'cat'", "--labels kind"):
        spooled(tmp_path, tmp_path / "t.csv")
    with rejected("no column 'kinds'", "did you mean 'kind'", kind=UsageError):
        spooled(tmp_path, tmp_path / "t.csv", labels="kinds")
    (tmp_path / "t.csv").write_text("a,b,c\n1,2,3\n1,2\n")
    with rejected("row 1", "2 cells"):
        spooled(tmp_path, tmp_path / "t.csv")
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00a,b")
    with rejected("as a table"):
        spooled(tmp_path, tmp_path / "t.csv")
    (tmp_path / "t.parquet").write_bytes(b"PAR1" + bytes(50))
    with rejected("as Parquet"):
        spooled(tmp_path, tmp_path / "t.parquet")


def test_ragged_samples_batch_with_neighbours_of_their_shape(tmp_path: Path) -> None:
    lengths = [4, 4, 4, 2, 4]
    data = [{"ids": np.full(n, i), "mask": np.ones(n, np.int64)} for i, n in enumerate(lengths)]
    store = spooled(tmp_path, data, IDS, MASK)
    found = [(ids, feeds["ids"].shape) for ids, feeds in store.batches(range(5), 2)]
    assert found == [([0, 1], (2, 4)), ([2], (1, 4)), ([3], (1, 2)), ([4], (1, 4))]
    assert store.labels is None
    assert store.groups is None


def test_fixed_and_absent_batch_axes_are_fed_one_at_a_time(tmp_path: Path) -> None:
    fixed = TensorSpec("x", (1, 3), "float32")
    assert [len(ids) for ids, _ in spooled(tmp_path, {"x": rows(4, 3)}, fixed).batches(range(4), 4)] == [1] * 4
    unbatched = TensorSpec("x", ("L", 3), "float32")
    store = spooled(tmp_path, {"x": rows(4, 5, 3)}, unbatched)
    assert [f["x"].shape for _, f in store.batches(range(4), 4)] == [(5, 3)] * 4
    anything = TensorSpec("x", ("...",), "float32")
    assert spooled(tmp_path, {"x": rows(4, 5, 3)}, anything).sample(0)["x"].shape == (1, 5, 3)


def test_arrays_given_once_serve_every_sample(tmp_path: Path) -> None:
    rate, table = TensorSpec("rate", (), "int64"), TensorSpec("table", ("K", 2), "float32")
    store = spooled(tmp_path, {"x": rows(4, 3), "rate": 16000, "table": rows(1, 2)}, X, rate, table)
    (_, feeds), *_ = store.batches(range(4), 4)
    assert {k: v.shape for k, v in feeds.items()} == {"x": (4, 3), "rate": (), "table": (4, 2)}
    assert store.sample(3)["rate"] == 16000


VAD = (
    TensorSpec("input", (None, None), "float32"),
    TensorSpec("state", (2, None, 4), "float32"),
    TensorSpec("sr", (), "int64"),
)


def test_sequences(tmp_path: Path) -> None:
    audio = [rows(t, 16) for t in (5, 3, 3)]
    data = [({"input": a, "sr": np.int64(8000)}, np.zeros(len(a), int)) for a in audio]
    store = spooled(tmp_path, data, *VAD, state={"state": "stateN"})
    assert (store.state, store.sequential) == ({"state": "stateN"}, True)
    assert store.sample(0)["input"].shape == (5, 1, 16)
    assert store.sample(0)["sr"].shape == ()
    assert [f["input"].shape for _, f in store.batches([0, 1, 2], 8)] == [(5, 1, 16), (3, 2, 16)]
    labels = store.labels
    assert labels is not None
    assert [len(labels[i]) for i in range(3)] == [5, 3, 3]
    with rejected("different lengths", "labels: 4"):
        spooled(tmp_path, [({"input": audio[0], "sr": 1}, np.zeros(4))], *VAD, state={"state": "stateN"})
    with rejected("no input is called 'stat'"):
        spooled(tmp_path, data, *VAD, state={"stat": "stateN"})


def test_labels_of_many_kinds(tmp_path: Path) -> None:
    def labels(*values: Any) -> Any:
        return spooled(tmp_path, [(row, v) for row, v in zip(rows(len(values), 3), values, strict=True)]).labels

    assert labels("cat", "doggy").tolist() == ["cat", "doggy"]
    assert labels(0.5, 2).tolist() == [0.5, 2.0]
    masks = labels(np.zeros((2, 2), bool), np.ones((2, 2), bool))
    assert (masks.shape, masks.dtype, isinstance(masks, np.memmap)) == ((2, 2, 2), bool, True)
    ragged = labels(np.arange(3), np.arange(5))
    assert [one.tolist() for one in ragged] == [[0, 1, 2], [0, 1, 2, 3, 4]]
    with rejected("1 samples have no label", "samples 1"):
        labels(1, None)
    with rejected("1 samples have no label"):
        labels(1, float("nan"))
    with rejected("mix numbers and text"):
        labels(1, "one")
    with rejected("unlike those before"):
        labels(np.arange(3), np.eye(3))
    assert "all labels are 7" in spooled(tmp_path, {"x": rows(3, 3), "labels": [7, 7, 7]}).warnings[0]


def test_names_that_do_not_fit_show_both_sides(tmp_path: Path) -> None:
    with rejected(
        "no array for input 'mask'", "ids[N,L] int64, mask[N,L] int64", "masks[4] int64", "rename 'masks' to 'mask'"
    ):
        spooled(tmp_path, [{"ids": np.arange(4), "masks": np.arange(4)}], IDS, MASK)
    with rejected("no input is called 'y'", "--labels y"):
        spooled(tmp_path, {"x": rows(3, 3), "y": np.arange(3)})
    with rejected("no array for input 'mask'"):
        spooled(tmp_path, [{"ids": np.arange(4)}], IDS, MASK)
    with rejected("(unnamed)", "name the arrays"):
        spooled(tmp_path, [np.arange(4)], IDS, MASK)
    with rejected("no array 'truth'", "known: x", kind=UsageError):
        spooled(tmp_path, {"x": rows(3, 3)}, labels="truth")
    with rejected("disagree on the number", "labels: 4"):
        spooled(tmp_path, {"x": rows(3, 3), "labels": np.arange(4)})


def test_an_output_is_offered_for_a_state_when_name_shape_and_type_fit() -> None:
    def offered(missing: str, *outputs: tuple[str, tuple[int | str, ...], str]) -> dict[str, str]:
        specs = [TensorSpec(name, (2, "N", 128), "float32") for name in missing.split()]
        return fed_back(specs, [TensorSpec(*one) for one in outputs])

    fitting = ("d0", "N", "d2"), "float32"
    assert offered("state", ("output", ("N", 1), "float32"), ("stateN", *fitting)) == {"state": "stateN"}
    assert offered("h c", ("cn", *fitting), ("hn", *fitting)) == {"h": "hn", "c": "cn"}
    assert offered("h_in h_in_2", ("h_out", *fitting)) == {"h_in": "h_out"}, "no output twice"
    assert offered("state", ("stateN", ("...",), "float32")) == {"state": "stateN"}, "a rank that nobody wrote down"
    for other in (("mask", *fitting), ("stateN", (1, "N", 128), "float32"), ("stateN", (2, "N", 128), "int64")):
        assert not offered("state", other)


def test_safe_casts_are_told_and_others_refused(tmp_path: Path) -> None:
    assert spooled(tmp_path, {"x": rows(3, 3).astype(float)}).warnings == ("input 'x' is cast from float64 to float32",)
    store = spooled(tmp_path, {"ids": np.ones((3, 4), np.uint8)}, IDS)
    assert (store.sample(0)["ids"].dtype.name, len(store.warnings)) == ("int64", 2)
    narrow = TensorSpec("ids", ("N", "L"), "int32")
    with rejected("got int64", "not a safe cast"):
        spooled(tmp_path, {"ids": np.full((3, 4), 1 << 40)}, narrow)
    with rejected("not a safe cast"):
        spooled(tmp_path, {"ids": np.full((3, 4), -1)}, TensorSpec("ids", ("N", "L"), "uint64"))
    with rejected("got uint8", "/ 255", "--preprocess imagenet"):
        spooled(tmp_path, {"image": np.zeros((2, 3, 8, 8), np.uint8)}, IMAGE)
    with rejected("not a safe cast"):
        spooled(tmp_path, {"x": np.full((3, 3), 1e6)}, TensorSpec("x", ("N", 3), "float16"))
    with rejected("takes text"):
        spooled(tmp_path, {"x": rows(3, 3)}, TensorSpec("x", ("N", 3), "object"))


def test_narrow_floats_survive_the_disk(tmp_path: Path) -> None:
    store = spooled(tmp_path, {"x": rows(3, 3)}, TensorSpec("x", ("N", 3), "bfloat16"))
    assert store.sample(0)["x"].dtype.name == "bfloat16"
    np.testing.assert_allclose(store.sample(1)["x"].astype(np.float32), rows(3, 3)[1:2], rtol=1e-2)


def test_samples_fill_a_fixed_batch(tmp_path: Path) -> None:
    x, fixed = rows(6, 3), TensorSpec("x", (4, 3), "float32")
    store = spooled(tmp_path, {"x": x, "labels": np.arange(6)}, fixed)
    assert (len(store), store.fixed) == (6, 4)
    assert any("fixed at 4" in warning for warning in store.warnings)
    fed = [(ids, feeds["x"]) for ids, feeds in store.batches(range(6), 4)]
    assert [ids for ids, _ in fed] == [[0, 1, 2, 3], [4, 5]]
    assert np.array_equal(fed[0][1], x[:4])
    assert np.array_equal(fed[1][1], x[[4, 5, 5, 5]])
    assert [len(ids) for ids, _ in store.batches(range(6))] == [1] * 6
    assert np.array_equal(store.sample(2)["x"], x[[2, 2, 2, 2]])
    assert len(spooled(tmp_path, {"x": rows(5, 4, 3)}, fixed)) == 5, "items that are whole batches are fed as they are"


def test_shapes_that_do_not_fit_name_the_fix(tmp_path: Path) -> None:
    with rejected("channels last", "image.transpose(0, 3, 1, 2)"):
        spooled(tmp_path, {"image": rows(2, 8, 8, 3)}, IMAGE)
    with rejected("image.transpose(0, 2, 3, 1)"):
        spooled(tmp_path, {"image": rows(2, 3, 8, 8)}, TensorSpec("image", ("N", 8, 8, 3), "float32"))
    with rejected("image[N,3,8,8] float32 got shape [3, 9, 9]", "resize"):
        spooled(tmp_path, {"image": rows(2, 3, 9, 9)}, IMAGE)
    with rejected("rank 5", "image.squeeze(0)"):
        spooled(tmp_path, {"image": rows(2, 1, 1, 3, 8, 8)}, IMAGE)
    with rejected("rank 1"):
        spooled(tmp_path, {"image": rows(2, 3)}, IMAGE)
    with rejected("channels last", "image.transpose(0, 3, 1, 2)"):
        spooled(tmp_path, {"image": rows(9, 8, 8, 3)}, TensorSpec("image", (4, 3, 8, 8), "float32"))
    with rejected("changes its rank"):
        spooled(tmp_path, [rows(3), rows(3, 3)[0], rows(1, 2, 3)], TensorSpec("x", ("...",), "float32"))


def test_values_that_are_no_numbers(tmp_path: Path) -> None:
    x = rows(300, 3)
    x[[5, 7], 0] = np.nan, np.inf
    assert "5, 7" in spooled(tmp_path, {"x": x}).warnings[0]
    x[:20, 0] = np.nan
    store = spooled(tmp_path, {"x": x})
    assert store.not_finite == 20  # a network may take them: only its answers tell
    assert "20 of 300 samples hold NaN" in store.warnings[0]


def test_repeats_are_told(tmp_path: Path) -> None:
    x = rows(5, 3)
    x[3] = x[1]
    store = spooled(tmp_path, {"x": x})
    assert store.warnings == ("1 samples repeat the inputs of another; copies stay in one split",)
    assert store.hashes[3] == store.hashes[1]
    assert "all 4 samples have the same inputs" in spooled(tmp_path, {"x": np.ones((4, 3), np.float32)}).warnings


def test_python_sources_that_fail(tmp_path: Path) -> None:
    def broken() -> Iterator[Any]:
        yield rows(3)
        raise RuntimeError("camera off")

    with rejected("failed at sample 1", "RuntimeError: camera off"):
        spooled(tmp_path, broken)
    with rejected("has no samples"):
        spooled(tmp_path, [])
    with rejected("is a str"):
        spooled(tmp_path, ["text"])
    with rejected("is a tuple of 3"):
        spooled(tmp_path, [(1, 2, 3)])
    with rejected("from a int", kind=UsageError):
        load_samples(3).spool(tmp_path / "s", (X,))
    with rejected("a limit of 0", kind=UsageError):
        load_samples([rows(3)], limit=0)
    once = load_samples(iter([rows(3)]))
    assert len(once.spool(tmp_path / "s", (X,))) == 1
    with rejected("an iterator that has been read"):
        once.spool(tmp_path / "s", (X,))

    def never() -> Iterator[Any]:
        raise ValueError("no network")

    with rejected("no network"):
        spooled(tmp_path, never)


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    class Canary:
        def __reduce__(self) -> tuple[Any, tuple[str, str]]:
            return builtins.open, (str(tmp_path / "ran"), "w")

    for write in (np.savez, np.save):
        path = tmp_path / ("o.npz" if write is np.savez else "o.npy")
        write(path, np.array([Canary()], dtype=object), allow_pickle=True)
        with rejected("pickled Python objects"):
            spooled(tmp_path, path)
    (tmp_path / "p.npy").write_bytes(pickle.dumps(Canary()))
    with rejected("cannot tell what"):
        spooled(tmp_path, tmp_path / "p.npy")
    assert not (tmp_path / "ran").exists()


def test_paths_that_hold_no_data(tmp_path: Path) -> None:
    (tmp_path / "data.npz").write_bytes(b"")
    with rejected("is empty"):
        spooled(tmp_path, tmp_path / "data.npz")
    with rejected("did you mean 'data.npz'", kind=UsageError):
        spooled(tmp_path, tmp_path / "dota.npz")
    (tmp_path / "link").symlink_to("nowhere")
    with rejected("link to nothing", kind=UsageError):
        spooled(tmp_path, tmp_path / "link")
    with rejected("regular file"):
        spooled(tmp_path, "/dev/zero")
    (tmp_path / "dir").mkdir()
    with rejected("neither images nor"):
        spooled(tmp_path, tmp_path / "dir")
    np.savez(tmp_path / "e.npz", x=np.zeros((0, 3), np.float32))
    with rejected("no samples"):
        spooled(tmp_path, tmp_path / "e.npz")


@pytest.mark.parametrize("compressed", [False, True])
def test_truncated_archives_are_refused_anywhere(tmp_path: Path, compressed: bool) -> None:
    (np.savez_compressed if compressed else np.savez)(tmp_path / "d.npz", x=rows(20, 3), labels=np.arange(20))
    whole = (tmp_path / "d.npz").read_bytes()
    for cut in np.linspace(1, len(whole) - 1, 50).astype(int):
        (tmp_path / "d.npz").write_bytes(whole[:cut])
        with rejected():
            spooled(tmp_path, tmp_path / "d.npz")


@pytest.mark.parametrize("compressed", [False, True])
def test_flipped_bytes_are_found_or_harmless(tmp_path: Path, compressed: bool) -> None:
    (np.savez_compressed if compressed else np.savez)(tmp_path / "d.npz", x=rows(20, 3), labels=np.arange(20))
    whole = (tmp_path / "d.npz").read_bytes()
    sound = spooled(tmp_path, tmp_path / "d.npz").digest
    refused = 0
    for at in np.linspace(0, len(whole) - 1, 60).astype(int):
        (tmp_path / "d.npz").write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            assert load_samples(tmp_path / "d.npz").spool(tmp_path / "f", (X,)).digest == sound  # a date, for instance
        except HastenError:
            refused += 1
    assert refused > 40


def test_archive_that_promises_more_than_it_holds(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=rows(4, 3))
    data = (tmp_path / "d.npz").read_bytes().replace(b"(4, 3)", b"(9, 3)")
    (tmp_path / "d.npz").write_bytes(data)
    with rejected("cannot read"):
        spooled(tmp_path, tmp_path / "d.npz")


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hasten.samples.files.os.fsync", full)
    with rejected("cannot write the samples", "No space left", kind=EnvironmentFault):
        spooled(tmp_path, {"x": rows(4, 3)})


def test_no_store(tmp_path: Path) -> None:
    with rejected("no samples in"):
        SampleStore.open(tmp_path)
    spooled(tmp_path, {"x": rows(4, 3)})
    meta = tmp_path / "spool" / "0" / "meta.json"
    meta.write_text(meta.read_text().replace('"schema_version": 1', '"schema_version": 9'))
    with rejected("version 9"):
        SampleStore.open(meta.parent)


def test_spooling_again_replaces(tmp_path: Path) -> None:
    load_samples({"x": rows(4, 3), "labels": np.arange(4)}).spool(tmp_path / "s", (X,))
    again = load_samples({"x": rows(6, 3)}).spool(tmp_path / "s", (X,))
    assert (len(again), again.labels) == (6, None)


dtypes = st.sampled_from(["float16", "float32", "float64", "int8", "int32", "int64", "uint8", "uint16", "bool"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), dtypes, st.integers(1, 3), st.integers(1, 6), st.booleans())
def test_round_trip(tmp_path: Path, data: st.DataObject, dtype: str, rank: int, n: int, batched: bool) -> None:
    """Whatever goes in comes out bit for bit, with a batch axis of one."""
    shapes = st.tuples(*[st.integers(0, 4)] * rank)
    draw = shapes.flatmap(
        lambda s: hnp.arrays(
            dtype, s, elements={"allow_nan": False, "allow_infinity": False} if dtype.startswith("f") else None
        )
    )
    arrays = data.draw(st.lists(draw, min_size=n, max_size=n))
    spec = TensorSpec("x", (None,) * (rank + 1), dtype)
    store = load_samples([a[None] if batched else a for a in arrays]).spool(tmp_path / "s", (spec,))
    assert len(store) == n
    for i, array in enumerate(arrays):
        back = store.sample(i)["x"]
        assert (back.dtype, back.shape) == (array.dtype, (1, *array.shape))
        assert back.tobytes() == array.tobytes()
    joined = [(i, f["x"][k]) for ids, f in store.batches(range(n), 3) for k, i in enumerate(ids)]
    assert [i for i, _ in joined] == list(range(n))
    assert all(np.array_equal(a, arrays[i]) for i, a in joined)
    same = np.unique([a.tobytes() + str(a.shape).encode() for a in arrays], return_inverse=True)[1]
    assert np.array_equal(same[:, None] == same, store.hashes[:, None] == store.hashes)


def test_memory_does_not_grow_with_the_data(tmp_path: Path) -> None:
    """64 MB of compressed samples pass through a few megabytes."""
    wide = TensorSpec("x", ("N", 16_384), "float32")
    np.savez_compressed(tmp_path / "d.npz", x=np.arange(1024 * 16_384, dtype=np.float32).reshape(1024, 16_384) % 7)
    tracemalloc.start()
    store = spooled(tmp_path, tmp_path / "d.npz", wide)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert store.sample(1000)["x"].shape == (1, 16_384)
    assert peak < 8 << 20, peak


def test_groups_must_be_complete_and_labels_alike(tmp_path: Path) -> None:
    def some(*groups: Any) -> list[dict[str, Any]]:
        return [{"x": row, "g": g} for row, g in zip(rows(len(groups), 3), groups, strict=True)]

    assert np.asarray(spooled(tmp_path, some("b", "a", "b"), groups="g").groups).tolist() == [1, 0, 1]
    with rejected("sample 1 has no group"):
        spooled(tmp_path, some("b", None), groups="g")
    with rejected("single value, others are arrays"):
        spooled(tmp_path, [(rows(3)[0:3], np.arange(2)), (rows(3), 1)])
    with rejected("no array 'groop'", kind=UsageError):
        spooled(tmp_path, {"x": rows(3, 3), "group": [1, 2, 3]}, groups="groop")


def test_odd_archives(tmp_path: Path) -> None:
    (tmp_path / "each").mkdir()
    (tmp_path / "each" / "1.npz").write_bytes(b"PK\x03\x04 damaged")
    with rejected("cannot read", "1.npz"):
        spooled(tmp_path, tmp_path / "each")
    np.save(tmp_path / "x.npy", rows(3, 3))
    with zipfile.ZipFile(tmp_path / "twice.npz", "w") as archive:
        archive.write(tmp_path / "x.npy", "x.npy")
        archive.write(tmp_path / "x.npy", "x")
    with rejected("two arrays of one name"):
        spooled(tmp_path, tmp_path / "twice.npz")
    with rejected("Python objects"):
        spooled(tmp_path, {"x": np.array([{}, {}], dtype=object)})
    with rejected("Python objects"):
        spooled(tmp_path, {"x": {"a": 1}})
    with rejected("no array has an axis 0"):
        spooled(tmp_path, {"x": 3.0})
