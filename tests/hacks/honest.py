"""Honest candidates: right answers in forms that a bad evaluator would reject.

Other orders of summation, other layouts, work on buffers of their own, outputs that are views; several for each kind of
operation in the catalogue, most of them bodies of the scaffold, some whole modules. None knows a shape by heart.
"""

import textwrap
from dataclasses import dataclass

from tests.hacks.honest_native import PROGRAMS


@dataclass(frozen=True)
class Honest:
    """One honest program for a built-in task."""

    task_id: str
    name: str
    text: str
    scaffold: str = "body"
    language: str = "python"
    """Another one than Python has no scaffold: `text` is the program."""


def _bodies(task_id: str, **bodies: str) -> list[Honest]:
    return [Honest(task_id, name.replace("_", " "), textwrap.dedent(text).strip()) for name, text in bodies.items()]


def _module(task_id: str, name: str, text: str) -> Honest:
    head = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n\n\n"
    return Honest(task_id, name, head + textwrap.dedent(text).strip() + "\n", "full")


MATMUL = [
    *_bodies(
        "L1/1",
        operator="return A @ B",
        mm="return torch.mm(A, B)",
        einsum="return torch.einsum('ij,jk->ik', A, B)",
        transposed_twice="return (B.t() @ A.t()).t()",
        addmm="return torch.addmm(A.new_zeros(()), A, B)",
        row_blocks="return torch.cat([a @ B for a in A.split(64)])",
        column_blocks="return torch.cat([A @ b for b in B.split(50, dim=1)], dim=1)",
        blocks_of_the_inner_axis="""
            y = A.new_zeros(A.shape[0], B.shape[1])
            for a, b in zip(A.split(32, dim=1), B.split(32)):
                y.addmm_(a, b)
            return y
        """,
        into_a_buffer_of_its_own="""
            y = torch.empty(A.shape[0], B.shape[1])
            torch.mm(A, B, out=y)
            return y
        """,
        linear="return F.linear(A, B.t())",
    ),
    *_bodies(
        "L1/6",
        one_block_at_a_time="""
            y = torch.zeros(A.shape[0], B.shape[1])
            for a, b in zip(A.split(1024, dim=1), B.split(1024)):
                y += a @ b
            return y
        """,
        batched_blocks="""
            n = A.shape[1] // 2
            halves = torch.bmm(torch.stack([A[:, :n], A[:, n:2 * n]]), torch.stack([B[:n], B[n:2 * n]]))
            return halves.sum(0) + A[:, 2 * n:] @ B[2 * n:]
        """,
    ),
    *_bodies(
        "L1/3",
        operator="return A @ B",
        einsum="return torch.einsum('bij,bjk->bik', A, B)",
        one_at_a_time="return torch.stack([a @ b for a, b in zip(A, B)])",
        baddbmm="return torch.baddbmm(A.new_zeros(()), A, B)",
    ),
    *_bodies(
        "L1/4",
        mv="return torch.mv(A, B[:, 0])[:, None]",
        multiply_and_sum="return (A * B[:, 0]).sum(1, keepdim=True)",
        blocks_one_after_the_other="""
            y = A.new_zeros(A.shape[0], 1)
            for a, b in zip(A.split(4096, dim=1), B.split(4096)):
                y += a @ b
            return y
        """,
    ),
    *_bodies("L1/5", reversed="return s * A", mul="return torch.mul(A, s)", own_buffer="return A.clone().mul_(s)"),
    *_bodies(
        "L1/10",
        flattened="return (A.reshape(-1, A.shape[-1]) @ B).view(*A.shape[:-1], -1)",
        tensordot="return torch.tensordot(A, B, dims=1)",
    ),
    *_bodies(
        "L1/11",
        matmul="return A @ B",
        flattened="return (A.reshape(-1, A.shape[-1]) @ B).unflatten(0, A.shape[:-1])",
    ),
    *_bodies(
        "L1/12",
        scaled_rows="return A[:, None] * B",
        own_buffer="return B.clone().mul_(A.unsqueeze(1))",
        einsum="return torch.einsum('i,ij->ij', A, B)",
    ),
    *_bodies("L1/13", uses_the_symmetry="return A.t() @ B.t()", a_view="return (B @ A).t()"),
    *_bodies(
        "L1/14",
        block_rows="""
            n = A.shape[0] // 2
            y = torch.zeros_like(A)
            y[:n] = A[:n] @ B
            y[n:, n:] = A[n:, n:] @ B[n:, n:]
            return y.triu()
        """,
        no_triu="return A @ B",
    ),
    *_bodies("L1/15", masked="return (A @ B) * torch.ones_like(B).tril()"),
    *_bodies("L1/16", einsum="return torch.einsum('ki,kj->ij', A, B)", contiguous="return A.t().contiguous() @ B"),
    *_bodies("L1/17", linear="return F.linear(A, B)", a_view="return (B @ A.t()).t()"),
    *_bodies("L1/18", swapped="return (B @ A).t()", copied="return (B @ A).t().contiguous()"),
]

ACTIVATIONS = [
    *_bodies(
        "L1/19",
        clamp="return x.clamp(min=0)",
        maximum="return torch.maximum(x, torch.zeros(()))",
        where="return torch.where(x > 0, x, 0.0)",
        half_sum="return (x + x.abs()) / 2",
        own_buffer="y = x.clone()\ny[y < 0] = 0\nreturn y",
        threshold="return F.threshold(x, 0.0, 0.0)",
    ),
    *_bodies(
        "L1/20",
        maximum="return torch.maximum(x, 0.01 * x)",
        where="return torch.where(x >= 0, x, x * 0.01)",
        two_parts="return x.clamp(min=0) + 0.01 * x.clamp(max=0)",
    ),
    *_bodies("L1/21", reciprocal="return 1 / (1 + torch.exp(-x))", by_tanh="return 0.5 * (1 + torch.tanh(x / 2))"),
    *_bodies("L1/22", by_sigmoid="return 2 * torch.sigmoid(2 * x) - 1"),
    *_bodies(
        "L1/25",
        divided="return x / (1 + torch.exp(-x))",
        silu="return F.silu(x)",
        in_place_on_its_own="return torch.sigmoid(x).mul_(x)",
    ),
    *_bodies("L1/26", by_erf="return x * 0.5 * (1 + torch.erf(x * 0.7071067811865476))"),
    *_bodies(
        "L1/27",
        by_parts="return 1.0507009873554805 * torch.where(x > 0, x, 1.6732632423543772 * torch.expm1(x.clamp(max=0)))",
    ),
    *_bodies(
        "L1/28",
        clamp="return (x / 6 + 0.5).clamp(0, 1)",
        relu6="return F.relu6(x + 3) / 6",
    ),
    *_bodies(
        "L1/29",
        safe="return x.clamp(min=0) + torch.log1p(torch.exp(-x.abs()))",
        logaddexp="return torch.logaddexp(x, torch.zeros(()))",
    ),
    *_bodies("L1/30", library="return F.softsign(x)", own_buffer="return x / x.abs().add_(1)"),
    *_bodies("L1/31", by_parts="return torch.where(x > 0, x, self.alpha * torch.expm1(x.clamp(max=0)))"),
    *_bodies("L1/32", clamp="return torch.clamp(x, -1, 1)", two_steps="return x.clamp(max=1).clamp_(min=-1)"),
    *_bodies(
        "L1/88",
        factored="return 0.5 * x * (1 + torch.tanh(0.7978845608028654 * x * (1 + 0.044715 * x * x)))",
        library="return F.gelu(x, approximate='tanh')",
    ),
]

SOFTMAX = [
    *_bodies(
        "L1/23",
        by_hand="y = torch.exp(x - x.amax(1, keepdim=True))\nreturn y / y.sum(1, keepdim=True)",
        exp_of_the_log="return torch.exp(x - torch.logsumexp(x, 1, keepdim=True))",
        row_by_row="return torch.stack([torch.softmax(row, 0) for row in x.unbind(0)])",
        transposed="return torch.softmax(x.t().contiguous(), dim=0).t()",
    ),
    *_bodies(
        "L1/24",
        logsumexp="return x - torch.logsumexp(x, dim=1, keepdim=True)",
        by_hand="""
            z = x - x.amax(dim=1, keepdim=True)
            return z - z.exp().sum(dim=1, keepdim=True).log()
        """,
    ),
    *_bodies(
        "L1/97",
        by_hand="return torch.softmax(Q @ K.transpose(-2, -1) / Q.shape[-1] ** 0.5, dim=-1) @ V",
        scaled_first="return torch.softmax((Q * Q.shape[-1] ** -0.5) @ K.mT, dim=-1) @ V",
        head_by_head="""
            y = torch.empty_like(Q)
            for b in range(Q.shape[0]):
                for h in range(Q.shape[1]):
                    s = Q[b, h] @ K[b, h].t() / Q.shape[-1] ** 0.5
                    y[b, h] = torch.softmax(s, -1) @ V[b, h]
            return y
        """,
    ),
]

NORMS = [
    *_bodies(
        "L1/33",
        by_hand="""
            variance, mean = torch.var_mean(x, dim=(0, 2, 3), correction=0, keepdim=True)
            scale = self.bn.weight.view(1, -1, 1, 1) * torch.rsqrt(variance + self.bn.eps)
            return (x - mean) * scale + self.bn.bias.view(1, -1, 1, 1)
        """,
        functional="return F.batch_norm(x, None, None, self.bn.weight, self.bn.bias, True)",
        channels_last="return self.bn(x.contiguous(memory_format=torch.channels_last))",
    ),
    *_bodies(
        "L1/34",
        by_hand="""
            mean = x.mean(dim=(2, 3), keepdim=True)
            centred = x - mean
            return centred * torch.rsqrt(centred.square().mean(dim=(2, 3), keepdim=True) + self.inorm.eps)
        """,
        as_group_norm="return F.group_norm(x, x.shape[1], eps=self.inorm.eps)",
    ),
    *_bodies(
        "L1/35",
        by_hand="""
            g = self.gn.num_groups
            y = x.reshape(x.shape[0], g, -1)
            variance, mean = torch.var_mean(y, dim=2, correction=0, keepdim=True)
            y = ((y - mean) * torch.rsqrt(variance + self.gn.eps)).view_as(x)
            return y * self.gn.weight.view(1, -1, 1, 1) + self.gn.bias.view(1, -1, 1, 1)
        """,
        functional="return F.group_norm(x, self.gn.num_groups, self.gn.weight, self.gn.bias, self.gn.eps)",
    ),
    *_bodies(
        "L1/36",
        rsqrt="return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + self.eps)",
        channel_by_channel="""
            total = torch.zeros_like(x[:, :1])
            for channel in x.split(1, dim=1):
                total.addcmul_(channel, channel)
            return x / torch.sqrt(total / x.shape[1] + self.eps)
        """,
    ),
    *_bodies(
        "L1/37",
        linalg="return x / torch.linalg.vector_norm(x)",
        square_and_sum="return x / x.square().sum().sqrt()",
        dot="y = x.flatten()\nreturn x / torch.sqrt(torch.dot(y, y))",
    ),
    *_bodies("L1/38", multiplied="return x * (x.shape[1] / x.abs().sum(dim=1, keepdim=True))"),
    *_bodies(
        "L1/39",
        square_and_sum="return x / (x * x).sum(dim=1, keepdim=True).sqrt()",
        linalg="return x / torch.linalg.vector_norm(x, dim=1, keepdim=True)",
    ),
    *_bodies(
        "L1/40",
        by_hand="""
            dims = tuple(range(1, x.dim()))
            variance, mean = torch.var_mean(x, dim=dims, correction=0, keepdim=True)
            return (x - mean) / torch.sqrt(variance + self.ln.eps) * self.ln.weight + self.ln.bias
        """,
        functional="return F.layer_norm(x, self.ln.normalized_shape, self.ln.weight, self.ln.bias, self.ln.eps)",
    ),
]

POOLING = [
    *_bodies(
        "L1/41",
        unfolded="""
            p = self.maxpool
            y = F.pad(x, (p.padding, p.padding), value=float('-inf'))
            length = (y.shape[-1] - p.dilation * (p.kernel_size - 1) - 1) // p.stride + 1
            parts = [y[..., i * p.dilation:][..., : (length - 1) * p.stride + 1: p.stride] for i in range(p.kernel_size)]
            return torch.stack(parts).amax(0)
        """,
    ),
    *_bodies(
        "L1/42",
        one_axis_after_the_other="""
            p = self.maxpool
            y = F.max_pool2d(x, (p.kernel_size, 1), (p.stride, 1), (p.padding, 0), (p.dilation, 1))
            return F.max_pool2d(y, (1, p.kernel_size), (1, p.stride), (0, p.padding), (1, p.dilation))
        """,
        channels_last="return self.maxpool(x.to(memory_format=torch.channels_last))",
    ),
    *_bodies(
        "L1/44",
        cumulative_free="""
            p = self.avg_pool
            k = p.kernel_size[0]
            y = F.pad(x, (p.padding[0], p.padding[0]))
            return y.unfold(-1, k, p.stride[0]).sum(-1) / k
        """,
        by_convolution="""
            k = self.avg_pool.kernel_size[0]
            w = x.new_full((1, 1, k), 1 / k)
            y = F.conv1d(x.reshape(-1, 1, x.shape[-1]), w, padding=self.avg_pool.padding[0])
            return y.view(*x.shape[:-1], -1)
        """,
    ),
    *_bodies(
        "L1/45",
        by_reshaping="""
            k = self.avg_pool.kernel_size
            h, w = x.shape[-2] // k, x.shape[-1] // k
            return x[..., : h * k, : w * k].unflatten(-1, (w, k)).unflatten(-3, (h, k)).mean(dim=(-3, -1))
        """,
    ),
    *_bodies(
        "L1/46",
        one_axis_after_the_other="""
            p = self.avg_pool
            y = F.avg_pool3d(x, (p.kernel_size, 1, 1), (p.stride, 1, 1), (p.padding, 0, 0))
            return F.avg_pool3d(y, (1, p.kernel_size, p.kernel_size), (1, p.stride, p.stride), (0, p.padding, p.padding))
        """,
    ),
]

REDUCTIONS = [
    *_bodies(
        "L1/47",
        one_row_after_the_other="""
            y = torch.zeros_like(x.narrow(self.dim, 0, 1))
            for row in x.split(1, dim=self.dim):
                y += row
            return y
        """,
        product_with_ones="return torch.ones(1, x.shape[1]) @ x",
        einsum="return torch.einsum('bij->bj', x).unsqueeze(self.dim)",
        from_the_end="return x.flip(self.dim).sum(self.dim, keepdim=True)",
    ),
    *_bodies(
        "L1/48",
        sum_and_divide="return x.sum(self.dim) / x.shape[self.dim]",
        halves="""
            n = x.shape[self.dim]
            return sum(part.sum(self.dim) for part in x.split(n // 2, self.dim)) / n
        """,
        product="return torch.matmul(x.new_full((x.shape[1],), 1 / x.shape[1]), x)",
    ),
    *_bodies(
        "L1/49",
        amax="return x.amax(self.dim)",
        sorted="return x.sort(dim=self.dim).values.select(self.dim, -1)",
        pairwise="""
            y = x.select(self.dim, 0).clone()
            for row in x.unbind(self.dim):
                torch.maximum(y, row, out=y)
            return y
        """,
    ),
    *_bodies(
        "L1/53", negated="return -(-x).amax(self.dim)", topk="return x.topk(1, self.dim, largest=False)[0].squeeze(1)"
    ),
    *_bodies(
        "L1/51",
        by_max="return x.max(dim=self.dim)[1]",
        by_sorting="return x.argsort(dim=self.dim, descending=True, stable=True).select(self.dim, 0)",
        by_comparing="return (x == x.amax(self.dim, keepdim=True)).int().argmax(self.dim)",
    ),
    *_bodies("L1/52", of_the_negative="return (-x).argmax(self.dim)", by_min="return x.min(dim=self.dim).indices"),
]

CONVOLUTIONS = [
    *_bodies(
        "L1/50",
        channels_last="return self.conv1(x.contiguous(memory_format=torch.channels_last))",
        two_halves="""
            w, b = self.conv1.weight.chunk(2), self.conv1.bias.chunk(2)
            return torch.cat([F.conv2d(x, w[i], b[i], stride=4, padding=2) for i in range(2)], dim=1)
        """,
    ),
    *_bodies(
        "L1/55",
        unfolded="""
            w = self.conv.weight
            y = w.flatten(1) @ F.unfold(x, w.shape[2:])
            return y.view(x.shape[0], -1, x.shape[2] - w.shape[2] + 1, x.shape[3] - w.shape[3] + 1)
        """,
        tap_by_tap="""
            w = self.conv.weight
            h, v = x.shape[2] - w.shape[2] + 1, x.shape[3] - w.shape[3] + 1
            y = x.new_zeros(x.shape[0], w.shape[0], h, v)
            for i in range(w.shape[2]):
                for j in range(w.shape[3]):
                    y += torch.einsum('oc,nchw->nohw', w[:, :, i, j], x[:, :, i:i + h, j:j + v])
            return y
        """,
        image_by_image="return torch.cat([self.conv(image) for image in x.split(1)])",
    ),
    *_bodies(
        "L1/63",
        functional="return F.conv2d(x, self.conv.weight)",
        channel_blocks="""
        w = self.conv.weight
        n = w.shape[1] // 2
        return F.conv2d(x[:, :n], w[:, :n]) + F.conv2d(x[:, n:], w[:, n:])
    """,
    ),
    *_bodies(
        "L1/54",
        depth_by_depth="""
        w = self.conv.weight
        n = x.shape[2] - w.shape[2] + 1
        return torch.stack([
            sum(F.conv2d(x[:, :, d + i], w[:, :, i]) for i in range(w.shape[2])) for d in range(n)
        ], dim=2)
    """,
    ),
    *_bodies(
        "L1/67",
        as_two_dimensions="return F.conv2d(x[:, :, None], self.conv.weight[:, :, None]).squeeze(2)",
        unfolded="""
            w = self.conv.weight
            return torch.einsum('oik,nitk->not', w, x.unfold(2, w.shape[2], 1))
        """,
    ),
    *_bodies(
        "L1/64",
        as_a_convolution="""
        w = self.conv.weight
        return F.conv1d(F.pad(x, (w.shape[2] - 1, w.shape[2] - 1)), w.transpose(0, 1).flip(2))
    """,
    ),
    *_bodies(
        "L1/57",
        as_a_convolution="""
        w = self.conv.weight
        return F.conv2d(x, w.transpose(0, 1).flip(2, 3), padding=(w.shape[2] - 1, w.shape[3] - 1))
    """,
    ),
    *_bodies(
        "L1/82",
        tap_by_tap="""
            w = self.conv.weight
            h, v = x.shape[2] - w.shape[2] + 1, x.shape[3] - w.shape[3] + 1
            y = x.new_zeros(*x.shape[:2], h, v)
            for i in range(w.shape[2]):
                for j in range(w.shape[3]):
                    y.addcmul_(x[:, :, i:i + h, j:j + v], w[:, 0, i, j].view(1, -1, 1, 1))
            return y
        """,
    ),
    *_bodies(
        "L1/86",
        fused="""
            y = self.depthwise(x)
            w = self.pointwise.weight.flatten(1)
            return (w @ y.flatten(2)).unflatten(2, y.shape[2:])
        """,
    ),
    *_bodies(
        "L1/87",
        as_a_product="return (self.conv.weight.flatten(1) @ x.flatten(2)).unflatten(2, x.shape[2:])",
        einsum="return torch.einsum('oc,nchw->nohw', self.conv.weight[:, :, 0, 0], x)",
        linear_on_the_last_axis="""
            return F.linear(x.permute(0, 2, 3, 1), self.conv.weight[:, :, 0, 0]).permute(0, 3, 1, 2)
        """,
    ),
]

SCANS = [
    *_bodies(
        "L1/89",
        one_column_after_the_other="""
            y = torch.empty_like(x)
            total = torch.zeros_like(x.select(self.dim, 0))
            for i in range(x.shape[self.dim]):
                total = total + x.select(self.dim, i)
                y.select(self.dim, i).copy_(total)
            return y
        """,
        product_with_a_triangle="""
            n = x.shape[1]
            return x @ torch.ones(n, n).triu()
        """,
        in_blocks="""
            total = torch.zeros_like(x[:, :1])
            parts = []
            for part in x.split(128, dim=1):
                part = part.cumsum(1) + total
                total = part[:, -1:]
                parts.append(part)
            return torch.cat(parts, 1)
        """,
    ),
    *_bodies(
        "L1/90",
        one_column_after_the_other="""
        y = x.clone()
        for i in range(1, x.shape[1]):
            y[:, i] *= y[:, i - 1]
        return y
    """,
    ),
    *_bodies(
        "L1/91",
        total_minus_rest="return x.sum(1, keepdim=True) - x.cumsum(1) + x",
        product_with_a_triangle="n = x.shape[1]\nreturn x @ torch.ones(n, n).tril()",
    ),
    *_bodies(
        "L1/92",
        minus_itself="return x.cumsum(1) - x",
        own_buffer="""
            y = torch.zeros_like(x)
            torch.cumsum(x[:, :-1], 1, out=y[:, 1:])
            return y
        """,
    ),
    *_bodies(
        "L1/93",
        where="return torch.where(mask, x, 0.0).cumsum(self.dim)",
        filled="return x.masked_fill(~mask, 0).cumsum_(self.dim)",
    ),
]

LOSSES = [
    *_bodies(
        "L1/94",
        library="return F.mse_loss(predictions, targets)",
        row_means="return (predictions - targets).square().mean(1).mean()",
        norm="return torch.linalg.vector_norm(predictions - targets).square() / predictions.numel()",
        one_row_after_the_other="""
            total = torch.zeros(())
            for p, t in zip(predictions, targets):
                total = total + torch.dot(p - t, p - t)
            return total / predictions.numel()
        """,
    ),
    *_bodies(
        "L1/95",
        by_logsumexp="""
            right = predictions.gather(1, targets[:, None])[:, 0]
            return (torch.logsumexp(predictions, 1) - right).mean()
        """,
        nll="return F.nll_loss(F.log_softmax(predictions, dim=1), targets)",
        one_hot="""
            hot = F.one_hot(targets, predictions.shape[1])
            return -(predictions.log_softmax(1) * hot).sum() / targets.numel()
        """,
    ),
    *_bodies(
        "L1/96",
        where="""
            d = (predictions - targets).abs()
            return torch.where(d < 1, 0.5 * d * d, d - 0.5).mean()
        """,
        library="return F.huber_loss(predictions, targets)",
    ),
    *_bodies(
        "L1/98",
        by_hand="return (targets * (targets.log() - predictions.log())).sum() / targets.shape[0]",
        xlogy="return (torch.xlogy(targets, targets) - targets * predictions.log()).sum() / len(targets)",
    ),
    *_bodies(
        "L1/99",
        by_hand="""
            near = torch.linalg.vector_norm(anchor - positive + 1e-6, dim=1)
            far = torch.linalg.vector_norm(anchor - negative + 1e-6, dim=1)
            return (near - far + self.loss_fn.margin).clamp(min=0).mean()
        """,
        pairwise="""
            near, far = F.pairwise_distance(anchor, positive), F.pairwise_distance(anchor, negative)
            return torch.relu(near - far + self.loss_fn.margin).mean()
        """,
    ),
    *_bodies("L1/100", relu="return torch.relu(1 - predictions * targets).sum() / predictions.numel()"),
]

MODULES = [
    _module(
        "L1/19",
        "a plain class",
        """
        class ModelNew:
            def __call__(self, x):
                return x * (x > 0)
        """,
    ),
    _module(
        "L1/30",
        "slower than it need be",
        """
        class ModelNew(nn.Module):
            def forward(self, x):
                for _ in range(3):
                    y = x / (1 + x.abs())
                return y
        """,
    ),
    _module(
        "L1/32",
        "a scratch buffer kept from call to call",
        """
        class ModelNew(nn.Module):
            def __init__(self):
                super().__init__()
                self.scratch = None

            def forward(self, x):
                if self.scratch is None or self.scratch.shape != x.shape:
                    self.scratch = torch.empty_like(x)
                torch.clamp(x, min=-1, out=self.scratch)
                return torch.clamp(self.scratch, max=1)
        """,
    ),
    _module(
        "L1/87",
        "constants made of its weights once",
        """
        class ModelNew(nn.Module):
            def __init__(self, in_channels, out_channels):
                super().__init__()
                conv = nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False)
                self.register_buffer("matrix", conv.weight.detach().flatten(1).contiguous())

            def forward(self, x):
                return torch.matmul(self.matrix, x.flatten(2)).unflatten(2, x.shape[2:])
        """,
    ),
    _module(
        "L1/64",
        "weights turned over once",
        """
        class ModelNew(nn.Module):
            def __init__(self, in_channels, out_channels, kernel_size):
                super().__init__()
                conv = nn.ConvTranspose1d(in_channels, out_channels, kernel_size, bias=False)
                self.weight = nn.Parameter(conv.weight.detach().transpose(0, 1).flip(2).contiguous())
                self.padding = kernel_size - 1

            def forward(self, x):
                return F.conv1d(x, self.weight, padding=self.padding)
        """,
    ),
    _module(
        "L1/89",
        "a triangle made once for each width",
        """
        class ModelNew(nn.Module):
            def __init__(self, dim):
                super().__init__()
                self.triangles = {}

            def forward(self, x):
                n = x.shape[1]
                if n not in self.triangles:
                    self.triangles[n] = torch.ones(n, n).triu()
                return x @ self.triangles[n]
        """,
    ),
    _module(
        "L1/23",
        "scripted",
        """
        @torch.jit.script
        def softmax(x):
            y = torch.exp(x - x.amax(dim=1, keepdim=True))
            return y / y.sum(dim=1, keepdim=True)


        class ModelNew(nn.Module):
            def forward(self, x):
                return softmax(x)
        """,
    ),
    _module(
        "L1/12",
        "in a helper, with a keyword and a default",
        """
        def scale(matrix, *, rows=None):
            return matrix if rows is None else torch.einsum("ij,i->ij", matrix, rows)


        class ModelNew(nn.Module):
            def forward(self, A, B):
                return scale(B, rows=A)
        """,
    ),
    _module(
        "L1/51",
        "one of two results",
        """
        class ModelNew(nn.Module):
            def __init__(self, dim):
                super().__init__()
                self.dim = dim

            def forward(self, x):
                values, indices = torch.max(x, self.dim)
                return indices
        """,
    ),
    _module(
        "L1/94",
        "an expanded view of a scalar",
        """
        class ModelNew(nn.Module):
            def forward(self, predictions, targets):
                difference = (predictions - targets).flatten()
                return (torch.dot(difference, difference) / difference.numel()).expand(())
        """,
    ),
    _module(
        "L1/1",
        "an answer with a history",
        """
        class ModelNew(nn.Module):
            def __init__(self):
                super().__init__()
                self.one = nn.Parameter(torch.ones(()))

            def forward(self, A, B):
                with torch.enable_grad():
                    return (A @ B) * self.one
        """,
    ),
    _module(
        "L1/49",
        "numpy",
        """
        import numpy as np


        class ModelNew(nn.Module):
            def __init__(self, dim):
                super().__init__()
                self.dim = dim

            def forward(self, x):
                return torch.from_numpy(np.max(x.numpy(), axis=self.dim))
        """,
    ),
]

NATIVE = [Honest(task, name, source, "", language) for task, name, language, source in PROGRAMS]

HONEST: list[Honest] = [
    *MATMUL,
    *ACTIVATIONS,
    *SOFTMAX,
    *NORMS,
    *POOLING,
    *REDUCTIONS,
    *CONVOLUTIONS,
    *SCANS,
    *LOSSES,
    *MODULES,
    *NATIVE,
]
