# Outcome reward models: trained on evaluated rollouts, asked for scores of others, and measured against their verdicts.
#
# Scores of a sample set are one file a cell, like its rollouts, so that more K, seeds or tasks are more files.
#
# In:  rollouts and evaluations of a trajectory or sample set, or the pool of a verification of Python functions;
#      the trunk (base model, and a policy's adapter if named)
# Out: results/STUDY/reward_models/NAME/{model.safetensors,training.parquet,held-out.parquet}
#      results/STUDY/reward_models/NAME/of/CELL.parquet          scores
#      results/STUDY/reward_models/NAME/ranking/SOURCE.parquet   how well they rank


rule train_orm:
    """Fit a scalar head (and an adapter) to tell completions that pass from those that fail."""
    input:
        unpack(lambda wildcards: study.reward_verdicts(wildcards.orm)),
        model=study.model_files,
        adapter=lambda wildcards: study.adapter(study.reward_trunk(wildcards.orm)),
    output:
        model=f"{RESULTS}/reward_models/{{orm}}/model.safetensors",
        training=f"{RESULTS}/reward_models/{{orm}}/training.parquet",
        held_out=f"{RESULTS}/reward_models/{{orm}}/held-out.parquet",
    log:
        f"{LOGS}/train_orm/{{orm}}.log",
    benchmark:
        f"{BENCHMARKS}/train_orm/{{orm}}.jsonl"
    resources:
        mem_mb=2 * study.memory_mb,
        runtime=240,
        gpu=study.model.gpus,
    params:
        options=lambda wildcards: options.train_orm(wildcards.orm),
        code=code_digest("workflow/scripts/train_orm.py"),
        versions=versions("torch", "transformers", "peft"),
    shell:
        "python -m vegflow.warm train_orm --options {params.options:q} --adapter '{input.adapter}'"
        " --rollouts {input.rollouts} --evaluations {input.evaluations} --pool {input.pool} --output {output.model}"
        " --training {output.training} --held_out {output.held_out} --gpus {resources.gpu} --threads {threads} > {log} 2>&1"


rule score_orm:
    """Score each distinct completion of a cell, and its surprisal in the same pass."""
    input:
        model=study.model_files,
        adapter=lambda wildcards: study.adapter(study.reward_trunk(wildcards.orm)),
        reward_model=f"{RESULTS}/reward_models/{{orm}}/model.safetensors",
        rollouts=f"{RESULTS}/rollouts/{{cell}}.parquet",
    output:
        f"{RESULTS}/reward_models/{{orm}}/of/{{cell}}.parquet",
    log:
        f"{LOGS}/score_orm/{{orm}}/of/{{cell}}.log",
    benchmark:
        f"{BENCHMARKS}/score_orm/{{orm}}/of/{{cell}}.jsonl"
    resources:
        mem_mb=study.memory_mb,
        runtime=60,
        gpu=study.model.gpus,
    params:
        options=lambda wildcards: options.score_orm(wildcards.orm),
        code=code_digest("workflow/scripts/score_orm.py"),
        versions=versions("torch", "transformers", "peft"),
    shell:
        "python -m vegflow.warm score_orm --options {params.options:q} --adapter '{input.adapter}'"
        " --reward_model {input.reward_model} --rollouts {input.rollouts} --output {output}"
        " --gpus {resources.gpu} --threads {threads} > {log} 2>&1"


rule rank_orm:
    """Measure AUROC, calibration and best-of-k of a reward model beside the controls."""
    input:
        unpack(
            lambda wildcards: study.reward_verdicts(
                wildcards.orm, wildcards.measured_on
            )
        ),
        scores=lambda wildcards: study.reward_scores(
            wildcards.orm, wildcards.measured_on
        ),
        training=f"{RESULTS}/reward_models/{{orm}}/training.parquet",
    output:
        f"{RESULTS}/reward_models/{{orm}}/ranking/{{measured_on}}.parquet",
    log:
        f"{LOGS}/rank_orm/{{orm}}/{{measured_on}}.log",
    benchmark:
        f"{BENCHMARKS}/rank_orm/{{orm}}/{{measured_on}}.jsonl"
    resources:
        mem_mb=2000,
        runtime=30,
        gpu=0,
    params:
        options=lambda wildcards: options.rank_orm(wildcards.orm, wildcards.measured_on),
        code=code_digest("workflow/scripts/rank_orm.py"),
        versions=versions("numpy", "polars"),
    shell:
        "python -m vegflow.warm rank_orm --options {params.options:q} --scores {input.scores} --training {input.training}"
        " --rollouts {input.rollouts} --evaluations {input.evaluations} --pool {input.pool}"
        " --output {output} > {log} 2>&1"
