"""Models on disk: bit for bit there and back, and nothing else is taken."""

import dataclasses
import hashlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pandas
import pytest
import table

import jaxem
from jaxem import (
    Fit,
    GammaPrior,
    Gaussian,
    Latent,
    Mixture,
    MixtureParams,
    MixturePrior,
    Poisson,
    Product,
    Single,
    Stop,
    fit,
    load,
    save,
    variational,
    weak_prior,
)
from jaxem.domains import Positive, Real, Unit
from jaxem.families import GaussianParams
from jaxem.saved import FORMAT_VERSION

ROWS = table.collect()
MODEL = Mixture(Gaussian("diagonal"), 2)
PARAMS = MixtureParams(
    jnp.array([0.25, 0.75]), GaussianParams(jnp.array([[0.0, 1 / 3], [2.0, -0.0]]), jnp.array([[1.0, 1e-300], [5e-324, 2.0]]))
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.npz"
    save(path, MODEL, PARAMS, columns=["a", "b"])
    return path


def assert_same(a, b):
    """Of one structure (static parts with it), one kind of array, one dtype and the same bits."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert type(x) is type(y)
        x, y = np.asarray(x), np.asarray(y)
        assert (x.dtype, x.shape, x.tobytes()) == (y.dtype, y.shape, y.tobytes())


def sign(path):
    """The digest of whatever stands before it."""
    whole = path.read_bytes()[:-64]
    path.write_bytes(whole + hashlib.sha256(whole).hexdigest().encode())


def repack(path, compression=zipfile.ZIP_STORED, **changes):
    """The same archive with members changed or added, and the digest that fits it; None takes one out."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members.update({f"{name}.npy": content for name, content in changes.items()})
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)
        archive.comment = bytes(64)
    sign(path)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def header_of(path):
    with np.load(path, allow_pickle=False) as archive:
        return json.loads(archive["header"].tobytes())


def with_header(path, **fields):
    """Another header."""
    text = json.dumps({**header_of(path), **fields}).encode()
    repack(path, header=npy(np.frombuffer(text, np.uint8)))


def a_fit(params, n_states):
    """A fit that nobody made, with numbers that no format but the exact one keeps."""
    numbers = jnp.array([-1 / 3, np.nan, -np.inf, 5e-324])
    return Fit(
        params, numbers[0], numbers[1], jnp.int32(2), jnp.int32(7), jnp.int32(9), numbers, jnp.int32(1), jnp.arange(4), numbers[2],
        jnp.zeros(n_states, bool), numbers, jnp.arange(4), numbers[None], jnp.arange(4), (params, np.float32(0.1)),
    )  # fmt: skip


# there and back


@pytest.mark.parametrize("dtype", table.DTYPES)
def test_every_model_comes_back_bit_for_bit(tmp_path, dtype):
    path = tmp_path / "m.npz"
    seen = 0
    for row in ROWS:
        params = row.params(dtype)
        ended = a_fit(params, row.model.n_states)
        save(path, row.model, params, ended)
        found = load(path, row.model if isinstance(row.model, Latent) else None)
        assert type(found.model) is type(row.model), row.name
        assert_same((row.model, params, ended), (found.model, found.params, found.fit))
        seen += 1
    assert seen > 100


@pytest.mark.slow
def test_it_computes_the_same(path):
    y = np.array([0.0, 1.0, 7.0, np.nan, 9.0])
    model = Mixture(Poisson(), 2, prior=MixturePrior(2.0, GammaPrior(2.0, np.array([[0.5]]))))
    found = fit(model, y, key=0, restarts=2, stop=Stop(max_steps=3))
    save(path, model, found.params, found)
    back = load(path)
    assert_same((model, found.params, found), (back.model, back.params, back.fit))
    assert back.fit.explain() == found.explain()
    np.testing.assert_array_equal(back.model.posterior(back.params, y), model.posterior(found.params, y))
    assert back.columns is None


@pytest.mark.slow
def test_details_of_algorithms_come_back(path):
    y = np.array([[0.0, 0.3], [1.0, 2.0], [2.0, 0.1], [3.0, 1.0]])
    found = fit(Single(Gaussian()), y, algorithm=variational(weak_prior(y, 1).components), stop=Stop(max_steps=2))
    save(path, Single(Gaussian()), found.params, found)
    assert_same(load(path).fit, found)


def test_product_and_columns(path):
    model = Product({"size": ("a", "b"), "kind": "c"}, size=Gaussian(), kind=jaxem.Categorical(3))
    save(path, Single(model), {"size": np.float64(2.0), "kind": [np.arange(3), (None, True, "text", float("inf"))]}, columns=["é"])
    found = load(path)
    assert found.model == Single(model)
    assert list(found.model.family.families) == ["size", "kind"]
    assert found.columns == ("é",)
    assert isinstance(found.params["size"], np.float64)
    assert found.params["kind"][1] == (None, True, "text", float("inf"))


def test_one_model_is_one_file(tmp_path):
    """No clock and no name of the file is in it."""
    save(tmp_path / "a.npz", MODEL, PARAMS)
    save(tmp_path / "b", MODEL, PARAMS)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b").read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.npz", "b"]


def test_numpy_reads_it(path):
    """The format is as documented: without jaxem, by numpy and json alone."""
    header = header_of(path)
    assert (header["format"], header["format_version"]) == ("jaxem-model", FORMAT_VERSION)
    assert (header["columns"], header["jaxem_version"], header["fit"]) == (["a", "b"], jaxem.__version__, None)
    mean = header["params"]["fields"]["components"]["fields"]["mean"]
    assert (mean["kind"], mean["dtype"], mean["shape"]) == ("jax", "float64", [2, 2])
    with np.load(path, allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive[str(mean["array"])], PARAMS.components.mean)


@pytest.mark.slow
def test_digits_survive_where_jax_computes_in_float32(path):
    look = (
        "import sys, numpy, jaxem; s = jaxem.load(sys.argv[1]); m = s.params.components.mean; "
        "assert isinstance(m, numpy.ndarray) and m[0, 1] == 1 / 3; "
        "assert s.model.posterior(s.params, [[0.0, 0.3]]).dtype == 'float32'; jaxem.save(sys.argv[1] + '2', *s[:2])"
    )
    env = {**os.environ, "JAX_ENABLE_X64": "0"}
    assert subprocess.run([sys.executable, "-c", look, str(path)], env=env, check=False).returncode == 0
    np.testing.assert_array_equal(load(f"{path}2").params.components.mean, PARAMS.components.mean)


def test_frames_are_arranged_by_name(path):
    frame = pandas.DataFrame({"b": [1.0], "x": [0.0], "a": [2.0]})
    save(path, MODEL, PARAMS, columns=frame[["a", "b"]])
    assert list(load(path).arrange(frame).columns) == ["a", "b"]
    with pytest.raises(ValueError, match="no column 'b'; found 'a'"):
        load(path).arrange(frame[["a"]])
    save(path, MODEL, PARAMS)
    with pytest.raises(ValueError, match="names none"):
        load(path).arrange(frame)


# what cannot be saved


def test_a_model_of_functions_is_given_again(path):
    """A file has all of it but the functions, and what is given has to agree with that."""
    model, params = latent(2), {"zero": jnp.array(0.3), "rate": jnp.array(2.5)}
    save(path, model, params, a_fit(params, 2))
    assert b"secret" not in path.read_bytes()
    refused(path, r"its model is made of functions of yours, which no file holds; give it too: load\(path, model=\.\.\.\)")
    same = latent(2)
    found = load(path, model=same)
    assert found.model is same
    assert_same((found.params, found.fit), (params, a_fit(params, 2)))
    for other, differs in (
        (latent(3), r"model\.shapes|model\.n_states is 3, and was 2|model\.places is 3"),
        (latent(2, missing=True), r"model\.missing is True, and was False"),
        (latent(2, simulate=lambda key, params: 0.0), r"model\.simulate is a function, and was None"),
        (latent(2, start={"zero": 0.5, "rate": 1.0}), r"model\.start is a dict, and was None"),
        (latent(2, domains={"zero": DOMAINS["zero"], "mean": Real()}), r"model\.free_domains.* is 'mean', and was 'rate'"),
        (MODEL, "model is a Mixture, and was a Latent"),
        (3, "model is 3, and was a Latent"),
    ):
        with pytest.raises(ValueError, match=f"its model is not the one that was saved: ({differs}).*; give the same"):
            load(path, model=other)


DOMAINS = {"zero": Unit(), "rate": Positive()}


def latent(n_states, domains=None, **settings):
    def log_joint(params, z, row, *secret):
        return jnp.log(params["rate"]) - row * params["rate"] + z

    return Latent(log_joint, domains or DOMAINS, n_states, **settings)


def test_any_model_can_be_given_again(path):
    """It has to be the one that was saved, to the last number."""
    assert load(path, Mixture(Gaussian("diagonal"), 2)).model == MODEL
    with pytest.raises(ValueError, match=r"model\.n_components is 3, and was 2"):
        load(path, Mixture(Gaussian("diagonal"), 3))
    prior = MixturePrior(2.0, GammaPrior(2.0, np.array([[0.5, 1.0]])))
    model = Mixture(Poisson(), 2, prior=prior)
    save(path, model, {"a": 1.0})
    assert load(path, model).model is model
    with pytest.raises(ValueError, match=r"model.prior.components.rate holds other numbers"):
        load(path, Mixture(Poisson(), 2, prior=prior._replace(components=GammaPrior(2.0, np.array([[0.5, 2.0]])))))
    with pytest.raises(ValueError, match=r"model.prior is None, and was a MixturePrior"):
        load(path, Mixture(Poisson(), 2))
    with pytest.raises(ValueError, match=r"its model is another: model: is a .*OwnModel, no class of jaxem's own"):
        load(path, OwnModel())


def test_functions_are_not_saved(path):
    before = path.read_bytes()
    with pytest.raises(TypeError, match=r"params\.weights: is a function"):
        save(path, MODEL, PARAMS._replace(weights=len))
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


@dataclasses.dataclass(frozen=True)
class OwnModel:
    pass


def test_other_things_are_not_saved(path):
    with pytest.raises(TypeError, match=r"model: is a .*OwnModel, no class of jaxem's own"):
        save(path, OwnModel(), PARAMS)
    with pytest.raises(TypeError, match=r"params\['a'\]: is an array of object"):
        save(path, MODEL, {"a": np.array([None])})
    with pytest.raises(TypeError, match=r"params: is an array of key"):
        save(path, MODEL, jax.random.key(0))
    with pytest.raises(TypeError, match=r"params\.weights: is traced"):
        jax.jit(lambda w: save(path, MODEL, PARAMS._replace(weights=w)) or w)(PARAMS.weights)
    with pytest.raises(TypeError, match="columns: found str"):
        save(path, MODEL, PARAMS, columns="ab")
    with pytest.raises(OSError, match="nowhere"):
        save(path.parent / "nowhere" / "m.npz", MODEL, PARAMS)


# what is not taken


def refused(path, match):
    with pytest.raises(ValueError, match=match) as caught:
        load(path)
    assert str(path) in str(caught.value)


def told_of(content, path, monkeypatch):
    """The refusal of a file with this content."""
    monkeypatch.setattr(Path, "read_bytes", lambda self: content)
    try:
        load(path)
    except ValueError as error:
        return str(error).removeprefix(f"{path}: ")
    return "it was taken"


def test_cut_short(path, monkeypatch):
    """At every length: never a model, never anything but a plain refusal."""
    whole = path.read_bytes()
    told = [told_of(whole[:length], path, monkeypatch) for length in range(len(whole))]
    assert all(each.startswith("is not a model file of jaxem; give one that") for each in told[:40])
    assert all(each.startswith("is cut short or damaged, or was altered") for each in told[40:])


def test_altered_bytes_are_noticed(path, monkeypatch):
    """Every one of them: one bit is enough, and so is a byte more at the end."""
    whole = path.read_bytes()
    altered = [whole[:place] + bytes([byte ^ (1 << place % 8)]) + whole[place + 1 :] for place, byte in enumerate(whole)]
    told = [told_of(content, path, monkeypatch) for content in (*altered, whole + b"0")]
    assert all(each.startswith(("is not a model file of jaxem", "is cut short or damaged, or was altered")) for each in told)
    assert told_of(whole, path, monkeypatch) == "it was taken"


def test_altered_by_hand(path):
    """Members that are sound in themselves, under a digest that fits them, but that `save` does not write."""
    whole = path.read_bytes()
    for changes in (
        {"1": None},
        {"99": npy(np.zeros(3))},
        {"1": npy(np.zeros((2, 2), np.float32))},
        {"1": npy(PARAMS.components.mean)[:-8]},
        {"1": b"no array"},
        {"header": npy(np.array(["a"]))},
    ):
        path.write_bytes(whole)
        repack(path, **changes)
        refused(path, "was altered")
    repack(path, header=None)
    refused(path, "is not a model file of jaxem")
    path.write_bytes(whole)
    with_header(path, params={"class": "MixtureParams", "fields": {"weights": None}})
    refused(path, "was altered")


def test_not_ours(path, tmp_path):
    path.write_text("a,b\n1,2\n")
    refused(path, "is not a model file of jaxem")
    path.write_bytes(b"")
    refused(path, "is not a model file of jaxem")
    np.savez(path, a=np.zeros(3))
    refused(path, "is not a model file of jaxem")
    save(path, MODEL, PARAMS)
    with_header(path, format="another")
    refused(path, "is not a model file of jaxem")
    with pytest.raises(OSError, match="nothing"):
        load(tmp_path / "nothing.npz")


def test_newer_version(path):
    with_header(path, format_version=FORMAT_VERSION + 1, jaxem_version="9.0", model="another form")
    refused(path, f"written by jaxem 9.0 in format {FORMAT_VERSION + 1}.*install a newer jaxem")
    save(path, MODEL, PARAMS)
    with_header(path, jaxem_version="9.0", model={"class": "Copula", "fields": {}})
    refused(path, "written by jaxem 9.0, and speaks of Copula, which this version does not know")


def test_no_code_of_a_file_runs(path, monkeypatch):
    """A pickle within is never opened."""
    import pickle

    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("opened a pickle"))
    file = io.BytesIO()
    np.save(file, np.array([OwnModel()], object), allow_pickle=True)
    whole = path.read_bytes()
    for name in ("header", "1"):
        path.write_bytes(whole)
        repack(path, **{name: file.getvalue()})
        refused(path, "was altered")


def test_small_files_do_not_swell(path):
    """Neither a size that an array claims nor one that an archive claims is believed."""
    whole = path.read_bytes()
    claims = io.BytesIO()
    np.lib.format.write_array_header_1_0(claims, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)})
    for name in ("header", "1"):
        path.write_bytes(whole)
        repack(path, **{name: claims.getvalue() + bytes(8)})
        refused(path, "was altered")
    path.write_bytes(whole)
    repack(path, zipfile.ZIP_DEFLATED, **{"1": npy(np.zeros(1 << 22))})
    assert path.stat().st_size < 1 << 17
    refused(path, "was altered")
    path.write_bytes(whole)
    deep = np.frombuffer(b'{"tuple":[' * 100_000, np.uint8)
    repack(path, header=npy(deep))
    refused(path, "was altered")


def test_an_older_file_lacks_new_settings(path):
    """A setting that a class gained later has its default."""
    model = header_of(path)["model"]
    del model["fields"]["family"]["fields"]["censored"]
    with_header(path, model=model)
    assert load(path).model == MODEL
