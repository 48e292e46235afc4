"""Which settings an engine may be given by a file: those that the engine declares in ``SETTINGS``, and no others."""

from __future__ import annotations

from collections.abc import Mapping

from hasten import registry
from hasten.errors import HastenError, InputError, did_you_mean
from hasten.protocols import Allowed
from hasten.trial import Scalar

LONGEST = 4096  # characters of a setting that is free text
OWN_RECIPE = "use the recipe that hasten wrote"


def check_settings(engine: str, settings: Mapping[str, Scalar], where: object, *, trust: bool) -> None:
    """Refuse settings of ``engine`` that the file ``where`` must not make.

    An engine that declares none takes any with ``trust`` and none without.

    Raises:
        InputError: a setting is unknown, of another type or out of range, or lets code run without ``trust``.
    """
    if trust and engine not in registry.names("engines"):
        return  # the user's own module, which is imported where it runs
    module = registry.find("engines", engine)
    declared: Mapping[str, Allowed] | None = getattr(module, "SETTINGS", None)
    if declared is None and trust:
        return
    for name, value in settings.items():
        if declared is None or name not in declared:
            what = f"{where} sets {name!r:.80}, which {engine} does not take from a file"
            raise InputError(
                what, help=did_you_mean(name[:80], declared or {}) if declared else "--trust, if it is yours"
            )
        _check_value(engine, name, value, declared[name], where)
    code = [name for name in settings if name in getattr(module, "CODE", ())]
    if code and not trust:
        cause = f"the setting {code[0]!r} of {engine} lets code inside the network run"
        raise InputError(f"{where} asks for trust", cause=cause, help="--trust, if the file is yours")


def _check_value(engine: str, name: str, value: Scalar, allowed: Allowed, where: object) -> None:
    said = f"{where} sets {name!r} of {engine} to {value!r:.80}"
    if isinstance(allowed, range):
        if type(value) is not int or value not in allowed:
            wanted = f"a whole number from {allowed.start} to {allowed.stop - 1}"
            raise InputError(said, cause=f"it is {wanted}", help=OWN_RECIPE)
    elif isinstance(allowed, tuple):
        if not any(value == one and type(value) is type(one) for one in allowed):
            raise InputError(said, cause=f"it is one of {', '.join(map(repr, allowed))}", help=OWN_RECIPE)
    elif allowed is str:
        if not isinstance(value, str) or len(value) > LONGEST:
            raise InputError(said, cause="it is a short text", help=OWN_RECIPE)
    else:
        try:
            allowed(value)
        except HastenError as fault:
            raise InputError(said, cause=f"{fault.message}: {fault.cause}", help=fault.help) from fault


def native(engine: str, settings: Mapping[str, Scalar]) -> bool:
    """True when the file that ``engine`` serves with these settings holds a compiled library."""
    name = getattr(registry.find("engines", engine), "NATIVE", None)
    return name is not None and bool(settings.get(name))
