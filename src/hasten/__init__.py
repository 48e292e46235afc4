"""The fastest version of your network that passes a test of your accuracy budget, on your machine.

>>> import hasten
>>> hasten.Budget(limit=0.01).max_drop
0.01
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hasten.budget import Budget
from hasten.errors import EnvironmentFault, HastenError, InputError, Stopped, UsageError

if TYPE_CHECKING:
    from hasten.api import apply, bench, doctor, inspect, optimize, prove, verify
    from hasten.trial import Result

# from 1.29 on, ONNX Runtime reports its use over the network and keeps a file in the temporary folder
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"

__all__ = [
    "Budget",
    "EnvironmentFault",
    "HastenError",
    "InputError",
    "Result",
    "Stopped",
    "UsageError",
    "apply",
    "bench",
    "doctor",
    "inspect",
    "optimize",
    "prove",
    "verify",
]

_LATER = dict.fromkeys(("apply", "bench", "doctor", "inspect", "optimize", "prove", "verify"), "hasten.api")
_LATER["Result"] = "hasten.trial"


def __getattr__(name: str) -> Any:
    """The verbs load when they are first used, so that importing the package stays cheap."""
    if name not in _LATER:
        raise AttributeError(f"module 'hasten' has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
