# Analyse: selection strategies and every statistic, from stored artifacts alone (no model, no torch).
#
# In:  rollouts, evaluations, NLL and update records; resources/paper/results.yaml
# Out: results/STUDY/tables/*.parquet


rule select:
    """Pick one of a task's K samples under each strategy."""
    input:
        rollouts=study.rollouts(list(study.config.sample_sets)),
        evaluations=study.evaluations(list(study.config.sample_sets)),
    output:
        f"{RESULTS}/tables/selections.parquet",
    log:
        f"{LOGS}/select.log",
    benchmark:
        f"{BENCHMARKS}/select.jsonl"
    resources:
        mem_mb=2000,
        runtime=30,
        gpu=0,
    params:
        options=options.select(),
        code=code_digest("workflow/scripts/select.py"),
        versions=versions("numpy", "polars"),
    shell:
        "python -m vegflow.warm select --options {params.options:q} --rollouts {input.rollouts} --evaluations {input.evaluations}"
        " --output {output} > {log} 2>&1"


rule analyse:
    """Compute every statistic, with intervals, beside the paper's numbers."""
    input:
        rollouts=study.rollouts(),
        evaluations=study.evaluations(),
        nll=study.scores(),
        updates=study.updates(),
        selections=f"{RESULTS}/tables/selections.parquet",
        paper=f"{RESOURCES}/paper/results.yaml",
    output:
        expand(f"{RESULTS}/tables/{{table}}.parquet", table=ANALYSIS_TABLES),
    log:
        f"{LOGS}/analyse.log",
    benchmark:
        f"{BENCHMARKS}/analyse.jsonl"
    threads: study.analysis_processes
    resources:
        mem_mb=4000,
        runtime=60,
        gpu=0,
    params:
        options=options.analyse(),
        code=code_digest("workflow/scripts/analyse.py"),
        versions=versions("numpy", "scipy", "polars"),
    shell:
        "python -m vegflow.warm analyse --options {params.options:q} --rollouts {input.rollouts} --evaluations {input.evaluations}"
        " --nll {input.nll} --updates {input.updates} --selections {input.selections} --paper {input.paper}"
        " --outputs {output} --threads {threads} > {log} 2>&1"
