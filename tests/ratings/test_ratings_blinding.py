"""The human study is blind: an attacker with everything that browsers receive does no better than
chance.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest

from phosphene.ratings.server.answers import open_answers
from phosphene.ratings.server.app import Texts, create_app
from phosphene.ratings.trials.design import CATCH, Sizes, pictures, plan
from phosphene.steps.ratings.trial_list import encoded
from support.ratings_attack import STRATEGIES, Trial, attack, browse

SIDE = 32
NOISE = {"z": 6, "c": 14, "zc": 30}  # gray levels: files of another method have another size
RARE = 1e-3


@dataclass(frozen=True)
class Case:
    """A study to attack: how many test images, subjects, methods, raters, trials per method, and
    which seeds.
    """

    images: int
    subjects: int
    methods: tuple[str, ...]
    sizes: Sizes
    seeds: range

    @property
    def pool(self):
        rows = [
            (f"subj{subject:02d}", item, 7 * item + 3)
            for subject in range(self.subjects)
            for item in range(self.images)
        ]
        return pd.DataFrame(rows, columns=["subject", "item", "image"])


METHODS = ("z", "c", "zc")
CASES = {
    "fewest images, one method": Case(9, 1, ("z",), Sizes(6, 9, 1, 1), range(6)),
    "as many trials as images": Case(16, 1, METHODS, Sizes(4, 16, 2, 4), range(3)),
    "two subjects": Case(25, 2, METHODS, Sizes(6, 8, 2, 4), range(2)),
    "one method, many raters": Case(20, 1, ("zc",), Sizes(9, 10, 2, 2), range(3)),
    "more images than trials": Case(60, 1, METHODS, Sizes(3, 12, 3, 5), range(2)),
}
LEAKY = Case(16, 1, METHODS, Sizes(4, 16, 0, 8), range(2))


def pixels(method, subject, item):
    """A picture: reconstructions of one image look alike whatever the method, photographs look like
    nothing else.
    """
    photograph = np.random.default_rng([item, 1]).integers(0, 256, (SIDE, SIDE, 3)).astype(float)
    if method == "":
        return photograph.astype(np.uint8)
    if method == CATCH:
        return (0.9 * photograph + 5).astype(np.uint8)
    shape = (
        np.random.default_rng([item, 2])
        .uniform(30, 226, (4, 4, 3))
        .repeat(SIDE // 4, 0)
        .repeat(SIDE // 4, 1)
    )
    own = np.random.default_rng([item, int(subject[4:]), NOISE[method]])
    spread = NOISE[method] * own.uniform(0.5, 1.5)  # and so have files of another image
    return (shape + own.normal(0, spread, shape.shape)).clip(0, 255).astype(np.uint8)


def seen(trials, folder):
    """What browsers receive of a trial list."""
    for row in pictures(trials).drop_duplicates("file").itertuples():
        ending, data = encoded(pixels(row.method, row.subject, row.item))
        path = folder / "pictures" / f"{row.file}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    tokens = {slot: f"token-of-rater-{slot}" for slot in sorted(set(trials["slot"]))}
    answers = open_answers(f"sqlite:///{folder / 'answers.sqlite'}", "hash", trials, tokens)
    try:
        app = create_app(answers, folder / "pictures", Texts(), "admin", 0)
        return browse(app, tokens, trials.groupby("slot").size().to_dict())
    finally:
        answers.close()


def facts(trials):
    """What attackers do not know: correct sides, and which two images were compared."""
    where = list(zip(trials["slot"], trials["position"], strict=True))
    images = map(frozenset, zip(trials["image"], trials["distractor_image"], strict=True))
    return dict(zip(where, trials["correct"], strict=True)), dict(zip(where, images, strict=True))


@pytest.fixture(scope="module", params=CASES)
def studies(request, tmp_path_factory):
    """Studies of a case, as an attacker sees them, with the facts."""
    case = CASES[request.param]
    views = []
    for seed in case.seeds:
        trials = plan(case.pool, case.methods, case.sizes, (seed, "blind"))
        views.append((seen(trials, tmp_path_factory.mktemp("blind")), *facts(trials)))
    return views


def told(outcomes):
    return {
        name: (
            f"{one.right} of {one.opinions} opinions right in {one.trials} trials, p = {one.p:.2g}"
        )
        for name, one in outcomes.items()
    }


def test_every_strategy_stays_at_chance(studies, record_property):
    outcomes = attack(studies)
    for name, text in told(outcomes).items():
        record_property(name, text)
    broken = {name: told(outcomes)[name] for name, outcome in outcomes.items() if outcome.p < RARE}
    assert broken == {}
    # of what pictures have in common with others there is not even an opinion
    for name in (
        "common to raters",
        "common within the list",
        "most photographs",
        "shown most often",
        "one photograph per picture",
        "one photograph per picture, own list",
        "shown lately",
        "id used again",
        "headers",
        "file size",
    ):
        assert outcomes[name].opinions == 0, (name, told(outcomes)[name])


def test_candidates_can_be_exchanged(studies):
    """Both candidates are shown with the same photographs and the same alternative, equally often.

    This is what makes every strategy fail that only compares pictures with each other for equality.
    """
    for trials, _, _ in studies:
        company = defaultdict(Counter)
        for trial in trials:
            both = frozenset((trial.left.content, trial.right.content))
            for one in trial.candidates:
                company[one.content][trial.photo.content, both] += 1
        for trial in trials:
            assert company[trial.left.content] == company[trial.right.content]


def test_a_list_shows_one_photograph_of_a_pair(studies):
    for trials, _, units in studies:
        photos = defaultdict(set)
        for trial in trials:
            photos[trial.slot, units[trial.slot, trial.position]].add(trial.photo.content)
        assert {len(contents) for contents in photos.values()} == {1}


def test_ids_headers_and_lengths_are_of_no_use(studies):
    for trials, _, _ in studies:
        shown = [one for trial in trials for one in (trial.photo, *trial.candidates)]
        assert len({one.id for one in shown}) == len(shown)
        assert len({one.length for one in shown}) == 1
        assert len({one.headers for one in shown}) == 1
        for name in ("etag", "last-modified", "content-encoding", "set-cookie", "age", "date"):
            assert f"'{name}'" not in shown[0].headers
        assert "('cache-control', 'no-store, no-transform')" in shown[0].headers
        for trial in trials:
            assert (
                trial.reply
                == {
                    "position": trial.position,
                    "photo": trial.photo.id,
                    "left": trial.left.id,
                    "right": trial.right.id,
                }
                and list(trial.reply)[0] == "position"
            )
        lengths = {(len(str(trial.position)), trial.headers) for trial in trials}
        assert len(lengths) == len({digits for digits, _ in lengths})
        assert (
            len({len(json.dumps(trial.reply)) - len(str(trial.position)) for trial in trials}) == 1
        )


# Lists that are not blind: every strategy wins on one of them


def leaky_plan(case, seed, few=False):
    """A list as it was drawn up before: any other picture as distractor, ids by picture and role,
    everything twice.

    Repeats stay on their side, beside another distractor. With `few`, only few pictures serve as
    distractors.
    """
    random = np.random.default_rng([seed, 9])
    rows = []
    for slot in range(case.sizes.raters):
        listed = []
        for method in case.methods:
            order = random.permutation(case.images)
            others = (
                random.integers(case.images, case.images + 4, case.images)
                if few
                else np.roll(order, 1)
            )
            listed += [
                ("trial", method, int(a), int(b)) for a, b in zip(order, others, strict=True)
            ]
        listed = [listed[k] for k in random.permutation(len(listed))]
        for _, method, target, wrong in listed[: case.sizes.repeats]:
            other = int(random.choice([k for k in range(case.images) if k not in (target, wrong)]))
            listed.append(("repeat", method, target, other))
        sides = random.integers(0, 2, len(listed))
        sides[-case.sizes.repeats :] = sides[: case.sizes.repeats]
        for position, ((kind, method, target, wrong), right) in enumerate(
            zip(listed, sides, strict=True)
        ):
            own = f"a-{method}-{target}"
            other = f"b-{method}-{wrong}"
            rows.append(
                (
                    slot,
                    position,
                    kind,
                    method,
                    "subj00",
                    target,
                    target,
                    wrong,
                    wrong,
                    -1,
                    f"photo-{target}",
                    *((other, own) if right else (own, other)),
                    ("left", "right")[right],
                )
            )
    names = list(plan(case.pool, case.methods, case.sizes, (0, "")).columns)
    return pd.DataFrame(rows, columns=names)


def leaky_studies(tmp_path_factory, few):
    views = []
    for seed in LEAKY.seeds:
        trials = leaky_plan(LEAKY, seed, few)
        views.append((seen(trials, tmp_path_factory.mktemp("leaky")), *facts(trials)))
    return views


@pytest.fixture(scope="module")
def leaky(tmp_path_factory):
    return leaky_studies(tmp_path_factory, few=False)


@pytest.fixture(scope="module")
def leaky_with_few_distractors(tmp_path_factory):
    return leaky_studies(tmp_path_factory, few=True)


def marked(trials: list[Trial], correct: dict) -> tuple[list[Trial], dict]:
    """The same trials with a mark in everything that could tell a correct candidate, and sides that
    follow a rule.
    """
    changed = []
    sides = {}
    for trial in trials:
        where = (trial.slot, trial.position)
        wrong, right = trial.candidates if correct[where] == "right" else trial.candidates[::-1]
        right = replace(
            right,
            id="0" + right.id[1:],
            headers="('etag', '1')",
            length=right.length - 1,
            compressed=right.compressed - 40,
            entropy=wrong.entropy - 1,
        )
        wrong = replace(wrong, id="f" + wrong.id[1:])
        sides[where] = "left" if trial.position % 2 == 0 else "right"
        left, other = (right, wrong) if sides[where] == "left" else (wrong, right)
        changed.append(replace(trial, left=left, right=other))
    return changed, sides


BY_CONTENT = (
    "common to raters",
    "common within the list",
    "one photograph per picture",
    "one photograph per picture, own list",
    "alike across methods",
    "alike across methods and raters",
    "stays on its side",
)
BY_FREQUENCY = (
    "most photographs",
    "most photographs, own list",
    "shown most often",
    "shown most often, own list",
    "shown lately",
    "id used again",
)
BY_MARK = (
    "id order",
    "headers",
    "file size",
    "compressed file size",
    "entropy of the pixels",
    "sides take turns",
)
FIXED = {"left", "left first"}  # would win only on a list that nobody would draw up


def test_every_strategy_has_a_control():
    assert {*BY_CONTENT, *BY_FREQUENCY, *BY_MARK} | FIXED == set(STRATEGIES)


def test_strategies_of_contents_win_on_a_list_that_is_not_blind(leaky):
    outcomes = attack(leaky)
    assert {name: told(outcomes)[name] for name in BY_CONTENT if outcomes[name].p >= RARE} == {}
    assert outcomes["common to raters"].right == outcomes["common to raters"].opinions > 400


def test_strategies_of_frequency_win_where_few_pictures_are_distractors(leaky_with_few_distractors):
    outcomes = attack(leaky_with_few_distractors)
    assert {name: told(outcomes)[name] for name in BY_FREQUENCY if outcomes[name].p >= RARE} == {}


def test_strategies_of_marks_win_on_marked_pictures(leaky):
    outcomes = attack([(*marked(trials, correct), units) for trials, correct, units in leaky])
    for name in BY_MARK:
        assert outcomes[name].right in (0, outcomes[name].opinions) and outcomes[name].p < RARE, (
            name
        )
