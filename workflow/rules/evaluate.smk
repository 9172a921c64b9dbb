# Evaluate: the verdict of the deterministic evaluator on every rollout of a cell.
#
# Candidates run in throw-away processes. Verdicts also go to a content-addressed store that all cells and studies
# share: an identical candidate is evaluated once, and a killed job loses nothing.
#
# In:  results/STUDY/rollouts/CELL.parquet
# Out: results/STUDY/evaluations/CELL.parquet


rule evaluate:
    """Compile, check and time the candidates."""
    input:
        f"{RESULTS}/rollouts/{{cell}}.parquet",
    output:
        f"{RESULTS}/evaluations/{{cell}}.parquet",
    log:
        f"{LOGS}/evaluate/{{cell}}.log",
    benchmark:
        f"{BENCHMARKS}/evaluate/{{cell}}.jsonl"
    resources:
        mem_mb=4000,
        runtime=120,
        gpu=int(study.config.evaluation.device == "cuda"),
    params:
        options=lambda wildcards: options.evaluate(wildcards.cell),
        code=code_digest("workflow/scripts/evaluate.py"),
        versions=versions("torch"),
        store="results/store/evaluations",
    shell:
        "python -m vegflow.warm evaluate --options {params.options:q} --rollouts {input} --store {params.store}"
        " --output {output} --threads {threads} > {log} 2>&1"
