"""Pipelines really run: every verifier, and that a replay of stored outcomes decides as running does."""

import math

import numpy as np
import pytest

from tests.verification.small_pool import BODIES, CONFIG, TASKS, collected, scores
from vegflow.config.verification import FILTERS as KNOWN_FILTERS
from vegflow.config.verification import RANKERS as KNOWN_RANKERS
from vegflow.config.verification import parse_pipeline
from vegflow.errors import ConfigError
from vegflow.verification.executor import Entry
from vegflow.verification.functions import FunctionExecutor
from vegflow.verification.pipeline import picks, run_pipeline
from vegflow.verification.replay import replay, steps, task_pools
from vegflow.verification.stored import test_orders
from vegflow.verification.team import Team
from vegflow.verification.verifiers import FILTERS, RANKERS, Context

test_orders.__test__ = False


@pytest.fixture(scope="module")
def executor():
    executor = FunctionExecutor(TASKS, CONFIG)
    yield executor
    executor.close()


@pytest.fixture
def entries():
    return [Entry.of(row) for row in collected().pool]


def context(executor, config=CONFIG, **more):
    pool, checks = collected()
    n_tests = dict.fromkeys(TASKS, 4)
    truth = {(row["task_id"], row["completion_sha256"]): row["reward"] for row in pool}
    return Context(executor, config, n_tests, test_orders(checks, config, n_tests), truth, scores(), **more)


def run(executor, stages, config=CONFIG, **more):
    entries = [Entry.of(row) for row in collected().pool]
    return entries, run_pipeline(parse_pipeline(stages), entries, context(executor, config, **more))


def left(course):
    return [entry.completion for entry in course.alive]


def test_every_stage_of_the_grammar_has_a_verifier():
    assert FILTERS.keys() == KNOWN_FILTERS.keys()
    assert set(RANKERS) == set(KNOWN_RANKERS)


def bodies(*numbers, task="T/add"):
    return [BODIES[task][number] for number in numbers]


@pytest.mark.parametrize(
    ("stage", "add"),
    [
        ("syntax", (0, 1, 2, 3, 4, 6, 8, 10)),
        ("lint", (0, 1, 2, 4, 6, 8, 10)),
        ("import", (0, 1, 2, 3, 4, 6, 8, 10)),
        ("one_test", (0, 1, 4, 6, 8, 10)),
        ({"tests": 2}, (0, 1, 8, 10)),
        ({"tests": 3}, (0, 1, 8)),
        ({"capped": 0.1}, (0, 1, 8)),
    ],
)
def test_what_each_filter_keeps(executor, stage, add):
    _, course = run(executor, [stage])
    assert [text for text in left(course) if text in BODIES["T/add"]] == bodies(*add)


def test_a_time_out_passes_where_the_configuration_says_so(executor):
    lenient = CONFIG.model_copy(update={"timeouts": "keep"})
    for stage in ({"tests": 2}, {"capped": 0.1}):
        _, course = run(executor, [stage], lenient)
        assert BODIES["T/add"][6] in left(course)


@pytest.mark.parametrize(
    ("ranker", "first"),
    [
        ("majority", 0),  # 0 = 7, and 8 is the same but for a comment
        ("agreement", 0),  # 0, 1, 7 and 8 answer alike
        ("length", 4),
        ("oracle", 0),
        ("random", 0),  # as drawn
    ],
)
def test_what_each_ranker_puts_first(executor, ranker, first):
    entries, course = run(executor, [ranker])
    found = picks(parse_pipeline([ranker]), entries, course)
    assert found["T/add"].completion == BODIES["T/add"][first]


def test_likelihood_ranks_both_ways_and_without_one_last(executor, entries):
    own = [entry for entry in entries if entry.task_id == "T/add"]
    unknown = Entry("T/add", "f" * 64, None, "", 1, None)
    for ranker, sign in (("surprisal", 1), ("confidence", -1)):
        found = RANKERS[ranker](context(executor), parse_pipeline([ranker])[0], [*own, unknown])
        assert found[:-1] == [sign * entry.nll for entry in own]
        assert found[-1] == -math.inf


def test_agreement_counts_samples_and_gives_nothing_for_no_answer(executor, entries):
    own = [entry for entry in entries if entry.task_id == "T/add"]
    found = dict(zip((e.completion for e in own), RANKERS["agreement"](context(executor), None, own), strict=True))
    assert [found[body] for body in bodies(0, 1, 8)] == [4.0, 4.0, 4.0]
    assert [found[body] for body in bodies(3, 5)] == [0.0, 0.0]
    assert found[BODIES["T/add"][4]] == 2.0


def test_a_reward_model_is_run_where_there_is_one(executor):
    class Liking:
        def score(self, entries):
            return [float(entry.completion == BODIES["T/add"][2]) for entry in entries]

    entries, course = run(executor, [{"orm": "top 1"}], scorers={"orm": Liking()})
    assert picks(parse_pipeline([{"orm": "top 1"}]), entries, course)["T/add"].completion == BODIES["T/add"][2]
    bare = context(executor)
    bare.scores = {}
    with pytest.raises(ConfigError, match="neither a reward model nor scores"):
        run_pipeline(parse_pipeline(["orm"]), entries, bare)


def test_full_stops_at_its_first_success(executor):
    _, course = run(executor, ["one_test", {"full": "first"}])
    (_, full) = course.runs
    assert full.n_run < full.n_in
    assert left(course) == [BODIES["T/add"][0], BODIES["T/last"][3]]


def test_without_anybody_left_nobody_is_picked_unless_filters_alone_pruned(executor, entries):
    own = [entry for entry in entries if entry.completion == BODIES["T/add"][3]]
    for stages, picked in (
        (["one_test"], own[0]),
        (["one_test", "full"], None),
        (["one_test", {"random": "top 1"}], None),
    ):
        course = run_pipeline(parse_pipeline(stages), own, context(executor))
        assert picks(parse_pipeline(stages), own, course) == {"T/add": picked}


@pytest.mark.parametrize("order", ["written", "learned"])
@pytest.mark.parametrize("name", ["full", *CONFIG.pipelines])
def test_a_replay_of_stored_outcomes_decides_as_running_does(executor, name, order):
    config = CONFIG.model_copy(update={"test_order": order})
    stages = config.parsed()[name]
    entries, course = run(executor, [*config.pipelines.get(name, ["full"])], config)
    really = picks(stages, entries, course)
    replayed = np.zeros((len(stages), 2), dtype=int)
    for task_id, pool in task_pools(*collected(), scores(), config).items():
        found = replay(pool, steps(pool, stages, config, "orm"), pool.counts[None])
        replayed += np.stack([found.reached[:, 0].sum(axis=1), found.kept[:, 0].sum(axis=1)], axis=1)
        pick = found.picks[0]
        assert (pool.names[pick] if pick >= 0 else None) == (really[task_id].sha256 if really[task_id] else None)
    assert replayed.tolist() == [[stage.n_in, stage.n_kept] for stage in course.runs]


def test_a_team_decides_as_one_does(executor):
    team = Team(lambda: FunctionExecutor(TASKS, CONFIG), 2)
    try:
        for name in ("full", "one", "capped", "first two", "agree"):
            stages = CONFIG.pipelines.get(name, ["full"])
            (_, alone), (_, together) = run(executor, stages), run(team, stages)
            assert together.alive == alone.alive
            assert [(stage.n_in, stage.n_kept, stage.n_run) for stage in together.runs] == [
                (stage.n_in, stage.n_kept, stage.n_run) for stage in alone.runs
            ]
            assert all(stage.cpu_s > 0 for stage in together.runs)
    finally:
        team.close()
