"""Hugging Face's training script, written anew: the peer of benchmarks/gpu.py, and its network."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional


def unet(side: int, widths: Sequence[int]) -> nn.Module:
    """The script's network without labels."""
    from diffusers import UNet2DModel

    down = ["AttnDownBlock2D" if at == len(widths) - 2 else "DownBlock2D" for at in range(len(widths))]
    return UNet2DModel(
        sample_size=side, in_channels=3, out_channels=3, layers_per_block=2, block_out_channels=tuple(widths),
        down_block_types=down, up_block_types=[name.replace("Down", "Up") for name in reversed(down)],
    )  # fmt: skip


class Script:
    """Hugging Face's loop."""

    def __init__(self, images: Tensor, widths: Sequence[int], precision: str, batch: int, *, cpu: bool) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from diffusers import DDPMScheduler
        from diffusers.optimization import get_scheduler

        AcceleratorState._reset_state(reset_partial_state=True)  # another precision than the one before
        self.accelerator = Accelerator(mixed_precision="bf16" if precision == "bf16" else "no", cpu=cpu)
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.schedule = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
        model = unet(images.shape[1], widths)
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
        loader = torch.utils.data.DataLoader(Files(images), batch_size=batch, shuffle=True, drop_last=True)
        rate = get_scheduler("cosine", optimizer=optimiser, num_warmup_steps=500, num_training_steps=10**6)
        self.model, self.optimiser, self.loader, self.rate = self.accelerator.prepare(model, optimiser, loader, rate)
        self.batches = itertools.chain.from_iterable(self.loader for _ in itertools.count())

    def step(self) -> int:
        """One optimiser step; the images it showed."""
        clean = next(self.batches).to(self.dtype)
        noise = torch.randn(clean.shape, dtype=self.dtype, device=clean.device)
        timesteps = torch.randint(0, 1000, (len(clean),), device=clean.device).long()
        noisy = self.schedule.add_noise(clean, noise, timesteps)
        with self.accelerator.accumulate(self.model):
            loss = functional.mse_loss(self.model(noisy, timesteps).sample.float(), noise.float())
            self.accelerator.backward(loss)
            self.accelerator.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimiser.step()
            self.rate.step()
            self.optimiser.zero_grad()
        loss.detach().item()  # its logs want it in every step
        return len(clean)


class Files(torch.utils.data.Dataset):
    """Encoded images that are decoded and transformed one by one, as the script does."""

    def __init__(self, images: Tensor) -> None:
        from torchvision import transforms

        side = images.shape[1]
        self.blobs = []
        for image in images:
            stream = io.BytesIO()
            Image.fromarray(image.numpy()).save(stream, "PNG")
            self.blobs.append(stream.getvalue())
        self.transform = transforms.Compose([
            transforms.Resize(side, interpolation=transforms.InterpolationMode.BILINEAR), transforms.CenterCrop(side),
            transforms.ToTensor(), transforms.Normalize([0.5], [0.5]),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.blobs)

    def __getitem__(self, at: int) -> Tensor:
        return self.transform(Image.open(io.BytesIO(self.blobs[at])).convert("RGB"))
