"""Steps on the device: networks as a step calls them, gradients in fixed memory, blocks of steps as one CUDA graph.

Nothing here knows of GANs or of teachers: a task says what a step is (loop.py says what a task has).
"""

import copy
from collections import Counter, deque
from dataclasses import dataclass

import torch

from ..networks.layers import trusted


class Forward:
    """A network as a step calls it: mixed precision inside, float32 out.

    `training=False` looks through it without a change: batch norm and spectral norm use what they have stored.
    compile: a backend of torch.compile; None: the network is called as it is (as R1 must, which differentiates twice).
    """

    def __init__(self, network, bfloat16=False, compile=None):
        self.network, self.device, self.bfloat16 = network, next(network.parameters()).device.type, bfloat16
        self.call = network if compile is None else torch.compile(network, backend=compile, dynamic=False)

    def __call__(self, *inputs, training=True, **options):
        self.network.train(training)
        # no cache of casts: it would outlive a captured graph, whose weights go on changing
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bfloat16, cache_enabled=False):
            result = self.call(*inputs, **options)
        return torch.utils._pytree.tree_map(torch.Tensor.float, result)


@dataclass
class Nets:
    """What a step calls (`generator`, `disc`), and all that a checkpoint holds (`parts`)."""

    generator: Forward
    disc: Forward
    parts: dict

    @classmethod
    def of(cls, generator, disc, config, bfloat16=False, compile=None):
        average = copy.deepcopy(generator).requires_grad_(False)
        parts = dict(generator=generator, disc=disc, average=average)
        for name, network, lr in (("optimizer", generator, config.lr), ("disc_optimizer", disc, config.disc_lr)):
            first = next(network.parameters())
            rate = torch.tensor(lr, dtype=torch.float32 if first.is_cuda else torch.float64, device=first.device)
            settings = dict(lr=rate, betas=config.betas, fused=True, capturable=first.is_cuda)
            parts[name] = torch.optim.Adam(network.parameters(), **settings)
        return cls(Forward(generator, bfloat16, compile), Forward(disc, bfloat16, compile), parts)

    def state(self):
        return {name: part.state_dict() for name, part in self.parts.items()}

    def most(self):
        """Bytes that a checkpoint of these networks may have: Adam keeps two numbers beside each weight."""
        networks = [part for part in self.parts.values() if isinstance(part, torch.nn.Module)]
        tensors = [tensor for network in networks for tensor in (*network.parameters(), *network.buffers())]
        return 4 * sum(tensor.numel() * tensor.element_size() for tensor in tensors) + (1 << 26)

    def load(self, state):
        """Before a graph is captured: it replaces the optimizers' tensors. Their settings stay this run's own: a stored
        learning rate would lie on the CPU, where a graph could not be told another."""
        for name, part in self.parts.items():
            own = {"param_groups": part.state_dict()["param_groups"]} if "optimizer" in name else {}
            part.load_state_dict({**state[name], **own})


class Descent:
    """`descent(loss)`: gradients into one flat buffer that lies still, averaged over processes, then Adam's step.

    The buffer's views have their weights' strides: fused Adam pairs numbers as they lie in memory, and what autograd
    gives after a double backward (R1) may lie otherwise."""

    def __init__(self, network, optimizer, accelerator, lr):
        self.params, self.optimizer, self.accelerator, self.lr = list(network.parameters()), optimizer, accelerator, lr
        self.flat, at = torch.zeros(sum(p.numel() for p in self.params), device=self.params[0].device), 0
        for p in self.params:
            p.grad = self.flat.as_strided(p.shape, p.stride(), at)
            at += p.numel()

    def __call__(self, loss):
        torch._foreach_copy_([p.grad for p in self.params], torch.autograd.grad(loss, self.params))
        if self.accelerator.num_processes > 1:
            self.flat.copy_(self.accelerator.reduce(self.flat, "mean"))
        self.optimizer.step()

    def rate(self, share):
        """Sets the learning rate to so much of the config's; a tensor, so that a graph can be told another."""
        for group in self.optimizer.param_groups:
            group["lr"].copy_(self.lr * share)


class CudaGraph:
    """A function without arguments as one command for the GPU: called twice as it is, then captured and replayed.

    The first calls are for real, on a stream of their own: cuDNN looks for its quickest kernels, Adam makes its state.
    """

    def __init__(self, function):
        self.function, self.graph, self.calls, self.result, self.events = function, None, 0, None, deque()

    def __call__(self):
        self.calls += 1
        if self.calls <= 2:
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                result = self.function()
            torch.cuda.current_stream().wait_stream(side)
            return result
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                self.result = self.function()
        self.graph.replay()
        self.events.append(torch.cuda.Event())
        self.events[-1].record()
        if len(self.events) > 2:  # the processor must not run further ahead: `minutes` would be of no use
            self.events.popleft().synchronize()
        return self.result


class Blocks:
    """Does the steps of a task, a block of `task.period` steps at once if `graph` is given, as on CUDA.

    A graph is a class like `CudaGraph`: made from a function, its calls do what the function did, with what then lies
    in the same tensors. Pieces of a block, and all steps without a graph, run as they are."""

    def __init__(self, task, nets, accelerator, graph=None):
        self.task, self.nets, self.accelerator, config = task, nets, accelerator, task.config
        parts = nets.parts
        self.descend = Descent(parts["generator"], parts["optimizer"], accelerator, config.lr)
        self.descend_disc = Descent(parts["disc"], parts["disc_optimizer"], accelerator, config.disc_lr)
        self.sums, self.counts, self.block, self.given = {}, Counter(), None, None
        self.graph = graph and graph(self.whole)

    def __call__(self, start, stop, used=0.0):
        """Steps start to stop, all of one block. used: the share of the run's minutes that is used up."""
        block, i = divmod(start, self.task.period)
        if block != self.block:
            self.block, given = block, {**self.task.draw(block), **self.schedule(block, used)}
            if self.given is None:
                self.given = given
            else:  # into the same tensors, which a graph knows
                torch._foreach_copy_([self.given[name] for name in given], list(given.values()))
        if self.graph and stop - start == self.task.period:
            self.counts += self.graph()
        else:
            self.counts += self.steps(i, i + stop - start)

    def schedule(self, block, used):
        """For each step: the share that the average keeps of itself, and the learning rates' share of the config's."""
        c, period = self.task.config, self.task.period
        step = torch.arange(block * period, (block + 1) * period, device=self.accelerator.device, dtype=torch.float32)
        rate = torch.ones_like(step, dtype=torch.float64)
        if c.lr_hold < 1:  # held, then linear
            done = (step.double() / self.task.steps).clamp(min=used)
            rate = 1 - (1 - c.lr_end) * ((done - c.lr_hold) / (1 - c.lr_hold)).clamp(0, 1)
        # in a short run the average looks back over the last tenth of the steps, not over more than there were
        return {"share": (step / (step + 9)).clamp(max=c.ema), "rate": rate}

    def whole(self):
        return self.steps(0, self.task.period)

    def steps(self, start, stop):
        counts = Counter()
        for i in range(start, stop):
            given = {name: tensor[i] for name, tensor in self.given.items()}
            self.descend.rate(given["rate"])
            self.descend_disc.rate(given["rate"])
            with trusted():
                losses = self.task.step(self.nets, given, i, self.descend_disc, self.descend)
            for name, loss in losses.items():
                if name in self.sums:
                    self.sums[name] += loss.detach()
                else:  # in the first block, before anything is captured
                    self.sums[name] = loss.detach().clone()
                counts[name] += 1
            move(self.nets.parts["average"], self.nets.parts["generator"], given["share"])
        return counts

    def means(self):
        """{loss: its mean since the last call, over steps and processes}: the one synchronisation of a tick."""
        names = sorted(self.counts)
        values = torch.stack([self.sums[name] / self.counts[name] for name in names])
        values = self.accelerator.reduce(values, "mean").tolist()
        for total in self.sums.values():
            total.zero_()
        self.counts.clear()
        return dict(zip(names, values))


@torch.no_grad()
def move(average, network, share):
    """average = share * average + (1 - share) * network, share being a scalar tensor."""
    ours = list(average.parameters())
    way = torch._foreach_sub(list(network.parameters()), ours)
    torch._foreach_mul_(way, 1 - share)
    torch._foreach_add_(ours, way)
