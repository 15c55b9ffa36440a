"""What a person at a terminal is told of long work, and that nobody else is."""

import io
import math
import os
import pty
import subprocess
import sys

import pytest
from rich.console import Console

from jaxem import cli, commands
from jaxem.commands.progress import Watch, clock_time
from jaxem.compare import CompareProgress
from jaxem.fit import Progress
from jaxem.selection import SelectProgress

TABLE = "a,b\n1,2\n2,4\n3,3\n2,2\n1,3\n8,9\n9,8\n7,7\n8,\n9,9\n"
MODEL = ["--model", "single", "--family", "exponential", "--columns", "a"]


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def watch(clock):
    return Watch(clock)


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(TABLE)
    return str(path)


@pytest.fixture
def terminal(monkeypatch):
    """Lines that were told of, in order, by a run in process on what looks like a terminal."""
    on_terminal(monkeypatch)
    seen = []
    for name in ("begin", "item", "fitting"):
        tell = getattr(Watch, name)

        def told(self, *arguments, tell=tell):
            tell(self, *arguments)
            seen.append(self.line())

        monkeypatch.setattr(Watch, name, told)
    return seen


def on_terminal(monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)


def drawn(watch, width=200):
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    console.print(watch)
    return console.file.getvalue()


def running(finished, lanes, steps=32, objective=-12.5, gap=3e-4):
    return Progress(finished, lanes, steps, objective, gap)


# what the line says


def test_a_fit(watch, clock):
    """Time left stands on the restarts that ended since the first steps, which leaves compilation out."""
    watch.begin("Mixture(Poisson(), 3)")
    assert drawn(watch) == "Mixture(Poisson(), 3); 0:00\n"
    clock.now += 30
    watch.fitting(running(0, 10, steps=0, objective=math.nan, gap=math.inf))
    assert drawn(watch) == "Mixture(Poisson(), 3); compiling; 0 of 10 restarts done; 0:30\n"
    watch.fitting(running(0, 10))
    clock.now += 6
    watch.fitting(running(3, 10, steps=48))
    said = "Mixture(Poisson(), 3); step 48; 3 of 10 restarts done; log-likelihood -12.5000, left to gain 3.0e-04; "
    assert drawn(watch) == said + "0:36, about 0:14 left\n"  # 7 of 2 s each
    clock.now += 1
    assert watch.line().endswith("0:37, about 0:13 left")
    clock.now += 60  # the one that runs takes longer than the mean: those after it are still to come
    assert watch.line().endswith("1:37, about 0:12 left")
    watch.fitting(running(10, 10, steps=900))
    assert watch.line().endswith("3.0e-04; 1:37")
    watch.fitting(running(0, 1, steps=16))  # polished alone
    clock.now += 9
    watch.fitting(running(0, 1, steps=32))
    assert "restarts" not in watch.line()
    assert watch.line().endswith("; 1:46")


def test_refits(watch):
    """None is the best of them, so that no log-likelihood is told."""
    watch.begin("standard errors by bootstrap", "refits")
    watch.fitting(running(7, 200))
    assert watch.line() == "standard errors by bootstrap; step 32; 7 of 200 refits done; 0:00"


def test_models(watch, clock):
    watch.begin("")
    names = [f"Mixture(Poisson(), {k}) [{k}]" for k in (1, 2, 3)]
    watch.selecting(SelectProgress(0, 3, names[0], None, math.nan))
    assert drawn(watch) == "Mixture(Poisson(), 1) [1], 1 of 3; 0:00\n"
    clock.now += 10
    watch.selecting(SelectProgress(1, 3, names[1], names[0], 70.25))
    best = "best so far Mixture(Poisson(), 1) [1], 70.250"
    assert drawn(watch) == f"Mixture(Poisson(), 2) [2], 2 of 3; {best}; 0:10, about 0:20 left\n"
    watch.fitting(running(1, 4))
    assert watch.line().startswith("Mixture(Poisson(), 2) [2], 2 of 3; step 32; 1 of 4 restarts done; log-likelihood -12.5")
    assert watch.line().endswith("about 0:20 left")
    clock.now += 4
    watch.selecting(SelectProgress(2, 3, names[2], names[0], 70.25))
    assert watch.line().endswith("0:14, about 0:07 left")
    assert "step" not in watch.line()
    clock.now += 8  # the last one takes longer than the others did: nobody knows how much
    assert watch.line().endswith("; 0:22")
    watch.selecting(SelectProgress(3, 3, None, names[0], 70.25))
    assert "3 of 3" in watch.line()


def test_algorithms(watch):
    watch.comparing(CompareProgress(0, 2, "em", -math.inf))
    assert watch.line() == "em, 1 of 2; 0:00"
    watch.comparing(CompareProgress(1, 2, "adam", -3.0))
    assert watch.line().startswith("adam, 2 of 2; best log-likelihood so far -3.0000; ")


def test_clock_times():
    assert [clock_time(each) for each in (0.4, 59.6, 754, 3723)] == ["0:00", "1:00", "12:34", "1:02:03"]


def test_narrow_terminals_lose_nothing(watch):
    watch.begin("Mixture(Poisson(), 3)")
    watch.fitting(running(1, 4))
    assert " ".join(drawn(watch, 40).split()) == watch.line()


# who is told


def test_fit_tells(rows, terminal):
    assert cli.main(["fit", rows, *MODEL]) == 0
    assert terminal[0] == "Single(Exponential); 0:00"
    assert "step 2; log-likelihood -26.0944, left to gain 0.0e+00; " in terminal[-1]  # 10 log(10 / 50) - 10


def test_select_tells(rows, terminal):
    assert cli.main(["select", rows, *MODEL]) == 0
    assert "Single(Exponential), 1 of 1; 0:0" in terminal[1]


def test_compare_tells(rows, terminal):
    assert cli.main(["compare", rows, *MODEL, "--algorithms", "em,ecm"]) == 0
    told = [line for line in terminal if "of 2" in line]
    assert told[0].startswith("em, 1 of 2; ")
    assert told[1].startswith("ecm, 2 of 2; best log-likelihood so far -")


@pytest.mark.slow
def test_bootstrap_tells(rows, terminal):
    assert cli.main(["fit", rows, *MODEL, "--se", "bootstrap", "--draws", "5"]) == 0
    assert any(line.startswith("certificate; ") for line in terminal)
    assert "5 of 5 refits done; " in terminal[-1]
    assert terminal[-1].startswith("standard errors by bootstrap; step ")


@pytest.mark.slow
def test_impute_tells(rows, terminal, tmp_path):
    arguments = ["impute", rows, "--model", "gaussian", "--covariance", "diagonal", "--draws", "3", "-o", str(tmp_path / "out.csv")]
    assert cli.main(arguments) == 0
    assert "3 of 3 refits done; " in terminal[-1]
    assert terminal[-1].startswith("3 imputations by bootstrap; step ")


def test_quiet_and_pipes_are_told_nothing(rows, terminal, monkeypatch):
    """Nobody asks for progress, nor for rich."""
    monkeypatch.setattr(commands.progress, "need", lambda package: pytest.fail(package))
    assert cli.main(["fit", rows, *MODEL, "--quiet"]) == 0
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    assert cli.main(["fit", rows, *MODEL]) == 0
    assert cli.main(["compare", rows, *MODEL, "--algorithms", "em"]) == 0
    assert terminal == []


def test_without_rich(rows, monkeypatch, capsys):
    on_terminal(monkeypatch)
    monkeypatch.setitem(sys.modules, "rich", None)
    assert cli.main(["fit", rows, *MODEL]) == 2
    assert "rich is not installed" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_terminal(rows):
    """The line moves on stderr, and is gone when the account is printed."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "jaxem", "fit", rows, *MODEL]
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "200"})
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.wait(timeout=60) == 0
    text = shown.decode()
    assert "Single(Exponential); 0:0" in text
    account = text[text.index("CONVERGED") :]
    assert "\x1b[?25h" in text[: text.index("CONVERGED")]  # the cursor is shown again
    assert "restarts done" not in account
