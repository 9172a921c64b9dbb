"""Every table of the report, in its order; a table is a function from analysis tables to rows of text."""

from collections.abc import Callable

from vegflow.config.analysis import StudyFacts
from vegflow.report import adaptation_tables, open_tables, search_tables, study_tables
from vegflow.report.view import Frames, View

VIEWS: tuple[Callable[[Frames, StudyFacts], View], ...] = (
    study_tables.budget,
    adaptation_tables.self_check,
    search_tables.scaling,
    search_tables.strategies,
    search_tables.paired,
    open_tables.power,
    search_tables.regimes,
    search_tables.quartiles,
    search_tables.correlations,
    open_tables.pipeline,
    adaptation_tables.trajectory,
    adaptation_tables.boa,
    adaptation_tables.equivalent_k,
    adaptation_tables.same_budget,
    adaptation_tables.diagnostics,
    adaptation_tables.probe,
    open_tables.sharpening,
    study_tables.task_rates,
    study_tables.headroom,
    study_tables.statuses,
    open_tables.audit,
)


def views(tables: Frames, facts: StudyFacts) -> list[View]:
    """Every table of the report, in its order; one without rows says why."""
    return [make(tables, facts).with_few_note() for make in VIEWS]
