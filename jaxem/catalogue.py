"""The models that the command line knows by name, as data: what each is, the options that it takes, how it is built.

Families are found in `jaxem.families`, so that a new one can be fitted without a change here.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import textwrap
from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jaxem
from jaxem import families
from jaxem.leaves import kebab
from jaxem.states import state_table

DISTRIBUTIONS = ("exponential", "weibull", "lognormal", "loglogistic")  # of survival times
ROTATIONS = ("none", "varimax", "quartimax", "promax", "oblimin")


class CommandError(Exception):
    """What the user can put right, in one line."""


class Model(NamedTuple):
    """One named model of the command line."""

    says: str  # in one line
    build: Callable[[Namespace], Any]
    data: str = "matrix"  # what rows are, a key of DATA_OPTIONS
    needs: tuple[str, ...] = ()  # options without which it cannot be built
    takes: tuple[str, ...] = ()  # further options, besides those of its data and the common ones
    tells: Callable[[Any, Any, Any], str] | None = None  # (model, params, rows) -> what to print below the summary


class Sized(NamedTuple):
    """A model that has to know how many columns there are."""

    build: Callable[[int], Any]


DATA_OPTIONS = {  # what each kind of data takes
    "matrix": ("columns",),
    "labels": ("columns",),
    "regression": ("response", "covariates", "no_intercept", "offset"),
    "limits": ("response", "covariates", "no_intercept", "offset", "left", "right"),
    "truncated": ("response", "covariates", "no_intercept", "offset", "left", "right"),
    "series": ("response", "sequence_column", "time_column"),
    "sequences": (
        "sequence_column", "time_column", "columns", "response", "covariates", "no_intercept", "offset", "gate",
    ),
    "interval": ("time", "event", "lower_column", "upper_column", "entry", "covariates", "no_intercept"),
    "any": (
        "columns", "response", "covariates", "no_intercept", "offset", "time", "event", "lower_column", "upper_column", "entry",
    ),
}  # fmt: skip


def family_names() -> dict[str, type]:
    """Families by their names in kebab case, for instance "negative-binomial"."""
    found = {}
    for name in families.__all__:
        member = getattr(families, name)
        if isinstance(member, type) and hasattr(member, "maximize") and dataclasses.is_dataclass(member):
            found[kebab(name)] = member
    return found


def family_named(name: str, options: Namespace, **given: Any) -> Any:
    """A family with the settings given and those of --option.

    Raises:
        CommandError: no such family, or no such setting.
    """
    known = family_names()
    if name not in known:
        raise CommandError(f"--family: found {name!r}; use one of {', '.join(sorted(known))}")
    return settled(known[name], {k: v for k, v in given.items() if v is not None}, options, f"--family {name}")


def settled(kind: type, given: Mapping[str, Any], options: Namespace, who: str) -> Any:
    """`kind(**given)` with the settings of --option, which win.

    Raises:
        CommandError: an unknown setting, or a value that `kind` refuses.
    """
    fields = [f.name for f in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []
    settings = dict(options.option or {})
    unknown = [name for name in settings if name not in fields]
    if unknown:
        takes = f"it takes {', '.join(fields)}" if fields else "it takes none"
        raise CommandError(f"--option {unknown[0]}: {who} has no such setting; {takes}")
    try:
        return kind(**{**given, **settings})
    except (TypeError, ValueError) as error:
        raise CommandError(f"{who}: {error}") from error


def value_of(text: str) -> Any:
    """The value of a setting: a number, true or false, null, values between commas, else text."""
    if "," in text:
        return tuple(value_of(part) for part in text.split(","))
    try:
        return json.loads(text)
    except ValueError:
        return text


def _gaussian(options: Namespace) -> Any:
    return family_named("gaussian", options, covariance=options.covariance)


def _mixture(family: Callable[[Namespace], Any]) -> Callable[[Namespace], Any]:
    return lambda options: jaxem.Mixture(family(options), options.components)


def _single(name: str, **given: str) -> Callable[[Namespace], Any]:
    """One family; `given` maps its settings to options."""

    def build(options: Namespace) -> Any:
        return jaxem.Single(family_named(name, options, **{own: getattr(options, option) for own, option in given.items()}))

    return build


def _any_family(options: Namespace) -> Any:
    return family_named(options.family, options)


def _regression(options: Namespace) -> Any:
    """The family of --family: "poisson" means poisson-regression."""
    name, known = options.family or "linear", family_names()
    kinds = sorted(each.removesuffix("-regression") for each in known if each.endswith("-regression"))
    if name.removesuffix("-regression") not in kinds:
        raise CommandError(f"--family: found {name!r}; a regression is one of {', '.join(kinds)}")
    given = {"lower": options.left, "upper": options.right} if "truncated" in name else {}
    return family_named(f"{name.removesuffix('-regression')}-regression", options, **given)


def _hidden_markov(options: Namespace) -> Any:
    if options.response is not None:
        family = _regression(options)
    else:
        given = {"covariance": options.covariance} if options.family in (None, "gaussian") else {}
        family = family_named(options.family or "gaussian", options, **given)
    if options.gate and options.initial == "stationary":
        raise CommandError("--initial stationary: transitions that --gate moves have no stationary distribution; leave one out")
    if options.gate:
        return jaxem.NonhomogeneousHiddenMarkov(family, options.states)
    return jaxem.HiddenMarkov(family, options.states, initial=options.initial or "free")


def _switching(options: Namespace) -> Any:
    given = {"switching": options.switching and tuple(options.switching), "parametrisation": options.parametrisation}
    given |= {"initial": options.initial}
    kept = {name: value for name, value in given.items() if value is not None}
    return settled(
        jaxem.MarkovSwitching, {"order": options.order, "n_regimes": options.regimes, **kept}, options, f"--model {options.model}"
    )


def _about_states(model: Any, params: Any, rows: Any) -> str:
    """How long states last and how much of the time they take."""
    return state_table(model, params, rows)


def _experts(options: Namespace) -> Any:
    return jaxem.MixtureOfExperts(_regression(options), options.components)


def _factors(model: str) -> Callable[[Namespace], Any]:
    def build(options: Namespace) -> Any:
        given = {"q": options.factors, "rotation": options.rotation}
        return settled(getattr(jaxem, model), given, options, f"--model {options.model}")

    return build


def _about_factors(model: Any, params: Any, rows: Any) -> str:
    """What the factors explain, their correlations, and whether they suffice."""
    try:
        test = str(model.test(params, rows))
    except ValueError as error:  # missing cells
        test = str(error)
    return f"{model.rotate(params).about_factors()}\n\n{test}"


def _patterns(model: Any, params: Any, rows: Any) -> str:
    """How the patterns of answers compare with what the classes expect."""
    try:
        return str(jaxem.goodness_of_fit(model, params, rows))
    except ValueError as error:  # no row is complete
        return str(error)


def _series(name: str) -> Callable[[Namespace], Any]:
    """A state space model of one column."""
    return lambda options: settled_by(getattr(jaxem, name), options)


def settled_by(build: Callable[..., Any], options: Namespace, **given: Any) -> Any:
    """`build(**given)` with the settings of --option.

    Raises:
        CommandError: an unknown setting, or a value that is refused.
    """
    settings = dict(options.option or {})
    known = list(inspect.signature(build).parameters)
    for name in settings:
        if name not in known:
            raise CommandError(f"--option {name}: --model {options.model} has no such setting; it takes {', '.join(known)}")
    try:
        return build(**{**given, **settings})
    except (TypeError, ValueError) as error:
        raise CommandError(f"--model {options.model}: {error}") from error


def _dynamic_factor(options: Namespace) -> Any:
    return Sized(lambda d: settled_by(jaxem.dynamic_factor, options, n_outputs=d, factors=options.factors))


def _state_space(options: Namespace) -> Any:
    def build(d: int) -> Any:
        n = options.states
        start = {"initial_mean": [0.0] * n, "initial_covariance": [[float(i == j) for j in range(n)] for i in range(n)]}
        # unit noise and a given start, since one series tells neither
        held = start | {"transition_noise": start["initial_covariance"]}
        return settled_by(jaxem.StateSpace, options, n_latent=n, n_outputs=d, fixed=held)

    return Sized(build)


MIXED = ("components",)
FACTORED = ("rotation", "covariance_of")
MODELS: dict[str, Model] = {
    "gaussian-mixture": Model(
        "mixture of Gaussians; missing cells are allowed", _mixture(_gaussian), needs=MIXED, takes=("covariance", "prior")
    ),
    "gaussian": Model(
        "one multivariate Gaussian with missing cells", lambda o: jaxem.Single(_gaussian(o)), takes=("covariance", "prior")
    ),
    "mixture": Model("mixture of any family", _mixture(_any_family), "any", ("components", "family")),
    "single": Model("one family by itself", lambda o: jaxem.Single(_any_family(o)), "any", ("family",)),
    "latent-class": Model(
        "latent class analysis: columns of labels, independent within a class",
        _mixture(lambda o: family_named("categorical", o)), "labels", MIXED, tells=_patterns,
    ),
    "student-t": Model("one multivariate t: a Gaussian that outliers cannot move", _single("student-t"), takes=()),
    "student-t-mixture": Model("mixture of multivariate t", _mixture(lambda o: family_named("student-t", o)), needs=MIXED),
    "factor-analysis": Model(
        "factor analysis with q factors", _factors("FactorAnalysis"), needs=("factors",), takes=FACTORED, tells=_about_factors
    ),
    "probabilistic-pca": Model(
        "probabilistic principal component analysis", _factors("ProbabilisticPCA"), needs=("factors",), takes=FACTORED,
        tells=_about_factors,
    ),
    "mixture-of-factor-analysers": Model(
        "mixture of Gaussians whose covariances have q factors",
        _mixture(lambda o: family_named("factor-gaussian", o, q=o.factors)), needs=("components", "factors"),
    ),
    "linear-regression": Model("linear regression", _single("linear-regression"), "regression", ("response",)),
    "logistic-regression": Model("regression of a response 0 or 1", _single("logistic-regression"), "regression", ("response",)),
    "poisson-regression": Model("regression of counts", _single("poisson-regression"), "regression", ("response",)),
    "t-regression": Model("linear regression with t errors", _single("t-regression"), "regression", ("response",)),
    "mixture-regression": Model(
        "mixture of regressions: --family linear (default), logistic, poisson, t", _mixture(_regression), "regression",
        ("components", "response"), ("family",),
    ),
    "mixture-of-experts": Model(
        "mixture of regressions whose shares depend on --gate columns", _experts, "regression",
        ("components", "response", "gate"), ("family",),
    ),
    "hidden-markov": Model(
        "hidden Markov model: rows in order of time, of --sequence-column where there are several sequences; --gate columns "
        "move the transitions",
        _hidden_markov, "sequences", ("states",), ("family", "covariance", "initial"), tells=_about_states,
    ),
    "markov-switching": Model(
        "autoregression of --response whose mean, coefficients or variance switch between regimes (Hamilton 1989)",
        _switching, "series", ("response", "order", "regimes"), ("switching", "parametrisation", "initial"),
        tells=lambda model, params, rows: str(model.regimes(params, rows)),
    ),
    "tobit": Model(
        "linear regression of a response cut off at --left (default 0) or --right",
        _single("censored-regression"), "limits", ("response",),
    ),
    "truncated-regression": Model(
        "linear regression where rows beyond --left (default 0) or --right are not in the data",
        _single("truncated-regression", lower="left", upper="right"), "truncated", ("response",),
    ),
    "survival": Model(
        "times until an event, exact, right-, left- or interval-censored: --time and --event, or --lower-column and --upper-column",
        _single("censored-regression", distribution="distribution"), "interval", (), ("distribution",),
    ),
    "local-level": Model("one series in order of time: a level that wanders, seen through noise", _series("local_level"), takes=()),
    "local-linear-trend": Model("one series: a level with a slope that wanders too", _series("local_linear_trend")),
    "dynamic-factor": Model(
        "series with mean 0 moved by factors that follow one another in time", _dynamic_factor, needs=("factors",)
    ),
    "state-space": Model("series with mean 0: linear Gaussian hidden states that move in time", _state_space, needs=("states",)),
}  # fmt: skip


def options_of(model: Model) -> tuple[str, ...]:
    """Options that a model takes besides the common ones, those it needs first."""
    rest = [name for name in (*model.takes, *DATA_OPTIONS[model.data]) if name not in model.needs]
    return (*model.needs, *dict.fromkeys(rest))


def flag(name: str) -> str:
    """ "lower_column" -> "--lower-column"."""
    return "--" + name.replace("_", "-")


def listing() -> str:
    """All models with one line each and the options that they need (first) and take."""
    lines = []
    for name, model in MODELS.items():
        needs = " ".join(flag(each) for each in model.needs)
        takes = " ".join(f"[{flag(each)}]" for each in options_of(model) if each not in model.needs)
        lines += [name, *_indented(model.says), *_indented(" ".join(filter(None, [needs, takes])))]
    known = ", ".join(sorted(family_names()))
    settings = "--option NAME=VALUE gives a family any other setting of its own."
    return "\n".join([*lines, "", "--family takes:", *_indented(known), settings])


def _indented(text: str) -> list[str]:
    return textwrap.wrap(text, 79, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False)


def check_options(options: Namespace) -> None:
    """Fills in what depends on the model; raises CommandError where it lacks an option, or has one that it does not take."""
    name, chosen = options.model, MODELS[options.model]
    takes = options_of(chosen)
    every = {each for model in MODELS.values() for each in options_of(model)}
    foreign = [each for each in sorted(every) if getattr(options, each) is not None and each not in takes]
    if foreign:
        known = ", ".join(map(flag, takes))
        raise CommandError(f"{flag(foreign[0])}: --model {name} does not take it; it takes {known} (see jaxem models)")
    for each in chosen.needs:
        if getattr(options, each) is None:
            raise CommandError(f"{flag(each)}: --model {name} needs it; {_REMEDY[each]}")
    if "time" in takes:
        _check_times(options, chosen.data == "interval")
    if "left" in takes and options.left is None and options.right is None:
        options.left = 0.0
    if options.left is not None and options.right is not None and not options.left < options.right:
        raise CommandError(f"--left, --right: found {options.left:g} and {options.right:g}; the left limit must be the smaller")
    if chosen.data == "interval" and "distribution" in takes and options.distribution is None:
        options.distribution = "weibull"
    if options.response is not None and options.columns is not None:
        raise CommandError("--columns: a regression takes --response and --covariates; leave --columns out")


_REMEDY = {
    "components": "a mixture needs a number of components; say how many, for instance --components 3",
    "response": "say which column is the response, for instance --response y",
    "family": "say what a row looks like given its component, for instance --family poisson",
    "order": "say how many lags there are, for instance --order 4",
    "regimes": "say how many regimes there are, for instance --regimes 2",
    "factors": "say how many factors, for instance --factors 2",
    "states": "say how many hidden states, for instance --states 2",
    "gate": "say which columns move the shares, for instance --gate age (or choose --model mixture-regression)",
}


def _check_times(options: Namespace, needed: bool) -> None:
    ends = (options.lower_column, options.upper_column)
    if options.time is None and ends == (None, None):
        if needed:
            raise CommandError("--time: say which column holds the times (and --event), or give --lower-column and --upper-column")
        if options.event is not None or options.entry is not None:
            raise CommandError("--event, --entry: belong to --time; give it too")
    elif options.time is not None and ends != (None, None):
        raise CommandError("--time, --lower-column: give one or the other")
    elif options.time is None and None in ends:
        raise CommandError("--lower-column, --upper-column: give both")
    elif options.time is None and options.event is not None:
        raise CommandError("--event: belongs to --time; with --lower-column and --upper-column leave it out")
