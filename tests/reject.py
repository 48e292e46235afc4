"""What every refusal must look like."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hasten.errors import HastenError, InputError


@contextmanager
def rejected(*parts: str, kind: type[HastenError] = InputError) -> Iterator[None]:
    """The block raises ``kind`` with its exit code; the text holds ``parts``, names its object and says what to do."""
    with pytest.raises(HastenError) as caught:
        yield
    error = caught.value
    assert type(error) is kind, str(error)
    assert error.exit_code == kind.exit_code
    assert error.message
    assert error.help, f"no help: {error}"
    assert "\n" not in error.message
    assert str(error).startswith("error: ")
    for part in parts:
        assert part in str(error), f"{part!r} not in\n{error}"
