# Base models that ship as a recipe: tokenizer and weights trained from the corpus in about two minutes on two cores.
#
# In:  resources/corpus/, the catalogue's prompts (through vegflow.options)
# Out: results/models/MODEL/, a folder in Hugging Face's layout, shared by all studies


rule build_model:
    """Train a small language model from scratch."""
    input:
        corpus=f"{RESOURCES}/corpus/{study.corpus}.yaml",
    output:
        expand("results/models/{{model}}/{file}", file=study.build_files),
    log:
        "results/logs/build_model/{model}.log",
    benchmark:
        "results/benchmarks/build_model/{model}.jsonl"
    # First, if there is a choice: most jobs wait for it, and those that do not fit beside what comes after it.
    priority: 1
    threads: 2
    resources:
        mem_mb=2000,
        runtime=60,
        gpu=0,
    params:
        options=options.build(),
        code=code_digest("workflow/scripts/build_model.py"),
        versions=versions("torch", "transformers", "tokenizers"),
    shell:
        "python -m vegflow.warm build_model --options {params.options:q} --corpus {input.corpus}"
        " --outputs {output} --threads {threads} > {log} 2>&1"
