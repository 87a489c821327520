"""The human study: which of two reconstructions is more like the photograph?"""

from __future__ import annotations

from importlib.util import find_spec

from phosphene.errors import PhospheneError

PACKAGES = ("starlette", "uvicorn", "sqlalchemy", "jinja2", "statsmodels")


def check_installed(packages: tuple[str, ...] = PACKAGES) -> None:
    """Say in one sentence which packages of the extra ``ratings`` are missing, before one of them
    is imported.
    """
    if missing := [name for name in packages if find_spec(name) is None]:
        raise PhospheneError(
            f"the human study needs {', '.join(missing)}, not found in this Python; `pip install "
            "'phosphene[ratings]'`"
        )
