# Staged verification: which cheap verifiers, in which order, find how much of what the full suite finds, how fast.
#
# Every check of every distinct candidate is run once, with no early stop, so that any pipeline can be replayed from what is
# stored; pipelines with `repeats` are also really run, interleaved, for what they cost. A new pipeline runs nothing of the
# first again.
#
# In:  rollouts and evaluations of a sample set, or a file of completions and its tasks; scores of reward models
# Out: results/STUDY/verification/NAME/{pool,checks}.parquet            candidates, and the outcome matrix
#      results/STUDY/verification/NAME/{runs,stage_runs,stage_costs}.parquet
#      results/STUDY/frontier/*.parquet                                 tables over all entries


rule verify_pool:
    """Run every check of every distinct candidate."""
    input:
        unpack(lambda wildcards: study.verification_inputs(wildcards.verification)),
    output:
        pool=f"{RESULTS}/verification/{{verification}}/pool.parquet",
        checks=f"{RESULTS}/verification/{{verification}}/checks.parquet",
    log:
        f"{LOGS}/verify_pool/{{verification}}.log",
    benchmark:
        f"{BENCHMARKS}/verify_pool/{{verification}}.jsonl"
    resources:
        mem_mb=4000,
        runtime=240,
        gpu=lambda wildcards: study.verification_gpus(wildcards.verification),
    params:
        options=lambda wildcards: options.verify_pool(wildcards.verification),
        script=lambda wildcards: study.verification_script(wildcards.verification),
        code=lambda wildcards: code_digest(
            f"workflow/scripts/{study.verification_script(wildcards.verification)}.py"
        ),
        versions=lambda wildcards: study.verification_versions(wildcards.verification),
    shell:
        "python -m vegflow.warm {params.script} --options {params.options:q} --rollouts {input.rollouts}"
        " --evaluations {input.evaluations} --pool {output.pool} --checks {output.checks}"
        " --threads {threads} > {log} 2>&1"


rule verify_run:
    """Run every pipeline, one at a time, in interleaved repeats."""
    input:
        pool=f"{RESULTS}/verification/{{verification}}/pool.parquet",
        checks=f"{RESULTS}/verification/{{verification}}/checks.parquet",
        tasks=lambda wildcards: study.function_files(wildcards.verification),
        scores=lambda wildcards: study.verification_scores(wildcards.verification),
    output:
        runs=f"{RESULTS}/verification/{{verification}}/runs.parquet",
        stage_runs=f"{RESULTS}/verification/{{verification}}/stage_runs.parquet",
        stage_costs=f"{RESULTS}/verification/{{verification}}/stage_costs.parquet",
    log:
        f"{LOGS}/verify_run/{{verification}}.log",
    benchmark:
        f"{BENCHMARKS}/verify_run/{{verification}}.jsonl"
    # More than it needs: what else runs beside a timing is part of what it measures.
    threads: 2
    resources:
        mem_mb=4000,
        runtime=240,
        gpu=lambda wildcards: study.verification_gpus(wildcards.verification),
    params:
        options=lambda wildcards: options.verify_run(wildcards.verification),
        code=code_digest("workflow/scripts/verify_run.py"),
        versions=lambda wildcards: study.verification_versions(wildcards.verification),
    shell:
        "python -m vegflow.warm verify_run --options {params.options:q} --pool {input.pool} --checks {input.checks}"
        " --scores {input.scores} --outputs {output} --threads {threads} > {log} 2>&1"


rule frontier:
    """Compute what every pipeline finds and costs, and what beats what."""
    input:
        pool=study.collected("pool"),
        checks=study.collected("checks"),
        runs=study.collected("runs"),
        stage_costs=study.collected("stage_costs"),
        scores=study.all_scores(),
        paper=f"{RESOURCES}/paper/staged.yaml",
    output:
        study.frontier_tables(),
    log:
        f"{LOGS}/frontier.log",
    benchmark:
        f"{BENCHMARKS}/frontier.jsonl"
    resources:
        mem_mb=2000,
        runtime=60,
        gpu=0,
    params:
        options=options.frontier(),
        code=code_digest("workflow/scripts/frontier.py"),
        versions=versions("numpy", "scipy", "polars"),
    shell:
        "python -m vegflow.warm frontier --options {params.options:q} --pool {input.pool} --checks {input.checks}"
        " --runs {input.runs} --stage_costs {input.stage_costs} --paper {input.paper} --outputs {output} > {log} 2>&1"


rule draw_frontier:
    """Draw the figures of staged verification."""
    input:
        study.frontier_tables(),
    output:
        study.frontier_figures(),
    log:
        f"{LOGS}/draw_frontier.log",
    benchmark:
        f"{BENCHMARKS}/draw_frontier.jsonl"
    resources:
        mem_mb=1000,
        runtime=30,
        gpu=0,
    params:
        options=options.draw_frontier(),
        code=code_digest("workflow/scripts/draw_frontier.py"),
        versions=versions("altair", "polars"),
    shell:
        "python -m vegflow.warm draw_frontier --options {params.options:q} --tables {input} --outputs {output} > {log} 2>&1"
