"""Every edge of the graph is written down: each step of a study works in a store that holds nothing
but its inputs and what it requires, and makes the same bytes.
"""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace

import pytest

from phosphene.pipeline.graph import grouped, make, walk
from phosphene.pipeline.step import Step, distinct
from phosphene.steps import features, plan
from phosphene.study import Compute, Study

STUDY = """
name = "edges"
[data]
root = "data"
[data.simulate]
enabled = true
images_shared = 8
images_own = 16
repeats = 2
sessions = 1
[decode]
alphas = [1.0, 100.0]
cv = 2
[reconstruct]
modes = ["zc"]
samples = 1
steps = 4
[evaluate]
presets = ["pixel"]
bootstrap = 20
permutations = 20
rois = ["early", "ventral"]
[encode]
analyses = ["features", "layers"]
components = 12
mixes = 2
noise = [0.5]
steps = [0.5, 1.0]
layers = ["mid"]
alphas = [1.0, 100.0]
cv = 2
bootstrap = 20
[rate]
raters = 2
trials = 4
catch = 1
repeats = 0
"""
QUIET = Compute(progress=False)
# figures hold the time at which they were drawn
TIMED = (".pdf", ".html")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("edges")
    (folder / "edges.toml").write_text(STUDY)
    return Study.load(folder / "edges.toml")


@pytest.fixture(scope="module")
def steps(study):
    commands = plan.everything(study)
    # the report last: audits and encoding models are part of it where they are finished
    for name in ("audit", "encode", "figures", "rate make"):
        make(commands[name], QUIET)
    make(plan.report(study), QUIET)
    return walk([root for roots in plan.everything(study).values() for root in roots])


def contents(step: Step) -> dict[str, object]:
    files = step.artefact.manifest["files"]
    return {name: entry for name, entry in files.items() if not name.endswith(TIMED)}


def test_every_stage_is_made(steps):
    assert {step.stage for step in steps} == {
        "audit",
        "betas",
        "contrast",
        "decode",
        "decompose",
        "encode",
        "evaluate",
        "extract",
        "factors",
        "features",
        "figures",
        "measured",
        "ratings",
        "reconstruct",
        "reduce",
        "report",
        "statistics",
    }
    assert all(step.artefact.done for step in steps)


def test_a_step_needs_nothing_but_its_inputs_and_what_it_requires(steps, tmp_path):
    for step in steps:
        root = tmp_path / step.hash
        study = replace(step.study, root=root)
        for source in distinct(step.sources):
            shutil.copytree(source.artefact.path, root / source.stage / source.artefact.path.name)
        again = replace(step, study=study)
        assert again.hash == step.hash, step.label
        again.declare(again.artefact)
        for index in again.artefact.missing(again.n_parts()):
            with again.artefact.part(index) as part:
                again.make_part(part, index, QUIET)
        again.artefact.finish(facts=again.facts())
        assert contents(again) == contents(step), step.label
        shutil.rmtree(root)


def test_features_of_one_strength_come_out_of_one_pass(study, steps, monkeypatch):
    made = [step for step in steps if isinstance(step, features.Features)]
    passes = Counter()
    computed = features._computed

    def counted(step, rows, names, compute):
        passes[tuple(sorted(map(str, names)))] += 1
        return computed(step, rows, names, compute)

    monkeypatch.setattr(features, "_computed", counted)
    for step in made:
        step.artefact.clear()
    make(made, QUIET)
    # one strength, one kind of noise and text: one pass of all images
    assert passes == {tuple(sorted(str(step.feature) for step in made)): 1}
    assert len(grouped(made)) == 1


def test_what_a_step_says_of_its_cost_needs_no_result(study, steps, tmp_path):
    from phosphene.pipeline.cost import Rates

    rates = Rates(1e-12, 1e-12, 1e-3, 1e-3, 1e-3, 1.0, 1.0, 1.0)
    empty = replace(study, root=tmp_path)
    for step in walk([root for roots in plan.everything(empty).values() for root in roots]):
        cost = step.cost(rates)
        assert cost is None or (cost.seconds >= 0 and cost.gb >= 0)
