"""`jaxem select`: a grid of models on the command line, against the library itself."""

import json

import numpy as np
import pandas
import pytest
from command_line import assert_refused

from jaxem import Mixture, Poisson, cli, load, select
from jaxem.commands.grid import grid_of

RNG = np.random.default_rng(3)
COUNTS = RNG.poisson(np.where(np.arange(60) < 36, 2.0, 9.0))


@pytest.fixture
def sheet(tmp_path):
    path = tmp_path / "sheet.csv"
    pandas.DataFrame({"count": COUNTS, "w": 1 + np.arange(60) % 2}).to_csv(path, index=False)
    return path


MIXTURE = ["--model", "mixture", "--family", "poisson", "--columns", "count", "--restarts", "3"]


def test_a_grid(sheet, tmp_path, capsys):
    out, saved, picture = tmp_path / "table.json", tmp_path / "best.npz", tmp_path / "criteria.png"
    given = ["--components", "1-2", "--weights", "w", "--criterion", "aic"]
    written = ["--output", str(out), "--save", str(saved), "--plot", str(picture)]
    assert cli.main(["select", str(sheet), *MIXTURE, *given, *written]) == 0
    own = select([Mixture(Poisson(), k) for k in (1, 2)], COUNTS[:, None].astype(float), "aic", restarts=3,
                 weights=1.0 + np.arange(60) % 2)  # fmt: skip
    table = json.loads(out.read_text())
    assert (table["n"], table["counts"], table["criterion"], table["folds"]) == (90, "row", "aic", None)
    assert table["chosen"] == "Mixture(Poisson, 2)"
    for theirs, ours in zip(table["models"], own.table, strict=True):
        assert theirs.pop("cv_log_likelihood") is None  # no folds
        assert theirs == pytest.approx({name: value for name, value in {**ours._asdict(), "seconds": theirs["seconds"]}.items()
                                        if name != "cv_log_likelihood"})  # fmt: skip
    assert str(own) in capsys.readouterr().out
    assert picture.read_bytes().startswith(b"\x89PNG")
    kept = load(saved)
    assert kept.model.n_components == 2
    np.testing.assert_allclose(kept.params.components.rate, own.best_fit.params.components.rate)
    assert cli.main(["predict", str(saved), str(sheet), "-o", str(tmp_path / "new.csv")]) == 0


def test_all_shapes_are_asked_for():
    parser = cli._parser()
    options = parser.parse_args(["select", "x.csv", "--components", "1-3,8", "--covariance", "all"])
    grid = grid_of(options)
    assert len(grid) == 4 * 14
    assert {each.components for each in grid} == {1, 2, 3, 8}
    assert {each.covariance for each in grid} >= {"EII", "VEV", "VVV"}


def test_a_model_that_cannot_be_fitted_is_told(sheet, capsys):
    assert cli.main(["select", str(sheet), *MIXTURE, "--components", "61"]) == 1
    assert "no model has a finite criterion" in capsys.readouterr().out


REFUSED = {
    "--components: --model gaussian-mixture needs it": ["--columns", "count"],
    "found '3-1'; give a range": ["--components", "3-1"],
    "found 'x'; give a whole number": ["--components", "1,x"],
    "found 'VEX'; use all, or some of": ["--components", "2", "--covariance", "VEX"],
    "--covariance: --model mixture does not take it": [*MIXTURE, "--components", "2", "--covariance", "all"],
    "invalid choice: 'BIC'": ["--components", "2", "--criterion", "BIC"],
    "needs a number of folds": [*MIXTURE, "--components", "2", "--criterion", "cv_log_likelihood"],
    "folds: found 99 for 60 rows": [*MIXTURE, "--components", "2", "--folds", "99"],
    "unknown kind of picture": [*MIXTURE, "--components", "2", "--plot", "x.bmp"],
}


@pytest.mark.parametrize("message", REFUSED)
def test_refused(message, sheet, capsys):
    assert_refused(cli.main(["select", str(sheet), *REFUSED[message]]), capsys, message)
