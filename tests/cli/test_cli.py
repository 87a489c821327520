"""The command line's own promises: every command explained, none that the documents forget."""

from typer.main import get_command
from typer.testing import CliRunner

from phosphene.cli.app import app
from support.environment import REPOSITORY

DOCUMENTS = REPOSITORY / "docs"


def test_every_command_is_explained_and_documented():
    page = (DOCUMENTS / "studies.md").read_text()
    for name, command in get_command(app).commands.items():
        assert command.help, name
        assert f"`phosphene {name}" in page or f"`{name}`" in page or f"`{name} STUDY`" in page, (
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
