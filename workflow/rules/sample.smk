# Sample: completions of a batch of tasks by one policy.
#
# A cell is one file of rollouts: a step of a trajectory (ttt/seed42/step003) or a shard of a sample set
# (best_of_n/seed42/subset1/shard000). Files are append-only: more K, seeds, steps or tasks are more cells.
#
# In:  the base model, the adapter of the cell's policy
# Out: results/STUDY/rollouts/CELL.parquet


rule sample:
    """Draw completions with their token log-probabilities."""
    input:
        model=study.model_files,
        adapter=lambda wildcards: study.adapter(study.cells[wildcards.cell].policy),
        template=f"{RESOURCES}/prompts/{study.prompt}.yaml",
    output:
        f"{RESULTS}/rollouts/{{cell}}.parquet",
    log:
        f"{LOGS}/sample/{{cell}}.log",
    benchmark:
        f"{BENCHMARKS}/sample/{{cell}}.jsonl"
    resources:
        mem_mb=study.sampling_mb,
        model_mb=study.sampling_model_mb,
        runtime=60,
        gpu=study.sampling_gpus,
    params:
        options=lambda wildcards: options.sample(wildcards.cell),
        code=code_digest("workflow/scripts/sample.py"),
        engine=code_digest(engine_source(study.config.sampling.engine)),
        versions=versions(
            "torch",
            "transformers",
            "peft",
            *engine_packages(study.config.sampling.engine),
        ),
    shell:
        "python -m vegflow.warm sample --options {params.options:q} --adapter '{input.adapter}' --template {input.template}"
        " --output {output} --gpus {resources.gpu} --memory {resources.model_mb} --threads {threads} > {log} 2>&1"
