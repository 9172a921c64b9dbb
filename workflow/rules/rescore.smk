# Rescore: the surprisal of fixed rollouts under another policy (the probe of the paper's section 5.4).
#
# In:  results/STUDY/rollouts/CELL.parquet, the adapter of a policy
# Out: results/STUDY/nll/POLICY/of/CELL.parquet


rule rescore:
    """Score rollouts that one policy drew under another."""
    input:
        model=study.model_files,
        adapter=lambda wildcards: study.adapter(wildcards.policy),
        rollouts=f"{RESULTS}/rollouts/{{cell}}.parquet",
    output:
        f"{RESULTS}/nll/{{policy}}/of/{{cell}}.parquet",
    log:
        f"{LOGS}/rescore/{{policy}}/of/{{cell}}.log",
    benchmark:
        f"{BENCHMARKS}/rescore/{{policy}}/of/{{cell}}.jsonl"
    resources:
        mem_mb=study.sampling_mb,
        model_mb=study.sampling_model_mb,
        runtime=60,
        gpu=study.sampling_gpus,
    params:
        options=lambda wildcards: options.rescore(wildcards.policy),
        code=code_digest("workflow/scripts/rescore.py"),
        engine=code_digest(engine_source(study.config.sampling.engine)),
        versions=versions(
            "torch",
            "transformers",
            "peft",
            *engine_packages(study.config.sampling.engine),
        ),
    shell:
        "python -m vegflow.warm rescore --options {params.options:q} --adapter '{input.adapter}' --rollouts {input.rollouts}"
        " --output {output} --gpus {resources.gpu} --memory {resources.model_mb} --threads {threads} > {log} 2>&1"
