"""The command line's own promises: every command explained, none that the documents forget."""

import re
import subprocess
import sys
from importlib.metadata import version

from typer.main import get_command
from typer.testing import CliRunner

from phosphene.cli.app import app
from support.environment import ENVIRONMENT, REPOSITORY

DOCUMENTS = REPOSITORY / "docs"


def commands(group, prefix=()):
    """Every command with its words, those of groups too."""
    for name, command in group.commands.items():
        yield (*prefix, name), command
        if hasattr(command, "commands"):
            yield from commands(command, (*prefix, name))


def test_every_command_is_explained_and_documented():
    page = (DOCUMENTS / "studies.md").read_text()
    for words, command in commands(get_command(app)):
        name = " ".join(words)
        last = words[-1]
        assert command.help, name
        assert f"`phosphene {name}" in page or f"`{last}`" in page or f"`{last} STUDY`" in page, (
            name
        )
        for option in command.params:
            assert option.name in ("folder", "study") or option.help, (name, option.name)


def test_every_common_option_is_documented():
    page = (DOCUMENTS / "studies.md").read_text()
    for option in get_command(app).commands["run"].params:
        for word in option.opts:
            assert word in ("study", "--until", "--verbose") or f"`{word}" in page, word


def test_no_command_is_a_request_for_help():
    done = CliRunner().invoke(app, [])
    assert "reconstruct" in done.output and done.exit_code == 2


def test_the_version_is_shown():
    done = CliRunner().invoke(app, ["--version"])
    assert done.exit_code == 0 and done.output == f"phosphene {version('phosphene')}\n"


def test_flags_are_shown_without_a_type():
    """A flag takes no value; other options say what they take."""
    for words in (["run"], ["rate", "serve"], ["fetch", "nsd"], ["score"], []):
        shown = CliRunner().invoke(app, [*words, "--help"]).output
        assert "--help" in shown and not re.search("bool|BOOLEAN", shown), words
    assert re.search(r"--jobs\s+<?(int|INTEGER)", CliRunner().invoke(app, ["run", "--help"]).output)


def test_it_runs_as_a_module():
    command = [sys.executable, "-m", "phosphene.cli", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.stdout.startswith("phosphene ") and done.returncode == 0
