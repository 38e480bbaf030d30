"""Policies: what their networks compute, and that a stored policy is read exactly or refused."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from conftest import TASKS

from sibench import policies, tasks
from sibench.core import assets, files
from sibench.core.errors import UserError
from sibench.policies import Policy, networks, shipped
from sibench.policies.networks import BinsPolicy, Categorical, GaussianPolicy, TanhGaussian


def make(network, obs_dim=11):
    return Policy(network, network.init(jax.random.key(0), jnp.zeros((1, obs_dim))), obs_dim)


@pytest.mark.parametrize("source", ["../ant/expert", "/etc/passwd", "exprt", "bc-1/../expert", "random", ""])
def test_unknown_sources_are_refused(source):
    with pytest.raises(UserError, match=f"unknown source '{source}'"):
        shipped.load_policy("hopper", source)


def test_encoder_equals_hand_computation_and_does_not_train_statistics():
    """s and s' are standardised and clipped at 10, squashed at two gains, and concatenated."""
    encoder = networks.Encoder((0.25, 4.0))
    obs, next_obs = jnp.array([[0.5, -40.0]]), jnp.array([[1.0, 1.0]])
    stats = networks.Stats(jnp.array([0.5, 0.0]), jnp.array([0.5, 2.0]))
    params = networks.with_stats(encoder.init(jax.random.key(0), obs), stats)
    expected = [[0, -10, *np.tanh([0.125, -10, 2, -160]), 1, 0.5, *np.tanh([0.25, 0.25, 4, 4])]]
    np.testing.assert_allclose(encoder.apply(params, obs, next_obs), expected, rtol=1e-6)
    gradient = jax.grad(lambda params: encoder.apply(params, obs, next_obs).sum())(params)
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradient))


def test_categorical_equals_hand_computation():
    # three bins at -1, 0, 1
    distribution = Categorical(jnp.log(jnp.array([[[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]]])))
    np.testing.assert_allclose(distribution.log_prob(jnp.array([[0.1, -1.0]])), [np.log(0.5 * 0.1)], rtol=1e-6)
    np.testing.assert_allclose(distribution.log_prob(jnp.array([[-0.6, 0.6]])), [np.log(0.2 * 0.8)], rtol=1e-6)
    np.testing.assert_allclose(distribution.mode(), [[0.0, 1.0]])
    drawn = jax.vmap(distribution.sample)(jax.random.split(jax.random.key(0), 20_000))[:, 0]
    shares = [(drawn[:, 0] == value).mean() for value in (-1, 0, 1)]
    np.testing.assert_allclose(shares, [0.2, 0.5, 0.3], atol=0.015)


def test_bins_policy_is_a_distribution_over_the_action_range():
    distribution = BinsPolicy(3).apply(make(BinsPolicy(3)).params, jax.random.normal(jax.random.key(1), (4, 11)))
    chex.assert_shape(distribution.logits, (4, 3, 101))
    centres = jnp.linspace(-1, 1, 101)
    grid = jnp.broadcast_to(centres[:, None, None], (101, 4, 3))
    for i in range(3):
        alone = jnp.broadcast_to(distribution.logits[:, i : i + 1], (101, 4, 1, 101))
        np.testing.assert_allclose(jnp.exp(Categorical(alone).log_prob(grid[..., i : i + 1])).sum(0), 1.0, rtol=1e-5)
    action = distribution.sample(jax.random.key(0))
    np.testing.assert_allclose(jnp.round((action + 1) * 50) / 50 - 1, action, atol=1e-6)


def test_basis_spans_the_kernel():
    """25 coefficients represent whatever 101 logits smoothed by the same kernel can."""
    bins = np.linspace(-1, 1, 101)
    full = np.exp(-((bins[:, None] - bins) ** 2) / (2 * 0.1**2))
    singular = np.linalg.svd(full, compute_uv=False)
    assert (singular > 1e-3 * singular[0]).sum() <= 25
    basis = np.asarray(networks.gaussian_kernel(101, 25, 0.1), np.float64)
    smooth = full @ np.random.default_rng(0).normal(size=(101, 50))
    fitted = basis.T @ np.linalg.lstsq(basis.T, smooth, rcond=1e-6)[0]
    assert np.abs(fitted - smooth).max() < 1e-2 * np.abs(smooth).max()


def test_tanh_gaussian_has_its_mean_and_standard_deviation():
    distribution = TanhGaussian(jnp.array([0.5]), jnp.array([0.1]))
    np.testing.assert_allclose(distribution.mode(), np.tanh([0.5]), rtol=1e-6)
    drawn = jax.vmap(distribution.sample)(jax.random.split(jax.random.key(0), 5000))
    assert np.arctanh(drawn).mean() == pytest.approx(0.5, abs=0.01)
    assert np.arctanh(drawn).std() == pytest.approx(0.1, abs=0.01)


def test_tanh_gaussian_log_prob_is_that_of_bins():
    """Probabilities sum to one and are the frequencies of the drawn bins; far tails stay finite."""
    distribution = TanhGaussian(jnp.array([0.9]), jnp.array([0.4]))
    centres = jnp.linspace(-1, 1, 101)[:, None]
    probability = jnp.exp(jax.vmap(distribution.log_prob)(centres))
    assert probability.sum() == pytest.approx(1, abs=1e-4)
    drawn = jax.vmap(distribution.sample)(jax.random.split(jax.random.key(0), 50_000))
    frequency = np.bincount(networks.bin_of(drawn, 101)[:, 0], minlength=101) / 50_000
    assert np.abs(frequency - probability).max() < 0.004
    far = TanhGaussian(jnp.array([3.0]), jnp.array([0.1])).log_prob(jnp.array([[-1.0], [0.0]]))
    assert np.isfinite(far).all() and far[0] < far[1] < -100


@pytest.mark.parametrize("network", [BinsPolicy(3, (16, 16)), GaussianPolicy(3, (16, 16))], ids=["bins", "gaussian"])
def test_save_and_load_is_bit_identical(tmp_path, network):
    policy = make(network)
    policy = policy._replace(params=networks.with_stats(policy.params, networks.Stats(jnp.ones(11), jnp.full(11, 3.0))))
    policies.save(tmp_path / "policy", policy, {"note": "x"})
    back = policies.load(tmp_path / "policy")
    assert back.network == policy.network and back.obs_dim == 11
    chex.assert_trees_all_equal(back.params, policy.params)
    obs = jax.random.normal(jax.random.key(1), (5, 11))
    for mode in ("sample", "mode"):
        np.testing.assert_array_equal(back.act(obs, jax.random.key(2), mode), policy.act(obs, jax.random.key(2), mode))


def test_names_in_files_do_not_depend_on_flax_collections(tmp_path):
    """Input statistics stand among the parameters, as in policies of earlier releases."""
    names = {}
    for network, file in ((BinsPolicy(3, (4,)), tmp_path / "bins"), (GaussianPolicy(3, (4,)), tmp_path / "gaussian")):
        policies.save(file, make(network), {})
        names[file.name] = set(safetensors.numpy.load_file(file.with_suffix(".safetensors")))
    layers = {f"params/MLP_0/Dense_{i}/{name}" for i in range(2) for name in ("kernel", "bias")}
    assert names["bins"] == layers | {"params/encoder/mean", "params/encoder/std"}
    assert names["gaussian"] == layers | {"params/obs_mean", "params/obs_std"}


@pytest.fixture
def stored(tmp_path):
    policies.save(tmp_path / "policy", make(GaussianPolicy(3, (8, 8))), {})
    return tmp_path / "policy"


def tamper(path, weights=None, **architecture):
    """Change a stored policy and correct its hash."""
    if weights is not None:
        path.with_suffix(".safetensors").write_bytes(safetensors.numpy.save(weights))
    description = json.loads(path.with_suffix(".json").read_text())
    description["architecture"] |= architecture
    description["weights_sha256"] = files.sha256(path.with_suffix(".safetensors"))
    path.with_suffix(".json").write_text(json.dumps(description))


def test_flipped_bit_is_refused(stored):
    content = bytearray(stored.with_suffix(".safetensors").read_bytes())
    content[-3] ^= 1
    stored.with_suffix(".safetensors").write_bytes(content)
    with pytest.raises(UserError, match="differs from its sha256"):
        policies.load(stored)


@pytest.mark.parametrize(
    "architecture",
    [
        {"kind": "eval"},
        {"hidden": "os.system"},
        {"hidden": [8, -1]},
        {"hidden": [8, 8, 8]},
        {"action_dim": 10**12},
        {"surprise": 1},
        {"obs_dim": "x"},
    ],
    ids=str,
)
def test_invalid_architectures_are_refused(stored, architecture):
    tamper(stored, **architecture)
    with pytest.raises(UserError, match="policy"):
        policies.load(stored)


@pytest.mark.parametrize(
    "architecture",
    [{"bins": 1}, {"bins": 10**5}, {"bins": 8.5}, {"kernel_width": 1e-300}, {"kernel_width": 100}, {"gains": [0]}],
    ids=str,
)
def test_bins_policies_outside_limits_are_refused(tmp_path, architecture):
    policies.save(tmp_path / "policy", make(BinsPolicy(3, (8,))), {})
    tamper(tmp_path / "policy", **architecture)
    with pytest.raises(UserError, match=f"{next(iter(architecture))} = .*; allowed: (int|float) from"):
        policies.load(tmp_path / "policy")


def test_deeply_nested_description_is_refused(stored):
    stored.with_suffix(".json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="nested too deeply"):
        policies.load(stored)


def test_changed_shipped_files_are_refused(tmp_path, monkeypatch):
    """Descriptions and reference returns are checked as well as weights."""
    stored = shipped.path("hopper", "bc-1")
    monkeypatch.setattr(assets, "ASSETS", tmp_path)
    originals = [stored.with_suffix(suffix) for suffix in (".safetensors", ".json")]
    assets.ship("hopper", *originals, stored.parent / "references.json")
    assert shipped.load_policy("hopper", "bc-1").network.kernel_width == 0.1
    for name, (old, new) in {"bc-1.json": ('width": 0.1', 'width": 0.3'), "references.json": ("3", "4")}.items():
        content = (tmp_path / "hopper" / name).read_text()
        assert old in content
        (tmp_path / "hopper" / name).write_text(content.replace(old, new))
    for read in (shipped.load_policy, shipped.policy_sha256):
        with pytest.raises(
            UserError, match=r"bc-1.json differs from its sha256 in manifest.json; reinstall the package"
        ):
            read("hopper", "bc-1")
    tasks.references.cache_clear()
    with pytest.raises(UserError, match=r"references\.json differs"):
        tasks.references("hopper")
    assets.ship("hopper", *originals)
    assert shipped.load_policy("hopper", "bc-1").obs_dim == 11


def test_invalid_weights_are_refused(stored):
    weights = safetensors.numpy.load_file(stored.with_suffix(".safetensors"))
    name = sorted(weights)[0]
    for change, message in (
        ({name: weights[name] * np.nan}, f"{name} must be finite float16 or float32"),
        ({name: weights[name].astype(int)}, f"{name} must be finite float16 or float32, not int64"),
        ({name: weights[name][..., :-1]}, "do not fit the architecture"),
        ({"more": weights[name]}, "do not fit the architecture"),
    ):
        tamper(stored, weights | change)
        with pytest.raises(UserError, match=message):
            policies.load(stored)
    stored.with_suffix(".safetensors").write_bytes(b"\xff" * 1000)
    tamper(stored)
    with pytest.raises(UserError, match="not a safetensors file"):
        policies.load(stored)


@pytest.mark.parametrize(("dtype", "size"), [("BF16", 2), ("F8_E4M3", 1), ("F8_E5M2", 1)])
def test_number_types_without_numpy_equivalent_are_refused(stored, dtype, size):
    header = json.dumps({"params/obs_mean": {"dtype": dtype, "shape": [11], "data_offsets": [0, 11 * size]}}).encode()
    stored.with_suffix(".safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(11 * size))
    tamper(stored)
    with pytest.raises(UserError, match=r"policy\.safetensors: .*(float16|F16)"):
        policies.load(stored)


@pytest.mark.parametrize("name", TASKS)
def test_shipped_experts_load(name):
    policy = shipped.load_policy(name, "expert")
    card = policies.read_description(shipped.path(name, "expert"))["card"]
    assert card["stochastic"]["n"] == 1000 and card["command"].startswith("python -m data_gen.experts")
    assert card["curve"][-1]["updates"] == card["num_updates"]
    assert policy.act(jnp.zeros((2, policy.obs_dim)), jax.random.key(0)).shape == (2, policy.network.action_dim)


def test_missing_policies_say_how_to_train_them(tmp_path, monkeypatch):
    for task, source, message in (
        ("hopper", "bc-3", "its ladder: 1, 2, 5, .*, 1000$"),
        ("lift", "bc-500", "its ladder: 1, 2, 5, .*, 200$"),
        ("lift", "expert", "a script demonstrates it"),
    ):
        with pytest.raises(UserError, match=message):
            shipped.load_policy(task, source)
    monkeypatch.setattr(assets, "ASSETS", tmp_path)
    for source, program in (("expert", "experts"), ("bc-5", "ladder")):
        with pytest.raises(UserError, match=rf"python -m data_gen\.{program} --task hopper --ship"):
            shipped.load_policy("hopper", source)
