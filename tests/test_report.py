"""The page that tells a fit: its story and numbers, what it warns of, and how a browser shows it."""

import base64
import re
from html import unescape
from html.parser import HTMLParser

import browser
import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
from command_line import assert_refused
from jax.scipy.stats import poisson
from scipy import stats

import jaxem
from jaxem import Gaussian, Mixture, Stop, cli, fit, report, select
from jaxem.domains import Positive, Unit
from jaxem.doubts import doubts, kolmogorov_distance
from jaxem.evidence import gather
from jaxem.view import view_of

CHAPTERS = [
    "The data", "The models tried, and why this one", "The estimates", "Whether this is the maximum", "How well the model fits",
    "What to distrust",
]  # fmt: skip
NAMES = ["age", "income <script>alert(1)</script> & a very long name of a column that will not fit"]


def data():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(90, 2)) + rng.integers(0, 2, (90, 1)) * [6.0, 4.0]
    y[rng.random(y.shape) < 0.1] = np.nan
    return pandas.DataFrame(y, columns=NAMES)


@pytest.fixture(scope="module")
def told():
    """A selection, and the page of its best."""
    y = data()
    found = select((Mixture(Gaussian("diagonal"), k) for k in (1, 2)), y, restarts=3)
    return y, found, report(found.best_fit, found.best, y, selection=found, made="jaxem report rows.csv").html


class Tables(HTMLParser):
    """The tables of a page as lists of cells, and the tags that were opened and not closed."""

    def __init__(self, html):
        super().__init__()
        self.tables, self.open, self._cell = [], [], None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self._cell = ""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag in ("td", "th"):
            self.tables[-1][-1].append(self._cell)
            self._cell = None

    def handle_data(self, text):
        if self._cell is not None:
            self._cell += text


def test_the_story(told):
    """Chapters in order, the numbers of the fit and of its selection, names as they are and never as tags."""
    y, found, html = told
    assert re.findall("<h2>(.*?)</h2>", html) == CHAPTERS
    page = Tables(html)
    assert page.open == []  # every tag is closed
    columns, models, parameters, errors, *_ = page.tables
    assert [line[0] for line in columns[1:]] == NAMES
    assert [line[1] for line in columns[1:]] == [str(count) for count in y.notna().sum()]
    assert models[1][0] == "Mixture(Gaussian(diagonal), 2)"
    assert [float(line[1]) for line in models[1:]] == pytest.approx(sorted(found.values), abs=0.006)
    weights = found.best_fit.params.weights
    assert [float(cell) for cell in parameters[1][1:]] == pytest.approx(np.asarray(weights), abs=6e-5)
    inference = jaxem.standard_errors(found.best, found.best_fit.params, y)
    assert [float(line[2]) for line in errors[1:]] == pytest.approx([each["std_err"] for each in inference.records()], rel=6e-4)
    text = unescape(html)
    assert str(jaxem.certificate(found.best, found.best_fit, y)).splitlines()[0] in text
    assert "The largest number of components that was tried (2) was chosen" in text
    assert "missing at random" in text
    assert "jaxem report rows.csv" in text


def test_the_page_stands_alone(told):
    """Nothing is fetched and nothing runs: no script, no address but those inside, and each picture is a PNG."""
    html = told[2]
    assert not re.search(r"<script|<link|https?:|@import|url\(|\son\w+=", html)
    pictures = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]+)"', html)
    assert len(pictures) == html.count("<img") >= 7
    assert all(base64.b64decode(code).startswith(b"\x89PNG") for code, _ in pictures)


@pytest.mark.skipif(browser.browser() is None, reason="no browser is installed")
@pytest.mark.parametrize("width", [390, 1200])
def test_in_a_browser(told, tmp_path, width):
    """No complaint of the browser, every picture drawn within the page, nothing to scroll sideways, even on a telephone."""
    seen = browser.look(told[2], width, tmp_path)
    assert seen["console"] == seen["wrong"] == seen["cut"] == []
    assert seen["width"] == width
    assert seen["scroll"] <= width
    assert seen["headings"] == CHAPTERS
    assert len(seen["images"]) == told[2].count("<img")
    for words, own, shown in seen["images"]:
        assert own > 300, words
        assert 250 < shown <= width, words


@pytest.mark.skipif(browser.browser() is None, reason="no browser is installed")
def test_the_browser_would_tell(tmp_path):
    """What the test above looks for is found where it is."""
    page = '<main><img src="data:image/png;base64,AAAA" alt="broken"><p style="width:900px">wide</p></main>'
    seen = browser.look(f"{page}<script>missing()</script>", 390, tmp_path)
    assert seen["images"][0][:2] == ["broken", 0]
    assert seen["scroll"] > 390
    assert "wide" in seen["cut"][0]
    assert "missing is not defined" in seen["console"][0]


def test_what_is_distrusted(told):
    """Each doubt is raised where there is reason to, and a failed fit is called one."""
    y, found, _ = told
    model, fitted = found.best, found.best_fit
    view = view_of(y)
    evidence = gather(fitted, model, y, view)
    assert not doubts(evidence).beware
    assert "stands at a maximum" in doubts(evidence).verdict
    cloud = np.random.default_rng(3).normal(size=y.shape)  # in which two components are hard to find
    early = fit(model, cloud, key=0, restarts=3, stop=Stop(max_steps=3))
    why = doubts(gather(early, model, cloud, view_of(cloud)))
    assert why.beware
    assert why.verdict == "This fit is not to be relied on as it stands."
    assert any("MAX_STEPS" in line for line in why.told)
    assert any("polish" in line for line in why.told)
    alone = fit(model, y, key=0)
    assert any("one start only" in line for line in doubts(gather(alone, model, y, view)).told)
    collapsed = fitted._replace(status=jnp.asarray(jaxem.Status.DEGENERATE), degenerate=jnp.array([True, False]))
    why = doubts(gather(collapsed, model, y, view))
    assert why.verdict.startswith("This fit failed")
    assert "Collapsed: component 0" in why.first[0]
    level = y.assign(**{NAMES[0]: 3.0})
    assert "age holds one value only" in " ".join(doubts(gather(collapsed, model, level, view_of(level))).told)


def test_misfit_is_told():
    """Residuals that are not normal, and single cells far out: distances as scipy's."""
    z = np.random.default_rng(1).standard_t(2, size=(400, 2))
    assert kolmogorov_distance(np.sort(z[:, 0])) == pytest.approx(stats.kstest(z[:, 0], "norm").statistic, rel=1e-12)
    z[:, 1] = np.random.default_rng(1).normal(size=400)
    y = pandas.DataFrame(z, columns=["heavy", "good"])
    model = Mixture(Gaussian("diagonal"), 1)
    evidence = gather(fit(model, y), model, y, view_of(y))
    told = " ".join(doubts(evidence).told)
    assert "residuals of heavy are not normal" in told
    assert "of heavy lie" in told
    assert "of good" not in told


def log_joint(params, z, y):
    """Counts with more zeros than a Poisson distribution has."""
    zero = jnp.log(params["zero"]) + jnp.where(y == 0, 0, -jnp.inf)
    return jnp.where(z == 0, zero, jnp.log1p(-params["zero"]) + poisson.logpmf(y, params["rate"]))


def models_of_all_kinds():
    rng = np.random.default_rng(2)
    states = np.arange(80) % 40 < 20
    x = rng.normal(size=(80, 1))
    times, ends = rng.weibull(1.5, 80) * 10, rng.uniform(2, 20, 80)
    answers = pandas.DataFrame(rng.choice(["yes", "no"], (80, 3)), columns=["a", "b", "c"])
    return {
        "hidden-markov": (jaxem.HiddenMarkov(jaxem.Poisson(), 2), rng.poisson(np.where(states, 3, 12)).astype(float)),
        "latent-class": (Mixture(jaxem.Categorical(), 2), answers),
        "regression": (Mixture(jaxem.LinearRegression(), 2), jaxem.Regression(x[:, 0] * np.where(states, 2, -2), x)),
        "survival": (
            jaxem.Single(jaxem.CensoredRegression("weibull")),
            jaxem.Regression(jaxem.Interval(np.minimum(times, ends), np.where(times <= ends, times, np.inf)), x),
        ),
        "factors": (jaxem.FactorAnalysis(1), rng.normal(size=(80, 1)) @ np.ones((1, 4)) + rng.normal(size=(80, 4))),
        "level": (jaxem.local_level(), 50 + np.cumsum(rng.normal(size=60))),
        "own": (
            jaxem.Latent(log_joint, {"zero": Unit(), "rate": Positive()}, n_states=2),
            np.repeat([0, 1, 2, 3, 4], [30, 9, 20, 12, 7]),
        ),
        "selected": (
            jaxem.HeckmanSelection(),
            jaxem.Regression(np.where(x[:, 0] + rng.normal(size=80) > 0, 1 + x[:, 0] + rng.normal(size=80), np.nan), x, gate=x),
        ),
        "directions": (Mixture(jaxem.VonMisesFisher(), 2), _unit(rng.normal([3.0, 0, 0], size=(80, 3)))),
        "many-components": (Mixture(jaxem.Poisson(), 20), rng.poisson(5, (60, 1)).astype(float)),
        "many-columns": (jaxem.Single(Gaussian("diagonal")), rng.normal(size=(60, 50))),
    }


def _unit(y):
    return y / np.linalg.norm(y, axis=1, keepdims=True)


LONG = [pytest.param(name, marks=pytest.mark.slow) for name in ("hidden-markov", "survival")]
LONGER = ("many-components", "latent-class", "regression", "factors", "level", "own", "selected", "directions", "many-columns")


@pytest.mark.parametrize("name", [*LONG, *(pytest.param(name, marks=pytest.mark.thorough) for name in LONGER)])
def test_every_kind_of_model(name, tmp_path):
    model, y = models_of_all_kinds()[name]
    fitted = fit(model, y, key=0, restarts=2 if model.needs_key else 1, stop=Stop(max_steps=100))
    page = report(fitted, model, y)
    page.save(tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert html == page.html
    assert re.findall("<h2>(.*?)</h2>", html) == CHAPTERS
    assert "nan" not in re.sub("<[^>]*>", " ", html).split()
    if browser.browser() is not None:
        seen = browser.look(html, 390, tmp_path)
        assert seen["console"] == seen["cut"] == []
        assert all(own > 300 for _, own, _ in seen["images"])


def test_bad_input(told):
    y, found, _ = told
    model, fitted = found.best, found.best_fit
    with pytest.raises(TypeError, match=r"fit: found Mixture; call report\(fit, model, data\)"):
        report(model, fitted, y)
    with pytest.raises(TypeError, match="batch of fits"):
        report(jax.tree.map(lambda leaf: jnp.stack([leaf]), fitted), model, y)
    with pytest.raises(TypeError, match="model: found DataFrame"):
        report(fitted, y, model)
    with pytest.raises(TypeError, match="selection: found list"):
        report(fitted, model, y, selection=[model])
    with pytest.raises(TypeError, match="data: are prepared"):
        report(fitted, model, jaxem.prepare(model, y))


def test_the_command(tmp_path, capsys):
    path, out = tmp_path / "rows.csv", tmp_path / "page.html"
    data().set_axis(["a", "b"], axis=1).to_csv(path, index=False)
    line = ["report", str(path), "--components", "1-2", "--covariance", "diagonal", "--restarts", "3", "-o", str(out)]
    assert cli.main([*line, "--title", "Ages & incomes"]) == 0
    said, _ = capsys.readouterr()
    assert said.startswith("Mixture(Gaussian(diagonal), 2): CONVERGED")
    assert str(out) in said
    html = out.read_text(encoding="utf-8")
    assert "<h1>Ages &amp; incomes</h1>" in html
    assert "--components 1-2" in html
    assert "2 models were fitted" in html
    assert_refused(cli.main([*line, "--level", "2"]), capsys, "--level")
    assert_refused(cli.main([*line[:-1], str(path)]), capsys, "a file of its own")
    assert_refused(cli.main([*line[:-1], str(tmp_path / "nowhere" / "page.html")]), capsys, "nowhere")
