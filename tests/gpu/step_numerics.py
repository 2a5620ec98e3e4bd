"""Both architectures on the device against the CPU's fixtures and gradients; the optimizer's fixture."""

from typing import Any

from step import Step, main

FP32, BF16 = 1e-4, 2e-2
FIXTURE_GRADIENT = 1e-3  # as the fixture itself says


def work(step: Step) -> None:
    import torch
    from support.reference import fixture, reference_batch, reference_model

    from fednano.model.arch import NANOCHAT, SEED
    from fednano.training.hardware import Hardware

    device = torch.device(step.device)
    hardware = Hardware(name="gpu", device=step.device, threads=0, dtype="auto", compile=False, tokens_per_s=(1.0,))
    hardware.use()
    hardware.repeat_exactly()
    # fednano leaves these as torch has them: products of float32 are not rounded to TF32.
    tf32 = torch.backends.cuda.matmul.allow_tf32
    step.require(not tf32 and torch.get_float32_matmul_precision() == "highest", "float32 products are rounded to TF32")
    worst = dict.fromkeys(("loss", "logits", "gradients", "gradient norms", "bf16 loss", "bf16 gradients"), 0.0)

    def note(kind: str, error: float, limit: float, where: str) -> None:
        worst[kind] = max(worst[kind], error)
        print(f"{where}: {kind} off by {error:.2e}, limit {limit:.0e}", flush=True)
        step.require(error <= limit, f"{where}: {kind} off by {error:.1e}, limit {limit:.0e}")

    forward = fixture("forward")
    for name, arch in (("seed", SEED), ("nanochat", NANOCHAT)):
        for case in forward[name]:
            on_cpu, model = reference_model(case["config"], arch), reference_model(case["config"], arch).to(device)
            batch = reference_batch(model.config, case["batch"])
            moved = tuple(part.to(device) for part in batch)
            expected, exact = gradients(on_cpu, *batch), gradients(model, *moved)
            note("loss", relative(exact[0], case["loss"]), FP32, name)
            logits = model.logits(moved[0]).detach()
            note("logits", relative(float(logits.double().square().sum()), case["logits_sum_sq"]), FP32, name)
            note("gradients", apart(exact[1], expected[1]), FP32, name)
            note("gradient norms", worst_norm(exact[1], case), FIXTURE_GRADIENT, name)
            with torch.autocast(device.type, torch.bfloat16):
                rough = gradients(model, *moved)
            note("bf16 loss", relative(rough[0], case["loss"]), BF16, name)
            note("bf16 gradients", 1.0 - cosine(rough[1], expected[1]), BF16, name)
    optimizer = steps_of_the_optimizer(step, device)
    figure = f"fp32 gradients off by {worst['gradients']:.0e}, bf16 loss by {worst['bf16 loss']:.0e}; no TF32"
    step.tell(figure, **worst, allow_tf32=tf32, optimizer=optimizer)


def gradients(model: Any, tokens: Any, targets: Any) -> tuple[float, dict[str, Any]]:
    model.zero_grad()
    loss = model(tokens, targets)
    loss.backward()
    return loss.item(), {name: p.grad.detach().cpu().double() for name, p in model.named_parameters()}


def relative(found: float, expected: float) -> float:
    return abs(found / expected - 1.0)


def apart(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """The largest distance of a parameter's gradients, relative to their norm."""
    return max(float((found[n] - expected[n]).norm() / expected[n].norm().clamp(min=1e-12)) for n in expected)


def cosine(found: dict[str, Any], expected: dict[str, Any]) -> float:
    import torch

    flat = [torch.cat([side[name].flatten() for name in expected]) for side in (found, expected)]
    return float(torch.nn.functional.cosine_similarity(flat[0], flat[1], dim=0))


def worst_norm(found: dict[str, Any], case: dict[str, Any]) -> float:
    from support.reference import role_of

    norms = {role: entry["grad_norm"] for role, entry in case["parameters"].items()}
    return max(relative(float(grad.norm()), norms[role_of(name)]) for name, grad in found.items())


def steps_of_the_optimizer(step: Step, device: Any) -> list[float]:
    """Losses over the fixture's five steps; later ones amplify rounding, so the first three must be met closely."""
    from support.reference import fixture, optimizer_losses, reference_batch, reference_model

    from fednano.config.build import build_groups
    from fednano.config.compose import compose_config
    from fednano.model.arch import NANOCHAT

    reference = fixture("optimizer")
    model = reference_model(reference["config"], NANOCHAT).to(device)
    optimizer = build_groups(compose_config(["optim=nanochat"]), ["optim"])["optim"].build(model)
    tokens, targets = (part.to(device) for part in reference_batch(model.config, 2))
    losses = optimizer_losses(model, optimizer, tokens, targets)
    for index, limit in enumerate((FP32, FP32, FP32, 1e-3)):
        error = relative(losses[index], reference["losses"][index])
        print(f"optimizer: loss {index} off by {error:.2e}, limit {limit:.0e}", flush=True)
        step.require(error <= limit, f"optimizer: loss {index} off by {error:.1e}, limit {limit:.0e}")
    return losses


main(work)
