"""Help of the command line: it fits a terminal, tells the defaults, and its examples run as they stand."""

import argparse
import shlex
import subprocess

import pytest

from jaxem import catalogue, cli
from jaxem.commands.grid import grid_of

COST = {"models": [], "select": pytest.mark.thorough, "compare": pytest.mark.thorough, "impute": pytest.mark.thorough}


def parsers():
    """Each command's parser by its name."""
    actions = cli._parser()._subparsers._group_actions
    return next(action for action in actions if isinstance(action, argparse._SubParsersAction)).choices


def example_of(command):
    """Lines that are to be typed."""
    epilog = parsers()[command].epilog or ""
    return [line.strip() for line in epilog.splitlines() if line.startswith("  ")]


COMMANDS = [pytest.param(name, marks=COST.get(name, pytest.mark.slow)) for name in parsers()]


@pytest.mark.parametrize("command", COMMANDS)
def test_examples_run(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    typed = example_of(command)
    assert any(line.startswith(f"jaxem {command}") for line in typed)
    for line in typed:
        first, *arguments = shlex.split(line)
        if first == "jaxem":
            assert cli.main(arguments) == 0, line
        else:
            assert first == "printf"
            subprocess.run(["sh", "-c", line], check=True, timeout=10)
    capsys.readouterr()
    promised = {word for line in typed for word in shlex.split(line) if word.endswith((".csv", ".npz", ".png", ".html"))}
    assert all((tmp_path / name).stat().st_size > 0 for name in promised)


@pytest.mark.parametrize("command", list(parsers()))
def test_examples_name_options_that_there_are(command):
    for line in example_of(command):
        first, *arguments = shlex.split(line)
        if first == "jaxem":
            options = cli._parser().parse_args(arguments)
            if hasattr(options, "model") and isinstance(options.model, str):
                catalogue.check_options(grid_of(options)[0] if hasattr(options, "criterion") else options)


@pytest.mark.parametrize("command", [None, *parsers()])
def test_it_fits_a_terminal(command, monkeypatch, capsys):
    """No line is longer than 80 columns but what is to be typed; no option is without a word."""
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as done:
        cli.main([*([command] if command else []), "--help"])
    assert done.value.code == 0
    told = capsys.readouterr().out
    long = [line for line in told.splitlines() if len(line) > 80]
    assert not [line for line in long if line.strip() not in (example_of(command) if command else [])]
    parser = parsers()[command] if command else cli._parser()
    assert all(action.help for action in parser._actions if action.help is not argparse.SUPPRESS and action.dest != "command")
    assert parser.description


def test_every_default_is_told():
    """An option with a default says which."""
    for command, parser in parsers().items():
        for action in parser._actions:
            silent = action.default in (None, argparse.SUPPRESS, False)
            assert silent or "default: " in action.help, (command, action.dest)


def test_models_are_listed(capsys):
    assert cli.main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) < 80
    assert "    --components [--covariance] [--prior] [--columns]" in lines
