"""Every measure by name, as `resources/paper/results.yaml` calls them."""

from collections.abc import Callable

from vegflow.statistics import adaptation_measures as adaptation
from vegflow.statistics import search_measures as search
from vegflow.statistics.measure import Ours

Measure = Callable[..., Ours]

MEASURES: dict[str, Measure] = {
    one.__name__: one
    for one in (
        search.scaling,
        search.scaling_sd,
        search.gain,
        search.strategy,
        search.paired,
        search.wins,
        search.correlation,
        search.quartile,
        search.quartile_halves,
        search.base,
        search.one_sample,
        search.oracle_speedup,
        search.quartile_half,
        search.task_rate,
        search.regime_tasks,
        search.valid_tasks,
        adaptation.difference,
        adaptation.mixed_difference,
        adaptation.step0_difference,
        adaptation.training,
        adaptation.step,
        adaptation.step_task,
        adaptation.peak_gain,
        adaptation.peak_step,
        adaptation.regression,
        adaptation.boa,
        adaptation.same_step,
        adaptation.probe,
        adaptation.budget,
        adaptation.step_budget,
        adaptation.learning_rate,
        adaptation.probe_p,
        adaptation.elsewhere,
        adaptation.elsewhere_delta,
        adaptation.alone,
        adaptation.alone_step,
        adaptation.alone_early,
        adaptation.objective_boa,
        adaptation.objective_budget,
    )
}
