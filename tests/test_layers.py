"""Who may import whom, and what must not be imported too early."""

from __future__ import annotations

from support.environment import REPOSITORY


def test_every_import_goes_down(start_python) -> None:
    # in a process of its own: import-linter silences every logger that exists
    code = (
        "import sys; from importlinter.cli import lint_imports; "
        "raise SystemExit(lint_imports(config_filename=sys.argv[1], no_cache=True))"
    )
    process = start_python(code, REPOSITORY / "pyproject.toml")
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, out + errors


def test_the_foundation_is_imported_without_heavy_libraries(start_python) -> None:
    code = (
        "import sys, phosphene.study, phosphene.pipeline.store, phosphene.pipeline.parallel; "
        "print(sorted({'numpy', 'pandas', 'zarr', 'torch', 'joblib', 'dask', 'tomlkit'} & "
        "set(sys.modules)))"
    )
    out, errors = start_python(code).communicate(timeout=60)
    assert out.strip() == "[]", errors
