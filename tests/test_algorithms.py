"""The contract of a method: every file in algorithms/ is found, and held to the same rules."""

import ast
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learners import FILES, dataset, equal, module, of_lane, own_fields, small, variants

from sibench.algorithm import Spec, effective_share
from sibench.batches import make_data
from sibench.lanes import with_traced
from sibench.networks import is_statistic

SPEC = Spec(3, 2)
FROZEN = ("disc", "inverse", "clone", "representation", "scale")
"""What is trained or measured before the updates, and not during them."""

every_variant = pytest.mark.parametrize(
    ("name", "changes"), variants(), ids=lambda v: v if isinstance(v, str) else "-".join(map(str, v.values()))
)
every_file = pytest.mark.parametrize("name", [file.stem for file in FILES])


@functools.cache
def jitted(name, changes):
    algorithm = module(name).make(small(name, **dict(changes)), SPEC)
    functions = (algorithm.init, algorithm.pretrain, algorithm.update)
    return algorithm, [jax.jit(function) if function else None for function in functions]


def learn(name, changes, data=None, num_updates=2, key=0, check_keys=False):
    """init, the pretraining updates, `num_updates` updates: the states after each phase, and all metrics."""
    algorithm, (init, pretrain, update) = jitted(name, tuple(changes.items()))
    if data is None:
        data = of_lane(make_data([dataset()], dataset(seed=1), [0], algorithm.privileges))
    keys = iter(jax.random.split(jax.random.key(key), 100))
    states, metrics = [], {}
    with jax.debug_key_reuse(check_keys):
        state = init(data, next(keys))
        states.append(state)
        for phase, num in ((pretrain, algorithm.num_pretrain), (update, num_updates)):
            for _ in range(num):
                state, new = phase(state, data, next(keys))
                metrics |= new
            states.append(state)
    return states, metrics


def moved(before, after) -> dict[str, bool]:
    """Whether each leaf has, save the statistics that an encoder is given."""
    pairs = zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True)
    return {
        jax.tree_util.keystr(path): bool(np.any(np.asarray(a) != np.asarray(b)))
        for (path, a), b in pairs
        if not is_statistic([key for key in path if isinstance(key, jax.tree_util.DictKey)])
    }


@every_variant
def test_everything_learns_and_what_is_frozen_stays(name, changes):
    (start, pretrained, end), metrics = learn(name, changes, check_keys=True)
    still = [leaf for leaf, has_moved in moved(start, end).items() if not has_moved]
    assert all(leaf.startswith(".scale") for leaf in still), still
    during = moved(pretrained, end)
    frozen = {leaf for leaf in during if leaf.startswith(tuple("." + part for part in FROZEN))}
    assert {leaf for leaf, has_moved in during.items() if not has_moved} == frozen
    assert metrics and all(np.isfinite(value) for value in metrics.values()), metrics


@every_variant
def test_a_key_decides(name, changes):
    one, same, other = (learn(name, changes, key=key)[0][-1] for key in (0, 0, 1))
    assert equal(one, same) and not equal(one, other)


@every_variant
def test_what_a_learner_may_not_see_changes_no_bit(name, changes):
    """NaN in the expert's actions and in all rewards; a learner with privileges must react to its own."""
    privileges = module(name).make(small(name, **changes), SPEC).privileges
    background, expert = dataset(), dataset(seed=1)

    def end(background, expert):
        return learn(name, changes, of_lane(make_data([background], expert, [0], privileges)))[0][-1]

    clean = end(background, expert)
    poisoned = {
        "background rewards": end(background._replace(rewards=np.full_like(background.rewards, np.nan)), expert),
        "expert actions": end(background, expert._replace(actions=np.full_like(expert.actions, np.nan))),
        "expert rewards": end(background, expert._replace(rewards=np.full_like(expert.rewards, np.nan))),
    }
    assert {what for what, state in poisoned.items() if not equal(clean, state)} == set(privileges)


@every_file
def test_action_free_learners_use_the_expert(name):
    """All but two react to the expert's observations."""
    other = dataset(seed=1)._replace(observations=dataset(seed=2).observations)
    privileges = module(name).make(small(name), SPEC).privileges
    ends = [
        learn(name, {}, of_lane(make_data([dataset()], expert, [0], privileges)))[0][-1]
        for expert in (dataset(seed=1), other)
    ]
    assert equal(*ends) == (name in ("bc", "awr"))


@every_file
def test_every_setting_is_read(name):
    source = ast.parse((FILES[0].parent / f"{name}.py").read_text())
    read = {
        node.attr
        for node in ast.walk(source)
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "config"
    }
    assert {field.name for field in own_fields(name)} <= read


@every_file
def test_settings_that_make_no_sense_are_refused(name):
    for field in own_fields(name):
        if field.name in ("discount", "mixture", "conservatism"):
            for value in (0.0, 1.0, -0.5, 1.5):
                with pytest.raises(ValueError, match=field.name):
                    small(name, **{field.name: value})
        if field.name == "temperature":
            with pytest.raises(ValueError, match="temperature"):
                small(name, temperature=0.0)


@every_file
def test_a_file_is_short_and_stands_alone(name):
    file = FILES[0].parent / f"{name}.py"
    source = file.read_text()
    assert len(source.splitlines()) <= 250
    imported = [node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    assert not {module.split(".")[-1] for module in imported} & {file.stem for file in FILES}
    assert f"python algorithms/{name}.py" in ast.get_docstring(ast.parse(source))


@every_file
def test_every_number_can_be_swept(name):
    """With the setting a traced number, a method still compiles, and its state is the same tree."""
    privileges = module(name).make(small(name), SPEC).privileges
    data = of_lane(make_data([dataset()], dataset(seed=1), [0], privileges))
    for field in dataclasses.fields(module(name).Config):
        value = getattr(small(name), field.name)
        if not isinstance(value, float):
            continue
        config = small(name, sweep=(field.name, "0.5", "0.25"))

        def step(swept, data, key, config=config):
            learner = module(name).make(with_traced(config, swept), SPEC)
            state = learner.init(data, key)
            for phase in (learner.pretrain, learner.update):
                state = phase(state, data, key)[0] if phase else state
            return learner.init(data, key), state

        before, after = jax.eval_shape(step, np.float32(0.5), data, jax.random.key(0))
        assert jax.tree.map(lambda leaf: leaf.shape, before) == jax.tree.map(lambda leaf: leaf.shape, after)


def test_awr_without_any_reward_learns():
    """Data of a ladder's lowest levels may hold none: nothing is divided by the largest."""
    data = dataset()
    data = of_lane(make_data([data._replace(rewards=0 * data.rewards)], data, [0], ("background rewards",)))
    states, metrics = learn("awr", {}, data)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((states[-1].policy.params, metrics)))


@pytest.mark.parametrize("variant", ["privileged", "value"])
def test_nces_rates_have_the_decay(variant):
    """Of every optimiser, those with rates of their own too."""
    plain, other = (learn("nce", {"variant": variant, "weight_decay": decay})[0][-1] for decay in (0.0, 0.5))
    for model in ("nu", "policy"):
        assert not equal(getattr(plain, model).params, getattr(other, model).params), model


def test_effective_share():
    assert effective_share(jnp.ones(8)) == pytest.approx(1)
    assert effective_share(jnp.array([1e-30, 0, 0, 0])) == pytest.approx(0.25)
    assert effective_share(jnp.zeros(4)) == 0
