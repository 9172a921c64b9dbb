# Demonstrate: known programs of training tasks, for a trajectory that learns from them and not from what it draws.
#
# In:  resources/corpus/, the prompt template, the model's tokenizer
# Out: results/STUDY/demonstrations/CELL/programs.parquet   rows as rollouts have them, without log-probabilities
#      results/STUDY/demonstrations/CELL/verdicts.parquet   the evaluator's verdicts on them


rule demonstrate:
    """Draw correct programs from a corpus, by how common they are."""
    input:
        model=study.model_files,
        corpus=lambda wildcards: f"{RESOURCES}/corpus/{study.corpus_of(wildcards.cell)}.yaml",
        template=f"{RESOURCES}/prompts/{study.prompt}.yaml",
    output:
        f"{RESULTS}/demonstrations/{{cell}}/programs.parquet",
    log:
        f"{LOGS}/demonstrate/{{cell}}.log",
    benchmark:
        f"{BENCHMARKS}/demonstrate/{{cell}}.jsonl"
    resources:
        mem_mb=2000,
        runtime=30,
        gpu=0,
    params:
        options=lambda wildcards: options.demonstrate(wildcards.cell),
        code=code_digest("workflow/scripts/demonstrate.py"),
        versions=versions("transformers", "tokenizers"),
    shell:
        "python -m vegflow.warm demonstrate --options {params.options:q} --corpus {input.corpus}"
        " --template {input.template} --output {output} > {log} 2>&1"


use rule evaluate as evaluate_demonstrations with:
    input:
        f"{RESULTS}/demonstrations/{{cell}}/programs.parquet",
    output:
        f"{RESULTS}/demonstrations/{{cell}}/verdicts.parquet",
    log:
        f"{LOGS}/evaluate_demonstrations/{{cell}}.log",
    benchmark:
        f"{BENCHMARKS}/evaluate_demonstrations/{{cell}}.jsonl"
