"""Names of the figures, for rules that must know their files before the drawing library is imported."""

FIGURES = (
    "figure1_overview",
    "figure3_scaling",
    "figure4a_strategies",
    "figure4b_speedups",
    "figure5a_trajectory",
    "figure5b_tasks",
    "figure6_probe",
    "figure7_regimes",
    "figure8_pipeline",
    "figure8_costs",
    "figure9_sharpening",
    "figure10_budget",
    "figure11_updates",
)

STAGED_FIGURES = ("frontier", "pruned", "wasted", "composed")
"""Figures of each entry of a study's `verification`; their files are `staged_FIGURE_ENTRY.json`."""
