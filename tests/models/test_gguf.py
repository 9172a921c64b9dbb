"""A GGUF file, written here tensor by tensor, is the model it was written from."""

import pytest
import torch

from tests.models.families import tiny_model
from vegflow.config.sampling import SamplingConfig
from vegflow.sampling.engine import load
from vegflow.sampling.protocol import Request

gguf = pytest.importorskip("gguf", reason="reading GGUF files needs the extra `gguf`")

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
WHOLE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(name):
    """Transformers' name of a Qwen2 tensor as GGUF has it."""
    stem, kind = name.rsplit(".", 1)
    if stem in WHOLE:
        return f"{WHOLE[stem]}.{kind}"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[rest]}.{kind}"


def write(model, path):
    config, writer = model.config, gguf.GGUFWriter(path, "qwen2")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    words = ["<end>", "<pad>", *(chr(33 + number) for number in range(config.vocab_size - 3)), "!!"]
    writer.add_token_list(words)
    writer.add_token_types([3, 3] + [1] * (len(words) - 2))
    writer.add_token_merges(["! !"])
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(1)
    for name, tensor in model.state_dict().items():
        writer.add_tensor(gguf_name(name), tensor.float().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_is_the_model_it_was_written_from(tmp_path):
    model = tiny_model("qwen2")
    write(model, tmp_path / "mine.gguf")
    options = {"location": str(tmp_path / "mine.gguf"), "revision": None, "name": "mine", "dtype": "float32"}
    with load(options, SamplingConfig(), "cpu") as engine:
        ids = torch.tensor([[5, 9, 33, 2, 71]])
        torch.testing.assert_close(engine.base(input_ids=ids).logits, model(input_ids=ids).logits, atol=1e-5, rtol=0)
        assert engine.stop == {0}
        request = Request((5, 9, 33), (("a", 1),))
        ((_, (completion,)),) = engine.draw([request], SamplingConfig(temperature=1.0, max_tokens=4))
        assert len(completion.token_ids) <= 4
