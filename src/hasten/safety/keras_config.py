"""Keras archives (``.keras``): the description of the network is read before Keras sees it.

Keras makes objects of whatever classes the description names; its safe mode has been got around by class names, module
names, layers that load other files, and vocabularies that are paths. Here only classes of the list below pass, from
Keras' own modules; the compiled loss and optimizer, which may name anything and are not needed, are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hasten.errors import InputError
from hasten.safety import archive as archives

MAX_JSON = 64 << 20
KEPT = ("config.json", "metadata.json", "model.weights.h5")
TRUST = "if you made the file yourself, add --trust; for custom layers also --module package.module"
MODULE = re.compile(
    r"builtins|keras|keras\.(layers|models|initializers|regularizers|constraints|activations|dtype_policies)"
    r"|keras\.src\.(models\.(functional|sequential)|layers\.[a-z_.0-9]+|ops\.(numpy|math|nn)|dtype_policies\.dtype_policy)"
)
OPERATIONS = re.compile(r"keras\.src\.ops\.(numpy|math|nn)")
_CLASSES = """
    Functional Sequential InputLayer Dense EinsumDense Embedding Masking Identity Activation ReLU LeakyReLU
    PReLU ELU Softmax BatchNormalization LayerNormalization GroupNormalization RMSNormalization
    UnitNormalization SpectralNormalization Conv1D Conv2D Conv3D Conv1DTranspose Conv2DTranspose Conv3DTranspose
    DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D MaxPooling1D MaxPooling2D MaxPooling3D
    AveragePooling1D AveragePooling2D AveragePooling3D GlobalMaxPooling1D GlobalMaxPooling2D GlobalMaxPooling3D
    GlobalAveragePooling1D GlobalAveragePooling2D GlobalAveragePooling3D AdaptiveAveragePooling2D Add Subtract
    Multiply Average Maximum Minimum Concatenate Dot Flatten Reshape Permute RepeatVector ZeroPadding1D
    ZeroPadding2D ZeroPadding3D Cropping1D Cropping2D Cropping3D UpSampling1D UpSampling2D UpSampling3D Dropout
    SpatialDropout1D SpatialDropout2D SpatialDropout3D GaussianDropout AlphaDropout GaussianNoise
    ActivityRegularization LSTM GRU SimpleRNN LSTMCell GRUCell SimpleRNNCell StackedRNNCells RNN Bidirectional
    TimeDistributed ConvLSTM1D ConvLSTM2D MultiHeadAttention GroupQueryAttention Attention AdditiveAttention
    Rescaling Normalization Resizing CenterCrop Zeros Ones Constant RandomNormal RandomUniform TruncatedNormal
    VarianceScaling GlorotNormal GlorotUniform HeNormal HeUniform LecunNormal LecunUniform Orthogonal
    OrthogonalInitializer IdentityInitializer L1 L2 L1L2 OrthogonalRegularizer MaxNorm NonNeg UnitNorm
    MinMaxNorm DTypePolicy __keras_tensor__ __tensor__ __numpy__ __slice__ __ellipsis__ function
"""
CLASSES = frozenset(_CLASSES.split())
_FUNCTIONS = """
    relu relu6 gelu silu swish elu selu celu glu leaky_relu sigmoid hard_sigmoid hard_silu hard_swish hard_tanh
    hard_shrink log_sigmoid log_softmax softmax softplus softsign soft_shrink sparse_plus sparsemax squareplus
    tanh tanh_shrink threshold exponential linear mish
"""
FUNCTIONS = frozenset(_FUNCTIONS.split())


def check_keras(path: Path, target: Path) -> None:
    """Check the archive at ``path`` and write what serves inference to ``target``.

    Raises:
        InputError: it names something that could run code or touch files, or is damaged.
    """
    with archives.opened(path) as archive:
        try:
            config = json.loads(archives.read(archive, "config.json", MAX_JSON))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path.name} is damaged", cause=str(error)[:200], help=archives.AGAIN) from error
        if not isinstance(config, dict) or "class_name" not in config:
            raise InputError(f"{path.name} is damaged", cause="config.json is no network", help=archives.AGAIN)
        if "model.weights.h5" not in archive.namelist():
            raise InputError(f"{path.name} has no weights", cause="no model.weights.h5", help=archives.AGAIN)
        config.pop("compile_config", None)
        for entry in _dicts(config):
            _check_entry(entry, path)
        archives.repack(archive, target, lambda name: name if name in KEPT[1:] else None)
        archives.add(target, "config.json", json.dumps(config).encode())


def _check_entry(entry: dict[str, Any], path: Path) -> None:
    name = entry.get("name")
    if isinstance(name, str) and (".." in name or "\\" in name or name.startswith("/") or "\0" in name):
        raise refusal(path, f"a layer is called {name!r:.80}")
    if "class_name" not in entry:
        return
    kind, module, known_as = entry["class_name"], entry.get("module"), entry.get("registered_name")
    told = f"{module}.{kind}" if module else f"{kind}"
    own = isinstance(kind, str) and (kind in CLASSES or bool(OPERATIONS.fullmatch(str(module))))
    if not own or not (module is None or (isinstance(module, str) and MODULE.fullmatch(module))):
        raise refusal(path, f"{told!r:.100} is not one of Keras' plain layers")
    if kind == "function" and entry.get("config") not in FUNCTIONS:
        raise refusal(path, f"the function {entry.get('config')!r:.80}")
    if known_as not in (None, kind, entry.get("config")):
        raise refusal(path, f"{told!r:.80} is registered as {known_as!r:.80}")


def refusal(path: Path, cause: str) -> InputError:
    """The one message for a Keras file that may hold code."""
    return InputError(f"{path.name} could run code when it is loaded", cause=cause, help=TRUST)


def _dicts(root: Any) -> Iterator[dict[str, Any]]:
    """Every dict of nested JSON, without recursion."""
    pending = [root]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            yield value
            pending += value.values()
        elif isinstance(value, list):
            pending += value


def check_weights(file: Any, path: Path, size: int) -> None:
    """Walk an open ``h5py.File`` of ``size`` bytes: plain groups and arrays that fit into it, nothing that leads away.

    Raises:
        InputError: a link, a virtual array or one kept in another file, or more bytes than the file has.
    """
    total, seen, pending = 0, 0, [file["/"]]
    while pending:
        group = pending.pop()
        for name in group:
            seen += 1
            link = group.get(name, getlink=True)
            if type(link).__name__ != "HardLink":
                raise refusal(path, f"weights {name!r:.60} are a link to elsewhere")
            item = group[name]
            if hasattr(item, "keys"):
                pending.append(item)
                continue
            if item.external or item.is_virtual:
                raise refusal(path, f"weights {name!r:.60} are kept in another file")
            total += item.nbytes
        if total > archives.MAX_RATIO * size + archives.MAX_SLACK or seen > 1_000_000:
            cause = f"its {size:,} bytes claim {total:,} of weights in {seen:,} entries"
            raise InputError(f"{path.name} is damaged", cause=cause, help=archives.AGAIN)
