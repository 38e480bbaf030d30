"""Policies: what their networks compute, and that a stored one is read exactly or not at all."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from conftest import TASKS

from sibench import assets, files, networks, policies
from sibench.errors import UserError
from sibench.networks import BinsPolicy, Categorical, GaussianPolicy, TanhGaussian
from sibench.policies import Policy


def make(network, obs_dim=11):
    return Policy(network, network.init(jax.random.key(0), jnp.zeros((1, obs_dim))), obs_dim)


@pytest.mark.parametrize("source", ["../ant/expert", "/etc/passwd", "exprt", "bc-1/../expert", "random", ""])
def test_only_what_is_shipped_is_loaded(source):
    with pytest.raises(UserError, match=f"unknown source '{source}'"):
        assets.load_policy("hopper", source)


def test_the_encoder_by_hand():
    """Standardised and clipped at 10, then at two gains; s and s' side by side; statistics set and not trained."""
    encoder = networks.Encoder((0.25, 4.0))
    s, following = jnp.array([[0.5, -40.0]]), jnp.array([[1.0, 1.0]])
    stats = networks.Stats(jnp.array([0.5, 0.0]), jnp.array([0.5, 2.0]))
    params = {"params": {"encoder": encoder.init(jax.random.key(0), s)["params"]}}
    params = {"params": networks.with_stats(params, stats)["params"]["encoder"]}
    expected = [[0, -10, *np.tanh([0.125, -10, 2, -160]), 1, 0.5, *np.tanh([0.25, 0.25, 4, 4])]]
    np.testing.assert_allclose(encoder.apply(params, s, following), expected, rtol=1e-6)
    slopes = jax.grad(lambda params: encoder.apply(params, s, following).sum())(params)
    assert not any(leaf.any() for leaf in jax.tree.leaves(slopes))


def test_categorical_by_hand():
    """Three bins at -1, 0, 1."""
    distribution = Categorical(jnp.log(jnp.array([[[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]]])))
    np.testing.assert_allclose(distribution.log_prob(jnp.array([[0.1, -1.0]])), [np.log(0.5 * 0.1)], rtol=1e-6)
    np.testing.assert_allclose(distribution.log_prob(jnp.array([[-0.6, 0.6]])), [np.log(0.2 * 0.8)], rtol=1e-6)
    np.testing.assert_allclose(distribution.mode(), [[0.0, 1.0]])
    drawn = jax.vmap(distribution.sample)(jax.random.split(jax.random.key(0), 20_000))[:, 0]
    shares = [(drawn[:, 0] == value).mean() for value in (-1, 0, 1)]
    np.testing.assert_allclose(shares, [0.2, 0.5, 0.3], atol=0.015)


def test_bins_are_a_distribution_over_the_action_range():
    distribution = BinsPolicy(3).apply(make(BinsPolicy(3)).params, jax.random.normal(jax.random.key(1), (4, 11)))
    chex.assert_shape(distribution.logits, (4, 3, 101))
    centres = jnp.linspace(-1, 1, 101)
    grid = jnp.broadcast_to(centres[:, None, None], (101, 4, 3))
    for i in range(3):
        alone = jnp.broadcast_to(distribution.logits[:, i : i + 1], (101, 4, 1, 101))
        np.testing.assert_allclose(jnp.exp(Categorical(alone).log_prob(grid[..., i : i + 1])).sum(0), 1.0, rtol=1e-5)
    action = distribution.sample(jax.random.key(0))
    np.testing.assert_allclose(jnp.round((action + 1) * 50) / 50 - 1, action, atol=1e-6)


def test_the_basis_spans_the_kernel():
    """25 coefficients lose nothing of what 101 logits smoothed by the same kernel can say."""
    bins = np.linspace(-1, 1, 101)
    full = np.exp(-((bins[:, None] - bins) ** 2) / (2 * 0.1**2))
    singular = np.linalg.svd(full, compute_uv=False)
    assert (singular > 1e-3 * singular[0]).sum() <= 25
    basis = np.asarray(networks.gaussian_kernel(101, 25, 0.1), np.float64)
    smooth = full @ np.random.default_rng(0).normal(size=(101, 50))
    fitted = basis.T @ np.linalg.lstsq(basis.T, smooth, rcond=1e-6)[0]
    assert np.abs(fitted - smooth).max() < 1e-2 * np.abs(smooth).max()


def test_tanh_gaussian_by_hand():
    distribution = TanhGaussian(jnp.array([0.5]), jnp.array([0.1]))
    np.testing.assert_allclose(distribution.mode(), np.tanh([0.5]), rtol=1e-6)
    drawn = jax.vmap(distribution.sample)(jax.random.split(jax.random.key(0), 5000))
    assert np.arctanh(drawn).mean() == pytest.approx(0.5, abs=0.01)
    assert np.arctanh(drawn).std() == pytest.approx(0.1, abs=0.01)


def test_tanh_gaussian_over_bins():
    """It sums to one over the bins, and is the frequency of the bins that are drawn; far tails stay finite."""
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
def test_round_trip(tmp_path, network):
    policy = make(network)
    policies.save(tmp_path / "policy", policy, {"note": "x"})
    back = policies.load(tmp_path / "policy")
    assert back.network == policy.network and back.obs_dim == 11
    chex.assert_trees_all_equal(back.params, policy.params)
    obs = jax.random.normal(jax.random.key(1), (5, 11))
    for mode in ("sample", "mode"):
        np.testing.assert_array_equal(back.act(obs, jax.random.key(2), mode), policy.act(obs, jax.random.key(2), mode))


@pytest.fixture
def stored(tmp_path):
    policies.save(tmp_path / "policy", make(GaussianPolicy(3, (8, 8))), {})
    return tmp_path / "policy"


def tamper(path, weights=None, **architecture):
    """Change a stored policy and mend its hash, as somebody who ships a bad one would."""
    if weights is not None:
        path.with_suffix(".safetensors").write_bytes(safetensors.numpy.save(weights))
    description = json.loads(path.with_suffix(".json").read_text())
    description["architecture"] |= architecture
    description["weights_sha256"] = files.sha256(path.with_suffix(".safetensors"))
    path.with_suffix(".json").write_text(json.dumps(description))


def test_a_flipped_bit_is_refused(stored):
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
def test_odd_architectures_are_refused(stored, architecture):
    tamper(stored, **architecture)
    with pytest.raises(UserError, match="policy"):
        policies.load(stored)


def test_a_description_of_brackets_is_refused(stored):
    stored.with_suffix(".json").write_text("[" * 100_000)
    with pytest.raises(UserError, match="nested too deeply"):
        policies.load(stored)


def test_what_ships_is_what_was_shipped(tmp_path, monkeypatch):
    """A description that says another network for the same weights, or another return, is not taken."""
    shipped = assets.path("hopper", "bc-1")
    monkeypatch.setattr(assets, "ASSETS", tmp_path)
    originals = [shipped.with_suffix(suffix) for suffix in (".safetensors", ".json")]
    assets.ship("hopper", *originals, shipped.parent / "references.json")
    assert assets.load_policy("hopper", "bc-1").network.kernel_width == 0.1
    for name, (old, new) in {"bc-1.json": ('width": 0.1', 'width": 0.3'), "references.json": ("3", "4")}.items():
        content = (tmp_path / "hopper" / name).read_text()
        assert old in content
        (tmp_path / "hopper" / name).write_text(content.replace(old, new))
    for read in (assets.load_policy, assets.policy_sha256):
        with pytest.raises(UserError, match=r"bc-1.json differs from its sha256 in manifest.json: .* ship it again"):
            read("hopper", "bc-1")
    assets.references.cache_clear()
    with pytest.raises(UserError, match=r"references\.json differs"):
        assets.references("hopper")
    assets.ship("hopper", *originals)
    assert assets.load_policy("hopper", "bc-1").obs_dim == 11


def test_odd_weights_are_refused(stored):
    weights = safetensors.numpy.load_file(stored.with_suffix(".safetensors"))
    name = sorted(weights)[0]
    for change in ({name: weights[name] * np.nan}, {name: weights[name][..., :-1]}, {"more": weights[name]}):
        tamper(stored, weights | change)
        with pytest.raises(UserError):
            policies.load(stored)
    stored.with_suffix(".safetensors").write_bytes(b"\xff" * 1000)
    tamper(stored)
    with pytest.raises(UserError, match="not a safetensors file"):
        policies.load(stored)


@pytest.mark.parametrize("name", TASKS)
def test_shipped_experts_load(name):
    policy = assets.load_policy(name, "expert")
    card = policies.read_description(assets.path(name, "expert"))["card"]
    assert card["stochastic"]["n"] == 1000 and card["command"].startswith("python -m data_gen.experts")
    assert card["curve"][-1]["updates"] == card["num_updates"]
    assert policy.act(jnp.zeros((2, policy.obs_dim)), jax.random.key(0)).shape == (2, policy.network.action_dim)


def test_unshipped_policies_say_how_to_train_them(tmp_path, monkeypatch):
    for task, source, message in (
        ("hopper", "bc-3", "its ladder is of 1, 2, 5, .*, 1000$"),
        ("lift", "bc-500", "its ladder is of 1, 2, 5, .*, 200$"),
        ("lift", "expert", "a script demonstrates it"),
    ):
        with pytest.raises(UserError, match=message):
            assets.load_policy(task, source)
    monkeypatch.setattr(assets, "ASSETS", tmp_path)
    for source, program in (("expert", "experts"), ("bc-5", "ladder")):
        with pytest.raises(UserError, match=rf"python -m data_gen\.{program} --task hopper --ship"):
            assets.load_policy("hopper", source)
