"""Which certificate is required: asked for, checked, recorded, and asked again by verify."""

from __future__ import annotations

from pathlib import Path

import pytest

from hasten.budget import Budget, parse_budget
from hasten.cli import main
from hasten.errors import UsageError
from hasten.report import story
from hasten.result_files import read_manifest
from hasten.trial import summary
from tests import result_folders, results


def test_a_budget_reads_the_certificate() -> None:
    assert parse_budget("1%").certificate == "statistical"
    assert parse_budget("1%", certificate="guaranteed") == Budget(certificate="guaranteed")
    own = Budget(certificate="guaranteed")
    assert parse_budget(own).certificate == parse_budget(own, certificate="guaranteed").certificate == "guaranteed"
    with pytest.raises(UsageError, match="no certificate is called 'proof'"):
        parse_budget("1%", certificate="proof")


def test_the_command_line_names_both(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["optimize", "m.onnx", "--certificate", "proof"]) == 2
    shown = capsys.readouterr().err
    assert "'statistical'" in shown
    assert "'guaranteed'" in shown


def test_the_question_is_recorded(tmp_path: Path) -> None:
    out = result_folders.write(tmp_path, certificate="guaranteed")
    asked = read_manifest(out).question
    assert asked is not None
    assert asked.certificate == "guaranteed"


def test_a_result_says_its_grade() -> None:
    assert results.met().certificate == summary(results.met())["certificate"] == "guaranteed"
    assert results.tested().certificate == "statistical"
    assert results.undecided().certificate == results.nothing_faster().certificate == "none"


def test_both_bounds_are_in_words() -> None:
    seen = results.tested().winner.confirm
    assert seen is not None
    some, sure = story.grades(results.tested(), seen)
    assert (some.bound, some.inside) == ("at most 0.60 points", True)
    assert (sure.bound, sure.inside) == ("at most 3.10 points", False)
