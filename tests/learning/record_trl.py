"""Write trl_values.json: loss and adapter gradient that TRL's GRPOTrainer computes for `peer_scenario`, and its SDPO losses.

Run where TRL is installed: `python -m tests.learning.record_trl`. The tests compare with the file, so they need no TRL.
"""

import json
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from tests.learning import peer_scenario as scenario

FILE = Path(__file__).with_name("trl_values.json")


def trainer(loss: str, temperature: float, folder: str) -> Any:
    """TRL's trainer around the scenario's model, set up to compute one loss over one batch."""
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from trl import GRPOConfig, GRPOTrainer

    words = {f"w{i}": i for i in range(scenario.VOCABULARY)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w2")), eos_token="w0", pad_token="w1"
    )
    arguments = GRPOConfig(
        output_dir=folder,
        loss_type=loss,
        temperature=temperature,
        epsilon=0.2,
        epsilon_high=0.28 if loss == "dapo" else 0.2,
        beta=0.0,
        per_device_train_batch_size=8,
        num_generations=scenario.GROUP,
        gradient_accumulation_steps=1,
        steps_per_generation=1,
        max_completion_length=scenario.LONGEST,
        bf16=False,
        use_cpu=True,
        gradient_checkpointing=False,
        report_to=[],
        disable_tqdm=True,
    )
    made = GRPOTrainer(
        model=scenario.model(),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": "w5"}] * 8),
        processing_class=tokenizer,
    )
    made.current_gradient_accumulation_steps = 1
    return made


def batch(policy: Any, temperature: float) -> dict[str, torch.Tensor]:
    """The scenario as padded tensors: prompts to the left, completions to the right."""
    rows = [(p, c) for p, group in zip(scenario.PROMPTS, scenario.completions(), strict=True) for c in group]
    longest = max(len(p) for p, _ in rows)
    prompt_ids = torch.tensor([[1] * (longest - len(p)) + p for p, _ in rows])
    completion_ids = torch.tensor([c + [1] * (scenario.LONGEST - len(c)) for _, c in rows])
    prompt_mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p, _ in rows])
    completion_mask = torch.tensor([[1] * len(c) + [0] * (scenario.LONGEST - len(c)) for _, c in rows])
    old = torch.zeros(completion_ids.shape)
    for i, ((prompt, completion), shift) in enumerate(zip(rows, scenario.shifts(), strict=True)):
        with torch.no_grad():
            logits = policy(input_ids=torch.tensor([prompt + completion])).logits[0].double() / temperature
        logp = logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(1, torch.tensor(completion)[:, None])[:, 0]
        old[i, : len(completion)] = (logp + torch.tensor(shift)).float()
    return {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": completion_ids,
        "completion_mask": completion_mask,
        "advantages": torch.tensor(scenario.advantages(), dtype=torch.float32),
        "old_per_token_logps": old,
        "num_items_in_batch": completion_mask.sum(),
    }


def values(loss: str, temperature: float) -> dict[str, Any]:
    """Loss and gradient as TRL computes them."""
    with tempfile.TemporaryDirectory() as folder:
        made = trainer(loss, temperature, folder)
        made.model.train()
        computed = made._compute_loss(made.model, batch(made.model, temperature))
        made.model.zero_grad()
        computed.backward()
        return {
            "loss": computed.item(),
            "gradient": [float(f"{g:.9g}") for g in scenario.gradient(made.model).tolist()],
        }


def sdpo_values() -> dict[str, Any]:
    """Token losses and their gradient in the student's logits, as TRL's SDPO computes them."""
    from trl.experimental.sdpo import loss_utils

    found = {}
    for alpha in (*scenario.ALPHAS, "sampled token"):
        student, teacher, tokens, old = scenario.logits()
        student.requires_grad_(True)
        if alpha == "sampled token":
            loss = loss_utils.compute_sampled_token_self_distillation_loss(
                student[None], teacher[None], tokens[None], distillation_alpha=1.0
            )[0]
        else:
            loss = loss_utils.compute_topk_self_distillation_loss(
                student[None],
                teacher[None],
                distillation_topk=scenario.TOP_K,
                distillation_alpha=alpha,
                distillation_add_tail=True,
            )[0]
        logp = student.log_softmax(-1).gather(1, tokens[:, None])[:, 0]
        loss = loss_utils.apply_importance_sampling_clipping(loss, logp, old, scenario.CAP)
        loss.sum().backward()
        found[str(alpha)] = {"loss": loss.tolist(), "gradient": student.grad.flatten().tolist()}
    return found


def main() -> None:
    """Write the file."""
    table = {f"{loss} {t:g}": values(loss, t) for loss in scenario.LOSSES for t in scenario.TEMPERATURES}
    FILE.write_text(json.dumps({"trl": metadata.version("trl"), "values": table, "sdpo": sdpo_values()}) + "\n")


if __name__ == "__main__":
    main()
