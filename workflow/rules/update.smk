# Update: one gradient step from a policy to the next, on the rollouts that it drew.
#
# RLVR, test-time training and distillation are trajectories of this rule that differ in configuration alone.
#
# In:  policy s (adapter, optimizer state), its rollouts and their evaluations
# Out: results/STUDY/policies/TRAJECTORY/seedN/step(s+1)/, an adapter in PEFT's format


rule update:
    """Learn from scored rollouts."""
    input:
        unpack(lambda wildcards: study.update_inputs(wildcards.trained)),
    output:
        adapter=f"{RESULTS}/policies/{{trained}}/adapter_model.safetensors",
        config=f"{RESULTS}/policies/{{trained}}/adapter_config.json",
        optimizer=f"{RESULTS}/policies/{{trained}}/optimizer.safetensors",
        record=f"{RESULTS}/policies/{{trained}}/update.parquet",
    log:
        f"{LOGS}/update/{{trained}}.log",
    benchmark:
        f"{BENCHMARKS}/update/{{trained}}.jsonl"
    resources:
        mem_mb=2 * study.memory_mb,
        runtime=60,
        gpu=study.model.gpus,
    params:
        options=lambda wildcards: options.update(wildcards.trained),
        code=code_digest("workflow/scripts/update.py"),
        versions=versions("torch", "transformers", "peft"),
    shell:
        "python -m vegflow.warm update --options {params.options:q} --adapter '{input.adapter}' --start '{input.start}'"
        " --optimizer '{input.optimizer}' --rollouts {input.rollouts} --evaluations {input.evaluations}"
        " --output {output.record} --gpus {resources.gpu} --threads {threads} > {log} 2>&1"
