"""The model against reference figures and its own arithmetic."""

import json
import math
from dataclasses import replace

import pytest
import torch
from support.reference import fill, fixture, reference_batch, reference_model, role_of

from fednano.config.build import build_groups
from fednano.config.compose import compose_config
from fednano.model.arch import NANOCHAT, SEED, Arch
from fednano.model.gpt import GPT, GPTConfig
from fednano.model.loss import softcap_cross_entropy
from fednano.model.scaling import Depth
from fednano.model.window import attend, flex

REFERENCE = fixture("forward")
ARCHES = {"seed": SEED, "nanochat": NANOCHAT}


@pytest.mark.parametrize(("arch", "case"), [(arch, case) for arch in ARCHES for case in REFERENCE[arch]])
def test_matches_reference_figures(arch: str, case: dict) -> None:
    model = reference_model(case["config"], ARCHES[arch])
    tokens, targets = reference_batch(model.config, case["batch"])
    logits = model.logits(tokens)
    loss = model(tokens, targets)
    loss.backward()

    assert loss.item() == pytest.approx(case["loss"], rel=1e-4)
    assert logits[0, 0, :5].tolist() == pytest.approx(case["logits_first"], rel=1e-3, abs=1e-4)
    assert logits[-1, -1, :5].tolist() == pytest.approx(case["logits_last"], rel=1e-3, abs=1e-4)
    assert logits.double().square().sum().item() == pytest.approx(case["logits_sum_sq"], rel=1e-4)
    expected = {role: entry["grad_norm"] for role, entry in case["parameters"].items()}
    found = {role_of(name): parameter.grad.norm().item() for name, parameter in model.named_parameters()}
    assert found == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("arch", "depth", "vocab_size", "parameters"),
    [
        ("seed", 20, 65_536, 560_988_200),
        ("seed", 2, 65_536, 17_170_436),
        ("seed", 4, 65_536, 36_700_168),
        ("seed", 12, 65_536, 185_597_976),
        ("seed", 2, 32_768, 8_781_828),
        ("seed", 4, 32_768, 19_922_952),
        ("seed", 12, 32_768, 135_266_328),
        ("nanochat", 2, 32_768, 12_976_170),
        ("nanochat", 4, 32_768, 36_700_242),
        ("nanochat", 8, 32_768, 125_829_354),
        ("nanochat", 12, 32_768, 286_261_730),
        ("nanochat", 20, 32_768, 896_533_746),
    ],
)
def test_parameter_counts(arch: str, depth: int, vocab_size: int, parameters: int) -> None:
    with torch.device("meta"):
        model = GPT(GPTConfig.derive(Depth(depth), ARCHES[arch], vocab_size))
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_initial_weights_follow_their_distributions() -> None:
    model = GPT(GPTConfig.derive(Depth(4), SEED, 4096))
    model.init_weights(torch.Generator().manual_seed(1))
    width = model.config.width
    assert model.embedding.weight.std().item() == pytest.approx(1.0, rel=0.01)
    assert model.head.weight.std().item() == pytest.approx(0.001, rel=0.01)
    assert model.blocks[1].attn.c_q.weight.std().item() == pytest.approx(1 / math.sqrt(width), rel=0.02)
    assert not model.blocks[1].attn.c_proj.weight.any()
    assert not model.blocks[1].mlp.c_proj.weight.any()
    assert model.resid_lambdas.tolist() == [1.0] * 4
    assert model.x0_lambdas.tolist() == [0.0] * 4


def test_nanochat_initial_weights() -> None:
    model = GPT(GPTConfig.derive(Depth(4), NANOCHAT, 4096))
    model.init_weights(torch.Generator().manual_seed(1))
    inner = 1 / math.sqrt(model.config.width)
    assert model.embedding.weight.std().item() == pytest.approx(0.8, rel=0.01)
    assert model.blocks[1].attn.c_q.weight.std().item() == pytest.approx(inner, rel=0.02)
    assert model.blocks[1].mlp.c_fc.weight.std().item() == pytest.approx(0.4 * inner, rel=0.02)
    assert sorted(model.value_embedding) == ["1", "3"]
    assert model.value_embedding["3"].weight.std().item() == pytest.approx(inner, rel=0.02)
    for gate in (model.smear_gate, model.blocks[3].attn.ve_gate):
        assert 0.0 <= gate.weight.min() < gate.weight.max() <= 0.02
    assert model.resid_lambdas.tolist() == pytest.approx([1.15, 1.15 - 0.1 / 3, 1.05 + 0.1 / 3, 1.05])
    assert model.x0_lambdas.tolist() == pytest.approx([0.2, 0.15, 0.1, 0.05])
    assert (model.smear_lambda.item(), model.backout_lambda.item()) == pytest.approx((0.0, 0.2))


def test_windows_of_the_layers() -> None:
    assert NANOCHAT.windows(4, 2048) == (512, 512, 512, 2048)
    assert NANOCHAT.windows(6, 2048) == (512, 512, 512, 2048, 512, 2048)
    assert NANOCHAT.windows(3, 600) == (256, 256, 600)
    assert NANOCHAT.windows(2, 64) == (64, 64)
    assert replace(NANOCHAT, window_pattern="S").windows(2, 1024) == (256, 1024)


@pytest.mark.parametrize("length", [129, 256, 257, 500])
@pytest.mark.parametrize("heads", [2, 1])
def test_windowed_attention_equals_a_masked_one(length: int, heads: int) -> None:
    draw = torch.Generator().manual_seed(7)
    q, k, v = (torch.randn(2, n, length, 16, generator=draw, requires_grad=True) for n in (2, heads, heads))
    i, j = torch.arange(length).view(-1, 1), torch.arange(length)
    wide_k, wide_v = (x.repeat_interleave(2 // heads, dim=1) for x in (k, v))
    scores = (0.3 * q @ wide_k.mT).masked_fill((j > i) | (i - j > 128), -torch.inf)
    expected = scores.softmax(-1) @ wide_v
    gradients = torch.autograd.grad(expected.square().sum(), (q, k, v))
    found = attend(q, k, v, 128, 0.3)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found.square().sum(), (q, k, v)), gradients, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(flex(q.detach(), k.detach(), v.detach(), 128, 0.3), expected.detach())


@pytest.mark.parametrize("arch", [SEED, NANOCHAT])
def test_no_length_depends_on_what_follows(arch: Arch) -> None:
    model = GPT(GPTConfig.derive(Depth(2, sequence_len=200), replace(arch, window_pattern="S"), 300))
    fill(model)
    tokens = torch.randint(0, 300, (1, 200), generator=torch.Generator().manual_seed(4))
    whole = model.features(tokens)
    for length in (1, 7, 130, 199):
        torch.testing.assert_close(model.features(tokens[:, :length]), whole[:, :length], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "off",
    [{"qk_gain": 1.0}, {"window_pattern": "L"}, {"value_embeddings": False}, {"smear": False}, {"backout": False}],
)
def test_every_feature_is_a_switch(off: dict) -> None:
    depth = Depth(2, sequence_len=160)
    tokens = torch.arange(160).view(1, 160)

    def logits(arch: Arch) -> torch.Tensor:
        model = GPT(GPTConfig.derive(depth, arch, 300))
        fill(model)
        return model.logits(tokens)

    assert not torch.allclose(logits(NANOCHAT), logits(replace(NANOCHAT, **off)))


@pytest.mark.parametrize("arch", [SEED, NANOCHAT])
def test_grouped_heads_equal_repeated_ones(arch: Arch) -> None:
    grouped = GPT(GPTConfig.derive(Depth(4, sequence_len=16, kv_groups=2), arch, 300))
    plain = GPT(GPTConfig.derive(Depth(4, sequence_len=16), arch, 300))
    grouped.init_weights(torch.Generator().manual_seed(2))
    for block in grouped.blocks:
        torch.nn.init.normal_(block.attn.c_proj.weight, generator=torch.Generator().manual_seed(3))
    state = grouped.state_dict()
    for name, tensor in state.items():
        if ".c_k." in name or ".c_v." in name:
            state[name] = tensor.view(1, 128, -1).repeat_interleave(2, dim=0).reshape(256, -1)
        elif "ve_gate" in name:
            state[name] = tensor.repeat_interleave(2, dim=0)
        elif "value_embedding" in name:
            state[name] = tensor.repeat(1, 2)
    plain.load_state_dict(state)
    tokens = torch.arange(32).view(2, 16)
    torch.testing.assert_close(plain.logits(tokens), grouped.logits(tokens))


def test_a_position_sees_no_later_token() -> None:
    model = GPT(GPTConfig.derive(Depth(2, sequence_len=16), SEED, 300))
    fill(model)
    tokens = torch.arange(16).view(1, 16)
    changed = tokens.clone()
    changed[0, 9:] += 100
    before, after = model.logits(tokens)[0], model.logits(changed)[0]
    torch.testing.assert_close(before[:9], after[:9])
    assert not torch.allclose(before[9:], after[9:])


def test_fused_loss_equals_the_plain_one_and_its_gradients() -> None:
    model = GPT(GPTConfig.derive(Depth(2, sequence_len=64), SEED, 300))
    fill(model)
    tokens = torch.randint(0, 300, (4, 64), generator=torch.Generator().manual_seed(4))
    targets = tokens.roll(-1, dims=1)
    targets[:, -3:] = -1

    def gradients(loss: torch.Tensor) -> dict[str, torch.Tensor]:
        model.zero_grad()
        (2.5 * loss).backward()
        return {name: p.grad.clone() for name, p in model.named_parameters()}

    fused = model(tokens, targets)
    plain = torch.nn.functional.cross_entropy(model.logits(tokens).flatten(0, 1), targets.flatten(), ignore_index=-1)
    assert fused.item() == pytest.approx(plain.item(), rel=1e-5)
    torch.testing.assert_close(gradients(fused), gradients(plain), rtol=1e-4, atol=1e-6)


def test_lower_precision_stays_near() -> None:
    model = GPT(GPTConfig.derive(Depth(2, sequence_len=64), SEED, 300))
    fill(model)
    tokens = torch.randint(0, 300, (4, 64), generator=torch.Generator().manual_seed(4))
    exact = model(tokens, tokens.roll(-1, dims=1))
    exact.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(tokens, tokens.roll(-1, dims=1))
    rough.backward()
    assert rough.item() == pytest.approx(exact.item(), rel=2e-2)
    head = model.head.weight.grad
    assert head.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(head.flatten(), gradients["head.weight"].flatten(), dim=0) > 0.99


@pytest.mark.parametrize("slice_logits", [300, 7 * 300, 1 << 20])
def test_fused_loss_does_not_depend_on_the_slices(slice_logits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fednano.model.loss.SLICE_LOGITS", slice_logits)
    monkeypatch.setattr("fednano.model.loss.SLICE_ROWS", 1)
    x = torch.randn(20, 8, generator=torch.Generator().manual_seed(5), requires_grad=True)
    weight = torch.randn(320, 8, generator=torch.Generator().manual_seed(6), requires_grad=True)
    targets = torch.arange(20) * 7
    targets[3] = -1
    loss = softcap_cross_entropy(x, weight, targets, 15.0, 300, -1)
    loss.backward()
    logits = 15 * torch.tanh((x.detach() @ weight.detach()[:300].T) / 15)
    keep = targets >= 0
    assert loss.item() == pytest.approx(torch.nn.functional.cross_entropy(logits[keep], targets[keep]).item(), rel=1e-5)
    assert not x.grad[3].any()
    assert not weight.grad[300:].any()


def test_config_round_trips_through_json() -> None:
    config = GPTConfig.derive(Depth(6, sequence_len=64), replace(NANOCHAT, name="wide", mlp_ratio=3), 1000)
    assert GPTConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("kwargs", "key"),
    [
        ({"depth": 0}, "model.depth must be >= 1, got 0"),
        ({"depth": 2, "sequence_len": 1}, "model.sequence_len must be >= 2, got 1"),
        ({"depth": 4, "kv_groups": 3}, "model.kv_groups must divide the 2 heads of depth 4, got 3"),
    ],
)
def test_bad_depths_name_key_value_and_remedy(kwargs: dict, key: str) -> None:
    with pytest.raises(ValueError, match=key + r".* use "):
        Depth(**kwargs)


@pytest.mark.parametrize(
    ("kwargs", "key"),
    [
        ({"rotary_base": 0.0}, "arch.rotary_base must be > 0, got 0"),
        ({"qk_gain": -1.0}, "arch.qk_gain must be > 0, got -1"),
        ({"window_pattern": "SX"}, "arch.window_pattern must .*, got SX; use"),
        ({"window_pattern": ""}, "arch.window_pattern must .*, got ; use"),
        ({"resid_init": (1.0,)}, r"arch.resid_init must be two numbers, got \[1.0\]"),
    ],
)
def test_bad_architectures_name_key_and_value(kwargs: dict, key: str) -> None:
    with pytest.raises(ValueError, match=key):
        Arch(name="bad", **kwargs)


@pytest.mark.parametrize("arch", ["seed", "nanochat"])
def test_the_yaml_is_the_constant(arch: str) -> None:
    assert build_groups(compose_config([f"arch={arch}"]), ["arch"])["arch"] == ARCHES[arch]
