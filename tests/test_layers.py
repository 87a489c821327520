"""Who may import whom, and what must not be imported too early."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_every_import_goes_down(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(ROOT / "src"))
    assert lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True) == EXIT_STATUS_SUCCESS


def test_the_foundation_is_imported_without_heavy_libraries(start_python) -> None:
    code = (
        "import sys, phosphene.study, phosphene.store, phosphene.parallel; "
        "print(sorted({'numpy', 'pandas', 'zarr', 'torch', 'joblib', 'dask', 'tomlkit'} & set(sys.modules)))"
    )
    out, errors = start_python(code).communicate(timeout=60)
    assert out.strip() == "[]", errors
