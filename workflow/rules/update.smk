# Update: one gradient step from a policy to the next, on the rollouts that it drew.
#
# RLVR, test-time training and distillation are trajectories of this rule that differ in configuration alone. The model's
# file says how many processes take the step (`learning`).
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
    threads: study.model.learning.processes
    resources:
        mem_mb=study.update_memory_mb,
        runtime=60,
        gpu=study.model.gpus * study.model.learning.processes,
    params:
        start=study.update_command,
        options=lambda wildcards: options.update(wildcards.trained),
        code=code_digest("workflow/scripts/update.py"),
        versions=versions("torch", "transformers", "peft"),
    shell:
        "{params.start} update --options {params.options:q} --adapter '{input.adapter}' --start '{input.start}'"
        " --optimizer '{input.optimizer}' --rollouts {input.rollouts} --evaluations {input.evaluations}"
        " --output {output.record} --gpus {resources.gpu} --threads {threads} > {log} 2>&1"
