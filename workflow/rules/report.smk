# Report: figures and one HTML file that works offline, from the analysis tables.
#
# In:  results/STUDY/tables/*.parquet, results/STUDY/reward_models/*/ranking/*.parquet, resources/paper/caveats.yaml,
#      resources/measured/*/tables/claims.parquet
# Out: results/STUDY/figures/*.json (Vega-Lite), results/STUDY/report.html


rule draw:
    """Draw the figures."""
    input:
        expand(f"{RESULTS}/tables/{{table}}.parquet", table=ANALYSIS_TABLES),
    output:
        expand(f"{RESULTS}/figures/{{figure}}.json", figure=FIGURES),
    log:
        f"{LOGS}/draw.log",
    benchmark:
        f"{BENCHMARKS}/draw.jsonl"
    resources:
        mem_mb=1000,
        runtime=30,
        gpu=0,
    params:
        options=options.draw(),
        code=code_digest("workflow/scripts/draw.py"),
        versions=versions("altair", "polars"),
    shell:
        "python -m vegflow.warm draw --options {params.options:q} --tables {input} --outputs {output} > {log} 2>&1"


rule render:
    """Write the report."""
    input:
        tables=expand(f"{RESULTS}/tables/{{table}}.parquet", table=ANALYSIS_TABLES),
        figures=expand(f"{RESULTS}/figures/{{figure}}.json", figure=FIGURES),
        staged=study.frontier_tables(),
        staged_figures=study.frontier_figures(),
        measured=study.measured_claims(),
        rankings=study.reward_rankings(),
        caveats=f"{RESOURCES}/paper/caveats.yaml",
        templates=[
            os.path.relpath(ROOT / "vegflow" / "report" / name)
            for name in ("report.html.j2", "staged.html.j2")
        ],
    output:
        f"{RESULTS}/report.html",
    log:
        f"{LOGS}/render.log",
    benchmark:
        f"{BENCHMARKS}/render.jsonl"
    resources:
        mem_mb=1000,
        runtime=30,
        gpu=0,
    params:
        options=options.render(),
        code=code_digest("workflow/scripts/render.py"),
        versions=versions("jinja2", "polars", "vl-convert-python"),
        jobs=BENCHMARKS,
    shell:
        "python -m vegflow.warm render --options {params.options:q} --tables {input.tables} --figures {input.figures}"
        " --staged {input.staged} --staged_figures {input.staged_figures} --measured {input.measured} --rankings {input.rankings} --caveats {input.caveats} --jobs {params.jobs:q} --output {output} > {log} 2>&1"
