"""The U-Net of diffusers as it is; see components/networks/hf.py on how it is imported."""

from components.networks.hf import diffusers

UNet2DModel = diffusers.UNet2DModel
