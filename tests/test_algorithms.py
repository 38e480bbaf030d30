"""The contract of a method: every file of algorithms/ is found, and held to the same rules."""

import ast
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from learners import FILES, dataset, equal, method, of_lane, own_fields, small, variants

from sibench.core.errors import UserError
from sibench.learning import methods
from sibench.learning.lanes import with_traced
from sibench.learning.method import Method, Spec
from sibench.learning.optimiser import effective_share
from sibench.learning.sampling import make_data
from sibench.policies.networks import is_statistic

SPEC = Spec(3, 2)
FROZEN = ("disc", "inverse", "clone", "representation", "scale")
"""Parts of a state that are fixed before the updates begin."""

every_variant = pytest.mark.parametrize(
    ("name", "changes"), variants(), ids=lambda v: v if isinstance(v, str) else "-".join(map(str, v.values()))
)
every_file = pytest.mark.parametrize("name", [file.stem for file in FILES])


@functools.cache
def jitted(name, changes):
    algorithm = method(name).make(small(name, **dict(changes)), SPEC)
    functions = (algorithm.init, algorithm.pretrain, algorithm.update)
    return algorithm, [jax.jit(function) if function else None for function in functions]


def learn(name, changes, data=None, num_updates=2, key=0, check_keys=False):
    """Run init, pretraining and some updates; return the states after each phase, and all metrics."""
    algorithm, (init, pretrain, update) = jitted(name, tuple(changes.items()))
    if data is None:
        data = toy_data(name, changes)
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


def toy_data(name, changes=None, background=None, expert=None):
    """Return the data of one lane, with all that a method may see."""
    privileges = method(name).sees(small(name, **(changes or {})))
    return of_lane(make_data([background or dataset()], expert or dataset(seed=1), [0], privileges))


def moved(before, after) -> dict[str, bool]:
    """Tell for each leaf whether it moved; input statistics are left out."""
    pairs = zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True)
    return {
        jax.tree_util.keystr(path): bool(np.any(np.asarray(a) != np.asarray(b)))
        for (path, a), b in pairs
        if not is_statistic(path)
    }


@every_variant
def test_every_part_learns_in_its_own_phase_only(name, changes):
    (start, pretrained, end), metrics = learn(name, changes, check_keys=True)
    still = [leaf for leaf, has_moved in moved(start, end).items() if not has_moved]
    assert all(leaf.startswith(".scale") for leaf in still), still
    during = moved(pretrained, end)
    frozen = {leaf for leaf in during if leaf.startswith(tuple("." + part for part in FROZEN))}
    assert {leaf for leaf, has_moved in during.items() if not has_moved} == frozen
    assert metrics and all(np.isfinite(value) for value in metrics.values()), metrics


@every_variant
def test_numbers_depend_on_the_key_alone(name, changes):
    one, same, other = (learn(name, changes, key=key)[0][-1] for key in (0, 0, 1))
    assert equal(one, same) and not equal(one, other)


@every_variant
def test_hidden_fields_change_no_bit(name, changes):
    """Put NaN into expert actions and all rewards: only a field that the method declares may matter."""
    privileges = method(name).sees(small(name, **changes))
    background, expert = dataset(), dataset(seed=1)

    def end(background, expert):
        return learn(name, changes, toy_data(name, changes, background, expert))[0][-1]

    clean = end(background, expert)
    poisoned = {
        "background rewards": end(background._replace(rewards=np.full_like(background.rewards, np.nan)), expert),
        "expert actions": end(background, expert._replace(actions=np.full_like(expert.actions, np.nan))),
        "expert rewards": end(background, expert._replace(rewards=np.full_like(expert.rewards, np.nan))),
    }
    assert {what for what, state in poisoned.items() if not equal(clean, state)} == set(privileges)


@every_file
def test_methods_use_the_expert_observations(name):
    """They react to them, unless they declare that they learn from the background alone."""
    other = dataset(seed=1)._replace(observations=dataset(seed=2).observations)
    ends = [learn(name, {}, toy_data(name, expert=expert))[0][-1] for expert in (dataset(seed=1), other)]
    assert equal(*ends) != method(name).uses_expert, (
        f"set uses_expert={not method(name).uses_expert} in METHOD of {name}.py"
    )


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
def test_settings_out_of_bounds_are_refused(name):
    for field in own_fields(name):
        at_least, above, below = field.metadata.get("bounds", (-np.inf, -np.inf, np.inf))
        for value in (at_least - 1, above, below):
            if np.isfinite(value):
                with pytest.raises(ValueError, match=field.name):
                    small(name, **{field.name: type(field.default)(value)})


@every_file
def test_method_file_is_short_and_imports_one_facade(name):
    file = FILES[0].parent / f"{name}.py"
    source = file.read_text()
    imports = [node for node in ast.parse(source).body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert len(source.splitlines()) - sum(node.end_lineno - node.lineno + 1 for node in imports) <= 250
    imported = [node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    assert {module for module in imported if module.startswith(("sibench", "algorithms"))} == {"sibench.method"}
    command = f"python algorithms/{name}.py"
    assert command in ast.get_docstring(ast.parse(source)), f"the docstring of {name}.py lacks its command: {command}"


@every_file
def test_every_sweepable_setting_can_be_traced(name):
    """With the setting a traced scalar, the method still compiles, and its state has the same tree."""
    data = toy_data(name)
    sweepable = [field for field in dataclasses.fields(method(name).config) if field.metadata.get("sweep")]
    floats = [field for field in dataclasses.fields(method(name).config) if isinstance(field.default, float)]
    assert sweepable == floats
    for field in sweepable:
        config = small(name, sweep=(field.name, "0.5", "0.25"))

        def step(swept, data, key, config=config):
            learner = method(name).make(with_traced(config, swept), SPEC)
            state = learner.init(data, key)
            for phase in (learner.pretrain, learner.update):
                state = phase(state, data, key)[0] if phase else state
            return learner.init(data, key), state

        before, after = jax.eval_shape(step, np.float32(0.5), data, jax.random.key(0))
        assert jax.tree.map(lambda leaf: leaf.shape, before) == jax.tree.map(lambda leaf: leaf.shape, after)


def test_awr_learns_from_data_without_reward():
    """The lowest levels of a ladder may hold none: nothing is divided by the largest reward."""
    data = dataset()
    states, metrics = learn("awr", {}, toy_data("awr", background=data._replace(rewards=0 * data.rewards)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((states[-1].policy.params, metrics)))


@pytest.mark.parametrize("variant", ["privileged", "value"])
def test_weight_decay_reaches_every_optimiser_of_nce(variant):
    """Those with learning rates of their own included."""
    plain, other = (learn("nce", {"variant": variant, "weight_decay": decay})[0][-1] for decay in (0.0, 0.5))
    for model in ("nu", "policy"):
        assert not equal(getattr(plain, model).params, getattr(other, model).params), model


def test_effective_share_is_one_for_equal_weights_and_small_for_one_heavy_weight():
    assert effective_share(jnp.ones(8)) == pytest.approx(1)
    assert effective_share(jnp.array([1e-30, 0, 0, 0])) == pytest.approx(0.25)
    assert effective_share(jnp.zeros(4)) == 0


# --- what a file declares ---------------------------------------------------------------------------------------------


def test_variants_have_names_of_their_own():
    names = list(methods.variants())
    assert {"bc", "vfo-bin", "vfo-disc", "awr", "smodice-chi2", "nce-privileged"} <= set(names)
    for name, variant in methods.variants().items():
        assert (
            methods.name_of(
                variant.method, methods.resolve(variant.method, "hopper", variant=variant.settings, dataset=("x",))
            )
            == name
        )


def test_unknown_method_names_the_nearest():
    with pytest.raises(UserError, match="unknown method 'vfo-bim'; did you mean 'vfo-bin'"):
        methods.variant("vfo-bim")


def test_copied_file_is_a_new_method_and_copied_variants_are_refused(algorithms_copy):
    (algorithms_copy / "mine.py").write_text((algorithms_copy / "bc.py").read_text())
    assert methods.variants()["mine"].file == "mine" and methods.variants()["bc"].file == "bc"
    (algorithms_copy / "ours.py").write_text((algorithms_copy / "vfo.py").read_text())
    methods.variants.cache_clear()
    with pytest.raises(
        UserError,
        match=r"ours.py and algorithms/vfo.py both declare the variant 'vfo-bin'; rename it in METHOD.variants",
    ):
        methods.variants()


def test_file_without_a_method_says_what_to_add(algorithms_copy):
    (algorithms_copy / "empty.py").write_text("")
    with pytest.raises(UserError, match=r"empty.py declares no METHOD; end it with METHOD = Method\(Config, make\)"):
        methods.load("empty")


def test_defaults_of_the_task_lie_under_those_of_suite_cell_and_command():
    vfo, bc = methods.load("vfo"), methods.load("bc")
    assert methods.resolve(bc, "hopper", dataset=("x",)).hidden == (512, 512)
    lift = methods.resolve(vfo, "lift", dataset=("x",))
    assert (lift.hidden, lift.weight_decay, lift.temperature) == ((1024, 1024), 0.1, 0.1)
    suite = {"temperature": 2.0, "hidden": (8, 8)}
    assert methods.resolve(vfo, "lift", suite=suite, suite_methods=[vfo], dataset=("x",)).temperature == 2.0
    assert (
        methods.resolve(vfo, "lift", suite=suite, suite_methods=[vfo], temperature=5.0, dataset=("x",)).temperature
        == 5.0
    )
    assert methods.resolve(bc, "lift", suite=suite, suite_methods=[vfo, bc], dataset=("x",)).hidden == (8, 8)


def test_setting_that_no_method_of_the_suite_has_is_an_error():
    bc = methods.load("bc")
    with pytest.raises(UserError, match=r"'temperature' is not a setting of any method of the suite \(bc\)"):
        methods.resolve(bc, "hopper", suite={"temperature": 1.0}, suite_methods=[bc], dataset=("x",))
    with pytest.raises(UserError, match=r"'stps' is not a setting of algorithms/bc.py; did you mean 'steps'"):
        methods.resolve(bc, "hopper", stps=3, dataset=("x",))


def test_task_defaults_name_families_or_tasks_and_settings_that_exist():
    from sibench import tasks

    families = {tasks.task_type(name).family for name in tasks.names()}
    for name in methods.files():
        declared: Method = methods.load(name)
        assert set(declared.task_defaults) <= families | set(tasks.names())
        for settings in (*declared.task_defaults.values(), *declared.variants.values()):
            assert set(settings) <= set(methods.setting_names(declared))
